//! Published ports as elements, single ones and runs, and back.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use linkspan_plan::Dnat;
use linkspan_site::Protocol;

use super::{Edge, Elements, Key, exact, skeleton};
use crate::FirewallError;

/// Which map, key and data.
type Row = (&'static str, Key, Vec<u8>);

/// A published port, or a run of them. What of a run `taken` has already is left out.
pub(super) fn publish(dnat: &Dnat, taken: Option<&Dnat>) -> Result<Option<Row>, FirewallError> {
    let refuse = |reason| {
        Err(FirewallError::Port {
            port: format!("{}:{}/{}", dnat.host_ip, dnat.host_port, dnat.protocol.name()),
            reason,
        })
    };
    if dnat.host_port == 0 || dnat.to_port == 0 || dnat.count == 0 {
        return refuse("port 0 is no port");
    }
    if dnat.host_ip.is_loopback() {
        return refuse("loopback ports are sockets of the data plane");
    }
    let is_run = dnat.count > 1;
    if is_run && dnat.host_port != dnat.to_port {
        return refuse("ports in a row must keep their numbers");
    }
    let Ok(last) = u16::try_from(last(dnat)) else {
        return refuse("the last port in the row is above 65535");
    };
    let Some([one, any, one_run, any_run]) = maps(dnat) else {
        return refuse("host and container address are of different families");
    };
    let host = if dnat.host_ip.is_unspecified() {
        Vec::new()
    } else {
        octets(dnat.host_ip)
    };
    let key = |port: u16| {
        [
            &[protocol_number(dnat.protocol), 0, 0, 0][..],
            &host,
            &padded(port),
        ]
        .concat()
    };
    if !is_run {
        let map = if host.is_empty() { any } else { one };
        let data = [&octets(dnat.to_ip)[..], &padded(dnat.to_port)].concat();
        return Ok(Some((map, exact(&key(dnat.host_port)), data)));
    }
    // The planner tells of two runs that overlap. Here it only matters that the kernel, which refuses overlaps, does not
    // refuse all other changes for it.
    let first = match taken.filter(|taken| overlaps(taken, dnat)) {
        Some(taken) => self::last(taken) + 1,
        None => u32::from(dnat.host_port),
    };
    let Some(first) = u16::try_from(first).ok().filter(|first| *first <= last) else {
        return Ok(None);
    };
    let run = Key {
        bytes: key(first),
        edge: Edge::Through(key(last)),
    };
    let map = if host.is_empty() { any_run } else { one_run };
    Ok(Some((map, run, octets(dnat.to_ip))))
}

/// The last port in the row.
pub(super) fn last(dnat: &Dnat) -> u32 {
    u32::from(dnat.host_port) + u32::from(dnat.count) - 1
}

/// Does the run `before` reach into `dnat`, which begins at or behind its begin?
pub(super) fn overlaps(before: &Dnat, dnat: &Dnat) -> bool {
    (before.protocol, before.host_ip) == (dnat.protocol, dnat.host_ip)
        && u32::from(dnat.host_port) <= last(before)
}

/// For its family: the maps for one address, for all, and the same for runs.
fn maps(dnat: &Dnat) -> Option<[&'static str; 4]> {
    use skeleton::{PUBLISH4, PUBLISH4_ANY, PUBLISH6, PUBLISH6_ANY, RUNS4, RUNS4_ANY, RUNS6, RUNS6_ANY};
    match (dnat.host_ip, dnat.to_ip) {
        (IpAddr::V4(_), IpAddr::V4(_)) => Some([PUBLISH4, PUBLISH4_ANY, RUNS4, RUNS4_ANY]),
        (IpAddr::V6(_), IpAddr::V6(_)) => Some([PUBLISH6, PUBLISH6_ANY, RUNS6, RUNS6_ANY]),
        _ => None,
    }
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// A port as a part of a key.
fn padded(port: u16) -> [u8; 4] {
    let [high, low] = port.to_be_bytes();
    [high, low, 0, 0]
}

/// IANA's protocol number.
fn protocol_number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    }
}

/// A published port, or a run of them, as an element of one of the maps says it: for cleaning connection tracking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Published {
    /// IANA's number.
    pub(crate) protocol: u8,
    /// Absent: every address.
    pub(crate) host_ip: Option<IpAddr>,
    /// The first, where it is a run.
    pub(crate) host_port: u16,
    /// The last of a run, else `host_port`.
    pub(crate) last_port: u16,
    pub(crate) to_ip: IpAddr,
    /// Of `host_port`; the others of a run keep their numbers too.
    pub(crate) to_port: u16,
}

/// Reads the published ports back from elements.
pub(in crate::nft) fn published(elements: &Elements) -> Vec<Published> {
    let maps = [
        (skeleton::PUBLISH4, 4),
        (skeleton::PUBLISH4_ANY, 4),
        (skeleton::PUBLISH6, 16),
        (skeleton::PUBLISH6_ANY, 16),
        (skeleton::RUNS4, 4),
        (skeleton::RUNS4_ANY, 4),
        (skeleton::RUNS6, 16),
        (skeleton::RUNS6_ANY, 16),
    ];
    maps.iter()
        .filter_map(|(map, length)| Some((elements.get(*map)?, *length)))
        .flat_map(|(elements, length)| {
            elements
                .iter()
                .filter_map(move |(key, data)| read(key, data, length))
        })
        .collect()
}

fn read(key: &Key, data: &[u8], address_length: usize) -> Option<Published> {
    let (host, host_port) = split_key(&key.bytes)?;
    let (to, to_port) = data.split_at_checked(address_length)?;
    let last_port = match &key.edge {
        Edge::Through(last) => split_key(last)?.1,
        Edge::Begin | Edge::End => host_port,
    };
    Some(Published {
        protocol: *key.bytes.first()?,
        host_ip: address(host),
        host_port,
        last_port,
        to_ip: address(to)?,
        to_port: port(to_port).unwrap_or(host_port),
    })
}

/// The host's address, empty for all, and the port.
fn split_key(key: &[u8]) -> Option<(&[u8], u16)> {
    let (host, host_port) = key.get(4..)?.split_at_checked(key.len().checked_sub(8)?)?;
    Some((host, port(host_port)?))
}

fn port(bytes: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(..2)?.try_into().ok()?))
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes)
        .map(|octets| IpAddr::V4(Ipv4Addr::from(octets)))
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(|octets| IpAddr::V6(Ipv6Addr::from(octets))))
        .ok()
}

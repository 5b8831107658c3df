//! What the sets and maps must hold, in the kernel's own bytes, so that it compares with what they do hold.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::{Ipv4Network, Ipv6Network};
use linkspan_plan::{Dnat, Firewall};
use linkspan_site::Protocol;

use super::skeleton;
use crate::FirewallError;

/// Where an element stands in its set. Ranges are two elements, in the order in which the kernel takes them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) bytes: Vec<u8>,
    pub(super) edge: Edge,
}

/// Does a range begin or end here?
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Edge {
    /// The first address behind a range.
    End,
    /// The first address of a range, or an element of a set without ranges.
    Begin,
}

/// All elements of all sets: set → key → data (empty in sets that are not maps).
pub(super) type Elements = BTreeMap<String, BTreeMap<Key, Vec<u8>>>;

/// Elements to take out and to put in.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) remove: Elements,
    pub(super) add: Elements,
}

impl Difference {
    /// What makes `to` of `from`. An element whose data changes is removed and added, in one transaction.
    pub(super) fn between(from: &Elements, to: &Elements) -> Self {
        Self {
            remove: missing(from, to),
            add: missing(to, from),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.add.is_empty()
    }
}

/// How many things a person would count: a range is one.
pub(super) fn count(elements: &Elements) -> usize {
    elements
        .values()
        .flat_map(BTreeMap::keys)
        .filter(|key| key.edge == Edge::Begin)
        .count()
}

/// What of `all` is not in `other`.
fn missing(all: &Elements, other: &Elements) -> Elements {
    let mut result = Elements::new();
    for (set, elements) in all {
        let others = other.get(set);
        let rest: BTreeMap<_, _> = elements
            .iter()
            .filter(|(key, data)| others.and_then(|others| others.get(key)) != Some(data))
            .map(|(key, data)| (key.clone(), data.clone()))
            .collect();
        if !rest.is_empty() {
            result.insert(set.clone(), rest);
        }
    }
    result
}

/// Compiles the desired state.
pub(super) fn compile(desired: &Firewall) -> Result<Elements, FirewallError> {
    let mut all = Elements::new();
    let mut insert = |set: &str, key: Key, data: Vec<u8>| {
        all.entry(set.to_owned()).or_default().insert(key, data);
    };
    for bridge in &desired.bridges {
        let name = skeleton::link_name(bridge);
        insert(skeleton::BRIDGES, exact(&name), Vec::new());
        insert(skeleton::SAME, exact(&[name, name].concat()), Vec::new());
    }
    for bridge in &desired.outward {
        insert(skeleton::OUTWARD, exact(&skeleton::link_name(bridge)), Vec::new());
    }
    for key in ranges4(&desired.masquerade4) {
        insert(skeleton::MASQUERADE4, key, Vec::new());
    }
    for key in ranges6(&desired.masquerade6) {
        insert(skeleton::MASQUERADE6, key, Vec::new());
    }
    for dnat in &desired.dnat {
        let (set, key, data) = publish(dnat)?;
        insert(set, exact(&key), data);
        let (set, pair) = itself(dnat.to_ip);
        insert(set, exact(&pair), Vec::new());
    }
    Ok(all)
}

fn exact(bytes: &[u8]) -> Key {
    Key {
        bytes: bytes.to_vec(),
        edge: Edge::Begin,
    }
}

fn ranges4<'a>(networks: impl IntoIterator<Item = &'a Ipv4Network>) -> Vec<Key> {
    let ranges = networks.into_iter().map(|network| {
        let first = u32::from(network.network());
        let end = u32::from(network.broadcast()).checked_add(1);
        (
            first.to_be_bytes().to_vec(),
            end.map(|end| end.to_be_bytes().to_vec()),
        )
    });
    edges(ranges.collect())
}

fn ranges6<'a>(networks: impl IntoIterator<Item = &'a Ipv6Network>) -> Vec<Key> {
    let ranges = networks.into_iter().map(|network| {
        let first = u128::from(network.network());
        let end = u128::from(network.broadcast()).checked_add(1);
        (
            first.to_be_bytes().to_vec(),
            end.map(|end| end.to_be_bytes().to_vec()),
        )
    });
    edges(ranges.collect())
}

/// Ranges as elements; one that lies in another is left out, since the kernel refuses overlaps. A range up to the last
/// address has no end.
fn edges(mut ranges: Vec<(Vec<u8>, Option<Vec<u8>>)>) -> Vec<Key> {
    // Prefixes are nested or apart: sorted by begin, and the larger first, each that overlaps lies in one before it.
    ranges.sort_by(|a, b| a.0.cmp(&b.0).then_with(|| behind(&b.1).cmp(&behind(&a.1))));
    let mut keys = Vec::new();
    let mut free_from: Option<Vec<u8>> = Some(Vec::new());
    for (begin, end) in ranges {
        if free_from.as_ref().is_none_or(|free| begin < *free) {
            continue;
        }
        keys.push(Key {
            bytes: begin,
            edge: Edge::Begin,
        });
        keys.extend(end.clone().map(|bytes| Key {
            bytes,
            edge: Edge::End,
        }));
        free_from = end;
    }
    keys
}

/// Sorts a range without end behind all others.
fn behind(end: &Option<Vec<u8>>) -> (bool, &[u8]) {
    (end.is_none(), end.as_deref().unwrap_or_default())
}

/// A published port: which map, key and data.
fn publish(dnat: &Dnat) -> Result<(&'static str, Vec<u8>, Vec<u8>), FirewallError> {
    let refuse = |reason| {
        Err(FirewallError::Port {
            port: format!("{}:{}/{}", dnat.host_ip, dnat.host_port, dnat.protocol.name()),
            reason,
        })
    };
    if dnat.host_port == 0 || dnat.to_port == 0 {
        return refuse("port 0 is no port");
    }
    if dnat.host_ip.is_loopback() {
        return refuse("loopback ports are sockets of the data plane");
    }
    let protocol = protocol_number(dnat.protocol);
    let port = |port: u16| [port.to_be_bytes(), [0; 2]].concat();
    let proto = [protocol, 0, 0, 0];
    let (one, any, host, to) = match (dnat.host_ip, dnat.to_ip) {
        (IpAddr::V4(host), IpAddr::V4(to)) => (
            skeleton::PUBLISH4,
            skeleton::PUBLISH4_ANY,
            host.octets().to_vec(),
            to.octets().to_vec(),
        ),
        (IpAddr::V6(host), IpAddr::V6(to)) => (
            skeleton::PUBLISH6,
            skeleton::PUBLISH6_ANY,
            host.octets().to_vec(),
            to.octets().to_vec(),
        ),
        _ => return refuse("host and container address are of different families"),
    };
    let data = [to, port(dnat.to_port)].concat();
    if dnat.host_ip.is_unspecified() {
        return Ok((any, [&proto[..], &port(dnat.host_port)].concat(), data));
    }
    Ok((one, [&proto[..], &host, &port(dnat.host_port)].concat(), data))
}

/// A container that asks itself.
fn itself(ip: IpAddr) -> (&'static str, Vec<u8>) {
    match ip {
        IpAddr::V4(ip) => (skeleton::ITSELF4, [ip.octets(), ip.octets()].concat()),
        IpAddr::V6(ip) => (skeleton::ITSELF6, [ip.octets(), ip.octets()].concat()),
    }
}

/// IANA's protocol number.
pub(crate) fn protocol_number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    }
}

/// A published port as an element of one of the maps says it: for cleaning connection tracking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Published {
    /// IANA's number.
    pub(crate) protocol: u8,
    /// Absent: every address.
    pub(crate) host_ip: Option<IpAddr>,
    pub(crate) host_port: u16,
    pub(crate) to_ip: IpAddr,
    pub(crate) to_port: u16,
}

/// Reads the published ports back from elements.
pub(super) fn published(elements: &Elements) -> Vec<Published> {
    let maps = [
        (skeleton::PUBLISH4, 4),
        (skeleton::PUBLISH4_ANY, 4),
        (skeleton::PUBLISH6, 16),
        (skeleton::PUBLISH6_ANY, 16),
    ];
    maps.iter()
        .filter_map(|(map, length)| Some((elements.get(*map)?, *length)))
        .flat_map(|(elements, length)| {
            elements
                .iter()
                .filter_map(move |(key, data)| read(&key.bytes, data, length))
        })
        .collect()
}

fn read(key: &[u8], data: &[u8], address_length: usize) -> Option<Published> {
    let port = |bytes: &[u8]| Some(u16::from_be_bytes(bytes.get(..2)?.try_into().ok()?));
    let (host, host_port) = key.get(4..)?.split_at_checked(key.len().checked_sub(8)?)?;
    let (to, to_port) = data.split_at_checked(address_length)?;
    Some(Published {
        protocol: *key.first()?,
        host_ip: address(host),
        host_port: port(host_port)?,
        to_ip: address(to)?,
        to_port: port(to_port)?,
    })
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes)
        .map(|octets| IpAddr::V4(Ipv4Addr::from(octets)))
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(|octets| IpAddr::V6(Ipv6Addr::from(octets))))
        .ok()
}

#[cfg(test)]
mod tests;

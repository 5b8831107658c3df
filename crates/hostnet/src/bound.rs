//! Who inside a sandbox has bound a socket to one address, and so would not be reached at another.
//!
//! Read from `/proc/net` (proc_net_tcp.rst of the kernel's documentation): the tables are there without any module,
//! and those who wait for connections come first in them.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use linkspan_site::Protocol;

use crate::{Bound, NamespaceError, netns};

/// `TCP_LISTEN` and `TCP_CLOSE` of `net/tcp_states.h`; a datagram socket is in the latter until it is connected.
const LISTENING: &str = "0A";
const UNCONNECTED: &str = "07";
const TABLES: [(&str, Protocol); 4] = [
    ("tcp", Protocol::Tcp),
    ("tcp6", Protocol::Tcp),
    ("udp", Protocol::Udp),
    ("udp6", Protocol::Udp),
];

/// Sockets that wait for peers at one of these very addresses, sorted.
pub(crate) async fn bound_to(netns: &Path, addresses: &[IpAddr]) -> Result<Vec<Bound>, NamespaceError> {
    let addresses: BTreeSet<IpAddr> = addresses.iter().map(IpAddr::to_canonical).collect();
    netns::within(netns, move || {
        let mut found = BTreeSet::new();
        for (table, protocol) in TABLES {
            let file = match File::open(format!("/proc/thread-self/net/{table}")) {
                // Without IPv6 there are no tables for it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                file => file?,
            };
            for line in BufReader::new(file).lines() {
                let bound = waiting(&line?, protocol).filter(|bound| addresses.contains(&bound.address.ip()));
                found.extend(bound);
            }
        }
        Ok(found.into_iter().collect())
    })
    .await
}

/// The socket of a line, if it waits for peers: `0: 0100007F:1F90 00000000:0000 0A …`.
fn waiting(line: &str, protocol: Protocol) -> Option<Bound> {
    let mut words = line.split_whitespace().skip(1);
    let (local, remote, state) = (words.next()?, words.next()?, words.next()?);
    let waits = match protocol {
        Protocol::Tcp => state == LISTENING,
        _ => state == UNCONNECTED && remote.ends_with(":0000"),
    };
    let address = waits.then(|| socket_address(local)).flatten()?;
    Some(Bound { protocol, address })
}

/// 8 or 32 hex digits, each eight of them a word in the processor's order; a colon; the port.
fn socket_address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut bytes = Vec::with_capacity(16);
    for start in (0..ip.len()).step_by(8) {
        let word = u32::from_str_radix(ip.get(start..start + 8)?, 16).ok()?;
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
    let ip: IpAddr = match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(bytes) => Ipv4Addr::from(bytes).into(),
        Err(_) => Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into(),
    };
    Some(SocketAddr::new(ip.to_canonical(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn lines_of_the_kernel_are_read() {
        let cases = [
            (
                "  0: 0A01A8C0:1F90 00000000:0000 0A 00000000:00000000",
                Protocol::Tcp,
                Some("192.168.1.10:8080"),
            ),
            (
                "  1: 0A01A8C0:1F90 0B01A8C0:0050 01 00000000:00000000",
                Protocol::Tcp,
                None,
            ),
            (
                "  sl  local_address rem_address   st tx_queue",
                Protocol::Tcp,
                None,
            ),
            (
                " 51: 3500007F:0035 00000000:0000 07 00000000:00000000",
                Protocol::Udp,
                Some("127.0.0.53:53"),
            ),
            (
                " 52: 3500007F:0035 0100007F:0035 01 00000000:00000000",
                Protocol::Udp,
                None,
            ),
            (
                "  0: B80D0120000000000000000001000000:0016 00000000000000000000000000000000:0000 0A",
                Protocol::Tcp,
                Some("[2001:db8::1]:22"),
            ),
            (
                "  0: 0000000000000000FFFF00000A01A8C0:0016 00000000000000000000000000000000:0000 0A",
                Protocol::Tcp,
                Some("192.168.1.10:22"),
            ),
            ("  0: 0A01:1F90 00000000:0000 0A", Protocol::Tcp, None),
        ];
        for (line, protocol, expected) in cases {
            let found = waiting(line, protocol).map(|bound| bound.address.to_string());
            assert_eq!(found.as_deref(), expected, "{line}");
        }
    }
}

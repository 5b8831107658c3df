//! Who holds a port: the process behind a socket that is in our way.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// The state of a listening socket in `/proc/net/tcp` (`TCP_LISTEN` of `linux/tcp_states.h`).
const LISTENS: &str = "0A";

/// Names the process that holds a port of this network namespace, as `nginx (pid 42)`, if it can be found.
pub(super) fn holder(address: SocketAddr, stream: bool) -> Option<String> {
    let tables = if stream { ["tcp", "tcp6"] } else { ["udp", "udp6"] };
    let inode = tables.iter().find_map(|table| {
        let text = fs::read_to_string(format!("/proc/thread-self/net/{table}")).ok()?;
        inode(&text, address, stream)
    })?;
    process(&format!("socket:[{inode}]"))
}

/// The socket of a table of `/proc/net` (proc_pid_net(5)) that is bound to an address or to all.
fn inode(table: &str, wanted: SocketAddr, stream: bool) -> Option<u64> {
    table.lines().skip(1).find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let bound = address(words.get(1)?)?;
        let all = bound.ip().is_unspecified() || wanted.ip().is_unspecified();
        let clashes = bound.port() == wanted.port() && (bound.ip() == wanted.ip() || all);
        let holds = !stream || words.get(3) == Some(&LISTENS);
        (clashes && holds).then(|| words.get(9)?.parse().ok()).flatten()
    })
}

/// `0100007F:1F90`: words of four bytes as this machine stores them, and a port in plain hex.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| {
        let digits = ip.get(at..at + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let ip = if ip.len() == 8 {
        IpAddr::V4(Ipv4Addr::from(word(0)?))
    } else {
        let words = [word(0)?, word(8)?, word(16)?, word(24)?];
        IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(words.concat()).ok()?))
    };
    Some(SocketAddr::new(ip, port))
}

/// The first process that has a file open.
fn process(file: &str) -> Option<String> {
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let has_it = fs::read_dir(entry.path().join("fd"))
            .ok()?
            .flatten()
            .any(|open| fs::read_link(open.path()).is_ok_and(|target| target == Path::new(file)));
        let name = || fs::read_to_string(entry.path().join("comm")).ok();
        has_it
            // A process names itself as it likes (`PR_SET_NAME`), also so that a terminal would obey.
            .then(|| Some(format!("{} (pid {pid})", name()?.trim().escape_debug())))
            .flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_test_is_named_as_the_holder_of_its_sockets() {
        let own = format!("(pid {})", std::process::id());
        for at in ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0"] {
            let Ok(listener) = std::net::TcpListener::bind(at) else {
                continue;
            };
            let address = listener.local_addr().unwrap();
            assert!(holder(address, true).unwrap().ends_with(&own), "{address}");
            // Who wants all addresses is told of whoever has one of them.
            let all = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port());
            assert!(holder(all, true).unwrap().ends_with(&own), "{all}");
            let socket = std::net::UdpSocket::bind(at).unwrap();
            let udp = socket.local_addr().unwrap();
            assert!(holder(udp, false).unwrap().ends_with(&own), "{udp}");
        }
    }

    #[test]
    fn a_free_port_has_no_holder() {
        let free = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        assert_eq!(holder(free, true), None);
    }
}

//! Asks whether somebody on the LAN has an address already, before a container gets it: RFC 5227 §2.1.1, only quicker. On a
//! wire whoever has the address answers within a millisecond; the seconds that the RFC grants him are for links that
//! carry nothing when they have just come up.

#![allow(unsafe_code)]

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{MsgFlags, recv};
use tokio::io::unix::AsyncFd;
use tokio::time::timeout;

use super::announce::{ETHERTYPE_ARP, arp, send};

const PROBES: u32 = 2;
/// After each probe.
const WAIT: Duration = Duration::from_millis(150);
/// An Ethernet header and an ARP packet for IPv4 (RFC 826).
const FRAME: usize = 42;

/// A socket that hears all ARP in the calling thread's network namespace.
pub(super) fn socket() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: takes no pointers.
    let socket = unsafe { libc::socket(libc::AF_PACKET, kind, i32::from(ETHERTYPE_ARP.to_be())) };
    Errno::result(socket)?;
    // SAFETY: the kernel has just given it to us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(socket) })
}

/// Makes it one to wait for.
pub(super) fn register(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the socket owns its descriptor, which stays open and the same until it is dropped, inside the `AsyncFd`.
    Ok(unsafe { AsyncFd::register(socket) }?)
}

/// Who answers for `ip` on link `index`, which carries frames and has the hardware address `mac`.
pub(super) async fn who_has(
    socket: &AsyncFd<OwnedFd>,
    index: u32,
    mac: [u8; 6],
    ip: Ipv4Addr,
) -> io::Result<Option<[u8; 6]>> {
    for _ in 0..PROBES {
        // The sender has no address yet, so that nobody remembers a wrong one.
        send(socket.get_ref(), index, &arp(mac, Ipv4Addr::UNSPECIFIED, ip))?;
        if let Ok(answer) = timeout(WAIT, answer(socket, mac, ip)).await {
            return answer.map(Some);
        }
    }
    Ok(None)
}

async fn answer(socket: &AsyncFd<OwnedFd>, own: [u8; 6], ip: Ipv4Addr) -> io::Result<[u8; 6]> {
    let mut buffer = [0; 128];
    loop {
        let mut guard = socket.readable().await?;
        match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
            Ok(length) => match sender(&buffer[..length]) {
                Some((mac, address)) if address == ip && mac != own => return Ok(mac),
                _ => {}
            },
            Err(Errno::EAGAIN) => guard.clear_ready(),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The hardware and the protocol address of whoever sent an ARP packet.
fn sender(frame: &[u8]) -> Option<([u8; 6], Ipv4Addr)> {
    let frame = frame.get(..FRAME)?;
    let mac = frame.get(22..28)?.try_into().ok()?;
    let ip: [u8; 4] = frame.get(28..32)?.try_into().ok()?;
    Some((mac, ip.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_says_that_an_address_is_his_is_known() {
        let mac = [2, 0, 0, 0, 0, 7];
        let ip = Ipv4Addr::new(192, 0, 2, 7);
        assert_eq!(sender(&arp(mac, ip, ip)), Some((mac, ip)));
        assert_eq!(sender(&arp(mac, ip, ip)[..41]), None);
    }
}

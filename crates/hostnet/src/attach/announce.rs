//! Tells the neighbours where an address lives now: a gratuitous ARP (RFC 5227 §3) or an unsolicited neighbour
//! advertisement (RFC 9131).
//!
//! Addresses are used again, sooner or later by another container; whoever remembers the former hardware address
//! would talk to nobody until he doubts it. The frame also teaches the bridge which port it is.

#![allow(unsafe_code)]

use std::io;
use std::mem::size_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket as open};

const BROADCAST: [u8; 6] = [0xff; 6];
/// The group hardware address of `ff02::1` (RFC 2464 §7).
const ALL_NODES: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
const ALL_NODES_ADDRESS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
pub(super) const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ICMPV6: u8 = 58;

/// A socket for frames in the calling thread's network namespace; it receives nothing.
pub(super) fn socket() -> io::Result<OwnedFd> {
    Ok(open(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?)
}

/// Says on link `index` that `ip` is at `mac`.
pub(super) fn announce(socket: &OwnedFd, index: u32, mac: [u8; 6], ip: IpAddr) -> io::Result<()> {
    let frame = match ip {
        IpAddr::V4(ip) => arp(mac, ip, ip),
        IpAddr::V6(ip) => advertisement(mac, ip),
    };
    send(socket, index, &frame)
}

/// Sends a frame by link `index`.
pub(super) fn send(socket: &OwnedFd, index: u32, frame: &[u8]) -> io::Result<()> {
    // SAFETY: all-zero bytes are a valid `sockaddr_ll`, a struct of integers.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_ifindex = index as i32;
    address.sll_halen = 6;
    // SAFETY: both pointers lead to live values of the lengths that go with them, and the kernel only reads them.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            frame.as_ptr().cast(),
            frame.len(),
            0,
            (&raw const address).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    if sent < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// An ARP request of `from` for `to` (RFC 826).
pub(super) fn arp(mac: [u8; 6], from: Ipv4Addr, to: Ipv4Addr) -> Vec<u8> {
    const ETHERNET: [u8; 2] = [0, 1];
    const IPV4: [u8; 2] = [8, 0];
    const LENGTHS: [u8; 2] = [6, 4];
    const REQUEST: [u8; 2] = [0, 1];
    [
        &BROADCAST[..],
        &mac,
        &ETHERTYPE_ARP.to_be_bytes(),
        &ETHERNET,
        &IPV4,
        &LENGTHS,
        &REQUEST,
        &mac,
        &from.octets(),
        &[0; 6],
        &to.octets(),
    ]
    .concat()
}

/// RFC 4861 §4.4, with the override flag and the target's link-layer address.
fn advertisement(mac: [u8; 6], ip: Ipv6Addr) -> Vec<u8> {
    const TYPE: u8 = 136;
    const OVERRIDE: u8 = 0x20;
    const TARGET_OPTION: [u8; 2] = [2, 1];
    let head = [TYPE, 0, 0, 0, OVERRIDE, 0, 0, 0];
    let mut message = [&head[..], &ip.octets(), &TARGET_OPTION, &mac].concat();
    let sum = checksum(ip, &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let length = (message.len() as u16).to_be_bytes();
    [
        &ALL_NODES[..],
        &mac,
        &ETHERTYPE_IPV6.to_be_bytes(),
        &[0x60, 0, 0, 0],
        &length,
        // Neighbour discovery is only believed with the hop limit that no router leaves behind.
        &[ICMPV6, 255],
        &ip.octets(),
        &ALL_NODES_ADDRESS.octets(),
        &message,
    ]
    .concat()
}

/// RFC 4443 §2.3: over the pseudo header too.
fn checksum(source: Ipv6Addr, message: &[u8]) -> u16 {
    let length = (message.len() as u32).to_be_bytes();
    let all = [
        &source.octets()[..],
        &ALL_NODES_ADDRESS.octets(),
        &length,
        &[0, 0, 0, ICMPV6],
        message,
    ]
    .concat();
    let sum: u32 = all
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

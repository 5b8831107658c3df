//! The published socket of a UDP port: who sent to which of our addresses, and answers that come from there.
//!
//! A socket that is bound to one address answers from it anyhow. One that is bound to all would answer from the
//! address that the route back prefers, and a client that asked another one throws such an answer away. There the
//! kernel is asked for the address with every datagram, and told with every answer (ip(7), `IP_PKTINFO`; RFC 3542 §6).

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;

use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, SockaddrLike, SockaddrStorage,
    recvmsg, sendmsg, setsockopt, sockopt,
};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// Who asks, and whom of us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Client {
    pub(super) peer: SocketAddr,
    /// Which of our addresses it sent to; absent where the socket has only one.
    asked: Option<IpAddr>,
}

pub(super) struct Outside {
    socket: UdpSocket,
    /// Bound to all addresses.
    any: bool,
}

impl Outside {
    pub(super) fn new(socket: UdpSocket) -> io::Result<Self> {
        let address = socket.local_addr()?;
        let any = address.ip().is_unspecified();
        if any {
            match address {
                SocketAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?,
                SocketAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?,
            }
        }
        Ok(Self { socket, any })
    }

    /// The next datagram: its length and its sender. Cancel-safe.
    pub(super) async fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, Client)> {
        if !self.any {
            let (length, peer) = self.socket.recv_from(buffer).await?;
            return Ok((length, Client { peer, asked: None }));
        }
        self.socket
            .async_io(Interest::READABLE, || receive_asked(&self.socket, buffer))
            .await
    }

    /// Sends an answer. Waits while the socket is full.
    pub(super) async fn answer(&self, datagram: &[u8], client: Client) -> io::Result<()> {
        let Some(asked) = client.asked else {
            return self.socket.send_to(datagram, client.peer).await.map(drop);
        };
        self.socket
            .async_io(Interest::WRITABLE, || {
                answer_from(&self.socket, datagram, client.peer, asked)
            })
            .await
    }
}

fn receive_asked(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<(usize, Client)> {
    // The larger of the two, so that there is room for either.
    let mut control = nix::cmsg_space!(libc::in6_pktinfo);
    let mut into = [IoSliceMut::new(buffer)];
    let received = recvmsg::<SockaddrStorage>(
        socket.as_raw_fd(),
        &mut into,
        Some(&mut control),
        MsgFlags::MSG_DONTWAIT,
    )?;
    let asked = received.cmsgs()?.find_map(|message| match message {
        ControlMessageOwned::Ipv4PacketInfo(info) => {
            Some(Ipv4Addr::from_bits(u32::from_be(info.ipi_spec_dst.s_addr)).into())
        }
        ControlMessageOwned::Ipv6PacketInfo(info) => Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into()),
        _ => None,
    });
    let peer = received.address.as_ref().and_then(address);
    let peer =
        peer.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a datagram without a sender"))?;
    Ok((received.bytes, Client { peer, asked }))
}

fn address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = || storage.as_sockaddr_in().map(|v4| SocketAddr::V4((*v4).into()));
    let v6 = || storage.as_sockaddr_in6().map(|v6| SocketAddr::V6((*v6).into()));
    v4().or_else(v6)
}

fn answer_from(socket: &UdpSocket, datagram: &[u8], peer: SocketAddr, asked: IpAddr) -> io::Result<()> {
    match (peer, asked) {
        (SocketAddr::V4(peer), IpAddr::V4(asked)) => {
            let info = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr {
                    s_addr: asked.to_bits().to_be(),
                },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            transmit(
                socket,
                datagram,
                ControlMessage::Ipv4PacketInfo(&info),
                &SockaddrIn::from(peer),
            )
        }
        (SocketAddr::V6(peer), IpAddr::V6(asked)) => {
            let info = libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr {
                    s6_addr: asked.octets(),
                },
                ipi6_ifindex: peer.scope_id(),
            };
            transmit(
                socket,
                datagram,
                ControlMessage::Ipv6PacketInfo(&info),
                &SockaddrIn6::from(peer),
            )
        }
        // A socket has one family.
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

fn transmit(
    socket: &UdpSocket,
    datagram: &[u8],
    from: ControlMessage<'_>,
    to: &impl SockaddrLike,
) -> io::Result<()> {
    sendmsg(
        socket.as_raw_fd(),
        &[IoSlice::new(datagram)],
        &[from],
        MsgFlags::MSG_DONTWAIT,
        Some(to),
    )?;
    Ok(())
}

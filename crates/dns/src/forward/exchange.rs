//! One question to one server: over UDP, and over TCP when the answer was cut.

use std::io;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, UdpSocket as AsyncUdpSocket};

use super::{SocketFactory, SocketNeed};
use crate::Transport;
use crate::wire;

/// After so long without an answer the datagram is sent once more: it, or its answer, may be lost.
const AGAIN: Duration = Duration::from_millis(800);

/// The server's answer, its id still the random one. The caller bounds the time.
pub(super) async fn ask(
    sockets: &SocketFactory,
    server: SocketAddr,
    query: &[u8],
    transport: Transport,
) -> io::Result<Vec<u8>> {
    let mut query = query.to_vec();
    let mut id = [0; 2];
    getrandom::fill(&mut id).map_err(|error| io::Error::other(error.to_string()))?;
    wire::set_id(&mut query, u16::from_be_bytes(id));

    let limit = match transport {
        Transport::Udp => wire::udp_limit(&query),
        Transport::Tcp => usize::from(u16::MAX),
    };
    let reply = over_udp(sockets, server, &query).await?;
    if !wire::is_truncated(&reply) && reply.len() <= limit {
        return Ok(reply);
    }
    // The whole of it helps an asker who takes as much, or who never asks again over TCP.
    match over_tcp(sockets, server, &query).await {
        Ok(whole) if whole.len() <= limit => Ok(whole),
        _ if reply.len() <= limit => Ok(reply),
        _ => Ok(wire::bare(&query, 0, true)),
    }
}

async fn over_udp(sockets: &SocketFactory, server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let socket = sockets(SocketNeed::Udp { v6: server.is_ipv6() }).await?;
    let socket = AsyncUdpSocket::from_std(UdpSocket::from(socket))?;
    // Connected: the kernel picks a random port, and drops what others send to it.
    socket.connect(server).await?;
    socket.send(query).await?;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    let again = tokio::time::sleep(AGAIN);
    tokio::pin!(again);
    let mut sent_again = false;
    loop {
        tokio::select! {
            received = socket.recv(&mut buffer) => {
                let reply = &buffer[..received?];
                // Anything else may be forged: keep waiting for the true one.
                if belongs(query, reply) {
                    return Ok(reply.to_vec());
                }
            }
            () = &mut again, if !sent_again => {
                sent_again = true;
                socket.send(query).await?;
            }
        }
    }
}

async fn over_tcp(sockets: &SocketFactory, server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let socket = sockets(SocketNeed::Tcp { v6: server.is_ipv6() }).await?;
    let socket = TcpSocket::from_std_stream(TcpStream::from(socket));
    let mut stream = socket.connect(server).await?;
    let length = u16::try_from(query.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    stream.write_all(&[&length.to_be_bytes(), query].concat()).await?;
    let mut reply = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut reply).await?;
    if belongs(query, &reply) {
        Ok(reply)
    } else {
        Err(io::ErrorKind::InvalidData.into())
    }
}

/// Is this the answer to that query?
fn belongs(query: &[u8], reply: &[u8]) -> bool {
    wire::is_response(reply)
        && wire::opcode(reply) == 0
        && wire::id(reply) == wire::id(query)
        && wire::same_question(reply, query)
}

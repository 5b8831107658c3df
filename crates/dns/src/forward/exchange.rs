//! One question to one server: over UDP, and over TCP when the answer was cut. The caller bounds the time.

use std::io;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, UdpSocket as AsyncUdpSocket};

use super::{SocketFactory, SocketNeed};
use crate::wire;

/// Longest datagram that is read whole. We announce less.
const DATAGRAM: usize = 4096;

/// The server's answer: well formed, whole unless its truncation bit is set, and its id of no more use.
pub(super) async fn ask(sockets: SocketFactory, server: SocketAddr, query: Arc<[u8]>) -> io::Result<Vec<u8>> {
    let mut query = query.to_vec();
    let mut id = [0; 2];
    getrandom::fill(&mut id).map_err(|error| io::Error::other(error.to_string()))?;
    wire::set_id(&mut query, u16::from_be_bytes(id));

    let mut reply = over_udp(&sockets, server, &query).await?;
    if wire::is_truncated(&reply)
        && let Ok(whole) = over_tcp(&sockets, server, &query).await
    {
        reply = whole;
    }
    if wire::times(&reply).is_none() && !wire::is_truncated(&reply) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(reply)
}

async fn over_udp(sockets: &SocketFactory, server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let socket = sockets(SocketNeed::Udp { v6: server.is_ipv6() }).await?;
    let socket = AsyncUdpSocket::from_std(UdpSocket::from(socket))?;
    // Connected: the kernel picks a random port, and drops what others send to it.
    socket.connect(server).await?;
    socket.send(query).await?;
    let mut buffer = vec![0; DATAGRAM];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // Anything else may be forged: keep waiting for the true one.
        if belongs(query, &buffer[..length]) {
            buffer.truncate(length);
            return Ok(buffer);
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

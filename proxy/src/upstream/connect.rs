//! New connections to endpoints: containers from the namespace we are in, those on the host's own network and servers
//! elsewhere from the host's.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use hyper::client::conn::http2;
use hyper_util::rt::TokioIo;
use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;

use super::external;
use super::hold;
use super::pool::{Connection, Host};
use crate::error::{Failure, Kind};
use crate::h1::client as http1;
use crate::transport::Transport;
use crate::worker::{LocalExecutor, Worker};
use crate::world::{External, Place};

/// Milliseconds that bytes to an upstream may go unacknowledged.
const UNHEARD: u32 = 30_000;
/// Window of a gRPC stream, in bytes.
const STREAM_WINDOW: u32 = 1 << 20;
/// Window of a gRPC connection, in bytes.
const CONNECTION_WINDOW: u32 = 4 << 20;

/// Connects to an endpoint. Given up as soon as a new world says that the endpoint is gone: the kernel may take
/// seconds to notice that an address has left.
pub(crate) async fn connect(
    worker: &Worker,
    host: &Host,
    port: u16,
    http2: bool,
) -> Result<Connection, Failure> {
    let limit = Duration::from_millis(worker.world().limits().connect_ms);
    let endpoint = || host.endpoint.id.clone();
    let open = async {
        match &host.endpoint.place {
            Place::Container(addresses) => {
                let make = async |address: SocketAddr| worker.shared.egress.tcp_towards(address.ip()).await;
                let peers = addresses.iter().map(|ip| SocketAddr::new(*ip, port));
                let (stream, peer) = first(peers, limit, make)
                    .await
                    .map_err(|e| refused(endpoint(), port, e))?;
                if !http2 {
                    return Ok(speaking_http1(worker, Transport::Plain(stream), peer));
                }
                let done = handshake2(host, port, stream).await;
                done.map_err(|error| refused(endpoint(), port, io::Error::other(error)))
            }
            Place::External(external) => elsewhere(worker, external, port, limit).await,
        }
    };
    tokio::select! {
        biased;
        done = tokio::time::timeout(limit, open) => {
            done.unwrap_or_else(|_| Err(Kind::ConnectTimeout { endpoint: endpoint(), port }.into()))
        }
        () = hold::gone(worker, host.endpoint.uid) => Err(Kind::Connect { endpoint: endpoint(), port }.into()),
    }
}

fn refused(endpoint: String, port: u16, error: io::Error) -> Failure {
    let kind = match error.kind() {
        io::ErrorKind::TimedOut => Kind::ConnectTimeout { endpoint, port },
        _ => Kind::Connect { endpoint, port },
    };
    Failure::because(kind, error)
}

async fn elsewhere(
    worker: &Worker,
    external: &External,
    port: u16,
    limit: Duration,
) -> Result<Connection, Failure> {
    let fail = |error| refused(external.host.clone(), port, error);
    let addresses = external::addresses(worker, external).await?;
    let peers = addresses.iter().map(|ip| SocketAddr::new(*ip, port));
    let make = async |address: SocketAddr| worker.shared.egress.tcp(address.ip()).await;
    let (stream, peer) = first(peers, limit, make).await.map_err(fail)?;
    let transport = match &external.tls {
        None => Transport::Plain(stream),
        Some(name) => {
            let config = worker.shared.egress.trust().await;
            let config = config.map_err(|error| fail(io::Error::other(error)))?;
            let stream = TlsConnector::from(config)
                .connect(name.clone(), stream)
                .await
                .map_err(fail)?;
            Transport::tls(stream)
        }
    };
    Ok(speaking_http1(worker, transport, peer))
}

/// Connects to the first of several addresses that answers, each with its share of the time.
async fn first(
    peers: impl ExactSizeIterator<Item = SocketAddr>,
    limit: Duration,
    make: impl AsyncFn(SocketAddr) -> io::Result<TcpSocket>,
) -> io::Result<(TcpStream, SocketAddr)> {
    let share = limit / u32::try_from(peers.len().max(1)).unwrap_or(u32::MAX);
    let mut failed = io::Error::new(io::ErrorKind::AddrNotAvailable, "it has no address");
    for peer in peers {
        let opened = async {
            let socket = make(peer).await?;
            // The Nagle algorithm would hold back the end of every request behind its head.
            socket.set_nodelay(true)?;
            let stream = socket.connect(peer).await?;
            notice_silence(&stream)?;
            Ok(stream)
        };
        match tokio::time::timeout(share, opened).await {
            Ok(Ok(stream)) => return Ok((stream, peer)),
            Ok(Err(error)) => failed = error,
            Err(_) => failed = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(failed)
}

/// Lets the kernel find out within seconds that a peer vanished without a word, as when its link is deleted.
fn notice_silence(stream: &TcpStream) -> io::Result<()> {
    setsockopt(stream, sockopt::KeepAlive, &true)?;
    setsockopt(stream, sockopt::TcpKeepIdle, &5)?;
    setsockopt(stream, sockopt::TcpKeepInterval, &1)?;
    setsockopt(stream, sockopt::TcpKeepCount, &3)?;
    // Probes are sent on silent connections only. This is for one with a request on its way to nowhere; long, because
    // a program that is slow to read its request looks the same.
    setsockopt(stream, sockopt::TcpUserTimeout, &UNHEARD)?;
    Ok(())
}

fn speaking_http1(worker: &Worker, transport: Transport, peer: SocketAddr) -> Connection {
    let connection = http1::Connection::new(transport, &worker.shared.pipes);
    Connection::Http1 { connection, peer }
}

async fn handshake2(host: &Host, port: u16, stream: TcpStream) -> Result<Connection, hyper::Error> {
    let (sender, connection) = http2::Builder::new(LocalExecutor)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .handshake(TokioIo::new(stream))
        .await?;
    tokio::task::spawn_local(async move { connection.await.ok() });
    host.keep_http2(port, &sender);
    Ok(Connection::Http2(sender))
}

//! The listening sockets of one worker: which it serves, how it accepts, and what a connection is allowed.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use linkspan_api::feed::{Limits, SocketId, SocketKind};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::debug;

use crate::client::{Client, Open, Tls};
use crate::stream::Port;
use crate::transport::Transport;
use crate::worker::Worker;
use crate::world::World;
use crate::{connection, h1, tls};

mod crowd;

pub(crate) use crowd::Crowd;

/// Pause after an accept that failed for want of descriptors or memory, and while there are too many connections.
const PAUSE: Duration = Duration::from_millis(20);

/// Serves this worker's share of the listeners in the world, until the proxy drains.
pub(crate) async fn run(worker: &Rc<Worker>) {
    let mut changed = worker.shared.changed.subscribe();
    // Dropping a guard stops accepting; what was accepted goes on.
    let mut serving: HashMap<SocketId, (Arc<OwnedFd>, DropGuard)> = HashMap::new();
    loop {
        let mine = share(worker, &worker.world());
        let held: HashMap<_, _> = worker.shared.sockets().into_iter().collect();
        serving.retain(|id, (socket, _)| {
            mine.contains(id) && held.get(id).is_none_or(|held| Arc::ptr_eq(held, socket))
        });
        for id in mine {
            if let Some(socket) = held.get(&id)
                && !serving.contains_key(&id)
            {
                match serve(worker, &id, socket) {
                    Ok(stop) => drop(serving.insert(id, (Arc::clone(socket), stop.drop_guard()))),
                    Err(error) => tracing::error!(?id, %error, "this socket can't be served"),
                }
            }
        }
        drop(held);
        tokio::select! {
            _ = changed.changed() => {}
            () = worker.shared.draining.cancelled() => break,
        }
    }
}

/// Which listeners this worker serves. With a shard for each worker everyone has its own. Where there are fewer, the
/// remaining workers help with HTTP; everything else keeps state per worker and has one.
fn share(worker: &Worker, world: &World) -> HashSet<SocketId> {
    let workers = worker.shared.workers;
    let listeners = &world.snapshot.listeners;
    let shards = |of: &SocketId| {
        listeners
            .iter()
            .filter(|id| id.kind == of.kind && id.address == of.address)
            .count()
    };
    let is_mine = |id: &&SocketId| {
        let shard = id.shard as usize;
        match id.kind {
            SocketKind::Http | SocketKind::Https => {
                let shards = shards(id);
                let helps = worker.index >= shards && worker.index % shards.max(1) == shard;
                shard % workers == worker.index || helps
            }
            _ => {
                let mut hasher = DefaultHasher::new();
                id.address.hash(&mut hasher);
                // Spread over the workers by address, for most of these have one shard only.
                (shard + (hasher.finish() % 1024) as usize) % workers == worker.index
            }
        }
    };
    listeners.iter().filter(is_mine).cloned().collect()
}

/// Starts serving one socket on a descriptor of its own, until the token is cancelled.
fn serve(worker: &Rc<Worker>, id: &SocketId, socket: &Arc<OwnedFd>) -> io::Result<CancellationToken> {
    let socket = socket.try_clone()?;
    let stop = CancellationToken::new();
    let shared = &worker.shared;
    let port = || {
        let (world, changed) = (Arc::clone(&shared.world), shared.changed.subscribe());
        let (pipes, egress) = (Arc::clone(&shared.pipes), shared.egress.clone());
        Port::new(id.clone(), world, changed, pipes, egress)
    };
    match id.kind {
        SocketKind::Http | SocketKind::Https => {
            let listener = TcpListener::from_std(socket.into())?;
            let accepting = accept(Rc::clone(worker), listener, id.kind == SocketKind::Https);
            worker
                .tasks
                .spawn_local(stop.clone().run_until_cancelled_owned(accepting));
        }
        SocketKind::Tcp => {
            let listener = TcpListener::from_std(socket.into())?;
            worker.tasks.spawn_local(port().serve_tcp(listener, stop.clone()));
        }
        SocketKind::Udp => {
            let socket = UdpSocket::from_std(socket.into())?;
            worker.tasks.spawn_local(port().serve_udp(socket, stop.clone()));
        }
        SocketKind::DnsTcp => {
            let listener = TcpListener::from_std(socket.into())?;
            worker
                .tasks
                .spawn_local(shared.names.clone().serve_tcp(listener, stop.clone()));
        }
        SocketKind::DnsUdp => {
            let socket = UdpSocket::from_std(socket.into())?;
            worker
                .tasks
                .spawn_local(shared.names.clone().serve_udp(socket, stop.clone()));
        }
    }
    Ok(stop)
}

async fn accept(worker: Rc<Worker>, listener: TcpListener, https: bool) {
    loop {
        if worker.shared.connections.load(Ordering::Relaxed) >= worker.world().limits().connections {
            // Those who wait stay in the kernel's queue.
            tokio::time::sleep(PAUSE).await;
            continue;
        }
        match listener.accept().await {
            Ok((stream, peer)) => {
                let most = worker.world().limits().connections_per_address;
                let Some(open) = Open::count(&worker.shared, peer.ip(), most) else {
                    debug!(%peer, most, "this address has too many connections");
                    continue;
                };
                let own = Rc::clone(&worker);
                // Two tasks of two sizes: what TLS and HTTP/2 need isn't there where they aren't spoken.
                if https {
                    worker.tasks.spawn_local(async move {
                        ended(peer, secure(own, open, stream, peer).await);
                    });
                } else {
                    worker.tasks.spawn_local(async move {
                        ended(peer, plain(own, open, stream, peer).await);
                    });
                }
            }
            Err(error) if is_about_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "accepting failed");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}

fn ended(peer: std::net::SocketAddr, end: io::Result<()>) {
    if let Err(error) = end {
        debug!(%peer, %error, "connection ended");
    }
}

async fn plain(
    worker: Rc<Worker>,
    open: Open,
    stream: TcpStream,
    peer: std::net::SocketAddr,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let limits: Limits = *worker.world().limits();
    let client = Rc::new(Client::new(worker, open, peer, None));
    h1::server::serve(Transport::Plain(stream), client, limits).await
}

async fn secure(
    worker: Rc<Worker>,
    open: Open,
    stream: TcpStream,
    peer: std::net::SocketAddr,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let limits: Limits = *worker.world().limits();
    // Boxed, as is HTTP/2, so that what remains of the task when these are over is small.
    let Some(accepted) = Box::pin(shake_hands(&worker, stream, limits)).await? else {
        return Ok(());
    };
    let tls = Tls {
        server_name: accepted.server_name,
        identity: accepted.identity,
    };
    let client = Rc::new(Client::new(worker, open, peer, Some(tls)));
    if accepted.http2 {
        Box::pin(connection::http2(accepted.stream, client, limits)).await
    } else {
        h1::server::serve(Transport::tls(accepted.stream), client, limits).await
    }
}

/// `None` when the proxy drains before it is done.
async fn shake_hands(
    worker: &Worker,
    stream: TcpStream,
    limits: Limits,
) -> io::Result<Option<tls::Accepted>> {
    let world = worker.world();
    let handshake = tls::accept(stream, Arc::clone(&worker.shared.tls), &world);
    let deadline = Duration::from_millis(limits.head_ms);
    tokio::select! {
        done = tokio::time::timeout(deadline, handshake) => Ok(Some(done.map_err(|_| io::ErrorKind::TimedOut)??)),
        () = worker.draining.cancelled() => Ok(None),
    }
}

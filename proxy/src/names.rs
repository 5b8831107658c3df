//! The resolver's sockets: DNS for containers, over UDP and TCP (RFC 7766).
//!
//! What a container may know comes from the snapshot's zone; the rest is asked of the name servers outside, by the
//! forwarder. Each worker serves its own shard of the sockets; the forwarder with its cache is one for all.

mod connection;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use linkspan_dns::{Forwarder, Outcome, SocketNeed, Transport};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::egress::Egress;
use crate::world::World;

/// Longest datagram that is read whole; an honest query is below 512 bytes.
const QUERY_MAX: usize = 4096;
/// TCP connections of one listener at once.
const CONNECTIONS: usize = 512;
/// TCP connections of one container at once.
const CONNECTIONS_EACH: usize = 32;
/// Rest after a socket failed, for want of descriptors or memory as a rule, so that the loop doesn't spin.
const REST: Duration = Duration::from_millis(50);

/// The port of name servers that are given by address alone.
const DNS_PORT: u16 = 53;

/// What both transports answer from.
#[derive(Clone)]
pub(crate) struct Names {
    world: Arc<ArcSwap<World>>,
    forwarder: Arc<Forwarder>,
}

/// What becomes of a query.
enum Fate {
    /// This is sent.
    Reply(Vec<u8>),
    /// These servers are asked, which takes a while.
    Ask(Vec<SocketAddr>),
    /// Nothing is sent.
    Drop,
}

// === impl Names ===

impl Names {
    /// Names from `world`; others are asked for through sockets from `egress`.
    pub(crate) fn new(world: Arc<ArcSwap<World>>, egress: Egress) -> Self {
        let sockets = move |need| {
            let egress = egress.clone();
            Box::pin(async move { socket(&egress, need).await }) as linkspan_dns::SocketFuture
        };
        Self {
            world,
            forwarder: Arc::new(Forwarder::new(Arc::new(sockets))),
        }
    }

    /// Serves one UDP socket until `stop`, then lets questions under way end.
    pub(crate) async fn serve_udp(self, socket: UdpSocket, stop: CancellationToken) {
        let socket = Arc::new(socket);
        let mut asking = JoinSet::new();
        let mut buffer = vec![0; QUERY_MAX + 1];
        loop {
            let received = tokio::select! {
                () = stop.cancelled() => break,
                received = socket.recv_from(&mut buffer) => received,
            };
            // Reaps those that have ended; the forwarder bounds how many there are.
            while asking.try_join_next().is_some() {}
            let (length, asker) = match received {
                Ok(received) => received,
                Err(error) => {
                    tracing::debug!(%error, "reading a DNS query failed");
                    tokio::time::sleep(REST).await;
                    continue;
                }
            };
            let query = &buffer[..length];
            match self.fate(asker.ip(), query, Transport::Udp) {
                Fate::Reply(reply) => send(&socket, &reply, asker).await,
                Fate::Drop => {}
                Fate::Ask(servers) => {
                    let (names, socket, query) = (self.clone(), Arc::clone(&socket), query.to_vec());
                    asking.spawn(async move {
                        let reply = names
                            .forwarder
                            .forward(asker.ip(), &query, &servers, Transport::Udp)
                            .await;
                        send(&socket, &reply, asker).await;
                    });
                }
            }
        }
        while asking.join_next().await.is_some() {}
    }

    /// Serves one TCP listener until `stop`, then lets open connections end.
    pub(crate) async fn serve_tcp(self, listener: TcpListener, stop: CancellationToken) {
        let mut open: JoinSet<IpAddr> = JoinSet::new();
        let mut by_asker: HashMap<IpAddr, usize> = HashMap::new();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                Some(ended) = open.join_next() => {
                    // A connection that panicked has not told whose it was: then nothing is forgotten but its count.
                    if let Ok(asker) = ended {
                        leave(&mut by_asker, asker);
                    }
                    continue;
                }
                accepted = listener.accept(), if open.len() < CONNECTIONS => accepted,
            };
            let (stream, asker) = match accepted {
                Ok((stream, peer)) => (stream, peer.ip()),
                Err(error) => {
                    tracing::debug!(%error, "accepting a DNS connection failed");
                    tokio::time::sleep(REST).await;
                    continue;
                }
            };
            let count = by_asker.entry(asker).or_default();
            // One too many is closed at once.
            if *count < CONNECTIONS_EACH {
                *count += 1;
                let (names, stop) = (self.clone(), stop.clone());
                open.spawn(async move {
                    if let Err(error) = connection::serve(&names, stream, asker, &stop).await {
                        tracing::debug!(%asker, %error, "a DNS connection broke");
                    }
                    asker
                });
            }
        }
        drop(listener);
        while open.join_next().await.is_some() {}
    }

    fn fate(&self, asker: IpAddr, query: &[u8], transport: Transport) -> Fate {
        let world = self.world.load();
        let own = match linkspan_dns::answer(&world.snapshot.zone, asker, query, transport) {
            Outcome::Reply(reply) => return Fate::Reply(reply),
            Outcome::Refuse(reply) => {
                tracing::debug!(%asker, "a DNS query from somebody who is on no network was refused");
                return Fate::Reply(reply);
            }
            Outcome::Drop => return Fate::Drop,
            Outcome::Forward { servers } => servers,
        };
        let servers = if own.is_empty() {
            world.snapshot.name_servers.clone()
        } else {
            own.into_iter().map(|ip| SocketAddr::new(ip, DNS_PORT)).collect()
        };
        match self.forwarder.recall(query, &servers, transport) {
            Some(reply) => Fate::Reply(reply),
            None => Fate::Ask(servers),
        }
    }
}

async fn send(socket: &UdpSocket, reply: &[u8], asker: SocketAddr) {
    // Lost like any datagram: the asker asks again.
    if let Err(error) = socket.send_to(reply, asker).await {
        tracing::debug!(%asker, %error, "a DNS answer could not be sent");
    }
}

fn leave(by_asker: &mut HashMap<IpAddr, usize>, asker: IpAddr) {
    if let Some(count) = by_asker.get_mut(&asker) {
        *count -= 1;
        if *count == 0 {
            by_asker.remove(&asker);
        }
    }
}

async fn socket(egress: &Egress, need: SocketNeed) -> io::Result<OwnedFd> {
    let family = |v6| {
        if v6 {
            IpAddr::from([0u16; 8])
        } else {
            IpAddr::from([0u8; 4])
        }
    };
    match need {
        SocketNeed::Udp { v6 } => egress.udp(family(v6)).await.map(OwnedFd::from),
        SocketNeed::Tcp { v6 } => egress.tcp(family(v6)).await?.as_fd().try_clone_to_owned(),
    }
}

#[cfg(test)]
mod tests;

//! Ports published on localhost: raw TCP and UDP, forwarded to a container wherever it is now.
//!
//! Nothing here looks into the bytes. The choice of the endpoint is made anew for every connection and, for UDP,
//! whenever the snapshot changes; a connection stays with the endpoint it has until it ends.

mod pipes;
mod relay;
mod tcp;
mod udp;

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use linkspan_api::feed::{EndpointId, SocketId};
use tokio::sync::watch;

use crate::egress::Egress;
use crate::world::World;

pub(crate) use pipes::{Loan, Pipes, is_impossible};

/// One listening socket of a published port, and what is needed to know where it leads.
#[derive(Clone)]
pub(crate) struct Port {
    socket: SocketId,
    world: Arc<ArcSwap<World>>,
    /// Told after every swap of the world.
    changed: watch::Receiver<u64>,
    pipes: Arc<Pipes>,
    egress: Egress,
}

impl Port {
    /// `serve_tcp` or `serve_udp` brings it to life.
    pub(crate) fn new(
        socket: SocketId,
        world: Arc<ArcSwap<World>>,
        changed: watch::Receiver<u64>,
        pipes: Arc<Pipes>,
        egress: Egress,
    ) -> Self {
        Self {
            socket,
            world,
            changed,
            pipes,
            egress,
        }
    }

    fn pick(&self) -> Pick {
        pick(&self.world.load(), &self.socket)
    }
}

/// Where a published port leads at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Pick {
    /// To these, any of them; never empty.
    Ready(Vec<Backend>),
    /// To none, but one is coming.
    Coming,
    /// To none, and this is why.
    Down(String),
}

/// An endpoint and the port inside.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Backend {
    endpoint: EndpointId,
    generation: u64,
    /// The first is tried first; never empty.
    addresses: Vec<SocketAddr>,
}

/// Where the port that listens on `socket` leads.
fn pick(world: &World, socket: &SocketId) -> Pick {
    let Some(forward) = world.forward(socket) else {
        return Pick::Down("the port is not published any more".to_owned());
    };
    let Some(service) = world.snapshot.services.get(&forward.service) else {
        return Pick::Down(format!("`{}` does not exist", forward.service));
    };
    let backends: Vec<_> = service
        .endpoints
        .iter()
        .filter(|endpoint| forward.endpoint.as_ref().is_none_or(|only| *only == endpoint.id))
        .map(|endpoint| Backend {
            endpoint: endpoint.id.clone(),
            generation: endpoint.generation,
            addresses: endpoint
                .addresses
                .iter()
                .map(|ip| SocketAddr::new(*ip, forward.port))
                .filter(|address| !leads_back(*address, socket))
                .collect(),
        })
        .collect();
    let has_address = |backend: &Backend| !backend.addresses.is_empty();
    if backends.iter().any(has_address) {
        Pick::Ready(backends.into_iter().filter(has_address).collect())
    } else if !backends.is_empty() {
        Pick::Down(format!(
            "`{}` is reached at no address but the port itself",
            forward.service
        ))
    } else if service.coming {
        Pick::Coming
    } else {
        let why = service.reason.as_deref().unwrap_or("not running");
        Pick::Down(format!("`{}` is down: {why}", forward.service))
    }
}

/// On the host's own network a published port could lead to itself, over and over until no descriptor is left.
fn leads_back(address: SocketAddr, socket: &SocketId) -> bool {
    address.port() == socket.address.port() && address.ip().to_canonical().is_loopback()
}

#[cfg(test)]
mod rig;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use linkspan_api::feed::{Endpoint, Forward, Service, Snapshot, SocketKind};

    use super::*;
    use crate::world::Compiler;

    fn world(only: Option<&str>, endpoints: &[(&str, &str)], coming: bool) -> (World, SocketId) {
        let address: SocketAddr = "127.0.0.1:8080".parse().unwrap();
        let endpoints = endpoints.iter().map(|(id, address)| Endpoint {
            id: (*id).to_owned(),
            generation: 1,
            addresses: vec![address.parse().unwrap()],
        });
        let service = Service {
            endpoints: endpoints.collect(),
            coming,
            reason: Some("stopped".to_owned()),
        };
        let forward = Forward {
            kind: SocketKind::Tcp,
            address,
            service: "shop/web".to_owned(),
            endpoint: only.map(str::to_owned),
            port: 8080,
        };
        let snapshot = Snapshot {
            forwards: vec![forward],
            services: BTreeMap::from([("shop/web".to_owned(), service)]),
            ..Snapshot::default()
        };
        (
            Compiler::default().compile(snapshot),
            SocketId {
                kind: SocketKind::Tcp,
                address,
                shard: 1,
            },
        )
    }

    fn ids(pick: Pick) -> Vec<String> {
        let Pick::Ready(backends) = pick else {
            panic!("{pick:?}")
        };
        backends.into_iter().map(|backend| backend.endpoint).collect()
    }

    #[test]
    fn a_port_leads_to_all_replicas_or_to_the_one_it_belongs_to() {
        let (all, socket) = world(None, &[("a", "10.0.0.2"), ("b", "10.0.0.3")], false);
        assert_eq!(ids(pick(&all, &socket)), ["a", "b"]);
        let (one, socket) = world(Some("b"), &[("a", "10.0.0.2"), ("b", "10.0.0.3")], false);
        assert_eq!(ids(pick(&one, &socket)), ["b"]);
    }

    #[test]
    fn without_endpoints_it_waits_or_says_why_not() {
        let (coming, socket) = world(None, &[], true);
        assert_eq!(pick(&coming, &socket), Pick::Coming);
        let (down, mut socket) = world(None, &[], false);
        assert_eq!(
            pick(&down, &socket),
            Pick::Down("`shop/web` is down: stopped".to_owned())
        );
        socket.kind = SocketKind::Udp;
        assert!(matches!(pick(&down, &socket), Pick::Down(_)));
    }

    #[test]
    fn a_port_that_would_lead_to_itself_leads_nowhere() {
        let (itself, socket) = world(None, &[("a", "127.0.0.1")], false);
        assert!(matches!(pick(&itself, &socket), Pick::Down(why) if why.contains("the port itself")));
        let (both, socket) = world(None, &[("a", "127.0.0.1"), ("b", "10.0.0.3")], false);
        assert_eq!(ids(pick(&both, &socket)), ["b"]);
    }
}

//! A published port on loopback for tests, with endpoints that come and go.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use linkspan_api::feed::{Endpoint, Forward, Limits, Service, Snapshot, SocketKind};

use super::*;
use crate::world::Compiler;

/// The address of endpoint `n`.
pub(super) fn host(n: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, n).into()
}

pub(super) struct Rig {
    pub(super) limits: Limits,
    socket: SocketId,
    /// Inside.
    inside: u16,
    world: Arc<ArcSwap<World>>,
    changed: watch::Sender<u64>,
    compiler: Compiler,
    pub(super) pipes: Arc<Pipes>,
    egress: Egress,
}

impl Rig {
    /// A port that listens on `outside` and leads to `inside`, as yet to nobody.
    pub(super) fn new(kind: SocketKind, outside: SocketAddr, inside: u16) -> Self {
        Self {
            limits: Limits::default(),
            socket: SocketId {
                kind,
                address: outside,
                shard: 0,
            },
            inside,
            world: Arc::new(ArcSwap::from_pointee(World::empty())),
            changed: watch::Sender::new(0),
            compiler: Compiler::default(),
            pipes: Arc::default(),
            egress: match Egress::start(|| Ok(())) {
                Ok((egress, _)) => egress,
                Err(error) => panic!("no sockets of the host: {error}"),
            },
        }
    }

    pub(super) fn port(&self) -> Port {
        Port::new(
            self.socket.clone(),
            Arc::clone(&self.world),
            self.changed.subscribe(),
            Arc::clone(&self.pipes),
            self.egress.clone(),
        )
    }

    /// The service has these endpoints from now on; without any it is `coming` or not.
    pub(super) fn publish(&mut self, endpoints: &[u8], coming: bool) {
        let endpoints = endpoints.iter().map(|n| Endpoint {
            id: format!("web-{n}"),
            generation: 1,
            addresses: vec![host(*n)],
        });
        self.publish_endpoints(endpoints.collect(), coming);
    }

    /// The service's one endpoint, always the same, has this address from now on.
    pub(super) fn publish_at(&mut self, n: u8) {
        let endpoint = Endpoint {
            id: "web".to_owned(),
            generation: 1,
            addresses: vec![host(n)],
        };
        self.publish_endpoints(vec![endpoint], false);
    }

    fn publish_endpoints(&mut self, endpoints: Vec<Endpoint>, coming: bool) {
        let service = Service {
            endpoints,
            coming,
            reason: None,
        };
        let forward = Forward {
            kind: self.socket.kind,
            address: self.socket.address,
            service: "shop/web".to_owned(),
            endpoint: None,
            port: self.inside,
        };
        let generation = self.world.load().generation() + 1;
        let snapshot = Snapshot {
            generation,
            forwards: vec![forward],
            services: BTreeMap::from([("shop/web".to_owned(), service)]),
            limits: self.limits,
            ..Snapshot::default()
        };
        self.world.store(Arc::new(self.compiler.compile(snapshot)));
        self.changed.send_replace(generation);
    }
}

//! A worker's connections to endpoints, under the endpoint's number: an address that is used again by another
//! container never meets a connection, a counter or a verdict of the one before.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use hyper::client::conn::http2;
use tokio::time::Instant;

use crate::body::RequestBody;
use crate::h1::client as http1;
use crate::transport::Transport;
use crate::world::{Endpoint, World};

/// A connection unused for so long is closed.
const IDLE: Duration = Duration::from_secs(50);
/// Idle connections kept per endpoint and worker.
const IDLE_MAX: usize = 256;

/// All endpoints that this worker has talked to.
#[derive(Default)]
pub(crate) struct Pool {
    hosts: RefCell<HashMap<u64, Rc<Host>, BuildHasherDefault<Uid>>>,
}

/// What this worker knows of one endpoint.
pub(crate) struct Host {
    pub(crate) endpoint: Arc<Endpoint>,
    /// Requests of this worker that it is answering.
    pub(crate) in_flight: Cell<u32>,
    /// It failed a moment ago; others go first until then.
    pub(crate) suspect_until: Cell<Option<Instant>>,
    /// When netd was last told that it fails.
    pub(crate) hinted: Cell<Option<Instant>>,
    idle: RefCell<Vec<Idle>>,
    http2: RefCell<Vec<(u16, http2::SendRequest<RequestBody>)>>,
    /// It left the world: nothing is kept any more.
    gone: Cell<bool>,
}

struct Idle {
    port: u16,
    peer: SocketAddr,
    since: Instant,
    connection: http1::Connection,
}

/// A connection that can be sent a request.
pub(crate) enum Connection {
    Http1 {
        connection: http1::Connection,
        peer: SocketAddr,
    },
    /// Shared by many requests; stays in the pool.
    Http2(http2::SendRequest<RequestBody>),
}

impl Pool {
    /// What is known of this endpoint. One that has left the world is not remembered: nobody would forget it again.
    pub(crate) fn host(&self, endpoint: &Arc<Endpoint>, is_live: impl FnOnce(u64) -> bool) -> Rc<Host> {
        if let Some(known) = self.hosts.borrow().get(&endpoint.uid) {
            return Rc::clone(known);
        }
        let host = Rc::new(Host::new(Arc::clone(endpoint)));
        // Asked before the map is borrowed: a new world is noticed on the way, and cleans the map.
        if is_live(endpoint.uid) {
            self.hosts.borrow_mut().insert(endpoint.uid, Rc::clone(&host));
        } else {
            host.gone.set(true);
        }
        host
    }

    /// Drops what belongs to endpoints that are no longer in the world.
    pub(crate) fn retain(&self, world: &World) {
        self.hosts.borrow_mut().retain(|uid, host| {
            let live = world.is_live(*uid);
            if !live {
                host.gone.set(true);
                host.forget();
            }
            live
        });
    }

    /// Closes what has been idle for too long.
    pub(crate) fn sweep(&self, now: Instant) {
        for host in self.hosts.borrow().values() {
            host.idle
                .borrow_mut()
                .retain(|idle| now - idle.since < IDLE && idle.connection.is_reusable());
            host.http2.borrow_mut().retain(|(_, sender)| !sender.is_closed());
        }
    }
}

impl Host {
    fn new(endpoint: Arc<Endpoint>) -> Self {
        Self {
            endpoint,
            in_flight: Cell::new(0),
            suspect_until: Cell::new(None),
            hinted: Cell::new(None),
            idle: RefCell::default(),
            http2: RefCell::default(),
            gone: Cell::new(false),
        }
    }

    /// A connection used before that can take a request now. The one used last comes first.
    pub(crate) fn reuse(&self, port: u16, allowed: impl Fn(SocketAddr) -> bool) -> Option<Connection> {
        loop {
            let idle = {
                let mut idle = self.idle.borrow_mut();
                let place = idle.iter().rposition(|idle| idle.port == port)?;
                idle.remove(place)
            };
            if allowed(idle.peer) && idle.connection.is_reusable() {
                return Some(Connection::Http1 {
                    connection: idle.connection,
                    peer: idle.peer,
                });
            }
        }
    }

    pub(crate) fn reuse_http2(&self, port: u16) -> Option<Connection> {
        let mut known = self.http2.borrow_mut();
        known.retain(|(_, sender)| !sender.is_closed());
        let found = known.iter().find(|(p, _)| *p == port)?;
        Some(Connection::Http2(found.1.clone()))
    }

    pub(crate) fn keep_http2(&self, port: u16, sender: &http2::SendRequest<RequestBody>) {
        if !self.gone.get() {
            self.http2.borrow_mut().push((port, sender.clone()));
        }
    }

    /// Drops all idle connections: one that turned out dead speaks for the others.
    pub(crate) fn forget(&self) {
        self.idle.borrow_mut().clear();
        self.http2.borrow_mut().clear();
    }
}

/// A request under way at an endpoint. Its connection goes back to the pool only by [`put_back`](Self::put_back).
pub(crate) struct Lease {
    connection: Option<Connection>,
    host: Rc<Host>,
    port: u16,
}

impl Lease {
    pub(crate) fn new(host: Rc<Host>, port: u16) -> Self {
        host.in_flight.set(host.in_flight.get() + 1);
        Self {
            connection: None,
            host,
            port,
        }
    }

    pub(crate) fn hold(&mut self, connection: Connection) {
        self.connection = Some(connection);
    }

    /// Id of the endpoint.
    pub(crate) fn endpoint(&self) -> &str {
        &self.host.endpoint.id
    }

    /// The response was read to its end.
    pub(crate) fn put_back(mut self) {
        let Some(Connection::Http1 { connection, peer }) = self.connection.take() else {
            return;
        };
        let mut idle = self.host.idle.borrow_mut();
        if connection.is_reusable() && !self.host.gone.get() && idle.len() < IDLE_MAX {
            idle.push(Idle {
                port: self.port,
                peer,
                since: Instant::now(),
                connection,
            });
        }
    }

    /// The bare connection, after a 101, and what came in over it behind that. The request stays under way.
    pub(crate) fn take_raw(&mut self) -> Option<(Transport, BytesMut)> {
        match self.connection.take()? {
            Connection::Http1 { connection, .. } => connection.into_raw(),
            Connection::Http2(_) => None,
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.host
            .in_flight
            .set(self.host.in_flight.get().saturating_sub(1));
    }
}

/// Uids are counted up by us, so they need no protection against chosen collisions.
#[derive(Default)]
pub(crate) struct Uid(u64);

impl Hasher for Uid {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
    fn write_u64(&mut self, n: u64) {
        self.0 = n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}

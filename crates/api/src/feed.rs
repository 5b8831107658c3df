//! The feed: what netd tells the proxy, and the few hints that come back.
//!
//! A unix stream socket, `/run/linkspan/proxy/feed.sock`, on which the *proxy* listens, so that a new netd finds a
//! proxy that outlived the old one. Only uid 0 is let in. Each frame is a four-byte big-endian length and that many
//! bytes of JSON, at most [`FRAME_MAX`]; a [`ToProxy::Sockets`] frame carries its descriptors in `SCM_RIGHTS` on its
//! first byte, in the order of its list, at most [`SOCKETS_MAX`] a frame.
//!
//! One snapshot replaces the one before as a whole. Keys travel in it and stay in memory.

mod codec;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use ipnetwork::IpNetwork;
use linkspan_dns::Zone;
use serde::{Deserialize, Serialize};

pub use codec::{FeedError, FeedReader, FeedWriter, Frame, split};

/// Version of this protocol; each side drives the version before its own as well.
pub const VERSION: u32 = 1;
/// Longest frame, in bytes.
pub const FRAME_MAX: usize = 64 << 20;
/// Most descriptors on one frame.
pub const SOCKETS_MAX: usize = 64;

/// From netd.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToProxy {
    /// First frame of a connection.
    Hello {
        /// The sender's [`VERSION`].
        version: u32,
    },
    /// Descriptors of listening sockets; adds to those that the proxy holds. Sent before the snapshot that uses them.
    Sockets(Vec<SocketId>),
    /// The world as it is now.
    Snapshot(Box<Snapshot>),
    /// Stop accepting, let what is under way end within so many milliseconds, then exit.
    Drain {
        /// Milliseconds.
        grace_ms: u64,
    },
}

/// From the proxy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToNetd {
    /// Answer to [`ToProxy::Hello`].
    Hello {
        /// The sender's [`VERSION`].
        version: u32,
        /// Version of the program.
        program: String,
        /// Its process.
        pid: u32,
        /// The snapshot it serves; 0 before the first.
        generation: u64,
        /// The sockets it holds; their descriptors follow in [`ToNetd::Sockets`] frames.
        sockets: Vec<SocketId>,
    },
    /// Descriptors, with the same rule as [`ToProxy::Sockets`].
    Sockets(Vec<SocketId>),
    /// Generation so and so is served from now on.
    Serving {
        /// Of the snapshot.
        generation: u64,
    },
    /// Nothing is under way any more to an endpoint that the snapshot being served doesn't list; it may be stopped.
    /// Sent once for each endpoint that a snapshot removed.
    Drained {
        /// Which.
        endpoint: EndpointId,
        /// Its generation: the next run of the same container is another matter.
        generation: u64,
    },
    /// Hint: connecting to or reading from this endpoint failed.
    Unhealthy {
        /// Which.
        endpoint: EndpointId,
        /// Why, for people.
        reason: String,
    },
}

/// Names a listening socket for as long as it lives.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SocketId {
    /// What is spoken on it.
    pub kind: SocketKind,
    /// Where it is bound.
    pub address: SocketAddr,
    /// Which of the SO_REUSEPORT listeners on that address, from 0; one for each worker thread.
    pub shard: u32,
}

/// What is spoken on a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SocketKind {
    /// Plain HTTP: redirects to https, save for routes that say otherwise.
    Http,
    /// HTTP/1.1 and HTTP/2 over TLS.
    Https,
    /// Raw TCP to a container: a port published on localhost.
    Tcp,
    /// Raw UDP to a container: a port published on localhost.
    Udp,
    /// DNS over UDP, for containers.
    DnsUdp,
    /// DNS over TCP, for containers.
    DnsTcp,
}

/// An endpoint: one incarnation of one container (or one address of an external target). Never used again.
pub type EndpointId = String;

/// Everything that the proxy knows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Grows with every snapshot.
    pub generation: u64,
    /// Which sockets to accept on. A held socket that isn't listed is closed.
    pub listeners: Vec<SocketId>,
    /// HTTP routes, in no particular order.
    pub routes: Vec<Route>,
    /// Ports published on localhost, by the socket's address and kind.
    pub forwards: Vec<Forward>,
    /// Containers by service id (`project/container`).
    pub services: BTreeMap<String, Service>,
    /// Certificates to pick from by SNI.
    pub certificates: Vec<Certificate>,
    /// Containers' names.
    pub zone: Zone,
    /// Name servers that forwarded questions go to, unless the asker has its own; reached from the host's namespace.
    pub name_servers: Vec<SocketAddr>,
    /// The public https port, for redirects: 443 unless the daemon's settings say otherwise.
    pub https_port: u16,
    /// Limits and times.
    pub limits: Limits,
}

/// A route as compiled for the router.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Which project it comes from.
    pub project: String,
    /// Which hosts.
    pub host: linkspan_site::HostPattern,
    /// Path prefix on segment boundaries.
    pub path: String,
    /// What happens.
    pub action: Action,
    /// Client networks that may enter; empty means everybody.
    pub allow: Vec<IpNetwork>,
    /// What else is done to its requests and answers.
    #[serde(default)]
    pub middleware: linkspan_site::Middleware,
}

/// What a route does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Forward to one of these.
    Forward(Vec<Target>),
    /// Answer with a redirect; path and query are appended when `to` is only scheme and authority.
    Redirect {
        /// Absolute URL.
        to: String,
        /// 301, 302, 307 or 308.
        status: u16,
    },
}

/// Where requests go.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The endpoints of a service.
    Service {
        /// Key into [`Snapshot::services`].
        id: String,
        /// Port inside.
        port: u16,
    },
    /// A server elsewhere, reached from the host's namespace, resolved by TTL.
    Url {
        /// TLS to the target.
        tls: bool,
        /// Name or address.
        host: String,
        /// Port.
        port: u16,
    },
}

/// A port published on localhost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forward {
    /// [`SocketKind::Tcp`] or [`SocketKind::Udp`].
    pub kind: SocketKind,
    /// The socket's address.
    pub address: SocketAddr,
    /// Key into [`Snapshot::services`].
    pub service: String,
    /// Only this endpoint, when a port belongs to one replica.
    pub endpoint: Option<EndpointId>,
    /// Port inside.
    pub port: u16,
}

/// A container of a site, with those of its replicas that may be sent requests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Ready ones.
    pub endpoints: Vec<Endpoint>,
    /// When none is ready: is one coming? Then requests are held.
    pub coming: bool,
    /// When none is ready and none is coming: why, for the 503. `stopped`, `crashed with exit status 1`, …
    pub reason: Option<String>,
}

/// Something that answers requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Health, counters and pooled connections are keyed by this and `generation`, never by address.
    pub id: EndpointId,
    /// Grows with each run of it. Its addresses may change within one, when its network moves.
    pub generation: u64,
    /// Where it is now; the first is tried first. Loopback addresses are the host's, all others are reached from the
    /// resolver's namespace.
    pub addresses: Vec<IpAddr>,
}

/// A certificate with its key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// Names it is for, in lower case; `*.` wildcards allowed.
    pub hosts: Vec<String>,
    /// PEM, leaf first.
    pub chain: String,
    /// PEM, PKCS#8. Never logged.
    pub key: String,
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate")
            .field("hosts", &self.hosts)
            .finish_non_exhaustive()
    }
}

/// Limits and times of the proxy. All explicit, all in the daemon's settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Milliseconds that a request may be held while an endpoint is coming.
    pub hold_ms: u64,
    /// Requests held at once for one service.
    pub hold_per_service: u32,
    /// Requests held at once in all.
    pub hold_total: u32,
    /// Bytes of a body that may be held or replayed.
    pub replay_body: u64,
    /// Client connections at once.
    pub connections: u32,
    /// Client connections of one address at once; a /64 of IPv6 is one address. Further ones are closed at once.
    pub connections_per_address: u32,
    /// Requests over one client connection, after which it is ended in order.
    pub requests_per_connection: u32,
    /// Milliseconds to connect to an endpoint.
    pub connect_ms: u64,
    /// Milliseconds to finish a request head, and a TLS handshake.
    pub head_ms: u64,
    /// Milliseconds that a kept-alive client connection may idle, and that a client may take no byte of its answer.
    pub idle_ms: u64,
    /// Milliseconds that a client may be silent within a request's body; however long the whole takes.
    pub body_ms: u64,
    /// Milliseconds that an endpoint may neither take anything of a request nor begin its answer.
    pub response_ms: u64,
    /// Bytes of a request head.
    pub head_bytes: u32,
    /// Fields of a request head, at most 256.
    pub head_fields: u32,
    /// Bytes of a request's target, at most 65,534.
    pub target_bytes: u32,
    /// Concurrent streams of an HTTP/2 connection.
    pub streams: u32,
    /// Milliseconds after which an idle UDP flow is forgotten.
    pub udp_idle_ms: u64,
    /// UDP flows of one port at once.
    pub udp_flows: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            hold_ms: 30_000,
            hold_per_service: 1_024,
            hold_total: 8_192,
            replay_body: 64 << 10,
            connections: 65_536,
            connections_per_address: 16_384,
            requests_per_connection: 100_000,
            connect_ms: 5_000,
            head_ms: 30_000,
            idle_ms: 75_000,
            body_ms: 75_000,
            response_ms: 600_000,
            head_bytes: 64 << 10,
            head_fields: 128,
            target_bytes: 16 << 10,
            streams: 250,
            udp_idle_ms: 60_000,
            udp_flows: 4_096,
        }
    }
}

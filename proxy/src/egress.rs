//! The one thread that stays in the host's network namespace: it makes sockets there, resolves names, reads the
//! system's trust roots, and hands the results to the workers, whose own sockets belong to the resolver's namespace.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpSocket;
use tokio::sync::{mpsc, oneshot};

use crate::error::BoxError;

/// Questions that may wait for the thread at once; more wait in their askers.
const QUEUE: usize = 1024;

enum Ask {
    Tcp {
        ipv6: bool,
        reply: oneshot::Sender<io::Result<TcpSocket>>,
    },
    Udp {
        ipv6: bool,
        reply: oneshot::Sender<io::Result<std::net::UdpSocket>>,
    },
    Resolve {
        host: String,
        reply: oneshot::Sender<Result<Resolved, BoxError>>,
    },
    Trust {
        reply: oneshot::Sender<Result<Arc<ClientConfig>, BoxError>>,
    },
    NameServers(Vec<SocketAddr>),
}

/// Addresses of a name and until when they hold.
#[derive(Debug, Clone)]
pub(crate) struct Resolved {
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) valid_until: Instant,
}

/// The way to the thread. The thread ends when the last one is dropped.
#[derive(Debug, Clone)]
pub struct Egress {
    asks: mpsc::Sender<Ask>,
}

impl Egress {
    /// Starts the thread. `prepare` runs on it first: it confines the thread, or does nothing in tests.
    ///
    /// # Errors
    /// When the thread or its runtime can't be made.
    pub fn start(
        prepare: impl FnOnce() -> Result<(), crate::confine::ConfineError> + Send + 'static,
    ) -> io::Result<(Self, JoinHandle<()>)> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (asks, queue) = mpsc::channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name("egress".to_owned())
            .spawn(move || {
                if let Err(error) = prepare() {
                    let error = linkspan_telemetry::chain(&error);
                    tracing::error!(%error, "the egress thread can't be confined and does not start");
                    return;
                }
                tokio::task::LocalSet::new().block_on(&runtime, serve(queue));
            })?;
        Ok((Self { asks }, thread))
    }

    /// A TCP socket in the host's namespace, of the family of `peer`, not yet connected.
    ///
    /// # Errors
    /// When the kernel refuses, for want of descriptors as a rule.
    pub async fn tcp(&self, peer: IpAddr) -> io::Result<TcpSocket> {
        let ipv6 = peer.is_ipv6();
        self.ask(|reply| Ask::Tcp { ipv6, reply }).await?
    }

    /// A non-blocking UDP socket in the host's namespace, of the family of `peer`, on a port of the kernel's choice.
    ///
    /// # Errors
    /// When the kernel refuses, for want of descriptors or ports as a rule.
    pub async fn udp(&self, peer: IpAddr) -> io::Result<std::net::UdpSocket> {
        let ipv6 = peer.is_ipv6();
        self.ask(|reply| Ask::Udp { ipv6, reply }).await?
    }

    /// A TCP socket for connecting to an endpoint. Loopback is the host's: who lives there shares the host's network,
    /// as a container with `network_mode: host` does. All others are reached from the namespace that we are in.
    pub(crate) async fn tcp_towards(&self, endpoint: IpAddr) -> io::Result<TcpSocket> {
        match endpoint {
            _ if endpoint.to_canonical().is_loopback() => self.tcp(endpoint).await,
            IpAddr::V4(_) => TcpSocket::new_v4(),
            IpAddr::V6(_) => TcpSocket::new_v6(),
        }
    }

    /// A UDP socket for an endpoint, by the same rule.
    pub(crate) async fn udp_towards(&self, endpoint: IpAddr) -> io::Result<std::net::UdpSocket> {
        if endpoint.to_canonical().is_loopback() {
            self.udp(endpoint).await
        } else {
            udp(endpoint.is_ipv6())
        }
    }

    /// The addresses of a host elsewhere.
    pub(crate) async fn resolve(&self, host: &str) -> Result<Resolved, BoxError> {
        let host = host.to_owned();
        self.ask(|reply| Ask::Resolve { host, reply }).await?
    }

    /// A TLS client's configuration that trusts what the system trusts.
    pub(crate) async fn trust(&self) -> Result<Arc<ClientConfig>, BoxError> {
        self.ask(|reply| Ask::Trust { reply }).await?
    }

    /// From now on names are asked of these; of the system's servers when there are none.
    pub(crate) fn name_servers(&self, servers: Vec<SocketAddr>) {
        if self.asks.try_send(Ask::NameServers(servers)).is_err() {
            tracing::warn!("the egress thread is busy; name servers stay as they were");
        }
    }

    async fn ask<T>(&self, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> io::Result<T> {
        let gone = || io::Error::new(io::ErrorKind::BrokenPipe, "the egress thread is gone");
        let (reply, answer) = oneshot::channel();
        self.asks.send(ask(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())
    }
}

async fn serve(mut queue: mpsc::Receiver<Ask>) {
    let mut servers = Vec::new();
    let mut resolver: Option<Arc<TokioResolver>> = None;
    let mut trust: Option<Arc<ClientConfig>> = None;
    // An asker that gave up is no error, hence the `.ok()`s.
    while let Some(ask) = queue.recv().await {
        match ask {
            Ask::Tcp { ipv6, reply } => {
                reply
                    .send(if ipv6 {
                        TcpSocket::new_v6()
                    } else {
                        TcpSocket::new_v4()
                    })
                    .ok();
            }
            Ask::Udp { ipv6, reply } => {
                reply.send(udp(ipv6)).ok();
            }
            Ask::Resolve { host, reply } => {
                let built = match &resolver {
                    Some(resolver) => Ok(Arc::clone(resolver)),
                    None => self::resolver(&servers).map(Arc::new),
                };
                match built {
                    Ok(built) => {
                        resolver = Some(Arc::clone(&built));
                        tokio::task::spawn_local(
                            async move { reply.send(resolve(&built, &host).await).ok() },
                        );
                    }
                    Err(error) => {
                        reply.send(Err(error)).ok();
                    }
                }
            }
            Ask::Trust { reply } => {
                let built = match &trust {
                    Some(trust) => Ok(Arc::clone(trust)),
                    None => system_trust(),
                };
                trust = built.as_ref().ok().cloned();
                reply.send(built).ok();
            }
            Ask::NameServers(now) => {
                if now != servers {
                    servers = now;
                    resolver = None;
                }
            }
        }
    }
}

fn udp(ipv6: bool) -> io::Result<std::net::UdpSocket> {
    let any: IpAddr = if ipv6 {
        Ipv6Addr::UNSPECIFIED.into()
    } else {
        Ipv4Addr::UNSPECIFIED.into()
    };
    let socket = std::net::UdpSocket::bind((any, 0))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn resolver(servers: &[SocketAddr]) -> Result<TokioResolver, BoxError> {
    if servers.is_empty() {
        return Ok(TokioResolver::builder_tokio()?.build()?);
    }
    let server = |address: &SocketAddr| {
        let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
        for connection in &mut connections {
            connection.port = address.port();
        }
        NameServerConfig::new(address.ip(), true, connections)
    };
    let config = ResolverConfig::from_name_servers(servers.iter().map(server).collect());
    Ok(TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()).build()?)
}

async fn resolve(resolver: &TokioResolver, host: &str) -> Result<Resolved, BoxError> {
    let found = resolver.lookup_ip(host).await?;
    Ok(Resolved {
        addresses: found.iter().collect(),
        valid_until: found.valid_until(),
    })
}

fn system_trust() -> Result<Arc<ClientConfig>, BoxError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(found.certs);
    if usable == 0 {
        let missing = "no trusted certificates on this system: install the package `ca-certificates`";
        return Err(found
            .errors
            .into_iter()
            .next()
            .map_or_else(|| missing.into(), BoxError::from));
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

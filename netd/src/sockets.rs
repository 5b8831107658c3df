//! Listening sockets: bound here with privilege, served by the proxy, held by both so that either may die.

mod holder;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::Path;

use linkspan_api::feed::{SocketId, SocketKind};
use linkspan_plan::{HostPort, LINK_PREFIX, RESOLVER_ADDRESS};
use linkspan_site::Protocol;
use nix::sched::{CloneFlags, setns};
use socket2::{Domain, Socket, Type};

/// Connections that the kernel holds for a listener until they are accepted; it clamps to `net.core.somaxconn`.
const BACKLOG: i32 = 4_096;

/// A socket that can't be had.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Somebody else has the port.
    #[error("{address}/{protocol} is held by {holder}; stop it or choose another port")]
    Taken {
        /// Where.
        address: SocketAddr,
        /// `tcp` or `udp`.
        protocol: &'static str,
        /// `nginx (pid 42)`.
        holder: String,
    },
    /// The address is none of this host's.
    #[error("{address}/{protocol} can't be had: {} is no address of this host, which has {own}", .address.ip())]
    NotOurs {
        /// Where.
        address: SocketAddr,
        /// `tcp` or `udp`.
        protocol: &'static str,
        /// Those of the same family.
        own: String,
    },
    /// Anything else.
    #[error("cannot listen on {address}/{protocol}")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// `tcp` or `udp`.
        protocol: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The resolver's namespace can't be entered.
    #[error("cannot open the resolver's sockets in its network namespace")]
    Resolver(#[source] io::Error),
}

/// Every socket that is held, by what it is for.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    /// Served by the proxy.
    pub(crate) served: BTreeMap<SocketId, OwnedFd>,
    /// Only held, so that nobody else takes a port whose packets NAT leads away.
    reserved: BTreeMap<HostPort, OwnedFd>,
}

impl Sockets {
    /// Takes over what a proxy that outlived us sends back.
    pub(crate) fn adopt(&mut self, sockets: impl IntoIterator<Item = (SocketId, OwnedFd)>) {
        self.served.extend(sockets);
    }

    /// Binds the listeners of one kind on one address, one for each shard, or none of them.
    pub(crate) fn listen(
        &mut self,
        kind: SocketKind,
        address: SocketAddr,
        shards: u32,
    ) -> Result<bool, SocketError> {
        let id = |shard| SocketId { kind, address, shard };
        // How many there are was fixed by the first bind: with SO_REUSEPORT, one more takes its share at once.
        if self.served.contains_key(&id(0)) {
            return Ok(false);
        }
        let bound = bind_shards(kind, address, shards)?;
        self.served.extend(
            bound
                .into_iter()
                .zip(0..)
                .map(|(socket, shard)| (id(shard), socket)),
        );
        Ok(true)
    }

    /// Binds the DNS sockets in the resolver's namespace.
    pub(crate) fn listen_resolver(&mut self, namespace: &Path) -> Result<bool, SocketError> {
        let address = SocketAddr::new(IpAddr::V4(RESOLVER_ADDRESS), 53);
        let missing: Vec<SocketKind> = [SocketKind::DnsUdp, SocketKind::DnsTcp]
            .into_iter()
            .filter(|kind| {
                !self.served.contains_key(&SocketId {
                    kind: *kind,
                    address,
                    shard: 0,
                })
            })
            .collect();
        if missing.is_empty() {
            return Ok(false);
        }
        let file = File::open(namespace).map_err(SocketError::Resolver)?;
        // A thread of its own enters the namespace and ends: the runtime's threads never leave theirs.
        let made = std::thread::spawn(move || -> Result<Vec<(SocketKind, OwnedFd)>, SocketError> {
            setns(&file, CloneFlags::CLONE_NEWNET).map_err(|errno| SocketError::Resolver(errno.into()))?;
            missing
                .into_iter()
                .map(|kind| bind(kind, address, 0, 1).map(|socket| (kind, socket)))
                .collect()
        })
        .join()
        .map_err(|_| SocketError::Resolver(io::Error::other("the thread in the namespace failed")))??;
        self.served.extend(made.into_iter().map(|(kind, socket)| {
            (
                SocketId {
                    kind,
                    address,
                    shard: 0,
                },
                socket,
            )
        }));
        Ok(true)
    }

    /// Is this host port, on this address or on one that includes it, ours already? Then the next pass sorts it out.
    pub(crate) fn has_like(&self, port: &HostPort) -> bool {
        let alike = |other: &HostPort| {
            other.protocol == port.protocol
                && other.address.port() == port.address.port()
                && other.address.is_ipv4() == port.address.is_ipv4()
        };
        self.reserved.keys().any(alike)
            || self
                .served
                .keys()
                .filter_map(host_port)
                .any(|other| alike(&other))
    }

    /// Holds a host port: as a listener of the proxy on loopback, as a mere reservation elsewhere.
    pub(crate) fn hold(&mut self, port: HostPort, shards: u32) -> Result<bool, SocketError> {
        if port.is_forwarded() {
            return match port.protocol {
                Protocol::Tcp => self.listen(SocketKind::Tcp, port.address, shards),
                // One socket for all datagrams of a port: flows are kept in one table.
                Protocol::Udp => self.listen(SocketKind::Udp, port.address, 1),
                // NAT only: kernels seldom have its sockets, so there is nothing to hold.
                Protocol::Sctp => Ok(false),
            };
        }
        if let Entry::Vacant(free) = self.reserved.entry(port) {
            free.insert(reserve(port)?);
        }
        Ok(false)
    }

    /// Lets go of host ports that nobody publishes any more. Answers whether the proxy's list changed.
    pub(crate) fn keep_ports(&mut self, wanted: &BTreeSet<HostPort>) -> bool {
        self.reserved.retain(|port, _| wanted.contains(port));
        let before = self.served.len();
        self.served.retain(|id, _| match host_port(id) {
            Some(port) => wanted.contains(&port),
            None => true,
        });
        before != self.served.len()
    }
}

/// The published port that a socket is for, if it is for one.
pub(crate) fn host_port(id: &SocketId) -> Option<HostPort> {
    let protocol = match id.kind {
        SocketKind::Tcp => Protocol::Tcp,
        SocketKind::Udp => Protocol::Udp,
        SocketKind::Http | SocketKind::Https | SocketKind::DnsUdp | SocketKind::DnsTcp => return None,
    };
    Some(HostPort {
        protocol,
        address: id.address,
    })
}

fn bind_shards(kind: SocketKind, address: SocketAddr, shards: u32) -> Result<Vec<OwnedFd>, SocketError> {
    (0..shards.max(1))
        .map(|shard| bind(kind, address, shard, shards))
        .collect()
}

/// Binds and listens. The first of several shards is bound *without* SO_REUSEPORT, which a second program could share in
/// silence, and gets the option only then: so a port that anybody holds is refused, and nothing has to be closed and
/// bound anew (a child that is being started may hold a copy of a closed socket for a moment).
fn bind(kind: SocketKind, address: SocketAddr, shard: u32, shards: u32) -> Result<OwnedFd, SocketError> {
    let stream = !matches!(kind, SocketKind::Udp | SocketKind::DnsUdp);
    let open = || -> io::Result<Socket> {
        let kind = if stream { Type::STREAM } else { Type::DGRAM };
        let socket = Socket::new(Domain::for_address(address), kind.nonblocking(), None)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        if stream {
            socket.set_reuse_address(true)?;
        }
        if shard > 0 {
            socket.set_reuse_port(true)?;
        }
        socket.bind(&address.into())?;
        if shard == 0 && shards > 1 {
            socket.set_reuse_port(true)?;
        }
        if stream {
            socket.listen(BACKLOG)?;
        }
        Ok(socket)
    };
    open()
        .map(OwnedFd::from)
        .map_err(|source| refused(address, stream, source))
}

/// Holds a port without listening: connections to it are NAT's, not ours.
fn reserve(port: HostPort) -> Result<OwnedFd, SocketError> {
    let stream = port.protocol == Protocol::Tcp;
    let open = || -> io::Result<Socket> {
        let kind = if stream { Type::STREAM } else { Type::DGRAM };
        let socket = Socket::new(Domain::for_address(port.address), kind, None)?;
        if port.address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        // Without SO_REUSEADDR, which would let a server that sets it listen here all the same.
        socket.bind(&port.address.into())?;
        Ok(socket)
    };
    open()
        .map(OwnedFd::from)
        .map_err(|source| refused(port.address, stream, source))
}

fn refused(address: SocketAddr, stream: bool, source: io::Error) -> SocketError {
    let protocol = if stream { "tcp" } else { "udp" };
    match source.kind() {
        io::ErrorKind::AddrInUse => {
            let holder = holder::holder(address, stream);
            SocketError::Taken {
                address,
                protocol,
                holder: holder.unwrap_or_else(|| "another program (`ss -lnp` names it)".to_owned()),
            }
        }
        io::ErrorKind::AddrNotAvailable => SocketError::NotOurs {
            address,
            protocol,
            own: own_addresses(address.is_ipv4()),
        },
        _ => SocketError::Bind {
            address,
            protocol,
            source,
        },
    }
}

/// The host's addresses of one family, but for those on our own links, which nobody publishes on.
fn own_addresses(v4: bool) -> String {
    let all = nix::ifaddrs::getifaddrs().into_iter().flatten();
    let all = all.filter(|one| !one.interface_name.starts_with(LINK_PREFIX));
    let addresses: BTreeSet<IpAddr> = all
        .filter_map(|one| {
            let address = one.address?;
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
        })
        // A link-local address is none without its link.
        .filter(|ip| ip.is_ipv4() == v4 && !matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local()))
        .collect();
    match addresses.len() {
        0 => "none of that family".to_owned(),
        _ => addresses
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_another_program_listens_on_is_named_and_nothing_is_held() {
        let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = HostPort {
            protocol: Protocol::Tcp,
            address: other.local_addr().unwrap(),
        };
        let mut sockets = Sockets::default();
        let error = sockets.hold(port, 2).unwrap_err();
        assert!(matches!(error, SocketError::Taken { .. }), "{error}");
        let own = format!("(pid {})", std::process::id());
        assert!(error.to_string().contains(&own), "{error}");
        assert!(sockets.served.is_empty());
    }

    #[test]
    fn an_address_of_somebody_else_is_told_from_those_that_can_be_had() {
        for (protocol, word) in [(Protocol::Tcp, "tcp"), (Protocol::Udp, "udp")] {
            let port = HostPort {
                protocol,
                address: "192.0.2.77:80".parse().unwrap(),
            };
            let error = Sockets::default().hold(port, 1).unwrap_err().to_string();
            let begin = format!(
                "192.0.2.77:80/{word} can't be had: 192.0.2.77 is no address of this host, which has 127."
            );
            assert!(error.starts_with(&begin), "{error}");
        }
    }

    #[test]
    fn shards_of_one_address_are_bound_once_and_let_go_together() {
        let free = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let port = HostPort {
            protocol: Protocol::Tcp,
            address: free,
        };
        let mut sockets = Sockets::default();
        assert!(sockets.hold(port, 2).unwrap());
        assert!(!sockets.hold(port, 2).unwrap());
        assert_eq!(sockets.served.len(), 2);
        assert!(sockets.keep_ports(&BTreeSet::new()));
        assert!(std::net::TcpListener::bind(free).is_ok());
    }
}

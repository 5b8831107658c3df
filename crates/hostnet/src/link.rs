//! Links, addresses and routes of one network namespace, over one socket of `rtnetlink`.

mod address;
mod connected;
mod neighbour;
mod number;
mod route;
mod rule;

use std::io;
use std::os::fd::{FromRawFd, IntoRawFd};
use std::path::Path;

use futures_util::TryStreamExt;
use linkspan_site::{IpvlanMode, MacvlanMode};
use nix::errno::Errno;
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::link::{
    AfSpecInet, AfSpecInet6, AfSpecUnspec, InfoBridgePort, InfoData, InfoIpVlan, InfoKind, InfoMacVlan,
    InfoPortData, IpVlanMode, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, MacVlanMode, State,
};
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{Socket, TokioSocket};
use rtnetlink::{Error, Handle};
use tokio::task::JoinHandle;

use crate::{KernelError, NamespaceError, netns};

pub(crate) use address::{Address, Holding};
pub(crate) use connected::{Connected, Maker, Neighbours};
pub(crate) use neighbour::hex;
pub(crate) use route::{Listing, Route, RouteKind, ip};
pub(crate) use rule::Rule;

/// Marks what we set (`IFA_PROTO`, `rtm_protocol`), so that we know it again. Unassigned in iproute2's `rt_protos`.
pub(crate) const MARK: u8 = 76;

/// A handle on a namespace's links.
#[derive(Debug)]
pub(crate) struct Links {
    handle: Handle,
    connection: JoinHandle<()>,
}

impl Drop for Links {
    fn drop(&mut self) {
        // It would end by itself with the last handle; this also covers a runtime that is shutting down.
        self.connection.abort();
    }
}

/// A link as far as we care.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// As set by people.
    pub(crate) up: bool,
    /// As found by the kernel: up and with carrier, its queue working.
    pub(crate) running: bool,
    pub(crate) mtu: u32,
    /// Index of the bridge it is a port of.
    pub(crate) master: Option<u32>,
    pub(crate) mac: Vec<u8>,
    /// Index of the link that it lies on, in the namespace of that one.
    pub(crate) parent: Option<u32>,
    /// As a port of a bridge: does it reach only ports that are not isolated?
    pub(crate) isolated: bool,
    /// Does the host pass on what comes in by it?
    pub(crate) forwards4: bool,
    /// Same, IPv6; absent where the link has none.
    pub(crate) forwards6: Option<bool>,
    /// Does it take IPv6 addresses?
    pub(crate) speaks6: bool,
}

impl Link {
    pub(crate) fn read(message: &LinkMessage) -> Self {
        let mut link = Self {
            index: message.header.index,
            up: message.header.flags.contains(LinkFlags::Up),
            ..Self::default()
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::Link(index) => link.parent = Some(*index),
                LinkAttribute::AfSpecUnspec(families) => read_families(&mut link, families),
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::Controller(index) if *index != 0 => link.master = Some(*index),
                LinkAttribute::Address(mac) => link.mac.clone_from(mac),
                LinkAttribute::OperState(state) => link.running = *state == State::Up,
                LinkAttribute::LinkInfo(infos) => read_infos(&mut link, infos),
                _ => {}
            }
        }
        link
    }
}

/// The kinds of links that we make.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    Bridge,
    Veth,
    Macvlan(MacvlanMode),
    Ipvlan(IpvlanMode),
    #[default]
    Other,
}

impl Links {
    /// Those of the calling thread's namespace.
    pub(crate) fn here() -> io::Result<Self> {
        Ok(Self::over(route_socket()?))
    }

    /// Those of the namespace pinned at `path`.
    pub(crate) async fn within(path: &Path) -> Result<Self, NamespaceError> {
        Ok(Self::over(netns::within(path, route_socket).await?))
    }

    /// Those of the namespace in which the socket was opened.
    pub(crate) fn over(socket: Socket) -> Self {
        let (connection, handle, _) = rtnetlink::from_socket(into_tokio(socket));
        Self {
            handle,
            connection: tokio::spawn(connection),
        }
    }

    pub(crate) async fn list(&self) -> Result<Vec<Link>, KernelError> {
        let links: Result<Vec<_>, _> = self
            .handle
            .link()
            .get()
            .execute()
            .map_ok(|link| Link::read(&link))
            .try_collect()
            .await;
        links.map_err(refused("list", "links"))
    }

    pub(crate) async fn find(&self, name: &str) -> Result<Option<Link>, KernelError> {
        let mut answer = std::pin::pin!(self.handle.link().get().match_name(name).execute());
        match answer.try_next().await {
            Ok(link) => Ok(link.map(|link| Link::read(&link))),
            Err(error) if errno(&error) == Some(Errno::ENODEV) => Ok(None),
            Err(error) => Err(refused("find", name)(error)),
        }
    }

    /// Makes a link; `false` when one of that name is there already.
    pub(crate) async fn add(&self, name: &str, message: LinkMessage) -> Result<bool, KernelError> {
        match self.handle.link().add(message).execute().await {
            Ok(()) => Ok(true),
            Err(error) if errno(&error) == Some(Errno::EEXIST) => Ok(false),
            Err(error) => Err(refused("create link", name)(error)),
        }
    }

    /// Changes a link.
    pub(crate) async fn set(&self, name: &str, message: LinkMessage) -> Result<(), KernelError> {
        self.handle
            .link()
            .set(message)
            .execute()
            .await
            .map_err(refused("change link", name))
    }

    /// Changes a link in its part as a port of a bridge.
    pub(crate) async fn set_port(&self, name: &str, message: LinkMessage) -> Result<(), KernelError> {
        self.handle
            .link()
            .set_port(message)
            .execute()
            .await
            .map_err(refused("change bridge port", name))
    }

    /// Removes a link, if it is there.
    pub(crate) async fn delete(&self, name: &str) -> Result<(), KernelError> {
        let Some(link) = self.find(name).await? else {
            return Ok(());
        };
        match self.handle.link().del(link.index).execute().await {
            Err(error) if errno(&error) != Some(Errno::ENODEV) => Err(refused("delete link", name)(error)),
            _ => Ok(()),
        }
    }
}

/// A socket in the namespace of the calling thread.
pub(crate) fn route_socket() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.set_non_blocking(true)?;
    socket.bind_auto()?;
    Ok(socket)
}

/// The only way that `netlink-sys` has to make a socket of its own for tokio out of one opened elsewhere.
#[allow(unsafe_code)]
fn into_tokio(socket: Socket) -> TokioSocket {
    // SAFETY: the descriptor comes from a socket that gives it up here, so it is open and nobody else's.
    unsafe { TokioSocket::from_raw_fd(socket.into_raw_fd()) }
}

pub(crate) fn refused(action: &'static str, object: &str) -> impl FnOnce(Error) -> KernelError {
    let object = object.to_owned();
    move |error| KernelError {
        action,
        object,
        source: into_io(error),
    }
}

pub(crate) fn errno(error: &Error) -> Option<Errno> {
    match error {
        Error::NetlinkError(message) => Some(Errno::from_raw(message.raw_code().abs())),
        _ => None,
    }
}

fn into_io(error: Error) -> io::Error {
    match error {
        Error::NetlinkError(message) => message.to_io(),
        Error::UnexpectedMessage(message) => match message.payload {
            NetlinkPayload::Overrun(_) => Errno::ENOBUFS.into(),
            other => io::Error::other(format!("unexpected answer {other:?}")),
        },
        other => io::Error::other(other),
    }
}

fn read_infos(link: &mut Link, infos: &[LinkInfo]) {
    for info in infos {
        match info {
            LinkInfo::Kind(InfoKind::Bridge) => link.kind = Kind::Bridge,
            LinkInfo::Kind(InfoKind::Veth) => link.kind = Kind::Veth,
            LinkInfo::Data(InfoData::MacVlan(parts)) => {
                link.kind = parts.iter().find_map(macvlan).unwrap_or_default();
            }
            LinkInfo::Data(InfoData::IpVlan(parts)) => {
                link.kind = parts.iter().find_map(ipvlan).unwrap_or_default();
            }
            LinkInfo::PortData(InfoPortData::BridgePort(port)) => {
                link.isolated = port.contains(&InfoBridgePort::Isolated(true));
            }
            _ => {}
        }
    }
}

fn read_families(link: &mut Link, families: &[AfSpecUnspec]) {
    for family in families {
        match family {
            AfSpecUnspec::Inet(parts) => {
                link.forwards4 = parts
                    .iter()
                    .any(|part| matches!(part, AfSpecInet::DevConf(conf) if conf.forwarding != 0));
            }
            AfSpecUnspec::Inet6(parts) => {
                let conf = parts.iter().find_map(|part| match part {
                    AfSpecInet6::DevConf(conf) => Some(conf),
                    _ => None,
                });
                link.forwards6 = conf.map(|conf| conf.forwarding != 0);
                link.speaks6 = conf.is_some_and(|conf| conf.disable_ipv6 == 0);
            }
            _ => {}
        }
    }
}

fn macvlan(part: &InfoMacVlan) -> Option<Kind> {
    match part {
        InfoMacVlan::Mode(MacVlanMode::Bridge) => Some(Kind::Macvlan(MacvlanMode::Bridge)),
        InfoMacVlan::Mode(MacVlanMode::Private) => Some(Kind::Macvlan(MacvlanMode::Private)),
        InfoMacVlan::Mode(MacVlanMode::Vepa) => Some(Kind::Macvlan(MacvlanMode::Vepa)),
        InfoMacVlan::Mode(MacVlanMode::Passthrough) => Some(Kind::Macvlan(MacvlanMode::Passthru)),
        _ => None,
    }
}

fn ipvlan(part: &InfoIpVlan) -> Option<Kind> {
    match part {
        InfoIpVlan::Mode(IpVlanMode::L2) => Some(Kind::Ipvlan(IpvlanMode::L2)),
        InfoIpVlan::Mode(IpVlanMode::L3) => Some(Kind::Ipvlan(IpvlanMode::L3)),
        _ => None,
    }
}

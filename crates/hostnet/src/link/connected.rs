//! Routes that lead to neighbours on a link itself: those that come with addresses, and ours beside them.

use std::net::{IpAddr, Ipv4Addr};

use futures_util::StreamExt;
use ipnetwork::{IpNetwork, Ipv4Network};
use nix::errno::Errno;
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::route::{
    RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{Error, RouteMessageBuilder};

use super::route::{TABLE_LOCAL, ip};
use super::{Link, Links, MARK, errno, refused};
use crate::KernelError;

/// The metric that the kernel gives an IPv6 route that comes with an address (`IP6_RT_PRIO_ADDRCONF`).
const METRIC6: u32 = 256;

/// A route of the main table over one link, without a gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Connected {
    /// Index of the link.
    pub(crate) link: u32,
    pub(crate) to: IpNetwork,
    /// What packets that are begun by it come from, where that is said.
    pub(crate) source: Option<IpAddr>,
    pub(crate) maker: Maker,
    message: RouteMessage,
}

/// Who made a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Maker {
    /// The kernel, with an address.
    Kernel,
    /// We.
    Us,
    /// Somebody else, for purposes of his own.
    Other,
}

impl Maker {
    fn of(protocol: RouteProtocol) -> Self {
        match u8::from(protocol) {
            MARK => Self::Us,
            _ if protocol == RouteProtocol::Kernel => Self::Kernel,
            _ => Self::Other,
        }
    }
}

impl Connected {
    pub(crate) fn is_ours(&self) -> bool {
        self.maker == Maker::Us
    }

    /// Reads one; absent when the message is about another kind of route.
    pub(crate) fn read(message: &RouteMessage) -> Option<Self> {
        if message.header.kind != RouteType::Unicast {
            return None;
        }
        let mut table = u32::from(message.header.table);
        let (mut to, mut link, mut source) = (None, None, None);
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Gateway(_)
                | RouteAttribute::Via(_)
                | RouteAttribute::MultiPath(_)
                | RouteAttribute::NhId(_) => return None,
                RouteAttribute::Destination(address) => to = ip(address),
                RouteAttribute::Oif(index) => link = Some(*index),
                RouteAttribute::PrefSource(address) => source = ip(address),
                RouteAttribute::Table(number) => table = *number,
                _ => {}
            }
        }
        let to = IpNetwork::new(to?, message.header.destination_prefix_length).ok()?;
        let link_local = matches!(to.ip(), IpAddr::V6(ip) if ip.is_unicast_link_local());
        (table == u32::from(RouteHeader::RT_TABLE_MAIN) && !link_local).then_some(Self {
            link: link?,
            to,
            source,
            maker: Maker::of(message.header.protocol),
            message: message.clone(),
        })
    }
}

/// A route to neighbours as it is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Neighbours {
    pub(crate) to: IpNetwork,
    /// What packets that are begun by it come from; for the kernel to choose where it is absent.
    pub(crate) source: Option<IpAddr>,
    /// Does it come with an address? Then it goes with the address too.
    pub(crate) with_address: bool,
}

impl Neighbours {
    /// Does this route do?
    pub(crate) fn is(&self, found: &Connected) -> bool {
        self.leads(found.to, found.source)
    }

    /// Does a route with this destination and this source do?
    pub(crate) fn leads(&self, to: IpNetwork, source: Option<IpAddr>) -> bool {
        self.to == to && (self.source.is_none() || self.source == source)
    }

    fn message(&self, link: &Link) -> RouteMessage {
        let mut message = RouteMessageBuilder::<IpAddr>::new()
            .output_interface(link.index)
            .protocol(if self.with_address {
                RouteProtocol::Kernel
            } else {
                RouteProtocol::Other(MARK)
            })
            .build();
        let mut attributes = vec![RouteAttribute::Destination(self.to.network().into())];
        attributes.extend(
            self.source
                .map(|source| RouteAttribute::PrefSource(source.into())),
        );
        match self.to {
            IpNetwork::V4(_) => {
                message.header.address_family = AddressFamily::Inet;
                message.header.scope = RouteScope::Link;
            }
            IpNetwork::V6(_) => {
                message.header.address_family = AddressFamily::Inet6;
                attributes.extend(self.with_address.then_some(RouteAttribute::Priority(METRIC6)));
            }
        }
        message.header.destination_prefix_length = self.to.prefix();
        message.attributes.extend(attributes);
        message
    }
}

impl Links {
    /// Routes over one link that came with addresses or that we set.
    pub(crate) async fn connected(&self, link: &Link) -> Result<Vec<Connected>, KernelError> {
        let (_, mut connected) = self.routes().await?;
        connected.retain(|route| route.link == link.index && route.maker != Maker::Other);
        Ok(connected)
    }

    /// Sets a route, in place of the one that leads to the same neighbours.
    pub(crate) async fn reconnect(&self, link: &Link, route: Neighbours) -> Result<(), KernelError> {
        self.set_route(&route.message(link), NLM_F_REPLACE)
            .await
            .map_err(refused("set the route to", &route.to.to_string()))
    }

    /// Adds a route. If somebody else's leads to the same place, that one keeps its precedence.
    pub(crate) async fn connect(&self, link: &Link, route: Neighbours) -> Result<(), KernelError> {
        let mut messages = vec![route.message(link)];
        if let (true, IpNetwork::V4(range), Some(IpAddr::V4(source))) =
            (route.with_address, route.to, route.source)
        {
            let mut with_source = broadcast(link.index, range.broadcast());
            let source = RouteAttribute::PrefSource(IpAddr::from(source).into());
            with_source.attributes.push(source);
            messages.push(with_source);
        }
        for message in messages {
            match self.set_route(&message, NLM_F_APPEND).await {
                Err(error) if errno(&error) != Some(Errno::EEXIST) => {
                    return Err(refused("set the route to", &route.to.to_string())(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    async fn set_route(&self, message: &RouteMessage, how: u16) -> Result<(), Error> {
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::NewRoute(message.clone()));
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | how;
        let mut answers = self.handle.clone().request(request)?;
        while let Some(answer) = answers.next().await {
            if let NetlinkPayload::Error(error) = answer.payload
                && error.code.is_some()
            {
                return Err(Error::NetlinkError(error));
            }
        }
        Ok(())
    }

    /// Removes a route, if it is there.
    pub(crate) async fn disconnect(&self, route: Connected) -> Result<(), KernelError> {
        self.remove_route(route.message, route.to).await
    }

    /// Takes the broadcast addresses of a range from a link that has no part in it any more.
    pub(crate) async fn forget_broadcast(&self, link: &Link, range: Ipv4Network) -> Result<(), KernelError> {
        for ip in [range.broadcast(), range.network()] {
            self.remove_route(broadcast(link.index, ip), range.into()).await?;
        }
        Ok(())
    }

    async fn remove_route(&self, message: RouteMessage, to: IpNetwork) -> Result<(), KernelError> {
        match self.handle.route().del(message).execute().await {
            Err(error) if errno(&error) != Some(Errno::ESRCH) => {
                Err(refused("remove the route to", &to.to_string())(error))
            }
            _ => Ok(()),
        }
    }
}

fn broadcast(link: u32, ip: Ipv4Addr) -> RouteMessage {
    RouteMessageBuilder::<Ipv4Addr>::new()
        .table_id(TABLE_LOCAL)
        .kind(RouteType::Broadcast)
        .scope(RouteScope::Link)
        .protocol(RouteProtocol::Kernel)
        .destination_prefix(ip, 32)
        .output_interface(link)
        .build()
}

//! Routes: the few that we set, and all that others have.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures_util::TryStreamExt;
use ipnetwork::IpNetwork;
use nix::errno::Errno;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteNextHop, RouteProtocol,
    RouteType,
};

use super::{Connected, Link, Links, MARK, errno, refused};
use crate::KernelError;
use crate::mirror::RouteKey;

/// `RT_TABLE_LOCAL` of `linux/rtnetlink.h`: the host's own addresses, kept by the kernel.
pub(super) const TABLE_LOCAL: u32 = 255;

/// A route of somebody, in any table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) to: IpNetwork,
    pub(crate) table: u32,
    /// Indexes of the links that it leads over; none for routes that drop.
    pub(crate) links: Vec<u32>,
    /// The routers to whom packets are handed.
    pub(crate) gateways: Vec<IpAddr>,
    pub(crate) kind: RouteKind,
    /// The kernel's object that says where it leads (`ip nexthop`); it resolves it into links, unless
    /// `net.ipv4.nexthop_compat_mode` is off.
    pub(crate) next_hop: Option<u32>,
}

impl Route {
    /// Reads one; absent when it claims nothing.
    pub(crate) fn read(message: &RouteMessage) -> Option<Self> {
        // Routes to single hosts that the kernel keeps in mind are told apart from those that somebody set.
        if message.header.flags.contains(RouteFlags::Cloned) {
            return None;
        }
        let mut route = Self {
            to: everywhere(message.header.address_family)?,
            table: u32::from(message.header.table),
            links: Vec::new(),
            gateways: Vec::new(),
            kind: RouteKind::of(message.header.kind)?,
            next_hop: None,
        };
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Destination(address) => {
                    route.to = IpNetwork::new(ip(address)?, message.header.destination_prefix_length).ok()?;
                }
                RouteAttribute::Table(table) => route.table = *table,
                RouteAttribute::Oif(index) => route.links.push(*index),
                RouteAttribute::NhId(id) => route.next_hop = Some(*id),
                RouteAttribute::Gateway(gateway) => route.gateways.extend(ip(gateway)),
                RouteAttribute::MultiPath(hops) => {
                    route.links.extend(hops.iter().map(hop_link));
                    route.gateways.extend(hops.iter().filter_map(hop_gateway));
                }
                _ => {}
            }
        }
        // The kernel keeps these for every address. What else is in its table, or of that kind, was set by somebody.
        let of_an_address =
            route.kind == RouteKind::Local && (is_host(route.to) || route.to.ip().is_loopback());
        (!of_an_address).then_some(route)
    }
}

/// A route as it is listed.
#[derive(Debug)]
pub(crate) struct Listing {
    /// Absent for one that leads several ways, or over an object of the kernel's.
    pub(crate) key: Option<RouteKey>,
    pub(crate) route: Option<Route>,
    pub(crate) connected: Option<Connected>,
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RouteKind {
    /// It goes on.
    Unicast,
    /// It is for this host, as somebody says of a whole range.
    Local,
    Blackhole,
    Unreachable,
    Prohibit,
    /// Another table is asked.
    Throw,
}

impl RouteKind {
    /// Does it end here?
    pub(crate) fn drops(self) -> bool {
        matches!(
            self,
            Self::Blackhole | Self::Unreachable | Self::Prohibit | Self::Throw
        )
    }

    fn of(kind: RouteType) -> Option<Self> {
        match kind {
            RouteType::Local => Some(Self::Local),
            RouteType::BlackHole => Some(Self::Blackhole),
            RouteType::Unreachable => Some(Self::Unreachable),
            RouteType::Prohibit => Some(Self::Prohibit),
            RouteType::Throw => Some(Self::Throw),
            RouteType::Broadcast | RouteType::Anycast | RouteType::Multicast => None,
            _ => Some(Self::Unicast),
        }
    }
}

impl Links {
    /// Everything without a closer route goes by `gateway`, and comes from `source` if it is begun here; for IPv6 the
    /// kernel chooses that better by itself.
    pub(crate) async fn default_route(
        &self,
        link: &Link,
        gateway: IpAddr,
        source: Ipv4Addr,
    ) -> Result<(), KernelError> {
        let message = match gateway {
            IpAddr::V4(gateway) => RouteMessageBuilder::<Ipv4Addr>::new()
                .gateway(gateway)
                .pref_source(source)
                .output_interface(link.index)
                .protocol(RouteProtocol::Other(MARK))
                .build(),
            IpAddr::V6(gateway) => RouteMessageBuilder::<Ipv6Addr>::new()
                .gateway(gateway)
                .output_interface(link.index)
                .protocol(RouteProtocol::Other(MARK))
                .build(),
        };
        let object = gateway.to_string();
        self.handle
            .route()
            .add(message)
            .replace()
            .execute()
            .await
            .map_err(refused("set the default route by", &object))
    }

    /// Takes back a default route over this link that we have set, for one family.
    pub(crate) async fn no_default_route(
        &self,
        link: &Link,
        family: AddressFamily,
    ) -> Result<(), KernelError> {
        for message in self.route_messages(family).await? {
            let everywhere = Route::read(&message)
                .is_some_and(|route| route.to.prefix() == 0 && route.links.contains(&link.index));
            if !everywhere || u8::from(message.header.protocol) != MARK {
                continue;
            }
            match self.handle.route().del(message).execute().await {
                Err(error) if errno(&error) != Some(Errno::ESRCH) => {
                    return Err(refused("remove the default route over", &link.name)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Does the kernel take packets for this address as its own? An IPv6 address is given out at once, but comes into
    /// force a moment later, in a task of the kernel's.
    pub(crate) async fn takes(&self, address: Ipv6Addr) -> bool {
        let question = RouteMessageBuilder::<Ipv6Addr>::new()
            .destination_prefix(address, 128)
            .build();
        let mut answer = std::pin::pin!(self.handle.route().get(question).execute());
        // No route at all is an error, and means no.
        matches!(answer.try_next().await, Ok(Some(route)) if route.header.kind == RouteType::Local)
    }

    /// All routes of both families in all tables, the kernel's own ones to the host's addresses left out; and those among
    /// them that lead to neighbours.
    pub(crate) async fn routes(&self) -> Result<(Vec<Route>, Vec<Connected>), KernelError> {
        let (mut routes, mut connected) = (Vec::new(), Vec::new());
        for listing in self.all_routes().await? {
            routes.extend(listing.route);
            connected.extend(listing.connected);
        }
        Ok((routes, connected))
    }

    /// The same, each with what the kernel tells it apart by.
    pub(crate) async fn all_routes(&self) -> Result<Vec<Listing>, KernelError> {
        let mut messages = self.route_messages(AddressFamily::Inet).await?;
        messages.extend(self.route_messages(AddressFamily::Inet6).await?);
        let listing = |message: &RouteMessage| Listing {
            key: RouteKey::of(message),
            route: Route::read(message),
            connected: Connected::read(message),
        };
        Ok(messages.iter().map(listing).collect())
    }

    /// Where routes of the main table lead that are neither ours nor came with an address.
    pub(crate) async fn led_by_others(&self) -> Result<BTreeSet<IpNetwork>, KernelError> {
        let mut messages = self.route_messages(AddressFamily::Inet).await?;
        messages.extend(self.route_messages(AddressFamily::Inet6).await?);
        let others = messages.iter().filter(|message| {
            let protocol = message.header.protocol;
            u8::from(protocol) != MARK && protocol != RouteProtocol::Kernel
        });
        let main = others
            .filter_map(Route::read)
            .filter(|route| route.table == u32::from(RouteHeader::RT_TABLE_MAIN));
        Ok(main.map(|route| route.to).collect())
    }

    async fn route_messages(&self, family: AddressFamily) -> Result<Vec<RouteMessage>, KernelError> {
        let mut request = RouteMessage::default();
        request.header.address_family = family;
        let found = self.handle.route().get(request).execute().try_collect().await;
        found.map_err(refused("list", "routes"))
    }
}

fn is_host(range: IpNetwork) -> bool {
    range.prefix() == if range.is_ipv4() { 32 } else { 128 }
}

fn hop_link(hop: &RouteNextHop) -> u32 {
    hop.interface_index
}

fn hop_gateway(hop: &RouteNextHop) -> Option<IpAddr> {
    hop.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(gateway) => ip(gateway),
        _ => None,
    })
}

fn everywhere(family: AddressFamily) -> Option<IpNetwork> {
    match family {
        AddressFamily::Inet => IpNetwork::new(Ipv4Addr::UNSPECIFIED.into(), 0).ok(),
        AddressFamily::Inet6 => IpNetwork::new(Ipv6Addr::UNSPECIFIED.into(), 0).ok(),
        _ => None,
    }
}

pub(crate) fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some((*ip).into()),
        RouteAddress::Inet6(ip) => Some((*ip).into()),
        _ => None,
    }
}

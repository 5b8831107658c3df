//! The kernel's messages about links, addresses, routes and parameters, one by one.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use rtnetlink::packet_core::{NLM_F_REPLACE, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::link::LinkMessage;
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::link::{Address, Connected, Link, Route};

/// `struct nlmsghdr`.
const HEADER: usize = 16;
/// `RTM_NEWNETCONF` and `RTM_DELNETCONF` of `linux/rtnetlink.h`.
const NETCONF: [u16; 2] = [80, 81];
/// `NETCONFA_*` of `linux/netconf.h`.
const NETCONF_IFINDEX: u16 = 1;
const NETCONF_FORWARDING: u16 = 2;

/// One change.
#[derive(Debug)]
pub(super) enum Change {
    Link(Link),
    LinkGone(u32),
    Address(Address),
    AddressGone {
        link: u32,
        ip: IpNetwork,
    },
    Route(Box<RouteChange>),
    RouteGone(Box<RouteKey>),
    Rules,
    /// Does what comes in by a link go on?
    Forwarding {
        link: u32,
        v4: bool,
        on: bool,
    },
    /// Somewhere a parameter that isn't a link's own.
    Parameters,
    /// Of no concern.
    Nothing,
    /// A change that can't be followed.
    Unclear,
}

/// A route that came or changed.
#[derive(Debug)]
pub(super) struct RouteChange {
    pub(super) key: RouteKey,
    pub(super) route: Option<Route>,
    pub(super) connected: Option<Connected>,
    /// It took the place of another one to the same range.
    pub(super) replaces: bool,
}

/// What the kernel tells two routes apart by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RouteKey {
    pub(crate) table: u32,
    /// Absent for everything there is.
    pub(crate) to: Option<IpNetwork>,
    pub(crate) v4: bool,
    pub(crate) metric: u32,
    tos: u8,
    kind: u8,
    protocol: u8,
    scope: u8,
    pub(crate) source: Option<IpAddr>,
    gateway: Option<IpAddr>,
    /// The link that it leads over; 0 for none.
    pub(crate) link: u32,
}

impl RouteKey {
    /// Absent for a route that leads several ways, or over an object of its own: those are listed.
    pub(crate) fn of(message: &RouteMessage) -> Option<Self> {
        let header = &message.header;
        let mut key = Self {
            table: u32::from(header.table),
            to: None,
            v4: header.address_family == AddressFamily::Inet,
            metric: 0,
            tos: header.tos,
            kind: u8::from(header.kind),
            protocol: u8::from(header.protocol),
            scope: u8::from(header.scope),
            source: None,
            gateway: None,
            link: 0,
        };
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Destination(to) => {
                    let ip = crate::link::ip(to)?;
                    key.to = Some(IpNetwork::new(ip, header.destination_prefix_length).ok()?);
                }
                RouteAttribute::Table(table) => key.table = *table,
                RouteAttribute::Priority(metric) => key.metric = *metric,
                RouteAttribute::PrefSource(source) => key.source = crate::link::ip(source),
                RouteAttribute::Gateway(gateway) => key.gateway = crate::link::ip(gateway),
                RouteAttribute::Oif(link) => key.link = *link,
                RouteAttribute::MultiPath(_) | RouteAttribute::NhId(_) | RouteAttribute::Via(_) => {
                    return None;
                }
                _ => {}
            }
        }
        Some(key)
    }

    /// Do both lead to the same range, with the same right to be asked first?
    pub(super) fn competes(&self, other: &Self) -> bool {
        (self.table, self.to, self.v4, self.metric, self.tos)
            == (other.table, other.to, other.v4, other.metric, other.tos)
    }
}

/// The changes that a datagram tells of.
pub(super) fn changes(mut bytes: &[u8]) -> impl Iterator<Item = Change> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
        let Some(whole) = bytes.get(..length).filter(|_| length >= HEADER) else {
            // Cut short: what the rest was nobody knows.
            bytes = &[];
            return Some(Change::Unclear);
        };
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(change(whole))
    })
}

fn change(bytes: &[u8]) -> Change {
    let kind = bytes.get(4..6).and_then(|kind| kind.try_into().ok());
    if kind.is_some_and(|kind| NETCONF.contains(&u16::from_ne_bytes(kind))) {
        return bytes.get(HEADER..).and_then(parameter).unwrap_or(Change::Nothing);
    }
    let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes) else {
        return Change::Unclear;
    };
    let replaces = message.header.flags & NLM_F_REPLACE != 0;
    let NetlinkPayload::InnerMessage(message) = message.payload else {
        return Change::Nothing;
    };
    match message {
        RouteNetlinkMessage::NewLink(message) if is_own(&message) => Change::Link(Link::read(&message)),
        RouteNetlinkMessage::DelLink(message) if is_own(&message) => Change::LinkGone(message.header.index),
        RouteNetlinkMessage::NewAddress(message) => {
            Address::read(message).map_or(Change::Nothing, Change::Address)
        }
        RouteNetlinkMessage::DelAddress(message) => {
            Address::read(message).map_or(Change::Nothing, |gone| Change::AddressGone {
                link: gone.link,
                ip: gone.ip,
            })
        }
        RouteNetlinkMessage::NewRoute(message) => match RouteKey::of(&message) {
            Some(key) => Change::Route(Box::new(RouteChange {
                key,
                route: Route::read(&message),
                connected: Connected::read(&message),
                replaces,
            })),
            None => Change::Unclear,
        },
        RouteNetlinkMessage::DelRoute(message) => match RouteKey::of(&message) {
            Some(key) => Change::RouteGone(Box::new(key)),
            None => Change::Unclear,
        },
        RouteNetlinkMessage::NewRule(_) | RouteNetlinkMessage::DelRule(_) => Change::Rules,
        _ => Change::Nothing,
    }
}

/// A message about a link itself. Those of a bridge about its ports, and of IPv6 about its part, look alike.
fn is_own(message: &LinkMessage) -> bool {
    message.header.interface_family == AddressFamily::Unspec
}

fn parameter(body: &[u8]) -> Option<Change> {
    // `struct netconfmsg` is one byte, padded.
    let v4 = i32::from(*body.first()?) == nix::libc::AF_INET;
    let attributes = crate::netlink::Attributes(body.get(4..)?);
    let number = |kind| Some(i32::from_ne_bytes(attributes.find(kind)?.try_into().ok()?));
    let on = number(NETCONF_FORWARDING)? != 0;
    Some(match u32::try_from(number(NETCONF_IFINDEX)?) {
        Ok(link) => Change::Forwarding { link, v4, on },
        // All links, or those to come.
        Err(_) => Change::Parameters,
    })
}

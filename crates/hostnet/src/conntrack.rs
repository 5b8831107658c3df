//! Forgets tracked connections that lead to where nobody is any more.
//!
//! A datagram of a flow that the kernel knows goes where the flow's first one went, whatever the maps say now: a
//! client that keeps asking from one port would talk to a removed container for ever. After the flow is forgotten,
//! the next packet is looked up afresh. TCP gains too: instead of silence, the client gets a reset at its next
//! segment.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nix::errno::Errno;

use crate::netlink::{ACK, Attributes, DUMP, Message, NetfilterSocket, Writer};
use crate::nft::Published;

const SUBSYSTEM: u16 = 1;
const GET: u16 = SUBSYSTEM << 8 | 1;
const DELETE: u16 = SUBSYSTEM << 8 | 2;

/// `CTA_*` of `linux/netfilter/nfnetlink_conntrack.h`.
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const ID: u16 = 12;
const ZONE: u16 = 18;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;
const V4_SOURCE: u16 = 1;
const V4_DESTINATION: u16 = 2;
const V6_SOURCE: u16 = 3;
const V6_DESTINATION: u16 = 4;
const PROTOCOL_NUMBER: u16 = 1;
const SOURCE_PORT: u16 = 2;
const DESTINATION_PORT: u16 = 3;

const FAMILIES: [u8; 2] = [nix::libc::AF_INET as u8, nix::libc::AF_INET6 as u8];
const UDP: u8 = 17;
/// Deletions in one datagram.
const AT_ONCE: usize = 500;

/// Which flows are stale.
#[derive(Debug, Default)]
pub(crate) struct Stale {
    /// From, to or translated to one of these.
    pub(crate) addresses: BTreeSet<IpAddr>,
    /// To such a port, but led elsewhere.
    pub(crate) published: Vec<Published>,
    /// To such a port, and led there.
    pub(crate) unpublished: Vec<Published>,
    /// The host's own addresses, to know what *published on all addresses* covers.
    pub(crate) local: BTreeSet<IpAddr>,
}

impl Stale {
    /// What a change of published ports makes stale. Only datagrams: a TCP connection knows by itself that it has ended.
    pub(crate) fn of_ports(published: &[Published], unpublished: &[Published]) -> Self {
        let datagrams = |ports: &[Published]| {
            ports
                .iter()
                .copied()
                .filter(|port| port.protocol == UDP)
                .collect::<Vec<_>>()
        };
        Self {
            published: datagrams(published),
            unpublished: datagrams(unpublished),
            ..Self::default()
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.addresses.is_empty() && self.published.is_empty() && self.unpublished.is_empty()
    }

    fn covers(&self, flow: &Flow) -> bool {
        let ends = [
            flow.original.source,
            flow.original.destination,
            flow.reply.source,
            flow.reply.destination,
        ];
        ends.iter().any(|end| self.addresses.contains(end))
            || self
                .published
                .iter()
                .any(|port| self.is_for(port, flow) && !leads_to(port, flow))
            || self
                .unpublished
                .iter()
                .any(|port| self.is_for(port, flow) && leads_to(port, flow))
    }

    /// Was the flow sent to this published port?
    fn is_for(&self, port: &Published, flow: &Flow) -> bool {
        flow.original.protocol == port.protocol
            && (port.host_port..=port.last_port).contains(&flow.original.destination_port)
            && flow.original.destination.is_ipv4() == port.to_ip.is_ipv4()
            && match port.host_ip {
                Some(ip) => flow.original.destination == ip,
                None => self.local.contains(&flow.original.destination),
            }
    }
}

/// Does the one who answers sit behind this published port? The flow is for it.
fn leads_to(port: &Published, flow: &Flow) -> bool {
    let behind = flow.original.destination_port.wrapping_sub(port.host_port);
    (flow.reply.source, flow.reply.source_port) == (port.to_ip, port.to_port.wrapping_add(behind))
}

/// Forgets what is stale; returns how many flows.
pub(crate) fn flush(socket: &mut NetfilterSocket, stale: &Stale) -> io::Result<usize> {
    let mut found = Vec::new();
    for family in FAMILIES {
        found.extend(list(socket, family, stale)?);
    }
    for flows in found.chunks(AT_ONCE) {
        delete(socket, flows)?;
    }
    Ok(found.len())
}

/// What names a flow in a deletion.
struct Name {
    family: u8,
    original: Vec<u8>,
    id: Option<Vec<u8>>,
    zone: Option<Vec<u8>>,
}

fn list(socket: &mut NetfilterSocket, family: u8, stale: &Stale) -> io::Result<Vec<Name>> {
    let mut request = Writer::default();
    let sequence = socket.next_sequence();
    request.message(GET, DUMP, sequence, family, 0, |_| {});
    socket.request(request.bytes(), Vec::new, |names, message: Message<'_>| {
        let attributes = message.attributes();
        if read(attributes).is_some_and(|flow| stale.covers(&flow)) {
            names.push(Name {
                family,
                original: attributes.find(ORIGINAL).unwrap_or_default().to_vec(),
                id: attributes.find(ID).map(<[u8]>::to_vec),
                zone: attributes.find(ZONE).map(<[u8]>::to_vec),
            });
        }
    })
}

fn delete(socket: &mut NetfilterSocket, flows: &[Name]) -> io::Result<()> {
    let mut batch = Writer::default();
    for flow in flows {
        let sequence = socket.next_sequence();
        batch.message(DELETE, ACK, sequence, flow.family, 0, |out| {
            out.nested_bytes(ORIGINAL, &flow.original);
            if let Some(id) = &flow.id {
                out.attr(ID, id);
            }
            if let Some(zone) = &flow.zone {
                out.attr(ZONE, zone);
            }
        });
    }
    let failed = socket.send_batch(batch.bytes())?;
    // One that has ended by itself meanwhile is as good as deleted.
    match failed.into_iter().find(|(_, errno)| *errno != Errno::ENOENT) {
        Some((_, errno)) => Err(errno.into()),
        None => Ok(()),
    }
}

/// One direction of a flow.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Tuple {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    source_port: u16,
    destination_port: u16,
}

/// A flow as its first packet was, and as its answers are expected.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Flow {
    original: Tuple,
    reply: Tuple,
}

fn read(attributes: Attributes<'_>) -> Option<Flow> {
    Some(Flow {
        original: tuple(attributes.nested(ORIGINAL))?,
        reply: tuple(attributes.nested(REPLY))?,
    })
}

fn tuple(attributes: Attributes<'_>) -> Option<Tuple> {
    let (ip, protocol) = (attributes.nested(TUPLE_IP), attributes.nested(TUPLE_PROTOCOL));
    let v4 = |kind| {
        Some(IpAddr::from(Ipv4Addr::from(
            <[u8; 4]>::try_from(ip.find(kind)?).ok()?,
        )))
    };
    let v6 = |kind| {
        Some(IpAddr::from(Ipv6Addr::from(
            <[u8; 16]>::try_from(ip.find(kind)?).ok()?,
        )))
    };
    // ICMP has no ports; 0 is none of anybody's.
    let port = |kind| {
        protocol
            .find(kind)
            .and_then(|bytes| bytes.try_into().ok())
            .map_or(0, u16::from_be_bytes)
    };
    Some(Tuple {
        source: v4(V4_SOURCE).or_else(|| v6(V6_SOURCE))?,
        destination: v4(V4_DESTINATION).or_else(|| v6(V6_DESTINATION))?,
        protocol: *protocol.find(PROTOCOL_NUMBER)?.first()?,
        source_port: port(SOURCE_PORT),
        destination_port: port(DESTINATION_PORT),
    })
}

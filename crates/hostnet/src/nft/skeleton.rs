//! The fixed part of our table: sets, chains and rules as data. Nothing in here depends on any container.

mod rule;

use super::number::set;
use rule::{ADDRESSES4, ADDRESSES6, Family};

pub(super) use rule::{Rule, link_name};

/// Link names of our bridges.
pub(super) const BRIDGES: &str = "bridges";
/// Those of them with a way out.
pub(super) const OUTWARD: &str = "outward";
/// Those of them whose members don't reach each other.
pub(super) const ISOLATED: &str = "isolated";
/// Isolated ones that would send to a member what another, or the same, sent to a published port, without the host's
/// routing: and drop it, for they isolate. So on hosts whose bridges show their frames to IP's hooks.
pub(super) const NOT_TURNED: &str = "not_turned";
/// Every bridge paired with itself: traffic that stays on its network.
pub(super) const SAME: &str = "same";
/// Subnets that hide behind the host's address.
pub(super) const MASQUERADE4: &str = "masquerade4";
pub(super) const MASQUERADE6: &str = "masquerade6";
/// Containers behind published ports, each paired with itself: one that asks its own published port.
pub(super) const ITSELF4: &str = "itself4";
pub(super) const ITSELF6: &str = "itself6";
/// Published on one address.
pub(super) const PUBLISH4: &str = "publish4";
pub(super) const PUBLISH6: &str = "publish6";
/// Published on every address of the host.
pub(super) const PUBLISH4_ANY: &str = "publish4_any";
pub(super) const PUBLISH6_ANY: &str = "publish6_any";
/// Ports in a row that keep their numbers, published on one address. One element each, however long.
pub(super) const RUNS4: &str = "runs4";
pub(super) const RUNS6: &str = "runs6";
/// Ports in a row that keep their numbers, published on every address of the host.
pub(super) const RUNS4_ANY: &str = "runs4_any";
pub(super) const RUNS6_ANY: &str = "runs6_any";

/// A set or map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Set {
    pub(super) name: &'static str,
    /// Parts of a key.
    pub(super) key: &'static [Part],
    /// Parts of what a map gives; empty for a set.
    pub(super) data: &'static [Part],
    pub(super) flags: u32,
}

/// A field of a key, after `nft`'s names and numbers for its data types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Ipv4Address = 7,
    Ipv6Address = 8,
    InetProtocol = 12,
    InetService = 13,
    InterfaceName = 41,
}

impl Part {
    /// Bytes in registers.
    fn length(self) -> u32 {
        self.bytes().next_multiple_of(4)
    }

    /// Bytes without padding.
    pub(super) fn bytes(self) -> u32 {
        match self {
            Self::InetProtocol => 1,
            Self::InetService => 2,
            Self::Ipv4Address => 4,
            Self::Ipv6Address | Self::InterfaceName => 16,
        }
    }
}

/// `nft`'s number for a row of parts.
pub(super) fn type_of(parts: &[Part]) -> u32 {
    parts.iter().fold(0, |sum, part| sum << 6 | *part as u32)
}

/// Bytes in registers.
pub(super) fn length_of(parts: &[Part]) -> u32 {
    parts.iter().map(|part| part.length()).sum()
}

/// A chain with its hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) name: &'static str,
    /// `filter` or `nat`.
    pub(super) kind: &'static str,
    pub(super) hook: u32,
    pub(super) priority: i32,
    pub(super) rules: Vec<Rule>,
}

/// All sets and maps.
pub(super) const SETS: [Set; 17] = {
    use Part::{
        InetProtocol as Proto, InetService as Port, InterfaceName as Link, Ipv4Address as V4,
        Ipv6Address as V6,
    };
    const fn plain(name: &'static str, key: &'static [Part]) -> Set {
        Set {
            name,
            key,
            data: &[],
            flags: 0,
        }
    }
    const fn ranges(name: &'static str, key: &'static [Part]) -> Set {
        Set {
            name,
            key,
            data: &[],
            flags: set::FLAG_INTERVAL,
        }
    }
    const fn map(name: &'static str, key: &'static [Part], data: &'static [Part]) -> Set {
        Set {
            name,
            key,
            data,
            flags: set::FLAG_MAP,
        }
    }
    const fn range_map(name: &'static str, key: &'static [Part], data: &'static [Part]) -> Set {
        Set {
            name,
            key,
            data,
            flags: set::FLAG_MAP | set::FLAG_INTERVAL | set::FLAG_CONCAT,
        }
    }
    [
        plain(BRIDGES, &[Link]),
        plain(OUTWARD, &[Link]),
        plain(ISOLATED, &[Link]),
        plain(NOT_TURNED, &[Link]),
        plain(SAME, &[Link, Link]),
        ranges(MASQUERADE4, &[V4]),
        ranges(MASQUERADE6, &[V6]),
        plain(ITSELF4, &[V4, V4]),
        plain(ITSELF6, &[V6, V6]),
        map(PUBLISH4, &[Proto, V4, Port], &[V4, Port]),
        map(PUBLISH6, &[Proto, V6, Port], &[V6, Port]),
        map(PUBLISH4_ANY, &[Proto, Port], &[V4, Port]),
        map(PUBLISH6_ANY, &[Proto, Port], &[V6, Port]),
        range_map(RUNS4, &[Proto, V4, Port], &[V4]),
        range_map(RUNS6, &[Proto, V6, Port], &[V6]),
        range_map(RUNS4_ANY, &[Proto, Port], &[V4]),
        range_map(RUNS6_ANY, &[Proto, Port], &[V6]),
    ]
};

const PREROUTING: u32 = 0;
const INPUT: u32 = 1;
const FORWARD: u32 = 2;
const OUTPUT: u32 = 3;
const POSTROUTING: u32 = 4;

/// Before connection tracking (-200) and before any NAT: what is dropped here leaves no trace.
const RAW: i32 = -300;
const FILTER: i32 = 0;
/// Just before the customary -100 and 100: of two NAT chains that match a connection the first decides, and a port that
/// we hold a socket on is ours.
const DSTNAT: i32 = -110;
const SRCNAT: i32 = 90;

/// `RTN_*` of `linux/rtnetlink.h`: kinds of destinations.
const LOCAL: u32 = 2;
const BROADCAST: u32 = 3;
const MULTICAST: u32 = 5;

const LOCALHOST6: [u8; 16] = std::net::Ipv6Addr::LOCALHOST.octets();
const RESOLVER: [u8; 4] = linkspan_plan::RESOLVER_ADDRESS.octets();

/// All chains, in the order in which a packet meets them.
pub(super) fn chains() -> Vec<Chain> {
    let chain = |name, kind, hook, priority, rules| Chain {
        name,
        kind,
        hook,
        priority,
        rules,
    };
    vec![
        chain("guard", "filter", PREROUTING, RAW, guard()),
        chain("publish", "nat", PREROUTING, DSTNAT, publish_to_links()),
        chain("publish_local", "nat", OUTPUT, DSTNAT, publish()),
        chain("to_host", "filter", INPUT, FILTER, to_host()),
        chain("through", "filter", FORWARD, FILTER, through()),
        chain("masquerade", "nat", POSTROUTING, SRCNAT, masquerade()),
    ]
}

fn guard() -> Vec<Rule> {
    let (v4, v6) = (ADDRESSES4, ADDRESSES6);
    vec![
        Rule::new("traffic of the host with itself").iif_is("lo").accept(),
        Rule::new("127.0.0.0/8 from a wire")
            .load(v4.first_byte_of_destination())
            .equals(&[127])
            .drop(),
        Rule::new("::1 from a wire")
            .load(v6.destination())
            .equals(&LOCALHOST6)
            .drop(),
        Rule::new("from a wire, as 127.0.0.0/8")
            .load(v4.first_byte_of_source())
            .equals(&[127])
            .drop(),
        Rule::new("from a wire, as ::1")
            .load(v6.source())
            .equals(&LOCALHOST6)
            .drop(),
        Rule::new("from outside, as one of a network, IPv4")
            .iif_not_in(BRIDGES)
            .load(v4.source())
            .listed_in(MASQUERADE4)
            .drop(),
        Rule::new("from outside, as one of a network, IPv6")
            .iif_not_in(BRIDGES)
            .load(v6.source())
            .listed_in(MASQUERADE6)
            .drop(),
        // The resolver's address is on no network, and passes here when bridged frames are shown to IP's hooks.
        Rule::new("a container's false source, IPv4")
            .iif_in(BRIDGES)
            .load(v4.source())
            .differs(&RESOLVER)
            .source_is_elsewhere()
            .drop(),
        Rule::new("a container's false source, IPv6")
            .iif_in(BRIDGES)
            .load(v6.source())
            .differs(&[0; 16])
            .source_is_elsewhere()
            .drop(),
        Rule::new("from outside, not published, IPv4")
            .iif_not_in(BRIDGES)
            .load(v4.destination())
            .listed_in(MASQUERADE4)
            .drop(),
        Rule::new("from outside, not published, IPv6")
            .iif_not_in(BRIDGES)
            .load(v6.destination())
            .listed_in(MASQUERADE6)
            .drop(),
    ]
}

fn publish_to_links() -> Vec<Rule> {
    let internal = Rule::new("internal networks reach no published port")
        .internal()
        .give_back();
    std::iter::once(internal).chain(publish()).collect()
}

/// Ports on the loopback addresses are real sockets of the data plane, never NAT. A single port goes before a run, and one
/// address before all.
fn publish() -> Vec<Rule> {
    use Family::{V4, V6};
    let on_one = |comment, family| Rule::new(comment).load_address_and_port(family);
    let on_all4 = |comment| {
        Rule::new(comment)
            .load(ADDRESSES4.first_byte_of_destination())
            .differs(&[127])
            .destination_is(LOCAL)
    };
    let on_all6 = |comment| {
        Rule::new(comment)
            .load(ADDRESSES6.destination())
            .differs(&LOCALHOST6)
            .destination_is(LOCAL)
    };
    vec![
        on_one("published on an address, IPv4", V4).dnat(V4, PUBLISH4),
        on_one("published on an address, IPv6", V6).dnat(V6, PUBLISH6),
        on_one("published in a run on an address, IPv4", V4).dnat_keeping_port(V4, RUNS4),
        on_one("published in a run on an address, IPv6", V6).dnat_keeping_port(V6, RUNS6),
        // Of ports on all addresses the data plane has a socket too. Those who ask from a bridge that would lose what is
        // sent back to it are served there.
        on_all4("published on all addresses, IPv4")
            .iif_not_in(NOT_TURNED)
            .load_port()
            .dnat(V4, PUBLISH4_ANY),
        on_all6("published on all addresses, IPv6")
            .iif_not_in(NOT_TURNED)
            .load_port()
            .dnat(V6, PUBLISH6_ANY),
        on_all4("published in a run on all addresses, IPv4")
            .load_port()
            .dnat_keeping_port(V4, RUNS4_ANY),
        on_all6("published in a run on all addresses, IPv6")
            .load_port()
            .dnat_keeping_port(V6, RUNS6_ANY),
    ]
}

/// Who is on an internal network reaches the host only at its own bridge's addresses; others are not restricted here.
fn to_host() -> Vec<Rule> {
    let to = |comment, kind| Rule::new(comment).internal().destination_here_is(kind).accept();
    vec![
        Rule::new("from internal networks, answers")
            .internal()
            .answers()
            .accept(),
        to("from internal networks, to their bridge", LOCAL),
        to("from internal networks, broadcast", BROADCAST),
        to("from internal networks, multicast", MULTICAST),
        Rule::new("from internal networks, the rest").internal().drop(),
    ]
}

fn through() -> Vec<Rule> {
    let (v4, v6) = (ADDRESSES4, ADDRESSES6);
    let isolated = |comment| Rule::new(comment).iif_in(ISOLATED).on_one_network(SAME);
    vec![
        Rule::new("none of our business")
            .iif_not_in(BRIDGES)
            .oif_not_in(BRIDGES)
            .accept(),
        Rule::new("on one network")
            .iif_not_in(ISOLATED)
            .on_one_network(SAME)
            .accept(),
        // Members of an isolated network don't see each other's frames, so what a bridge shows here is between one of them
        // and the resolver's leg; and what was routed, from one member to another, must not pass as that. The leg sends
        // with the largest time to live, as does neighbour discovery, and routing takes one off before it asks here
        // (RFC 5082). The resolver's own address is never a member's.
        isolated("on an isolated network, answers").answers().accept(),
        isolated("on an isolated network, to the resolver")
            .load(v4.destination())
            .equals(&RESOLVER)
            .accept(),
        isolated("on an isolated network, from the resolver, IPv4")
            .load(v4.time_to_live())
            .equals(&[255])
            .accept(),
        isolated("on an isolated network, from the resolver, IPv6")
            .load(v6.time_to_live())
            .equals(&[255])
            .accept(),
        Rule::new("out of an internal network").internal().drop(),
        Rule::new("into an internal network")
            .oif_in(BRIDGES)
            .oif_not_in(OUTWARD)
            .drop(),
        Rule::new("answers").answers().accept(),
        Rule::new("published").published().accept(),
        Rule::new("to the outside").oif_not_in(BRIDGES).accept(),
        Rule::new("between networks or isolated members, or not published").drop(),
    ]
}

fn masquerade() -> Vec<Rule> {
    let (v4, v6) = (ADDRESSES4, ADDRESSES6);
    let outside = |comment| Rule::new(comment).oif_not_in(BRIDGES).oif_is_not("lo");
    vec![
        // Else the answer would take the short way over the bridge, from an address that the asker never wrote to.
        Rule::new("published, from its own network")
            .on_one_network(SAME)
            .published()
            .masquerade(),
        // Where bridges show their frames to IP's hooks, the rule above does not match, as nothing says where such a
        // packet came in; there the answer finds its way back, save when it would never leave who is asked.
        Rule::new("published, from itself, IPv4")
            .pair_listed_in(Family::V4, ITSELF4)
            .masquerade(),
        Rule::new("published, from itself, IPv6")
            .pair_listed_in(Family::V6, ITSELF6)
            .masquerade(),
        outside("to the outside, IPv4")
            .load(v4.source())
            .listed_in(MASQUERADE4)
            .masquerade(),
        outside("to the outside, IPv6")
            .load(v6.source())
            .listed_in(MASQUERADE6)
            .masquerade(),
    ]
}

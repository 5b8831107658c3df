//! What the zone knows about a question.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::op::{Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, PTR, SRV};
use hickory_proto::rr::{DNSClass, Name, RData, RecordType};

use super::{Asker, Zone};
use crate::ZoneNetwork;

/// What is known about a question.
pub(super) enum Finding {
    /// The name is one of ours; perhaps without records of the type that was asked for.
    Records(Found),
    /// There is no such name.
    Nothing,
    /// The name isn't ours.
    Elsewhere,
    /// Can't be asked.
    Code(ResponseCode),
}

/// Records for the name that was asked for.
#[derive(Default)]
pub(super) struct Found {
    pub(super) records: Vec<RData>,
    /// Addresses of the names that the records speak of.
    pub(super) additional: Vec<(Name, IpAddr)>,
}

impl From<Vec<RData>> for Found {
    fn from(records: Vec<RData>) -> Self {
        Self {
            records,
            additional: Vec::new(),
        }
    }
}

pub(super) fn find(zone: &Zone, asker: &Asker, question: &Query) -> Finding {
    let kind = question.query_type();
    if question.query_class() != DNSClass::IN {
        return Finding::Code(ResponseCode::NotImp);
    }
    match kind {
        RecordType::OPT => return Finding::Code(ResponseCode::FormErr),
        // Transfers: the zone isn't anybody's as a whole.
        RecordType::AXFR | RecordType::IXFR => return Finding::Code(ResponseCode::Refused),
        _ => {}
    }
    let name = question.name();
    if name.is_localhost() {
        let addresses = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        return Finding::Records(of_kind(addresses, kind).into());
    }
    if name
        .iter()
        .next_back()
        .is_some_and(|label| label.eq_ignore_ascii_case(b"arpa"))
        && let Some(finding) = reverse(zone, asker, name, kind)
    {
        return finding;
    }
    if let Some(key) = key(name) {
        if let Some(addresses) = addresses(zone, asker, &key) {
            return Finding::Records(of_kind(addresses, kind).into());
        }
        if let Some(finding) = below(zone, asker, &key, kind) {
            return finding;
        }
    }
    if name.num_labels() == 1 {
        Finding::Nothing
    } else {
        Finding::Elsewhere
    }
}

/// The networks that the asker is on.
fn networks<'a>(zone: &'a Zone, asker: &'a Asker) -> impl Iterator<Item = &'a ZoneNetwork> {
    asker.networks.iter().filter_map(|id| zone.networks.get(id))
}

/// The name as the zone spells it. `None` for one that no container can have.
fn key(name: &Name) -> Option<String> {
    let mut key = String::with_capacity(name.len());
    for label in name.iter() {
        let label = std::str::from_utf8(label).ok()?;
        // A dot inside a label is not one between labels.
        if label.contains('.') {
            return None;
        }
        if !key.is_empty() {
            key.push('.');
        }
        key.push_str(label);
    }
    key.make_ascii_lowercase();
    Some(key)
}

/// Addresses behind a name on all networks of the asker; `None` when none of them has the name.
fn addresses(zone: &Zone, asker: &Asker, key: &str) -> Option<Vec<IpAddr>> {
    let mut found: Option<Vec<IpAddr>> = None;
    for addresses in networks(zone, asker).filter_map(|network| network.names.get(key)) {
        let all = found.get_or_insert_default();
        for address in addresses {
            if !all.contains(address) {
                all.push(*address);
            }
        }
    }
    found
}

fn of_kind(addresses: impl IntoIterator<Item = IpAddr>, kind: RecordType) -> Vec<RData> {
    let mut v4 = Vec::new();
    let mut v6 = Vec::new();
    for address in addresses {
        match address {
            IpAddr::V4(address) => v4.push(RData::A(A(address))),
            IpAddr::V6(address) => v6.push(RData::AAAA(AAAA(address))),
        }
    }
    match kind {
        RecordType::A => v4,
        RecordType::AAAA => v6,
        // RFC 8482: one set of records is enough.
        RecordType::ANY if !v4.is_empty() => v4,
        RecordType::ANY => v6,
        _ => Vec::new(),
    }
}

// === Services ===

/// Names that begin with an underscore and end in one of ours: `_PORT._PROTO.NAME` and `_PROTO.NAME` say where a
/// container serves (RFC 2782), others don't exist. `None` for names that may be somebody else's.
fn below(zone: &Zone, asker: &Asker, key: &str, kind: RecordType) -> Option<Finding> {
    let is_transport = |label: &str| matches!(label, "_tcp" | "_udp" | "_sctp");
    let (first, rest) = key.split_once('.')?;
    let (port, place, name) = if is_transport(first) {
        (None, key, rest)
    } else if let Some((_, name)) = rest
        .split_once('.')
        .filter(|(second, _)| is_transport(second) && first.starts_with('_'))
    {
        (Some(first), rest, name)
    } else {
        let base = without_underscores(key);
        // `_dmarc.example.com` is the world's, also where a container is called `example.com`.
        let ours = base.len() < key.len() && !base.contains('.') && addresses(zone, asker, base).is_some();
        return ours.then_some(Finding::Nothing);
    };
    if name.contains('.') {
        addresses(zone, asker, name)?;
    }
    let mut places: Vec<(u16, &str)> = Vec::new();
    for location in networks(zone, asker)
        .filter_map(|network| network.locations.get(place))
        .flatten()
        .filter(|location| port.is_none_or(|port| port[1..] == location.port.to_string()))
    {
        for target in &location.targets {
            if !places.contains(&(location.port, target)) {
                places.push((location.port, target));
            }
        }
    }
    if places.is_empty() {
        return Some(Finding::Nothing);
    }
    let mut found = Found::default();
    if matches!(kind, RecordType::SRV | RecordType::ANY) {
        // Equal weights share equally; one that is alone should have none (RFC 2782).
        let weight = u16::from(places.len() > 1);
        for (port, target) in places {
            let Some(name) = written(target) else { continue };
            let known = found.additional.iter().any(|(other, _)| *other == name);
            if !known {
                let at = addresses(zone, asker, target).unwrap_or_default();
                found
                    .additional
                    .extend(at.into_iter().map(|address| (name.clone(), address)));
            }
            found.records.push(RData::SRV(SRV::new(0, weight, port, name)));
        }
    }
    Some(Finding::Records(found))
}

/// What is behind the labels that begin with an underscore.
fn without_underscores(mut key: &str) -> &str {
    while key.starts_with('_')
        && let Some((_, rest)) = key.split_once('.')
    {
        key = rest;
    }
    key
}

/// A name of the zone as DNS writes it. `None` for one that is too long.
fn written(name: &str) -> Option<Name> {
    Name::from_labels(name.split('.').map(str::as_bytes)).ok()
}

// === Addresses ===

/// Labels of the longest name of an address: 32 digits, `ip6` and `arpa`.
const REVERSE_LABELS: usize = 34;

/// What is behind an address, or behind the first part of one. `None` for names that have nothing to do with addresses.
fn reverse(zone: &Zone, asker: &Asker, name: &Name, kind: RecordType) -> Option<Finding> {
    let mut of_address = name.trim_to(REVERSE_LABELS);
    let network = loop {
        match of_address.parse_arpa_name() {
            Ok(network) => break network,
            Err(_) if of_address.num_labels() > 2 => of_address = of_address.base_name(),
            Err(_) => return None,
        }
    };
    let (address, prefix) = (network.addr(), network.prefix_len());
    let below = of_address.num_labels() < name.num_labels();
    if !below && prefix == network.max_prefix_len() {
        return Some(pointer(zone, asker, address, kind));
    }
    let within = |network: &ZoneNetwork| {
        network
            .ranges
            .iter()
            .any(|range| range.prefix() <= prefix && range.contains(address))
    };
    Some(if !zone.networks.values().any(within) {
        Finding::Elsewhere
    } else if below {
        // `b._dns-sd._udp.0.1.10.in-addr.arpa`: many programs ask, nobody needs to know.
        Finding::Nothing
    } else {
        // There may be names below it, so it isn't absent (RFC 8020).
        Finding::Records(Found::default())
    })
}

/// The name of an address, if the asker shares a network with it.
fn pointer(zone: &Zone, asker: &Asker, address: IpAddr, kind: RecordType) -> Finding {
    let name = if address.is_loopback() {
        Some("localhost")
    } else {
        networks(zone, asker)
            .find_map(|network| network.pointers.get(&address))
            .map(String::as_str)
    };
    match name.and_then(written) {
        Some(name) if matches!(kind, RecordType::PTR | RecordType::ANY) => {
            Finding::Records(vec![RData::PTR(PTR(name))].into())
        }
        Some(_) => Finding::Records(Found::default()),
        None if is_ours(zone, address) || is_nowhere(address) => Finding::Nothing,
        None => Finding::Elsewhere,
    }
}

/// A container's address, or one that a container may have, is no business of name servers outside, also when its name
/// isn't told.
fn is_ours(zone: &Zone, address: IpAddr) -> bool {
    let mut ranges = zone.networks.values().flat_map(|network| &network.ranges);
    zone.askers.contains_key(&address) || ranges.any(|range| range.contains(address))
}

/// Addresses that no name server outside can know (RFC 6303). Private ones are not among them: they are the LAN's, and
/// its name server may know their names.
fn is_nowhere(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local() || address.octets()[0] == 0 || address.is_broadcast(),
        IpAddr::V6(address) => address.is_unicast_link_local() || address.is_unspecified(),
    }
}

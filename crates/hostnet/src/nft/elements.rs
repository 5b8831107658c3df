//! What the sets and maps must hold, in the kernel's own bytes, so that it compares with what they do hold.

mod port;

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnetwork::{Ipv4Network, Ipv6Network};
use linkspan_plan::{Dnat, Firewall};

use super::skeleton;
use port::{last, overlaps, publish};

use crate::FirewallError;
pub(crate) use port::Published;
pub(super) use port::published;

/// Where an element stands in its set. Ranges of addresses are two elements, in the order in which the kernel takes them;
/// runs of ports are one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) bytes: Vec<u8>,
    pub(super) edge: Edge,
}

/// Does a range begin or end here?
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Edge {
    /// The first address behind a range.
    End,
    /// The first address of a range, or an element of a set without ranges.
    Begin,
    /// An element that is a range by itself: this is its last key.
    Through(Vec<u8>),
}

/// All elements of all sets: set → key → data (empty in sets that are not maps).
pub(super) type Elements = BTreeMap<String, BTreeMap<Key, Vec<u8>>>;

/// Elements to take out and to put in.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) remove: Elements,
    pub(super) add: Elements,
}

impl Difference {
    /// What makes `to` of `from`. An element whose data changes is removed and added, in one transaction.
    pub(super) fn between(from: &Elements, to: &Elements) -> Self {
        Self {
            remove: missing(from, to),
            add: missing(to, from),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.add.is_empty()
    }
}

/// How many elements one set has, as a person would count.
pub(super) fn count_in(elements: &Elements, set: &str) -> usize {
    let keys = elements.get(set).into_iter().flat_map(BTreeMap::keys);
    keys.filter(|key| key.edge != Edge::End).count()
}

/// How many things a person would count: a range is one.
pub(super) fn count(elements: &Elements) -> usize {
    elements
        .values()
        .flat_map(BTreeMap::keys)
        .filter(|key| key.edge != Edge::End)
        .count()
}

/// What of `all` is not in `other`.
fn missing(all: &Elements, other: &Elements) -> Elements {
    let mut result = Elements::new();
    for (set, elements) in all {
        let others = other.get(set);
        let rest: BTreeMap<_, _> = elements
            .iter()
            .filter(|(key, data)| others.and_then(|others| others.get(key)) != Some(data))
            .map(|(key, data)| (key.clone(), data.clone()))
            .collect();
        if !rest.is_empty() {
            result.insert(set.clone(), rest);
        }
    }
    result
}

/// Compiles the desired state, for a host whose bridges show their frames to IP's hooks or don't.
pub(super) fn compile(desired: &Firewall, frames_shown: bool) -> Result<Elements, FirewallError> {
    let mut all = Elements::new();
    let mut insert = |set: &str, key: Key, data: Vec<u8>| {
        all.entry(set.to_owned()).or_default().insert(key, data);
    };
    for bridge in &desired.bridges {
        let name = skeleton::link_name(bridge);
        insert(skeleton::BRIDGES, exact(&name), Vec::new());
        insert(skeleton::SAME, exact(&[name, name].concat()), Vec::new());
    }
    for bridge in &desired.outward {
        insert(skeleton::OUTWARD, exact(&skeleton::link_name(bridge)), Vec::new());
    }
    for bridge in &desired.isolated {
        let name = skeleton::link_name(bridge);
        insert(skeleton::ISOLATED, exact(&name), Vec::new());
        if frames_shown {
            insert(skeleton::NOT_TURNED, exact(&name), Vec::new());
        }
    }
    for key in ranges4(&desired.masquerade4) {
        insert(skeleton::MASQUERADE4, key, Vec::new());
    }
    for key in ranges6(&desired.masquerade6) {
        insert(skeleton::MASQUERADE6, key, Vec::new());
    }
    let mut last_run: Option<&Dnat> = None;
    for dnat in &desired.dnat {
        if let Some((set, key, data)) = publish(dnat, last_run)? {
            insert(set, key, data);
        }
        if dnat.count > 1 && last_run.is_none_or(|run| !overlaps(run, dnat) || last(run) < last(dnat)) {
            last_run = Some(dnat);
        }
        let (set, pair) = itself(dnat.to_ip);
        insert(set, exact(&pair), Vec::new());
    }
    Ok(all)
}

fn exact(bytes: &[u8]) -> Key {
    Key {
        bytes: bytes.to_vec(),
        edge: Edge::Begin,
    }
}

fn ranges4<'a>(networks: impl IntoIterator<Item = &'a Ipv4Network>) -> Vec<Key> {
    let ranges = networks.into_iter().map(|network| {
        let first = u32::from(network.network());
        let end = u32::from(network.broadcast()).checked_add(1);
        (
            first.to_be_bytes().to_vec(),
            end.map(|end| end.to_be_bytes().to_vec()),
        )
    });
    edges(ranges.collect())
}

fn ranges6<'a>(networks: impl IntoIterator<Item = &'a Ipv6Network>) -> Vec<Key> {
    let ranges = networks.into_iter().map(|network| {
        let first = u128::from(network.network());
        let end = u128::from(network.broadcast()).checked_add(1);
        (
            first.to_be_bytes().to_vec(),
            end.map(|end| end.to_be_bytes().to_vec()),
        )
    });
    edges(ranges.collect())
}

/// Ranges as elements; one that lies in another is left out, since the kernel refuses overlaps. A range up to the last
/// address has no end.
fn edges(mut ranges: Vec<(Vec<u8>, Option<Vec<u8>>)>) -> Vec<Key> {
    // Prefixes are nested or apart: sorted by begin, and the larger first, each that overlaps lies in one before it.
    ranges.sort_by(|a, b| a.0.cmp(&b.0).then_with(|| behind(&b.1).cmp(&behind(&a.1))));
    let mut keys = Vec::new();
    let mut free_from: Option<Vec<u8>> = Some(Vec::new());
    for (begin, end) in ranges {
        if free_from.as_ref().is_none_or(|free| begin < *free) {
            continue;
        }
        keys.push(Key {
            bytes: begin,
            edge: Edge::Begin,
        });
        keys.extend(end.clone().map(|bytes| Key {
            bytes,
            edge: Edge::End,
        }));
        free_from = end;
    }
    keys
}

/// Sorts a range without end behind all others.
fn behind(end: &Option<Vec<u8>>) -> (bool, &[u8]) {
    (end.is_none(), end.as_deref().unwrap_or_default())
}

/// A container that asks itself.
fn itself(ip: IpAddr) -> (&'static str, Vec<u8>) {
    match ip {
        IpAddr::V4(ip) => (skeleton::ITSELF4, [ip.octets(), ip.octets()].concat()),
        IpAddr::V6(ip) => (skeleton::ITSELF6, [ip.octets(), ip.octets()].concat()),
    }
}

#[cfg(test)]
mod tests;

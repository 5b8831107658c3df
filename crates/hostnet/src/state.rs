//! What callers get to see of the kernel's state.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;

use ipnetwork::IpNetwork;
use linkspan_plan::NetworkSpec;

/// Everything that is, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// Bridges of ours, by link name.
    pub networks: BTreeMap<String, ObservedBridge>,
    /// Host ends of containers' links.
    pub veths: BTreeSet<String>,
    /// Sandboxes, also half made ones that a crash has left.
    pub sandboxes: BTreeSet<String>,
    /// Ranges that others use.
    pub claims: Vec<Claim>,
    /// Our table.
    pub table: TableState,
    /// Does the host have IPv6?
    pub ipv6: bool,
    /// MTU of the default route's link in bytes, else 1500.
    pub mtu: u32,
}

/// A bridge of ours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObservedBridge {
    /// Is it up?
    pub up: bool,
    /// Bytes.
    pub mtu: u32,
    /// Its addresses with prefix, link-local ones left out.
    pub addresses: BTreeSet<IpNetwork>,
    /// The resolver's leg, when both of its ends are there and up.
    pub leg: Option<ObservedLeg>,
}

/// A leg of the resolver on a bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedLeg {
    /// Link name of both ends.
    pub name: String,
    /// Addresses inside the resolver's namespace, link-local ones left out.
    pub addresses: BTreeSet<IpNetwork>,
}

impl ObservedBridge {
    /// Is nothing missing of `spec`?
    pub fn is_whole(&self, spec: &NetworkSpec) -> bool {
        let (bridge, leg) = wanted(spec);
        let leg_whole = self.leg.as_ref().is_some_and(|found| {
            found.name == spec.leg && leg.iter().all(|address| found.addresses.contains(address))
        });
        self.up
            && self.mtu == spec.mtu
            && bridge.iter().all(|address| self.addresses.contains(address))
            && leg_whole
    }
}

/// The addresses that a network's bridge and leg must have.
pub(crate) fn wanted(spec: &NetworkSpec) -> (Vec<IpNetwork>, Vec<IpNetwork>) {
    let with_prefix = |ip: IpAddr, prefix: u8| IpNetwork::new(ip, prefix).ok();
    let prefix4 = spec.v4.prefix();
    let mut bridge: Vec<_> = with_prefix(spec.gateway.into(), prefix4).into_iter().collect();
    let mut leg: Vec<_> = with_prefix(spec.resolver.into(), prefix4).into_iter().collect();
    if let Some(v6) = &spec.v6 {
        bridge.extend(with_prefix(v6.gateway.into(), v6.subnet.prefix()));
        leg.extend(with_prefix(v6.resolver.into(), v6.subnet.prefix()));
    }
    (bridge, leg)
}

/// A range that somebody else uses.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claim {
    /// The range.
    pub range: IpNetwork,
    /// Who: `address of eth0`, `route in table 100 via tun0`, `name server`.
    pub source: String,
}

/// How our table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableState {
    /// Not there.
    Absent,
    /// All chains, rules and sets are as we write them. What the sets hold is another matter.
    Intact,
    /// There, but not as this release writes it; the next [`apply_firewall`](crate::HostNet::apply_firewall) rebuilds it.
    Damaged,
}

/// The pinned namespaces of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    /// Its user namespace; absent when it has the host's ids.
    pub user: Option<PathBuf>,
    /// Its network namespace, which belongs to the user namespace.
    pub net: PathBuf,
}

/// What a call of [`apply_firewall`](crate::HostNet::apply_firewall) did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FirewallChange {
    /// Elements added.
    pub added: usize,
    /// Elements removed.
    pub removed: usize,
    /// Was the whole table written anew?
    pub rebuilt: bool,
}

/// Something may have changed; look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hint {
    /// A link came, went, or changed.
    Links,
    /// An address came or went.
    Addresses,
    /// A route came or went, in any table.
    Routes,
    /// Somebody else changed our table.
    Table,
}

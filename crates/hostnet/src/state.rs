//! What callers get to see of the kernel's state.

mod missing;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use ipnetwork::IpNetwork;
use linkspan_site::Protocol;

/// Everything that is, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// Bridges of ours, by link name.
    pub networks: Arc<BTreeMap<String, Arc<ObservedBridge>>>,
    /// Host ends of containers' links that work: up, and ports of a bridge of ours.
    pub veths: Arc<BTreeSet<String>>,
    /// Ranges that others use.
    pub claims: Arc<Vec<Claim>>,
    /// Files of others that can't be read or understood, a sentence each.
    pub notes: Arc<Vec<String>>,
    /// Our table.
    pub table: TableState,
    /// Does the host have IPv6?
    pub ipv6: bool,
    /// MTU of the default route's link in bytes, else 1500.
    pub mtu: u32,
    /// Kernel parameters of the whole host's that its networks need on, and that are off: `net.ipv4.ip_forward`. Nothing
    /// where there are no networks.
    pub turned_off: BTreeSet<String>,
}

impl Observed {
    /// Is it the same as what was seen before? Costs nothing, whatever there is.
    pub fn is_as(&self, before: &Self) -> bool {
        Arc::ptr_eq(&self.networks, &before.networks)
            && Arc::ptr_eq(&self.veths, &before.veths)
            && Arc::ptr_eq(&self.claims, &before.claims)
            && Arc::ptr_eq(&self.notes, &before.notes)
            && (self.table, self.ipv6, self.mtu) == (before.table, before.ipv6, before.mtu)
            && self.turned_off == before.turned_off
    }
}

/// Every range that somebody was found to use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claims {
    /// Those that count.
    pub counting: Vec<Claim>,
    /// Ranges that others use, and we too, that don't count, each with the reason: a default route, link-local, ours.
    pub disregarded: Vec<(Claim, &'static str)>,
    /// Files of others that can't be read or understood, a sentence each.
    pub notes: Vec<String>,
}

/// A bridge of ours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObservedBridge {
    /// Is it up?
    pub up: bool,
    /// Bytes.
    pub mtu: u32,
    /// Its addresses with prefix, IPv6's link-local ones left out.
    pub addresses: BTreeSet<IpNetwork>,
    /// Routes over it that came with addresses, or that we set.
    pub routes: BTreeSet<ObservedRoute>,
    /// Kernel parameters of its own that must be on for its traffic, and are not: `net.ipv4.conf.ls-….forwarding`. Those
    /// of the whole host count once, see [`Observed::turned_off`].
    pub turned_off: BTreeSet<String>,
    /// The resolver's leg, when both of its ends are there and up.
    pub leg: Option<ObservedLeg>,
}

/// A leg of the resolver on a bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedLeg {
    /// Link name of both ends.
    pub name: String,
    /// Bytes; the smaller of both ends.
    pub mtu: u32,
    /// Addresses inside the resolver's namespace, as those of the bridge.
    pub addresses: BTreeSet<IpNetwork>,
    /// Routes inside the resolver's namespace, as those of the bridge.
    pub routes: BTreeSet<ObservedRoute>,
}

/// A route to neighbours on a link of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObservedRoute {
    /// Where to.
    pub to: IpNetwork,
    /// What packets that are begun by it come from, where that is said.
    pub source: Option<IpAddr>,
}

/// A range that somebody else uses.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claim {
    /// The range.
    pub range: IpNetwork,
    /// Who, to be shown: ``route in table 100 via `tun0` ``, `peer in /etc/wireguard/wg0.conf:12`.
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

/// A socket inside a sandbox that waits for peers at one address: a TCP listener, or a UDP socket that isn't connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bound {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Where. IPv4 addresses that an IPv6 socket is bound to are shown as such.
    pub address: SocketAddr,
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
    /// A route came or went, in any table, or a rule that chooses the table.
    Routes,
    /// A kernel parameter of networking changed: forwarding, for one.
    Parameters,
    /// Somebody else changed our table.
    Table,
    /// Somebody changed chains or rules of another table: look with [`coexist`](crate::HostNet::coexist).
    Foreign,
    /// A file that may claim ranges came, went, or changed.
    Files,
}

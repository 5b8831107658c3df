//! Networks, pools, and what the doctor has to say of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A network in a listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkView {
    /// As it is called on this host.
    pub name: String,
    /// Whose file it is of; absent when it was made by hand.
    pub project: Option<String>,
    /// `bridge`, `macvlan`, `ipvlan`.
    pub driver: String,
    /// Its ranges, IPv4 first.
    pub subnets: Vec<String>,
    /// No way out.
    pub internal: bool,
    /// Members don't reach each other.
    pub isolated: bool,
    /// Containers on it.
    pub containers: u32,
    /// `ok`, `moving`, or the conflict that it has.
    pub state: String,
    /// Free text.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// A network in full.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkDetail {
    /// As in the listing.
    #[serde(flatten)]
    pub view: NetworkView,
    /// Link name on the host; of the parent where the driver isn't `bridge`.
    pub bridge: String,
    /// The bridge's addresses; of a LAN, its router's.
    pub gateways: Vec<String>,
    /// Bytes.
    pub mtu: u32,
    /// The subnet was written by somebody, and never moves.
    pub written: bool,
    /// `move` or `report`.
    pub on_conflict: String,
    /// Ranges that it moved away from, with what is left of their time in seconds.
    pub retiring: BTreeMap<String, u64>,
    /// Who is on it.
    pub members: Vec<NetworkMember>,
}

/// A container on a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkMember {
    /// `shop-web-1`.
    pub container: String,
    /// Identifies the incarnation.
    pub id: String,
    /// Link name inside.
    pub link: String,
    /// `02:6c:0a:c0:00:03`.
    pub mac: String,
    /// With prefix length.
    pub addresses: Vec<String>,
    /// Former ones that still answer.
    pub retiring: Vec<String>,
    /// Its default route goes by this network.
    pub default_route: bool,
}

/// A network to make by hand. What is absent is chosen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkRequest {
    /// How it is to be called.
    pub name: String,
    /// `bridge`, `macvlan`, `ipvlan`.
    #[serde(default)]
    pub driver: Option<String>,
    /// At most one for each family.
    #[serde(default)]
    pub subnets: Vec<String>,
    /// The bridge's IPv4 address.
    #[serde(default)]
    pub gateway: Option<String>,
    /// No way out.
    #[serde(default)]
    pub internal: bool,
    /// Members don't reach each other.
    #[serde(default)]
    pub isolated: bool,
    /// False turns IPv6 off.
    #[serde(default)]
    pub ipv6: Option<bool>,
    /// Bytes.
    #[serde(default)]
    pub mtu: Option<u32>,
    /// `move` or `report`.
    #[serde(default)]
    pub on_conflict: Option<String>,
    /// `parent`, `macvlan_mode`, `ipvlan_mode`.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// Free text.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// A container to put on a network. It is not replaced, and forgets it at the next `up` of its site.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectRequest {
    /// Name or id.
    pub container: String,
    /// Further names on this network.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// In its subnet, which must have been written by somebody.
    #[serde(default)]
    pub ipv4_address: Option<String>,
    /// Same.
    #[serde(default)]
    pub ipv6_address: Option<String>,
    /// `02:…`.
    #[serde(default)]
    pub mac_address: Option<String>,
    /// The network with the highest has the default route.
    #[serde(default)]
    pub gateway_priority: i32,
}

/// A container to take off a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DisconnectRequest {
    /// Name or id.
    pub container: String,
}

/// A pool of address blocks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolView {
    /// The whole range.
    pub base: String,
    /// Prefix length of a block.
    pub size: u8,
    /// How many there are.
    pub blocks: u64,
    /// How many nobody has.
    pub free: u64,
    /// The block that the next network gets; absent when there is none.
    pub next: Option<String>,
    /// Who has the others.
    pub held: Vec<PoolHolder>,
}

/// Somebody who has blocks of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolHolder {
    /// The range, which may be larger than a block.
    pub range: String,
    /// ``network `shop_default` ``, ``route via `tun0` ``.
    pub holder: String,
    /// One of Linkspan's networks.
    pub ours: bool,
    /// How many blocks of this pool it takes.
    pub blocks: u64,
}

/// What Linkspan knows of the ranges in use, and what it made of that.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkReport {
    /// Ranges that others use, or that were found and do not count.
    pub claims: Vec<ClaimView>,
    /// Linkspan's own networks.
    pub networks: Vec<ChoiceView>,
    /// What could not be read, and the like.
    pub notes: Vec<String>,
}

/// A range that somebody else uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimView {
    /// The range.
    pub range: String,
    /// Who: ``route in table 100 via `tun0` ``.
    pub source: String,
    /// Why it doesn't count; absent when networks keep clear of it.
    pub disregarded: Option<String>,
}

/// A network of Linkspan's and how it came by its range.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChoiceView {
    /// Which.
    pub network: String,
    /// Its range.
    pub range: String,
    /// `chosen from pool 10.192.0.0/12`, `written in its file`, `of this host's own prefix fd…::/48`.
    pub reason: String,
    /// With whom it meets, and what comes of it.
    pub conflict: Option<String>,
    /// Ranges that it moved away from a moment ago. They need no attention: they are given up by themselves.
    #[serde(default)]
    pub left: Vec<String>,
}

/// The firewall in words.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirewallReport {
    /// `owned`, `watched`, `absent`, `damaged`, in words.
    pub table: String,
    /// Our rules, in the order in which a packet meets them.
    pub rules: Vec<RuleView>,
    /// Chains of others that see the same packets.
    pub foreign: Vec<ForeignView>,
}

/// One rule of our table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleView {
    /// Its chain.
    pub chain: String,
    /// `prerouting`, `input`, `forward`, `output`, `postrouting`.
    pub hook: String,
    /// Lower is earlier.
    pub priority: i32,
    /// What it does, for which packets, and why.
    pub words: String,
    /// Elements of the sets and maps that it looks at, by name.
    pub elements: BTreeMap<String, u64>,
    /// `IPv4`, `IPv6` or both, where the rule is for packets of these only.
    #[serde(default)]
    pub families: Vec<String>,
}

/// A chain of somebody else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForeignView {
    /// `ip filter FORWARD`.
    pub chain: String,
    /// `forward`, …
    pub hook: String,
    /// Lower is earlier.
    pub priority: i32,
    /// `accept` or `drop`.
    pub policy: String,
    /// Whose it seems to be: `Docker`, `ufw`, `firewalld`, …
    pub owner: String,
    /// What it will do to traffic of Linkspan's containers.
    pub effect: String,
    /// What to run to change that; absent when nothing is wrong.
    pub remedy: Option<String>,
}

//! What a plan is made from: what people want, what is, and what was promised before.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use linkspan_site::{Attachment, ContainerName, Driver, Network, NetworkName, ProjectName, Protocol, Site};
use serde::{Deserialize, Serialize};

use crate::{ContainerId, ContainerSpec, IdRange, Job, NetworkId};

/// Everything a plan depends on. The same world gives the same plan.
#[derive(Debug, Clone, Copy)]
pub struct World<'a> {
    /// What people want.
    pub desired: &'a Desired,
    /// What is.
    pub observed: &'a Observed,
    /// What was promised before.
    pub leases: &'a Arc<Leases>,
    /// The daemon's settings.
    pub settings: &'a Settings,
    /// Milliseconds since the epoch.
    pub now_ms: u64,
}

// === Desired ===

/// What people want, durable.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Desired {
    /// Grows with every change.
    pub generation: u64,
    /// Sites that are up.
    pub projects: BTreeMap<ProjectName, Arc<Site>>,
    /// Containers that somebody stopped or removed by hand; forgotten at the next `up`.
    pub held_back: BTreeMap<Slot, HeldBack>,
    /// Times that somebody asked for a restart.
    pub restarts: BTreeMap<Slot, u64>,
    /// Which image each project's image names stood for when it was brought up: a newly loaded image of the same name
    /// is used from the next `up` on, not before.
    pub pins: BTreeMap<ProjectName, BTreeMap<String, String>>,
    /// Incarnations that somebody threw away (`rm --force`) though their site declares them: others take their places.
    #[serde(default)]
    pub discarded: BTreeSet<ContainerId>,
    /// Volumes to remove as soon as no container has them.
    pub doomed_volumes: BTreeSet<String>,
    /// Networks made by hand; a site joins one as `external`.
    #[serde(default)]
    pub networks: BTreeMap<NetworkName, Network>,
    /// Networks that containers were put on (`Some`) or taken off (`None`) by hand; forgotten at the next `up`.
    #[serde(default)]
    pub connections: BTreeMap<Slot, BTreeMap<NetworkId, Option<Attachment>>>,
}

impl Desired {
    /// What to look an image up by: the id that the name was pinned to, or the name.
    pub fn image_key<'a>(&'a self, project: &ProjectName, name: &'a str) -> &'a str {
        self.pins
            .get(project)
            .and_then(|pins| pins.get(name))
            .map_or(name, String::as_str)
    }
}

/// One place for a container: which replica of which container of which project.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Slot {
    /// Whose.
    pub project: ProjectName,
    /// Which.
    pub container: ContainerName,
    /// From 1.
    pub index: u32,
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.project, self.container, self.index)
    }
}

impl From<Slot> for String {
    fn from(slot: Slot) -> Self {
        slot.to_string()
    }
}

impl TryFrom<String> for Slot {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let mut parts = text.splitn(3, '/');
        let (Some(project), Some(container), Some(index)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(format!("slot `{text}` is not project/container/index"));
        };
        Ok(Self {
            project: project.parse().map_err(|error| format!("{error}"))?,
            container: container.parse().map_err(|error| format!("{error}"))?,
            index: index.parse().map_err(|error| format!("{error}"))?,
        })
    }
}

impl Slot {
    /// The container's name as shown: `shop-web-1`.
    pub fn display_name(&self) -> String {
        format!("{}-{}-{}", self.project, self.container, self.index)
    }

    /// The service that the proxy balances over: `shop/web`.
    pub fn service(&self) -> String {
        service_id(&self.project, &self.container)
    }
}

/// The name by which the proxy knows all replicas of a container.
pub fn service_id(project: &ProjectName, container: &ContainerName) -> String {
    format!("{project}/{container}")
}

/// Why a declared container doesn't run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeldBack {
    /// `linkspan stop`: kept, not running.
    Stopped,
    /// `linkspan rm`: gone.
    Removed,
}

// === Settings ===

/// What the daemon was told, and what it knows of its machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Unique to this state folder; seeds container ids.
    pub seed: u64,
    /// From the machine id; decides where pools are begun.
    pub machine: u64,
    /// Where subnets come from.
    pub pools: Vec<Pool>,
    /// Ranges that must stay free.
    pub avoid: Vec<IpNetwork>,
    /// Our unique-local prefix, a /48 (RFC 4193); absent without IPv6.
    pub prefix6: Option<Ipv6Network>,
    /// First host id that containers may use.
    pub ids_first: u32,
    /// How many ranges of 65,536 ids there are.
    pub ids_ranges: u32,
    /// Log rotation of containers.
    pub log: crate::LogSpec,
    /// A request waits at most so long for an endpoint.
    pub hold: Duration,
}

/// A range that is split into networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// The whole range.
    pub base: Ipv4Network,
    /// Prefix length of each network.
    pub size: u8,
}

// === Leases ===

/// Promises that outlive a plan, durable.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Leases {
    /// Ids given out so far; container ids and bridge numbers come from here.
    pub counter: u64,
    /// Networks by bridge name. A network that is renumbered has two for a while.
    pub networks: BTreeMap<String, NetworkLease>,
    /// Addresses by bridge name and container.
    pub addresses: BTreeMap<String, BTreeMap<ContainerId, AddressLease>>,
    /// Host ids.
    pub ids: BTreeMap<ContainerId, IdRange>,
    /// Where the search for a free id range goes on.
    pub ids_cursor: u32,
    /// Host ports that we picked for ports that asked for any.
    pub ports: BTreeMap<String, u16>,
}

/// A network's promise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkLease {
    /// Which network.
    pub id: NetworkId,
    /// Its subnet.
    pub v4: Ipv4Network,
    /// Its IPv6 subnet.
    pub v6: Option<Ipv6Network>,
    /// The bridge's address.
    pub gateway: Ipv4Addr,
    /// The resolver leg's address.
    pub resolver: Ipv4Addr,
    /// No way out.
    pub internal: bool,
    /// Bytes.
    pub mtu: u32,
    /// Did the user write that? Then it goes back to that of the way out when he no longer does.
    #[serde(default)]
    pub mtu_written: bool,
    /// Did the user write the subnet?
    pub fixed: bool,
    /// What joins its members.
    #[serde(default)]
    pub driver: Driver,
    /// Its members don't reach each other.
    #[serde(default)]
    pub isolated: bool,
    /// Subnets that it had before it moved.
    #[serde(default)]
    pub retiring: Vec<Retiring>,
    /// Why it moved, in words, once for each time. Kept until all who are on it have arrived and that was told, so that
    /// somebody tells it whoever dies in between.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub moves: Vec<String>,
    /// Host part of the address given last; the search goes on behind it, so that a released one is reused last.
    pub cursor: u32,
}

/// A subnet that a network moved away from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retiring {
    /// The range.
    pub range: IpNetwork,
    /// The bridge's address.
    pub gateway: IpAddr,
    /// The resolver leg's address.
    pub resolver: IpAddr,
    /// Until then what was begun there goes on; milliseconds since the epoch.
    pub until_ms: u64,
}

/// A container's addresses on a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressLease {
    /// IPv4.
    pub v4: Ipv4Addr,
    /// IPv6.
    pub v6: Option<Ipv6Addr>,
}

// === Observed ===

/// What is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    /// Bridges of ours that exist and are whole, by link name.
    pub bridges: BTreeSet<String>,
    /// Bridges of ours that exist but lack something.
    pub damaged: BTreeSet<String>,
    /// Host ends of containers' links that exist.
    pub links: BTreeSet<String>,
    /// Links of containers, by the names of their host ends, that lack something inside.
    #[serde(default)]
    pub damaged_links: BTreeSet<String>,
    /// Host ports that other programs hold; found out by trying to bind them.
    pub foreign_ports: BTreeSet<HostPort>,
    /// Ranges that others use.
    pub claims: Vec<Claim>,
    /// LANs that networks are on, by the host's link to them.
    #[serde(default)]
    pub lans: BTreeMap<String, Arc<Lan>>,
    /// Known incarnations.
    pub containers: BTreeMap<ContainerId, Arc<Observation>>,
    /// Images by the name that sites call them, and by the id that a name was pinned to.
    pub images: BTreeMap<String, Arc<Image>>,
    /// Does the host have IPv6?
    pub ipv6: bool,
    /// MTU of the way out.
    pub mtu: u32,
    /// Kernel parameters of the whole host's that networks need on, and that are off.
    pub turned_off: BTreeSet<String>,
    /// The host's name servers that can be reached from a LAN: for containers that are on one, and not on a bridge.
    pub name_servers: Vec<IpAddr>,
}

/// Who is known to be on a LAN, each with his address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lan {
    /// By address.
    pub held: BTreeMap<IpAddr, LanHolder>,
}

/// Who has an address on a LAN.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LanHolder {
    /// This host, by the link of that name.
    Host(String),
    /// The gateway of the host's default route.
    Router,
    /// Somebody with this hardware address.
    Neighbour(String),
}

impl fmt::Display for LanHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(link) => write!(f, "this host (`{link}`)"),
            Self::Router => f.write_str("the router"),
            Self::Neighbour(mac) => write!(f, "a host of the LAN ({mac})"),
        }
    }
}

/// A range that somebody else uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The range.
    pub range: IpNetwork,
    /// Who: ``route via `tun0` ``, ``address of `eth0` ``.
    pub source: String,
}

/// What a plan must know of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Config digest; a container of another id is replaced.
    pub id: String,
    /// Chain ids from bottom to top.
    pub layers: Vec<String>,
    /// Program.
    pub entrypoint: Vec<String>,
    /// Arguments.
    pub command: Vec<String>,
    /// `KEY=value`.
    pub env: Vec<String>,
    /// Absolute; empty means `/`.
    pub working_dir: String,
    /// Empty means root.
    pub user: String,
    /// Paths that get a volume when the site names none.
    pub volumes: Vec<String>,
    /// `SIGQUIT`, `3`, …
    pub stop_signal: Option<String>,
    /// The image's own check.
    pub healthcheck: Option<linkspan_site::Healthcheck>,
}

/// An incarnation: what we noted down of it and how it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// Durable.
    pub record: Record,
    /// Now.
    pub run: Run,
    /// The job of a former plan that is at work on it; it is left alone until that ends.
    pub busy: Option<Job>,
    /// A job on it failed; it is given no other before this, in milliseconds since the epoch. Starts have a backoff of
    /// their own.
    pub rests_until_ms: u64,
}

/// What is noted down of an incarnation, durable before it exists.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Where it belongs.
    pub slot: Slot,
    /// All that makes it.
    pub spec: ContainerSpec,
    /// Of what it was made from, addresses left out; another hash means another incarnation.
    pub hash: String,
    /// As written in the site.
    pub image: String,
    /// Config digest.
    pub image_id: String,
    /// Milliseconds since the epoch.
    pub created_ms: u64,
    /// Times it was started again by its policy.
    pub restarts: u32,
    /// Starts that failed or runs that ended within ten seconds, in a row.
    pub failures: u32,
    /// Not started again before this; milliseconds since the epoch.
    pub not_before_ms: u64,
    /// Why the last attempt failed.
    pub error: Option<String>,
    /// How the last run ended.
    pub exit: Option<Exit>,
    /// The request for a restart that it has obeyed.
    pub obeyed_restart: u64,
    /// Grows with each run: pooled connections of an earlier run are not used for a later one.
    pub runs: u64,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// 128 + n after signal n; absent when nobody saw it.
    pub code: Option<i32>,
    /// Milliseconds since the epoch.
    pub at_ms: u64,
    /// Killed for memory.
    pub oom: bool,
}

/// How an incarnation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Run {
    /// Never started, or everything in /run is gone.
    Absent,
    /// It runs.
    Running {
        /// Its pid 1.
        pid: u32,
        /// Milliseconds since the epoch.
        since_ms: u64,
        /// It answers: healthy, or its routed ports accept.
        ready: bool,
        /// Its check, if it has one.
        health: Option<Health>,
    },
    /// It ended.
    Exited,
}

/// The state of a health check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// Not known yet.
    Starting,
    /// The last check passed.
    Healthy,
    /// Too many checks failed.
    Unhealthy,
}

/// A socket on a host address that a published port needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HostPort {
    /// Transport.
    pub protocol: Protocol,
    /// Where.
    pub address: SocketAddr,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.protocol.name())
    }
}

impl HostPort {
    /// Is it served by the data plane? On loopback, where there is no NAT; and on every address at once, where NAT takes
    /// all packets but those for loopback.
    pub fn is_forwarded(&self) -> bool {
        self.address.ip().is_loopback() || self.address.ip().is_unspecified()
    }
}

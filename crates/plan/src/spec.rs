//! What the capabilities are handed: finished decisions that leave them no choice.
//!
//! `hostnet` is handed the types under *Networks* and *Firewall*, `containers` those under *Containers*.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use linkspan_site::{Device, Driver, Healthcheck, Protocol, Restart, Seccomp, Ulimit};
use serde::{Deserialize, Serialize};

/// One incarnation of a container: 16 hex digits, never used again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ContainerId(pub String);

impl ContainerId {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first eight digits, which name its links.
    pub fn short(&self) -> &str {
        self.0.get(..8).unwrap_or(&self.0)
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A network on this host, `project_name`, unique.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NetworkId(pub String);

impl fmt::Display for NetworkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === Networks ===

/// All our links begin with this; nothing else on the host does.
pub const LINK_PREFIX: &str = "ls-";
/// The address by which containers know the resolver; the same in every network, for ever (RFC 3927 range).
pub const RESOLVER_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 53, 53);
/// Name of the one nftables table we own.
pub const TABLE: &str = "linkspan";

/// A bridge with its addresses and the resolver's leg on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkSpec {
    /// Which network.
    pub id: NetworkId,
    /// Link name of the bridge, at most 15 bytes.
    pub bridge: String,
    /// Link name of the resolver leg's host end; inside the resolver's namespace the leg has the same name.
    pub leg: String,
    /// Subnet; the prefix length of every address on it.
    pub v4: Ipv4Network,
    /// The bridge's address.
    pub gateway: Ipv4Addr,
    /// The resolver leg's address.
    pub resolver: Ipv4Addr,
    /// Absent when the host or the user has no IPv6.
    pub v6: Option<NetworkV6>,
    /// No way out.
    pub internal: bool,
    /// Bytes.
    pub mtu: u32,
    /// What joins its members. All but a bridge have neither addresses nor a resolver leg on the host.
    #[serde(default)]
    pub driver: Driver,
    /// Subnets that it moved away from and whose flows are still coming to their end.
    #[serde(default)]
    pub retiring: Vec<Subnet>,
}

/// A subnet that a network had before it moved. The host reaches only its former members there; the rest of the range
/// is whose it became.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    /// The bridge's address.
    pub gateway: IpAddr,
    /// The resolver leg's address.
    pub resolver: IpAddr,
    /// Containers that still answer there.
    pub members: Vec<IpAddr>,
}

/// The IPv6 half of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkV6 {
    /// A /64.
    pub subnet: Ipv6Network,
    /// The bridge's address.
    pub gateway: Ipv6Addr,
    /// The resolver leg's address.
    pub resolver: Ipv6Addr,
}

/// A container's veth on a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// Which network.
    pub network: NetworkId,
    /// Its bridge, the master of the host end.
    pub bridge: String,
    /// Link name of the host end.
    pub host_link: String,
    /// Link name inside: `eth0`, `eth1`, …
    pub link: String,
    /// Hardware address inside.
    pub mac: [u8; 6],
    /// Address inside, with the subnet's prefix.
    pub v4: Ipv4Network,
    /// Address inside, with the subnet's prefix.
    pub v6: Option<Ipv6Network>,
    /// Default gateway; absent on internal networks and on all networks but the first.
    pub gateway4: Option<Ipv4Addr>,
    /// Default gateway; absent on internal networks and on all networks but the first.
    pub gateway6: Option<Ipv6Addr>,
    /// Bytes.
    pub mtu: u32,
    /// Route [`RESOLVER_ADDRESS`] by this link (true on the first).
    pub resolver: bool,
    /// What the link is: an end of a veth on the bridge, or an own link on top of one of the host's.
    #[serde(default)]
    pub driver: Driver,
    /// It must not reach other members of the network.
    #[serde(default)]
    pub isolated: bool,
    /// Addresses that it had before the network moved: they still answer, but nothing new is begun from them.
    #[serde(default)]
    pub retiring: Vec<IpNetwork>,
}

// === Firewall ===

/// All elements that our table's sets and maps must hold. The skeleton is fixed, these vary.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Firewall {
    /// Bridges whose traffic is ours, by link name.
    pub bridges: BTreeSet<String>,
    /// Those of them with a way out.
    pub outward: BTreeSet<String>,
    /// Subnets that are masqueraded when they leave by a link that isn't ours.
    pub masquerade4: BTreeSet<Ipv4Network>,
    /// Same, IPv6.
    pub masquerade6: BTreeSet<Ipv6Network>,
    /// Those of the bridges whose members don't reach each other.
    #[serde(default)]
    pub isolated: BTreeSet<String>,
    /// Published on addresses other than loopback: destination NAT.
    pub dnat: BTreeSet<Dnat>,
}

/// A published port in the kernel, or as many in a row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Dnat {
    /// Protocol.
    pub protocol: Protocol,
    /// Host address; unspecified (`0.0.0.0`, `::`) means every local address of that family.
    pub host_ip: IpAddr,
    /// Host port.
    pub host_port: u16,
    /// Container address, of the same family.
    pub to_ip: IpAddr,
    /// Container port.
    pub to_port: u16,
    /// How many in a row; more than one only where the ports are the same outside and inside.
    pub count: u16,
}

// === Containers ===

/// Host ids that stand for 0.. inside a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct IdRange {
    /// Host id of the container's 0.
    pub first: u32,
    /// How many; 65,536 as a rule.
    pub count: u32,
}

/// Everything that makes a container, decided. Its [`ContainerId`] changes when any of it does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// This incarnation.
    pub id: ContainerId,
    /// As shown: `shop-web-1`.
    pub name: String,
    /// Inside. Empty in a shared network: then it is that of whoever's network it is.
    pub hostname: String,
    /// Layers from bottom to top, by chain id (`sha256:…`).
    pub layers: Vec<String>,
    /// Program and arguments; never empty.
    pub args: Vec<String>,
    /// `KEY=value`.
    pub env: Vec<String>,
    /// Absolute.
    pub cwd: String,
    /// `name|uid[:group|gid]`, looked up in the container's own `/etc/passwd` and `/etc/group`; empty is root.
    pub user: String,
    /// A pseudo terminal instead of three pipes.
    pub terminal: bool,
    /// Own ids, or absent for the host's.
    pub ids: Option<IdRange>,
    /// Mounts, in order; a later one may lie inside an earlier one.
    pub mounts: Vec<MountSpec>,
    /// The root file system can't be written.
    pub read_only: bool,
    /// Lines of `/etc/hosts` beside localhost and the container itself.
    pub hosts: Vec<(IpAddr, String)>,
    /// Its own addresses, for `/etc/hosts`.
    pub addresses: Vec<IpAddr>,
    /// `nameserver` lines of `/etc/resolv.conf`.
    pub nameservers: Vec<IpAddr>,
    /// The `search` line of `/etc/resolv.conf`.
    #[serde(default)]
    pub search: Vec<String>,
    /// Capabilities to hold, without `CAP_`, sorted.
    pub capabilities: BTreeSet<String>,
    /// Everything allowed.
    pub privileged: bool,
    /// `no_new_privs`.
    pub no_new_privileges: bool,
    /// System calls allowed.
    pub seccomp: Seccomp,
    /// Devices beyond the standard ones.
    pub devices: Vec<Device>,
    /// Limits of the whole container.
    pub resources: Resources,
    /// By name without `RLIMIT_`, in lower case.
    pub ulimits: BTreeMap<String, Ulimit>,
    /// Namespaced kernel parameters.
    pub sysctls: BTreeMap<String, String>,
    /// A small init as pid 1.
    pub init: bool,
    /// Signal number.
    pub stop_signal: i32,
    /// Between the stop signal and SIGKILL.
    pub stop_grace: Duration,
    /// How its health is asked for.
    pub healthcheck: Option<Healthcheck>,
    /// When it is started again.
    pub restart: Restart,
    /// Its log file.
    pub log: LogSpec,
    /// Whose network namespace it has.
    #[serde(default)]
    pub network: NetworkNamespace,
    /// On which networks, the first with the default route. Empty unless it has a namespace of its own.
    pub attachments: Vec<Attachment>,
}

/// Whose network namespace a container has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkNamespace {
    /// Its own.
    #[default]
    Own,
    /// The host's.
    Host,
    /// That of another container, whose ids and files of `/etc` it shares too.
    Container(ContainerId),
}

/// A mount with its host side resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountSpec {
    /// What is mounted.
    pub source: MountKind,
    /// Absolute path inside.
    pub target: String,
    /// Can't be written.
    pub read_only: bool,
    /// For a bind: its path may lead to what gives the host away, and container root may be the host's root there. Not
    /// written when false, so that what was made before it was known keeps its id.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_host_path: bool,
}

/// What a mount shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountKind {
    /// A named volume: id-mapped like the root, filled from the image when it is new and empty.
    Volume {
        /// Name on this host, `project_name`: the folder below the volumes folder.
        name: String,
    },
    /// A host path; container root stands for the path's owner unless that is root; mounted `nosuid`.
    Bind {
        /// Host path.
        path: PathBuf,
        /// Make a missing folder.
        create: bool,
    },
    /// Memory.
    Tmpfs {
        /// Bytes.
        size: Option<u64>,
        /// Permission bits.
        mode: Option<u32>,
    },
}

/// Cgroup limits; absent means none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Bytes.
    pub memory: Option<u64>,
    /// Thousandths of a core.
    pub cpu_millis: Option<u64>,
    /// Tasks.
    pub pids: Option<u64>,
}

/// Rotation of a container's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSpec {
    /// Bytes of one file.
    pub max_size: u64,
    /// Files kept, the current one included.
    pub max_files: u32,
}

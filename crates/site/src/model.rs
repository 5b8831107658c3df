//! A site as validated: every name resolves, every number is in range, every default is filled in.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use serde::{Deserialize, Serialize};

use crate::{ContainerName, MacAddress, NetworkName, ProjectName, VolumeName};

mod middleware;

pub use middleware::*;

/// The network that a container joins when its file names none.
pub const DEFAULT_NETWORK: &str = "default";

/// One `linkspan.yaml`, validated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Site {
    /// Unique on the host.
    pub name: ProjectName,
    /// In the order of the file; the router sorts them itself.
    pub routes: Vec<Route>,
    /// Keyed by the name in the file.
    pub containers: BTreeMap<ContainerName, Container>,
    /// Every network that a container names, `default` included when it is used.
    pub networks: BTreeMap<NetworkName, Network>,
    /// Every named volume that a container mounts.
    pub volumes: BTreeMap<VolumeName, Volume>,
}

// === Routes ===

/// A hostname and path, and where its requests go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Which hosts.
    pub host: HostPattern,
    /// Path prefix on segment boundaries; `/` for the whole host. Begins with `/`, ends without one (save `/`).
    pub path: String,
    /// What happens to a request.
    pub action: Action,
    /// Client addresses that may enter; empty means everybody.
    pub allow: Vec<IpNetwork>,
    /// What else is done to its requests and answers.
    #[serde(default)]
    pub middleware: Middleware,
}

/// The host part of a route.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostPattern {
    /// Exactly this name, in lower case, without a trailing dot.
    Exact(String),
    /// `*.name`: one label before this name. Holds the name without `*.`.
    Wildcard(String),
    /// `*` alone: any host that no other route names.
    Default,
}

/// What a route does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Requests are forwarded to one of these.
    Forward(Vec<Target>),
    /// Answered with a redirect; path and query are appended when `to` is only scheme and authority.
    Redirect {
        /// An absolute `http` or `https` URL.
        to: String,
        /// 301, 302, 307 or 308 (the default).
        status: u16,
    },
}

/// Where requests of a route go.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// A container of the same file; every ready replica takes its share.
    Container {
        /// Its name in the file.
        name: ContainerName,
        /// The port the program listens on inside.
        port: u16,
    },
    /// A server elsewhere, re-resolved by TTL.
    Url {
        /// TLS to the target.
        tls: bool,
        /// Name or address.
        host: String,
        /// Written or implied by the scheme.
        port: u16,
    },
}

// === Containers ===

/// A container, with Compose's meaning where Compose has the key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Container {
    /// As written; resolved by the image store.
    pub image: String,
    /// Overrides the image's entrypoint; then the image's command is dropped too.
    pub entrypoint: Option<Vec<String>>,
    /// Overrides the image's command.
    pub command: Option<Vec<String>>,
    /// `env_file`s merged below `environment`.
    pub environment: BTreeMap<String, String>,
    /// Overrides the image's.
    pub working_dir: Option<String>,
    /// `name|uid[:group|gid]`; overrides the image's.
    pub user: Option<String>,
    /// Default: the container's name.
    pub hostname: Option<String>,
    /// Ports published on the host.
    pub ports: Vec<Port>,
    /// Binds, volumes and tmpfs, in the order of the file.
    pub mounts: Vec<Mount>,
    /// At least one, if it has a network namespace of its own and `network_mode` isn't `none`; else none.
    pub networks: BTreeMap<NetworkName, Attachment>,
    /// Started before this one.
    pub depends_on: BTreeMap<ContainerName, Condition>,
    /// When it is started again.
    pub restart: Restart,
    /// How many of it run; 0 is allowed.
    pub replicas: u32,
    /// Free text for people and tools.
    pub labels: BTreeMap<String, String>,
    /// Overrides the image's.
    pub healthcheck: Option<Healthcheck>,
    /// The root file system can't be written.
    pub read_only: bool,
    /// Capabilities beyond the default set, without `CAP_`; `ALL` stands for all.
    pub cap_add: Vec<String>,
    /// Capabilities taken from the default set, without `CAP_`; `ALL` stands for all.
    pub cap_drop: Vec<String>,
    /// Bytes.
    pub memory_limit: Option<u64>,
    /// Thousandths of a core.
    pub cpu_millis: Option<u64>,
    /// Most tasks at once.
    pub pids_limit: Option<u64>,
    /// By name without `RLIMIT_`, in lower case.
    pub ulimits: BTreeMap<String, Ulimit>,
    /// Namespaced kernel parameters.
    pub sysctls: BTreeMap<String, String>,
    /// Whose network namespace it has.
    #[serde(default)]
    pub network_mode: NetworkMode,
    /// Name servers instead of the host's for names that are not containers.
    pub dns: Vec<IpAddr>,
    /// Domains that short names are looked up in.
    #[serde(default)]
    pub dns_search: Vec<String>,
    /// Lines of `/etc/hosts`.
    pub extra_hosts: Vec<(String, ExtraHost)>,
    /// A small init as pid 1 that reaps orphans and passes signals on.
    pub init: bool,
    /// Overrides the image's; `SIGTERM` by default.
    pub stop_signal: Option<String>,
    /// Between the stop signal and SIGKILL.
    pub stop_grace: Duration,
    /// Everything allowed; root is still not the host's root unless `host_users`.
    pub privileged: bool,
    /// Host devices inside.
    pub devices: Vec<Device>,
    /// `security_opt`.
    pub security: Security,
    /// `userns_mode: host`: ids inside are the host's ids.
    pub host_users: bool,
}

/// Ports published on the host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Port {
    /// The host address; `127.0.0.1` when the file gives none.
    pub host_ip: IpAddr,
    /// The first of them; 0 picks a free one.
    pub host_port: u16,
    /// The first of them, inside.
    pub container_port: u16,
    /// How many in a row, outside and inside; 1 when `host_port` is 0.
    #[serde(default = "one")]
    pub count: u16,
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
}

fn one() -> u16 {
    1
}

impl Port {
    /// Each of them by itself.
    pub fn each(&self) -> impl Iterator<Item = Self> + use<> {
        let first = self.clone();
        (0..self.count.max(1)).map(move |step| Self {
            host_port: match first.host_port {
                0 => 0,
                port => port.saturating_add(step),
            },
            container_port: first.container_port.saturating_add(step),
            count: 1,
            ..first
        })
    }

    /// The last of them on the host.
    pub fn last_host_port(&self) -> u16 {
        self.host_port.saturating_add(self.count.saturating_sub(1))
    }
}

/// Transport protocol of a published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// RFC 9293.
    Tcp,
    /// RFC 768.
    Udp,
    /// RFC 9260.
    Sctp,
}

impl Protocol {
    /// As people write it: `tcp`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// Something mounted into a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// What is mounted.
    pub source: MountSource,
    /// Absolute path inside.
    pub target: String,
    /// Can't be written.
    pub read_only: bool,
    /// For a bind: it may give the host away, and container root may be the host's root there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_host_path: bool,
}

/// What a mount shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountSource {
    /// A named volume of the file.
    Volume(VolumeName),
    /// A host path, absolute (relative ones are resolved against the file's folder).
    Bind {
        /// Host path.
        path: PathBuf,
        /// Make a missing folder, as Compose's short form does.
        create: bool,
    },
    /// Memory; gone with the container.
    Tmpfs {
        /// Bytes; half of memory when absent.
        size: Option<u64>,
        /// Permission bits; 1777 when absent.
        mode: Option<u32>,
    },
}

/// How a container is on a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// Further names on this network.
    pub aliases: Vec<String>,
    /// A fixed address inside the network's subnet.
    pub ipv4_address: Option<Ipv4Addr>,
    /// A fixed address inside the network's subnet.
    pub ipv6_address: Option<Ipv6Addr>,
    /// A fixed hardware address.
    #[serde(default)]
    pub mac_address: Option<MacAddress>,
    /// The network with the highest has the default route; of equals, the first by name that has a way out.
    #[serde(default)]
    pub gateway_priority: i32,
}

/// Whose network namespace a container has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkMode {
    /// Its own, with a link to each of its networks.
    #[default]
    Networks,
    /// The host's.
    Host,
    /// Its own, with nothing but loopback.
    None,
    /// That of another container of the file: `container:NAME` or `service:NAME`.
    Container(ContainerName),
}

/// When a dependency counts as there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// It runs.
    Started,
    /// Its health check passes.
    Healthy,
    /// It ran and exited with 0.
    CompletedSuccessfully,
}

/// When a container that ended is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Restart {
    /// Never.
    No,
    /// Always, also after it was stopped by hand and the daemon restarted.
    Always,
    /// Unless somebody stopped it. The default.
    UnlessStopped,
    /// After an exit other than 0, at most so often.
    OnFailure {
        /// No limit when absent.
        max: Option<u32>,
    },
}

/// How a container's health is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Healthcheck {
    /// The program and its arguments; empty disables the image's check.
    pub test: Vec<String>,
    /// Between checks.
    pub interval: Duration,
    /// Of one check.
    pub timeout: Duration,
    /// Failures in a row that make it unhealthy.
    pub retries: u32,
    /// Failures in this time after the start don't count.
    pub start_period: Duration,
    /// Between checks in the start period.
    pub start_interval: Duration,
}

/// A resource limit, soft and hard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// -1 is unlimited.
    pub soft: i64,
    /// -1 is unlimited.
    pub hard: i64,
}

/// The address behind a name in `extra_hosts`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExtraHost {
    /// As written.
    Address(IpAddr),
    /// `host-gateway`: the bridge of the container's network.
    HostGateway,
}

/// A host device inside a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// On the host.
    pub host: PathBuf,
    /// Inside.
    pub container: PathBuf,
    /// Of `r`, `w`, `m`.
    pub permissions: String,
}

/// `security_opt`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Security {
    /// True unless turned off.
    pub no_new_privileges: bool,
    /// Which system calls are allowed.
    pub seccomp: Seccomp,
}

/// The seccomp profile of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Seccomp {
    /// The built-in profile.
    Default,
    /// None.
    Unconfined,
}

// === Networks and volumes ===

/// A network of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// No way out, DNS included.
    pub internal: bool,
    /// Chosen from the pools when absent.
    pub subnet: Option<Ipv4Network>,
    /// Chosen from the host's unique-local prefix when absent.
    pub subnet6: Option<Ipv6Network>,
    /// The bridge's address; the first of the subnet when absent.
    pub gateway: Option<Ipv4Addr>,
    /// False turns IPv6 off; true by default.
    pub ipv6: Option<bool>,
    /// What joins its members.
    #[serde(default)]
    pub driver: Driver,
    /// Its members reach the outside and the resolver, but not each other.
    #[serde(default)]
    pub isolated: bool,
    /// Bytes; that of the way out when absent.
    #[serde(default)]
    pub mtu: Option<u32>,
    /// What happens when somebody else comes to use its range.
    #[serde(default)]
    pub on_conflict: OnConflict,
    /// Not of this file: the network of this name that was made with `linkspan network create`.
    #[serde(default)]
    pub external: Option<NetworkName>,
    /// Free text.
    pub labels: BTreeMap<String, String>,
}

/// What joins the members of a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Driver {
    /// A bridge of the network's own, behind the host's address.
    #[default]
    Bridge,
    /// A link of the host's, each member with a hardware address of its own: they are on the LAN itself.
    Macvlan {
        /// Name of the host's link.
        parent: String,
        /// How members see each other.
        mode: MacvlanMode,
    },
    /// A link of the host's, all members with its hardware address.
    Ipvlan {
        /// Name of the host's link.
        parent: String,
        /// Switched or routed.
        mode: IpvlanMode,
    },
}

impl Driver {
    /// The host's link that members are on; absent for a bridge.
    pub fn parent(&self) -> Option<&str> {
        match self {
            Self::Bridge => None,
            Self::Macvlan { parent, .. } | Self::Ipvlan { parent, .. } => Some(parent),
        }
    }
}

/// How members of a macvlan see each other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MacvlanMode {
    /// Directly.
    #[default]
    Bridge,
    /// Not at all.
    Private,
    /// By way of the switch outside.
    Vepa,
    /// There is only one, and it has the whole link.
    Passthru,
}

/// How an ipvlan forwards.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IpvlanMode {
    /// As a switch.
    #[default]
    L2,
    /// As a router: no broadcasts.
    L3,
}

/// What happens when somebody else comes to use a network's range.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnConflict {
    /// It moves to a free range, with all that is on it. A range that the file names never moves.
    #[default]
    Move,
    /// It stays, and the conflict is shown.
    Report,
}

/// A named volume of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Free text.
    pub labels: BTreeMap<String, String>,
}

//! A site as validated: every name resolves, every number is in range, every default is filled in.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use serde::{Deserialize, Serialize};

use crate::{ContainerName, NetworkName, ProjectName, VolumeName};

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
    /// At least one.
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
    /// Name servers instead of the host's for names that are not containers.
    pub dns: Vec<IpAddr>,
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

/// A port published on the host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Port {
    /// The host address; `127.0.0.1` when the file gives none.
    pub host_ip: IpAddr,
    /// 0 picks a free one.
    pub host_port: u16,
    /// Inside.
    pub container_port: u16,
    /// TCP or UDP.
    pub protocol: Protocol,
}

/// Transport protocol of a published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// RFC 9293.
    Tcp,
    /// RFC 768.
    Udp,
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
    /// Free text.
    pub labels: BTreeMap<String, String>,
}

/// A named volume of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Free text.
    pub labels: BTreeMap<String, String>,
}

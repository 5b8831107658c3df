//! Types of the control API, `/v1/…`, JSON over HTTP/1.1 on the daemon's unix socket.
//!
//! | method and path | body | answer |
//! |---|---|---|
//! | `GET /v1/version` | | [`Version`] |
//! | `GET /v1/status` | | [`Status`] |
//! | `GET /v1/sites` | | `[SiteSummary]` |
//! | `PUT /v1/sites/{name}` | [`SiteSource`] | [`Accepted`]; 422 problems, 409 conflict |
//! | `DELETE /v1/sites/{name}?volumes=bool` | | [`Accepted`] |
//! | `POST /v1/plan` | [`SiteSource`] | [`PlanView`]: nothing is changed |
//! | `GET /v1/events?site={name}&generation={n}` | | JSON lines of [`Event`], until converged or failed |
//! | `GET /v1/events?since={ms}&until={ms}` | | JSON lines of [`Event`]: those remembered from `since` on, or none, then what comes until `until`, or for ever |
//! | `GET /v1/containers?all=bool` | | `[ContainerView]` |
//! | `GET /v1/containers/{name or id}` | | the container in full, as a JSON object |
//! | `POST /v1/containers/{…}/start`, `/stop?timeout=s`, `/restart?timeout=s`, `/kill?signal=s` | | 204 |
//! | `DELETE /v1/containers/{…}?force=bool` | | 204 |
//! | `GET /v1/containers/{…}/logs?follow=&tail=&timestamps=&since=` | | frames, see [`frame`] |
//! | `POST /v1/containers/{…}/exec` with `Upgrade: linkspan-exec` | [`ExecRequest`] | 101, then frames, see [`frame`] |
//! | `GET /v1/routes` | | `[RouteView]` |
//! | `GET /v1/images` | | `[ImageView]` |
//! | `POST /v1/images/load` | an archive | `[ImageView]` |
//! | `GET /v1/images/save?name=…&name=…` | | a docker-archive that is an OCI layout too |
//! | `DELETE /v1/images/{name}?force=bool` | | 204 |
//! | `GET /v1/networks` | | `[NetworkView]` |
//! | `POST /v1/networks` | [`NetworkRequest`] | [`NetworkView`]; 422 problems, 409 conflict |
//! | `GET /v1/networks/{name}` | | [`NetworkDetail`] |
//! | `DELETE /v1/networks/{name}` | | 204; 409 while it is in use |
//! | `POST /v1/networks/prune` | | `[String]`: names of what was removed |
//! | `POST /v1/networks/{name}/connect` | [`ConnectRequest`] | 204 |
//! | `POST /v1/networks/{name}/disconnect` | [`DisconnectRequest`] | 204 |
//! | `GET /v1/pools` | | `[PoolView]` |
//! | `GET /v1/doctor/network` | | [`NetworkReport`] |
//! | `GET /v1/doctor/firewall` | | [`FirewallReport`] |
//! | `GET /v1/ca` | | PEM of the CA's certificate |
//!
//! Networks are named as they are on this host: `shop_default` for the network `default` of the site `shop`, and just its
//! name for one that was made by hand.
//!
//! An error is a [`Failure`] with status 400 (malformed), 403, 404, 409 (conflicts with what is), 422 (problems in a
//! file) or 500.

mod network;

use std::collections::BTreeMap;
use std::path::PathBuf;

pub use network::*;
use serde::{Deserialize, Serialize};

/// A site file with everything that it refers to, as the client read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteSource {
    /// Absolute path of the file, for messages and relative paths.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
    /// Those variables of the client's environment and `.env` that the text interpolates.
    pub variables: BTreeMap<String, String>,
    /// Text of every `env_file`, by the path as written in the file.
    pub files: BTreeMap<String, String>,
}

/// An error answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What, which object, why, what to do: one line.
    pub message: String,
    /// Problems of a site file, already rendered with line, column and hint.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

/// Version of the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// `0.1.0`.
    pub version: String,
    /// Kernel release.
    pub kernel: String,
    /// Process of netd.
    pub pid: u32,
}

/// A change was committed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// The generation that holds the change; wait for it on the events.
    pub generation: u64,
    /// Did the change change anything?
    pub changed: bool,
}

/// What the daemon is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the daemon.
    pub version: Version,
    /// Of the desired state.
    pub generation: u64,
    /// True when the world is as desired.
    pub converged: bool,
    /// The proxy.
    pub proxy: ProxyView,
    /// Sites.
    pub sites: Vec<SiteSummary>,
    /// Things a person should know: claims, missing kernel features, failing containers.
    pub warnings: Vec<String>,
}

/// The proxy as netd sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyView {
    /// Its process, when it runs.
    pub pid: Option<u32>,
    /// The snapshot it serves.
    pub generation: u64,
    /// Addresses it listens on for HTTP.
    pub http: Vec<std::net::SocketAddr>,
    /// Addresses it listens on for HTTPS.
    pub https: Vec<std::net::SocketAddr>,
}

/// A site in a listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteSummary {
    /// Project name.
    pub name: String,
    /// Its file.
    pub path: PathBuf,
    /// Containers that are ready.
    pub ready: u32,
    /// Containers that should be.
    pub desired: u32,
    /// URLs that answer.
    pub urls: Vec<String>,
    /// Containers that wait for others, a sentence each.
    #[serde(default)]
    pub waiting: Vec<String>,
}

/// What `up` would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanView {
    /// Empty when nothing would change.
    pub steps: Vec<StepView>,
}

/// One line of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepView {
    /// `+`, `~` or `-`.
    pub sign: char,
    /// `container`, `network`, `route`, `volume`, `port`.
    pub kind: String,
    /// Which.
    pub name: String,
    /// What about it: `image changed: a → b`.
    pub detail: String,
}

/// Something happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Milliseconds since the epoch.
    pub time_ms: u64,
    /// Desired generation it belongs to.
    pub generation: u64,
    /// The project, if it is about one.
    pub project: Option<String>,
    /// `container`, `network`, `proxy`, `firewall`, `site`, …
    pub kind: String,
    /// Which.
    pub name: String,
    /// `creating`, `starting`, `ready`, `exited`, `stopped`, `removed`, `failed`, `repaired`, `converged`.
    pub action: String,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// A container in a listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerView {
    /// Identifies this incarnation.
    pub id: String,
    /// `shop-web-1`.
    pub name: String,
    /// The project, if it has one.
    pub project: Option<String>,
    /// The name in its file.
    pub service: Option<String>,
    /// As written.
    pub image: String,
    /// The program and its arguments.
    pub command: String,
    /// `created`, `starting`, `running`, `stopping`, `exited`, `restarting`.
    pub state: String,
    /// `Up 5 minutes (healthy)`, `Exited (1) 3 seconds ago`, as Docker words it.
    pub status: String,
    /// `healthy`, `unhealthy`, `starting`; absent without a check.
    pub health: Option<String>,
    /// Seconds since the epoch.
    pub created: i64,
    /// Of the container's pid 1 on the host.
    pub pid: Option<u32>,
    /// Of the last run; `None` while it runs or when nobody saw it.
    pub exit_code: Option<i32>,
    /// Times it was started again by its policy.
    pub restarts: u32,
    /// `127.0.0.1:8080->80/tcp`.
    pub ports: Vec<String>,
    /// Network to addresses.
    pub networks: BTreeMap<String, Vec<String>>,
}

/// A route in a listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteView {
    /// `shop.example.com/api`.
    pub host: String,
    /// Project.
    pub project: String,
    /// `web:3000`, a URL, or `308 → https://…`.
    pub target: String,
    /// `ready 2/2`, `coming`, `down: stopped`.
    pub state: String,
    /// The URL to click; absent for wildcards.
    pub url: Option<String>,
}

/// An image in a listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageView {
    /// `name:tag`s.
    pub names: Vec<String>,
    /// Manifest digest.
    pub digest: String,
    /// Config digest: Docker's image id.
    pub id: String,
    /// Bytes of all layers, unpacked where known.
    pub size: u64,
    /// Seconds since the epoch.
    pub created: i64,
}

/// What to run in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecRequest {
    /// Program and arguments.
    pub command: Vec<String>,
    /// `KEY=value`, above the container's own.
    #[serde(default)]
    pub env: Vec<String>,
    /// Instead of the container's.
    pub cwd: Option<String>,
    /// Instead of the container's.
    pub user: Option<String>,
    /// A pseudo terminal.
    #[serde(default)]
    pub terminal: bool,
    /// Rows and columns of the terminal.
    pub size: Option<(u16, u16)>,
    /// Standard input follows; else it is empty.
    #[serde(default)]
    pub stdin: bool,
}

/// Frames of logs and exec: one byte of kind, four bytes of big-endian length, that many bytes.
pub mod frame {
    /// Client to daemon: standard input; an empty frame closes it. (exec)
    pub const STDIN: u8 = 0;
    /// Daemon to client: standard output, or the terminal.
    pub const STDOUT: u8 = 1;
    /// Daemon to client: standard error.
    pub const STDERR: u8 = 2;
    /// Daemon to client, last frame: four bytes of big-endian exit status. (exec)
    pub const EXIT: u8 = 3;
    /// Client to daemon: rows and columns, two big-endian bytes each. (exec)
    pub const RESIZE: u8 = 4;
    /// Daemon to client, last frame: what went wrong, as text.
    pub const ERROR: u8 = 5;
    /// Longest payload, in bytes.
    pub const MAX: usize = 1 << 20;
}

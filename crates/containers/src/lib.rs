//! Runs containers: shims, the OCI runtime, roots, cgroups, logs, exec and health checks.
//!
//! [`Containers`] is handed finished decisions ([`ContainerSpec`]) and namespaces ([`Sandbox`]) and leaves the
//! rest of the host alone. It knows nothing about addresses, images or routes.

mod bundle;
mod cgroup;
mod console;
mod creator;
mod devices;
mod etc;
mod exec;
mod fork;
mod handle;
mod health;
mod init;
mod layout;
mod link;
mod logs;
mod mounts;
mod oci;
mod oom;
mod orders;
mod pidfd;
mod program;
mod protocol;
mod readiness;
mod rlimit;
mod seccomp;
mod shim;
mod signal;
mod user;

use std::path::PathBuf;

pub use exec::{ExecError, ExecInput, ExecSession, ExecSpec, Output};
pub use handle::{Containers, CreateError, OpenError, RemoveError, SignalError, StartError};
pub use init::init_main;
pub use link::AskError;
pub use logs::{LogLine, LogOptions, LogReader, LogStream};
pub use oci::oci_main;
pub use shim::shim_main;

use linkspan_plan::{ContainerId, ContainerSpec};
use serde::{Deserialize, Serialize};

/// Where everything lies.
#[derive(Debug, Clone)]
pub struct Config {
    /// Specs, writable layers, logs, exit statuses, volumes: `/var/lib/linkspan`. Made with mode 0700.
    pub state_dir: PathBuf,
    /// Bundles and sockets: `/run/linkspan`. Made with mode 0711.
    pub run_dir: PathBuf,
    /// Unpacked layers, one folder each, named by the hex digits of the chain id: raw ids 0..65535, whiteouts as
    /// 0:0 character devices, opaque folders marked with `user.overlay.opaque`.
    pub layers_dir: PathBuf,
    /// Our own executable, which has the roles `shim` and `oci`.
    pub binary: PathBuf,
    /// Another OCI runtime instead of `<binary> oci`, for example `/usr/bin/runc`.
    pub runtime: Option<PathBuf>,
}

/// The namespaces that a container is put into, where they are pinned. One that joins another's network is handed that
/// one's: both, for only in the user namespace that the network belongs to is its root the network's root.
///
/// # In the host's network
///
/// A container with `net` absent shares the host's network, but with `user` still has ids of its own, and its root no
/// right over that network: it can't change links, addresses or rules, read others' packets, or open ports below
/// `net.ipv4.ip_unprivileged_port_start` (1024). The last is what people miss, and it is kept on purpose. To allow it, the
/// container would have to be the host's root (nothing less can bind there, for capabilities end where the user namespace
/// does), or every user of the host would have to be let in. Whoever asks for a network has not asked for either. A route
/// or `ports:` serves port 80 without; `userns_mode: host`, which comes here as an absent `user`, is the way to say so.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sandbox {
    /// Absent when the container has the host's ids.
    pub user: Option<PathBuf>,
    /// The network namespace; absent when the container is in the host's.
    pub net: Option<PathBuf>,
}

/// Something that happened to a container. A hint: [`Containers::adopt`] and [`Containers::phase`] are the truth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Its pid 1 ended, and with it every process inside.
    Exited {
        /// Which.
        id: ContainerId,
        /// How.
        exit: Exit,
    },
    /// Its shim died unasked. The container is killed; `Exited` with an unknown code follows.
    ShimLost {
        /// Which.
        id: ContainerId,
    },
    /// Its health changed.
    Health {
        /// Which.
        id: ContainerId,
        /// To what.
        health: Health,
    },
}

/// How a container ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// The exit status, 128 + n for a signal; absent when nobody could tell.
    pub code: Option<i32>,
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// The kernel killed a process of it for want of memory.
    pub oom: bool,
}

/// Where a container is in its one life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Everything is there; its program was not started.
    Created,
    /// Its program runs.
    Running {
        /// Pid 1 of the container, as the host counts.
        pid: u32,
        /// Milliseconds since 1970.
        started_ms: u64,
    },
    /// Its program ended.
    Exited(Exit),
}

/// What the health check says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// It has not passed yet, and may still take its time.
    Starting,
    /// The last check passed.
    Healthy,
    /// As many checks in a row as `retries` failed.
    Unhealthy {
        /// The end of the last check's output, at most 4 KiB.
        output: String,
    },
}

/// A container found on this host.
#[derive(Debug, Clone)]
pub struct Adopted {
    /// Which.
    pub id: ContainerId,
    /// What it was created from.
    pub spec: ContainerSpec,
    /// Where it is.
    pub phase: Phase,
    /// Absent without a health check.
    pub health: Option<Health>,
}

//! One container, key by key.

mod attach;
mod environment;
mod health;
mod host_paths;
mod limits;
mod mounts;
mod ports;
mod process;
mod security;
pub use host_paths::resolved_host_path_danger;
pub use security::CAPABILITIES;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::fields::Fields;
use crate::keys::CONTAINER;
use crate::problem::{Report, quoted};
use crate::yaml::{Key, Node};
use crate::{
    Container, ContainerName, NetworkMode, NetworkName, Restart, Seccomp, Security, Sources, Span, networks,
};

pub(crate) use environment::{references, valueless};

/// More of one container than this is a typing error.
pub(crate) const MAX_REPLICAS: i64 = 1_000;
/// Compose's default.
const STOP_GRACE: Duration = Duration::from_secs(10);

/// A container and where its parts were written, for checks across the file.
pub(crate) struct Draft {
    pub(crate) container: Container,
    pub(crate) marks: Marks,
}

#[derive(Default)]
pub(crate) struct Marks {
    /// Its key if there is no such line.
    pub(crate) restart: Span,
    /// Parallel to the ports.
    pub(crate) ports: Vec<Span>,
    /// Parallel to the mounts.
    pub(crate) mounts: Vec<Span>,
    pub(crate) depends_on: BTreeMap<ContainerName, Span>,
    pub(crate) networks: BTreeMap<NetworkName, NetworkMarks>,
    pub(crate) network_mode: Span,
    pub(crate) sysctls: Span,
}

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct NetworkMarks {
    pub(crate) name: Span,
    pub(crate) ipv4: Span,
    pub(crate) ipv6: Span,
    pub(crate) mac: Span,
}

/// What containers need to know of the world, and what they may use up together.
pub(crate) struct Context<'s> {
    sources: &'s Sources<'s>,
    folder: PathBuf,
    env_files: environment::Cache,
    /// Ports that the file may still publish.
    ports_left: usize,
}

impl<'s> Context<'s> {
    pub(crate) fn new(sources: &'s Sources<'s>) -> Self {
        let folder = sources.file.parent().unwrap_or(Path::new("/")).to_owned();
        Self {
            sources,
            folder,
            env_files: environment::Cache::default(),
            ports_left: ports::MOST,
        }
    }
}

/// Reads one container; whatever is wrong is noted, and replaced by its default so that the rest can be checked.
pub(crate) fn read(key: &Key, node: &Node, context: &mut Context<'_>, report: &mut Report) -> Draft {
    let mut draft = Draft {
        container: empty(),
        marks: Marks {
            restart: key.span,
            ..Marks::default()
        },
    };
    if node.is_null() {
        report
            .at(key.span, format!("container {} is empty", quoted(&key.text)))
            .hint("it needs at least `image:`");
        return draft;
    }
    let Some(fields) = Fields::read(node, &CONTAINER, report) else {
        return draft;
    };
    let fields = &fields;
    let Draft { container, marks } = &mut draft;

    container.image = process::image(fields, key, node.entry("build").is_some(), report).unwrap_or_default();
    container.entrypoint = process::command("entrypoint", fields, report);
    container.command = process::command("command", fields, report);
    container.environment = environment::read(fields, context, report);
    container.working_dir = process::working_dir(fields, report);
    container.user = process::user(fields, report);
    container.hostname = process::hostname(fields, report);
    container.stop_signal = process::stop_signal(fields, report);
    container.stop_grace = fields
        .parsed("stop_grace_period", report, crate::quantity::duration)
        .unwrap_or(STOP_GRACE);
    container.init = fields.flag("init", report).unwrap_or(false);
    container.healthcheck = health::read(fields, report);
    container.labels = networks::labels(fields, report);
    container.read_only = fields.flag("read_only", report).unwrap_or(false);
    if let Some(node) = fields.get("replicas", report) {
        container.replicas = report
            .whole("replicas", node, 0, MAX_REPLICAS)
            .map_or(1, |count| count as u32);
    }
    if let Some(node) = fields.get("restart", report) {
        marks.restart = node.span;
        container.restart = process::restart(node, report).unwrap_or(Restart::UnlessStopped);
    }

    (container.ports, marks.ports) = ports::read(fields, context, report).into_iter().unzip();
    let allow_host_path = fields.flag("allow_host_path", report).unwrap_or(false);
    (container.mounts, marks.mounts) = mounts::read(fields, allow_host_path, context, report)
        .into_iter()
        .unzip();
    container.devices = security::devices(fields, allow_host_path, report);
    (container.network_mode, marks.network_mode) = attach::network_mode(fields, report);
    for (name, attachment, mark) in attach::networks(fields, key.span, report) {
        marks.networks.insert(name.clone(), mark);
        container.networks.insert(name, attachment);
    }
    attach::mac_address(fields, container, &mut marks.networks, report);
    for (name, condition, span) in attach::depends_on(fields, report) {
        marks.depends_on.insert(name.clone(), span);
        container.depends_on.insert(name, condition);
    }
    container.dns = attach::dns(fields, report);
    container.dns_search = attach::dns_search(fields, report);
    container.extra_hosts = attach::extra_hosts(fields, report);

    container.memory_limit = limits::memory(fields, report);
    container.cpu_millis = fields.parsed("cpus", report, crate::quantity::cpus);
    container.pids_limit = limits::pids(fields, report);
    container.ulimits = limits::ulimits(fields, report);
    container.sysctls = limits::sysctls(fields, report);
    marks.sysctls = fields.entry("sysctls").map_or(key.span, |entry| entry.key.span);

    container.cap_add = security::capabilities("cap_add", fields, report);
    container.cap_drop = security::capabilities("cap_drop", fields, report);
    container.privileged = fields.flag("privileged", report).unwrap_or(false);
    container.security = security::options(fields, report);
    container.host_users = security::host_users(fields, report);
    draft
}

/// All defaults.
fn empty() -> Container {
    Container {
        image: String::new(),
        entrypoint: None,
        command: None,
        environment: BTreeMap::new(),
        working_dir: None,
        user: None,
        hostname: None,
        ports: Vec::new(),
        mounts: Vec::new(),
        networks: BTreeMap::new(),
        depends_on: BTreeMap::new(),
        restart: Restart::UnlessStopped,
        replicas: 1,
        labels: BTreeMap::new(),
        healthcheck: None,
        read_only: false,
        cap_add: Vec::new(),
        cap_drop: Vec::new(),
        memory_limit: None,
        cpu_millis: None,
        pids_limit: None,
        ulimits: BTreeMap::new(),
        sysctls: BTreeMap::new(),
        network_mode: NetworkMode::Networks,
        dns: Vec::new(),
        dns_search: Vec::new(),
        extra_hosts: Vec::new(),
        init: false,
        stop_signal: None,
        stop_grace: STOP_GRACE,
        privileged: false,
        devices: Vec::new(),
        security: Security {
            no_new_privileges: true,
            seccomp: Seccomp::Default,
        },
        host_users: false,
    }
}

/// A path inside a container, absolute and without `.`, `..` and doubled slashes; or why it is none.
fn inside(path: &str) -> Result<String, &'static str> {
    if !path.starts_with('/') {
        return Err("must be an absolute path inside the container");
    }
    let mut out = String::new();
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if part == ".." {
            return Err("may not hold `..`");
        }
        out.push('/');
        out.push_str(part);
    }
    Ok(if out.is_empty() { "/".to_owned() } else { out })
}

//! The OCI bundle: `config.json` as any OCI runtime understands it.
//!
//! See <https://github.com/opencontainers/runtime-spec/blob/v1.0.2/config.md> and `config-linux.md` there.

use std::os::linux::fs::MetadataExt;
use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;

use linkspan_plan::{ContainerSpec, MountKind, NetworkNamespace};
use linkspan_site::{Device, Seccomp};
use serde_json::{Value, json};

use crate::layout::Layout;
use crate::orders::Orders;
use crate::rlimit::Rlimit;
use crate::user::Identity;
use crate::{cgroup, etc, seccomp};

/// Annotation: our own runtime becomes a small init before it runs the program.
pub(crate) const INIT_ANNOTATION: &str = "dev.linkspan.init";
/// Where another runtime finds our binary as init.
const INIT_PATH: &str = "/dev/.linkspan-init";

/// As in every engine that people know: what tells of the host, or reaches it, is hidden.
const MASKED: [&str; 11] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// Why a container can't be described as asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BundleError {
    #[error("device `{}` is not there or no device", .path.display())]
    Device {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("kernel parameter `{name}` belongs to the network namespace, which is that of {whose}")]
    Sysctl { name: String, whose: &'static str },
}

/// The whole `config.json`.
pub(crate) fn config(
    orders: &Orders,
    layout: &Layout,
    identity: &Identity,
    limits: &[Rlimit],
) -> Result<Value, BundleError> {
    let spec = &orders.spec;
    let foreign = orders.runtime.is_some();
    let mut args = spec.args.clone();
    if spec.init && foreign {
        args.splice(0..0, [INIT_PATH.to_owned(), "init".to_owned(), "--".to_owned()]);
    }
    let mut process = process(spec, identity);
    process["args"] = json!(args);
    process["terminal"] = json!(spec.terminal);
    process["cwd"] = json!(spec.cwd);
    process["env"] = json!(environment(spec, identity));
    // Our own runtime inherits them from us; others set their own for themselves.
    if foreign {
        process["rlimits"] = limits.iter().map(|limit| limit.to_oci()).collect();
    }
    let devices = devices(&spec.devices)?;
    let mut linux = json!({
        "namespaces": namespaces(orders, layout),
        "cgroupsPath": format!("/{}/{}", layout.cgroup_parent(), spec.id),
        "resources": resources(spec, &devices),
        "devices": devices.iter().map(|(device, _)| device.clone()).collect::<Vec<_>>(),
        "sysctl": sysctls(spec)?,
        "rootfsPropagation": "private",
    });
    if orders.user_namespace.is_some()
        && let Some(ids) = spec.ids
    {
        let map = json!([{ "containerID": 0, "hostID": ids.first, "size": ids.count }]);
        linux["uidMappings"] = map.clone();
        linux["gidMappings"] = map;
    }
    if !spec.privileged {
        linux["maskedPaths"] = json!(MASKED);
        linux["readonlyPaths"] = json!(READ_ONLY);
        if spec.seccomp == Seccomp::Default {
            linux["seccomp"] = seccomp::default_profile(&spec.capabilities);
        }
    }
    Ok(json!({
        "ociVersion": "1.0.2",
        "process": process,
        "root": { "path": layout.rootfs(&spec.id), "readonly": spec.read_only },
        "hostname": spec.hostname,
        "mounts": mounts(orders, layout),
        "annotations": { INIT_ANNOTATION: if spec.init { "true" } else { "false" } },
        "linux": linux,
    }))
}

/// What `exec` shares with the first process: who, and with which rights.
pub(crate) fn process(spec: &ContainerSpec, identity: &Identity) -> Value {
    let capabilities: Vec<String> = if spec.privileged {
        caps::all().iter().map(ToString::to_string).collect()
    } else {
        spec.capabilities
            .iter()
            .map(|name| format!("CAP_{name}"))
            .collect()
    };
    json!({
        "user": { "uid": identity.uid, "gid": identity.gid, "additionalGids": identity.groups },
        "capabilities": {
            "bounding": capabilities,
            "effective": capabilities,
            "permitted": capabilities,
            "inheritable": [],
            "ambient": [],
        },
        "noNewPrivileges": spec.no_new_privileges && !spec.privileged,
    })
}

/// The container's variables, and those that every program expects. `HOME` is always set, for a runtime that
/// looks it up itself would load code of the container to do so.
fn environment(spec: &ContainerSpec, identity: &Identity) -> Vec<String> {
    let mut env = spec.env.clone();
    let mut default = |name: &str, value: &str| {
        if !env.iter().any(|entry| entry.split('=').next() == Some(name)) {
            env.push(format!("{name}={value}"));
        }
    };
    default(
        "PATH",
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    );
    default("HOSTNAME", &spec.hostname);
    default("HOME", &identity.home);
    if spec.terminal {
        default("TERM", "xterm");
    }
    env
}

/// The same for a program beside the first: its own variables come before the container's.
pub(crate) fn exec_environment(
    spec: &ContainerSpec,
    identity: &Identity,
    own: &[String],
    terminal: bool,
) -> Vec<String> {
    let name = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
    let mut env = own.to_vec();
    for entry in environment(spec, identity) {
        if !env.iter().any(|known| name(known) == name(&entry)) {
            env.push(entry);
        }
    }
    if terminal && !env.iter().any(|entry| name(entry) == "TERM") {
        env.push("TERM=xterm".to_owned());
    }
    env
}

fn namespaces(orders: &Orders, layout: &Layout) -> Value {
    let mut namespaces = vec![
        json!({ "type": "pid" }),
        json!({ "type": "ipc" }),
        json!({ "type": "uts" }),
        json!({ "type": "mount" }),
        json!({ "type": "cgroup" }),
    ];
    if orders.net_namespace.is_some() {
        // Not where hostnet pinned it: the runtime opens it as the mapped root, which may not get there.
        let net = layout.run(&orders.spec.id).join("net");
        namespaces.push(json!({ "type": "network", "path": net }));
    }
    if let Some(path) = &orders.user_namespace {
        namespaces.push(json!({ "type": "user", "path": path }));
    }
    Value::Array(namespaces)
}

fn mounts(orders: &Orders, layout: &Layout) -> Value {
    let spec = &orders.spec;
    let mount = |target: &str, kind: &str, options: &[&str]| json!({ "destination": target, "type": kind, "source": kind, "options": options });
    let sys = if spec.privileged { "rw" } else { "ro" };
    let mut mounts = vec![
        mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount(
            "/dev",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        ),
        mount(
            "/dev/pts",
            "devpts",
            &[
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
                "gid=5",
            ],
        ),
        if orders.is_guest_of_host() {
            json!({
                "destination": "/sys",
                "type": "bind",
                "source": layout.sys_shown(&spec.id),
                "options": ["bind", "rprivate", "nosuid", "noexec", "nodev", sys],
            })
        } else {
            mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", sys])
        },
        mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount(
            "/dev/shm",
            "tmpfs",
            &["nosuid", "noexec", "nodev", "mode=1777", "size=67108864"],
        ),
    ];
    if cgroup::unified() {
        mounts.push(mount(
            "/sys/fs/cgroup",
            "cgroup",
            &["nosuid", "noexec", "nodev", "relatime", "ro"],
        ));
    }
    for file in etc::FILES {
        mounts.push(json!({
            "destination": format!("/etc/{file}"),
            "type": "bind",
            "source": layout.etc_shown(&spec.id).join(file),
            "options": ["bind", "rprivate", "nosuid", "nodev"],
        }));
    }
    if spec.init && orders.runtime.is_some() {
        mounts.push(json!({
            "destination": INIT_PATH,
            "type": "bind",
            "source": orders.binary,
            "options": ["bind", "rprivate", "ro", "nosuid", "nodev"],
        }));
    }
    for (number, one) in spec.mounts.iter().enumerate() {
        let access = if one.read_only { "ro" } else { "rw" };
        mounts.push(match &one.source {
            MountKind::Tmpfs { size, mode } => {
                let mut options = vec!["nosuid".to_owned(), "nodev".to_owned(), access.to_owned()];
                options.push(format!("mode={:o}", mode.unwrap_or(0o1777)));
                options.extend(size.map(|size| format!("size={size}")));
                json!({ "destination": one.target, "type": "tmpfs", "source": "tmpfs", "options": options })
            }
            source @ (MountKind::Volume { .. } | MountKind::Bind { .. }) => {
                // What it was attached with must be said again, for a runtime may not take it back. A volume lies where
                // nobody on the host can reach its files; a bound folder doesn't.
                let mut options = vec!["rbind", "rprivate", "nodev", access];
                options.extend(matches!(source, MountKind::Bind { .. }).then_some("nosuid"));
                json!({
                    "destination": one.target,
                    "type": "bind",
                    "source": layout.mounts(&spec.id).join(number.to_string()),
                    "options": options,
                })
            }
        });
    }
    Value::Array(mounts)
}

/// Namespaced kernel parameters. Unless told otherwise every user may bind the ports below 1024, where they are the
/// container's own. In a network that isn't, none is changed: with the host's ids that would change the host.
fn sysctls(spec: &ContainerSpec) -> Result<Value, BundleError> {
    let whose = match &spec.network {
        NetworkNamespace::Own => None,
        NetworkNamespace::Host => Some("the host"),
        NetworkNamespace::Container(_) => Some("another container"),
    };
    let mut all = match whose {
        None => json!({ "net.ipv4.ip_unprivileged_port_start": "0" }),
        Some(_) => json!({}),
    };
    for (name, value) in &spec.sysctls {
        // sysctl(8) takes either separator.
        if let Some(whose) = whose
            && name.replace('/', ".").starts_with("net.")
        {
            let name = name.clone();
            return Err(BundleError::Sysctl { name, whose });
        }
        all[name] = json!(value);
    }
    Ok(all)
}

/// `linux.devices` with the access asked for.
fn devices(devices: &[Device]) -> Result<Vec<(Value, String)>, BundleError> {
    let one = |device: &Device| {
        let fail = |source| BundleError::Device {
            path: device.host.clone(),
            source,
        };
        let about = std::fs::metadata(&device.host).map_err(fail)?;
        let kind = about.file_type();
        let letter = match (kind.is_char_device(), kind.is_block_device()) {
            (true, _) => "c",
            (_, true) => "b",
            _ => return Err(fail(std::io::ErrorKind::InvalidInput.into())),
        };
        let (major, minor) = (libc::major(about.st_rdev()), libc::minor(about.st_rdev()));
        Ok((
            json!({
                "type": letter, "path": device.container, "major": major, "minor": minor,
                "fileMode": about.st_mode() & 0o777, "uid": 0, "gid": 0,
            }),
            device.permissions.clone(),
        ))
    };
    devices.iter().map(one).collect()
}

/// Limits of the cgroup. Devices: the standard ones and those asked for; nodes may be made, but not opened.
fn resources(spec: &ContainerSpec, devices: &[(Value, String)]) -> Value {
    let mut rules = vec![json!({ "allow": spec.privileged, "access": "rwm" })];
    if !spec.privileged {
        rules.push(json!({ "allow": true, "type": "c", "access": "m" }));
        rules.push(json!({ "allow": true, "type": "b", "access": "m" }));
        for (major, minor) in [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)] {
            rules
                .push(json!({ "allow": true, "type": "c", "major": major, "minor": minor, "access": "rwm" }));
        }
        rules.push(json!({ "allow": true, "type": "c", "major": 136, "access": "rwm" }));
        for (device, access) in devices {
            rules.push(json!({
                "allow": true, "type": device["type"], "major": device["major"], "minor": device["minor"],
                "access": access,
            }));
        }
    }
    let mut resources = json!({ "devices": rules });
    if let Some(bytes) = spec.resources.memory {
        // As much swap again, as in other engines, where the kernel counts it.
        resources["memory"] = match cgroup::counts_swap() {
            true => json!({ "limit": bytes, "swap": bytes.saturating_mul(2) }),
            false => json!({ "limit": bytes }),
        };
    }
    if let Some(millis) = spec.resources.cpu_millis {
        resources["cpu"] = json!({ "period": 100_000, "quota": millis * 100 });
    }
    if let Some(tasks) = spec.resources.pids {
        resources["pids"] = json!({ "limit": tasks });
    }
    resources
}

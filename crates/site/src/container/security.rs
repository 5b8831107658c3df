//! What a container may do to the kernel and to devices.

use std::path::PathBuf;

use super::{host_paths, inside};
use crate::fields::Fields;
use crate::keys::DEVICE;
use crate::problem::{Report, quoted};
use crate::yaml::{Node, Value};
use crate::{Device, Seccomp, Security};

/// All capabilities, without `CAP_`. See capabilities(7).
pub const CAPABILITIES: &[&str] = &[
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "PERFMON",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "SYSLOG",
    "WAKE_ALARM",
];

/// Names in capitals and without `CAP_`, sorted.
pub(super) fn capabilities(key: &str, fields: &Fields<'_>, report: &mut Report) -> Vec<String> {
    let Some(node) = fields.get(key, report) else {
        return Vec::new();
    };
    let Some(items) = report.list(key, node) else {
        return Vec::new();
    };
    let mut names = Vec::new();
    for item in items {
        let Some(text) = report.text(key, item) else {
            continue;
        };
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
        if name == "ALL" || CAPABILITIES.contains(&name) {
            names.push(name.to_owned());
            continue;
        }
        let nearest = report.nearest(name, CAPABILITIES.iter().copied());
        let problem = report.at(item.span, format!("{} is no capability", quoted(text)));
        match nearest {
            Some(nearest) => problem.hint(format!("did you mean `{nearest}`?")),
            None => problem.hint("such as `NET_ADMIN`, or `ALL`; see capabilities(7)"),
        };
    }
    names.sort();
    names.dedup();
    names
}

pub(super) fn options(fields: &Fields<'_>, report: &mut Report) -> Security {
    let mut security = Security {
        no_new_privileges: true,
        seccomp: Seccomp::Default,
    };
    let Some(node) = fields.get("security_opt", report) else {
        return security;
    };
    let Some(items) = report.list("security_opt", node) else {
        return security;
    };
    for item in items {
        let Some(text) = report.text("security_opt", item) else {
            continue;
        };
        match text.split_once(['=', ':']).unwrap_or((text, "")) {
            ("no-new-privileges", "" | "true") => security.no_new_privileges = true,
            ("no-new-privileges", "false") => security.no_new_privileges = false,
            ("seccomp", "unconfined") => security.seccomp = Seccomp::Unconfined,
            ("seccomp", "builtin") => security.seccomp = Seccomp::Default,
            ("seccomp" | "apparmor" | "label" | "credentialspec" | "systempaths" | "writable-cgroups", _) => {
                report
                    .at(
                        item.span,
                        format!("security option {} is not supported yet", quoted(text)),
                    )
                    .hint("`no-new-privileges:false` and `seccomp=unconfined` are");
            }
            _ => {
                report
                    .at(item.span, format!("{} is no security option", quoted(text)))
                    .hint("`no-new-privileges`, `no-new-privileges:false` or `seccomp=unconfined`");
            }
        }
    }
    security
}

pub(super) fn host_users(fields: &Fields<'_>, report: &mut Report) -> bool {
    let Some(node) = fields.get("userns_mode", report) else {
        return false;
    };
    match report.text("userns_mode", node) {
        Some("host") => true,
        Some(other) => {
            report
                .at(node.span, format!("`userns_mode` can't be {}", quoted(other)))
                .hint("only `host`; without the key, the container has ids of its own");
            false
        }
        None => false,
    }
}

pub(super) fn devices(fields: &Fields<'_>, allow: bool, report: &mut Report) -> Vec<Device> {
    let Some(node) = fields.get("devices", report) else {
        return Vec::new();
    };
    let Some(items) = report.list("devices", node) else {
        return Vec::new();
    };
    items
        .iter()
        .filter_map(|item| device(item, allow, report))
        .collect()
}

/// `host[:inside[:permissions]]`, or the long form.
fn device(node: &Node, allow: bool, report: &mut Report) -> Option<Device> {
    let long;
    let (host, container, permissions) = match &node.value {
        Value::Map(_) => {
            long = Fields::read(node, &DEVICE, report)?;
            let (target, permissions) = (long.text("target", report), long.text("permissions", report));
            let source = long.required(
                "source",
                node.span,
                "a path on the host, such as `/dev/fuse`",
                report,
            )?;
            (report.text("source", source)?, target, permissions)
        }
        _ => {
            let mut parts = report.text("devices", node)?.splitn(3, ':');
            let host = parts.next().unwrap_or_default();
            match (parts.next(), parts.next()) {
                // `/dev/fuse:rw`, as Docker has it.
                (Some(word), None) if !word.starts_with('/') => (host, None, Some(word)),
                (container, permissions) => (host, container, permissions),
            }
        }
    };
    let container = container.unwrap_or(host);
    let permissions = permissions.unwrap_or("rwm");
    if permissions.is_empty() || !permissions.bytes().all(|b| b"rwm".contains(&b)) {
        report
            .at(
                node.span,
                format!("{} are no permissions of a device", quoted(permissions)),
            )
            .hint("of `r`, `w`, `m`");
        return None;
    }
    let mut path = |text: &str| match inside(text) {
        Ok(path) if path.starts_with("/dev/") => Some(PathBuf::from(path)),
        _ => {
            report.at(node.span, format!("{} is no path below `/dev`", quoted(text)));
            None
        }
    };
    let (host, container) = (path(host)?, path(container)?);
    if !allow && !host_paths::harmless_device(&host) {
        report
            .at(
                node.span,
                format!("device `{}` may give the host away", host.display()),
            )
            .hint("if that is meant, write `allow_host_path: true` in the container");
        return None;
    }
    Some(Device {
        host,
        container,
        permissions: permissions.to_owned(),
    })
}

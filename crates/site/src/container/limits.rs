//! How much a container may use, and the kernel parameters of its own namespaces.

use std::collections::BTreeMap;

use crate::Ulimit;
use crate::fields::Fields;
use crate::keys::ULIMIT;
use crate::problem::{Report, quoted};
use crate::quantity;
use crate::yaml::{Node, Value};

/// Docker's rule: with less, nothing starts. Most often it is a missing unit.
const LEAST_MEMORY: u64 = 6 << 20;

pub(super) fn memory(fields: &Fields<'_>, report: &mut Report) -> Option<u64> {
    let limit = fields.parsed("mem_limit", report, |text| match quantity::bytes(text) {
        Ok(size) if (1..LEAST_MEMORY).contains(&size) => {
            Err("is less than 6m, with which nothing starts: is the unit missing?")
        }
        other => other,
    })?;
    // Compose: 0 is no limit.
    (limit > 0).then_some(limit)
}

pub(super) fn pids(fields: &Fields<'_>, report: &mut Report) -> Option<u64> {
    let node = fields.get("pids_limit", report)?;
    let limit = report.whole("pids_limit", node, -1, 1 << 22)?;
    u64::try_from(limit).ok().filter(|limit| *limit > 0)
}

/// See getrlimit(2).
const ULIMITS: &[&str] = &[
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

pub(super) fn ulimits(fields: &Fields<'_>, report: &mut Report) -> BTreeMap<String, Ulimit> {
    let mut limits = BTreeMap::new();
    let Some(node) = fields.get("ulimits", report) else {
        return limits;
    };
    let Value::Map(entries) = &node.value else {
        report
            .at(
                node.span,
                format!("`ulimits` must be a mapping, not {}", node.kind()),
            )
            .hint("`ulimits: { nofile: 65536 }`");
        return limits;
    };
    for entry in entries {
        let name = entry.key.text.as_str();
        if !ULIMITS.contains(&name) {
            let nearest = report.nearest(name, ULIMITS.iter().copied());
            let problem = report.at(entry.key.span, format!("{} is no ulimit", quoted(name)));
            match nearest {
                Some(nearest) => problem.hint(format!("did you mean `{nearest}`?")),
                None => problem.hint(ULIMITS.join(", ")),
            };
            continue;
        }
        if let Some(limit) = ulimit(name, &entry.value, report) {
            limits.insert(name.to_owned(), limit);
        }
    }
    limits
}

fn ulimit(name: &str, node: &Node, report: &mut Report) -> Option<Ulimit> {
    let Value::Map(_) = &node.value else {
        let limit = report.whole(name, node, -1, i64::MAX)?;
        return Some(Ulimit {
            soft: limit,
            hard: limit,
        });
    };
    let fields = Fields::read(node, &ULIMIT, report)?;
    for key in ["soft", "hard"] {
        if fields.entry(key).is_none() {
            report
                .at(node.span, format!("ulimit `{name}` has no `{key}`"))
                .hint("write both, or one number for both");
        }
    }
    let soft = fields
        .get("soft", report)
        .and_then(|node| report.whole("soft", node, -1, i64::MAX));
    let hard = fields
        .get("hard", report)
        .and_then(|node| report.whole("hard", node, -1, i64::MAX));
    let (soft, hard) = (soft?, hard?);
    if hard != -1 && (soft == -1 || soft > hard) {
        report.at(
            node.span,
            format!("ulimit `{name}` has a soft limit above its hard one"),
        );
        return None;
    }
    Some(Ulimit { soft, hard })
}

/// Kernel parameters that belong to a namespace, so that a container may have its own; see sysctl in runc and Docker.
const NAMESPACED: &[&str] = &[
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

pub(super) fn sysctls(fields: &Fields<'_>, report: &mut Report) -> BTreeMap<String, String> {
    let mut parameters = BTreeMap::new();
    let Some(node) = fields.get("sysctls", report) else {
        return parameters;
    };
    for pair in report.pairs("sysctls", node) {
        let (name, Some(value)) = (pair.name, pair.value) else {
            report.at(
                pair.span,
                format!("kernel parameter {} has no value", quoted(pair.name)),
            );
            continue;
        };
        let namespaced =
            name.starts_with("net.") || name.starts_with("fs.mqueue.") || NAMESPACED.contains(&name);
        let letters = |part: &str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
        };
        if !namespaced {
            report
                .at(pair.span, format!("kernel parameter {} is not namespaced: it would change the host", quoted(name)))
                .hint("`net.*`, `fs.mqueue.*`, and of `kernel.*` the `msg…`, `sem` and `shm…` are; set others on the host");
        } else if !name.split('.').all(letters) {
            report.at(
                pair.span,
                format!("{} is no name of a kernel parameter", quoted(name)),
            );
        } else {
            parameters.insert(name.to_owned(), value.to_owned());
        }
    }
    parameters
}

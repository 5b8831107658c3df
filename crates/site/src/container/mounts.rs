//! `volumes` and `tmpfs`: what is mounted into a container.

use std::path::{Path, PathBuf};

use super::{Context, host_paths, inside};
use crate::fields::Fields;
use crate::keys::{BIND, MOUNT, TMPFS};
use crate::problem::{Report, quoted};
use crate::yaml::{Node, Value};
use crate::{Mount, MountSource, Span, VolumeName, networks, quantity};

/// Binds, volumes and tmpfs in the order of the file, `tmpfs` after `volumes`.
pub(super) fn read(
    fields: &Fields<'_>,
    allow: bool,
    context: &Context<'_>,
    report: &mut Report,
) -> Vec<(Mount, Span)> {
    let mut mounts = Vec::new();
    if let Some(node) = fields.get("volumes", report)
        && let Some(items) = report.list("volumes", node)
    {
        for item in items {
            let mount = match &item.value {
                Value::Map(_) => long(item, allow, context, report),
                _ => short(item, allow, context, report),
            };
            mounts.extend(mount.map(|mount| (mount, item.span)));
        }
    }
    if let Some(node) = fields.get("tmpfs", report) {
        for (text, span) in report.one_or_more("tmpfs", node) {
            mounts.extend(tmpfs_short(text, span, report).map(|mount| (mount, span)));
        }
    }
    mounts
}

/// `source:target[:options]`
fn short(node: &Node, allow: bool, context: &Context<'_>, report: &mut Report) -> Option<Mount> {
    let text = report.text("volumes", node)?;
    let parts: Vec<&str> = text.splitn(4, ':').collect();
    let (source, target, options) = match parts.as_slice() {
        [target] => {
            let problem = report.at(
                node.span,
                format!(
                    "{} has no source: it would be a volume without a name",
                    quoted(text)
                ),
            );
            let name = target.trim_matches('/').replace('/', "-");
            problem.hint(format!(
                "write `{}:{text}` and list the name under `volumes:`",
                if name.is_empty() { "data" } else { &name }
            ));
            return None;
        }
        [source, target] => (*source, *target, ""),
        [source, target, options] => (*source, *target, *options),
        _ => {
            report
                .at(node.span, format!("{} has too many `:`", quoted(text)))
                .hint("write `source:target` or `source:target:ro`");
            return None;
        }
    };
    let read_only = options_of(options, node.span, report)?;
    let source = if is_path(source) {
        MountSource::Bind {
            path: host_path(source, node.span, allow, context, report)?,
            create: true,
        }
    } else {
        MountSource::Volume(volume(source, node.span, report)?)
    };
    Some(Mount {
        target: target_path(target, node.span, report)?,
        read_only,
        allow_host_path: allow && matches!(source, MountSource::Bind { .. }),
        source,
    })
}

/// Compose's rule: a source that begins with `/`, `.` or `~` is a path, else a volume.
fn is_path(source: &str) -> bool {
    source.starts_with(['/', '.', '~'])
}

fn options_of(options: &str, span: Span, report: &mut Report) -> Option<bool> {
    let mut read_only = false;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => read_only = true,
            "rw" => {}
            "z" | "Z" | "nocopy" | "cached" | "delegated" | "consistent" | "rshared" | "rslave"
            | "rprivate" | "shared" | "slave" | "private" | "U" => {
                report
                    .at(span, format!("mount option `{option}` is not supported yet"))
                    .hint("`ro` and `rw` are");
                return None;
            }
            _ => {
                report
                    .at(span, format!("{} is no mount option", quoted(option)))
                    .hint("`ro` or `rw`");
                return None;
            }
        }
    }
    Some(read_only)
}

fn volume(name: &str, span: Span, report: &mut Report) -> Option<VolumeName> {
    if name.contains('/') {
        report
            .at(
                span,
                format!("{} is neither a path nor the name of a volume", quoted(name)),
            )
            .hint(format!("for a folder beside this file write `./{name}`"));
        return None;
    }
    networks::name(name, span, report)
}

fn target_path(target: &str, span: Span, report: &mut Report) -> Option<String> {
    match inside(target) {
        Ok(path) if path == "/" => {
            report
                .at(span, "nothing can be mounted on `/`, the container's root")
                .hint("name a folder inside");
            None
        }
        Ok(path) => Some(path),
        Err(rule) => {
            report.at(span, format!("target {} {rule}", quoted(target)));
            None
        }
    }
}

/// Absolute and without `.` and `..`; refused if it gives the host away and that was not allowed.
fn host_path(
    source: &str,
    span: Span,
    allow: bool,
    context: &Context<'_>,
    report: &mut Report,
) -> Option<PathBuf> {
    if source.starts_with('~') {
        report
            .at(
                span,
                format!(
                    "`~` in {} has no meaning here: the daemon runs as root",
                    quoted(source)
                ),
            )
            .hint("write the path out, or use a variable: `${HOME}/…`");
        return None;
    }
    let path = clean(&context.folder.join(source));
    if let Some(reason) = host_paths::danger(&path)
        && !allow
    {
        report
            .at(span, format!("host path `{}` {reason}", path.display()))
            .hint("if that is meant, write `allow_host_path: true` in the container, or in the mount's long form");
        return None;
    }
    Some(path)
}

/// Without touching the disk, as Compose does it.
fn clean(path: &Path) -> PathBuf {
    let mut out = PathBuf::from("/");
    for part in path.components() {
        match part {
            std::path::Component::Normal(name) => out.push(name),
            std::path::Component::ParentDir => {
                out.pop();
            }
            _ => {}
        }
    }
    out
}

fn long(node: &Node, allow: bool, context: &Context<'_>, report: &mut Report) -> Option<Mount> {
    let fields = Fields::read(node, &MOUNT, report)?;
    let allow = fields.flag("allow_host_path", report).unwrap_or(false) || allow;
    let read_only = fields.flag("read_only", report).unwrap_or(false);
    let bind = fields
        .get("bind", report)
        .and_then(|node| Fields::read(node, &BIND, report));
    let create = bind
        .and_then(|bind| bind.flag("create_host_path", report))
        .unwrap_or(true);
    let tmpfs = tmpfs(&fields, report);
    let target = fields
        .required(
            "target",
            node.span,
            "an absolute path inside the container",
            report,
        )
        .and_then(|node| Some((report.text("target", node)?, node.span)))
        .and_then(|(text, span)| target_path(text, span, report));
    let source = match fields.get("source", report) {
        Some(node) => Some((report.text("source", node)?, node.span)),
        None => None,
    };
    let kind = fields.required("type", node.span, "`bind`, `volume` or `tmpfs`", report)?;
    let kind = report.text("type", kind)?;
    belongs("bind", kind, &fields, report);
    belongs("tmpfs", kind, &fields, report);
    let source = match (kind, source) {
        ("bind", Some((text, span))) => {
            let text = if is_path(text) {
                text.to_owned()
            } else {
                format!("./{text}")
            };
            MountSource::Bind {
                path: host_path(&text, span, allow, context, report)?,
                create,
            }
        }
        ("volume", Some((text, span))) => MountSource::Volume(volume(text, span, report)?),
        ("bind" | "volume", None) => {
            let problem = report.at(
                node.span,
                format!("the mount has no `source`, which `{kind}` needs"),
            );
            if kind == "volume" {
                problem.hint(
                    "volumes without a name are not supported: name it, and list the name under `volumes:`",
                );
            }
            return None;
        }
        ("tmpfs", None) => tmpfs,
        ("tmpfs", Some((_, span))) => {
            report.at(span, "a `tmpfs` has no `source`");
            return None;
        }
        (other @ ("npipe" | "cluster" | "image"), _) => {
            report
                .at(node.span, format!("mount type `{other}` is not supported yet"))
                .hint("`bind`, `volume` or `tmpfs`");
            return None;
        }
        (other, _) => {
            report
                .at(node.span, format!("{} is no type of a mount", quoted(other)))
                .hint("`bind`, `volume` or `tmpfs`");
            return None;
        }
    };
    Some(Mount {
        target: target?,
        read_only,
        allow_host_path: allow && matches!(source, MountSource::Bind { .. }),
        source,
    })
}

/// Options of another type would be ignored.
fn belongs(key: &str, kind: &str, fields: &Fields<'_>, report: &mut Report) {
    if let Some(entry) = fields.entry(key)
        && key != kind
    {
        report.at(
            entry.key.span,
            format!("`{key}` options in a mount of type {}", quoted(kind)),
        );
    }
}

fn tmpfs(fields: &Fields<'_>, report: &mut Report) -> MountSource {
    let options = fields
        .get("tmpfs", report)
        .and_then(|node| Fields::read(node, &TMPFS, report));
    let Some(options) = options else {
        return MountSource::Tmpfs {
            size: None,
            mode: None,
        };
    };
    let size = options
        .parsed("size", report, quantity::bytes)
        .filter(|size| *size > 0);
    let mode = options.parsed("mode", report, quantity::mode);
    MountSource::Tmpfs { size, mode }
}

/// `/run:size=64m,mode=1777`
fn tmpfs_short(text: &str, span: Span, report: &mut Report) -> Option<Mount> {
    let (target, options) = text.split_once(':').unwrap_or((text, ""));
    let (mut size, mut mode, mut read_only) = (None, None, false);
    for option in options.split(',').filter(|option| !option.is_empty()) {
        let fault = match option.split_once('=').unwrap_or((option, "")) {
            ("size", value) => {
                quantity::bytes(value).map(|value| size = Some(value).filter(|size| *size > 0))
            }
            ("mode", value) => quantity::mode(value).map(|value| mode = Some(value)),
            ("ro", "") => {
                read_only = true;
                Ok(())
            }
            ("rw" | "nosuid" | "nodev", "") => Ok(()),
            _ => Err("is not supported yet"),
        };
        if let Err(rule) = fault {
            report
                .at(span, format!("tmpfs option {} {rule}", quoted(option)))
                .hint("`size=64m`, `mode=1777`, `ro`");
            return None;
        }
    }
    let target = target_path(target, span, report)?;
    Some(Mount {
        source: MountSource::Tmpfs { size, mode },
        target,
        read_only,
        allow_host_path: false,
    })
}

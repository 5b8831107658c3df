//! The program of a container: image, command, user, and how it ends.

use crate::fields::Fields;
use crate::problem::{Report, quoted};
use crate::yaml::{Key, Node, Value};
use crate::{Restart, hosts, signal, words};

/// The image's name. `build` alone has been refused already.
pub(super) fn image(fields: &Fields<'_>, key: &Key, build: bool, report: &mut Report) -> Option<String> {
    if fields.entry("image").is_none() && !build {
        report
            .at(
                key.span,
                format!("container {} has no `image`", quoted(&key.text)),
            )
            .hint("write `image: name:tag`");
    }
    let node = fields.get("image", report)?;
    let text = report.text("image", node)?;
    if let Err(rule) = reference(text) {
        let problem = report.at(node.span, format!("`image` {} {rule}", quoted(text)));
        let lowered = text.to_ascii_lowercase();
        if reference(&lowered).is_ok() {
            problem.hint(format!("did you mean `{lowered}`?"));
        } else {
            problem.hint("such as `nginx`, `nginx:1.27` or `ghcr.io/acme/shop:1.4`");
        }
        return None;
    }
    Some(text.to_owned())
}

/// The grammar of references: `[host[:port]/]path[:tag][@digest]`, see the OCI distribution specification.
fn reference(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("is empty");
    }
    if text.len() > 512 {
        return Err("is longer than 512 characters");
    }
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (text, None),
    };
    if let Some(digest) = digest {
        let hex = digest
            .strip_prefix("sha256:")
            .ok_or("has a digest that doesn't begin with `sha256:`")?;
        if hex.len() != 64
            || !hex
                .bytes()
                .all(|b| b.is_ascii_digit() || matches!(b, b'a'..=b'f'))
        {
            return Err("has a digest that is not 64 hex digits");
        }
    }
    let last = rest.rfind('/').map_or(0, |at| at + 1);
    let (path, tag) = match rest[last..].rfind(':') {
        Some(at) => (&rest[..last + at], Some(&rest[last + at + 1..])),
        None => (rest, None),
    };
    if let Some(tag) = tag {
        let letters = tag
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
        if tag.is_empty() || tag.len() > 128 || !letters || tag.starts_with(['.', '-']) {
            return Err("has a tag that is none");
        }
    }
    let repository = match path.split_once('/') {
        Some((host, repository)) if host.contains(['.', ':']) || host == "localhost" => {
            if !host
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b':' | b'-' | b'[' | b']'))
            {
                return Err("has a registry that is no host name");
            }
            repository
        }
        _ => path,
    };
    if repository.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err("has capital letters, which names of images may not");
    }
    let part = |part: &str| {
        part.bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'.' | b'-'))
            && part.starts_with(|c: char| c.is_ascii_alphanumeric())
            && part.ends_with(|c: char| c.is_ascii_alphanumeric())
    };
    if repository.split('/').all(part) {
        Ok(())
    } else {
        Err("is no name of an image")
    }
}

/// `command` or `entrypoint`: a text is split as by a shell; null is as if it were not there.
pub(super) fn command(key: &str, fields: &Fields<'_>, report: &mut Report) -> Option<Vec<String>> {
    let node = &fields.entry(key)?.value;
    match &node.value {
        _ if node.is_null() => None,
        Value::List(items) => Some(
            items
                .iter()
                .filter_map(|item| argument(key, item, report))
                .collect(),
        ),
        _ => match words::split(report.text(key, node)?) {
            Ok(words) => Some(words),
            Err(error) => {
                report
                    .at(node.span, format!("`{key}` can't be split into words: {error}"))
                    .hint("or write it as a list: `[program, argument]`");
                None
            }
        },
    }
}

/// A word of a list; an empty entry is an empty word only if it was quoted.
fn argument(key: &str, node: &Node, report: &mut Report) -> Option<String> {
    report.text(key, node).map(str::to_owned)
}

pub(super) fn working_dir(fields: &Fields<'_>, report: &mut Report) -> Option<String> {
    fields.parsed("working_dir", report, super::inside)
}

/// `name|uid[:group|gid]`.
pub(super) fn user(fields: &Fields<'_>, report: &mut Report) -> Option<String> {
    fields.parsed("user", report, |text| {
        let (user, group) = text
            .split_once(':')
            .map_or((text, None), |(user, group)| (user, Some(group)));
        let fine = |name: &str| {
            let letters = name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'$'));
            let number = name.bytes().all(|b| b.is_ascii_digit());
            !name.is_empty()
                && !name.starts_with('-')
                && letters
                && (!number || name.parse::<u32>().is_ok_and(|id| id < u32::MAX))
        };
        if fine(user) && group.is_none_or(fine) {
            Ok(text.to_owned())
        } else {
            Err(format!(
                "must be `name` or `uid`, with `:group` or `:gid` if you like, not {}",
                quoted(text)
            ))
        }
    })
}

pub(super) fn hostname(fields: &Fields<'_>, report: &mut Report) -> Option<String> {
    fields.parsed("hostname", report, |text| match hosts::normalise(text) {
        Ok(name) if name.len() > 63 => {
            Err("is longer than 63 characters, the most that Linux knows".to_owned())
        }
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!("is wrong: {error}")),
    })
}

/// Kept as `SIGNAME`, `SIGRTMIN+n` or a number.
pub(super) fn stop_signal(fields: &Fields<'_>, report: &mut Report) -> Option<String> {
    let node = fields.get("stop_signal", report)?;
    let text = report.text("stop_signal", node)?;
    if signal::signal_number(text).is_none() {
        let bare = text.to_ascii_uppercase();
        let nearest = report.nearest(bare.strip_prefix("SIG").unwrap_or(&bare), signal::names());
        let problem = report.at(node.span, format!("{} is no signal", quoted(text)));
        match nearest {
            Some(name) => problem.hint(format!("did you mean `SIG{name}`?")),
            None => problem.hint("a name such as `SIGTERM`, or a number from 1 to 64"),
        };
        return None;
    }
    let upper = text.to_ascii_uppercase();
    let plain = upper.starts_with("SIG") || upper.bytes().all(|b| b.is_ascii_digit());
    Some(if plain { upper } else { format!("SIG{upper}") })
}

pub(super) fn restart(node: &Node, report: &mut Report) -> Option<Restart> {
    let text = report.text("restart", node)?;
    let (policy, count) = text
        .split_once(':')
        .map_or((text, None), |(policy, count)| (policy, Some(count)));
    match (policy, count) {
        ("no" | "false", None) => Some(Restart::No),
        ("always", None) => Some(Restart::Always),
        ("unless-stopped", None) => Some(Restart::UnlessStopped),
        ("on-failure", None) => Some(Restart::OnFailure { max: None }),
        ("on-failure", Some(count)) => match count.parse::<u32>() {
            // Docker's rule: 0 is no limit.
            Ok(0) => Some(Restart::OnFailure { max: None }),
            Ok(count) => Some(Restart::OnFailure { max: Some(count) }),
            Err(_) => {
                report
                    .at(node.span, format!("{} is no number of restarts", quoted(count)))
                    .hint("`on-failure:5`");
                None
            }
        },
        _ => {
            let known = ["no", "always", "unless-stopped", "on-failure"];
            let nearest = report.nearest(policy, known);
            let problem = report.at(node.span, format!("`restart` can't be {}", quoted(text)));
            match nearest {
                Some(nearest) => problem.hint(format!("did you mean `{nearest}`?")),
                None => problem.hint("`no`, `always`, `unless-stopped`, `on-failure` or `on-failure:N`"),
            };
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::reference;

    #[test]
    fn names_of_images_are_told_from_what_is_none() {
        let digest = format!("nginx@sha256:{}", "0".repeat(64));
        for name in [
            "nginx",
            "nginx:1.27",
            "acme/shop",
            "ghcr.io/acme/shop:1.4",
            "localhost:5000/a",
            "a/b/c_d:X",
            &digest,
        ] {
            assert_eq!(reference(name), Ok(()), "{name}");
        }
        for name in [
            "",
            "a b",
            "Nginx",
            "nginx:",
            "nginx:a b",
            "/nginx",
            "nginx@sha256:12",
            "a//b",
            "http://a/b",
            "-a",
        ] {
            assert!(reference(name).is_err(), "{name}");
        }
    }
}

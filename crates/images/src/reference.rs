//! Names of images: what people type, and the one full form behind it.
//!
//! The grammar is that of `distribution/reference`: `[host[:port]/]path[:tag][@digest]`, where `nginx` stands for
//! `docker.io/library/nginx:latest`.

use std::fmt;

const DEFAULT_HOST: &str = "docker.io";
const DEFAULT_TAG: &str = "latest";
/// Longest repository, in bytes.
const MAX_REPOSITORY: usize = 255;

/// A name that can't be an image's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("image name `{name}` {rule}")]
pub struct ReferenceError {
    name: String,
    rule: &'static str,
}

/// An image's name, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reference {
    /// With host: `docker.io/library/nginx`.
    pub(crate) repository: String,
    /// The host was written, not assumed.
    pub(crate) qualified: bool,
    /// As written.
    pub(crate) tag: Option<String>,
    /// `sha256:…`, as written.
    pub(crate) digest: Option<String>,
}

impl Reference {
    pub(crate) fn parse(name: &str) -> Result<Self, ReferenceError> {
        let fail = |rule| {
            Err(ReferenceError {
                name: name.chars().take(300).collect(),
                rule,
            })
        };
        let (rest, digest) = match name.split_once('@') {
            Some((rest, digest)) if is_digest(digest) => (rest, Some(digest.to_owned())),
            Some(_) => return fail("has a digest that is not `sha256:` and 64 hexadecimal digits"),
            None => (name, None),
        };
        let (rest, tag) = match rest.rsplit_once(':') {
            // A colon before a slash belongs to a port.
            Some((rest, tag)) if !tag.contains('/') => (rest, Some(tag.to_owned())),
            _ => (rest, None),
        };
        if tag.as_deref().is_some_and(|tag| !is_tag(tag)) {
            return fail(
                "has a tag that is empty, too long, or holds more than letters, digits, `_`, `.` and `-`",
            );
        }
        let (host, path) = match rest.split_once('/') {
            Some((host, path)) if is_host(host) => (Some(host), path),
            _ => (None, rest),
        };
        if path.is_empty() {
            return fail("is empty");
        }
        if !path.split('/').all(is_component) {
            return fail(
                "may hold only a-z, 0-9, and single `.`, `_`, `-` between them, in parts parted by `/`",
            );
        }
        let repository = match host {
            Some(DEFAULT_HOST | "index.docker.io") | None if !path.contains('/') => {
                format!("{DEFAULT_HOST}/library/{path}")
            }
            Some("index.docker.io") | None => format!("{DEFAULT_HOST}/{path}"),
            Some(host) => format!("{host}/{path}"),
        };
        if repository.len() > MAX_REPOSITORY {
            return fail("is longer than 255 characters");
        }
        Ok(Self {
            repository,
            qualified: host.is_some(),
            tag,
            digest,
        })
    }

    /// The full name that images are stored under: with host and tag, without digest.
    pub(crate) fn full(&self) -> String {
        format!(
            "{}:{}",
            self.repository,
            self.tag.as_deref().unwrap_or(DEFAULT_TAG)
        )
    }
}

/// The full form of a name as people type it: `docker.io/library/nginx:latest` for `nginx`. A digest is left out.
pub fn full_name(name: &str) -> Result<String, ReferenceError> {
    Reference::parse(name).map(|reference| reference.full())
}

/// The shortest form that stands for the full name: `nginx:latest` for `docker.io/library/nginx:latest`.
pub fn familiar(full: &str) -> &str {
    let rest = full.strip_prefix("docker.io/").unwrap_or(full);
    match rest.strip_prefix("library/") {
        Some(short) if rest.len() < full.len() && !short.contains('/') => short,
        _ => rest,
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.full())
    }
}

/// `sha256:` and 64 lower-case hexadecimal digits: the only algorithm that the store knows.
pub(crate) fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:")
        .is_some_and(|hex| hex.len() == 64 && is_hex(hex))
}

/// Lower-case hexadecimal digits.
pub(crate) fn is_hex(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    !tag.is_empty()
        && tag.len() <= 128
        && word(tag.as_bytes()[0])
        && tag.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'))
}

/// The first part is a host if it looks like one; else it is a part of the path on the default host.
fn is_host(part: &str) -> bool {
    let looks =
        part.contains(['.', ':']) || part == "localhost" || part.bytes().any(|b| b.is_ascii_uppercase());
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_alphanumeric() || matches!(b, b'[' | b']'));
    looks
        && edge(part.as_bytes().first())
        && edge(part.as_bytes().last())
        && part
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']'))
}

fn is_component(part: &str) -> bool {
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = part.as_bytes();
    edge(bytes.first())
        && edge(bytes.last())
        && bytes
            .iter()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-'))
        && !part.contains("..")
        && !part.contains("___")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(name: &str) -> String {
        Reference::parse(name).unwrap().full()
    }

    #[test]
    fn short_names_and_full_names_mean_the_same() {
        assert_eq!(full("nginx"), "docker.io/library/nginx:latest");
        assert_eq!(full("docker.io/nginx"), "docker.io/library/nginx:latest");
        assert_eq!(
            full("index.docker.io/library/nginx:latest"),
            "docker.io/library/nginx:latest"
        );
        assert_eq!(full("acme/shop:1.2"), "docker.io/acme/shop:1.2");
        assert_eq!(full("localhost:5000/shop"), "localhost:5000/shop:latest");
        assert_eq!(full("ghcr.io/acme/shop:1.4"), "ghcr.io/acme/shop:1.4");
        assert_eq!(full("localhost/shop"), "localhost/shop:latest");
    }

    #[test]
    fn what_cannot_be_a_name_is_refused_with_the_rule() {
        for name in [
            "",
            "Nginx",
            "a//b",
            "a:",
            ":a",
            "-a",
            "a@sha256:12",
            "a b",
            "../x",
            "a:b:c",
            "ghcr.io/",
        ] {
            assert!(Reference::parse(name).is_err(), "{name}");
        }
        let error = Reference::parse("a@sha256:12").unwrap_err().to_string();
        assert_eq!(
            error,
            "image name `a@sha256:12` has a digest that is not `sha256:` and 64 hexadecimal digits"
        );
    }

    #[test]
    fn people_are_shown_the_familiar_form() {
        assert_eq!(familiar("docker.io/library/nginx:latest"), "nginx:latest");
        assert_eq!(familiar("docker.io/acme/shop:1"), "acme/shop:1");
        assert_eq!(familiar("ghcr.io/library/nginx:1"), "ghcr.io/library/nginx:1");
    }
}

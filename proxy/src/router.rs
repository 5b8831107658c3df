//! Host and path to a route: exact names before wildcards before the default, then the longest path prefix. Pure.

use std::borrow::Cow;
use std::collections::HashMap;

use linkspan_site::HostPattern;

pub(crate) mod path;

/// What the router says about a host and a path. Routes are named by their place in the list it was built from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// This route.
    Route(usize),
    /// No route names the host.
    UnknownHost,
    /// The host has routes, but none for this path.
    NoPath,
    /// An encoded slash or a doubled one would lead elsewhere if the server behind decodes it.
    Ambiguous,
}

/// The routes, indexed.
#[derive(Debug, Default)]
pub(crate) struct Router {
    exact: HashMap<String, Paths>,
    /// By the name without `*.`.
    wildcard: HashMap<String, Paths>,
    default: Option<Paths>,
}

/// Prefixes of one host, longest first.
#[derive(Debug, Default)]
struct Paths(Vec<(String, usize)>);

impl Router {
    /// Indexes `(host, path prefix)` pairs. Of two that are the same the first wins.
    pub(crate) fn new<'a>(routes: impl IntoIterator<Item = (&'a HostPattern, &'a str)>) -> Self {
        let mut router = Self::default();
        for (route, (host, path)) in routes.into_iter().enumerate() {
            let paths = match host {
                HostPattern::Exact(name) => router.exact.entry(name.clone()).or_default(),
                HostPattern::Wildcard(name) => router.wildcard.entry(name.clone()).or_default(),
                HostPattern::Default => router.default.get_or_insert_default(),
            };
            // Kept without the slash at its end, so that `/` is the empty prefix and every other one ends a segment.
            paths.0.push((path.trim_end_matches('/').to_owned(), route));
        }
        let all = router
            .exact
            .values_mut()
            .chain(router.wildcard.values_mut())
            .chain(&mut router.default);
        for paths in all {
            // Stable, so that the first of two equal routes stays first.
            paths.0.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        }
        router
    }

    /// The route for a host as [`host`] gives it and a path as the client sent it, without its query.
    ///
    /// A host that has routes of its own never falls back to a wider pattern.
    pub(crate) fn find(&self, host: &str, path: &str) -> Found {
        let Some(paths) = self.paths(host) else {
            return Found::UnknownHost;
        };
        if let [(prefix, route)] = &paths.0[..]
            && prefix.is_empty()
        {
            return Found::Route(*route);
        }
        let readings = match path::readings(path) {
            Ok(None) => return paths.find(path),
            Ok(Some(readings)) => readings,
            Err(path::TooLong) => return Found::Ambiguous,
        };
        let found = paths.find(&readings.strict);
        if readings.others.iter().all(|path| paths.find(path) == found) {
            found
        } else {
            Found::Ambiguous
        }
    }

    fn paths(&self, host: &str) -> Option<&Paths> {
        if let Some(paths) = self.exact.get(host) {
            return Some(paths);
        }
        let parent = host
            .split_once('.')
            .filter(|(label, _)| !label.is_empty())
            .map(|(_, parent)| parent);
        parent
            .and_then(|parent| self.wildcard.get(parent))
            .or(self.default.as_ref())
    }
}

impl Paths {
    fn find(&self, path: &str) -> Found {
        let covers = |prefix: &str| {
            path.strip_prefix(prefix)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let hit = self.0.iter().find(|(prefix, _)| covers(prefix));
        hit.map_or(Found::NoPath, |(_, route)| Found::Route(*route))
    }
}

/// The name in a Host field or an authority: without port and trailing dot, in lower case.
///
/// `None` for what can't be a host: empty, user information, characters outside names and addresses, a bad port.
pub(crate) fn host(authority: &str) -> Option<Cow<'_, str>> {
    let name = if let Some(rest) = authority.strip_prefix('[') {
        let (address, rest) = rest.split_once(']')?;
        address.parse::<std::net::Ipv6Addr>().ok()?;
        if !rest.is_empty() && !port_follows(rest) {
            return None;
        }
        &authority[..address.len() + 2]
    } else {
        let end = authority.find(':').unwrap_or(authority.len());
        let (name, rest) = authority.split_at(end);
        if !rest.is_empty() && !port_follows(rest) {
            return None;
        }
        let name = name.strip_suffix('.').unwrap_or(name);
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
        if name.is_empty() || name.starts_with('.') || !name.bytes().all(allowed) {
            return None;
        }
        name
    };
    if name.bytes().any(|b| b.is_ascii_uppercase()) {
        return Some(Cow::Owned(name.to_ascii_lowercase()));
    }
    Some(Cow::Borrowed(name))
}

/// `:` and nothing or a port (RFC 3986 §3.2.3 allows an empty one).
fn port_follows(text: &str) -> bool {
    text.strip_prefix(':').is_some_and(|port| {
        port.is_empty() || (port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok())
    })
}

#[cfg(test)]
mod tests;

//! The path as the upstream gets it: prefixes taken off and put on, and rewriting by regular expressions.
//!
//! What is decided on is the path as the client wrote it, for that is what goes on. So that nobody leads a request out of
//! the place that a prefix means, a path that some server may read as one with `..` in it is refused here, where
//! elsewhere it is passed on as it is.

use http::uri::PathAndQuery;
use linkspan_site::{PathRule, REWRITE_BYTES};
use regex::{Regex, RegexBuilder};

use crate::router::path;

/// The rules of a route, in order.
#[derive(Debug)]
pub(crate) struct Paths(Vec<Rule>);

#[derive(Debug)]
enum Rule {
    /// Decoded segments.
    Strip(Vec<Vec<u8>>),
    Add(String),
    Rewrite(Vec<(Regex, String)>),
}

/// A path that was changed.
#[derive(Debug)]
pub(crate) struct Changed {
    pub(crate) path: PathAndQuery,
    /// What was taken off the front, if anything was.
    pub(crate) stripped: Option<String>,
}

/// Why a path can't be changed; for the client.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PathError {
    #[error("the path may be read as one with `..` in it")]
    Dots,
    #[error("the path becomes one that can't be sent")]
    Unsendable,
}

impl Paths {
    /// `None` when nothing changes. An expression that can't be compiled is left out: it was checked when the site came in.
    pub(crate) fn compile(rules: &[PathRule]) -> Option<Self> {
        let rules: Vec<Rule> = rules.iter().map(Rule::compile).collect();
        (!rules.is_empty()).then_some(Self(rules))
    }

    /// The path that goes upstream.
    pub(crate) fn apply(&self, given: &PathAndQuery) -> Result<Changed, PathError> {
        if path::may_climb(given.path()) {
            return Err(PathError::Dots);
        }
        let mut path = given.path().to_owned();
        let mut query = given.query().map(str::to_owned);
        let mut stripped: Option<String> = None;
        for rule in &self.0 {
            match rule {
                Rule::Strip(prefix) => {
                    if let Some(end) = stripped_at(&path, prefix) {
                        stripped.get_or_insert_default().push_str(&path[..end]);
                        path.drain(..end);
                    }
                }
                Rule::Add(prefix) => path.insert_str(0, prefix),
                Rule::Rewrite(rewrites) => rewrite(rewrites, &mut path, &mut query),
            }
            if !path.starts_with('/') {
                path.insert(0, '/');
            }
        }
        if let Some(query) = query {
            path.push('?');
            path.push_str(&query);
        }
        let path = PathAndQuery::try_from(path).map_err(|_| PathError::Unsendable)?;
        // An expression may have put it together of parts that were harmless.
        if path::may_climb(path.path()) {
            return Err(PathError::Dots);
        }
        Ok(Changed { path, stripped })
    }
}

impl Rule {
    fn compile(rule: &PathRule) -> Self {
        match rule {
            PathRule::Strip(prefix) => Self::Strip(segments(prefix).map(path::decoded_once).collect()),
            PathRule::Add(prefix) => Self::Add(prefix.trim_end_matches('/').to_owned()),
            PathRule::Rewrite(rewrites) => Self::Rewrite(
                rewrites
                    .iter()
                    .filter_map(|rewrite| {
                        let pattern = RegexBuilder::new(&rewrite.pattern)
                            .size_limit(REWRITE_BYTES)
                            .build();
                        match pattern {
                            Ok(pattern) => Some((pattern, rewrite.to.clone())),
                            Err(error) => {
                                tracing::warn!(pattern = rewrite.pattern, %error, "rewrite left out");
                                None
                            }
                        }
                    })
                    .collect(),
            ),
        }
    }
}

fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.trim_matches('/').split('/')
}

/// Where the prefix ends, if the path begins with it. `/%61pi` begins with `/api`.
fn stripped_at(path: &str, prefix: &[Vec<u8>]) -> Option<usize> {
    let mut end = 0;
    for wanted in prefix {
        let rest = path[end..].strip_prefix('/')?;
        let segment = &rest[..rest.find('/').unwrap_or(rest.len())];
        if path::decoded_once(segment) != *wanted {
            return None;
        }
        end += 1 + segment.len();
    }
    Some(end)
}

fn rewrite(rewrites: &[(Regex, String)], path: &mut String, query: &mut Option<String>) {
    let Some((found, to)) = rewrites
        .iter()
        .find_map(|(pattern, to)| pattern.captures(path).map(|found| (found, to)))
    else {
        return;
    };
    let Some(whole) = found.get(0) else { return };
    // The query of the replacement is split off before the groups are put in: a `?` can't come out of a path.
    let (to, added) = match to.split_once('?') {
        Some((to, added)) => (to, Some(added)),
        None => (to.as_str(), None),
    };
    let mut out = path[..whole.start()].to_owned();
    found.expand(to, &mut out);
    out.push_str(&path[whole.end()..]);
    if let Some(added) = added {
        let mut expanded = String::new();
        found.expand(added, &mut expanded);
        if let Some(own) = query.take().filter(|own| !own.is_empty()) {
            expanded.push('&');
            expanded.push_str(&own);
        }
        *query = Some(expanded);
    }
    *path = out;
}

#[cfg(test)]
mod tests {
    use linkspan_site::Rewrite;

    use super::*;

    fn apply(rules: &[PathRule], path: &str) -> Result<(String, Option<String>), PathError> {
        let changed = Paths::compile(rules).unwrap().apply(&path.parse().unwrap())?;
        Ok((changed.path.to_string(), changed.stripped))
    }

    fn strip(prefix: &str) -> PathRule {
        PathRule::Strip(prefix.to_owned())
    }

    fn rewrite(pairs: &[(&str, &str)]) -> PathRule {
        let pair = |(pattern, to): &(&str, &str)| Rewrite {
            pattern: (*pattern).to_owned(),
            to: (*to).to_owned(),
        };
        PathRule::Rewrite(pairs.iter().map(pair).collect())
    }

    #[test]
    fn a_prefix_is_taken_off_on_segment_boundaries_only() {
        for (path, after, stripped) in [
            ("/api", "/", Some("/api")),
            ("/api/", "/", Some("/api")),
            ("/api?a=b", "/?a=b", Some("/api")),
            ("/api/v1/x?", "/v1/x?", Some("/api")),
            ("/%61pi/a%2Fb", "/a%2Fb", Some("/%61pi")),
            ("/api//x", "//x", Some("/api")),
            ("/apis", "/apis", None),
            ("/x/api", "/x/api", None),
            ("/API/x", "/API/x", None),
        ] {
            let changed = apply(&[strip("/api")], path).unwrap();
            assert_eq!(changed, (after.to_owned(), stripped.map(str::to_owned)), "{path}");
        }
    }

    #[test]
    fn rules_apply_one_after_the_other() {
        let add = PathRule::Add("/v2".to_owned());
        let (path, stripped) = apply(&[strip("/api"), add.clone(), strip("/v2/old")], "/api/old/x").unwrap();
        assert_eq!((path.as_str(), stripped.as_deref()), ("/x", Some("/api/v2/old")));
        assert_eq!(
            apply(&[add.clone(), strip("/api")], "/api/x").unwrap().0,
            "/v2/api/x"
        );
        assert_eq!(apply(&[add], "/").unwrap().0, "/v2/");
    }

    #[test]
    fn the_first_expression_that_matches_rewrites_path_and_query() {
        let rules = [rewrite(&[
            ("^/user/(?<id>[0-9]+)$", "/users?id=${id}"),
            ("^/old/(.*)$", "/new/$1"),
            ("^/old", "/never"),
            (r"\.php$", ""),
            ("^/gone$", "/"),
        ])];
        for (path, after) in [
            ("/old/a/b?c=d", "/new/a/b?c=d"),
            ("/user/7", "/users?id=7"),
            ("/user/7?full", "/users?id=7&full"),
            ("/user/x", "/user/x"),
            ("/a.php?b", "/a?b"),
            ("/gone", "/"),
            ("/other?x=/old/", "/other?x=/old/"),
        ] {
            assert_eq!(apply(&rules, path).unwrap().0, after, "{path}");
        }
    }

    #[test]
    fn nothing_leads_out_of_the_place_that_is_put_in_front() {
        let add = PathRule::Add("/public".to_owned());
        for path in [
            "/../secret",
            "/a/../../secret",
            "/%2e%2e/secret",
            "/%252e%252e/secret",
            "/..;x/secret",
            "/..%2fsecret",
            "/..%5csecret",
            "/a/.%2e",
            "/x%00/../../secret",
            "/x%2500/../../secret",
            "/x/..%3b/secret",
        ] {
            assert_eq!(
                apply(std::slice::from_ref(&add), path),
                Err(PathError::Dots),
                "{path}"
            );
        }
        for path in ["/a..b/c", "/...", "/.well-known/x", "/a/.", "/%41"] {
            assert!(apply(std::slice::from_ref(&add), path).is_ok(), "{path}");
        }
        let joined = rewrite(&[("^/a(.*)b(.*)$", "/$1$2")]);
        assert_eq!(apply(&[joined], "/a.b.").unwrap_err(), PathError::Dots);
    }
}

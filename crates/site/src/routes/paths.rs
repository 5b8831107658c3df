//! `strip_prefix`, `add_prefix` and `rewrite`: the path that the upstream sees.

use regex::{Regex, RegexBuilder};

use super::host;
use crate::fields::Fields;
use crate::problem::{Report, quoted};
use crate::yaml::{Node, Value};
use crate::{PathRule, REWRITE_BYTES, Rewrite, Span};

/// In the order in which they are written.
pub(super) fn read(fields: &Fields<'_>, route: &str, report: &mut Report) -> Vec<PathRule> {
    let mut rules = Vec::new();
    if let Some(node) = fields.get("strip_prefix", report) {
        rules.extend(strip(node, route, report).map(|path| (node.span, PathRule::Strip(path))));
    }
    if let Some(node) = fields.get("add_prefix", report) {
        rules.extend(prefix("add_prefix", node, report).map(|path| (node.span, PathRule::Add(path))));
    }
    if let Some(node) = fields.get("rewrite", report) {
        rules.push((node.span, PathRule::Rewrite(rewrites(node, report))));
    }
    rules.sort_by_key(|(span, _)| *span);
    rules.into_iter().map(|(_, rule)| rule).collect()
}

fn strip(node: &Node, route: &str, report: &mut Report) -> Option<String> {
    if report.text("strip_prefix", node)? == "true" {
        if route == "/" {
            report
                .at(node.span, "the route has no path that could be stripped")
                .hint("write the path: `strip_prefix: /api`");
            return None;
        }
        return Some(route.to_owned());
    }
    let path = prefix("strip_prefix", node, report)?;
    let below = |upper: &str, lower: &str| {
        let upper = upper.trim_end_matches('/');
        lower
            .strip_prefix(upper)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    if !below(route, &path) && !below(&path, route) {
        report
            .at(
                node.span,
                format!("no request of the route begins with {}", quoted(&path)),
            )
            .hint(format!("the route's path is `{route}`; `true` strips that"));
        return None;
    }
    Some(path)
}

/// A path that is something: `/` alone would change nothing.
fn prefix(key: &str, node: &Node, report: &mut Report) -> Option<String> {
    let text = report.text(key, node)?;
    if !text.starts_with('/') || text.trim_matches('/').is_empty() {
        report
            .at(node.span, format!("`{key}` can't be {}", quoted(text)))
            .hint("a path such as `/api`");
        return None;
    }
    match host::normalise(text) {
        Ok(path) => Some(path),
        Err((rule, hint)) => {
            report
                .at(node.span, format!("path {} {rule}", quoted(text)))
                .hint(hint);
            None
        }
    }
}

fn rewrites(node: &Node, report: &mut Report) -> Vec<Rewrite> {
    let Value::Map(entries) = &node.value else {
        report
            .at(
                node.span,
                format!("`rewrite` must be a mapping, not {}", node.kind()),
            )
            .hint("`rewrite: { \"^/old/(.*)$\": \"/new/$$1\" }`");
        return Vec::new();
    };
    if entries.is_empty() {
        report
            .at(node.span, "`rewrite` is empty")
            .hint("`rewrite: { \"^/old/(.*)$\": \"/new/$$1\" }`");
    }
    let mut rewrites = Vec::new();
    for entry in entries {
        let pattern = pattern(&entry.key.text, entry.key.span, report);
        let to = report.text("rewrite", &entry.value);
        if let (Some(pattern), Some(to)) = (pattern, to)
            && replacement(&pattern, to, entry.value.span, report)
        {
            rewrites.push(Rewrite {
                pattern: entry.key.text.clone(),
                to: to.to_owned(),
            });
        }
    }
    rewrites
}

fn pattern(text: &str, span: Span, report: &mut Report) -> Option<Regex> {
    match RegexBuilder::new(text).size_limit(REWRITE_BYTES).build() {
        Ok(pattern) => Some(pattern),
        Err(regex::Error::CompiledTooBig(_)) => {
            report.at(span, format!("{} is too large when compiled", quoted(text)));
            None
        }
        Err(error) => {
            // Its text draws the expression over several lines; the last says what is wrong.
            let error = error.to_string();
            let why = error.lines().last().unwrap_or_default();
            let why = why.trim_start_matches("error: ");
            report.at(span, format!("{} is no regular expression: {why}", quoted(text)));
            None
        }
    }
}

/// Can it stand in a path, and is there a group for all that it refers to?
fn replacement(pattern: &Regex, to: &str, span: Span, report: &mut Report) -> bool {
    if pattern.as_str().starts_with('^') && !to.starts_with('/') {
        report
            .at(span, format!("a path begins with `/`, unlike {}", quoted(to)))
            .hint("such as `/new/$$1`");
        return false;
    }
    if let Some(wrong) = to
        .chars()
        .find(|c| !c.is_ascii_graphic() || matches!(c, '#' | '\\'))
    {
        report
            .at(
                span,
                format!("{} can't stand in a path", quoted(&wrong.to_string())),
            )
            .hint("percent-encode it");
        return false;
    }
    for group in groups(to) {
        let known = match group.parse::<usize>() {
            Ok(number) => number < pattern.captures_len(),
            Err(_) => pattern.capture_names().flatten().any(|name| name == group),
        };
        if !known {
            report
                .at(span, format!("the expression has no group {}", quoted(group)))
                .hint("`$$1` is the first; `$${1}` where a letter or digit follows");
            return false;
        }
    }
    true
}

/// The groups that a replacement refers to, as the `regex` crate reads them.
fn groups(to: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = to;
    while let Some(at) = rest.find('$') {
        rest = &rest[at + 1..];
        if let Some(tail) = rest.strip_prefix('$') {
            rest = tail;
        } else if let Some((name, tail)) = rest.strip_prefix('{').and_then(|braced| braced.split_once('}')) {
            found.push(name);
            rest = tail;
        } else {
            let end = rest
                .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
                .unwrap_or(rest.len());
            if end > 0 {
                found.push(&rest[..end]);
            }
            rest = &rest[end..];
        }
    }
    found
}

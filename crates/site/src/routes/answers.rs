//! `maintenance`, `error_pages`, `robots` and `cors`: what is answered without asking the container.

use std::collections::BTreeMap;

use super::attached;
use super::headers::is_token;
use crate::fields::Fields;
use crate::keys::CORS;
use crate::problem::{Report, quoted};
use crate::quantity;
use crate::yaml::{Node, Value};
use crate::{Cors, Maintenance, Page, PageKind, Sources};

/// For how long browsers remember what a preflight was answered, in seconds, unless the file says otherwise.
const MAX_AGE: u64 = 600;

pub(super) fn maintenance(
    fields: &Fields<'_>,
    sources: &Sources<'_>,
    report: &mut Report,
) -> Option<Maintenance> {
    let node = fields.get("maintenance", report)?;
    match report.text("maintenance", node)? {
        "true" => Some(Maintenance { page: None }),
        "false" => None,
        _ => page("maintenance", node, sources, report).map(|page| Maintenance { page: Some(page) }),
    }
}

pub(super) fn error_pages(
    fields: &Fields<'_>,
    sources: &Sources<'_>,
    report: &mut Report,
) -> BTreeMap<u16, Page> {
    let mut pages = BTreeMap::new();
    let Some(node) = fields.get("error_pages", report) else {
        return pages;
    };
    let Value::Map(entries) = &node.value else {
        report
            .at(
                node.span,
                format!("`error_pages` must be a mapping, not {}", node.kind()),
            )
            .hint("`error_pages: { 502: ./502.html }`");
        return pages;
    };
    for entry in entries {
        let status = entry.key.text.parse::<u16>().ok();
        let Some(status) = status.filter(|status| (400..=599).contains(status)) else {
            report
                .at(
                    entry.key.span,
                    format!("{} is no status of an error", quoted(&entry.key.text)),
                )
                .hint("400 to 599");
            continue;
        };
        if let Some(page) = page("error_pages", &entry.value, sources, report) {
            pages.insert(status, page);
        }
    }
    pages
}

fn page(key: &str, node: &Node, sources: &Sources<'_>, report: &mut Report) -> Option<Page> {
    let text = attached::text(key, node, sources, report)?.to_owned();
    let path = report.text(key, node)?.to_ascii_lowercase();
    let kind = match path.rsplit_once('.').map(|(_, end)| end) {
        Some("html" | "htm") => PageKind::Html,
        Some("json") => PageKind::Json,
        _ => PageKind::Text,
    };
    Some(Page { kind, text })
}

pub(super) fn robots_deny(fields: &Fields<'_>, report: &mut Report) -> bool {
    let Some(node) = fields.get("robots", report) else {
        return false;
    };
    report
        .word("robots", node, &[("deny", true), ("allow", false)])
        .unwrap_or_default()
}

pub(super) fn cors(fields: &Fields<'_>, report: &mut Report) -> Option<Cors> {
    let node = fields.get("cors", report)?;
    let any = Cors {
        max_age: MAX_AGE,
        ..Cors::default()
    };
    if !matches!(node.value, Value::Map(_)) {
        return report.flag("cors", node)?.then_some(any);
    }
    let fields = Fields::read(node, &CORS, report)?;
    let mut list = |key, read: fn(&str) -> Option<String>, hint: &str| {
        let mut found = Vec::new();
        let written = fields.get(key, report).map(|node| report.one_or_more(key, node));
        for (text, span) in written.unwrap_or_default() {
            match read(text) {
                Some(value) => found.push(value),
                None => {
                    report
                        .at(span, format!("`{key}` can't hold {}", quoted(text)))
                        .hint(hint);
                }
            }
        }
        found
    };
    let token = |text: &str| is_token(text).then(|| text.to_ascii_lowercase());
    let mut cors = Cors {
        origins: list(
            "origins",
            origin,
            "such as `https://app.example.com`, without a path; `cors: true` is for any",
        ),
        methods: list(
            "methods",
            |text| is_token(text).then(|| text.to_ascii_uppercase()),
            "such as `PUT`",
        ),
        headers: list("headers", token, "names of fields"),
        expose: list("expose", token, "names of fields"),
        ..any
    };
    if let Some(entry) = fields.entry("origins")
        && matches!(&entry.value.value, Value::List(items) if items.is_empty())
    {
        report
            .at(
                entry.key.span,
                "`origins` names none, so no browser would be let in",
            )
            .hint("leave `cors` out, or write `cors: true` for any");
        return None;
    }
    cors.credentials = fields.flag("credentials", report).unwrap_or_default();
    if let Some(time) = fields.parsed("max_age", report, quantity::duration) {
        cors.max_age = time.as_secs();
    }
    if cors.credentials
        && fields.entry("origins").is_none()
        && let Some(entry) = fields.entry("credentials")
    {
        report
            .at(
                entry.key.span,
                "`credentials` for any origin would let every site act as its visitor",
            )
            .hint("name the `origins`");
        return None;
    }
    Some(cors)
}

/// Scheme, host and perhaps a port, as a browser sends it.
fn origin(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b':' | b'[' | b']');
    let right = !scheme.is_empty()
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !rest.is_empty()
        && rest.bytes().all(plain);
    right.then(|| text.to_ascii_lowercase())
}

//! What a route does besides forwarding: one file of `routes` for each group of keys.

use super::{answers, basic_auth, headers, limits, paths};
use crate::fields::Fields;
use crate::problem::Report;
use crate::quantity;
use crate::{Middleware, Sources};

/// Keys that mean something only where requests are forwarded.
const ONLY_FORWARDED: &[&str] = &[
    "strip_prefix",
    "add_prefix",
    "rewrite",
    "basic_auth",
    "rate_limit",
    "concurrency",
    "max_body",
    "compress",
    "maintenance",
    "error_pages",
    "cors",
    "robots",
];

/// `path` is the route's.
pub(super) fn read(
    fields: &Fields<'_>,
    path: &str,
    sources: &Sources<'_>,
    report: &mut Report,
) -> Middleware {
    Middleware {
        paths: paths::read(fields, path, report),
        headers: headers::read(fields, report),
        security_headers: headers::security(fields, report),
        basic_auth: basic_auth::read(fields, sources, report),
        rate_limit: limits::rate(fields, report),
        concurrency: limits::concurrency(fields, report),
        maintenance: answers::maintenance(fields, sources, report),
        error_pages: answers::error_pages(fields, sources, report),
        robots_deny: answers::robots_deny(fields, report),
        cors: answers::cors(fields, report),
        compress: fields.flag("compress", report).unwrap_or_default(),
        max_body: fields.parsed("max_body", report, quantity::bytes),
    }
}

/// Refuses the keys that a redirect has no use for.
pub(super) fn only_forwarded(fields: &Fields<'_>, report: &mut Report) {
    for name in ONLY_FORWARDED {
        if let Some(entry) = fields.entry(name) {
            report
                .at(entry.key.span, format!("`{name}` belongs to `to`"))
                .hint("a redirect forwards nothing");
        }
    }
}

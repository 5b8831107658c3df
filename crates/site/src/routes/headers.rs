//! `headers` and `security_headers`: fields that are set, added and removed on the way.

use std::collections::BTreeMap;

use crate::fields::{Fields, Pair};
use crate::keys::{HEADER_RULES, HEADERS, SECURITY_HEADERS};
use crate::problem::{Report, quoted};
use crate::quantity;
use crate::yaml::{Node, Value};
use crate::{Frame, HeaderRules, Headers, SecurityHeaders, Span};

/// Fields of one connection, which end at it (RFC 9110 §7.6.1).
const OF_THE_CONNECTION: &[&str] = &[
    "connection",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "upgrade",
];
/// Fields that say where a message ends, or how its body is to be read.
const OF_THE_FRAMING: &[&str] = &[
    "content-encoding",
    "content-length",
    "content-range",
    "expect",
    "transfer-encoding",
];

/// Of Referrer-Policy.
pub(crate) const POLICIES: &[&str] = &[
    "no-referrer",
    "no-referrer-when-downgrade",
    "origin",
    "origin-when-cross-origin",
    "same-origin",
    "strict-origin",
    "strict-origin-when-cross-origin",
    "unsafe-url",
];

pub(super) fn read(fields: &Fields<'_>, report: &mut Report) -> Headers {
    let fields = fields
        .get("headers", report)
        .and_then(|node| Fields::read(node, &HEADERS, report));
    let Some(fields) = fields else {
        return Headers::default();
    };
    let mut side = |key| {
        fields
            .get(key, report)
            .map(|node| rules(node, report))
            .unwrap_or_default()
    };
    Headers {
        request: side("request"),
        response: side("response"),
    }
}

fn rules(node: &Node, report: &mut Report) -> HeaderRules {
    let Some(fields) = Fields::read(node, &HEADER_RULES, report) else {
        return HeaderRules::default();
    };
    let mut seen = BTreeMap::new();
    let set = fields
        .get("set", report)
        .map(|node| values("set", node, &mut seen, report))
        .unwrap_or_default();
    let add = fields
        .get("add", report)
        .map(|node| values("add", node, &mut seen, report))
        .unwrap_or_default();
    let mut remove = Vec::new();
    if let Some(node) = fields.get("remove", report) {
        for (text, span) in report.one_or_more("remove", node) {
            remove.extend(name(text, span, &mut seen, report));
        }
    }
    HeaderRules { set, add, remove }
}

fn values(
    key: &str,
    node: &Node,
    seen: &mut BTreeMap<String, Span>,
    report: &mut Report,
) -> Vec<(String, String)> {
    let mut values = Vec::new();
    for Pair {
        name: written,
        value,
        span,
    } in report.pairs(key, node)
    {
        let name = name(written, span, seen, report);
        let Some(value) = value else {
            report
                .at(span, format!("field {} has no value", quoted(written)))
                .hint("give it one, or write it under `remove`");
            continue;
        };
        if let (Some(name), Some(value)) = (name, self::value(value, span, report)) {
            values.push((name, value));
        }
    }
    values
}

/// RFC 9110 §5.6.2.
pub(super) fn is_token(text: &str) -> bool {
    let is_letter = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !text.is_empty() && text.bytes().all(is_letter)
}

/// A field's name in lower case, if it is one that may be changed and wasn't seen before.
fn name(text: &str, span: Span, seen: &mut BTreeMap<String, Span>, report: &mut Report) -> Option<String> {
    if !is_token(text) {
        report.at(span, format!("{} is no name of a field", quoted(text)));
        return None;
    }
    let name = text.to_ascii_lowercase();
    if OF_THE_CONNECTION.contains(&name.as_str()) {
        report.at(
            span,
            format!(
                "{} belongs to one connection, and each side has its own",
                quoted(text)
            ),
        );
        return None;
    }
    if OF_THE_FRAMING.contains(&name.as_str()) {
        report.at(
            span,
            format!(
                "{} says how the body is to be read, which stays true",
                quoted(text)
            ),
        );
        return None;
    }
    if name == "host" {
        report
            .at(span, "the Host field is what the request was routed by")
            .hint("a container gets the client's, a server elsewhere its own");
        return None;
    }
    if let Some(earlier) = seen.insert(name.clone(), span) {
        report
            .at(span, format!("field {} is in two rules", quoted(text)))
            .related(earlier, "the other one");
        return None;
    }
    Some(name)
}

fn value(text: &str, span: Span, report: &mut Report) -> Option<String> {
    let text = text.trim();
    if text.bytes().any(|b| b != b'\t' && !(b' '..=b'~').contains(&b)) {
        report
            .at(
                span,
                "the value holds a line break, a control character or a letter beyond ASCII",
            )
            .hint("a field has one line of ASCII");
        return None;
    }
    Some(text.to_owned())
}

// === The preset ===

pub(super) fn security(fields: &Fields<'_>, report: &mut Report) -> Option<SecurityHeaders> {
    let node = fields.get("security_headers", report)?;
    if !matches!(node.value, Value::Map(_)) {
        return report
            .flag("security_headers", node)?
            .then(SecurityHeaders::default);
    }
    let fields = Fields::read(node, &SECURITY_HEADERS, report)?;
    let mut preset = SecurityHeaders::default();
    if let Some(node) = fields.get("hsts", report) {
        preset.hsts = hsts(node, report);
    }
    preset.hsts_subdomains = fields.flag("hsts_subdomains", report).unwrap_or_default();
    if let Some(node) = fields.get("frame", report) {
        let words = [
            ("sameorigin", Some(Frame::SameOrigin)),
            ("deny", Some(Frame::Deny)),
            ("any", None),
        ];
        preset.frame = report.word("frame", node, &words).flatten();
    }
    if let Some(nosniff) = fields.flag("nosniff", report) {
        preset.nosniff = nosniff;
    }
    if let Some(node) = fields.get("referrer", report) {
        let words: Vec<_> = POLICIES.iter().map(|word| (*word, *word)).collect();
        if let Some(policy) = report.word("referrer", node, &words) {
            policy.clone_into(&mut preset.referrer);
        }
    }
    let mut policy = |key| {
        let node = fields.get(key, report)?;
        let text = report.text(key, node)?;
        value(text, node.span, report)
    };
    preset.content_security_policy = policy("content_security_policy");
    preset.permissions = policy("permissions");
    Some(preset)
}

fn hsts(node: &Node, report: &mut Report) -> Option<u64> {
    if report.text("hsts", node)? == "false" {
        return None;
    }
    report
        .parsed("hsts", node, quantity::duration)
        .map(|time| time.as_secs())
}

//! `routes`: a hostname, perhaps with a path, and where its requests go.

mod answers;
mod attached;
mod basic_auth;
mod headers;
mod host;
mod limits;
mod middleware;
mod paths;
mod target;

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::fields::Fields;
use crate::keys::ROUTE;
use crate::problem::{Report, quoted};
use crate::yaml::{Entry, Node, Value};
pub(crate) use attached::references;
pub(crate) use headers::POLICIES;

use crate::{Action, Middleware, Route, Sources, Span, Target};

/// A route and where it was written.
pub(crate) struct Draft {
    pub(crate) route: Route,
    pub(crate) span: Span,
    /// Parallel to the targets.
    pub(crate) targets: Vec<Span>,
}

/// Reads all routes that can be read.
pub(crate) fn read(node: &Node, sources: &Sources<'_>, report: &mut Report) -> Vec<Draft> {
    let Value::Map(entries) = &node.value else {
        report
            .at(
                node.span,
                format!("`routes` must be a mapping, not {}", node.kind()),
            )
            .hint("`routes: { shop.example.com: web:3000 }`");
        return Vec::new();
    };
    let drafts: Vec<Draft> = entries
        .iter()
        .filter_map(|entry| one(entry, sources, report))
        .collect();
    attached::bound(&drafts, report);
    drafts
}

fn one(entry: &Entry, sources: &Sources<'_>, report: &mut Report) -> Option<Draft> {
    let key = host::read(&entry.key.text, entry.key.span, report);
    let node = &entry.value;
    let mut targets = Vec::new();
    let mut allow = Vec::new();
    let mut middleware = Middleware::default();
    let action = match &node.value {
        _ if node.is_null() => {
            report
                .at(entry.key.span, "the route has no target")
                .hint("write `host: container:port`");
            None
        }
        Value::Map(_) => {
            let fields = Fields::read(node, &ROUTE, report)?;
            allow = fields
                .get("allow", report)
                .map(|node| networks(node, report))
                .unwrap_or_default();
            let path = key.as_ref().map_or("/", |(_, path)| path);
            middleware = middleware::read(&fields, path, sources, report);
            action(&fields, node.span, &mut targets, report)
        }
        _ => forward(node, &mut targets, report),
    };
    let (host, path) = key?;
    Some(Draft {
        route: Route {
            host,
            path,
            action: action?,
            allow,
            middleware,
        },
        span: entry.key.span,
        targets,
    })
}

fn action(fields: &Fields<'_>, span: Span, targets: &mut Vec<Span>, report: &mut Report) -> Option<Action> {
    let status = match fields.get("status", report) {
        Some(node) => redirect_status(node, report),
        None => Some(308),
    };
    match (fields.entry("to"), fields.entry("redirect")) {
        (Some(_), Some(redirect)) => {
            report.at(
                redirect.key.span,
                "a route has either `to` or `redirect`, not both",
            );
            None
        }
        (None, None) => {
            report
                .at(span, "the route has neither `to` nor `redirect`")
                .hint("write `to: container:port`");
            None
        }
        (Some(_), None) => {
            if let Some(status) = fields.entry("status") {
                report.at(status.key.span, "`status` belongs to `redirect`");
            }
            forward(fields.get("to", report)?, targets, report)
        }
        (None, Some(_)) => {
            middleware::only_forwarded(fields, report);
            let node = fields.get("redirect", report)?;
            let to = report.text("redirect", node)?;
            let to = target::redirect(to, node.span, report);
            Some(Action::Redirect {
                to: to?,
                status: status?,
            })
        }
    }
}

fn redirect_status(node: &Node, report: &mut Report) -> Option<u16> {
    match report.text("status", node)? {
        "301" => Some(301),
        "302" => Some(302),
        "307" => Some(307),
        "308" => Some(308),
        other => {
            report
                .at(node.span, format!("`status` can't be {}", quoted(other)))
                .hint("301, 302, 307 or 308");
            None
        }
    }
}

fn forward(node: &Node, spans: &mut Vec<Span>, report: &mut Report) -> Option<Action> {
    let written = report.one_or_more("to", node);
    if written.is_empty() {
        if matches!(node.value, Value::List(ref items) if items.is_empty()) {
            report
                .at(node.span, "the list of targets is empty")
                .hint("write `container:port`");
        }
        return None;
    }
    let mut targets: Vec<Target> = Vec::new();
    for (text, span) in written {
        let Some(target) = target::read(text, span, report) else {
            continue;
        };
        match targets
            .iter()
            .take(MOST_COMPARED)
            .position(|other| *other == target)
        {
            Some(index) => {
                report
                    .at(span, "the same target twice")
                    .related(spans[index], "first written here");
            }
            None => {
                targets.push(target);
                spans.push(span);
            }
        }
    }
    (!targets.is_empty()).then_some(Action::Forward(targets))
}

/// Among more targets, twins go unnoticed: they do no harm.
const MOST_COMPARED: usize = 100;

fn networks(node: &Node, report: &mut Report) -> Vec<IpNetwork> {
    let written = report.one_or_more("allow", node);
    if matches!(node.value, Value::List(ref items) if items.is_empty()) {
        report
            .at(node.span, "the list `allow` is empty")
            .hint("remove it to allow everybody, or the route to allow nobody");
    }
    written
        .into_iter()
        .filter_map(|(text, span)| network(text, span, report))
        .collect()
}

/// `10.0.0.0/8` or an address alone.
fn network(text: &str, span: Span, report: &mut Report) -> Option<IpNetwork> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(IpNetwork::from(address));
    }
    let Ok(network) = text.parse::<IpNetwork>() else {
        report
            .at(span, format!("{} is no address or network", quoted(text)))
            .hint("such as `10.0.0.0/8` or `2001:db8::/32`");
        return None;
    };
    if network.network() != network.ip() {
        report
            .at(span, format!("{} has bits beyond its prefix", quoted(text)))
            .hint(format!(
                "did you mean `{}/{}` or `{}`?",
                network.network(),
                network.prefix(),
                network.ip()
            ));
        return None;
    }
    Some(network)
}

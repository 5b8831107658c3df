//! Where a route's requests go: `container:port`, or a URL.

use std::net::Ipv6Addr;

use crate::hosts;
use crate::problem::{Report, quoted};
use crate::{ContainerName, Span, Target};

pub(super) fn read(text: &str, span: Span, report: &mut Report) -> Option<Target> {
    if text.contains("://") {
        let url = url(text, span, report)?;
        if !matches!(url.rest, "" | "/") {
            report
                .at(
                    span,
                    format!(
                        "a target's URL ends after host and port, not with {}",
                        quoted(url.rest)
                    ),
                )
                .hint("the path of the request is passed on as it is");
            return None;
        }
        return Some(Target::Url {
            tls: url.tls,
            host: url.host,
            port: url.port,
        });
    }
    let Some((name, port)) = text.rsplit_once(':') else {
        report
            .at(span, format!("target {} has no port", quoted(text)))
            .hint(format!(
                "write `{}:PORT`, the port its program listens on inside the container",
                text.trim()
            ));
        return None;
    };
    let name = match name.parse::<ContainerName>() {
        Ok(name) => Some(name),
        Err(error) => {
            let problem = report.at(span, error.to_string());
            if name.contains('.') || name.contains('[') {
                problem.hint("a server that is no container is written `http://host:port`");
            }
            None
        }
    };
    let port = port_number(port, span, report);
    Some(Target::Container {
        name: name?,
        port: port?,
    })
}

fn port_number(text: &str, span: Span, report: &mut Report) -> Option<u16> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse::<u16>() {
        Ok(port) if port > 0 && digits => Some(port),
        _ if digits => {
            report
                .at(span, format!("port {} is out of range", quoted(text)))
                .hint("ports are 1 to 65535");
            None
        }
        _ => {
            report
                .at(span, format!("{} is no port", quoted(text)))
                .hint("write `container:port`, such as `web:3000`");
            None
        }
    }
}

/// Checks a redirect's target, which is kept as written.
pub(super) fn redirect(text: &str, span: Span, report: &mut Report) -> Option<String> {
    if !text.contains("://") {
        report
            .at(
                span,
                format!("`redirect` takes an absolute URL, not {}", quoted(text)),
            )
            .hint("begin with `https://` or `http://`");
        return None;
    }
    url(text, span, report)?;
    if !text.bytes().all(|b| b.is_ascii_graphic()) {
        report
            .at(span, "the URL holds a space or a letter beyond ASCII")
            .hint("write these percent-encoded");
        return None;
    }
    Some(text.to_owned())
}

struct Url<'t> {
    tls: bool,
    host: String,
    port: u16,
    /// Path, query and fragment.
    rest: &'t str,
}

fn url<'t>(text: &'t str, span: Span, report: &mut Report) -> Option<Url<'t>> {
    let (scheme, rest) = text.split_once("://")?;
    let tls = match scheme.to_ascii_lowercase().as_str() {
        "http" => false,
        "https" => true,
        _ => {
            let problem = report.at(
                span,
                format!("scheme {} is not `http` or `https`", quoted(scheme)),
            );
            if matches!(scheme, "ws" | "wss") {
                problem.hint("WebSockets go through `http://` and `https://` as well");
            }
            return None;
        }
    };
    let (authority, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if authority.contains('@') {
        report.at(span, "a URL with a user name or password is not supported");
        return None;
    }
    let (host, port) = match authority.strip_prefix('[') {
        Some(inner) => {
            let Some((address, tail)) = inner.split_once(']') else {
                report.at(span, "the `[` of the IPv6 address is not closed by `]`");
                return None;
            };
            let Ok(address) = address.parse::<Ipv6Addr>() else {
                report.at(span, format!("{} is no IPv6 address", quoted(address)));
                return None;
            };
            (
                address.to_string(),
                tail.strip_prefix(':').or((!tail.is_empty()).then_some(tail)),
            )
        }
        None => {
            let (host, port) = match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            };
            let host = match hosts::normalise(host) {
                Ok(host) => host,
                Err(error) => {
                    let problem = report.at(span, error.to_string());
                    problem.hint.clone_from(&error.hint);
                    return None;
                }
            };
            (host, port)
        }
    };
    let port = match port {
        Some(port) => port_number(port, span, report)?,
        None if tls => 443,
        None => 80,
    };
    Some(Url {
        tls,
        host,
        port,
        rest,
    })
}

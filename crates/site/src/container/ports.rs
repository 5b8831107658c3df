//! `ports`: every form that Compose has.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use super::Context;
use crate::fields::Fields;
use crate::keys::PORT;
use crate::problem::{Report, quoted};
use crate::yaml::{Node, Value};
use crate::{Port, Protocol, Span};

/// Most ports that a file publishes: as many as there are.
pub(super) const MOST: usize = 65_536;
/// Most ports of a range on a loopback address, where each is a socket of its own.
const MOST_LOCAL: usize = 256;
/// Where a port without an address is published.
const DEFAULT_IP: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const FORMS: &str = "forms are `80`, `8080:80`, `127.0.0.1:8080:80`, `[::1]:8080:80`, `3000-3005:3000-3005`, each with `/udp` or `/sctp` if you like";

/// A fault, and a hint.
type Fault = (String, Option<String>);

pub(super) fn read(fields: &Fields<'_>, context: &mut Context<'_>, report: &mut Report) -> Vec<(Port, Span)> {
    let Some(node) = fields.get("ports", report) else {
        return Vec::new();
    };
    let Some(items) = report.list("ports", node) else {
        return Vec::new();
    };
    let mut ports = Vec::new();
    for item in items {
        let published = match &item.value {
            Value::Map(_) => long(item, report),
            _ => short_at(item, report),
        };
        let Some(published) = published else { continue };
        let count = published.inside.len();
        if count > context.ports_left {
            report.at(item.span, format!("the file publishes more than {MOST} ports"));
            return ports;
        }
        context.ports_left -= count;
        ports.extend(published.runs().map(|port| (port, item.span)));
    }
    ports
}

/// One entry: a port or a range of them.
struct Published {
    host_ip: IpAddr,
    /// `None` picks free ones.
    host: Option<RangeInclusive<u16>>,
    inside: RangeInclusive<u16>,
    protocol: Protocol,
}

impl Published {
    /// A range is one run, but for free ports, each of which is chosen by itself.
    fn runs(self) -> impl Iterator<Item = Port> {
        let Self {
            host_ip,
            host,
            inside,
            protocol,
        } = self;
        let (runs, count) = match &host {
            Some(_) => (*inside.start()..=*inside.start(), inside.len() as u16),
            None => (inside, 1),
        };
        runs.map(move |container_port| Port {
            host_ip,
            host_port: host.as_ref().map_or(0, |host| *host.start()),
            container_port,
            count,
            protocol,
        })
    }

    fn checked(self) -> Result<Self, Fault> {
        if self.protocol == Protocol::Sctp && self.host_ip.is_loopback() {
            return Err((
                format!("SCTP can't be published on {}", self.host_ip),
                Some("only TCP and UDP are forwarded on loopback; name another address of this host, or `0.0.0.0`".to_owned()),
            ));
        }
        if self.host_ip.is_loopback() && self.inside.len() > MOST_LOCAL {
            return Err((
                format!(
                    "{} ports on {} are too many: each is a socket there, and {MOST_LOCAL} are the most of one range",
                    self.inside.len(),
                    self.host_ip
                ),
                Some("publish a smaller range, or the range on another address of this host".to_owned()),
            ));
        }
        let Some(host) = &self.host else { return Ok(self) };
        let (outside, inside) = (host.len(), self.inside.len());
        if outside == inside {
            return Ok(self);
        }
        if inside == 1 {
            return Err((
                "to pick one free port from a range is not supported yet".to_owned(),
                Some("name one port, or leave it out for any free one".to_owned()),
            ));
        }
        Err((
            format!("{outside} ports on the host can't be {inside} ports inside"),
            Some("both ranges must be of one length".to_owned()),
        ))
    }
}

fn short_at(node: &Node, report: &mut Report) -> Option<Published> {
    let text = report.text("ports", node)?;
    match short(text) {
        Ok(published) => Some(published),
        Err((message, hint)) => {
            report.at(node.span, message).hint = hint;
            None
        }
    }
}

/// `[[address:]host:]inside[/protocol]`
fn short(text: &str) -> Result<Published, Fault> {
    let form = || (format!("{} is no port", quoted(text)), Some(FORMS.to_owned()));
    let (rest, protocol) = match text.split_once('/') {
        Some((rest, name)) => (rest, protocol(name)?),
        None => (text, Protocol::Tcp),
    };
    let (address, rest) = match rest.strip_prefix('[') {
        Some(inner) => {
            let (address, rest) = inner.split_once("]:").ok_or_else(form)?;
            let address = address.parse::<Ipv6Addr>().map_err(|_| form())?;
            (Some(IpAddr::V6(address)), rest)
        }
        None if rest.matches(':').count() > 2 => {
            return Err((
                format!("{} is no port", quoted(text)),
                Some("write an IPv6 address in brackets: `[::1]:8080:80`".to_owned()),
            ));
        }
        None if rest.matches(':').count() == 2 => {
            let (address, rest) = rest.split_once(':').ok_or_else(form)?;
            (Some(host_ip(address)?), rest)
        }
        None => (None, rest),
    };
    let (host, inside) = match rest.split_once(':') {
        // `127.0.0.1::80` is Compose's way to ask for a free port there.
        Some(("", inside)) if address.is_some() => (None, inside),
        Some((host, inside)) => (Some(host), inside),
        None if address.is_some() => return Err(form()),
        None => (None, rest),
    };
    if let (None, Some(host)) = (address, host)
        && host.contains('.')
    {
        return Err((
            format!("{} names an address but only one port", quoted(text)),
            Some(format!(
                "write `{text}:PORT`, or `{host}::{inside}` for any free port"
            )),
        ));
    }
    let host = match host {
        Some("0") => None,
        Some(host) => Some(range(host, text)?),
        None => None,
    };
    Published {
        host_ip: address.unwrap_or(DEFAULT_IP),
        host,
        inside: range(inside, text)?,
        protocol,
    }
    .checked()
}

fn long(node: &Node, report: &mut Report) -> Option<Published> {
    let fields = Fields::read(node, &PORT, report)?;
    let host_ip = part("host_ip", &fields, report, Some(DEFAULT_IP), host_ip);
    let protocol = part("protocol", &fields, report, Some(Protocol::Tcp), protocol);
    let host = part("published", &fields, report, Some(None), |text| match text {
        "" | "0" => Ok(None),
        text => range(text, text).map(Some),
    });
    part("mode", &fields, report, Some(()), |mode| match mode {
        "host" | "ingress" => Ok(()),
        _ => Err((
            format!("`mode` can't be {}", quoted(mode)),
            Some("`host` or `ingress`".to_owned()),
        )),
    });
    let inside = part("target", &fields, report, None, |text| range(text, text));
    if fields.entry("target").is_none() {
        report
            .at(node.span, "a port needs a `target`")
            .hint("the port inside the container");
    }
    let published = Published {
        host_ip: host_ip?,
        host: host?,
        inside: inside?,
        protocol: protocol?,
    };
    match published.checked() {
        Ok(published) => Some(published),
        Err((message, hint)) => {
            report.at(node.span, message).hint = hint;
            None
        }
    }
}

/// One key of the long form, or what it is without.
fn part<T>(
    key: &str,
    fields: &Fields<'_>,
    report: &mut Report,
    without: Option<T>,
    read: impl FnOnce(&str) -> Result<T, Fault>,
) -> Option<T> {
    let Some(entry) = fields.entry(key) else {
        return without;
    };
    match read(fields.text(key, report)?) {
        Ok(value) => Some(value),
        Err((message, hint)) => {
            report.at(entry.value.span, message).hint = hint;
            None
        }
    }
}

fn protocol(name: &str) -> Result<Protocol, Fault> {
    match name.to_ascii_lowercase().as_str() {
        "tcp" => Ok(Protocol::Tcp),
        "udp" => Ok(Protocol::Udp),
        "sctp" => Ok(Protocol::Sctp),
        _ => Err((
            format!("{} is no protocol", quoted(name)),
            Some("`tcp`, `udp` or `sctp`".to_owned()),
        )),
    }
}

fn host_ip(text: &str) -> Result<IpAddr, Fault> {
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    bare.parse().map_err(|_| {
        let hint = match text {
            "localhost" => "write `127.0.0.1`",
            "*" | "" => "write `0.0.0.0` for all addresses",
            _ => "an address of this host, `127.0.0.1` or `0.0.0.0`",
        };
        (format!("{} is no address", quoted(text)), Some(hint.to_owned()))
    })
}

/// `80` or `3000-3005`.
fn range(text: &str, whole: &str) -> Result<RangeInclusive<u16>, Fault> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first, whole)?, number(last, whole)?);
    if first > last {
        return Err((
            format!("range {} runs backwards", quoted(text)),
            Some(format!("write `{last}-{first}`")),
        ));
    }
    Ok(first..=last)
}

fn number(text: &str, whole: &str) -> Result<u16, Fault> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err((format!("{} is no port", quoted(whole)), Some(FORMS.to_owned())));
    }
    match text.parse() {
        Ok(0) | Err(_) => Err((
            format!("port {} is out of range", quoted(text)),
            Some("ports are 1 to 65535".to_owned()),
        )),
        Ok(port) => Ok(port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(text: &str) -> Result<Vec<String>, String> {
        let published = short(text).map_err(|(message, _)| message)?;
        Ok(published
            .runs()
            .map(|port| {
                format!(
                    "{}|{}|{}|{}|{:?}",
                    port.host_ip, port.host_port, port.container_port, port.count, port.protocol
                )
            })
            .collect())
    }

    #[test]
    fn every_short_form_is_understood() {
        for (text, expected) in [
            ("80", vec!["127.0.0.1|0|80|1|Tcp"]),
            ("8080:80", vec!["127.0.0.1|8080|80|1|Tcp"]),
            ("0:80", vec!["127.0.0.1|0|80|1|Tcp"]),
            ("0.0.0.0:53:53/udp", vec!["0.0.0.0|53|53|1|Udp"]),
            ("192.0.2.1:9:9/SCTP", vec!["192.0.2.1|9|9|1|Sctp"]),
            ("[::1]:80:81", vec!["::1|80|81|1|Tcp"]),
            ("127.0.0.1::80", vec!["127.0.0.1|0|80|1|Tcp"]),
            ("3000-3001:4000-4001", vec!["127.0.0.1|3000|4000|2|Tcp"]),
            ("10-11", vec!["127.0.0.1|0|10|1|Tcp", "127.0.0.1|0|11|1|Tcp"]),
            ("65535:65535", vec!["127.0.0.1|65535|65535|1|Tcp"]),
            ("1-256:1-256", vec!["127.0.0.1|1|1|256|Tcp"]),
            ("0.0.0.0:1-65535:1-65535", vec!["0.0.0.0|1|1|65535|Tcp"]),
        ] {
            assert_eq!(ports(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_port_is_refused() {
        for text in [
            "",
            "a",
            ":80",
            "80:",
            "80:0",
            "70000:80",
            "80:70000",
            "-1:80",
            "80/sctp",
            "127.0.0.1:80:80/sctp",
            "1-257:1-257",
            "80/x",
            "1-3:4-5",
            "1-3:4",
            "3-1:3-1",
            "::1:80:80",
            "[::1]:80",
            "[x]:80:80",
            "127.0.0.1:80",
            "localhost:80:80",
            "1:2:3:4",
            "+80:80",
            "[::1",
        ] {
            assert!(ports(text).is_err(), "{text}");
        }
    }
}

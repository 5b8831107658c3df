//! How a container stands to others: networks, dependencies, name servers, hosts.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::NetworkMarks;
use crate::fields::Fields;
use crate::keys::{ATTACHMENT, DEPENDENCY};
use crate::problem::{Report, quoted};
use crate::yaml::{Node, Value};
use crate::{
    Attachment, Condition, Container, ContainerName, DEFAULT_NETWORK, ExtraHost, MOST_ALIASES,
    MOST_NETWORKS_OF_A_CONTAINER, MacAddress, NetworkMode, NetworkName, Span, hosts, networks as named,
};

/// The networks to join; `default` if the key isn't there.
pub(super) fn networks(
    fields: &Fields<'_>,
    container: Span,
    report: &mut Report,
) -> Vec<(NetworkName, Attachment, NetworkMarks)> {
    if fields.entry("network_mode").is_some() {
        return Vec::new();
    }
    let default = || {
        DEFAULT_NETWORK
            .parse()
            .ok()
            .map(|name| (name, Attachment::default(), mark(container)))
    };
    if fields.entry("networks").is_none() {
        return default().into_iter().collect();
    }
    let Some(node) = fields.get("networks", report) else {
        return Vec::new();
    };
    let mut joined: Vec<(NetworkName, Attachment, NetworkMarks)> = Vec::new();
    match &node.value {
        Value::List(items) => {
            let mut first = BTreeMap::new();
            for item in items {
                let Some(text) = report.text("networks", item) else {
                    continue;
                };
                if let Some(earlier) = first.insert(text, item.span) {
                    report
                        .at(item.span, format!("network {} is joined twice", quoted(text)))
                        .related(earlier, "here first");
                } else if let Some(name) = named::name(text, item.span, report) {
                    joined.push((name, Attachment::default(), mark(item.span)));
                }
            }
        }
        Value::Map(entries) => {
            for entry in entries {
                let name = named::name(&entry.key.text, entry.key.span, report);
                let mut marks = mark(entry.key.span);
                let attachment = match entry.value.is_null() {
                    true => Attachment::default(),
                    false => attachment(&entry.value, &mut marks, report),
                };
                joined.extend(name.map(|name| (name, attachment, marks)));
            }
        }
        Value::Scalar { .. } => {
            report
                .at(
                    node.span,
                    format!("`networks` must be a list or a mapping, not {}", node.kind()),
                )
                .hint("`networks: [backend]`");
            return Vec::new();
        }
    }
    if joined.len() > MOST_NETWORKS_OF_A_CONTAINER {
        report.at(
            node.span,
            format!(
                "{} `networks` are too many: a container may be on {MOST_NETWORKS_OF_A_CONTAINER}",
                joined.len()
            ),
        );
    }
    if node.entries().is_empty() && matches!(&node.value, Value::List(items) if items.is_empty())
        || matches!(&node.value, Value::Map(entries) if entries.is_empty())
    {
        report
            .at(node.span, "`networks` is empty")
            .hint("remove the key to join `default`, or write `network_mode: none` for a container without any network");
    }
    joined
}

fn mark(name: Span) -> NetworkMarks {
    NetworkMarks {
        name,
        ..NetworkMarks::default()
    }
}

fn attachment(node: &Node, marks: &mut NetworkMarks, report: &mut Report) -> Attachment {
    let Some(fields) = Fields::read(node, &ATTACHMENT, report) else {
        return Attachment::default();
    };
    let mut aliases = Vec::new();
    if let Some(node) = fields.get("aliases", report)
        && let Some(items) = report.list("aliases", node)
    {
        for item in items {
            let Some(alias) = report.parsed("aliases", item, |text| {
                hosts::alias(text).map_err(|error| format!("are wrong: {error}"))
            }) else {
                continue;
            };
            aliases.push(alias);
        }
        aliases.sort();
        aliases.dedup();
        if aliases.len() > MOST_ALIASES {
            report.at(
                node.span,
                format!(
                    "{} `aliases` are too many: there may be {MOST_ALIASES}",
                    aliases.len()
                ),
            );
        }
    }
    let address = |key: &str, span: &mut Span, report: &mut Report| -> Option<IpAddr> {
        let node = fields.get(key, report)?;
        *span = node.span;
        report.parsed(key, node, |text| {
            text.parse::<IpAddr>()
                .map_err(|_| format!("must be an address, not {}", quoted(text)))
        })
    };
    let ipv4 = address("ipv4_address", &mut marks.ipv4, report);
    let ipv6 = address("ipv6_address", &mut marks.ipv6, report);
    let ipv4_address = match ipv4 {
        Some(IpAddr::V4(address)) => Some(address),
        Some(IpAddr::V6(_)) => {
            report
                .at(marks.ipv4, "`ipv4_address` is an IPv6 address")
                .hint("write `ipv6_address`");
            None
        }
        None => None,
    };
    let ipv6_address = match ipv6 {
        Some(IpAddr::V6(address)) => Some(address),
        Some(IpAddr::V4(_)) => {
            report
                .at(marks.ipv6, "`ipv6_address` is an IPv4 address")
                .hint("write `ipv4_address`");
            None
        }
        None => None,
    };
    if let Some(node) = fields.get("mac_address", report) {
        marks.mac = node.span;
    }
    Attachment {
        aliases,
        ipv4_address,
        ipv6_address,
        mac_address: fields.parsed("mac_address", report, str::parse::<MacAddress>),
        gateway_priority: fields
            .get("gw_priority", report)
            .and_then(|node| report.whole("gw_priority", node, i32::MIN.into(), i32::MAX.into()))
            .map_or(0, |priority| priority as i32),
    }
}

/// The container's own `mac_address`: that of its one network.
pub(super) fn mac_address(
    fields: &Fields<'_>,
    container: &mut Container,
    marks: &mut BTreeMap<NetworkName, NetworkMarks>,
    report: &mut Report,
) {
    let Some(address) = fields.parsed("mac_address", report, str::parse::<MacAddress>) else {
        return;
    };
    let Some(entry) = fields.entry("mac_address") else {
        return;
    };
    let mut networks = container.networks.iter_mut();
    match (networks.next(), networks.next()) {
        (Some((name, only)), None) if only.mac_address.is_none() => {
            only.mac_address = Some(address);
            if let Some(marks) = marks.get_mut(name) {
                marks.mac = entry.value.span;
            }
        }
        (Some(_), None) => {
            report.at(
                entry.key.span,
                "the container's network has a `mac_address` already",
            );
        }
        _ => {
            report
                .at(entry.key.span, "the container is not on exactly one network")
                .hint("write `mac_address` below the network that it is for");
        }
    }
}

/// Whose network namespace it has, and what may then not be said of its own.
pub(super) fn network_mode(fields: &Fields<'_>, report: &mut Report) -> (NetworkMode, Span) {
    let default = (NetworkMode::Networks, Span::default());
    let Some(node) = fields.get("network_mode", report) else {
        return default;
    };
    let Some(text) = report.text("network_mode", node) else {
        return default;
    };
    let target = text
        .strip_prefix("container:")
        .or_else(|| text.strip_prefix("service:"));
    let (mode, barred): (_, &[&str]) = match (text, target) {
        ("host", _) => (
            NetworkMode::Host,
            &["networks", "ports", "mac_address", "dns", "dns_search"],
        ),
        ("none", _) => (
            NetworkMode::None,
            &["networks", "ports", "mac_address", "dns", "dns_search"],
        ),
        (_, Some(name)) => match named::name::<ContainerName>(name, node.span, report) {
            Some(name) => (
                NetworkMode::Container(name),
                &[
                    "networks",
                    "ports",
                    "mac_address",
                    "dns",
                    "dns_search",
                    "extra_hosts",
                    "hostname",
                    "userns_mode",
                ],
            ),
            None => return default,
        },
        ("bridge" | "default", _) => {
            report
                .at(node.span, format!("`network_mode` can't be {}", quoted(text)))
                .hint("leave it out: the container joins `default`, or what `networks` names");
            return default;
        }
        _ => {
            report
                .at(node.span, format!("`network_mode` can't be {}", quoted(text)))
                .hint("`host`, `none` or `container:NAME`");
            return default;
        }
    };
    for key in barred {
        if let Some(entry) = fields.entry(key) {
            report
                .at(
                    entry.key.span,
                    format!("with `network_mode: {text}`, the container has no `{key}` of its own"),
                )
                .related(node.span, "written here");
        }
    }
    (mode, node.span)
}

/// Domains for the `search` line, as resolv.conf(5) allows them.
pub(super) fn dns_search(fields: &Fields<'_>, report: &mut Report) -> Vec<String> {
    let Some(node) = fields.get("dns_search", report) else {
        return Vec::new();
    };
    let mut domains = Vec::new();
    for (text, span) in report.one_or_more("dns_search", node) {
        match hosts::normalise(text) {
            Ok(name) => domains.push(name),
            Err(error) => {
                report.at(span, error.to_string());
            }
        }
    }
    domains
}

pub(super) fn depends_on(fields: &Fields<'_>, report: &mut Report) -> Vec<(ContainerName, Condition, Span)> {
    let Some(node) = fields.get("depends_on", report) else {
        return Vec::new();
    };
    let mut dependencies = Vec::new();
    match &node.value {
        Value::List(items) => {
            let mut first = BTreeMap::new();
            for item in items {
                let Some(text) = report.text("depends_on", item) else {
                    continue;
                };
                if let Some(earlier) = first.insert(text, item.span) {
                    report
                        .at(item.span, format!("{} is twice in `depends_on`", quoted(text)))
                        .related(earlier, "here first");
                } else if let Some(name) = named::name(text, item.span, report) {
                    dependencies.push((name, Condition::Started, item.span));
                }
            }
        }
        Value::Map(entries) => {
            for entry in entries {
                let name = named::name(&entry.key.text, entry.key.span, report);
                let condition = condition(&entry.value, report);
                dependencies.extend(name.map(|name| (name, condition, entry.key.span)));
            }
        }
        Value::Scalar { .. } => {
            report
                .at(
                    node.span,
                    format!("`depends_on` must be a list or a mapping, not {}", node.kind()),
                )
                .hint("`depends_on: [db]`");
        }
    }
    dependencies
}

fn condition(node: &Node, report: &mut Report) -> Condition {
    let Some(fields) = Fields::read(node, &DEPENDENCY, report) else {
        return Condition::Started;
    };
    for (key, only) in [("required", true), ("restart", false)] {
        if let Some(flag) = fields.flag(key, report)
            && flag != only
            && let Some(entry) = fields.entry(key)
        {
            report.at(entry.key.span, format!("`{key}: {flag}` is not supported yet"));
        }
    }
    let Some(node) = fields.get("condition", report) else {
        return Condition::Started;
    };
    let Some(text) = report.text("condition", node) else {
        return Condition::Started;
    };
    let known = [
        "service_started",
        "service_healthy",
        "service_completed_successfully",
    ];
    match text {
        "service_started" => Condition::Started,
        "service_healthy" => Condition::Healthy,
        "service_completed_successfully" => Condition::CompletedSuccessfully,
        _ => {
            let nearest = report.nearest(text, known);
            let problem = report.at(node.span, format!("`condition` can't be {}", quoted(text)));
            match nearest {
                Some(nearest) => problem.hint(format!("did you mean `{nearest}`?")),
                None => problem.hint(known.map(|name| format!("`{name}`")).join(", ")),
            };
            Condition::Started
        }
    }
}

pub(super) fn dns(fields: &Fields<'_>, report: &mut Report) -> Vec<IpAddr> {
    let Some(node) = fields.get("dns", report) else {
        return Vec::new();
    };
    let mut servers = Vec::new();
    for (text, span) in report.one_or_more("dns", node) {
        match text.parse::<IpAddr>() {
            Ok(address) if address.is_loopback() || address.is_unspecified() => {
                report
                    .at(
                        span,
                        format!(
                            "name server {} would be the host's own, which forwards for the container",
                            quoted(text)
                        ),
                    )
                    .hint("leave it out: names are found, and the host's name servers are asked for others");
            }
            Ok(address) => servers.push(address),
            Err(_) => {
                report
                    .at(span, format!("name server {} is no address", quoted(text)))
                    .hint("such as `9.9.9.9`");
            }
        }
    }
    servers
}

/// `name: address`, `name=address`, `name:address`, in a list or a mapping.
pub(super) fn extra_hosts(fields: &Fields<'_>, report: &mut Report) -> Vec<(String, ExtraHost)> {
    let Some(node) = fields.get("extra_hosts", report) else {
        return Vec::new();
    };
    let mut written: Vec<(&str, &str, Span)> = Vec::new();
    match &node.value {
        Value::Map(entries) => {
            for entry in entries {
                for (address, span) in report.one_or_more("extra_hosts", &entry.value) {
                    written.push((&entry.key.text, address, span));
                }
            }
        }
        Value::List(items) => {
            for item in items {
                let Some(text) = report.text("extra_hosts", item) else {
                    continue;
                };
                match text.split_once('=').or_else(|| text.split_once(':')) {
                    Some((name, address)) => written.push((name, address, item.span)),
                    None => {
                        report
                            .at(item.span, format!("{} has no address", quoted(text)))
                            .hint("write `name=address`");
                    }
                }
            }
        }
        Value::Scalar { .. } => {
            report.at(
                node.span,
                format!("`extra_hosts` must be a list or a mapping, not {}", node.kind()),
            );
        }
    }
    written
        .into_iter()
        .filter_map(|(name, address, span)| extra_host(name, address, span, report))
        .collect()
}

fn extra_host(name: &str, address: &str, span: Span, report: &mut Report) -> Option<(String, ExtraHost)> {
    let name = match hosts::alias(name) {
        Ok(name) => Some(name),
        Err(error) => {
            report.at(span, error.to_string());
            None
        }
    };
    let bare = address
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(address);
    let address = match bare.parse::<IpAddr>() {
        Ok(address) => Some(ExtraHost::Address(address)),
        Err(_) if bare == "host-gateway" => Some(ExtraHost::HostGateway),
        Err(_) => {
            report
                .at(span, format!("{} is no address", quoted(address)))
                .hint("an address, or `host-gateway`");
            None
        }
    };
    name.zip(address)
}

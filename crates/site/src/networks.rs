//! The `networks` and `volumes` of the file.

mod driver;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};

use crate::fields::Fields;
use crate::keys::{IPAM, IPAM_CONFIG, NETWORK, VOLUME};
use crate::problem::{Report, quoted};
use crate::yaml::{Node, Value};
use crate::{LONGEST_LABEL, MOST_LABELS, Network, NetworkName, OnConflict, Span, Volume, VolumeName};

/// A network and where its parts were written.
#[derive(Default)]
pub(crate) struct Draft {
    pub(crate) network: Network,
    pub(crate) name: Span,
    pub(crate) subnet: Span,
    pub(crate) subnet6: Span,
    /// Written with `external: true`; without a `name`, its key is its name.
    pub(crate) is_external: bool,
}

/// IPv6 needs so many (RFC 8200, section 5).
const SMALLEST_MTU: i64 = 1_280;
/// The longest IP packet.
const LARGEST_MTU: i64 = 65_535;

/// Reads `networks`.
pub(crate) fn read(node: &Node, report: &mut Report) -> BTreeMap<NetworkName, Draft> {
    let Some(entries) = named("networks", node, report) else {
        return BTreeMap::new();
    };
    let mut networks = BTreeMap::new();
    for entry in entries {
        let name = name::<NetworkName>(&entry.key.text, entry.key.span, report);
        let mut draft = Draft {
            name: entry.key.span,
            ..Draft::default()
        };
        if !entry.value.is_null() {
            network(&entry.value, &mut draft, report);
        }
        if let Some(name) = name {
            if draft.is_external {
                draft.network.external.get_or_insert_with(|| name.clone());
            }
            networks.insert(name, draft);
        }
    }
    networks
}

/// Reads `volumes`.
pub(crate) fn read_volumes(node: &Node, report: &mut Report) -> BTreeMap<VolumeName, Volume> {
    let Some(entries) = named("volumes", node, report) else {
        return BTreeMap::new();
    };
    let mut volumes = BTreeMap::new();
    for entry in entries {
        let name = name::<VolumeName>(&entry.key.text, entry.key.span, report);
        let mut volume = Volume::default();
        if !entry.value.is_null()
            && let Some(fields) = Fields::read(&entry.value, &VOLUME, report)
        {
            only("driver", "local", &fields, report);
            volume.labels = labels(&fields, report);
        }
        if let Some(name) = name {
            volumes.insert(name, volume);
        }
    }
    volumes
}

fn named<'n>(what: &str, node: &'n Node, report: &mut Report) -> Option<&'n [crate::yaml::Entry]> {
    match &node.value {
        Value::Map(entries) => Some(entries),
        _ => {
            report
                .at(
                    node.span,
                    format!("`{what}` must be a mapping, not {}", node.kind()),
                )
                .hint(format!("`{what}: {{ name: {{}} }}`"));
            None
        }
    }
}

/// A name of ours, or a problem that says which rule it breaks.
pub(crate) fn name<N: std::str::FromStr<Err = crate::NameError>>(
    text: &str,
    span: Span,
    report: &mut Report,
) -> Option<N> {
    match text.parse::<N>() {
        Ok(name) => Some(name),
        Err(error) => {
            let lowered = text.to_ascii_lowercase();
            let problem = report.at(span, error.to_string());
            if lowered != text && lowered.parse::<N>().is_ok() {
                problem.hint(format!("write `{lowered}`"));
            }
            None
        }
    }
}

pub(crate) fn labels(fields: &Fields<'_>, report: &mut Report) -> BTreeMap<String, String> {
    let Some(node) = fields.get("labels", report) else {
        return BTreeMap::new();
    };
    let pairs = report.pairs("labels", node);
    if pairs.len() > MOST_LABELS {
        let count = pairs.len();
        report.at(
            node.span,
            format!("{count} `labels` are too many: there may be {MOST_LABELS}"),
        );
    }
    let mut labels = BTreeMap::new();
    for pair in pairs {
        let value = pair.value.unwrap_or_default();
        if pair.name.is_empty() {
            report.at(pair.span, "a label has no name");
        } else if pair.name.len() + value.len() > LONGEST_LABEL {
            report.at(
                pair.span,
                format!(
                    "label {} is too long: with its value it may have {LONGEST_LABEL} bytes",
                    quoted(pair.name)
                ),
            );
        }
        labels.insert(pair.name.to_owned(), value.to_owned());
    }
    labels
}

/// A key that has one value which we support.
fn only(key: &str, value: &str, fields: &Fields<'_>, report: &mut Report) {
    if let Some(node) = fields.get(key, report)
        && let Some(text) = report.text(key, node)
        && text != value
    {
        report
            .at(node.span, format!("{key} {} is not supported yet", quoted(text)))
            .hint(format!("only `{value}` is"));
    }
}

fn network(node: &Node, draft: &mut Draft, report: &mut Report) {
    let Some(fields) = Fields::read(node, &NETWORK, report) else {
        return;
    };
    if fields.flag("external", report) == Some(true) {
        draft.network.external = external(node, &fields, report);
        draft.is_external = true;
        return;
    }
    if let Some(entry) = fields.entry("name") {
        report
            .at(entry.key.span, "only an external network has a `name`")
            .hint("the network of this file is called by its key, with the project's name before it on the host");
    }
    draft.network.driver = driver::read(node, &fields, report);
    draft.network.isolated = fields.flag("isolated", report).unwrap_or(false);
    if let Some(node) = fields.get("mtu", report) {
        draft.network.mtu = report
            .whole("mtu", node, SMALLEST_MTU, LARGEST_MTU)
            .map(|mtu| mtu as u32);
    }
    if let Some(node) = fields.get("on_conflict", report) {
        draft.network.on_conflict = report
            .word(
                "on_conflict",
                node,
                &[("move", OnConflict::Move), ("report", OnConflict::Report)],
            )
            .unwrap_or_default();
    }
    draft.network.internal = fields.flag("internal", report).unwrap_or(false);
    draft.network.labels = labels(&fields, report);
    draft.network.ipv6 = fields.flag("ipv6", report);
    if let Some(enabled) = fields.flag("enable_ipv6", report) {
        if let (Some(ipv6), Some(other)) = (fields.entry("ipv6"), fields.entry("enable_ipv6")) {
            report
                .at(other.key.span, "`enable_ipv6` and `ipv6` are the same")
                .related(ipv6.key.span, "written here");
        }
        draft.network.ipv6 = Some(enabled);
    }
    if let Some(node) = fields.get("subnet", report) {
        for (text, span) in report.one_or_more("subnet", node) {
            subnet(text, span, draft, report);
        }
    }
    if let Some(node) = fields.get("gateway", report) {
        gateway(node, draft, report);
    }
    if let Some(node) = fields.get("ipam", report) {
        ipam(node, draft, report);
    }
    if draft.network.subnet6.is_some() && draft.network.ipv6 == Some(false) {
        report.at(
            draft.subnet6,
            "the network has an IPv6 subnet, but IPv6 is turned off",
        );
    }
    driver::check(&fields, draft, report);
}

/// The name of a network that somebody else looks after; nothing else may be said of it here.
fn external(node: &Node, fields: &Fields<'_>, report: &mut Report) -> Option<NetworkName> {
    for entry in node.entries() {
        let key = entry.key.text.as_str();
        if !matches!(key, "external" | "name" | "labels") && !key.starts_with("x-") {
            report
                .at(
                    entry.key.span,
                    format!("`{key}` can't be set for an external network"),
                )
                .hint("`linkspan network create` has an option for it");
        }
    }
    let node = fields.get("name", report)?;
    let text = report.text("name", node)?;
    name(text, node.span, report)
}

fn ipam(node: &Node, draft: &mut Draft, report: &mut Report) {
    let Some(fields) = Fields::read(node, &IPAM, report) else {
        return;
    };
    only("driver", "default", &fields, report);
    let Some(node) = fields.get("config", report) else {
        return;
    };
    let Some(items) = report.list("config", node) else {
        return;
    };
    for item in items {
        let Some(fields) = Fields::read(item, &IPAM_CONFIG, report) else {
            continue;
        };
        if let Some(node) = fields.get("subnet", report)
            && let Some(text) = report.text("subnet", node)
        {
            subnet(text, node.span, draft, report);
        }
        if let Some(node) = fields.get("gateway", report) {
            gateway(node, draft, report);
        }
    }
}

fn gateway(node: &Node, draft: &mut Draft, report: &mut Report) {
    let Some(text) = report.text("gateway", node) else {
        return;
    };
    let address = match text.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => address,
        Ok(IpAddr::V6(_)) => {
            report
                .at(node.span, "an IPv6 `gateway` is not supported yet")
                .hint("the bridge has the first address of the subnet");
            return;
        }
        Err(_) => {
            report.at(
                node.span,
                format!("`gateway` must be an address, not {}", quoted(text)),
            );
            return;
        }
    };
    if draft.network.gateway.is_some() {
        report.at(node.span, "the network has a second `gateway`");
        return;
    }
    match draft.network.subnet {
        Some(subnet) if usable(subnet, address) => draft.network.gateway = Some(address),
        Some(subnet) => {
            let mut first = u32::from(subnet.network());
            first = first.saturating_add(1);
            report
                .at(
                    node.span,
                    format!("gateway `{address}` is no usable address of `{subnet}`"),
                )
                .hint(format!("such as `{}`", Ipv4Addr::from(first)));
        }
        None => {
            report.at(node.span, "`gateway` needs a `subnet`");
        }
    }
}

/// In the subnet, and neither its network nor its broadcast address.
pub(crate) fn usable(subnet: Ipv4Network, address: Ipv4Addr) -> bool {
    subnet.contains(address) && address != subnet.network() && address != subnet.broadcast()
}

fn subnet(text: &str, span: Span, draft: &mut Draft, report: &mut Report) {
    let network = match text.parse::<IpNetwork>() {
        Ok(network) if text.contains('/') => network,
        _ => {
            report
                .at(span, format!("{} is no subnet", quoted(text)))
                .hint("such as `10.20.0.0/24`");
            return;
        }
    };
    if network.network() != network.ip() {
        report
            .at(
                span,
                format!("subnet {} has bits beyond its prefix", quoted(text)),
            )
            .hint(format!(
                "did you mean `{}/{}`?",
                network.network(),
                network.prefix()
            ));
        return;
    }
    match network {
        IpNetwork::V4(network) => subnet4(network, span, draft, report),
        IpNetwork::V6(network) => subnet6(network, span, draft, report),
    }
}

fn subnet4(network: Ipv4Network, span: Span, draft: &mut Draft, report: &mut Report) {
    let first = network.network();
    if !(8..=29).contains(&network.prefix()) {
        report
            .at(
                span,
                format!(
                    "subnet `{network}` is too {}",
                    if network.prefix() < 8 { "large" } else { "small" }
                ),
            )
            .hint("prefixes are /8 to /29: the bridge and the resolver take an address each");
    } else if first.is_loopback()
        || first.is_multicast()
        || first.is_link_local()
        || first.octets()[0] == 0
        || first.octets()[0] >= 240
    {
        report
            .at(span, format!("subnet `{network}` is reserved"))
            .hint("such as `10.20.0.0/24`");
    } else if draft.network.subnet.is_some() {
        report
            .at(span, "the network has a second IPv4 subnet")
            .related(draft.subnet, "the first");
    } else {
        draft.network.subnet = Some(network);
        draft.subnet = span;
    }
}

fn subnet6(network: Ipv6Network, span: Span, draft: &mut Draft, report: &mut Report) {
    let first = network.network();
    if network.prefix() != 64 {
        report
            .at(span, format!("IPv6 subnet `{network}` is no /64"))
            .hint("such as `fd00:20::/64`");
    } else if first.is_multicast() || first.is_unicast_link_local() || first.segments()[..4] == [0; 4] {
        report
            .at(span, format!("subnet `{network}` is reserved"))
            .hint("such as `fd00:20::/64`");
    } else if draft.network.subnet6.is_some() {
        report
            .at(span, "the network has a second IPv6 subnet")
            .related(draft.subnet6, "the first");
    } else {
        draft.network.subnet6 = Some(network);
        draft.subnet6 = span;
    }
}

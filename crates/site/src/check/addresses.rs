//! Subnets of the file don't overlap, fixed addresses lie in them, and no two containers on a network have the same one.

use std::collections::HashMap;
use std::net::IpAddr;

use super::Draft;
use crate::container::{Draft as ContainerDraft, NetworkMarks};
use crate::networks::{Draft as NetworkDraft, usable};
use crate::problem::Report;
use crate::{Attachment, ContainerName, Driver, MacAddress, Network, NetworkName, Span};

/// Where something was written, and for which container.
type Holder<'d> = (&'d ContainerName, Span);

/// The network that a name in the file means: two names may mean one network on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Meant<'d> {
    is_external: bool,
    name: &'d NetworkName,
}

impl<'d> Meant<'d> {
    fn new(name: &'d NetworkName, network: Option<&'d Network>) -> Self {
        let external = network.and_then(|network| network.external.as_ref());
        Self {
            is_external: external.is_some(),
            name: external.unwrap_or(name),
        }
    }
}

pub(super) fn check(draft: &Draft, report: &mut Report) {
    overlaps(draft, report);
    let mut taken: HashMap<(Meant<'_>, IpAddr), Holder<'_>> = HashMap::new();
    let mut macs: HashMap<(Meant<'_>, MacAddress), Holder<'_>> = HashMap::new();
    for (container, parts) in &draft.containers {
        let mut joined: HashMap<Meant<'_>, (&NetworkName, Span)> = HashMap::new();
        for (name, attachment) in &parts.container.networks {
            let marks = parts.marks.networks.get(name).copied().unwrap_or_default();
            let known = draft.networks.get(name).map(|known| &known.network);
            let meant = Meant::new(name, known);
            if let Some((other, earlier)) = joined.insert(meant, (name, marks.name)) {
                report
                    .at(
                        marks.name,
                        format!(
                            "networks `{name}` and `{other}` are the same one, `{}`",
                            meant.name
                        ),
                    )
                    .related(earlier, "joined here");
            }
            if let Some(mac) = attachment.mac_address {
                if let Some((other, earlier)) = macs.insert((meant, mac), (container, marks.mac)) {
                    report
                        .at(
                            marks.mac,
                            format!("hardware address `{mac}` is also that of container `{other}` on network `{name}`"),
                        )
                        .related(earlier, "written here");
                }
                mac_fits(name, known, parts, mac, &marks, report);
            }
            if let Some(network) = draft.networks.get(name) {
                fits(name, network, attachment, &marks, report);
            }
            let v4 = attachment
                .ipv4_address
                .map(|address| (IpAddr::from(address), marks.ipv4));
            let v6 = attachment
                .ipv6_address
                .map(|address| (IpAddr::from(address), marks.ipv6));
            for (address, span) in v4.into_iter().chain(v6) {
                if parts.container.replicas > 1 {
                    let replicas = parts.container.replicas;
                    report.at(
                        span,
                        format!("{replicas} replicas of `{container}` can't share the address `{address}`"),
                    );
                }
                if let Some((other, earlier)) = taken.insert((meant, address), (container, span)) {
                    report
                        .at(
                            span,
                            format!("address `{address}` is also the address of container `{other}`"),
                        )
                        .related(earlier, "written here");
                }
            }
        }
    }
}

/// A hardware address is one link's, and the link must be able to have it.
fn mac_fits(
    name: &NetworkName,
    network: Option<&Network>,
    parts: &ContainerDraft,
    mac: MacAddress,
    marks: &NetworkMarks,
    report: &mut Report,
) {
    let replicas = parts.container.replicas;
    if replicas > 1 {
        report
            .at(
                marks.mac,
                format!("{replicas} replicas can't share the hardware address `{mac}`"),
            )
            .hint("leave it out: each gets one of its own");
    }
    if network.is_some_and(|network| matches!(network.driver, Driver::Ipvlan { .. })) {
        report
            .at(
                marks.mac,
                format!(
                    "network `{name}` is an ipvlan, whose members have the hardware address of its parent"
                ),
            )
            .hint("a macvlan gives each its own");
    }
}

fn fits(
    name: &NetworkName,
    network: &NetworkDraft,
    attachment: &Attachment,
    marks: &NetworkMarks,
    report: &mut Report,
) {
    let parts = &network.network;
    if parts.external.is_some() {
        // Only the daemon knows its subnet.
        return;
    }
    if let Some(address) = attachment.ipv4_address {
        match parts.subnet {
            None => {
                report
                    .at(
                        marks.ipv4,
                        format!("a fixed address needs a subnet, and network `{name}` has none"),
                    )
                    .hint(format!(
                        "write `networks: {{ {name}: {{ subnet: 10.20.0.0/24 }} }}` at the top level"
                    ));
            }
            Some(subnet) if !usable(subnet, address) => {
                report
                    .at(
                        marks.ipv4,
                        format!("`{address}` is no usable address of network `{name}`"),
                    )
                    .related(network.subnet, "its subnet");
            }
            Some(subnet) => {
                let gateway = parts
                    .gateway
                    .unwrap_or_else(|| u32::from(subnet.network()).saturating_add(1).into());
                let whose = match parts.driver {
                    Driver::Bridge => "bridge",
                    Driver::Macvlan { .. } | Driver::Ipvlan { .. } => "router",
                };
                // Where the router of a LAN isn't written down, it need not be the first.
                let is_known = parts.driver == Driver::Bridge || parts.gateway.is_some();
                if address == gateway && is_known {
                    report.at(
                        marks.ipv4,
                        format!("`{address}` is the {whose}'s address on network `{name}`"),
                    );
                }
            }
        }
    }
    if let Some(address) = attachment.ipv6_address {
        match parts.subnet6 {
            None => {
                report
                    .at(marks.ipv6, format!("a fixed address needs a subnet, and network `{name}` has none for IPv6"))
                    .hint(format!("write `networks: {{ {name}: {{ subnet: [10.20.0.0/24, fd00:20::/64] }} }}` at the top level"));
            }
            Some(subnet) if !subnet.contains(address) || address == subnet.network() => {
                report
                    .at(
                        marks.ipv6,
                        format!("`{address}` is no usable address of network `{name}`"),
                    )
                    .related(network.subnet6, "its subnet");
            }
            Some(subnet) => {
                if u128::from(address) == u128::from(subnet.network()) + 1 {
                    report.at(
                        marks.ipv6,
                        format!("`{address}` is the bridge's address on network `{name}`"),
                    );
                }
            }
        }
    }
}

/// Sorted by their first address, a subnet can only overlap the one that reaches farthest before it.
fn overlaps(draft: &Draft, report: &mut Report) {
    let mut v4 = Vec::new();
    let mut v6 = Vec::new();
    for (name, network) in &draft.networks {
        if let Some(subnet) = network.network.subnet {
            let (first, last) = (u32::from(subnet.network()), u32::from(subnet.broadcast()));
            v4.push((
                u128::from(first),
                u128::from(last),
                name,
                network.subnet,
                subnet.to_string(),
            ));
        }
        if let Some(subnet) = network.network.subnet6 {
            let (first, last) = (u128::from(subnet.network()), u128::from(subnet.broadcast()));
            v6.push((first, last, name, network.subnet6, subnet.to_string()));
        }
    }
    for mut family in [v4, v6] {
        family.sort();
        let mut farthest: Option<&(u128, u128, &NetworkName, Span, String)> = None;
        for subnet in &family {
            if let Some(other) = farthest
                && subnet.0 <= other.1
            {
                report
                    .at(
                        subnet.3,
                        format!(
                            "subnet `{}` overlaps `{}` of network `{}`",
                            subnet.4, other.4, other.2
                        ),
                    )
                    .related(other.3, "the other subnet");
            }
            if farthest.is_none_or(|other| subnet.1 > other.1) {
                farthest = Some(subnet);
            }
        }
    }
}

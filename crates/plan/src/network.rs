//! Which bridges there must be, with which subnets.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use linkspan_site::{NetworkName, ProjectName, Site};

use crate::template::{gateway6, resolver6};
use crate::{
    ContainerId, GoneNetwork, LINK_PREFIX, NetworkId, NetworkLease, NetworkSpec, NetworkV6, Observation,
    Plan, Subnet, World,
};

/// Bridges by project and network name in its file. A network that could not be had is missing.
pub(crate) type Bridges = BTreeMap<ProjectName, BTreeMap<NetworkName, String>>;

/// Promises every network that sites use, and plans to make those that are missing or damaged.
pub(crate) fn wanted(world: &World<'_>, plan: &mut Plan) -> Bridges {
    let mut bridges = Bridges::new();
    for (project, site) in &world.desired.projects {
        for name in used(site) {
            let Some(network) = site.networks.get(name) else {
                continue;
            };
            let id = NetworkId(format!("{project}_{name}"));
            let fitting = plan
                .leases
                .networks
                .iter()
                .find(|(_, lease)| fits(lease, &id, network, world));
            let bridge = match fitting {
                Some((bridge, _)) => bridge.clone(),
                None => match plan
                    .leases
                    .new_network(&id, network, world.observed, world.settings)
                {
                    Ok(bridge) => bridge,
                    Err(error) => {
                        plan.fail(project, format!("network {name}"), error.to_string());
                        continue;
                    }
                },
            };
            bridges
                .entry(project.clone())
                .or_default()
                .insert(name.clone(), bridge);
        }
    }
    bridges
}

/// Plans the networks that are needed (wanted, or still in use by an old incarnation), and lets go of the others.
pub(crate) fn unwanted(world: &World<'_>, bridges: &Bridges, plan: &mut Plan) {
    let wanted: BTreeSet<&String> = bridges.values().flat_map(BTreeMap::values).collect();
    let in_use: BTreeSet<String> = world
        .observed
        .containers
        .values()
        .flat_map(|seen| &seen.record.spec.attachments)
        .chain(plan.records.iter().flat_map(|record| &record.spec.attachments))
        .map(|attachment| attachment.bridge.clone())
        .collect();
    let leases = plan.leases.networks.clone();
    for (bridge, lease) in &leases {
        if !wanted.contains(bridge) && !in_use.contains(bridge) {
            plan.leases.release_network(bridge);
            plan.gone_networks.push(GoneNetwork {
                bridge: bridge.clone(),
                leg: leg(bridge),
            });
            continue;
        }
        let whole = world.observed.bridges.contains(bridge);
        if !whole {
            plan.networks
                .push(network_spec(bridge, lease, &world.observed.containers));
        }
        plan.firewall.bridges.insert(bridge.clone());
        if !lease.internal {
            plan.firewall.outward.insert(bridge.clone());
            plan.firewall.masquerade4.insert(lease.v4);
            plan.firewall.masquerade6.extend(lease.v6);
        }
    }
    // Bridges of ours that no lease knows: left behind by a crash between making and storing, or by an older store.
    for bridge in world.observed.bridges.iter().chain(&world.observed.damaged) {
        if !leases.contains_key(bridge) {
            plan.gone_networks.push(GoneNetwork {
                bridge: bridge.clone(),
                leg: leg(bridge),
            });
        }
    }
}

/// Networks that a container is on, with or without replicas.
fn used(site: &Site) -> BTreeSet<&NetworkName> {
    site.containers
        .values()
        .flat_map(|container| container.networks.keys())
        .collect()
}

/// Does a promise still say what the file says? Else the network is made anew beside the old one.
fn fits(lease: &NetworkLease, id: &NetworkId, network: &linkspan_site::Network, world: &World<'_>) -> bool {
    let v4 = match network.subnet {
        Some(subnet) => lease.v4 == subnet,
        None => !lease.fixed,
    };
    let wants_v6 = network.ipv6.unwrap_or(true) && world.observed.ipv6;
    let v6 = match network.subnet6 {
        Some(subnet) if wants_v6 => lease.v6 == Some(subnet),
        _ => lease.v6.is_some() == (wants_v6 && world.settings.prefix6.is_some()),
    };
    let gateway = network.gateway.is_none_or(|gateway| gateway == lease.gateway);
    lease.id == *id && lease.internal == network.internal && v4 && v6 && gateway
}

/// The resolver leg that belongs to a bridge.
pub(crate) fn leg(bridge: &str) -> String {
    let digits = bridge
        .strip_prefix(LINK_PREFIX)
        .and_then(|rest| rest.strip_prefix('b'))
        .unwrap_or(bridge);
    format!("{LINK_PREFIX}r{digits}")
}

/// What the kernel must have for a promised network, and for those who still answer where it was before.
pub fn network_spec(
    bridge: &str,
    lease: &NetworkLease,
    containers: &BTreeMap<ContainerId, Observation>,
) -> NetworkSpec {
    NetworkSpec {
        id: lease.id.clone(),
        bridge: bridge.to_owned(),
        leg: leg(bridge),
        v4: lease.v4,
        gateway: lease.gateway,
        resolver: lease.resolver,
        v6: lease.v6.map(|subnet| NetworkV6 {
            subnet,
            gateway: gateway6(subnet),
            resolver: resolver6(subnet),
        }),
        internal: lease.internal,
        mtu: lease.mtu,
        driver: lease.driver.clone(),
        retiring: lease
            .retiring
            .iter()
            .map(|left| Subnet {
                gateway: left.gateway,
                resolver: left.resolver,
                members: members(bridge, left.range, containers),
            })
            .collect(),
    }
}

/// Who has an address in a range on a bridge.
fn members(bridge: &str, range: IpNetwork, containers: &BTreeMap<ContainerId, Observation>) -> Vec<IpAddr> {
    let links = containers.values().flat_map(|seen| &seen.record.spec.attachments);
    let held = links.filter(|link| link.bridge == bridge).flat_map(|link| {
        let current = [
            Some(IpAddr::V4(link.v4.ip())),
            link.v6.map(|v6| IpAddr::V6(v6.ip())),
        ];
        let former = link.retiring.iter().map(IpNetwork::ip);
        current.into_iter().flatten().chain(former)
    });
    let held: BTreeSet<IpAddr> = held.filter(|ip| range.contains(*ip)).collect();
    held.into_iter().collect()
}

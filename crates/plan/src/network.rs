//! Which bridges there must be, with which subnets.

mod clearance;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ipnetwork::IpNetwork;
use linkspan_site::{Attachment, Driver, MacAddress, Network, NetworkName, ProjectName, Site};

use crate::lease::LeaseError;
use crate::template::{gateway6, resolver6};
use crate::{
    ContainerId, Desired, Firewall, GoneNetwork, LINK_PREFIX, Leases, NetworkId, NetworkLease, NetworkSpec,
    NetworkV6, Observation, Plan, Subnet, World,
};

/// The networks of a plan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Networks {
    /// Bridges by project and network name in its file. A network that could not be had is missing.
    of_projects: BTreeMap<ProjectName, BTreeMap<NetworkName, String>>,
    /// Bridges by network: where one was renumbered, the new one.
    current: BTreeMap<NetworkId, String>,
    /// By bridge, what somebody wrote down for a container, or others on the LAN have: nobody else gets it.
    written: BTreeMap<String, Written>,
    /// Of that, by bridge, the addresses that others on the LAN have.
    held: BTreeMap<String, BTreeSet<Ipv4Addr>>,
}

/// Addresses that somebody wrote down.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) v4: BTreeSet<Ipv4Addr>,
    pub(crate) macs: BTreeSet<MacAddress>,
}

impl Networks {
    /// The bridge of a network in a project's file.
    pub(crate) fn of_project(&self, project: &ProjectName, name: &NetworkName) -> Option<&String> {
        self.of_projects.get(project)?.get(name)
    }

    /// The bridge that a network has now.
    pub(crate) fn current(&self, id: &NetworkId) -> Option<&String> {
        self.current.get(id)
    }

    /// Where each network is now.
    pub(crate) fn into_current(self) -> BTreeMap<NetworkId, String> {
        self.current
    }

    /// Addresses on a bridge that are given out only to whom they were written down for.
    pub(crate) fn written(&self, bridge: &str) -> Option<&Written> {
        self.written.get(bridge)
    }

    /// Does somebody else on the LAN of a network have this address?
    pub(crate) fn is_held(&self, bridge: &str, ip: Ipv4Addr) -> bool {
        self.held.get(bridge).is_some_and(|held| held.contains(&ip))
    }
}

/// The network that a name in a project's file stands for.
pub fn network_id(project: &ProjectName, name: &NetworkName, network: &Network) -> NetworkId {
    match &network.external {
        Some(external) => NetworkId(external.to_string()),
        None => NetworkId(format!("{project}_{name}")),
    }
}

/// Promises every network that people made or that sites use, and keeps those that are clear of what others use.
pub(crate) fn wanted(world: &World<'_>, plan: &mut Plan) -> Networks {
    let mut networks = Networks::default();
    let mut lost = BTreeMap::new();
    let promised = Promised::of(world.leases);
    for (name, network) in &world.desired.networks {
        let id = NetworkId(name.to_string());
        match promise(world, &promised, plan, &id, network) {
            Ok(bridge) => drop(networks.current.insert(id, bridge)),
            Err(error) => drop(lost.insert(id, error.to_string())),
        }
    }
    for (project, site) in &world.desired.projects {
        for name in used(site) {
            let Some(network) = site.networks.get(name) else {
                continue;
            };
            let id = network_id(project, name, network);
            let bridge = match &network.external {
                Some(external) => networks.current.get(&id).cloned().ok_or_else(|| {
                    lost.get(&id).cloned().unwrap_or_else(|| {
                        format!("network `{external}` doesn't exist; `linkspan network create {external}` makes it")
                    })
                }),
                None => promise(world, &promised, plan, &id, network).map_err(|error| error.to_string()),
            };
            match bridge {
                Ok(bridge) => {
                    networks.current.insert(id, bridge.clone());
                    let of_project = networks.of_projects.entry(project.clone()).or_default();
                    of_project.insert(name.clone(), bridge);
                }
                Err(why) => plan.fail(project, format!("network {name}"), why),
            }
        }
    }
    networks.held = held(world, &plan.leases);
    networks.written = written(world, &networks);
    networks
}

/// The bridges that were promised to each network: two of one that is made anew.
struct Promised<'a>(BTreeMap<&'a NetworkId, Vec<(&'a String, &'a NetworkLease)>>);

impl<'a> Promised<'a> {
    fn of(leases: &'a Leases) -> Self {
        let mut by_id: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (bridge, lease) in &leases.networks {
            by_id.entry(&lease.id).or_default().push((bridge, lease));
        }
        Self(by_id)
    }
}

/// The bridge of a network, promised before or now.
fn promise(
    world: &World<'_>,
    promised: &Promised<'_>,
    plan: &mut Plan,
    id: &NetworkId,
    network: &Network,
) -> Result<String, LeaseError> {
    let mut promised = promised.0.get(id).into_iter().flatten();
    let fitting = promised.find(|(_, lease)| fits(lease, id, network, world));
    let bridge = match fitting {
        Some((bridge, _)) => (*bridge).clone(),
        None => plan
            .leases_mut()
            .new_network(id, network, world.observed, world.settings)?,
    };
    // These may change under those who are on it.
    let is_as_wished = |lease: &NetworkLease| {
        lease.isolated == network.isolated
            && lease.mtu_written == network.mtu.is_some()
            && network.mtu.is_none_or(|mtu| mtu == lease.mtu)
            && (lease.driver == Driver::Bridge || lease.resolver == lease.gateway)
    };
    if !plan.leases.networks.get(&bridge).is_some_and(is_as_wished)
        && let Some(lease) = plan.leases_mut().networks.get_mut(&bridge)
    {
        lease.isolated = network.isolated;
        match network.mtu {
            Some(mtu) => lease.mtu = mtu,
            None if lease.mtu_written => lease.mtu = world.observed.mtu,
            // It doesn't follow the way out, which may change with every VPN.
            None => {}
        }
        lease.mtu_written = network.mtu.is_some();
        if lease.driver != Driver::Bridge {
            // Promised by an earlier release, one of these was kept free for a resolver that isn't there.
            lease.resolver = lease.gateway;
        }
    }
    clearance::keep_clear(world, plan, &bridge, network);
    Ok(bridge)
}

/// Addresses that others have, by the bridge name of the network that is on their LAN.
fn held(world: &World<'_>, leases: &Leases) -> BTreeMap<String, BTreeSet<Ipv4Addr>> {
    let lans = leases.networks.iter().filter_map(|(bridge, lease)| {
        let lan = world.observed.lans.get(lease.driver.parent()?)?;
        let held = lan.held.keys().filter_map(|ip| match ip {
            IpAddr::V4(ip) => lease.v4.contains(*ip).then_some(*ip),
            IpAddr::V6(_) => None,
        });
        Some((bridge.clone(), held.collect()))
    });
    lans.collect()
}

fn written(world: &World<'_>, networks: &Networks) -> BTreeMap<String, Written> {
    let mut written: BTreeMap<String, Written> = BTreeMap::new();
    for (bridge, held) in &networks.held {
        written.entry(bridge.clone()).or_default().v4.extend(held);
    }
    let mut note = |bridge: Option<&String>, wish: &Attachment| {
        let says = wish.ipv4_address.is_some() || wish.mac_address.is_some();
        if let Some(bridge) = bridge.filter(|_| says) {
            let written = written.entry(bridge.clone()).or_default();
            written.v4.extend(wish.ipv4_address);
            written.macs.extend(wish.mac_address);
        }
    };
    for (project, site) in &world.desired.projects {
        for (name, wish) in site.containers.values().flat_map(|one| &one.networks) {
            note(networks.of_project(project, name), wish);
        }
    }
    for (id, wish) in world.desired.connections.values().flatten() {
        if let Some(wish) = wish {
            note(networks.current(id), wish);
        }
    }
    written
}

/// Plans the networks that are needed (wanted, or still in use by an old incarnation), and lets go of the others.
pub(crate) fn unwanted(world: &World<'_>, networks: &Networks, plan: &mut Plan) {
    let wanted: BTreeSet<&String> = networks.current.values().collect();
    let known = world.observed.containers.values();
    let noted = plan.records.iter().flat_map(|record| &record.spec.attachments);
    let in_use: BTreeSet<String> = known
        .flat_map(|seen| &seen.record.spec.attachments)
        .chain(noted)
        .map(|attachment| &attachment.bridge)
        // Nearly all are, and need no second look.
        .filter(|bridge| !wanted.contains(bridge))
        .cloned()
        .collect();
    let promised = Arc::clone(&plan.leases);
    plan.parameters = parameters(world, &promised);
    for (bridge, lease) in &promised.networks {
        let is_bridge = lease.driver == Driver::Bridge;
        if !wanted.contains(bridge) && !in_use.contains(bridge) {
            plan.leases_mut().release_network(bridge);
            if is_bridge {
                plan.gone_networks.push(GoneNetwork {
                    id: Some(lease.id.clone()),
                    bridge: bridge.clone(),
                    leg: leg(bridge),
                });
            }
            continue;
        }
        // A link on top of one of the host's belongs to its container; there is nothing to make or to guard here.
        if !is_bridge {
            continue;
        }
        guard(world, &mut plan.firewall, bridge, lease);
        let is_there = world.observed.bridges.contains(bridge);
        let before = world.leases.networks.get(bridge);
        if is_there && before == Some(lease) {
            continue;
        }
        let spec = network_spec(bridge, lease, &world.observed.containers);
        let before = before.map(|lease| network_spec(bridge, lease, &world.observed.containers));
        if !is_there || before.as_ref() != Some(&spec) {
            plan.networks.push(spec);
        }
    }
    // Bridges of ours that no lease knows: left behind by a crash between making and storing, or by an older store.
    for bridge in world.observed.bridges.iter().chain(&world.observed.damaged) {
        if !promised.networks.contains_key(bridge) {
            plan.gone_networks.push(GoneNetwork {
                id: None,
                bridge: bridge.clone(),
                leg: leg(bridge),
            });
        }
    }
}

/// Kernel parameters of the whole host's that its networks need, and that are off.
fn parameters(world: &World<'_>, leases: &Leases) -> BTreeSet<String> {
    let off = &world.observed.turned_off;
    if off.is_empty() {
        return BTreeSet::new();
    }
    let mut bridged = leases
        .networks
        .values()
        .filter(|lease| lease.driver == Driver::Bridge);
    let speaks6 = bridged.clone().any(|lease| lease.v6.is_some());
    let needed = off
        .iter()
        .filter(|name| speaks6 || !name.starts_with("net.ipv6."));
    match bridged.next() {
        Some(_) => needed.cloned().collect(),
        None => BTreeSet::new(),
    }
}

/// What the kernel's table must know of a network.
fn guard(world: &World<'_>, firewall: &mut Firewall, bridge: &str, lease: &NetworkLease) {
    firewall.bridges.insert(bridge.to_owned());
    if lease.isolated {
        firewall.isolated.insert(bridge.to_owned());
    }
    if lease.internal {
        return;
    }
    firewall.outward.insert(bridge.to_owned());
    firewall.masquerade4.insert(lease.v4);
    firewall.masquerade6.extend(lease.v6);
    // Who still answers at a former address is hidden there too.
    let left = lease.retiring.iter();
    for member in left.flat_map(|left| members(bridge, left.range, &world.observed.containers)) {
        match member {
            IpAddr::V4(ip) => drop(firewall.masquerade4.insert(ip.into())),
            IpAddr::V6(ip) => drop(firewall.masquerade6.insert(ip.into())),
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

/// A network as somebody wrote it: by hand, or in the file of a site.
pub(crate) fn declared<'a>(desired: &'a Desired, id: &NetworkId) -> Option<&'a Network> {
    let mut by_hand = desired.networks.iter();
    if let Some((_, network)) = by_hand.find(|(name, _)| name.as_str() == id.0) {
        return Some(network);
    }
    desired.projects.iter().find_map(|(project, site)| {
        let mut own = site
            .networks
            .iter()
            .filter(|(_, network)| network.external.is_none());
        let (_, network) = own.find(|(name, network)| network_id(project, name, network) == *id)?;
        Some(network)
    })
}

impl Leases {
    /// The bridge of a network: the one that was promised for what is wanted now, or a new one.
    pub(crate) fn promise(
        &mut self,
        id: &NetworkId,
        network: &Network,
        world: &World<'_>,
    ) -> Result<String, LeaseError> {
        let mut promised = self.networks.iter();
        match promised.find(|(_, lease)| fits(lease, id, network, world)) {
            Some((bridge, _)) => Ok(bridge.clone()),
            None => self.new_network(id, network, world.observed, world.settings),
        }
    }
}

impl NetworkLease {
    /// All addresses at which the resolver's leg answers on it.
    pub fn resolvers(&self) -> impl Iterator<Item = IpAddr> {
        let v6 = self.v6.map(|subnet| IpAddr::V6(resolver6(subnet)));
        let left = self.retiring.iter().map(|left| left.resolver);
        std::iter::once(IpAddr::V4(self.resolver)).chain(v6).chain(left)
    }
}

/// Does a promise still say what the file says? Else the network is made anew beside the old one.
fn fits(lease: &NetworkLease, id: &NetworkId, network: &Network, world: &World<'_>) -> bool {
    let v4 = match network.subnet {
        Some(subnet) => lease.v4 == subnet,
        None => !lease.fixed,
    };
    let is_bridge = network.driver == Driver::Bridge;
    let wants_v6 = network.ipv6.unwrap_or(true) && world.observed.ipv6;
    let v6 = match network.subnet6 {
        Some(subnet) if wants_v6 => lease.v6 == Some(subnet),
        _ => lease.v6.is_some() == (wants_v6 && is_bridge && world.settings.prefix6.is_some()),
    };
    let gateway = network.gateway.is_none_or(|gateway| gateway == lease.gateway);
    let kind = lease.internal == network.internal && lease.driver == network.driver;
    lease.id == *id && kind && v4 && v6 && gateway
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
    containers: &BTreeMap<ContainerId, Arc<Observation>>,
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
fn members(
    bridge: &str,
    range: IpNetwork,
    containers: &BTreeMap<ContainerId, Arc<Observation>>,
) -> Vec<IpAddr> {
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

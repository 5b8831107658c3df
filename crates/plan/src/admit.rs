//! May this site be brought up beside the others? Asked before anything is stored.

mod member;

use std::collections::BTreeMap;
use std::sync::Arc;

use linkspan_site::{ContainerName, HostPattern, Network, NetworkName, ProjectName, Site};

use crate::network::network_id;
use crate::{Desired, LeaseError, Leases, NetworkId, Slot, World};

use member::{Ground, members};
pub use member::{MemberError, admit_connection};

/// Networks on a host: as many as the first of the default pools has blocks. Each is a bridge, and a link in the one
/// namespace of the resolver, and all of them are looked at whenever one changes.
const MOST_NETWORKS: usize = 4_096;

/// Why a site can't be brought up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Two projects claim a hostname and path.
    #[error(
        "route `{route}` is held by project `{holder}`; take it down there first, or choose another hostname"
    )]
    RouteTaken {
        /// Host and path.
        route: String,
        /// Who has it.
        holder: ProjectName,
    },
    /// Two projects publish on the same host port.
    #[error(
        "container `{container}` publishes {port}, which project `{holder}` holds; choose another host port"
    )]
    PortTaken {
        /// Whose port.
        container: String,
        /// Address and port.
        port: String,
        /// Who has it.
        holder: ProjectName,
    },
    /// An image isn't in the store.
    #[error(
        "image `{image}` of container `{container}` isn't in the store; load it with `linkspan load -i ARCHIVE`"
    )]
    NoImage {
        /// Whose image.
        container: String,
        /// As written.
        image: String,
    },
    /// A network can't be had as it is written.
    #[error(transparent)]
    Network(#[from] LeaseError),
    /// There would be too many.
    #[error(
        "there would be {wanted} networks on this host, and there may be {MOST_NETWORKS}; remove some first"
    )]
    TooManyNetworks {
        /// How many.
        wanted: usize,
    },
    /// Its members can't all be on it.
    #[error(transparent)]
    Member(#[from] MemberError),
    /// A container can't be on a network as it is written.
    #[error("container `{container}`: {why}")]
    Container {
        /// Which.
        container: ContainerName,
        /// Why not.
        why: Box<MemberError>,
    },
    /// A network that is to be there already isn't.
    #[error(
        "network `{network}` is `external`, and there is no `{external}`; `linkspan network create {external}` makes it"
    )]
    NoNetwork {
        /// As the file calls it.
        network: String,
        /// As it is called on this host.
        external: String,
    },
    /// A network of this name was made by hand.
    #[error(
        "network `{network}` was made by hand; remove that with `linkspan network rm {network}`, or join it with `external: true`"
    )]
    NetworkByHand {
        /// As it is called on this host.
        network: NetworkId,
    },
    /// A network is there already.
    #[error("network `{network}` exists already")]
    NetworkExists {
        /// Which.
        network: NetworkId,
    },
    /// A site has a network that is called so on this host.
    #[error("network `{network}` belongs to site `{holder}`; choose another name")]
    NetworkTaken {
        /// As it is called on this host.
        network: NetworkId,
        /// Whose it is.
        holder: ProjectName,
    },
}

/// Everything that speaks against this site, all at once.
pub fn admit(site: &Site, world: &World<'_>) -> Vec<Refusal> {
    let others = || {
        world
            .desired
            .projects
            .iter()
            .filter(|(name, _)| **name != site.name)
    };
    let mut refusals = Vec::new();

    let mut held: BTreeMap<(&HostPattern, &str), &ProjectName> = BTreeMap::new();
    for (name, other) in others() {
        held.extend(
            other
                .routes
                .iter()
                .map(|route| ((&route.host, route.path.as_str()), name)),
        );
    }
    // One hostname, one owner: another project may not even add a path below it.
    let hosts: BTreeMap<&HostPattern, &ProjectName> =
        held.iter().map(|((host, _), name)| (*host, *name)).collect();
    for route in &site.routes {
        if let Some(holder) = hosts.get(&route.host) {
            let path = if route.path == "/" { "" } else { &route.path };
            let refusal = Refusal::RouteTaken {
                route: format!("{}{path}", host_text(&route.host)),
                holder: (*holder).clone(),
            };
            if !refusals.contains(&refusal) {
                refusals.push(refusal);
            }
        }
    }

    for (name, container) in &site.containers {
        if !world.observed.images.contains_key(&container.image) {
            refusals.push(Refusal::NoImage {
                container: name.to_string(),
                image: container.image.clone(),
            });
        }
        for port in container.ports.iter().filter(|port| port.host_port != 0) {
            let holder = others().find(|(_, other)| {
                other
                    .containers
                    .values()
                    .flat_map(|other| &other.ports)
                    .any(|held| {
                        held.host_port <= port.last_host_port()
                            && port.host_port <= held.last_host_port()
                            && held.protocol == port.protocol
                            && (held.host_ip == port.host_ip
                                || held.host_ip.is_unspecified()
                                || port.host_ip.is_unspecified())
                    })
            });
            if let Some((holder, _)) = holder {
                refusals.push(Refusal::PortTaken {
                    container: name.to_string(),
                    port: std::net::SocketAddr::new(port.host_ip, port.host_port).to_string(),
                    holder: holder.clone(),
                });
            }
        }
    }
    refusals.extend(networks(site, world));
    refusals
}

/// May a network be made by hand?
pub fn admit_network(name: &NetworkName, network: &Network, world: &World<'_>) -> Result<(), Refusal> {
    let id = NetworkId(name.to_string());
    if world.desired.networks.contains_key(name) {
        return Err(Refusal::NetworkExists { network: id });
    }
    if let Some(holder) = holder(&id, world) {
        return Err(Refusal::NetworkTaken { network: id, holder });
    }
    let mut desired = world.desired.clone();
    desired.networks.insert(name.clone(), network.clone());
    not_too_many(&desired)?;
    let mut leases = Leases::clone(world.leases);
    leases.new_network(&id, network, world.observed, world.settings)?;
    Ok(())
}

fn not_too_many(desired: &Desired) -> Result<(), Refusal> {
    let of_sites: usize = desired
        .projects
        .values()
        .map(|site| own_networks(site).count())
        .sum();
    match of_sites + desired.networks.len() {
        wanted if wanted > MOST_NETWORKS => Err(Refusal::TooManyNetworks { wanted }),
        _ => Ok(()),
    }
}

/// The project whose file has a network that is called so on this host.
fn holder(id: &NetworkId, world: &World<'_>) -> Option<ProjectName> {
    let mut projects = world.desired.projects.values();
    let has = |site: &&Arc<Site>| own_networks(site).any(|(_, _, other)| other == *id);
    projects.find(has).map(|site| site.name.clone())
}

/// Networks of a site's own, with what they are called on this host.
fn own_networks(site: &Site) -> impl Iterator<Item = (&NetworkName, &Network, NetworkId)> {
    let own = site
        .networks
        .iter()
        .filter(|(_, network)| network.external.is_none());
    own.map(|(name, network)| (name, network, network_id(&site.name, name, network)))
}

/// Subnets and addresses are tried out, so that a site that can't have them is refused as a whole.
fn networks(site: &Site, world: &World<'_>) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    let mut leases = Leases::clone(world.leases);
    let mut desired = world.desired.clone();
    // What was done to it by hand is forgotten.
    desired.connections.retain(|slot, _| slot.project != site.name);
    desired.projects.insert(site.name.clone(), site.clone().into());
    refusals.extend(not_too_many(&desired).err());
    for (name, network) in &site.networks {
        let id = network_id(&site.name, name, network);
        let by_hand = world.desired.networks.iter();
        let by_hand = by_hand
            .map(|(name, network)| (name.as_str(), network))
            .find(|(name, _)| *name == id.0);
        let network = match (&network.external, by_hand) {
            (None, None) => network,
            (Some(_), Some((_, network))) => network,
            (None, Some(_)) => {
                refusals.push(Refusal::NetworkByHand { network: id });
                continue;
            }
            (Some(external), None) => {
                refusals.push(Refusal::NoNetwork {
                    network: name.to_string(),
                    external: external.to_string(),
                });
                continue;
            }
        };
        let members = members(&desired, &id);
        if members.is_empty() {
            continue;
        }
        let bridge = match leases.promise(&id, network, world) {
            Ok(bridge) => bridge,
            Err(error) => {
                refusals.push(Refusal::Network(error));
                continue;
            }
        };
        let Some(lease) = leases.networks.get(&bridge) else {
            continue;
        };
        let ground = Ground {
            id: &id,
            bridge: &bridge,
            lease,
            members: &members,
            by_hand: false,
        };
        refusals.extend(ground.holds_all(world).err().map(Refusal::Member));
        refusals.extend(unsuited(site, name, &ground, world));
    }
    refusals
}

/// Containers of a site that can't be on a network as they wish to.
fn unsuited(site: &Site, network: &NetworkName, ground: &Ground<'_>, world: &World<'_>) -> Vec<Refusal> {
    let wishes = site
        .containers
        .iter()
        .filter_map(|(name, container)| Some((name, container, container.networks.get(network)?)));
    let refusals = wishes.filter_map(|(name, container, wish)| {
        let slots: Vec<Slot> = (1..=container.replicas)
            .map(|index| Slot {
                project: site.name.clone(),
                container: name.clone(),
                index,
            })
            .collect();
        let why = Box::new(ground.suits(&slots, wish, world).err()?);
        let container = name.clone();
        Some(Refusal::Container { container, why })
    });
    refusals.collect()
}

/// A host pattern as people write it.
pub(crate) fn host_text(host: &HostPattern) -> String {
    match host {
        HostPattern::Exact(name) => name.clone(),
        HostPattern::Wildcard(name) => format!("*.{name}"),
        HostPattern::Default => "*".to_owned(),
    }
}

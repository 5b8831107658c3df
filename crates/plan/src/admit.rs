//! May this site be brought up beside the others? Asked before anything is stored.

use std::collections::BTreeMap;

use ipnetwork::IpNetwork;
use linkspan_site::{HostPattern, ProjectName, Site};

use crate::{Claim, LeaseError, NetworkId, World, conflict};

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
    /// A subnet is somebody else's.
    #[error(transparent)]
    Subnet(#[from] LeaseError),
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
    refusals.extend(subnets(site, world).into_iter().map(Refusal::Subnet));
    refusals
}

fn subnets(site: &Site, world: &World<'_>) -> Vec<LeaseError> {
    let mut errors = Vec::new();
    for (name, network) in &site.networks {
        let id = NetworkId(format!("{}_{name}", site.name));
        let wanted = network
            .subnet
            .map(IpNetwork::V4)
            .into_iter()
            .chain(network.subnet6.map(IpNetwork::V6));
        for subnet in wanted {
            let ours = |lease: &crate::NetworkLease| {
                lease.id == id
                    && (IpNetwork::V4(lease.v4) == subnet || lease.v6.map(IpNetwork::V6) == Some(subnet))
            };
            if world.leases.networks.values().any(ours) {
                continue;
            }
            if let Some(Claim { range, source }) =
                conflict(subnet, &id, world.leases, &world.observed.claims, world.settings)
            {
                errors.push(LeaseError::Overlap {
                    network: id.clone(),
                    subnet,
                    range,
                    source_of: source,
                });
            }
        }
    }
    errors
}

/// A host pattern as people write it.
pub(crate) fn host_text(host: &HostPattern) -> String {
    match host {
        HostPattern::Exact(name) => name.clone(),
        HostPattern::Wildcard(name) => format!("*.{name}"),
        HostPattern::Default => "*".to_owned(),
    }
}

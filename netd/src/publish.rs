//! From a plan to the snapshot that the proxy gets.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;
use linkspan_api::feed;
use linkspan_dns::{Asker, Location, Zone, ZoneNetwork};
use linkspan_plan::{Desired, HostPort, Leases, Published};
use linkspan_site::{Action, Driver, HostPattern, Protocol, Target};

use crate::certs::{Authority, CertError};
use crate::reconcile::SnapshotOf;
use crate::settings::Settings;

/// Builds the snapshot; the caller sets its generation.
pub(crate) fn snapshot(
    of: &SnapshotOf,
    settings: &Settings,
    authority: &mut Authority,
) -> Result<feed::Snapshot, CertError> {
    let SnapshotOf {
        published,
        desired,
        leases,
        listeners,
        name_servers,
    } = of;
    let hosts: BTreeSet<&HostPattern> = desired
        .projects
        .values()
        .flat_map(|site| &site.routes)
        .map(|route| &route.host)
        .collect();
    let certificates = hosts
        .into_iter()
        .map(|host| authority.leaf(host))
        .collect::<Result<_, _>>()?;
    Ok(feed::Snapshot {
        generation: 0,
        listeners: listeners.clone(),
        routes: routes(desired),
        forwards: published
            .forwards
            .iter()
            .filter_map(|(port, to)| forward(port, to))
            .collect(),
        services: published
            .services
            .iter()
            .map(|(id, service)| (id.clone(), self::service(service)))
            .collect(),
        certificates,
        zone: zone(published, leases),
        name_servers: name_servers.clone(),
        https_port: https_port(settings),
        limits: settings.limits,
    })
}

/// The port in URLs and redirects.
pub(crate) fn https_port(settings: &Settings) -> u16 {
    settings
        .https_port
        .or_else(|| settings.https.first().map(SocketAddr::port))
        .unwrap_or(443)
}

fn routes(desired: &Desired) -> Vec<feed::Route> {
    let of_site = |site: &Arc<linkspan_site::Site>| -> Vec<feed::Route> {
        site.routes
            .iter()
            .map(|route| feed::Route {
                project: site.name.to_string(),
                host: route.host.clone(),
                path: route.path.clone(),
                action: match &route.action {
                    Action::Redirect { to, status } => feed::Action::Redirect {
                        to: to.clone(),
                        status: *status,
                    },
                    Action::Forward(targets) => {
                        feed::Action::Forward(targets.iter().map(|to| target(&site.name, to)).collect())
                    }
                },
                allow: route.allow.clone(),
                middleware: route.middleware.clone(),
            })
            .collect()
    };
    desired.projects.values().flat_map(of_site).collect()
}

fn target(project: &linkspan_site::ProjectName, target: &Target) -> feed::Target {
    match target {
        Target::Container { name, port } => feed::Target::Service {
            id: linkspan_plan::service_id(project, name),
            port: *port,
        },
        Target::Url { tls, host, port } => feed::Target::Url {
            tls: *tls,
            host: host.clone(),
            port: *port,
        },
    }
}

fn forward(port: &HostPort, (service, inside): &(String, u16)) -> Option<feed::Forward> {
    Some(feed::Forward {
        kind: match port.protocol {
            Protocol::Tcp => feed::SocketKind::Tcp,
            Protocol::Udp => feed::SocketKind::Udp,
            // NAT only.
            Protocol::Sctp => return None,
        },
        address: port.address,
        service: service.clone(),
        endpoint: None,
        port: *inside,
    })
}

fn service(service: &linkspan_plan::Service) -> feed::Service {
    feed::Service {
        endpoints: service
            .endpoints
            .iter()
            .map(|endpoint| feed::Endpoint {
                id: endpoint.id.to_string(),
                generation: endpoint.run,
                addresses: endpoint.addresses.clone(),
            })
            .collect(),
        coming: service.coming,
        reason: service.reason.clone(),
    }
}

/// Whom each network's names stand for, and who may ask.
fn zone(published: &Published, leases: &Leases) -> Zone {
    let mut networks: BTreeMap<String, ZoneNetwork> = BTreeMap::new();
    for (bridge, known) in &published.networks {
        let mut network = ZoneNetwork {
            names: known.names.clone(),
            pointers: known.pointers.clone(),
            ..ZoneNetwork::default()
        };
        for location in &known.locations {
            let place = format!("_{}.{}", location.protocol.name(), location.name);
            network.locations.entry(place).or_default().push(Location {
                port: location.port,
                targets: location.targets.clone(),
            });
        }
        networks.insert(bridge.clone(), network);
    }
    // Also of a network without a name yet: what is asked about its addresses is nobody else's business.
    for (bridge, lease) in &leases.networks {
        // On other drivers the range is the LAN's, whose name server knows more than we do.
        if lease.driver != Driver::Bridge {
            continue;
        }
        let ranges = std::iter::once(IpNetwork::V4(lease.v4))
            .chain(lease.v6.map(IpNetwork::V6))
            .chain(lease.retiring.iter().map(|left| left.range));
        networks.entry(bridge.clone()).or_default().ranges = ranges.collect();
    }
    let mut askers = BTreeMap::new();
    for asker in &published.askers {
        let entry = Asker {
            networks: asker.bridges.clone(),
            forward: asker.forward,
            servers: asker.servers.clone(),
        };
        askers.extend(asker.addresses.iter().map(|ip| (*ip, entry.clone())));
    }
    Zone { networks, askers }
}

#[cfg(test)]
mod tests;

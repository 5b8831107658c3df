//! From a plan to the snapshot that the proxy gets.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use linkspan_api::feed;
use linkspan_dns::{Asker, Zone, ZoneNetwork};
use linkspan_plan::{Desired, HostPort, Published};
use linkspan_site::{Action, HostPattern, Protocol, Target};

use crate::certs::{Authority, CertError};
use crate::settings::Settings;

/// Builds the snapshot; the caller sets its generation.
pub(crate) fn snapshot(
    desired: &Desired,
    published: &Published,
    listeners: Vec<feed::SocketId>,
    name_servers: Vec<SocketAddr>,
    settings: &Settings,
    authority: &mut Authority,
) -> Result<feed::Snapshot, CertError> {
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
        listeners,
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
        zone: zone(published),
        name_servers,
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
    let of_site = |site: &linkspan_site::Site| -> Vec<feed::Route> {
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

fn zone(published: &Published) -> Zone {
    let mut networks: BTreeMap<String, ZoneNetwork> = BTreeMap::new();
    for name in &published.names {
        networks
            .entry(name.bridge.clone())
            .or_default()
            .names
            .insert(name.name.clone(), name.addresses.clone());
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

/// Name servers of the host, as `/etc/resolv.conf` has them (resolv.conf(5)).
pub(crate) fn host_name_servers(text: &str) -> Vec<SocketAddr> {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"))
        .filter_map(|rest| rest.trim().split('%').next()?.parse().ok())
        .map(|ip| SocketAddr::new(ip, 53))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_read_as_resolv_conf_writes_them() {
        let text = "# x\nsearch lan\nnameserver 192.0.2.1\nnameserver  fe80::1%eth0\noptions ndots:1\n";
        let servers: Vec<String> = host_name_servers(text).iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["192.0.2.1:53", "[fe80::1]:53"]);
    }
}

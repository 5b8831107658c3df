//! What the proxy must know: which endpoints serve, and who has which names.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use linkspan_site::{Container, ContainerName, ProjectName, Protocol, Site};
use serde::{Deserialize, Serialize};

use crate::lifecycle::Serving;
use crate::ports;
use crate::{ContainerId, HostPort, Plan, Slot, World, service_id};

/// What the proxy must know.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// By service id.
    pub services: BTreeMap<String, Service>,
    /// Ports on localhost, and the service and port behind each.
    pub forwards: BTreeMap<HostPort, (String, u16)>,
    /// Names of running containers.
    pub names: Vec<Name>,
    /// What the addresses of running containers are called (PTR).
    pub pointers: Vec<Pointer>,
    /// Where containers serve (SRV, RFC 2782).
    pub locations: Vec<Location>,
    /// Who may ask.
    pub askers: Vec<Asker>,
}

/// A container with all its replicas.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Those that serve.
    pub endpoints: Vec<Endpoint>,
    /// One will, before a held request gives up.
    pub coming: bool,
    /// Why none does.
    pub reason: Option<String>,
}

/// A replica that serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The incarnation.
    pub id: ContainerId,
    /// Its run.
    pub run: u64,
    /// Where.
    pub addresses: Vec<IpAddr>,
}

/// A name on a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Name {
    /// The bridge: who isn't on it neither sees the name nor reaches the address.
    pub bridge: String,
    /// Lower case.
    pub name: String,
    /// Of those that answer to it.
    pub addresses: Vec<IpAddr>,
}

/// The name behind an address on a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pointer {
    /// The bridge.
    pub bridge: String,
    /// Of a container.
    pub address: IpAddr,
    /// As shown, in lower case: `shop-web-1`.
    pub name: String,
}

/// A port that replicas of a container serve on a network.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Location {
    /// The bridge.
    pub bridge: String,
    /// What is asked for: a container's name, in lower case.
    pub name: String,
    /// Transport.
    pub protocol: Protocol,
    /// Inside the container.
    pub port: u16,
    /// Names of the replicas, in lower case.
    pub targets: Vec<String>,
}

/// A container that may ask for names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asker {
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// The bridges it is on.
    pub bridges: Vec<String>,
    /// May it ask for names that aren't containers'?
    pub forward: bool,
    /// Whom it wants asked instead of the host's name servers.
    pub servers: Vec<IpAddr>,
}

/// Fills in what the plan publishes, and the ports and NAT that go with it.
pub(crate) fn publish(world: &World<'_>, serving: &Serving, plan: &mut Plan) {
    let mut names: BTreeMap<(String, String), Vec<IpAddr>> = BTreeMap::new();
    for (project, site) in &world.desired.projects {
        for (name, container) in &site.containers {
            publish_service(world, serving, plan, project, name, container);
            ports::publish(world, serving, plan, project, name, container);
            for index in 1..=container.replicas {
                let slot = Slot {
                    project: project.clone(),
                    container: name.clone(),
                    index,
                };
                publish_names(world, serving, site, &slot, container, &mut names);
            }
        }
    }
    plan.published.names = names
        .into_iter()
        .map(|((bridge, name), addresses)| Name {
            bridge,
            name,
            addresses,
        })
        .collect();
    plan.published.askers = askers(world, plan);
}

fn publish_service(
    world: &World<'_>,
    serving: &Serving,
    plan: &mut Plan,
    project: &ProjectName,
    name: &ContainerName,
    container: &Container,
) {
    let mut service = Service::default();
    for index in 1..=container.replicas {
        let slot = Slot {
            project: project.clone(),
            container: name.clone(),
            index,
        };
        for id in serving.ready.get(&slot).into_iter().flatten() {
            let Some(seen) = world.observed.containers.get(id) else {
                continue;
            };
            let addresses = seen.record.spec.addresses.clone();
            service.endpoints.push(Endpoint {
                id: id.clone(),
                run: seen.record.runs,
                addresses,
            });
        }
        service.coming |= serving.coming.contains(&slot);
        service.reason = service
            .reason
            .take()
            .or_else(|| serving.reasons.get(&slot).cloned());
    }
    if container.replicas == 0 {
        service.reason = Some("scaled to 0".to_owned());
    }
    plan.published.services.insert(service_id(project, name), service);
}

fn publish_names(
    world: &World<'_>,
    serving: &Serving,
    site: &Site,
    slot: &Slot,
    container: &Container,
    names: &mut BTreeMap<(String, String), Vec<IpAddr>>,
) {
    let ids = serving.ready.get(slot).or_else(|| serving.running.get(slot));
    for seen in ids
        .into_iter()
        .flatten()
        .filter_map(|id| world.observed.containers.get(id))
    {
        for link in &seen.record.spec.attachments {
            let addresses =
                std::iter::once(IpAddr::V4(link.v4.ip())).chain(link.v6.map(|v6| IpAddr::V6(v6.ip())));
            let addresses: Vec<IpAddr> = addresses.collect();
            let aliases = container
                .networks
                .iter()
                .filter(|(name, _)| link.network.0 == format!("{}_{name}", site.name))
                .flat_map(|(_, wish)| wish.aliases.iter().cloned());
            let own = [
                slot.container.to_string(),
                slot.display_name(),
                format!("{}.{}", slot.container, slot.project),
                seen.record.spec.hostname.clone(),
                seen.record
                    .spec
                    .id
                    .as_str()
                    .get(..12)
                    .unwrap_or_default()
                    .to_owned(),
            ];
            let all: BTreeSet<String> = own
                .into_iter()
                .chain(aliases)
                .map(|name| name.to_ascii_lowercase())
                .collect();
            for name in all {
                let held = names.entry((link.bridge.clone(), name)).or_default();
                held.extend(
                    addresses
                        .iter()
                        .filter(|ip| !held.contains(ip))
                        .copied()
                        .collect::<Vec<_>>(),
                );
            }
        }
    }
}

/// Every incarnation may ask, also one that is just starting or stopping.
fn askers(world: &World<'_>, plan: &Plan) -> Vec<Asker> {
    let known = world.observed.containers.values().map(|seen| &seen.record);
    let new = plan
        .records
        .iter()
        .filter(|record| !world.observed.containers.contains_key(&record.spec.id));
    known
        .chain(new)
        .map(|record| {
            let declared = world
                .desired
                .projects
                .get(&record.slot.project)
                .and_then(|site| site.containers.get(&record.slot.container));
            let way_out = |bridge: &str| {
                plan.leases
                    .networks
                    .get(bridge)
                    .is_some_and(|network| !network.internal)
            };
            Asker {
                addresses: record.spec.addresses.clone(),
                bridges: record
                    .spec
                    .attachments
                    .iter()
                    .map(|link| link.bridge.clone())
                    .collect(),
                forward: record.spec.attachments.iter().any(|link| way_out(&link.bridge)),
                servers: declared
                    .map(|container| container.dns.clone())
                    .unwrap_or_default(),
            }
        })
        .collect()
}

//! What the proxy must know: which endpoints serve, and who has which names.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use linkspan_site::{Container, ContainerName, Port, ProjectName, Site};
use serde::{Deserialize, Serialize};

use crate::lease::mix;
use crate::lifecycle::Serving;
use crate::{Attachment, ContainerId, ContainerSpec, Dnat, HostPort, Leases, Plan, Slot, World, service_id};

/// First port that is tried for a port that asks for any: the range that RFC 6335 leaves to private use.
const ANY_PORT_FIRST: u16 = 49_152;
/// How many there are from there on.
const ANY_PORTS: u16 = u16::MAX - ANY_PORT_FIRST;

/// What the proxy must know.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// By service id.
    pub services: BTreeMap<String, Service>,
    /// Ports on localhost, and the service and port behind each.
    pub forwards: BTreeMap<HostPort, (String, u16)>,
    /// Names of running containers.
    pub names: Vec<Name>,
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
            publish_ports(world, serving, plan, project, name, container);
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

fn publish_ports(
    world: &World<'_>,
    serving: &Serving,
    plan: &mut Plan,
    project: &ProjectName,
    name: &ContainerName,
    container: &Container,
) {
    let service = service_id(project, name);
    for port in container.ports.iter().flat_map(Port::each) {
        let host_port = match port.host_port {
            0 => {
                let key = format!(
                    "{service}/{}:{}/{:?}",
                    port.host_ip, port.container_port, port.protocol
                );
                let Some(number) = any_port(world, &mut plan.leases, key, |number| HostPort {
                    protocol: port.protocol,
                    address: SocketAddr::new(port.host_ip, number),
                }) else {
                    plan.fail(
                        project,
                        name.to_string(),
                        "no free host port is left for it".to_owned(),
                    );
                    continue;
                };
                number
            }
            number => number,
        };
        let at = HostPort {
            protocol: port.protocol,
            address: SocketAddr::new(port.host_ip, host_port),
        };
        plan.ports.insert(at);
        if world.observed.foreign_ports.contains(&at) {
            plan.fail(
                project,
                name.to_string(),
                format!("{at} is held by another program"),
            );
            continue;
        }
        if at.is_forwarded() {
            plan.published
                .forwards
                .insert(at, (service.clone(), port.container_port));
        }
        if at.address.ip().is_loopback() {
            continue;
        }
        // NAT leads to the first replica that runs: the kernel's map has one target for a port.
        let target = (1..=container.replicas)
            .map(|index| Slot {
                project: project.clone(),
                container: name.clone(),
                index,
            })
            .find_map(|slot| {
                serving
                    .ready
                    .get(&slot)
                    .or_else(|| serving.running.get(&slot))?
                    .last()
                    .cloned()
            });
        let to_ip = target
            .and_then(|id| world.observed.containers.get(&id))
            .and_then(|seen| reachable(&seen.record.spec, port.host_ip.is_ipv4()));
        if let Some(to_ip) = to_ip {
            plan.firewall.dnat.insert(Dnat {
                protocol: port.protocol,
                host_ip: port.host_ip,
                host_port,
                to_ip,
                to_port: port.container_port,
                count: 1,
            });
        }
    }
}

/// The address on the network that has the default route: answers to anybody leave there.
fn reachable(spec: &ContainerSpec, v4: bool) -> Option<IpAddr> {
    let address = |link: &Attachment| -> Option<IpAddr> {
        if v4 {
            Some(link.v4.ip().into())
        } else {
            link.v6.map(|v6| v6.ip().into())
        }
    };
    let outward = spec.attachments.iter().find(|link| link.gateway4.is_some());
    outward.or(spec.attachments.first()).and_then(address)
}

fn any_port(
    world: &World<'_>,
    leases: &mut Leases,
    key: String,
    at: impl Fn(u16) -> HostPort,
) -> Option<u16> {
    if let Some(held) = leases.ports.get(&key)
        && !world.observed.foreign_ports.contains(&at(*held))
    {
        return Some(*held);
    }
    let written: BTreeSet<u16> = world
        .desired
        .projects
        .values()
        .flat_map(|site| site.containers.values())
        .flat_map(|container| container.ports.iter().flat_map(Port::each))
        .map(|port| port.host_port)
        .collect();
    let taken: BTreeSet<u16> = leases.ports.values().copied().collect();
    let start = key
        .bytes()
        .fold(world.settings.seed, |hash, byte| mix(hash ^ u64::from(byte)));
    let found = (0..ANY_PORTS)
        .map(|step| ANY_PORT_FIRST + ((start + u64::from(step)) % u64::from(ANY_PORTS)) as u16)
        .find(|number| {
            !taken.contains(number)
                && !written.contains(number)
                && !world.observed.foreign_ports.contains(&at(*number))
        })?;
    leases.ports.insert(key, found);
    Some(found)
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

//! What the proxy must know: which endpoints serve, and who has which names.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use linkspan_site::{Container, ContainerName, Driver, ProjectName, Protocol, Site};
use serde::{Deserialize, Serialize};

use crate::lifecycle::Serving;
use crate::network::network_id;
use crate::{ContainerId, HostPort, Plan, Slot, World, service_id};
use crate::{placement, ports};

/// What the proxy must know.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// By service id.
    pub services: BTreeMap<String, Service>,
    /// Ports on localhost, and the service and port behind each.
    pub forwards: BTreeMap<HostPort, (String, u16)>,
    /// What is called how on each network, by its bridge: who isn't on it neither sees a name nor reaches its address.
    pub networks: BTreeMap<String, NetworkNames>,
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

/// Names of the running containers of a network, all of them in lower case.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkNames {
    /// Addresses of those that answer to a name.
    pub names: BTreeMap<String, Vec<IpAddr>>,
    /// What is at an address, as shown: `shop-web-1` (PTR).
    pub pointers: BTreeMap<IpAddr, String>,
    /// Where containers serve (SRV, RFC 2782).
    pub locations: Vec<Location>,
}

/// A port that replicas of a container serve on a network.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Location {
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
    let mut names = Names::default();
    for (project, site) in &world.desired.projects {
        let served = ports::served(site);
        for (name, container) in &site.containers {
            let served = served.get(name);
            publish_service(world, serving, plan, project, name, container);
            ports::publish(world, serving, plan, project, name, container);
            for index in 1..=container.replicas {
                let slot = Slot {
                    project: project.clone(),
                    container: name.clone(),
                    index,
                };
                publish_names(world, serving, (site, container, served), &slot, &mut names);
            }
        }
    }
    let networks = names.networks.into_iter();
    plan.published_mut().networks = networks
        .map(|(bridge, gathered)| (bridge.to_owned(), gathered.whole()))
        .collect();
    plan.published_mut().askers = askers(world, plan);
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
            if !addresses.is_empty() {
                service.endpoints.push(Endpoint {
                    id: id.clone(),
                    run: seen.record.runs,
                    addresses,
                });
            }
        }
        if is_nowhere(world, serving, &slot) {
            service.reason.get_or_insert_with(|| "on no network".to_owned());
            continue;
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
    plan.published_mut()
        .services
        .insert(service_id(project, name), service);
}

/// Those that run were taken off every network: nobody comes by waiting.
fn is_nowhere(world: &World<'_>, serving: &Serving, slot: &Slot) -> bool {
    let ids = serving.running.get(slot).into_iter().flatten();
    let mut running = ids.filter_map(|id| world.observed.containers.get(id)).peekable();
    running.peek().is_some() && running.all(|seen| seen.record.spec.addresses.is_empty())
}

/// Names while they are gathered, by bridge.
#[derive(Debug, Default)]
struct Names<'a> {
    networks: BTreeMap<&'a str, Gathered>,
}

/// Those of one network.
#[derive(Debug, Default)]
struct Gathered {
    names: BTreeMap<String, Vec<IpAddr>>,
    pointers: BTreeMap<IpAddr, String>,
    /// By name, protocol and port, the replicas that serve there.
    locations: BTreeMap<(String, Protocol, u16), Vec<String>>,
}

impl Gathered {
    fn add(&mut self, name: &str, addresses: &[IpAddr]) {
        let held = match self.names.get_mut(name) {
            Some(held) => held,
            None => self.names.entry(name.to_ascii_lowercase()).or_default(),
        };
        // One that is called so for two reasons comes twice in a row.
        if !held.ends_with(addresses) {
            held.extend(addresses);
        }
    }

    fn whole(self) -> NetworkNames {
        let locations = self.locations.into_iter();
        NetworkNames {
            names: self.names,
            pointers: self.pointers,
            locations: locations
                .map(|((name, protocol, port), targets)| Location {
                    name,
                    protocol,
                    port,
                    targets,
                })
                .collect(),
        }
    }
}

fn publish_names<'a>(
    world: &World<'a>,
    serving: &Serving,
    (site, container, served): (&Site, &Container, Option<&BTreeSet<(Protocol, u16)>>),
    slot: &Slot,
    names: &mut Names<'a>,
) {
    let ids = serving.ready.get(slot).or_else(|| serving.running.get(slot));
    let by_hand = world.desired.connections.get(slot);
    for seen in ids
        .into_iter()
        .flatten()
        .filter_map(|id| world.observed.containers.get(id))
    {
        let spec = &seen.record.spec;
        let shown = slot.display_name().to_ascii_lowercase();
        let own = [
            slot.container.to_string(),
            shown.clone(),
            format!("{}.{}", slot.container, slot.project),
            spec.hostname.clone(),
            spec.id.as_str().get(..12).unwrap_or_default().to_owned(),
        ];
        for link in spec
            .attachments
            .iter()
            .filter(|link| link.driver == Driver::Bridge)
        {
            let addresses = placement::addresses(std::slice::from_ref(link));
            let declared = container.networks.iter().filter(|(name, _)| {
                let network = site.networks.get(*name);
                network.is_some_and(|network| network_id(&site.name, name, network) == link.network)
            });
            let connected = by_hand
                .and_then(|all| all.get(&link.network))
                .into_iter()
                .flatten();
            let wishes = declared.map(|(_, wish)| wish).chain(connected);
            let own_names = own.iter().filter(|name| !name.is_empty());
            let network = names.networks.entry(&link.bridge).or_default();
            for name in own_names.chain(wishes.flat_map(|wish| &wish.aliases)) {
                network.add(name, &addresses);
            }
            let pointers = addresses.iter().map(|address| (*address, shown.clone()));
            network.pointers.extend(pointers);
            for (protocol, port) in served.into_iter().flatten() {
                for name in [&own[0], &own[1], &own[2]] {
                    let key = (name.to_ascii_lowercase(), *protocol, *port);
                    network.locations.entry(key).or_default().push(shown.clone());
                }
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
            let links = || {
                let all = record.spec.attachments.iter();
                all.filter(|link| link.driver == Driver::Bridge)
            };
            let current = links().flat_map(|link| placement::addresses(std::slice::from_ref(link)));
            let left = links().flat_map(|link| link.retiring.iter().map(|address| address.ip()));
            let promised = links().flat_map(|link| {
                let held = plan.leases.addresses.get(&link.bridge);
                let held = held.and_then(|held| held.get(&record.spec.id));
                held.into_iter()
                    .flat_map(|held| std::iter::once(IpAddr::V4(held.v4)).chain(held.v6.map(IpAddr::V6)))
            });
            // It may ask while it moves: from where it is going to, and where it was.
            let addresses: BTreeSet<IpAddr> = current.chain(left).chain(promised).collect();
            Asker {
                addresses: addresses.into_iter().collect(),
                bridges: links().map(|link| link.bridge.clone()).collect(),
                forward: links().any(|link| way_out(&link.bridge)),
                servers: declared
                    .map(|container| container.dns.clone())
                    .unwrap_or_default(),
            }
        })
        .collect()
}

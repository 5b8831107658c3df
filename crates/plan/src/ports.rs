//! Published ports: sockets of the data plane on loopback, elements of the kernel's maps on other addresses.
//!
//! A port on another address is held by a bound socket as well, so that a clash with another program is an error and not
//! a riddle. Of a run of ports all or none are published. A long run is one element where it keeps its numbers, and is
//! not held: ten thousand sockets would cost more than they are worth.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use linkspan_site::{Action, Container, ContainerName, Driver, Port, ProjectName, Protocol, Site, Target};

use crate::lease::mix;
use crate::lifecycle::Serving;
use crate::{Attachment, ContainerSpec, Desired, Dnat, HostPort, Leases, Plan, Slot, World, service_id};

/// First port that is tried for a port that asks for any: the range that RFC 6335 leaves to private use.
const ANY_PORT_FIRST: u16 = 49_152;
/// How many there are from there on.
const ANY_PORTS: u16 = u16::MAX - ANY_PORT_FIRST;
/// Longest run whose ports are held by sockets, and on every address also forwarded on loopback.
const MOST_HELD: u16 = 256;

/// Publishes the ports of a container.
pub(crate) fn publish(
    world: &World<'_>,
    serving: &Serving,
    plan: &mut Plan,
    project: &ProjectName,
    name: &ContainerName,
    container: &Container,
) {
    if container.ports.is_empty() {
        return;
    }
    let site = world.desired.projects.get(project);
    if site.is_some_and(|site| is_on_lan_alone(world.desired, site, name)) {
        return;
    }
    let service = service_id(project, name);
    for written in &container.ports {
        let mut run = written.clone();
        if run.host_port == 0 {
            let Some(number) = any_port(world, plan, &service, &run) else {
                let why = "no free host port is left for it".to_owned();
                plan.fail(project, name.to_string(), why);
                continue;
            };
            run.host_port = number;
        }
        let held: Vec<(HostPort, u16)> = held(&run).collect();
        plan.ports.extend(held.iter().map(|(at, _)| *at));
        if let Some((at, _)) = held
            .iter()
            .find(|(at, _)| world.observed.foreign_ports.contains(at))
        {
            let why = format!("{at} is held by another program");
            plan.fail(project, name.to_string(), why);
            continue;
        }
        for (at, inside) in held.into_iter().filter(|(at, _)| at.is_forwarded()) {
            plan.published_mut()
                .forwards
                .insert(at, (service.clone(), inside));
        }
        if run.host_ip.is_loopback() {
            continue;
        }
        if let Some(to_ip) = target(world, serving, project, name, container, run.host_ip.is_ipv4()) {
            plan.firewall.dnat.extend(elements(&run, to_ip));
        }
    }
}

/// The ports of a run that are held by sockets, each with the port inside: all or none. SCTP is NAT only, for kernels
/// seldom have its sockets.
fn held(run: &Port) -> impl Iterator<Item = (HostPort, u16)> {
    let is_held = run.count <= MOST_HELD && run.protocol != Protocol::Sctp;
    let each = is_held.then(|| run.each());
    each.into_iter()
        .flatten()
        .map(|port| (host_port(&port), port.container_port))
}

/// Is a container on networks whose members are on a LAN itself, and on no other? Then it has no port of the host's:
/// whoever wants it finds it at its own address.
pub fn is_on_lan_alone(desired: &Desired, site: &Site, name: &ContainerName) -> bool {
    let Some(container) = site.containers.get(name) else {
        return false;
    };
    let networks = container.networks.keys();
    let mut declared = networks
        .filter_map(|name| site.networks.get(name))
        .filter_map(|network| match &network.external {
            Some(external) => desired.networks.get(external),
            None => Some(network),
        })
        .peekable();
    let is_declared = declared.peek().is_some();
    if declared.any(|network| network.driver == Driver::Bridge) {
        return false;
    }
    let slot = |index| Slot {
        project: site.name.clone(),
        container: name.clone(),
        index,
    };
    let mut connected = desired
        .connections
        .range(slot(u32::MIN)..=slot(u32::MAX))
        .flat_map(|(_, wishes)| wishes.iter().filter(|(_, wish)| wish.is_some()))
        .peekable();
    let is_on_any = is_declared || connected.peek().is_some();
    is_on_any
        && connected.all(|(id, _)| {
            let by_hand = desired.networks.iter().find(|(name, _)| name.as_str() == id.0);
            by_hand.is_some_and(|(_, network)| network.driver != Driver::Bridge)
        })
}

/// The host ports that a run, as it is written, must have sockets on. None for a run that asks for any.
pub fn held_ports(run: &Port) -> Vec<HostPort> {
    if run.host_port == 0 {
        return Vec::new();
    }
    held(run).map(|(at, _)| at).collect()
}

/// Ports inside on which each container of a site serves, as far as its file says: those that it publishes, and those that routes
/// lead to. A run of ports says where it may serve, not where it does.
pub(crate) fn served(site: &Site) -> BTreeMap<&ContainerName, BTreeSet<(Protocol, u16)>> {
    let mut served: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for (name, container) in &site.containers {
        for port in container.ports.iter().filter(|port| port.count == 1) {
            let ports = served.entry(name).or_default();
            ports.insert((port.protocol, port.container_port));
        }
    }
    for route in &site.routes {
        let Action::Forward(targets) = &route.action else {
            continue;
        };
        for target in targets {
            if let Target::Container { name, port } = target {
                served.entry(name).or_default().insert((Protocol::Tcp, *port));
            }
        }
    }
    served
}

/// One element for a run that keeps its numbers, else one for each port.
fn elements(run: &Port, to_ip: IpAddr) -> Vec<Dnat> {
    let element = |port: &Port| Dnat {
        protocol: port.protocol,
        host_ip: port.host_ip,
        host_port: port.host_port,
        to_ip,
        to_port: port.container_port,
        count: port.count,
    };
    if run.host_port == run.container_port {
        return vec![element(run)];
    }
    run.each().map(|port| element(&port)).collect()
}

fn host_port(port: &Port) -> HostPort {
    HostPort {
        protocol: port.protocol,
        address: SocketAddr::new(port.host_ip, port.host_port),
    }
}

/// NAT leads to the first replica that runs: the kernel's map has one target for a port.
fn target(
    world: &World<'_>,
    serving: &Serving,
    project: &ProjectName,
    name: &ContainerName,
    container: &Container,
    v4: bool,
) -> Option<IpAddr> {
    let id = (1..=container.replicas)
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
        })?;
    reachable(&world.observed.containers.get(&id)?.record.spec, v4)
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
    let has_way = |link: &&Attachment| {
        if v4 {
            link.gateway4.is_some()
        } else {
            link.gateway6.is_some()
        }
    };
    // Who is on the LAN itself needs no port of the host's.
    let links = || {
        spec.attachments
            .iter()
            .filter(|link| link.driver == Driver::Bridge)
    };
    links().find(has_way).or(links().next()).and_then(address)
}

fn any_port_key(service: &str, port: &Port) -> String {
    format!(
        "{service}/{}:{}/{:?}",
        port.host_ip, port.container_port, port.protocol
    )
}

impl Leases {
    /// The host port of a published one: the one that was picked, where it asks for any and one was.
    pub fn host_port(&self, slot: &Slot, port: &Port) -> u16 {
        match port.host_port {
            0 => {
                let picked = self.ports.get(&any_port_key(&slot.service(), port));
                picked.copied().unwrap_or_default()
            }
            written => written,
        }
    }
}

/// A free port for one that asks for any, the same as long as it is free.
fn any_port(world: &World<'_>, plan: &mut Plan, service: &str, port: &Port) -> Option<u16> {
    let key = any_port_key(service, port);
    let foreign = |number| {
        world.observed.foreign_ports.contains(&HostPort {
            protocol: port.protocol,
            address: SocketAddr::new(port.host_ip, number),
        })
    };
    let leases = &plan.leases;
    if let Some(held) = leases.ports.get(&key)
        && !foreign(*held)
    {
        return Some(*held);
    }
    let runs: Vec<_> = world
        .desired
        .projects
        .values()
        .flat_map(|site| site.containers.values())
        .flat_map(|container| &container.ports)
        .filter(|port| port.host_port != 0)
        .map(|port| port.host_port..=port.last_host_port())
        .collect();
    let taken: BTreeSet<u16> = leases.ports.values().copied().collect();
    let start = key
        .bytes()
        .fold(world.settings.seed, |hash, byte| mix(hash ^ u64::from(byte)));
    let found = (0..ANY_PORTS)
        .map(|step| ANY_PORT_FIRST + ((start + u64::from(step)) % u64::from(ANY_PORTS)) as u16)
        .find(|number| {
            !taken.contains(number) && !foreign(*number) && !runs.iter().any(|run| run.contains(number))
        })?;
    plan.leases_mut().ports.insert(key, found);
    Some(found)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use crate::tests::town::Town;
    use crate::{HostPort, Plan};

    fn published(ports: &str) -> Plan {
        let mut town = Town::new();
        town.up(&format!(
            "name: shop\ncontainers: {{ web: {{ image: 'shop:1', ports: [{ports}] }} }}\n"
        ));
        town.step();
        town.plan()
    }

    fn elements(plan: &Plan) -> Vec<String> {
        let element = |dnat: &crate::Dnat| {
            format!(
                "{}:{}+{}/{} -> {}:{}",
                dnat.host_ip,
                dnat.host_port,
                dnat.count,
                dnat.protocol.name(),
                dnat.to_ip,
                dnat.to_port
            )
        };
        plan.firewall.dnat.iter().map(element).collect()
    }

    #[test]
    fn a_long_run_that_keeps_its_numbers_is_one_element_and_holds_no_socket() {
        let plan = published("'0.0.0.0:20000-29999:20000-29999/udp'");
        assert_eq!(elements(&plan), ["0.0.0.0:20000+10000/udp -> 10.0.2.3:20000"]);
        assert_eq!((plan.ports.len(), plan.published.forwards.len()), (0, 0));
    }

    #[test]
    fn a_short_run_is_held_and_one_that_changes_its_numbers_has_an_element_for_each() {
        let plan = published("'192.0.2.1:8000-8001:80-81'");
        assert_eq!(
            elements(&plan),
            [
                "192.0.2.1:8000+1/tcp -> 10.0.2.3:80",
                "192.0.2.1:8001+1/tcp -> 10.0.2.3:81"
            ]
        );
        assert_eq!((plan.ports.len(), plan.published.forwards.len()), (2, 0));
        let plan = published("'0.0.0.0:8000-8255:8000-8255'");
        assert_eq!(elements(&plan), ["0.0.0.0:8000+256/tcp -> 10.0.2.3:8000"]);
        assert_eq!((plan.ports.len(), plan.published.forwards.len()), (256, 256));
    }

    #[test]
    fn a_run_on_loopback_is_sockets_and_no_nat() {
        let plan = published("'9000-9001:80-81'");
        assert_eq!(elements(&plan), Vec::<String>::new());
        let forwards: Vec<_> = plan
            .published
            .forwards
            .iter()
            .map(|(at, (service, inside))| format!("{at} {service} {inside}"))
            .collect();
        assert_eq!(
            forwards,
            ["127.0.0.1:9000/tcp shop/web 80", "127.0.0.1:9001/tcp shop/web 81"]
        );
    }

    #[test]
    fn sctp_is_an_element_without_a_socket() {
        let plan = published("'0.0.0.0:9899:9899/sctp'");
        assert_eq!(elements(&plan), ["0.0.0.0:9899+1/sctp -> 10.0.2.3:9899"]);
        assert_eq!(plan.ports, BTreeSet::new());
    }

    #[test]
    fn a_run_of_which_one_port_is_taken_is_not_published_in_part() {
        let mut town = Town::new();
        town.up(
            "name: shop\ncontainers: { web: { image: 'shop:1', ports: ['0.0.0.0:8000-8009:8000-8009'] } }\n",
        );
        town.step();
        let taken = HostPort {
            protocol: linkspan_site::Protocol::Tcp,
            address: "0.0.0.0:8007".parse().unwrap(),
        };
        town.observed.foreign_ports.insert(taken);
        let plan = town.plan();
        assert_eq!(elements(&plan), Vec::<String>::new());
        let failed: Vec<_> = plan
            .standing
            .values()
            .flat_map(|standing| &standing.failed)
            .collect();
        assert_eq!(
            failed[0].1, "0.0.0.0:8007/tcp is held by another program",
            "{failed:?}"
        );
    }
}

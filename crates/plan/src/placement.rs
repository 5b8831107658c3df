//! Where containers are: on which networks, with which addresses. It follows the promises, also while they run.
//!
//! A container is placed when it is made; its place changes when a network that it is on moves, and when somebody
//! connects it to a network or disconnects it. What it was made from stays the same, so it is not replaced: the links of
//! a running container are changed under it, and what is noted down of one that doesn't run is corrected.

mod in_place;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use linkspan_site::{Attachment as Wish, Driver, MacAddress};
use serde::{Deserialize, Serialize};

pub(crate) use in_place::InPlace;

use crate::lease::LeaseError;
use crate::lifecycle::{Serving, give, is_leaving};
use crate::network::{Networks, network_id};
use crate::template::gateway6;
use crate::{
    Attachment, ContainerId, ContainerSpec, Job, LINK_PREFIX, Leases, NetworkId, NetworkLease,
    NetworkNamespace, Observation, Plan, RESOLVER_ADDRESS, Record, Run, World,
};

/// The part of a [`ContainerSpec`] that may change while the container runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// All its links. One whose host end has the same name as before is changed, not made anew.
    pub attachments: Vec<Attachment>,
    /// Its own addresses, for `/etc/hosts`.
    pub addresses: Vec<IpAddr>,
    /// Lines of `/etc/hosts` beside localhost and the container itself.
    pub hosts: Vec<(IpAddr, String)>,
}

impl ContainerSpec {
    /// The container is there now.
    pub fn put(&mut self, placement: Placement) {
        self.attachments = placement.attachments;
        self.addresses = placement.addresses;
        self.hosts = placement.hosts;
    }

    fn placement(&self) -> Placement {
        Placement {
            attachments: self.attachments.clone(),
            addresses: self.addresses.clone(),
            hosts: self.hosts.clone(),
        }
    }
}

/// A link that a container is to have.
#[derive(Debug, Clone)]
pub(crate) struct Place<'a> {
    pub(crate) bridge: &'a str,
    pub(crate) fixed4: Option<Ipv4Addr>,
    pub(crate) fixed6: Option<Ipv6Addr>,
    pub(crate) mac: Option<[u8; 6]>,
    pub(crate) priority: i32,
    /// The link as it is, if there is one: its names and its hardware address stay.
    pub(crate) former: Option<&'a Attachment>,
}

/// No wish at all.
static NOTHING: Wish = Wish {
    aliases: Vec::new(),
    ipv4_address: None,
    ipv6_address: None,
    mac_address: None,
    gateway_priority: 0,
};

impl<'a> Place<'a> {
    fn new(bridge: &'a str, wish: &Wish, former: Option<&'a Attachment>) -> Self {
        Self {
            bridge,
            fixed4: wish.ipv4_address,
            fixed6: wish.ipv6_address,
            mac: wish.mac_address.map(|mac| mac.0),
            priority: wish.gateway_priority,
            former,
        }
    }
}

/// Gives a container its links, in the order of their names inside.
pub(crate) fn place(
    id: &ContainerId,
    places: &[Place<'_>],
    leases: &mut Leases,
    networks: &Networks,
) -> Result<Vec<Attachment>, LeaseError> {
    let mut numbers: BTreeSet<String> = places
        .iter()
        .filter_map(|place| place.former.map(|former| former.link.clone()))
        .collect();
    let mut attachments = Vec::new();
    for place in places {
        let written = networks.written(place.bridge);
        let kept_for_others = written.map(|written| &written.v4);
        let address = leases.new_address(place.bridge, id, place.fixed4, place.fixed6, kept_for_others)?;
        let Some(lease) = leases.networks.get(place.bridge) else {
            continue;
        };
        let number = (0..)
            .find(|number| !numbers.contains(&format!("eth{number}")))
            .unwrap_or(0);
        let (link, host_link) = match place.former {
            Some(former) => (former.link.clone(), former.host_link.clone()),
            None => (
                format!("eth{number}"),
                format!("{LINK_PREFIX}v{}{number}", id.short()),
            ),
        };
        numbers.insert(link.clone());
        // Another may get the former address, and with it what is made from that.
        let same_host = |former: &&Attachment| {
            host_part(former.v4) == host_part(with_prefix4(address.v4, lease.v4.prefix()))
        };
        let former_mac = place.former.filter(same_host).map(|former| former.mac);
        let is_free = |mac: &[u8; 6]| written.is_none_or(|written| !written.macs.contains(&MacAddress(*mac)));
        attachments.push(Attachment {
            network: lease.id.clone(),
            bridge: place.bridge.to_owned(),
            host_link,
            link,
            mac: place.mac.unwrap_or_else(|| {
                let made = (0..=u8::MAX).map(|step| mac(address.v4, step));
                let mut all = former_mac.into_iter().chain(made);
                all.find(is_free).unwrap_or_else(|| mac(address.v4, 0))
            }),
            v4: with_prefix4(address.v4, lease.v4.prefix()),
            v6: address
                .v6
                .zip(lease.v6)
                .map(|(ip, subnet)| with_prefix6(ip, subnet.prefix())),
            gateway4: None,
            gateway6: None,
            mtu: lease.mtu,
            resolver: false,
            driver: lease.driver.clone(),
            isolated: lease.isolated,
            retiring: place
                .former
                .map(|former| retiring(former, lease))
                .unwrap_or_default(),
        });
    }
    ways_out(places, &mut attachments, leases);
    Ok(attachments)
}

/// The default route of each family goes by the network with the highest priority; of equals, by the first that has a
/// way out. The resolver is reached over the first bridge.
fn ways_out(places: &[Place<'_>], attachments: &mut [Attachment], leases: &Leases) {
    let lease = |link: &Attachment| leases.networks.get(&link.bridge);
    let best = |has_way: &dyn Fn(&NetworkLease) -> bool| {
        let ways = places.iter().zip(attachments.iter()).enumerate();
        let ways =
            ways.filter(|(_, (_, link))| lease(link).is_some_and(|lease| !lease.internal && has_way(lease)));
        // Of equals `max_by_key` takes the last.
        ways.rev()
            .max_by_key(|(_, (place, _))| place.priority)
            .map(|(index, _)| index)
    };
    let v4 = best(&|_| true);
    let v6 = best(&|lease| lease.v6.is_some());
    for (index, link) in attachments.iter_mut().enumerate() {
        let Some(lease) = leases.networks.get(&link.bridge) else {
            continue;
        };
        link.gateway4 = (v4 == Some(index)).then_some(lease.gateway);
        link.gateway6 = lease.v6.filter(|_| v6 == Some(index)).map(gateway6);
    }
    if let Some(first) = attachments.iter_mut().find(|link| link.driver == Driver::Bridge) {
        first.resolver = true;
    }
}

/// Addresses of a link in ranges that its network is leaving.
fn retiring(former: &Attachment, lease: &NetworkLease) -> Vec<IpNetwork> {
    let current = [Some(IpNetwork::V4(former.v4)), former.v6.map(IpNetwork::V6)];
    let held = current
        .into_iter()
        .flatten()
        .chain(former.retiring.iter().copied());
    let left: BTreeSet<IpNetwork> = held
        .filter(|address| {
            lease
                .retiring
                .iter()
                .any(|left| left.range.contains(address.ip()))
        })
        .collect();
    left.into_iter().collect()
}

/// All addresses of some links, those that they are leaving not included.
pub(crate) fn addresses(attachments: &[Attachment]) -> Vec<IpAddr> {
    attachments
        .iter()
        .flat_map(|link| {
            let v6 = link.v6.map(|v6| IpAddr::V6(v6.ip()));
            std::iter::once(IpAddr::V4(link.v4.ip())).chain(v6)
        })
        .collect()
}

/// Plans for every container that isn't where it should be.
pub(crate) fn follow(
    world: &World<'_>,
    networks: &Networks,
    serving: &Serving,
    in_place: &mut InPlace,
    plan: &mut Plan,
) {
    in_place.begin(networks);
    for (id, seen) in &world.observed.containers {
        if seen.busy.is_some() || is_leaving(plan, seen) {
            continue;
        }
        let is_current = serving.current.contains(id);
        if in_place.holds(world, plan, id, seen, is_current) {
            continue;
        }
        let noted = plan.records.iter().position(|record| record.spec.id == *id);
        let record = noted
            .and_then(|at| plan.records.get(at))
            .unwrap_or(&seen.record)
            .clone();
        if !matches!(seen.run, Run::Running { .. }) {
            give_up_held(networks, plan, &record);
        }
        let to = match wanted(world, networks, plan, &record, is_current) {
            Ok(to) => to,
            Err(error) => {
                plan.fail(
                    &record.slot.project,
                    record.slot.display_name(),
                    error.to_string(),
                );
                continue;
            }
        };
        if to == record.spec.placement() {
            if noted.is_none() {
                in_place.note(world, plan, id, seen, is_current);
            }
            continue;
        }
        let runs = matches!(seen.run, Run::Running { .. });
        let has_links = record.spec.network == NetworkNamespace::Own;
        if runs && has_links && noted.is_none() {
            move_to(world, plan, id, seen, to);
        } else {
            note(plan, noted, record, to);
        }
    }
}

/// A running container moves; that mends its links as well.
fn move_to(world: &World<'_>, plan: &mut Plan, id: &ContainerId, seen: &Observation, to: Placement) {
    plan.jobs.retain(|job| job.id() != id);
    if let Some(standing) = plan.standing.get_mut(&seen.record.slot.project) {
        standing.settled = false;
    }
    let job = Job::Move {
        id: id.clone(),
        to: Box::new(to),
    };
    give(world, plan, seen, job);
}

/// What is noted down of a container that doesn't run, or has no links of its own, is corrected.
fn note(plan: &mut Plan, noted: Option<usize>, mut record: Record, mut to: Placement) {
    // Nothing was begun at an address that it no longer has.
    for link in &mut to.attachments {
        link.retiring.clear();
    }
    record.spec.put(to);
    match noted.and_then(|at| plan.records.get_mut(at)) {
        Some(earlier) => *earlier = record,
        None => plan.records.push(record),
    }
}

/// Takes back addresses that somebody else on a LAN was found to have, of a container that doesn't run.
fn give_up_held(networks: &Networks, plan: &mut Plan, record: &Record) {
    for link in &record.spec.attachments {
        let is_on_lan = link.driver != Driver::Bridge;
        if is_on_lan && networks.is_held(&link.bridge, link.v4.ip()) {
            plan.leases_mut().release_address(&link.bridge, &record.spec.id);
        }
    }
}

/// Where a container should be.
fn wanted(
    world: &World<'_>,
    networks: &Networks,
    plan: &mut Plan,
    record: &Record,
    is_current: bool,
) -> Result<Placement, LeaseError> {
    let spec = &record.spec;
    match &spec.network {
        NetworkNamespace::Host => return Ok(spec.placement()),
        NetworkNamespace::Container(target) => {
            let mut to = spec.placement();
            if let Some(target) = world.observed.containers.get(target) {
                to.addresses.clone_from(&target.record.spec.addresses);
            }
            return Ok(to);
        }
        NetworkNamespace::Own => {}
    }
    let by_hand = world.desired.connections.get(&record.slot);
    let declared = world
        .desired
        .projects
        .get(&record.slot.project)
        .and_then(|site| Some((site, site.containers.get(&record.slot.container)?)));
    let is_taken_off = |id: &NetworkId| by_hand.and_then(|all| all.get(id)).is_some_and(Option::is_none);
    let former = |bridge: &str| spec.attachments.iter().find(|link| link.bridge == bridge);
    let mut places: Vec<Place<'_>> = match declared.filter(|_| is_current) {
        // What is declared holds, whatever was done to it by hand before the last `up`.
        Some((site, container)) => container
            .networks
            .iter()
            .filter_map(|(name, wish)| {
                let id = network_id(&site.name, name, site.networks.get(name)?);
                let bridge = networks
                    .of_project(&site.name, name)
                    .filter(|_| !is_taken_off(&id))?;
                Some(Place::new(bridge, wish, former(bridge)))
            })
            .collect(),
        // One that is to be replaced stays where it is until then.
        None => spec
            .attachments
            .iter()
            .filter(|link| !is_taken_off(&link.network))
            .map(|link| Place {
                mac: Some(link.mac),
                ..Place::new(&link.bridge, &NOTHING, Some(link))
            })
            .collect(),
    };
    for (id, wish) in by_hand.into_iter().flatten() {
        let (Some(wish), Some(bridge)) = (wish, networks.current(id)) else {
            continue;
        };
        places.retain(|place| place.bridge != bridge);
        places.push(Place::new(bridge, wish, former(bridge)));
    }
    for place in &places {
        plan.leases_mut()
            .give_up_other(place.bridge, &spec.id, place.fixed4, place.fixed6);
    }
    let attachments = place(&spec.id, &places, plan.leases_mut(), networks)?;
    for left in spec
        .attachments
        .iter()
        .filter(|old| places.iter().all(|place| place.bridge != old.bridge))
    {
        plan.leases_mut().release_address(&left.bridge, &spec.id);
    }
    let hosts = hosts(spec, &attachments, &plan.leases);
    Ok(Placement {
        addresses: addresses(&attachments),
        attachments,
        hosts,
    })
}

/// Names that stood for a gateway stand for the one that took its place.
fn hosts(spec: &ContainerSpec, attachments: &[Attachment], leases: &Leases) -> Vec<(IpAddr, String)> {
    let left: BTreeSet<IpAddr> = attachments
        .iter()
        .filter_map(|link| leases.networks.get(&link.bridge))
        .flat_map(|lease| lease.retiring.iter().map(|left| left.gateway))
        .collect();
    let gateway = gateway(attachments, leases);
    let follow = |ip: IpAddr| gateway.filter(|_| left.contains(&ip)).unwrap_or(ip);
    spec.hosts
        .iter()
        .map(|(ip, name)| (follow(*ip), name.clone()))
        .collect()
}

/// The host as a container sees it: the first bridge that it is on.
pub(crate) fn gateway(attachments: &[Attachment], leases: &Leases) -> Option<IpAddr> {
    let mut bridges = attachments.iter().filter(|link| link.driver == Driver::Bridge);
    let lease = leases.networks.get(&bridges.next()?.bridge)?;
    Some(IpAddr::V4(lease.gateway))
}

/// Whom a container asks for names: our resolver; where that can't be reached, those of the host that can.
pub(crate) fn name_servers(attachments: &[Attachment], world: &World<'_>) -> Vec<IpAddr> {
    if attachments.iter().any(|link| link.resolver) {
        vec![IpAddr::V4(RESOLVER_ADDRESS)]
    } else {
        world.observed.name_servers.clone()
    }
}

/// A locally administered address that says which IPv4 address it belongs to; another for each step.
fn mac(ip: Ipv4Addr, step: u8) -> [u8; 6] {
    let [a, b, c, d] = ip.octets();
    [0x02, 0x6c_u8.wrapping_add(step), a, b, c, d]
}

fn host_part(address: Ipv4Network) -> u32 {
    u32::from(address.ip()) & !u32::from(address.mask())
}

fn with_prefix4(ip: Ipv4Addr, prefix: u8) -> Ipv4Network {
    Ipv4Network::new_checked(ip, prefix).unwrap_or_else(|| ip.into())
}

fn with_prefix6(ip: Ipv6Addr, prefix: u8) -> Ipv6Network {
    Ipv6Network::new_checked(ip, prefix).unwrap_or_else(|| ip.into())
}

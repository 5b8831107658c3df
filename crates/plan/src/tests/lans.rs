//! Networks whose members are on a LAN itself: it is somebody else's, and has hosts of its own.

use std::net::IpAddr;
use std::sync::Arc;

use super::town::{Town, slot};
use crate::*;

const ON_LAN: &str = "
name: home
containers:
  tv: { image: 'shop:1', ports: ['0.0.0.0:8080:80'], networks: [lan] }
networks:
  lan: { driver: macvlan, driver_opts: { parent: eth0 }, subnet: 192.0.2.0/24 }
";

fn lan(holders: &[(&str, LanHolder)]) -> Arc<Lan> {
    let held = holders
        .iter()
        .map(|(ip, holder)| (ip.parse().unwrap(), holder.clone()));
    Arc::new(Lan { held: held.collect() })
}

fn town(holders: &[(&str, LanHolder)]) -> Town {
    let mut town = Town::new();
    town.observed.lans = [("eth0".to_owned(), lan(holders))].into();
    town
}

fn neighbour() -> LanHolder {
    LanHolder::Neighbour("02:00:00:00:00:07".to_owned())
}

fn address(town: &mut Town) -> IpAddr {
    town.container("home-tv-1").record.spec.addresses[0]
}

#[test]
fn nobody_gets_an_address_that_somebody_on_the_lan_has() {
    let mut town = town(&[
        ("192.0.2.2", LanHolder::Host("eth0".to_owned())),
        ("192.0.2.254", LanHolder::Router),
        ("192.0.2.3", neighbour()),
        ("192.0.2.4", neighbour()),
        // On another link of the host's.
        ("10.0.0.1", LanHolder::Host("eth1".to_owned())),
    ]);
    town.up(ON_LAN).settle();
    assert_eq!(address(&mut town).to_string(), "192.0.2.5");
    let lease = town.leases.networks.values().next().unwrap().clone();
    assert_eq!(lease.gateway.to_string(), "192.0.2.254", "the LAN's router");
    assert_eq!(lease.resolver, lease.gateway, "nothing is kept for a resolver");
    let link = &town.container("home-tv-1").record.spec.attachments[0];
    assert_eq!(link.gateway4, Some(lease.gateway));
}

#[test]
fn where_no_router_is_known_the_first_address_counts_as_its() {
    let mut town = town(&[]);
    town.up(ON_LAN).settle();
    assert_eq!(address(&mut town).to_string(), "192.0.2.2");
    let lease = town.leases.networks.values().next().unwrap();
    assert_eq!(lease.gateway.to_string(), "192.0.2.1");
}

#[test]
fn every_address_of_the_lan_but_the_routers_can_be_a_containers() {
    let small = ON_LAN
        .replace("192.0.2.0/24", "192.0.2.0/29")
        .replace(", ports: ['0.0.0.0:8080:80']", ", replicas: 5");
    let mut town = town(&[]);
    town.up(&small).settle();
    let held: Vec<String> = town
        .observed
        .containers
        .values()
        .map(|seen| seen.record.spec.addresses[0].to_string())
        .collect();
    assert_eq!(held.len(), 5, "{held:?}");
    assert!(held.contains(&"192.0.2.6".to_owned()), "{held:?}");
}

#[test]
fn a_container_that_does_not_run_gives_up_an_address_that_was_answered_for() {
    let mut town = town(&[]);
    town.up(ON_LAN).settle();
    let former = address(&mut town);
    town.observed.lans = [("eth0".to_owned(), lan(&[(&former.to_string(), neighbour())]))].into();
    assert!(town.plan().is_empty(), "one that runs keeps it");
    town.dies("home-tv-1", 1);
    town.settle();
    assert_eq!(address(&mut town).to_string(), "192.0.2.3");
    assert!(town.plan().is_empty());
}

#[test]
fn an_address_of_the_hosts_or_the_routers_that_is_written_down_is_refused() {
    let town = town(&[
        ("192.0.2.9", LanHolder::Host("eth0".to_owned())),
        ("192.0.2.8", LanHolder::Router),
        ("192.0.2.7", neighbour()),
    ]);
    let refusal = |ip: &str| {
        let text = ON_LAN.replace("[lan]", &format!("{{ lan: {{ ipv4_address: {ip} }} }}"));
        let world = World {
            desired: &town.desired,
            observed: &town.observed,
            leases: &town.leases,
            settings: &town.settings,
            now_ms: town.now_ms,
        };
        let refusals = admit(&super::town::site(&text), &world);
        refusals.iter().map(ToString::to_string).collect::<String>()
    };
    assert_eq!(
        refusal("192.0.2.9"),
        "container `tv`: address 192.0.2.9 on network `home_lan` is held by this host (`eth0`); choose another"
    );
    assert_eq!(
        refusal("192.0.2.8"),
        "container `tv`: address 192.0.2.8 on network `home_lan` is held by the router; choose another"
    );
    assert_eq!(
        refusal("192.0.2.7"),
        "",
        "it may have been this container, elsewhere"
    );
}

#[test]
fn by_hand_nobody_is_put_at_an_address_that_somebody_on_the_lan_has() {
    let mut town = town(&[("192.0.2.7", neighbour())]);
    town.up(ON_LAN).settle();
    let world = World {
        desired: &town.desired,
        observed: &town.observed,
        leases: &town.leases,
        settings: &town.settings,
        now_ms: town.now_ms,
    };
    let connect = |ip: &str| {
        let wish = linkspan_site::Attachment {
            ipv4_address: Some(ip.parse().unwrap()),
            ..linkspan_site::Attachment::default()
        };
        let lan = NetworkId("home_lan".to_owned());
        admit_connection(&lan, &[slot("home", "tv", 1)], &wish, &world).map_err(|error| error.to_string())
    };
    assert_eq!(
        connect("192.0.2.7").unwrap_err(),
        "address 192.0.2.7 on network `home_lan` is held by a host of the LAN (02:00:00:00:00:07); choose another"
    );
    assert_eq!(connect("192.0.2.6"), Ok(()));
}

#[test]
fn ports_have_no_meaning_where_all_is_on_the_lan() {
    let mut town = town(&[]);
    town.up(ON_LAN).settle();
    let plan = town.plan();
    assert!(plan.ports.is_empty() && plan.published.forwards.is_empty() && plan.firewall.dnat.is_empty());
    // With a bridge beside, they have.
    town.up(&ON_LAN.replace("[lan]", "[lan, default]")).settle();
    let plan = town.plan();
    assert_eq!((plan.ports.len(), plan.firewall.dnat.len()), (1, 1));
    // Also with one that it was put on by hand.
    town.up(ON_LAN).settle();
    assert!(town.plan().ports.is_empty());
    let wish = (
        NetworkId("office".to_owned()),
        Some(linkspan_site::Attachment::default()),
    );
    town.desired
        .networks
        .insert("office".parse().unwrap(), linkspan_site::Network::default());
    town.desired
        .connections
        .insert(slot("home", "tv", 1), [wish].into());
    town.settle();
    assert_eq!(town.plan().ports.len(), 1);
}

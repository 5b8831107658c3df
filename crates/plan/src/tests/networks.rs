//! Networks that keep clear of others, and containers that follow them.

use std::collections::BTreeSet;

use expect_test::expect;
use ipnetwork::IpNetwork;
use linkspan_site::{Network, OnConflict};
use proptest::prelude::*;

use super::town::{Town, slot};
use super::{SHOP, check};
use crate::*;

fn claim(town: &mut Town, range: &str, source: &str) {
    town.observed.claims.push(Claim {
        range: range.parse().unwrap(),
        source: source.to_owned(),
    });
}

fn by_hand(town: &mut Town, name: &str, network: Network) {
    town.desired.networks.insert(name.parse().unwrap(), network);
}

#[test]
fn a_network_whose_range_somebody_claims_moves_with_all_that_is_on_it() {
    let mut town = Town::new();
    town.up(SHOP).settle();
    claim(&mut town, "10.0.2.0/23", "route via `tun0`");
    check(
        &town.settle(),
        &expect![[r#"
            --- 1
            network shop_default 10.0.0.0/24; leaves 10.0.2.1 to [10.0.2.3]
            move shop-web-1 shop:1 at 10.0.0.3 (was 10.0.2.3)
            serve shop/web from [10.0.2.3]
            conflict shop_default: its range 10.0.2.0/24 is also route via `tun0` (10.0.2.0/23); it moves to 10.0.0.0/24
        "#]],
    );
    let serving = &town.plan().published.services["shop/web"].endpoints[0];
    assert_eq!(serving.addresses[0].to_string(), "10.0.0.3");
    town.now_ms += 70_000;
    // When nobody can still be busy there, the old range is given up.
    check(
        &town.settle(),
        &expect![[r#"
            --- 1
            network shop_default 10.0.0.0/24
            move shop-web-1 shop:1 at 10.0.0.3
            serve shop/web from [10.0.0.3]
        "#]],
    );
    assert_eq!(town.plan().conflicts, []);
}

#[test]
fn what_is_at_a_former_address_still_answers_asks_and_is_hidden_there() {
    let mut town = Town::new();
    town.up(SHOP).settle();
    claim(&mut town, "10.0.2.0/24", "route via `tun0`");
    town.step();
    let plan = town.plan();
    let asker = plan.published.askers[0].addresses.clone();
    assert!(asker.contains(&"10.0.2.3".parse().unwrap()), "{asker:?}");
    assert!(asker.contains(&"10.0.3.3".parse().unwrap()), "{asker:?}");
    let hidden: Vec<String> = plan
        .firewall
        .masquerade4
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(hidden, ["10.0.2.3/32", "10.0.3.0/24"]);
    let mut networks = plan.published.networks.values();
    let named = networks.find_map(|network| network.names.get("web")).unwrap();
    assert_eq!(named[0].to_string(), "10.0.3.3", "only the new one is told");
}

#[test]
fn a_range_that_is_written_down_or_is_only_to_be_reported_stays() {
    let mut town = Town::new();
    let text = format!("{SHOP}networks: {{ default: {{ subnet: 10.9.0.0/24 }} }}\n");
    town.up(&text).settle();
    claim(&mut town, "10.9.0.0/16", "route via `wg0`");
    check(
        &town.step(),
        &expect![[r#"
            serve shop/web from [10.9.0.2]
            conflict shop_default: its range 10.9.0.0/24 is also route via `wg0` (10.9.0.0/16); it stays: its subnet is written down; choose another, or leave it out
        "#]],
    );
    let mut town = Town::new();
    town.up(&format!(
        "{SHOP}networks: {{ default: {{ on_conflict: report }} }}\n"
    ))
    .settle();
    claim(&mut town, "10.0.2.0/24", "route via `wg0`");
    check(
        &town.step(),
        &expect![[r#"
        serve shop/web from [10.0.2.3]
        conflict shop_default: its range 10.0.2.0/24 is also route via `wg0` (10.0.2.0/24); it stays: `on_conflict: report`
    "#]],
    );
}

#[test]
fn a_network_that_can_go_nowhere_stays_and_says_so() {
    let mut town = Town::new();
    town.up(SHOP).settle();
    claim(&mut town, "10.0.0.0/16", "route via `tun0`");
    let told = town.step();
    assert!(
        told.contains("it stays: network `shop_default` gets no subnet: all 4 blocks"),
        "{told}"
    );
    assert!(!told.contains("move"), "{told}");
}

#[test]
fn a_container_that_does_not_run_is_started_where_its_network_is_now() {
    let mut town = Town::new();
    town.up(SHOP).settle();
    town.dies("shop-web-1", 1);
    claim(&mut town, "10.0.2.0/24", "route via `tun0`");
    check(
        &town.settle(),
        &expect![[r#"
            --- 1
            network shop_default 10.0.3.0/24; leaves 10.0.2.1 to [10.0.2.3]
            start shop-web-1 shop:1 at 10.0.3.3
            serve shop/web from [] coming
            conflict shop_default: its range 10.0.2.0/24 is also route via `tun0` (10.0.2.0/24); it moves to 10.0.3.0/24
        "#]],
    );
}

#[test]
fn a_container_is_put_on_a_network_and_taken_off_again_without_being_replaced() {
    let mut town = Town::new();
    by_hand(&mut town, "office", Network::default());
    town.up(SHOP).settle();
    let office = NetworkId("office".to_owned());
    let wish = linkspan_site::Attachment {
        aliases: vec!["shopfront".to_owned()],
        ..linkspan_site::Attachment::default()
    };
    let web = slot("shop", "web", 1);
    let connections = town.desired.connections.entry(web.clone()).or_default();
    connections.insert(office.clone(), Some(wish));
    let put_on = town.settle();
    let plan = town.plan();
    let mut networks = plan.published.networks.values();
    let alias = networks
        .find_map(|network| network.names.get("shopfront"))
        .unwrap();
    assert_eq!(alias[0].to_string(), "10.0.2.3");
    town.desired
        .connections
        .get_mut(&web)
        .unwrap()
        .insert(office, None);
    let told = format!("{put_on}======\n{}", town.settle());
    check(
        &told,
        &expect![[r#"
        --- 1
        move shop-web-1 shop:1 at 10.0.3.3, 10.0.2.3
        serve shop/web from [10.0.3.3]
        ======
        --- 1
        move shop-web-1 shop:1 at 10.0.3.3
        serve shop/web from [10.0.3.3]
    "#]],
    );
}

#[test]
fn what_was_done_by_hand_is_forgotten_at_the_next_up() {
    let mut town = Town::new();
    by_hand(&mut town, "office", Network::default());
    town.up(SHOP).settle();
    let declared = |town: &mut Town| {
        let links = &town.container("shop-web-1").record.spec.attachments;
        let names = links.iter().map(|link| link.network.0.clone());
        names.collect::<Vec<_>>()
    };
    let wishes = town
        .desired
        .connections
        .entry(slot("shop", "web", 1))
        .or_default();
    wishes.insert(NetworkId("shop_default".to_owned()), None);
    wishes.insert(
        NetworkId("office".to_owned()),
        Some(linkspan_site::Attachment::default()),
    );
    town.settle();
    assert_eq!(declared(&mut town), ["office"]);
    town.desired.connections.clear();
    let told = town.up(SHOP).settle();
    assert_eq!(declared(&mut town), ["shop_default"]);
    assert!(
        told.contains("move shop-web-1") && !told.contains("start"),
        "{told}"
    );
}

#[test]
fn who_is_on_no_network_serves_nothing_and_says_why() {
    let mut town = Town::new();
    town.up(SHOP).settle();
    let wishes = town
        .desired
        .connections
        .entry(slot("shop", "web", 1))
        .or_default();
    wishes.insert(NetworkId("shop_default".to_owned()), None);
    town.settle();
    for is_ready in [true, false] {
        if let Run::Running { ready, .. } = &mut town.container("shop-web-1").run {
            *ready = is_ready;
        }
        let plan = town.plan();
        let service = &plan.published.services["shop/web"];
        assert_eq!((service.endpoints.len(), service.coming), (0, false));
        assert_eq!(service.reason.as_deref(), Some("on no network"));
    }
}

#[test]
fn a_second_wish_for_the_same_network_replaces_the_first() {
    let mut town = Town::new();
    let office = Network {
        subnet: Some("10.9.0.0/24".parse().unwrap()),
        ..Network::default()
    };
    by_hand(&mut town, "office", office);
    town.up(SHOP).settle();
    for address in ["10.9.0.7", "10.9.0.8"] {
        let wish = linkspan_site::Attachment {
            ipv4_address: Some(address.parse().unwrap()),
            ..linkspan_site::Attachment::default()
        };
        let wishes = town
            .desired
            .connections
            .entry(slot("shop", "web", 1))
            .or_default();
        wishes.insert(NetworkId("office".to_owned()), Some(wish));
        town.settle();
        let spec = &town.container("shop-web-1").record.spec;
        assert_eq!(spec.attachments[1].v4.ip().to_string(), address);
        assert_eq!(spec.attachments.len(), 2);
    }
}

#[test]
fn a_site_joins_a_network_that_was_made_by_hand_and_waits_for_one_that_was_not() {
    let text = "name: shop\ncontainers: { web: { image: 'shop:1', networks: [lan] } }\nnetworks: { lan: { external: true, name: office } }\n";
    let mut town = Town::new();
    town.up(text).step();
    let plan = town.plan();
    let standing = plan.standing.values().next().unwrap();
    assert_eq!(
        standing.failed[0].1,
        "network `office` doesn't exist; `linkspan network create office` makes it"
    );
    by_hand(&mut town, "office", Network::default());
    check(
        &town.settle(),
        &expect![[r#"
        --- 1
        network office 10.0.2.0/24
        start shop-web-1 shop:1 at 10.0.2.3
        serve shop/web from [] coming
    "#]],
    );
    town.desired.projects.clear();
    let told = town.settle();
    assert!(
        !told.contains("drop network"),
        "what was made by hand is removed by hand: {told}"
    );
}

#[test]
fn the_default_route_goes_by_priority_and_never_by_an_internal_network() {
    let text = "name: shop\ncontainers: { web: { image: 'shop:1', networks: { a: {}, b: {}, c: { gw_priority: 5 }, d: { gw_priority: 9 } } } }\nnetworks: { a: { internal: true }, b: {}, c: {}, d: { internal: true } }\n";
    let mut town = Town::new();
    town.up(text).settle();
    let spec = &town.container("shop-web-1").record.spec;
    let ways: Vec<_> = spec
        .attachments
        .iter()
        .map(|link| {
            (
                link.network.0.as_str(),
                link.gateway4.is_some(),
                link.gateway6.is_some(),
                link.resolver,
            )
        })
        .collect();
    assert_eq!(
        ways,
        [
            ("shop_a", false, false, true),
            ("shop_b", false, false, false),
            ("shop_c", true, true, false),
            ("shop_d", false, false, false)
        ]
    );
}

#[test]
fn an_address_that_is_written_down_is_kept_for_whom_it_is() {
    let text = "name: shop\ncontainers:\n  early: { image: 'shop:1', replicas: 3 }\n  late: { image: 'shop:1', depends_on: [early], networks: { default: { ipv4_address: 10.9.0.4 } } }\nnetworks: { default: { subnet: 10.9.0.0/24 } }\n";
    let mut town = Town::new();
    check(
        &town.up(text).settle(),
        &expect![[r#"
            --- 1
            network shop_default 10.9.0.0/24
            start shop-early-1 shop:1 at 10.9.0.2
            start shop-early-2 shop:1 at 10.9.0.3
            start shop-early-3 shop:1 at 10.9.0.5
            serve shop/early from [] coming
            serve shop/late from [] coming
            --- 2
            start shop-late-1 shop:1 at 10.9.0.4
            serve shop/early from [10.9.0.2, 10.9.0.3, 10.9.0.5]
            serve shop/late from [] coming
        "#]],
    );
}

#[test]
fn a_container_in_anothers_network_follows_it() {
    let text = "name: shop\ncontainers:\n  web: { image: 'shop:1' }\n  probe: { image: 'db:1', network_mode: 'container:web' }\n";
    let mut town = Town::new();
    let came_up = town.up(text).settle();
    let replaced = town.up(&text.replace("shop:1", "shop:2")).settle();
    let (web, probe) = (
        town.container("shop-web-1").record.spec.clone(),
        town.container("shop-probe-1").record.spec.clone(),
    );
    assert_eq!(probe.network, NetworkNamespace::Container(web.id));
    assert_eq!((probe.ids, probe.addresses), (web.ids, web.addresses));
    claim(&mut town, "10.0.2.0/24", "route via `tun0`");
    town.settle();
    assert_eq!(
        town.container("shop-probe-1").record.spec.addresses[0].to_string(),
        "10.0.3.4"
    );
    check(
        &format!("{came_up}======\n{replaced}"),
        &expect![[r#"
        --- 1
        network shop_default 10.0.2.0/24
        start shop-web-1 shop:1 at 10.0.2.3
        serve shop/probe from [] coming
        serve shop/web from [] coming
        --- 2
        start shop-probe-1 db:1 at 
        serve shop/probe from [] coming
        serve shop/web from [10.0.2.3]
        ======
        --- 1
        start shop-web-1 shop:2 at 10.0.2.4
        serve shop/probe from [10.0.2.3]
        serve shop/web from [10.0.2.3] coming
        --- 2
        start shop-probe-1 db:1 at 
        stop shop-web-1 shop:1 at 10.0.2.3
        serve shop/probe from [10.0.2.3] coming
        serve shop/web from [10.0.2.4]
        --- 3
        stop shop-probe-1 db:1 at 
        remove shop-web-1 shop:1 at 10.0.2.3
        serve shop/probe from [10.0.2.4]
        serve shop/web from [10.0.2.4]
        --- 4
        remove shop-probe-1 db:1 at 
        serve shop/probe from [10.0.2.4]
        serve shop/web from [10.0.2.4]
    "#]],
    );
}

#[test]
fn on_the_hosts_network_nothing_of_it_is_set() {
    let text = "name: shop\ncontainers: { web: { image: 'shop:1', network_mode: host }, shut: { image: 'shop:1', network_mode: none } }\n";
    let mut town = Town::new();
    town.up(text).settle();
    let host = town.container("shop-web-1").record.spec.clone();
    assert_eq!((host.network, host.sysctls.len()), (NetworkNamespace::Host, 0));
    let shut = town.container("shop-shut-1").record.spec.clone();
    assert_eq!((shut.network, shut.attachments), (NetworkNamespace::Own, vec![]));
}

#[test]
fn conflicts_say_what_they_are_about() {
    let conflict = Conflict {
        network: NetworkId("shop_default".to_owned()),
        range: "10.0.2.0/24".parse().unwrap(),
        claim: Claim {
            range: "10.0.0.0/8".parse().unwrap(),
            source: "route via `tun0`".to_owned(),
        },
        moved_to: None,
        stays: Some("`on_conflict: report`".to_owned()),
    };
    assert_eq!(OnConflict::default(), OnConflict::Move);
    assert_eq!(
        conflict.words(),
        "its range 10.0.2.0/24 is also route via `tun0` (10.0.0.0/8); it stays: `on_conflict: report`"
    );
}

/// What happens to a town of which somebody else wants a part.
#[derive(Debug, Clone)]
enum Event {
    Up(usize, u32),
    Down(usize),
    Claim(u8),
    Unclaim,
    ByHand(usize),
    RemoveByHand(usize),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (0..3_usize, 1..4_u32).prop_map(|(project, replicas)| Event::Up(project, replicas)),
        (0..3_usize).prop_map(Event::Down),
        (0..16_u8).prop_map(Event::Claim),
        Just(Event::Unclaim),
        (0..2_usize).prop_map(Event::ByHand),
        (0..2_usize).prop_map(Event::RemoveByHand),
    ]
}

fn happens(town: &mut Town, event: &Event) {
    let (projects, networks) = (["a", "b", "c"], ["x", "y"]);
    match event {
        Event::Up(project, replicas) => {
            let text = format!(
                "name: {}\ncontainers: {{ web: {{ image: 'shop:1', replicas: {replicas} }} }}\n",
                projects[*project]
            );
            town.up(&text);
        }
        Event::Down(project) => drop(town.desired.projects.remove(projects[*project])),
        Event::Claim(block) => claim(town, &format!("10.0.{block}.0/24"), "somebody"),
        Event::Unclaim => town
            .observed
            .claims
            .truncate(town.observed.claims.len().saturating_sub(1)),
        Event::ByHand(network) => by_hand(town, networks[*network], Network::default()),
        Event::RemoveByHand(network) => drop(town.desired.networks.remove(networks[*network])),
    }
    // At most four blocks are claimed at a time, so that there is always room for five networks.
    let excess = town.observed.claims.len().saturating_sub(4);
    town.observed.claims.drain(..excess);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever others claim and give up while networks come and go: every network ends up clear of all claims and of each
    /// other, every container has one address on each of its networks and lies in it, nothing is replaced by a move, and
    /// at the end nothing is left.
    #[test]
    fn networks_keep_clear_of_claims_and_of_each_other(history in prop::collection::vec(event(), 1..16)) {
        let mut town = Town::new();
        town.settings.pools[0].base = "10.0.0.0/20".parse().unwrap();
        for event in &history {
            let before: BTreeSet<_> = town.observed.containers.keys().cloned().collect();
            happens(&mut town, event);
            let told = town.settle();
            if matches!(event, Event::Claim(_)) {
                let after: BTreeSet<_> = town.observed.containers.keys().cloned().collect();
                prop_assert_eq!(before, after, "{}", told);
            }
            let ranges: Vec<IpNetwork> = town
                .leases
                .networks
                .values()
                .flat_map(|lease| [Some(lease.v4.into()), lease.v6.map(IpNetwork::V6)])
                .flatten()
                .collect();
            for (index, one) in ranges.iter().enumerate() {
                prop_assert!(town.observed.claims.iter().all(|claim| !overlaps(*one, claim.range)), "{}", told);
                prop_assert!(ranges[..index].iter().all(|other| !overlaps(*one, *other)), "{}", told);
            }
            for seen in town.observed.containers.values() {
                for link in &seen.record.spec.attachments {
                    let lease = &town.leases.networks[&link.bridge];
                    prop_assert!(lease.v4.contains(link.v4.ip()));
                    prop_assert!(lease.v6.unwrap().contains(link.v6.unwrap().ip()));
                    prop_assert_eq!(town.leases.addresses[&link.bridge][&seen.record.spec.id].v4, link.v4.ip());
                }
            }
            prop_assert_eq!(town.plan(), town.plan());
            town.now_ms += 71_000;
            town.settle();
            prop_assert!(town.leases.networks.values().all(|lease| lease.retiring.is_empty()));
        }
        town.desired.projects.clear();
        town.desired.networks.clear();
        town.settle();
        prop_assert!(town.observed.containers.is_empty() && town.observed.bridges.is_empty());
        prop_assert!(town.leases.networks.is_empty() && town.leases.addresses.values().all(|held| held.is_empty()));
        prop_assert_eq!(town.plan().firewall, Firewall::default());
    }
}

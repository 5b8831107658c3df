//! Whole histories of containers, as golden files.

use std::collections::BTreeSet;

use expect_test::{Expect, expect};
use ipnetwork::IpNetwork;
use linkspan_site::ProjectName;
use proptest::prelude::*;

use self::town::{Town, site, slot};
use super::*;

mod lans;
mod members;
mod networks;
mod preview;
pub(crate) mod town;

fn check(actual: &str, expected: &Expect) {
    expected.assert_eq(actual);
}

pub(crate) const SHOP: &str =
    "name: shop\nroutes: { shop.test: 'web:80' }\ncontainers: { web: { image: 'shop:1' } }\n";

#[test]
fn a_site_comes_up_in_one_plan_and_then_nothing_is_left_to_do() {
    let mut town = Town::new();
    let told = town.up(SHOP).settle();
    check(
        &told,
        &expect![[r#"
        --- 1
        network shop_default 10.0.2.0/24
        start shop-web-1 shop:1 at 10.0.2.3
        serve shop/web from [] coming
    "#]],
    );
    assert!(town.plan().published.services["shop/web"].endpoints.len() == 1);
}

#[test]
fn a_new_image_runs_and_serves_before_the_old_one_is_stopped() {
    let mut town = Town::new();
    town.up(SHOP).settle();
    let told = town.up(&SHOP.replace("shop:1", "shop:2")).settle();
    check(
        &told,
        &expect![[r#"
        --- 1
        start shop-web-1 shop:2 at 10.0.2.4
        serve shop/web from [10.0.2.3] coming
        --- 2
        stop shop-web-1 shop:1 at 10.0.2.3
        serve shop/web from [10.0.2.4]
        --- 3
        remove shop-web-1 shop:1 at 10.0.2.3
        serve shop/web from [10.0.2.4]
        --- 4
        serve shop/web from [10.0.2.4]
    "#]],
    );
}

#[test]
fn a_container_that_writes_to_a_volume_is_stopped_before_its_successor_starts() {
    let text =
        "name: shop\ncontainers: { db: { image: 'db:1', volumes: ['data:/d'] } }\nvolumes: { data: {} }\n";
    let mut town = Town::new();
    town.up(text).settle();
    let told = town.up(&text.replace("db:1", "shop:1")).settle();
    check(
        &told,
        &expect![[r#"
            --- 1
            stop shop-db-1 db:1 at 10.0.2.3
            serve shop/db from [] coming
            --- 2
            remove shop-db-1 db:1 at 10.0.2.3
            serve shop/db from [] coming
            --- 3
            start shop-db-1 shop:1 at 10.0.2.4
            serve shop/db from [] coming
        "#]],
    );
}

#[test]
fn scaling_touches_only_what_is_added_or_taken() {
    let mut town = Town::new();
    let scaled = |count: u32| {
        format!(
            "name: shop\nroutes: {{ shop.test: 'web:80' }}\ncontainers: {{ web: {{ image: 'shop:1', replicas: {count} }} }}\n"
        )
    };
    town.up(&scaled(1)).settle();
    let told = format!(
        "{}======\n{}",
        town.up(&scaled(3)).settle(),
        town.up(&scaled(1)).settle()
    );
    check(
        &told,
        &expect![[r#"
        --- 1
        start shop-web-2 shop:1 at 10.0.2.4
        start shop-web-3 shop:1 at 10.0.2.5
        serve shop/web from [10.0.2.3] coming
        ======
        --- 1
        stop shop-web-2 shop:1 at 10.0.2.4
        stop shop-web-3 shop:1 at 10.0.2.5
        serve shop/web from [10.0.2.3]
        --- 2
        remove shop-web-2 shop:1 at 10.0.2.4
        remove shop-web-3 shop:1 at 10.0.2.5
        serve shop/web from [10.0.2.3]
        --- 3
        serve shop/web from [10.0.2.3]
    "#]],
    );
}

#[test]
fn a_renumbered_network_is_made_beside_the_old_one_and_containers_move_without_a_gap() {
    let mut town = Town::new();
    town.up(SHOP).settle();
    let told = town
        .up(&format!(
            "{SHOP}networks: {{ default: {{ subnet: 10.9.0.0/24 }} }}\n"
        ))
        .settle();
    check(
        &told,
        &expect![[r#"
            --- 1
            network shop_default 10.9.0.0/24
            start shop-web-1 shop:1 at 10.9.0.2
            serve shop/web from [10.0.2.3] coming
            --- 2
            stop shop-web-1 shop:1 at 10.0.2.3
            serve shop/web from [10.9.0.2]
            --- 3
            remove shop-web-1 shop:1 at 10.0.2.3
            serve shop/web from [10.9.0.2]
            --- 4
            serve shop/web from [10.9.0.2]
            drop network shop_default
        "#]],
    );
}

#[test]
fn a_dead_container_is_started_at_once_and_requests_wait_for_it() {
    let mut town = Town::new();
    town.up(SHOP).settle();
    town.now_ms += 60_000;
    town.dies("shop-web-1", 137);
    let told = town.step();
    check(
        &told,
        &expect![[r#"
        start shop-web-1 shop:1 at 10.0.2.3
        serve shop/web from [] coming
    "#]],
    );
}

#[test]
fn a_container_that_keeps_dying_has_to_wait_longer_each_time() {
    let mut town = Town::new();
    town.up(SHOP).settle();
    let mut waits = Vec::new();
    for _ in 0..14 {
        town.dies("shop-web-1", 1);
        let plan = town.plan();
        let wait = plan.wake_ms.map_or(0, |at| at - town.now_ms);
        waits.push(wait);
        if wait > 30_000 {
            let service = &plan.published.services["shop/web"];
            assert!(
                !service.coming,
                "a request isn't held for longer than it may wait"
            );
            assert!(
                service
                    .reason
                    .as_ref()
                    .unwrap()
                    .contains("exited with status 1; next start in")
            );
        }
        town.now_ms += wait;
        town.step();
        town.now_ms -= 1_000;
    }
    assert_eq!(
        waits,
        [
            0, 100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000, 60000, 60000
        ]
    );
    let failed = &town.plan().standing[&"shop".parse::<ProjectName>().unwrap()];
    assert!(failed.ready == 1, "it runs again for the moment");
}

#[test]
fn what_was_stopped_by_hand_stays_stopped_and_says_so() {
    let mut town = Town::new();
    town.up(SHOP).settle();
    town.desired
        .held_back
        .insert(slot("shop", "web", 1), HeldBack::Stopped);
    let told = town.settle();
    check(
        &told,
        &expect![[r#"
        --- 1
        stop shop-web-1 shop:1 at 10.0.2.3
        serve shop/web from [] (stopped)
    "#]],
    );
}

#[test]
fn a_restart_drains_stops_and_starts_the_same_container_at_the_same_address() {
    let mut town = Town::new();
    town.up(SHOP).settle();
    town.desired.restarts.insert(slot("shop", "web", 1), 1);
    let told = town.settle();
    check(
        &told,
        &expect![[r#"
        --- 1
        stop shop-web-1 shop:1 at 10.0.2.3
        serve shop/web from [] coming
        --- 2
        start shop-web-1 shop:1 at 10.0.2.3
        serve shop/web from [] coming
    "#]],
    );
}

#[test]
fn while_a_job_is_under_way_no_other_is_begun_for_its_slot() {
    let mut town = Town::new();
    town.up(SHOP).settle();
    town.desired.restarts.insert(slot("shop", "web", 1), 1);
    let jobs = town.plan().jobs;
    assert!(
        matches!(jobs.as_slice(), [Job::Stop { drain: true, .. }]),
        "{jobs:?}"
    );
    town.container("shop-web-1").busy = jobs.first().cloned();
    let plan = town.plan();
    assert!(plan.jobs.is_empty(), "{:?}", plan.jobs);
    let service = &plan.published.services["shop/web"];
    assert!(
        service.endpoints.is_empty() && service.coming,
        "requests are held meanwhile"
    );
}

#[test]
fn a_bind_keeps_what_the_file_allows_it() {
    let mut town = Town::new();
    town.up("name: shop\ncontainers: { web: { image: 'shop:1', volumes: ['/srv/a:/a', { type: bind, source: /etc, target: /b, allow_host_path: true }] } }\n");
    town.settle();
    let mounts = &town.container("shop-web-1").record.spec.mounts;
    let allowed: Vec<_> = mounts
        .iter()
        .map(|mount| (mount.target.as_str(), mount.allow_host_path))
        .collect();
    assert_eq!(allowed, [("/a", false), ("/b", true)]);
    let text = serde_json::to_string(&mounts[0]).unwrap();
    assert!(
        !text.contains("allow_host_path"),
        "nothing that was made before gets another id: {text}"
    );
}

#[test]
fn another_takes_the_place_of_a_container_that_was_thrown_away() {
    let mut town = Town::new();
    town.up(SHOP).settle();
    let id = town.container("shop-web-1").record.spec.id.clone();
    town.desired.discarded.insert(id);
    let told = town.settle();
    check(
        &told,
        &expect![[r#"
        --- 1
        remove shop-web-1 shop:1 at 10.0.2.3
        start shop-web-1 shop:1 at 10.0.2.4
        serve shop/web from [] coming
        --- 2
        serve shop/web from [10.0.2.4]
    "#]],
    );
}

#[test]
fn a_dependency_is_started_first() {
    let mut town = Town::new();
    let told = town
        .up("name: shop\ncontainers: { web: { image: 'shop:1', depends_on: [db] }, db: { image: 'db:1' } }\n")
        .settle();
    check(
        &told,
        &expect![[r#"
        --- 1
        network shop_default 10.0.2.0/24
        start shop-db-1 db:1 at 10.0.2.3
        serve shop/db from [] coming
        serve shop/web from [] coming
        --- 2
        start shop-web-1 shop:1 at 10.0.2.4
        serve shop/db from [10.0.2.3]
        serve shop/web from [] coming
    "#]],
    );
}

#[test]
fn after_a_reboot_everything_declared_comes_back_as_it_was() {
    let mut town = Town::new();
    town.up(SHOP).settle();
    let before: Vec<_> = town
        .observed
        .containers
        .values()
        .map(|seen| seen.record.spec.clone())
        .collect();
    town.observed.bridges.clear();
    town.observed.links.clear();
    for seen in town.observed.containers.values_mut() {
        std::sync::Arc::make_mut(seen).run = Run::Absent;
    }
    let told = town.settle();
    check(
        &told,
        &expect![[r#"
        --- 1
        network shop_default 10.0.2.0/24
        start shop-web-1 shop:1 at 10.0.2.3
        serve shop/web from [] coming
    "#]],
    );
    let after: Vec<_> = town
        .observed
        .containers
        .values()
        .map(|seen| seen.record.spec.clone())
        .collect();
    assert_eq!(before, after);
}

#[test]
fn down_leaves_neither_containers_nor_networks_nor_promises() {
    let mut town = Town::new();
    town.up(SHOP).settle();
    town.desired.projects.clear();
    town.settle();
    assert!(town.observed.containers.is_empty() && town.observed.bridges.is_empty());
    assert!(
        town.leases.networks.is_empty() && town.leases.ids.is_empty() && town.leases.addresses.is_empty()
    );
    let plan = town.plan();
    assert_eq!(plan.firewall, Firewall::default());
    assert!(plan.ports.is_empty());
}

#[test]
fn a_bridge_or_link_that_somebody_removed_is_put_back() {
    let mut town = Town::new();
    town.up(SHOP).settle();
    town.observed.bridges.clear();
    let told = town.step();
    assert!(
        told.contains("network shop_default") && told.contains("attach shop-web-1"),
        "{told}"
    );
    town.observed.links.clear();
    assert!(town.step().contains("attach shop-web-1"));
}

#[test]
fn a_link_that_lacks_something_inside_is_attached_again_and_no_other() {
    let mut town = Town::new();
    town.up(SHOP).settle();
    let link = town.container("shop-web-1").record.spec.attachments[0]
        .host_link
        .clone();
    town.observed.damaged_links.insert(link);
    let jobs = town.plan().jobs;
    let id = town.container("shop-web-1").record.spec.id.clone();
    assert_eq!(jobs, [Job::Attach { id }]);
    town.observed.damaged_links.clear();
    assert!(town.plan().is_empty());
}

#[test]
fn a_hostname_and_a_host_port_have_one_owner() {
    let mut town = Town::new();
    let text = "name: one\nroutes: { a.test: 'web:80' }\ncontainers: { web: { image: 'shop:1', ports: ['8080:80'] } }\n";
    town.up(text).settle();
    let other = site(&text.replace("name: one", "name: two"));
    let world = World {
        desired: &town.desired,
        observed: &town.observed,
        leases: &town.leases,
        settings: &town.settings,
        now_ms: 0,
    };
    let refusals: Vec<String> = admit(&other, &world).iter().map(ToString::to_string).collect();
    check(
        &refusals.join("\n"),
        &expect![[r#"
        route `a.test` is held by project `one`; take it down there first, or choose another hostname
        container `web` publishes 127.0.0.1:8080, which project `one` holds; choose another host port"#]],
    );
    assert!(
        admit(&site(text), &world).is_empty(),
        "a site may be brought up again"
    );
}

#[test]
fn a_subnet_that_the_host_uses_is_refused_and_told_with_whom() {
    let mut town = Town::new();
    town.observed.claims.push(Claim {
        range: "10.8.0.0/16".parse().unwrap(),
        source: "route via tun0".to_owned(),
    });
    let site = site(&format!(
        "{SHOP}networks: {{ default: {{ subnet: 10.8.1.0/24 }} }}\n"
    ));
    let world = World {
        desired: &town.desired,
        observed: &town.observed,
        leases: &town.leases,
        settings: &town.settings,
        now_ms: 0,
    };
    let refusals: Vec<String> = admit(&site, &world).iter().map(ToString::to_string).collect();
    check(
        &refusals.join("\n"),
        &expect![
            "network `shop_default`: subnet 10.8.1.0/24 overlaps 10.8.0.0/16 (route via tun0); choose another `subnet:` or leave it out"
        ],
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever is brought up, changed and taken down in whatever order: it settles, nobody shares an address or an id
    /// range, no network meets a claim, and at the end nothing is left.
    #[test]
    fn any_history_settles_without_collisions(history in prop::collection::vec((0..3_usize, 0..4_u32, 0..2_usize), 1..12)) {
        let mut town = Town::new();
        town.observed.claims.push(Claim { range: "10.0.1.0/24".parse().unwrap(), source: "a LAN".to_owned() });
        for (project, replicas, image) in history {
            let name = ["a", "b", "c"][project];
            if replicas == 0 {
                town.desired.projects.remove(name);
            } else {
                let image = ["shop:1", "shop:2"][image];
                town.up(&format!("name: {name}\ncontainers: {{ web: {{ image: '{image}', replicas: {replicas} }} }}\n"));
            }
            town.settle();
            let nets: Vec<_> = town.leases.networks.values().map(|lease| IpNetwork::V4(lease.v4)).collect();
            for (index, one) in nets.iter().enumerate() {
                prop_assert!(!overlaps(*one, town.observed.claims[0].range));
                prop_assert!(nets[..index].iter().all(|other| !overlaps(*one, *other)));
            }
            let specs: Vec<_> = town.observed.containers.values().map(|seen| &seen.record.spec).collect();
            let addresses: BTreeSet<_> = specs.iter().flat_map(|spec| &spec.addresses).collect();
            prop_assert_eq!(addresses.len(), specs.iter().map(|spec| spec.addresses.len()).sum::<usize>());
            let ids: BTreeSet<_> = specs.iter().map(|spec| spec.ids).collect();
            prop_assert_eq!(ids.len(), specs.len());
            prop_assert_eq!(town.plan(), town.plan());
        }
        town.desired.projects.clear();
        town.settle();
        prop_assert!(town.observed.containers.is_empty() && town.observed.bridges.is_empty());
    }
}

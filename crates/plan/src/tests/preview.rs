//! What `linkspan plan` tells of a file.

use std::fmt::Write;

use expect_test::{Expect, expect};

use super::check;
use super::town::{Town, site, slot};
use crate::*;

#[expect(clippy::needless_pass_by_value, reason = "`expect!` makes values")]
fn previewed(town: &Town, text: &str, expected: Expect) {
    let site = site(text);
    let mut changes = diff(
        town.desired.projects.get(&site.name).map(AsRef::as_ref),
        Some(&site),
    );
    let mut desired = town.desired.clone();
    desired.projects.insert(site.name.clone(), site.clone().into());
    let world = World {
        desired: &desired,
        observed: &town.observed,
        leases: &town.leases,
        settings: &town.settings,
        now_ms: town.now_ms,
    };
    tell_replaced(&mut changes, &site, &world);
    let mut told = String::new();
    for Change {
        sign,
        kind,
        name,
        detail,
    } in changes
    {
        writeln!(told, "{sign:?} {kind} {name}: {detail}").unwrap();
    }
    expected.assert_eq(&told);
}

const TOWN: &str = "name: shop
containers:
  web: { image: 'shop:1', replicas: 2, networks: [front, back] }
  db: { image: 'db:1', networks: [back] }
  probe: { image: 'db:1', network_mode: 'container:db' }
  lone: { image: 'db:1' }
networks:
  front: {}
  back: { internal: true, subnet: 10.9.0.0/24 }
";

#[test]
fn everything_about_a_network_that_changes_is_told_with_whom_it_replaces() {
    let mut town = Town::new();
    town.up(TOWN).settle();
    previewed(&town, TOWN, expect![[""]]);
    // What changes under those who are on it replaces nobody.
    let live = TOWN.replace(
        "front: {}",
        "front: { isolated: true, mtu: 1400, on_conflict: report, labels: { a: b } }",
    );
    previewed(
        &town,
        &live,
        expect![[r#"
        Change network front: isolated: false → true, mtu: that of the way out → 1400, on_conflict: move → report, changed: labels
    "#]],
    );
    let anew = TOWN.replace("10.9.0.0/24", "10.9.1.0/24, gateway: 10.9.1.9");
    previewed(
        &town,
        &anew,
        expect![[r#"
        Change network back: subnet: 10.9.0.0/24 → 10.9.1.0/24, gateway: the first address → 10.9.1.9
        Change container db: it is replaced: its network `back` is made anew
        Change container probe: it is replaced: so is `db`, whose network it shares
        Change container web: 2 of 2 are replaced: its network `back` is made anew
    "#]],
    );
    let outward = TOWN.replace("internal: true, ", "ipv6: false, ");
    previewed(
        &town,
        &outward,
        expect![[r#"
        Change network back: ipv6: true → false, internal: true → false
        Change container db: it is replaced: its network `back` is made anew
        Change container probe: it is replaced: so is `db`, whose network it shares
        Change container web: 2 of 2 are replaced: its network `back` is made anew
    "#]],
    );
    let lan = TOWN.replace(
        "front: {}",
        "front: { driver: macvlan, driver_opts: { parent: eth0, macvlan_mode: vepa }, subnet: 192.0.2.0/24 }",
    );
    previewed(
        &town,
        &lan,
        expect![[r#"
        Change network front: driver: bridge → macvlan on `eth0` (vepa), subnet: chosen → 192.0.2.0/24
        Change container web: 2 of 2 are replaced: its network `front` is made anew
    "#]],
    );
    let elsewhere = TOWN.replace("front: {}", "front: { external: true, name: office }");
    town.desired
        .networks
        .insert("office".parse().unwrap(), linkspan_site::Network::default());
    previewed(
        &town,
        &elsewhere,
        expect![[r#"
        Change network front: of this file → `office`, made by hand
        Change container web: 2 of 2 are replaced: its network `front` is made anew
    "#]],
    );
    // The image and the networks of one at once.
    let both = anew.replace("'db:1', networks", "'shop:2', networks");
    previewed(
        &town,
        &both,
        expect![[r#"
        Change network back: subnet: 10.9.0.0/24 → 10.9.1.0/24, gateway: the first address → 10.9.1.9
        Change container db: image: db:1 → shop:2; it is replaced
        Change container probe: it is replaced: so is `db`, whose network it shares
        Change container web: 2 of 2 are replaced: its network `back` is made anew
    "#]],
    );
    let mut empty = Town::new();
    empty.up("name: other\ncontainers: { a: { image: 'db:1' } }\n");
    previewed(
        &empty,
        TOWN,
        expect![[r#"
        Add network back: 10.9.0.0/24, internal
        Add network default: 
        Add network front: 
        Add container db: 1 × db:1
        Add container lone: 1 × db:1
        Add container probe: 1 × db:1
        Add container web: 2 × shop:1
    "#]],
    );
}

#[test]
fn who_waits_says_for_whom() {
    let mut town = Town::new();
    town.up(TOWN).settle();
    let waiting = |town: &Town| {
        let plan = town.plan();
        let all = plan
            .standing
            .values()
            .flat_map(|standing| standing.waiting.clone());
        all.map(|(who, what)| format!("{who} waits for {what}\n"))
            .collect::<String>()
    };
    assert_eq!(waiting(&town), "");
    town.desired
        .held_back
        .insert(slot("shop", "db", 1), HeldBack::Stopped);
    town.settle();
    check(
        &waiting(&town),
        &expect![[r#"
        shop-probe-1 waits for `shop-db-1`, whose network it shares: it was stopped; `linkspan start shop-db-1` starts it
    "#]],
    );
    let text = "name: shop\ncontainers: { web: { image: 'shop:1', depends_on: { db: { condition: service_healthy } } }, db: { image: 'db:1' } }\n";
    let mut town = Town::new();
    town.up(text).step();
    if let Run::Running { ready, .. } = &mut town.container("shop-db-1").run {
        *ready = false;
    }
    check(
        &waiting(&town),
        &expect![[r#"
        shop-web-1 waits for `shop-db-1` to be healthy
    "#]],
    );
}

#[test]
fn an_mtu_that_is_written_no_more_is_that_of_the_way_out_again() {
    let text = |mtu: &str| super::SHOP.to_owned() + &format!("networks: {{ default: {{ {mtu} }} }}\n");
    let mut town = Town::new();
    let mtu = |town: &mut Town| {
        town.settle();
        town.container("shop-web-1").record.spec.attachments[0].mtu
    };
    town.up(&text("mtu: 1400"));
    assert_eq!(mtu(&mut town), 1400);
    town.up(&text(""));
    assert_eq!(mtu(&mut town), 1500);
    town.observed.mtu = 1300;
    assert_eq!(mtu(&mut town), 1500, "it doesn't follow every VPN");
}

#[test]
fn what_is_off_for_the_whole_host_is_turned_on_once_and_damages_nobody() {
    let mut town = Town::new();
    for name in ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"] {
        town.observed.turned_off.insert(name.to_owned());
    }
    assert!(town.plan().parameters.is_empty(), "nobody needs it");
    town.up(TOWN);
    assert_eq!(town.plan().parameters.len(), 2);
    town.step();
    let plan = town.plan();
    assert_eq!(
        (plan.parameters.len(), plan.networks.len(), plan.jobs.len()),
        (2, 0, 1)
    );
}

#[test]
fn what_was_done_by_hand_is_told_where_the_file_says_otherwise() {
    let mut town = Town::new();
    let wishes = town.desired.connections.entry(slot("shop", "db", 1)).or_default();
    let aliased = linkspan_site::Attachment {
        aliases: vec!["x".to_owned()],
        ..linkspan_site::Attachment::default()
    };
    wishes.insert(NetworkId("shop_front".to_owned()), Some(aliased.clone()));
    wishes.insert(NetworkId("shop_back".to_owned()), None);
    wishes.insert(NetworkId("office".to_owned()), None);
    let wishes = town
        .desired
        .connections
        .entry(slot("shop", "web", 2))
        .or_default();
    wishes.insert(NetworkId("shop_front".to_owned()), Some(aliased));
    wishes.insert(
        NetworkId("shop_back".to_owned()),
        Some(linkspan_site::Attachment::default()),
    );
    // There is no third.
    let wishes = town
        .desired
        .connections
        .entry(slot("shop", "web", 3))
        .or_default();
    wishes.insert(NetworkId("shop_back".to_owned()), None);
    let told: String = forgotten(&town.desired, &site(TOWN))
        .iter()
        .map(|change| format!("{}: {}\n", change.name, change.detail))
        .collect();
    check(
        &told,
        &expect![[r#"
        shop-db-1: back to network `shop_back`, which it was taken off by hand
        shop-db-1: leaves network `shop_front`, which it was put on by hand
        shop-web-2: on network `shop_front` as its file says, not as it was put there by hand
    "#]],
    );
}

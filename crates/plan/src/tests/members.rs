//! Who may be on a network beside the others.

use expect_test::{Expect, expect};
use linkspan_site::{Attachment, MacAddress, Network};

use super::town::{Town, site, slot};
use crate::*;

/// Puts a network of this range on the host by hand.
fn office(town: &mut Town, subnet: &str) -> NetworkId {
    let network = Network {
        subnet: Some(subnet.parse().unwrap()),
        ..Network::default()
    };
    town.desired.networks.insert("office".parse().unwrap(), network);
    NetworkId("office".to_owned())
}

/// A site whose one container is on it.
fn joins(name: &str, container: &str, wish: &str) -> String {
    format!(
        "name: {name}\ncontainers: {{ web: {{ image: 'shop:1', {container}, networks: {{ lan: {{ {wish} }} }} }} }}\nnetworks: {{ lan: {{ external: true, name: office }} }}\n"
    )
}

fn world(town: &Town) -> World<'_> {
    World {
        desired: &town.desired,
        observed: &town.observed,
        leases: &town.leases,
        settings: &town.settings,
        now_ms: town.now_ms,
    }
}

#[expect(clippy::needless_pass_by_value, reason = "`expect!` makes values")]
fn refused(town: &Town, text: &str, expected: Expect) {
    let refusals = admit(&site(text), &world(town));
    let told: Vec<String> = refusals.iter().map(|refusal| format!("{refusal}\n")).collect();
    expected.assert_eq(&told.concat());
}

fn by_hand(town: &Town, slots: &[Slot], wish: &Attachment) -> String {
    let id = NetworkId("office".to_owned());
    match admit_connection(&id, slots, wish, &world(town)) {
        Ok(()) => "fine".to_owned(),
        Err(refusal) => refusal.to_string(),
    }
}

#[test]
fn a_network_that_others_are_on_too_takes_no_more_than_it_has_room_for() {
    let mut town = Town::new();
    office(&mut town, "10.9.0.0/29");
    town.up(&joins("a", "replicas: 3", "")).settle();
    refused(&town, &joins("b", "replicas: 1", ""), expect![[""]]);
    refused(
        &town,
        &joins("b", "replicas: 2", ""),
        expect![[r#"
            network `office` has room for 4 containers in 10.9.0.0/29, and 5 are to be on it: a-web-1 10.9.0.2, a-web-2 10.9.0.3, a-web-3 10.9.0.4, b-web-1, b-web-2; take some off it, or give it a larger subnet
        "#]],
    );
    // The same site again is no second one.
    refused(&town, &joins("a", "replicas: 4", ""), expect![[""]]);
    town.up("name: c\ncontainers: { db: { image: 'db:1', replicas: 2 } }\n")
        .settle();
    let both = [slot("c", "db", 1), slot("c", "db", 2)];
    assert_eq!(by_hand(&town, &both[..1], &Attachment::default()), "fine");
    let told = by_hand(&town, &both, &Attachment::default());
    assert!(
        told.contains("has room for 4") && told.contains("a-web-1 10.9.0.2"),
        "{told}"
    );
    // Who was put on it by hand counts, until it is taken off again.
    let wishes = town.desired.connections.entry(both[0].clone()).or_default();
    wishes.insert(NetworkId("office".to_owned()), Some(Attachment::default()));
    town.settle();
    refused(
        &town,
        &joins("b", "replicas: 1", ""),
        expect![[r#"
            network `office` has room for 4 containers in 10.9.0.0/29, and 5 are to be on it: a-web-1 10.9.0.2, a-web-2 10.9.0.3, a-web-3 10.9.0.4, c-db-1 10.9.0.5, b-web-1; take some off it, or give it a larger subnet
        "#]],
    );
    town.desired.connections.clear();
    refused(&town, &joins("b", "replicas: 1", ""), expect![[""]]);
}

#[test]
fn a_hardware_address_is_one_containers_on_its_network() {
    let mac = "mac_address: '02:00:00:00:00:07'";
    let mut town = Town::new();
    office(&mut town, "10.9.0.0/24");
    town.up(&joins("a", "replicas: 1", mac)).settle();
    refused(
        &town,
        &joins("b", "replicas: 1", mac),
        expect![[r#"
            container `web`: hardware address 02:00:00:00:00:07 on network `office` is held by container `a-web-1`; choose another
        "#]],
    );
    refused(&town, &joins("a", "replicas: 1", mac), expect![[""]]);
    town.up("name: c\ncontainers: { db: { image: 'db:1', replicas: 2 } }\n")
        .settle();
    let both = [slot("c", "db", 1), slot("c", "db", 2)];
    let wish = |text: &str| Attachment {
        mac_address: Some(text.parse::<MacAddress>().unwrap()),
        ..Attachment::default()
    };
    assert_eq!(
        by_hand(&town, &both[..1], &wish("02:00:00:00:00:07")),
        "hardware address 02:00:00:00:00:07 on network `office` is held by container `a-web-1`; choose another"
    );
    assert_eq!(
        by_hand(&town, &both, &wish("02:00:00:00:00:08")),
        "2 containers can't all have 02:00:00:00:00:08"
    );
    assert_eq!(by_hand(&town, &both[..1], &wish("02:00:00:00:00:08")), "fine");
    // One that Linkspan made up is somebody's too.
    town.up(&joins("d", "replicas: 1", "")).settle();
    let given = town.container("d-web-1").record.spec.attachments[0].mac;
    let told = by_hand(&town, &both[..1], &wish(&MacAddress(given).to_string()));
    assert!(
        told.ends_with("held by container `d-web-1`; choose another"),
        "{told}"
    );
}

#[test]
fn no_two_links_of_a_network_have_the_same_hardware_address() {
    let mut town = Town::new();
    let id = office(&mut town, "10.9.0.0/24");
    town.up("name: c\ncontainers: { db: { image: 'db:1', replicas: 2 } }\n")
        .settle();
    let put = |town: &mut Town, index, address: &str| {
        let wish = Attachment {
            ipv4_address: Some(address.parse().unwrap()),
            ..Attachment::default()
        };
        let wishes = town
            .desired
            .connections
            .entry(slot("c", "db", index))
            .or_default();
        wishes.insert(id.clone(), Some(wish));
        town.settle();
    };
    // What the first had at its former address is free for who has that now.
    put(&mut town, 1, "10.9.0.7");
    put(&mut town, 1, "10.9.0.8");
    put(&mut town, 2, "10.9.0.7");
    let mac = |town: &mut Town, name: &str| town.container(name).record.spec.attachments[1].mac;
    assert_ne!(mac(&mut town, "c-db-1"), mac(&mut town, "c-db-2"));
    // One that would be made up but was written down is left to whom it was written down for.
    let mut town = Town::new();
    office(&mut town, "10.9.0.0/24");
    town.up(&joins("z", "replicas: 1", "mac_address: '02:6c:0a:09:00:02'"));
    town.up(&joins("a", "replicas: 1", "")).settle();
    let link = |town: &mut Town, name: &str| town.container(name).record.spec.attachments[0].clone();
    assert_eq!(link(&mut town, "a-web-1").v4.ip().to_string(), "10.9.0.2");
    assert_ne!(link(&mut town, "a-web-1").mac, link(&mut town, "z-web-1").mac);
}

#[test]
fn an_address_on_a_network_that_was_made_by_hand_must_be_one_of_it_and_free() {
    let mut town = Town::new();
    office(&mut town, "10.9.0.0/24");
    town.up(&joins("a", "replicas: 1", "")).settle();
    for address in ["10.99.0.7", "10.9.0.255", "10.9.0.1", "10.9.0.254", "10.9.0.2"] {
        let text = joins("b", "replicas: 1", &format!("ipv4_address: {address}"));
        assert_eq!(admit(&site(&text), &world(&town)).len(), 1, "{address}");
    }
    refused(
        &town,
        &joins("b", "replicas: 1", "ipv4_address: 10.9.0.2"),
        expect![[r#"
            container `web`: address 10.9.0.2 on network `office` is held by container `a-web-1`; choose another
        "#]],
    );
    refused(
        &town,
        &joins("b", "replicas: 1", "ipv4_address: 10.9.0.3"),
        expect![[""]],
    );
    // It may write down what it has.
    refused(
        &town,
        &joins("a", "replicas: 1", "ipv4_address: 10.9.0.2"),
        expect![[""]],
    );
    town.desired
        .networks
        .insert("office".parse().unwrap(), Network::default());
    refused(
        &town,
        &joins("b", "replicas: 1", "ipv4_address: 10.0.2.9"),
        expect![[r#"
            container `web`: network `office` chose its range itself and may move, so nobody on it can have a fixed address; make it with `--subnet`
        "#]],
    );
}

#[test]
fn a_network_that_is_not_there_is_not_one_without_room() {
    let nobody = ContainerId("0123456789abcdef".to_owned());
    let error = Leases::default().new_address("ls-b00000001", &nobody, None, None, None);
    assert_eq!(
        error.unwrap_err().to_string(),
        "the network of bridge `ls-b00000001` isn't there yet, so nobody can have an address on it"
    );
}

#[test]
fn the_resolver_is_known_at_all_its_addresses() {
    let mut town = Town::new();
    town.up(super::SHOP).settle();
    let claim = Claim {
        range: "10.0.2.0/24".parse().unwrap(),
        source: "route via `tun0`".to_owned(),
    };
    town.observed.claims.push(claim);
    town.step();
    let lease = town.leases.networks.values().next().unwrap();
    let all: Vec<String> = lease.resolvers().map(|ip| ip.to_string()).collect();
    expect![[r#"
        [
            "10.0.3.2",
            "fd00:1:2:1::ffff:53",
            "10.0.2.2",
        ]
    "#]]
    .assert_debug_eq(&all);
}

#[test]
fn there_is_an_end_to_networks() {
    let mut town = Town::new();
    for number in 0..4_096 {
        let name = format!("n{number}").parse().unwrap();
        town.desired.networks.insert(name, Network::default());
    }
    let refused = admit_network(&"more".parse().unwrap(), &Network::default(), &world(&town));
    assert_eq!(
        refused.unwrap_err().to_string(),
        "there would be 4097 networks on this host, and there may be 4096; remove some first"
    );
    town.up(super::SHOP);
    let wishes = town
        .desired
        .connections
        .entry(slot("shop", "web", 1))
        .or_default();
    wishes.extend((0..63).map(|number| (NetworkId(format!("n{number}")), Some(Attachment::default()))));
    let office = "office".parse().unwrap();
    town.desired.networks.insert(office, Network::default());
    assert_eq!(
        by_hand(&town, &[slot("shop", "web", 1)], &Attachment::default()),
        "container `shop-web-1` would be on 65 networks, and may be on 64"
    );
}

#[test]
fn a_network_without_an_address_to_spare_is_deployed_to_one_by_one() {
    let text = "name: shop\ncontainers: { web: { image: 'shop:1', replicas: 4 } }\nnetworks: { default: { subnet: 10.9.0.0/29 } }\n";
    let mut town = Town::new();
    town.up(text).settle();
    town.up(&text.replace("shop:1", "shop:2"));
    for _ in 0..40 {
        town.step();
        let serving = town.plan().published.services["shop/web"].endpoints.len();
        assert!(serving >= 3, "{serving} serve");
        let plan = town.plan();
        assert!(
            plan.standing.values().all(|standing| standing.failed.is_empty()),
            "{:?}",
            plan.standing
        );
    }
    let images: Vec<_> = town
        .observed
        .containers
        .values()
        .map(|seen| seen.record.image.clone())
        .collect();
    assert_eq!(images, ["shop:2"; 4]);
    assert!(town.plan().is_empty());
}

#[test]
fn who_has_a_written_address_hands_it_on_without_a_failure() {
    let text = "name: shop\ncontainers: { web: { image: 'shop:1', networks: { default: { ipv4_address: 10.9.0.7 } } } }\nnetworks: { default: { subnet: 10.9.0.0/24 } }\n";
    let mut town = Town::new();
    town.up(text).settle();
    town.up(&text.replace("shop:1", "shop:2"));
    for _ in 0..10 {
        let plan = town.plan();
        assert!(
            plan.standing.values().all(|standing| standing.failed.is_empty()),
            "{:?}",
            plan.standing
        );
        town.step();
    }
    let record = &town.container("shop-web-1").record;
    assert_eq!(
        (
            record.image.as_str(),
            record.spec.addresses[0].to_string().as_str()
        ),
        ("shop:2", "10.9.0.7")
    );
}

#[test]
fn of_two_ranges_of_a_network_the_wanted_one_is_current() {
    let text = |subnet: &str| {
        format!(
            "name: shop\ncontainers: {{ web: {{ image: 'shop:1', depends_on: [db] }}, db: {{ image: 'db:1' }} }}\nnetworks: {{ default: {{ subnet: {subnet} }} }}\n"
        )
    };
    let current = |town: &Town| {
        let plan = town.plan();
        let bridge = &plan.bridges[&NetworkId("shop_default".to_owned())];
        (
            plan.leases.networks[bridge].v4.to_string(),
            plan.leases.networks.len(),
        )
    };
    let mut town = Town::new();
    for subnet in ["10.9.0.0/24", "10.8.0.0/24", "10.9.0.0/24"] {
        town.up(&text(subnet)).settle();
        assert_eq!(current(&town), (subnet.to_owned(), 1));
        // Half-way through, both are there.
        let other = if subnet == "10.9.0.0/24" {
            "10.7.0.0/24"
        } else {
            "10.6.0.0/24"
        };
        town.up(&text(other)).step();
        assert_eq!(current(&town), (other.to_owned(), 2));
        // Back again before anybody has left the former one.
        town.up(&text(subnet));
        assert_eq!(current(&town), (subnet.to_owned(), 2));
    }
}

//! Containers that are on the LAN itself: macvlan and ipvlan.

use linkspan_plan::{Attachment, LanHolder, NetworkSpec};
use linkspan_site::{Driver, IpvlanMode, MacvlanMode};

use crate::rig::*;

/// Host `number` on the LAN, by a macvlan on this parent.
fn on_the_lan(number: u8, parent: &str, mode: MacvlanMode) -> Attachment {
    Attachment {
        v4: format!("192.0.2.{number}/24").parse().unwrap(),
        v6: Some(format!("2001:db8::{number}/64").parse().unwrap()),
        gateway4: Some(LAN4),
        gateway6: Some(LAN6),
        driver: Driver::Macvlan {
            parent: parent.to_owned(),
            mode,
        },
        ..attachment(1, number)
    }
}

fn ip(sandbox: &std::path::Path, words: &str) -> String {
    sh(&format!("nsenter --net={} ip {words}", sandbox.display()))
}

/// Says why not when the kernel can't make such links for anybody.
fn has(kind: &str) -> bool {
    let probe = try_sh(&format!("ip link add probe9 link uplink type {kind}"));
    if !probe.status.success() {
        let reason = String::from_utf8_lossy(&probe.stderr).trim().to_owned();
        println!("SKIP: `ip link add type {kind}` says: {reason}");
        return false;
    }
    sh("ip link del probe9");
    true
}

#[test]
fn a_container_on_a_macvlan_is_a_host_of_the_lan() {
    on_a_host(async |rig| {
        if !has("macvlan") {
            return;
        }
        let links = sh("ip -br link");
        let spec = NetworkSpec {
            driver: on_the_lan(50, "uplink", MacvlanMode::Bridge).driver,
            ..network(1)
        };
        rig.net.ensure_network(&spec).await.unwrap();
        let mut sandboxes = Vec::new();
        for number in [50, 51] {
            let name = format!("guest-{number}");
            let sandbox = rig.net.create_sandbox(&name, Some(ids(number))).await.unwrap();
            let attachment = on_the_lan(number, "uplink", MacvlanMode::Bridge);
            rig.net.attach(&name, &attachment).await.unwrap();
            sandboxes.push(sandbox.net);
        }
        let (a, b) = (&sandboxes[0], &sandboxes[1]);
        let (a4, a6) = ("192.0.2.50".parse().unwrap(), "2001:db8::50".parse().unwrap());
        let of = |ip: std::net::IpAddr| pings(&lan(), ip) && pings(b, ip);
        assert!(of(a4) && of(a6));
        assert!(pings(a, LAN4) && pings(a, LAN6));
        assert_eq!(sh("ip -br link"), links, "nothing on the host");
        let neighbour = sh("ip -n lan neigh show 192.0.2.50");
        assert!(neighbour.contains("02:4c:53:00:01:32"), "{neighbour}");
        let routes = ip(a, "route");
        assert!(routes.contains("default via 192.0.2.2 dev eth0"), "{routes}");
        assert!(
            !routes.contains("169.254.53.53"),
            "no way to the resolver: {routes}"
        );
        // A client of the LAN sees the container itself, and it sees the client.
        serve(a, "192.0.2.50".parse::<std::net::IpAddr>().unwrap(), 80);
        assert_eq!(
            ask(&lan(), "192.0.2.50".parse::<std::net::IpAddr>().unwrap(), 80).unwrap(),
            LAN4.to_string()
        );

        // Again is nothing; what is lost comes back.
        let attachment = on_the_lan(50, "uplink", MacvlanMode::Bridge);
        let before = ip(a, "addr") + &ip(a, "route") + &ip(a, "-6 route");
        rig.net.attach("guest-50", &attachment).await.unwrap();
        assert_eq!(ip(a, "addr") + &ip(a, "route") + &ip(a, "-6 route"), before);
        for damage in [
            "link del eth0",
            "link set eth0 down",
            "addr flush dev eth0 scope global",
            "route flush dev eth0",
        ] {
            ip(a, damage);
            rig.net.attach("guest-50", &attachment).await.unwrap();
            assert!(pings(a, LAN4) && pings(a, LAN6), "not repaired: {damage}");
        }

        // A network whose driver changes takes its members along, to and fro.
        rig.networks().await;
        rig.net
            .attach("guest-50", &crate::rig::attachment(1, 50))
            .await
            .unwrap();
        assert!(pings(&here(), guest4(1, 50)));
        rig.net.attach("guest-50", &attachment).await.unwrap();
        assert!(pings(&lan(), a4));
        assert!(!sh("ip -br link").contains("ls-v1-50"));

        for _ in 0..2 {
            rig.net.detach_from("guest-50", &attachment).await.unwrap();
            assert!(!ip(a, "-br link").contains("eth0"));
        }
        rig.net.remove_sandbox("guest-50").await.unwrap();
        rig.net.detach_from("guest-50", &attachment).await.unwrap();
        assert!(pings(b, LAN4));
    });
}

#[test]
fn a_container_is_taken_off_a_bridge_by_its_attachment() {
    on_a_host(async |rig| {
        rig.networks().await;
        let a = rig.guest(1, 10).await;
        for _ in 0..2 {
            rig.net.detach_from("guest-1-10", &a.attachment).await.unwrap();
            assert!(!ip(&a.netns, "-br link").contains("eth0"));
            assert!(!sh("ip -br link").contains("ls-v1-10"));
        }
    });
}

#[test]
fn members_of_a_private_macvlan_do_not_see_each_other() {
    on_a_host(async |rig| {
        if !has("macvlan") {
            return;
        }
        for number in [50, 51] {
            let name = format!("guest-{number}");
            rig.net.create_sandbox(&name, None).await.unwrap();
            let attachment = on_the_lan(number, "uplink", MacvlanMode::Private);
            rig.net.attach(&name, &attachment).await.unwrap();
        }
        let netns = |name: &str| rig.run_dir().join("ns").join(name).join("net");
        let other = std::net::Ipv4Addr::new(192, 0, 2, 51);
        assert!(pings(&netns("guest-50"), LAN4) && pings(&lan(), other));
        assert!(!pings(&netns("guest-50"), other));
        // Another mode is another link.
        for number in [50, 51] {
            let attachment = on_the_lan(number, "uplink", MacvlanMode::Bridge);
            rig.net
                .attach(&format!("guest-{number}"), &attachment)
                .await
                .unwrap();
        }
        assert!(pings(&netns("guest-50"), other));
    });
}

#[test]
fn a_macvlan_in_mode_passthru_has_its_parent_to_itself() {
    on_a_host(async |rig| {
        if !has("macvlan") {
            return;
        }
        sh("ip link add lan9 type veth peer name wire9");
        sh("ip link set wire9 up mtu 1400");
        sh("ip link set lan9 up mtu 1400");
        let attachment = on_the_lan(50, "lan9", MacvlanMode::Passthru);
        let sandbox = rig.net.create_sandbox("guest-50", None).await.unwrap();
        for _ in 0..2 {
            rig.net.attach("guest-50", &attachment).await.unwrap();
        }
        let mac = |text: &str| {
            text.split_whitespace()
                .skip_while(|word| *word != "link/ether")
                .nth(1)
                .unwrap()
                .to_owned()
        };
        let inside = ip(&sandbox.net, "link show dev eth0");
        assert_eq!(mac(&inside), mac(&sh("ip link show dev lan9")));
        assert!(inside.contains(" mtu 1400 "), "its parent's: {inside}");

        rig.net.create_sandbox("guest-51", None).await.unwrap();
        let refused = rig
            .net
            .attach("guest-51", &on_the_lan(51, "lan9", MacvlanMode::Bridge))
            .await
            .unwrap_err();
        assert_eq!(
            refused.to_string(),
            "link `lan9` cannot carry macvlan `eth0`: it is no Ethernet link, or one in mode passthru has it, or would have \
             it, to itself; choose another"
        );
    });
}

#[test]
fn a_parent_that_cannot_carry_a_container_is_named() {
    on_a_host(async |rig| {
        if !has("macvlan") {
            return;
        }
        rig.networks().await;
        let sandbox = rig.net.create_sandbox("guest-50", None).await.unwrap();
        let refused = async |attachment: Attachment| {
            let error = rig.net.attach("guest-50", &attachment).await.unwrap_err();
            assert!(
                !ip(&sandbox.net, "-br link").contains("eth0"),
                "nothing half made"
            );
            error.to_string()
        };
        let bridge = MacvlanMode::Bridge;
        assert_eq!(
            refused(on_the_lan(50, "nowhere", bridge)).await,
            "link `nowhere`, on which `eth0` should lie, does not exist; `ip link` shows those that do"
        );
        let loopback = refused(on_the_lan(50, "lo", bridge)).await;
        assert!(
            loopback.starts_with("link `lo` cannot carry macvlan `eth0`: it is no Ethernet link"),
            "{loopback}"
        );
        let port = refused(on_the_lan(50, "ls-r1", bridge)).await;
        assert!(
            port.starts_with("link `ls-r1` cannot carry macvlan `eth0`: it is a port of a bridge"),
            "{port}"
        );
    });
}

#[test]
fn two_containers_with_one_hardware_address_are_told_apart() {
    on_a_host(async |rig| {
        if !has("macvlan") {
            return;
        }
        let first = on_the_lan(50, "uplink", MacvlanMode::Bridge);
        let second = Attachment {
            mac: first.mac,
            ..on_the_lan(51, "uplink", MacvlanMode::Bridge)
        };
        rig.net.create_sandbox("guest-50", None).await.unwrap();
        rig.net.create_sandbox("guest-51", None).await.unwrap();
        rig.net.attach("guest-50", &first).await.unwrap();
        let error = rig.net.attach("guest-51", &second).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "link `uplink` cannot carry macvlan `eth0`: another link on it has the same hardware address; give the \
             container one of its own"
        );
    });
}

#[test]
fn a_cable_that_is_unplugged_keeps_no_container_from_starting() {
    on_a_host(async |rig| {
        if !has("macvlan") {
            return;
        }
        sh("ip -n lan link set eth0 down");
        let sandbox = rig.net.create_sandbox("guest-50", None).await.unwrap();
        let attachment = on_the_lan(50, "uplink", MacvlanMode::Bridge);
        rig.net.attach("guest-50", &attachment).await.unwrap();
        sh("ip -n lan link set eth0 up");
        let comes_up = (0..20).any(|_| pings(&sandbox.net, LAN4));
        assert!(comes_up);
    });
}

#[test]
fn a_container_on_an_ipvlan_is_a_host_of_the_lan() {
    on_a_host(async |rig| {
        let sandbox = rig.net.create_sandbox("guest-50", None).await.unwrap();
        let attachment = |mode| Attachment {
            driver: Driver::Ipvlan {
                parent: "uplink".to_owned(),
                mode,
            },
            ..on_the_lan(50, "uplink", MacvlanMode::Bridge)
        };
        if !has("ipvlan") {
            let error = rig
                .net
                .attach("guest-50", &attachment(IpvlanMode::L2))
                .await
                .unwrap_err();
            assert_eq!(
                error.to_string(),
                "link `uplink` cannot carry ipvlan `eth0`: this kernel has no such links; load the module or use one that \
                 has it"
            );
            return;
        }
        for _ in 0..2 {
            rig.net
                .attach("guest-50", &attachment(IpvlanMode::L2))
                .await
                .unwrap();
            assert!(pings(&sandbox.net, LAN4) && pings(&sandbox.net, LAN6));
        }
        rig.net
            .attach("guest-50", &attachment(IpvlanMode::L3))
            .await
            .unwrap();
        assert!(pings(&sandbox.net, LAN4));
        rig.net
            .detach_from("guest-50", &attachment(IpvlanMode::L3))
            .await
            .unwrap();
        assert!(!ip(&sandbox.net, "-br link").contains("eth0"));
    });
}

#[test]
fn an_address_that_somebody_on_the_lan_has_is_refused_and_remembered() {
    on_a_host(async |rig| {
        if !has("macvlan") {
            return;
        }
        let ip50: std::net::IpAddr = "192.0.2.50".parse().unwrap();
        let before = rig.net.lan("uplink").await.unwrap();
        assert_eq!(before.held.get(&ip50), None);
        sh("ip -n lan addr add 192.0.2.50/24 dev eth0");
        let sandbox = rig.net.create_sandbox("guest-50", Some(ids(50))).await.unwrap();
        let attachment = on_the_lan(50, "uplink", MacvlanMode::Bridge);
        let mac = sh("ip -n lan -br link show dev eth0");
        let mac = mac.split_whitespace().nth(2).unwrap();
        let error = rig.net.attach("guest-50", &attachment).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("address 192.0.2.50 for `eth0` is in use on the LAN: {mac} answers for it")
        );
        assert!(
            !ip(&sandbox.net, "-br link").contains("eth0"),
            "nothing half made"
        );
        let held = rig.net.lan("uplink").await.unwrap().held;
        assert_eq!(held[&ip50], LanHolder::Neighbour(mac.to_owned()));
        // Asking has put no wrong entry into anybody's table.
        assert!(!sh("ip -n lan neigh").contains("192.0.2.50"));
        sh("ip -n lan addr del 192.0.2.50/24 dev eth0");
        rig.net.attach("guest-50", &attachment).await.unwrap();
        assert!(pings(&sandbox.net, LAN4));
    });
}

#[test]
fn who_is_on_a_lan_is_known_without_asking() {
    on_a_host(async |rig| {
        sh("ip -n lan addr add 192.0.2.9/24 dev eth0");
        assert!(pings(&here(), std::net::Ipv4Addr::new(192, 0, 2, 9)));
        assert!(!pings(&here(), std::net::Ipv4Addr::new(192, 0, 2, 99)));
        rig.networks().await;
        let held = rig.net.lan("uplink").await.unwrap().held;
        let of = |text: &str| held.get(&text.parse().unwrap()).cloned();
        assert_eq!(of("192.0.2.1"), Some(LanHolder::Host("uplink".to_owned())));
        assert_eq!(of("2001:db8::1"), Some(LanHolder::Host("uplink".to_owned())));
        assert_eq!(of("10.90.1.1"), Some(LanHolder::Host("ls-b1".to_owned())));
        assert_eq!(of("192.0.2.2"), Some(LanHolder::Router));
        assert_eq!(of("2001:db8::2"), Some(LanHolder::Router));
        assert!(matches!(of("192.0.2.9"), Some(LanHolder::Neighbour(mac)) if mac.len() == 17));
        assert_eq!(of("192.0.2.99"), None, "it never answered");
        assert_eq!(rig.net.lan("nowhere").await.unwrap().held.len(), 0);
    });
}

//! Who reaches whom.

use std::time::{Duration, Instant};

use linkspan_plan::{Attachment, RESOLVER_ADDRESS};

use crate::rig::*;

#[test]
fn two_containers_on_a_network_reach_each_other_at_once() {
    on_a_host(async |rig| {
        rig.networks().await;
        let (a, b) = (rig.guest(1, 10).await, rig.guest(1, 11).await);
        // The first packet must not be lost: one ping, one second, no second try.
        assert!(pings(&a.netns, b.v4));
        assert!(pings(&a.netns, b.v6));
        assert!(pings(&here(), a.v4));
    });
}

#[test]
fn a_container_that_takes_over_an_address_is_found_at_once() {
    on_a_host(async |rig| {
        rig.networks().await;
        let (sibling, old) = (rig.guest(1, 10).await, rig.guest(1, 11).await);
        assert!(pings(&sibling.netns, old.v4) && pings(&sibling.netns, old.v6) && pings(&here(), old.v4));
        rig.net.detach(&old.attachment.host_link).await.unwrap();
        let mut attachment = old.attachment.clone();
        attachment.host_link = "ls-v1-99".to_owned();
        attachment.mac[5] = 99;
        rig.net.create_sandbox("new", None).await.unwrap();
        rig.net.attach("new", &attachment).await.unwrap();
        assert!(
            pings(&sibling.netns, old.v4),
            "its sibling remembers another hardware address"
        );
        assert!(pings(&sibling.netns, old.v6));
        assert!(pings(&here(), old.v4), "as does the host");
    });
}

#[test]
fn attaching_a_container_takes_milliseconds() {
    on_a_host(async |rig| {
        rig.networks().await;
        let (mut makings, mut attachings) = (Vec::new(), Vec::new());
        for number in 10..30 {
            let name = format!("guest-{number}");
            let start = Instant::now();
            rig.net.create_sandbox(&name, Some(ids(number))).await.unwrap();
            makings.push(start.elapsed());
            let start = Instant::now();
            rig.net.attach(&name, &attachment(1, number)).await.unwrap();
            attachings.push(start.elapsed());
        }
        makings.sort();
        attachings.sort();
        println!(
            "median of 20: make {:?}, attach {:?}",
            makings[10], attachings[10]
        );
        // Generous, for machines that are busy with other tests; alone it is a tenth of this.
        assert!(makings[10] < Duration::from_millis(300), "{makings:?}");
        assert!(attachings[10] < Duration::from_millis(300), "{attachings:?}");
    });
}

#[test]
fn a_container_reaches_the_world_with_the_hosts_address() {
    on_a_host(async |rig| {
        rig.networks().await;
        let a = rig.guest(1, 10).await;
        serve(&lan(), LAN4, 80);
        serve(&lan(), LAN6, 80);
        assert_eq!(ask(&a.netns, LAN4, 80).unwrap(), HOST4.to_string());
        assert_eq!(ask(&a.netns, LAN6, 80).unwrap(), HOST6.to_string());
    });
}

#[test]
fn containers_of_different_networks_do_not_reach_each_other() {
    on_a_host(async |rig| {
        rig.networks().await;
        let (a, b) = (rig.guest(1, 10).await, rig.guest(2, 10).await);
        serve(&b.netns, b.v4, 80);
        assert!(!pings(&a.netns, b.v4));
        assert!(!pings(&a.netns, b.v6));
        assert!(ask(&a.netns, b.v4, 80).is_err());
    });
}

#[test]
fn the_resolvers_namespace_joins_no_networks() {
    on_a_host(async |rig| {
        rig.networks().await;
        let (a, b) = (rig.guest(1, 10).await, rig.guest(2, 10).await);
        // A container that may change its own routes tries to go through the resolver's leg.
        sh(&format!(
            "nsenter --net={} ip route replace default via {}",
            a.netns.display(),
            guest4(1, 2)
        ));
        assert!(!pings(&a.netns, b.v4));
    });
}

#[test]
fn every_container_reaches_the_resolver_at_its_one_address() {
    on_a_host(async |rig| {
        rig.networks().await;
        serve(&rig.resolver(), RESOLVER_ADDRESS, 53);
        for network in [1, 3] {
            let guest = rig.guest(network, 10).await;
            assert_eq!(
                ask(&guest.netns, RESOLVER_ADDRESS, 53).unwrap(),
                guest.v4.to_string()
            );
        }
        serve(&rig.guest(1, 20).await.netns, guest4(1, 20), 80);
        assert_eq!(
            ask(&rig.resolver(), guest4(1, 20), 80).unwrap(),
            guest4(1, 2).to_string()
        );
    });
}

#[test]
fn an_internal_network_has_no_way_out() {
    on_a_host(async |rig| {
        rig.networks().await;
        let (a, sibling, other) = (
            rig.guest(3, 10).await,
            rig.guest(3, 11).await,
            rig.guest(1, 10).await,
        );
        serve(&lan(), LAN4, 80);
        serve(&here(), HOST4, 8080);
        // Even if it finds itself a default route.
        sh(&format!(
            "nsenter --net={} ip route replace default via {}",
            a.netns.display(),
            guest4(3, 1)
        ));
        sh(&format!(
            "nsenter --net={} ip -6 route replace default via {}",
            a.netns.display(),
            guest6(3, 1)
        ));
        assert!(pings(&a.netns, sibling.v4));
        assert!(pings(&a.netns, guest4(3, 1)), "its own bridge");
        assert!(!pings(&a.netns, LAN4));
        assert!(!pings(&a.netns, LAN6));
        assert!(ask(&a.netns, LAN4, 80).is_err());
        assert!(!pings(&a.netns, other.v4));
        assert!(!pings(&a.netns, HOST4), "another address of the host");
        assert!(!pings(&a.netns, HOST6), "another address of the host");
        assert!(ask(&a.netns, HOST4, 8080).is_err());
        assert!(!pings(&other.netns, a.v4), "and nobody comes in");
        // The host itself, where the data plane lives, does.
        serve(&a.netns, a.v4, 80);
        assert_eq!(ask(&here(), a.v4, 80).unwrap(), guest4(3, 1).to_string());
    });
}

#[test]
fn a_container_cannot_speak_with_a_false_source() {
    on_a_host(async |rig| {
        rig.networks().await;
        let a = rig.guest(1, 10).await;
        sh(&format!(
            "nsenter --net={} ip addr add 203.0.113.9/32 dev eth0",
            a.netns.display()
        ));
        let from_false = format!(
            "nsenter --net={} ping -c 1 -W 1 -I 203.0.113.9 {LAN4}",
            a.netns.display()
        );
        assert!(!try_sh(&from_false).status.success());
        let table = sh("nft list chain inet linkspan guard");
        let line = table
            .lines()
            .find(|line| line.contains("false source, IPv4"))
            .unwrap();
        assert!(!line.contains("packets 0 "), "{line}");
    });
}

#[test]
fn root_of_a_container_is_nobody_on_the_host_and_rules_its_own_network() {
    on_a_host(async |rig| {
        rig.networks().await;
        let a = rig.guest(1, 10).await;
        let user = a.netns.with_file_name("user");
        let enter = format!("nsenter --user={} --net={}", user.display(), a.netns.display());
        assert_eq!(
            sh(&format!("{enter} cat /proc/self/uid_map"))
                .split_whitespace()
                .collect::<Vec<_>>(),
            ["0", "1655360", "65536"]
        );
        // The network belongs to the user namespace, so its root may change it.
        sh(&format!("{enter} ip addr add 10.90.1.77/24 dev eth0"));
        assert!(pings(&here(), guest4(1, 77)));
    });
}

#[test]
fn a_container_with_the_hosts_ids_has_only_a_network_of_its_own() {
    on_a_host(async |rig| {
        rig.networks().await;
        let sandbox = rig.net.create_sandbox("plain", None).await.unwrap();
        assert_eq!(sandbox.user, None);
        assert_eq!(rig.net.create_sandbox("plain", None).await.unwrap(), sandbox);
        rig.net.attach("plain", &attachment(1, 10)).await.unwrap();
        assert!(pings(&sandbox.net, LAN4));
        assert_eq!(rig.net.sandboxes().unwrap(), ["plain".to_owned()].into());
        rig.net.remove_sandbox("plain").await.unwrap();
        rig.net.remove_sandbox("plain").await.unwrap();
        assert_eq!(rig.net.sandboxes().unwrap(), [].into());
    });
}

#[test]
fn isolated_members_reach_the_world_and_not_each_other() {
    on_a_host(async |rig| {
        rig.networks().await;
        let (a, b, open) = (
            rig.guest(1, 10).await,
            rig.guest(1, 11).await,
            rig.guest(1, 12).await,
        );
        serve(&rig.resolver(), RESOLVER_ADDRESS, 53);
        let isolated = async |isolated: bool| {
            for guest in [&a, &b] {
                let attachment = Attachment {
                    isolated,
                    ..guest.attachment.clone()
                };
                let name = format!("guest-1-{}", guest.v4.octets()[3]);
                rig.net.attach(&name, &attachment).await.unwrap();
            }
        };
        assert!(pings(&a.netns, b.v4));
        for _ in 0..2 {
            isolated(true).await;
            assert!(!pings(&a.netns, b.v4) && !pings(&b.netns, a.v6));
            for guest in [&a, &b] {
                assert!(pings(&guest.netns, LAN4) && pings(&guest.netns, LAN6));
                assert!(pings(&guest.netns, guest4(1, 1)) && pings(&here(), guest.v4));
                assert!(ask(&guest.netns, RESOLVER_ADDRESS, 53).is_ok());
                assert!(pings(&rig.resolver(), guest.v4), "the data plane");
                assert!(pings(&guest.netns, open.v4), "one that isn't isolated");
            }
            isolated(false).await;
            assert!(pings(&a.netns, b.v4) && pings(&b.netns, a.v6));
        }
        // One that is isolated from the start never is not.
        let attachment = Attachment {
            isolated: true,
            ..attachment(1, 20)
        };
        isolated(true).await;
        let sandbox = rig.net.create_sandbox("late", None).await.unwrap();
        rig.net.attach("late", &attachment).await.unwrap();
        assert!(!pings(&sandbox.net, a.v4) && pings(&sandbox.net, LAN4));
    });
}

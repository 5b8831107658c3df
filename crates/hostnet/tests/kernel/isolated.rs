//! Members of an isolated network reach everything but each other.

use std::net::{Ipv4Addr, Ipv6Addr};

use linkspan_plan::{Firewall, RESOLVER_ADDRESS};
use linkspan_site::Protocol::Tcp;

use crate::rig::*;

/// Networks 1 and 3 are isolated; 3 is internal too.
fn isolated(ports: impl IntoIterator<Item = linkspan_plan::Dnat>) -> Firewall {
    Firewall {
        isolated: ["ls-b1".to_owned(), "ls-b3".to_owned()].into(),
        ..firewall(ports)
    }
}

/// A member of an isolated network, its link as the site says.
async fn member(rig: &Rig, network: u8, number: u8) -> Guest {
    let guest = rig.guest(network, number).await;
    sh(&format!(
        "bridge link set dev {} isolated on",
        guest.attachment.host_link
    ));
    guest
}

/// Sends what is for the subnet through the gateway, as a container that rules its own network may.
fn by_the_gateway(guest: &Guest, network: u8) {
    let enter = format!("nsenter --net={}", guest.netns.display());
    sh(&format!(
        "{enter} ip route replace 10.90.{network}.0/24 via {} onlink dev eth0",
        guest4(network, 1)
    ));
    sh(&format!(
        "{enter} ip route replace {} dev eth0",
        guest4(network, 1)
    ));
    sh(&format!(
        "{enter} ip -6 route replace fd90:0:0:{network}::/64 via {} dev eth0 onlink metric 1",
        guest6(network, 1)
    ));
    sh(&format!(
        "{enter} ip -6 route replace {} dev eth0 metric 1",
        guest6(network, 1)
    ));
}

fn show_frames(on: &str) {
    // Kernels without bridge netfilter at all have no such parameter, and behave as with 0.
    for family in ["iptables", "ip6tables"] {
        try_sh(&format!("sysctl -q -w net.bridge.bridge-nf-call-{family}={on}"));
    }
}

#[test]
fn members_do_not_reach_each_other() {
    members_do_not_reach_each_other_where_frames_are_shown("1");
}

/// As on hosts whose bridges don't show their frames to IP's hooks.
#[test]
fn members_do_not_reach_each_other_without_bridge_netfilter() {
    members_do_not_reach_each_other_where_frames_are_shown("0");
}

fn members_do_not_reach_each_other_where_frames_are_shown(shown: &'static str) {
    on_a_host(async |rig| {
        show_frames(shown);
        rig.networks().await;
        rig.net.apply_firewall(&isolated([])).await.unwrap();
        for network in [1, 3] {
            let (a, b) = (member(&rig, network, 10).await, member(&rig, network, 11).await);
            serve(&b.netns, b.v4, 80);
            serve(&b.netns, b.v6, 80);
            serve_udp(&b.netns, 53, "sibling");
            for way in ["over the bridge", "by the gateway"] {
                assert!(!pings(&a.netns, b.v4), "{way}");
                assert!(!pings(&a.netns, b.v6), "{way}");
                assert!(ask(&a.netns, b.v4, 80).is_err(), "{way}");
                assert!(ask(&a.netns, b.v6, 80).is_err(), "{way}");
                assert!(udp_client(&a.netns, b.v4, 53)().is_err(), "{way}");
                by_the_gateway(&a, network);
                by_the_gateway(&b, network);
            }
            let dropped = sh("nft list chain inet linkspan through");
            let internal = if network == 3 {
                "out of an internal network"
            } else {
                "isolated members"
            };
            let line = dropped.lines().find(|line| line.contains(internal)).unwrap();
            assert!(
                !line.contains("packets 0 "),
                "they came by the gateway, and were dropped: {line}"
            );
            assert!(pings(&a.netns, guest4(network, 1)), "its bridge");
        }
    });
}

#[test]
fn members_reach_the_world_the_resolver_and_are_reached() {
    members_reach_the_rest("1");
}

/// As on hosts whose bridges don't show their frames to IP's hooks.
#[test]
fn members_reach_the_world_the_resolver_and_are_reached_without_bridge_netfilter() {
    members_reach_the_rest("0");
}

fn members_reach_the_rest(shown: &'static str) {
    on_a_host(async |rig| {
        show_frames(shown);
        rig.networks().await;
        serve(&rig.resolver(), RESOLVER_ADDRESS, 53);
        serve(&lan(), LAN4, 80);
        serve(&lan(), LAN6, 80);
        rig.net.apply_firewall(&isolated([])).await.unwrap();
        for network in [1, 3] {
            let a = member(&rig, network, 10).await;
            let b = member(&rig, network, 11).await;
            serve(&a.netns, a.v4, 80);
            serve(&a.netns, a.v6, 80);
            for guest in [&a, &b] {
                assert!(
                    ask(&guest.netns, RESOLVER_ADDRESS, 53).is_ok(),
                    "names, network {network}"
                );
            }
            // The data plane's connections to containers come from the resolver's namespace.
            assert!(
                ask(&rig.resolver(), a.v4, 80).is_ok(),
                "data plane, network {network}"
            );
            assert!(
                ask(&rig.resolver(), a.v6, 80).is_ok(),
                "data plane, IPv6, network {network}"
            );
            assert!(ask(&here(), a.v4, 80).is_ok(), "host, network {network}");
            assert!(ask(&here(), a.v6, 80).is_ok(), "host, IPv6, network {network}");
            assert_eq!(ask(&a.netns, LAN4, 80).is_ok(), network == 1);
            assert_eq!(ask(&a.netns, LAN6, 80).is_ok(), network == 1);
        }
    });
}

#[test]
fn members_reach_published_ports_of_siblings_and_others_by_the_hosts_address() {
    published("0");
}

#[test]
fn members_reach_published_ports_with_bridge_netfilter() {
    published("1");
}

fn published(shown: &'static str) {
    on_a_host(async |rig| {
        show_frames(shown);
        rig.networks().await;
        let (a, sibling, other) = (
            member(&rig, 1, 10).await,
            member(&rig, 1, 11).await,
            rig.guest(2, 10).await,
        );
        for guest in [&a, &other] {
            serve(&guest.netns, guest.v4, 80);
            serve(&guest.netns, guest.v6, 80);
        }
        let ports = [
            publish(Tcp, Ipv4Addr::UNSPECIFIED, 8080, a.v4, 80),
            publish(Tcp, Ipv6Addr::UNSPECIFIED, 8080, a.v6, 80),
            publish(Tcp, HOST4, 9090, a.v4, 80),
            publish(Tcp, HOST6, 9090, a.v6, 80),
            publish(Tcp, HOST4, 7070, other.v4, 80),
            publish(Tcp, HOST6, 7070, other.v6, 80),
        ];
        rig.net.apply_firewall(&isolated(ports)).await.unwrap();
        for port in [8080, 9090, 7070] {
            assert_eq!(ask(&lan(), HOST4, port).unwrap(), LAN4.to_string());
            assert_eq!(ask(&lan(), HOST6, port).unwrap(), LAN6.to_string());
            assert!(ask(&other.netns, HOST4, port).is_ok(), "{port}");
        }
        let turned = shown == "0" || sh("sysctl -n net.bridge.bridge-nf-call-iptables").trim() == "0";
        if !turned {
            // Such a bridge would send it from port to port itself, which it does not for isolated ones. The data plane's
            // socket for ports on all addresses is in its place; of others it has none.
            serve(&here(), Ipv6Addr::UNSPECIFIED, 8080);
        }
        for port in [7070, 8080, 9090] {
            if port == 9090 && !turned {
                continue;
            }
            assert!(ask(&sibling.netns, HOST4, port).is_ok(), "{port}");
            assert!(ask(&sibling.netns, HOST6, port).is_ok(), "{port}");
            assert!(ask(&a.netns, HOST4, port).is_ok(), "itself: {port}");
            assert!(ask(&a.netns, HOST6, port).is_ok(), "itself: {port}");
        }
        assert!(ask(&sibling.netns, a.v4, 80).is_err(), "but not past the host");
    });
}

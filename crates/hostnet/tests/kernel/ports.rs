//! Published ports: who reaches them, and what the container sees.

use linkspan_site::Protocol::{Tcp, Udp};
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::rig::*;

#[test]
fn a_client_on_the_lan_reaches_a_published_port_and_keeps_its_address() {
    on_a_host(async |rig| {
        rig.networks().await;
        let a = rig.guest(1, 10).await;
        serve(&a.netns, a.v4, 80);
        serve(&a.netns, a.v6, 80);
        let ports = [
            publish(Tcp, HOST4, 8080, a.v4, 80),
            publish(Tcp, HOST6, 8080, a.v6, 80),
            publish(Tcp, Ipv4Addr::UNSPECIFIED, 9090, a.v4, 80),
            publish(Tcp, Ipv6Addr::UNSPECIFIED, 9090, a.v6, 80),
        ];
        rig.net.apply_firewall(&firewall(ports)).await.unwrap();
        for port in [8080, 9090] {
            assert_eq!(ask(&lan(), HOST4, port).unwrap(), LAN4.to_string());
            assert_eq!(ask(&lan(), HOST6, port).unwrap(), LAN6.to_string());
            assert_eq!(
                ask(&here(), HOST4, port).unwrap(),
                HOST4.to_string(),
                "from the host itself"
            );
            assert_eq!(
                ask(&here(), HOST6, port).unwrap(),
                HOST6.to_string(),
                "from the host itself"
            );
        }
        rig.net.apply_firewall(&firewall([])).await.unwrap();
        assert!(ask(&lan(), HOST4, 8080).is_err(), "no longer published");
    });
}

#[test]
fn the_lan_reaches_no_port_that_was_not_published() {
    on_a_host(async |rig| {
        rig.networks().await;
        let a = rig.guest(1, 10).await;
        serve(&a.netns, a.v4, 80);
        serve(&a.netns, a.v4, 81);
        serve(&a.netns, a.v6, 81);
        rig.net
            .apply_firewall(&firewall([publish(Tcp, HOST4, 8080, a.v4, 80)]))
            .await
            .unwrap();
        assert!(ask(&lan(), a.v4, 81).is_err());
        assert!(ask(&lan(), a.v6, 81).is_err());
        assert!(
            ask(&lan(), a.v4, 80).is_err(),
            "published ports are published on the host only"
        );
        assert!(!pings(&lan(), a.v4));
    });
}

#[test]
fn sockets_on_loopback_are_reached_from_no_wire() {
    on_a_host(async |rig| {
        rig.networks().await;
        let a = rig.guest(1, 10).await;
        serve(&here(), Ipv4Addr::LOCALHOST, 8080);
        serve(&here(), Ipv6Addr::LOCALHOST, 8080);
        // Somebody else has opened the door on this host, and those outside have a route to it.
        sh("sysctl -q -w net.ipv4.conf.all.route_localnet=1");
        for (netns, gateway) in [(lan(), HOST4), (a.netns, guest4(1, 1))] {
            let enter = format!("nsenter --net={}", netns.display());
            sh(&format!(
                "{enter} sysctl -q -w net.ipv4.conf.all.route_localnet=1"
            ));
            sh(&format!(
                "{enter} ip route del local 127.0.0.0/8 dev lo table local"
            ));
            sh(&format!(
                "{enter} ip route del local 127.0.0.1 dev lo table local"
            ));
            sh(&format!("{enter} ip route add 127.0.0.1 via {gateway}"));
            assert!(
                ask(&netns, Ipv4Addr::LOCALHOST, 8080).is_err(),
                "from {}",
                netns.display()
            );
        }
        assert_eq!(ask(&here(), Ipv4Addr::LOCALHOST, 8080).unwrap(), "127.0.0.1");
        let table = sh("nft list chain inet linkspan guard");
        let line = table
            .lines()
            .find(|line| line.contains("127.0.0.0/8 from a wire"))
            .unwrap();
        assert!(
            !line.contains("packets 0 "),
            "the packets came, and were dropped: {line}"
        );
    });
}

#[test]
fn a_container_reaches_published_ports_of_itself_its_siblings_and_other_networks() {
    hairpin("1");
}

/// As on hosts whose bridges don't show their frames to IP's hooks.
#[test]
fn a_container_reaches_published_ports_of_itself_and_others_without_bridge_netfilter() {
    hairpin("0");
}

fn hairpin(bridge_netfilter: &'static str) {
    on_a_host(async |rig| {
        // Kernels without bridge netfilter at all have no such parameter, and behave as with 0.
        try_sh(&format!(
            "sysctl -q -w net.bridge.bridge-nf-call-iptables={bridge_netfilter}"
        ));
        try_sh(&format!(
            "sysctl -q -w net.bridge.bridge-nf-call-ip6tables={bridge_netfilter}"
        ));
        rig.networks().await;
        let (a, sibling, other) = (
            rig.guest(1, 10).await,
            rig.guest(1, 11).await,
            rig.guest(2, 10).await,
        );
        serve(&a.netns, a.v4, 80);
        serve(&a.netns, a.v6, 80);
        let ports = [
            publish(Tcp, Ipv4Addr::UNSPECIFIED, 8080, a.v4, 80),
            publish(Tcp, HOST4, 9090, a.v4, 80),
            publish(Tcp, Ipv6Addr::UNSPECIFIED, 8080, a.v6, 80),
            publish(Tcp, HOST6, 9090, a.v6, 80),
        ];
        rig.net.apply_firewall(&firewall(ports)).await.unwrap();
        for port in [8080, 9090] {
            assert!(ask(&a.netns, HOST4, port).is_ok(), "itself");
            assert!(ask(&sibling.netns, HOST4, port).is_ok(), "sibling");
            assert!(ask(&a.netns, HOST6, port).is_ok(), "itself, IPv6");
            assert!(ask(&sibling.netns, HOST6, port).is_ok(), "sibling, IPv6");
            assert_eq!(
                ask(&other.netns, HOST4, port).unwrap(),
                other.v4.to_string(),
                "another network"
            );
        }
        assert!(
            ask(&sibling.netns, guest4(1, 1), 8080).is_ok(),
            "by its bridge's address"
        );
    });
}

#[test]
fn an_internal_network_reaches_no_published_port() {
    on_a_host(async |rig| {
        rig.networks().await;
        let (a, inside) = (rig.guest(1, 10).await, rig.guest(3, 10).await);
        serve(&a.netns, a.v4, 80);
        rig.net
            .apply_firewall(&firewall([publish(Tcp, Ipv4Addr::UNSPECIFIED, 8080, a.v4, 80)]))
            .await
            .unwrap();
        sh(&format!(
            "nsenter --net={} ip route replace default via {}",
            inside.netns.display(),
            guest4(3, 1)
        ));
        assert!(ask(&inside.netns, HOST4, 8080).is_err());
        assert!(ask(&inside.netns, guest4(3, 1), 8080).is_err());
    });
}

#[test]
fn a_udp_client_that_keeps_its_port_follows_the_container_behind_it() {
    on_a_host(async |rig| {
        rig.networks().await;
        let (a, b) = (rig.guest(1, 10).await, rig.guest(1, 11).await);
        serve_udp(&a.netns, 53, "first");
        serve_udp(&b.netns, 53, "second");
        let port = |to| [publish(Udp, Ipv4Addr::UNSPECIFIED, 5353, to, 53)];
        let mut client = udp_client(&lan(), HOST4, 5353);
        assert!(client().is_err(), "nobody yet; the kernel remembers this flow");
        rig.net.apply_firewall(&firewall(port(a.v4))).await.unwrap();
        assert_eq!(client().unwrap(), format!("first {LAN4}"));
        rig.net.apply_firewall(&firewall(port(b.v4))).await.unwrap();
        assert_eq!(client().unwrap(), format!("second {LAN4}"));
        rig.net.apply_firewall(&firewall([])).await.unwrap();
        assert!(client().is_err());
    });
}

#[test]
fn connections_of_a_removed_container_are_forgotten() {
    on_a_host(async |rig| {
        rig.networks().await;
        let a = rig.guest(1, 10).await;
        serve_udp(&a.netns, 53, "first");
        rig.net
            .apply_firewall(&firewall([publish(Udp, HOST4, 5353, a.v4, 53)]))
            .await
            .unwrap();
        let mut client = udp_client(&lan(), HOST4, 5353);
        assert_eq!(client().unwrap(), format!("first {LAN4}"));
        assert_eq!(
            rig.net.flush_flows(&[guest4(1, 99).into()]).await.unwrap(),
            0,
            "others are left alone"
        );
        assert_eq!(rig.net.flush_flows(&[a.v4.into()]).await.unwrap(), 1);
        assert_eq!(rig.net.flush_flows(&[a.v4.into()]).await.unwrap(), 0);
    });
}

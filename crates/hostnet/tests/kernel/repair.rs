//! What others break is told, and made whole again; what is removed leaves nothing.

use std::time::Duration;

use linkspan_hostnet::{Hint, TableState};
use linkspan_site::Protocol::Tcp;
use tokio::time::timeout;

use crate::rig::*;

#[test]
fn a_deleted_bridge_is_made_again_with_all_that_was_on_it() {
    on_a_host(async |rig| {
        rig.networks().await;
        let a = rig.guest(1, 10).await;
        let spec = network(1);
        let whole = async || {
            rig.net
                .observe()
                .await
                .unwrap()
                .networks
                .get("ls-b1")
                .is_some_and(|found| found.is_whole(&spec))
        };
        assert!(whole().await);
        sh("ip link del ls-b1");
        assert!(!whole().await);
        rig.net.ensure_network(&spec).await.unwrap();
        assert!(whole().await);
        rig.net.attach("guest-1-10", &a.attachment).await.unwrap();
        assert!(pings(&a.netns, LAN4));
        assert!(pings(&a.netns, LAN6));
        assert!(pings(&rig.resolver(), a.v4));
    });
}

#[test]
fn lost_addresses_legs_and_links_are_made_again() {
    on_a_host(async |rig| {
        rig.networks().await;
        let a = rig.guest(1, 10).await;
        let resolver = format!("nsenter --net={}", rig.resolver().display());
        for damage in [
            "ip addr flush dev ls-b1".to_owned(),
            "ip link set ls-b1 down".to_owned(),
            "ip link del ls-r1".to_owned(),
            "ip link set ls-r1 nomaster".to_owned(),
            format!("{resolver} ip addr flush dev ls-r1 scope global"),
            format!("{resolver} ip link set ls-r1 down"),
        ] {
            sh(&damage);
            let found = rig.net.observe().await.unwrap();
            assert!(
                !found.networks["ls-b1"].is_whole(&network(1)),
                "unnoticed: {damage}"
            );
            rig.net.ensure_network(&network(1)).await.unwrap();
            let found = rig.net.observe().await.unwrap();
            assert!(
                found.networks["ls-b1"].is_whole(&network(1)),
                "not repaired: {damage}: {found:?}"
            );
        }
        for damage in [
            "ip link del ls-v1-10",
            "ip link set ls-v1-10 down",
            "ip link set ls-v1-10 nomaster",
        ] {
            sh(damage);
            rig.net.attach("guest-1-10", &a.attachment).await.unwrap();
            assert!(pings(&a.netns, LAN4), "not repaired: {damage}");
            assert!(pings(&a.netns, LAN6), "not repaired: {damage}");
        }
    });
}

#[test]
fn a_link_that_somebody_else_made_under_our_name_is_reported() {
    on_a_host(async |rig| {
        sh("ip link add ls-b1 type veth peer name other");
        let error = rig.net.ensure_network(&network(1)).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "link `ls-b1` exists and is not a bridge; remove it with `ip link del ls-b1`"
        );
    });
}

#[test]
fn attaching_to_a_missing_network_or_sandbox_says_which() {
    on_a_host(async |rig| {
        rig.net.create_sandbox("a", None).await.unwrap();
        let error = rig.net.attach("a", &attachment(1, 10)).await.unwrap_err();
        assert_eq!(error.to_string(), "bridge `ls-b1` for `ls-v1-10` does not exist");
        rig.networks().await;
        let error = rig.net.attach("b", &attachment(1, 10)).await.unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("cannot enter the network namespace `"),
            "{error}"
        );
    });
}

#[test]
fn changes_by_others_are_told() {
    on_a_host(async |rig| {
        rig.networks().await;
        let mut hints = rig.net.watch();
        // What our own set-up has caused.
        while timeout(Duration::from_millis(200), hints.recv()).await.is_ok() {}
        let mut told = async |command: &str, expected: Hint| {
            sh(command);
            let found = timeout(Duration::from_secs(2), async {
                while hints.recv().await.unwrap() != expected {}
            });
            assert!(found.await.is_ok(), "`{command}` gave no hint {expected:?}");
            while timeout(Duration::from_millis(100), hints.recv()).await.is_ok() {}
        };
        told("ip link add tun9 type veth peer name tun8", Hint::Links).await;
        told("ip link set tun9 up", Hint::Links).await;
        told("ip addr add 10.99.0.1/24 dev tun9", Hint::Addresses).await;
        told("ip link set tun8 up", Hint::Links).await;
        told("ip route add 10.98.0.0/16 dev tun9 table 100", Hint::Routes).await;
        told("ip -6 route add fd99::/64 dev tun9", Hint::Routes).await;
        told("ip rule add to 10.97.0.0/16 lookup 100", Hint::Routes).await;
        drop(hints);
        let claims = rig.net.observe().await.unwrap().claims;
        let has = |range: &str, source: &str| {
            claims
                .iter()
                .any(|claim| claim.range.to_string() == range && claim.source == source)
        };
        assert!(has("10.99.0.0/24", "address of `tun9`"), "{claims:?}");
        assert!(has("10.98.0.0/16", "route in table 100 via `tun9`"), "{claims:?}");
        assert!(has("fd99::/64", "route via `tun9`"), "{claims:?}");
        assert!(has("192.0.2.0/24", "address of `uplink`"), "{claims:?}");
        assert!(
            !claims
                .iter()
                .any(|claim| claim.range.to_string().starts_with("10.90.")),
            "our own: {claims:?}"
        );
    });
}

#[test]
fn removing_everything_leaves_nothing() {
    on_a_host(async |rig| {
        let links_before = sh("ip -br link");
        rig.networks().await;
        let a = rig.guest(1, 10).await;
        rig.net
            .apply_firewall(&firewall([publish(Tcp, HOST4, 80, a.v4, 80)]))
            .await
            .unwrap();
        let found = rig.net.observe().await.unwrap();
        assert_eq!(found.veths, ["ls-v1-10".to_owned()].into());
        assert_eq!(found.table, TableState::Intact);
        assert!(found.ipv6);
        assert_eq!(found.mtu, 1500);
        rig.net.remove_all().await.unwrap();
        assert_eq!(sh("ip -br link"), links_before);
        assert_eq!(sh("nft list ruleset"), "");
        assert_eq!(std::fs::read_dir(rig.run_dir()).unwrap().count(), 0);
        let mounts = std::fs::read_to_string("/proc/thread-self/mounts").unwrap();
        assert!(!mounts.contains(rig.run_dir().to_str().unwrap()), "{mounts}");
    });
}

#[test]
fn removing_one_network_and_container_leaves_the_others_alone() {
    on_a_host(async |rig| {
        rig.networks().await;
        let (a, b) = (rig.guest(1, 10).await, rig.guest(1, 11).await);
        rig.net.detach("ls-v1-10").await.unwrap();
        rig.net.detach("ls-v1-10").await.unwrap();
        rig.net.remove_sandbox("guest-1-10").await.unwrap();
        rig.net.remove_network("ls-b2", "ls-r2").await.unwrap();
        rig.net.remove_network("ls-b2", "ls-r2").await.unwrap();
        assert!(!a.netns.exists());
        assert!(pings(&b.netns, LAN4));
        let found = rig.net.observe().await.unwrap();
        assert_eq!(found.networks.keys().collect::<Vec<_>>(), ["ls-b1", "ls-b3"]);
        assert_eq!(found.veths, ["ls-v1-11".to_owned()].into());
    });
}

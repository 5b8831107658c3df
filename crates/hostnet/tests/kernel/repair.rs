//! What others break is told, and made whole again; what is removed leaves nothing.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use linkspan_hostnet::{Hint, TableState};
use linkspan_plan::{NetworkSpec, Subnet};
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

/// Breaks a host in a way, and looks whether that is told, named, and made whole, all within a second.
async fn is_repaired(rig: &Rig, spec: &NetworkSpec, damage: &str, named: &[&str]) {
    let mut hints = rig.net.watch();
    // What was done before.
    while timeout(Duration::from_millis(60), hints.recv()).await.is_ok() {}
    let start = Instant::now();
    sh(damage);
    let hint = timeout(Duration::from_secs(1), hints.recv()).await;
    assert!(hint.is_ok(), "no hint of `{damage}`");
    // What the kernel does in consequence comes a moment later.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let missing = async || {
        let found = rig.net.observe().await.unwrap();
        let host = found.turned_off.iter();
        let host = host.map(|name| format!("kernel parameter {name}"));
        let mut missing = found.networks[&spec.bridge].missing(spec);
        missing.extend(host);
        missing
    };
    assert_eq!(missing().await, named, "after `{damage}`");
    rig.net.ensure_network(spec).await.unwrap();
    assert_eq!(missing().await, Vec::<String>::new(), "not repaired: `{damage}`");
    let took = start.elapsed();
    println!("{took:?}: {damage}");
    assert!(took < Duration::from_secs(1), "`{damage}` took {took:?}");
}

#[test]
fn what_others_break_of_a_network_is_told_named_and_repaired() {
    on_a_host(async |rig| {
        rig.networks().await;
        let a = rig.guest(1, 10).await;
        let spec = network(1);
        let inside = format!("nsenter --net={}", rig.resolver().display());
        let down = [
            "link `ls-b1`, which was down",
            "address fd90:0:0:1::1/64 of the bridge",
            "the route to 10.90.1.0/24",
            "the route to fd90:0:0:1::/64",
        ];
        let cases: &[(String, &[&str])] = &[
            (
                "ip addr del 10.90.1.1/24 dev ls-b1".into(),
                &["address 10.90.1.1/24 of the bridge", "the route to 10.90.1.0/24"],
            ),
            (
                "ip addr del fd90:0:0:1::1/64 dev ls-b1".into(),
                &[
                    "address fd90:0:0:1::1/64 of the bridge",
                    "the route to fd90:0:0:1::/64",
                ],
            ),
            (
                "ip route del 10.90.1.0/24 dev ls-b1".into(),
                &["the route to 10.90.1.0/24"],
            ),
            (
                "ip route replace 10.90.1.0/24 dev ls-b1 metric 0".into(),
                &["the route to 10.90.1.0/24"],
            ),
            (
                "ip -6 route del fd90:0:0:1::/64 dev ls-b1".into(),
                &["the route to fd90:0:0:1::/64"],
            ),
            ("ip link set ls-b1 down".into(), &down),
            ("ip link set ls-b1 mtu 1400".into(), &["mtu 1500"]),
            (
                "ip addr add 10.7.7.7/24 dev ls-b1".into(),
                &[
                    "address 10.7.7.7/24 of the bridge, which doesn't belong there",
                    "the route to 10.7.7.0/24, which doesn't belong there",
                ],
            ),
            (
                "ip addr add fd07::7/64 dev ls-b1 nodad".into(),
                &[
                    "address fd07::7/64 of the bridge, which doesn't belong there",
                    "the route to fd07::/64, which doesn't belong there",
                ],
            ),
            ("ip link del ls-r1".into(), &["the resolver's leg `ls-r1`"]),
            (
                "ip link set ls-r1 nomaster".into(),
                &["the resolver's leg `ls-r1`"],
            ),
            ("ip link set ls-r1 down".into(), &["the resolver's leg `ls-r1`"]),
            (
                format!("{inside} ip link set ls-r1 down"),
                &["the resolver's leg `ls-r1`"],
            ),
            (
                format!("{inside} ip link set ls-r1 mtu 1400"),
                &["mtu 1500 of the resolver's leg"],
            ),
            (
                format!("{inside} ip addr del 10.90.1.2/24 dev ls-r1"),
                &[
                    "address 10.90.1.2/24 of the resolver's leg",
                    "the resolver's route to 10.90.1.0/24",
                ],
            ),
            (
                format!("{inside} ip route del 10.90.1.0/24 dev ls-r1"),
                &["the resolver's route to 10.90.1.0/24"],
            ),
            (
                format!("{inside} ip addr add 10.7.7.7/32 dev ls-r1"),
                &["address 10.7.7.7/32 of the resolver's leg, which doesn't belong there"],
            ),
            (
                "sysctl -q -w net.ipv4.ip_forward=0".into(),
                &["kernel parameter net.ipv4.ip_forward"],
            ),
            (
                "sysctl -q -w net.ipv6.conf.all.forwarding=0".into(),
                &["kernel parameter net.ipv6.conf.all.forwarding"],
            ),
            (
                "sysctl -q -w net.ipv4.conf.ls-b1.forwarding=0".into(),
                &["kernel parameter net.ipv4.conf.ls-b1.forwarding"],
            ),
            (
                "sysctl -q -w net.ipv6.conf.ls-b1.forwarding=0".into(),
                &["kernel parameter net.ipv6.conf.ls-b1.forwarding"],
            ),
        ];
        for (damage, named) in cases {
            is_repaired(&rig, &spec, damage, named).await;
            for to in [IpAddr::from(LAN4), LAN6.into()] {
                assert!(pings(&a.netns, to), "{to} after `{damage}`");
            }
            assert!(pings(&rig.resolver(), a.v4), "data plane after `{damage}`");
        }
    });
}

#[test]
fn what_others_break_of_a_network_that_moves_is_repaired() {
    on_a_host(async |rig| {
        rig.networks().await;
        let a = rig.guest(1, 10).await;
        let spec = NetworkSpec {
            v4: "10.94.1.0/24".parse().unwrap(),
            gateway: Ipv4Addr::new(10, 94, 1, 1),
            resolver: Ipv4Addr::new(10, 94, 1, 2),
            retiring: vec![Subnet {
                gateway: guest4(1, 1).into(),
                resolver: guest4(1, 2).into(),
                members: vec![a.v4.into()],
            }],
            ..network(1)
        };
        rig.net.ensure_network(&spec).await.unwrap();
        let inside = format!("nsenter --net={}", rig.resolver().display());
        let cases: &[(String, &[&str])] = &[
            (
                "ip route del 10.90.1.10 dev ls-b1".into(),
                &["the route to 10.90.1.10/32"],
            ),
            (
                format!("{inside} ip route del 10.90.1.10 dev ls-r1"),
                &["the resolver's route to 10.90.1.10/32"],
            ),
            (
                "ip addr del 10.90.1.1/24 dev ls-b1".into(),
                &[
                    "address 10.90.1.1/32 of the bridge",
                    "the route to 10.90.1.10/32",
                    "the route to 10.90.1.2/32",
                ],
            ),
            (
                "ip route add 10.90.1.0/24 dev ls-b1 proto kernel scope link src 10.90.1.1".into(),
                &["the route to 10.90.1.0/24, which doesn't belong there"],
            ),
        ];
        for (damage, named) in cases {
            is_repaired(&rig, &spec, damage, named).await;
            assert!(pings(&here(), a.v4), "not repaired: {damage}");
            assert!(pings(&rig.resolver(), a.v4), "not repaired: {damage}");
        }
        sh("ip link del ls-b1");
        rig.net.ensure_network(&spec).await.unwrap();
        rig.net.attach("guest-1-10", &a.attachment).await.unwrap();
        let found = rig.net.observe().await.unwrap();
        assert_eq!(found.networks["ls-b1"].missing(&spec), Vec::<String>::new());
        assert!(pings(&here(), a.v4) && pings(&rig.resolver(), a.v4));
    });
}

#[test]
fn a_containers_link_that_others_broke_is_made_again() {
    on_a_host(async |rig| {
        rig.networks().await;
        let a = rig.guest(1, 10).await;
        for damage in [
            "ip link del ls-v1-10",
            "ip link set ls-v1-10 down",
            "ip link set ls-v1-10 nomaster",
        ] {
            sh(damage);
            let found = rig.net.observe().await.unwrap().veths;
            assert_eq!(*found, [].into(), "unnoticed: {damage}");
            rig.net.attach("guest-1-10", &a.attachment).await.unwrap();
            let found = rig.net.observe().await.unwrap().veths;
            assert_eq!(*found, ["ls-v1-10".to_owned()].into());
            assert!(pings(&a.netns, LAN4), "not repaired: {damage}");
            assert!(pings(&a.netns, LAN6), "not repaired: {damage}");
        }
    });
}

#[test]
fn a_route_that_a_vpn_has_set_over_ours_is_left_alone() {
    on_a_host(async |rig| {
        rig.networks().await;
        sh("ip link add tun9 index 200 type veth peer name tun8");
        sh("ip link set tun9 up");
        sh("ip link set tun8 up");
        sh("ip route replace 10.90.1.0/24 dev tun9");
        let missing = async || rig.net.observe().await.unwrap().networks["ls-b1"].missing(&network(1));
        assert_eq!(missing().await, ["the route to 10.90.1.0/24"]);
        rig.net.ensure_network(&network(1)).await.unwrap();
        assert_eq!(missing().await, Vec::<String>::new());
        assert!(sh("ip route get 10.90.1.77").contains("dev tun9"));
        let claims = rig.net.observe().await.unwrap().claims;
        assert!(
            claims
                .iter()
                .any(|claim| claim.source == "route via `tun9`" && claim.range.to_string() == "10.90.1.0/24")
        );
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
        told("sysctl -q -w net.ipv4.ip_forward=0", Hint::Parameters).await;
        told("sysctl -q -w net.ipv6.conf.all.forwarding=0", Hint::Parameters).await;
        let inside = format!("nsenter --net={} ip", rig.resolver().display());
        told(
            &format!("{inside} addr del 10.90.1.2/24 dev ls-r1"),
            Hint::Addresses,
        )
        .await;
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
        assert_eq!(*found.veths, ["ls-v1-10".to_owned()].into());
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
        assert_eq!(*found.veths, ["ls-v1-11".to_owned()].into());
    });
}

//! What is taken from a container inside its own namespace is told, named and put back; what is put there beside it, or in
//! its place, stays.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use linkspan_hostnet::{HostNet, SandboxHints};
use linkspan_plan::Attachment;
use tokio::time::timeout;

use crate::rig::*;

/// Runs a line inside a container.
fn inside(guest: &Guest, line: &str) -> String {
    sh(&format!("nsenter --net={} {line}", guest.netns.display()))
}

async fn missing(net: &HostNet, sandbox: &str, attachment: &Attachment) -> Vec<String> {
    let all = std::slice::from_ref(attachment);
    let mut found = net.missing_inside(sandbox, all).await.unwrap();
    found.remove(&attachment.host_link).unwrap_or_default()
}

/// Waits until what was done before has been told.
async fn quiet(hints: &mut SandboxHints) {
    while timeout(Duration::from_millis(150), hints.changed()).await.is_ok() {}
}

fn only(name: &str) -> BTreeSet<String> {
    [name.to_owned()].into()
}

#[test]
fn what_others_take_from_a_container_is_told_named_and_put_back() {
    on_a_host(async |rig| {
        rig.networks().await;
        let a = rig.guest(1, 10).await;
        rig.guest(1, 11).await;
        let mut hints = rig.net.watch_sandboxes();
        let cases: &[(&str, &[&str])] = &[
            (
                "ip addr del 10.90.1.10/24 dev eth0",
                &[
                    "address 10.90.1.10/24 of `eth0`",
                    "the route to 10.90.1.0/24",
                    "the route to the resolver, 169.254.53.53/32",
                    "the default route by 10.90.1.1",
                ],
            ),
            (
                "ip addr del fd90:0:0:1::a/64 dev eth0",
                &[
                    "address fd90:0:0:1::a/64 of `eth0`",
                    "the route to fd90:0:0:1::/64",
                ],
            ),
            ("ip route del default", &["the default route by 10.90.1.1"]),
            ("ip -6 route del default", &["the default route by fd90:0:0:1::1"]),
            ("ip route del 10.90.1.0/24", &["the route to 10.90.1.0/24"]),
            (
                "ip route del 169.254.53.53",
                &["the route to the resolver, 169.254.53.53/32"],
            ),
            (
                "ip link set eth0 down",
                &[
                    "link `eth0`, which was down",
                    "the route to 10.90.1.0/24",
                    "the route to the resolver, 169.254.53.53/32",
                    "address fd90:0:0:1::a/64 of `eth0`",
                    "the route to fd90:0:0:1::/64",
                    "the default route by 10.90.1.1",
                    "the default route by fd90:0:0:1::1",
                ],
            ),
            ("ip link set eth0 mtu 1400", &["mtu 1500 of `eth0`"]),
            ("ip link set eth0 address 02:00:00:00:00:07", &["link `eth0`"]),
            ("ip link del eth0", &["link `eth0`"]),
        ];
        for (damage, named) in cases {
            quiet(&mut hints).await;
            let begun = Instant::now();
            inside(&a, damage);
            let told = timeout(Duration::from_secs(1), hints.changed()).await;
            assert_eq!(told, Ok(only("guest-1-10")), "after `{damage}`");
            let found: BTreeSet<_> = missing(&rig.net, "guest-1-10", &a.attachment)
                .await
                .into_iter()
                .collect();
            let named: BTreeSet<_> = named.iter().map(|what| (*what).to_owned()).collect();
            assert_eq!(found, named, "after `{damage}`");
            rig.net.attach("guest-1-10", &a.attachment).await.unwrap();
            println!("{:?}: {damage}", begun.elapsed());
            assert!(begun.elapsed() < Duration::from_secs(1), "after `{damage}`");
            let left = missing(&rig.net, "guest-1-10", &a.attachment).await;
            assert_eq!(left, Vec::<String>::new(), "after `{damage}`");
            assert!(pings(&a.netns, LAN4) && pings(&a.netns, LAN6), "after `{damage}`");
            assert!(pings(&a.netns, guest4(1, 11)), "after `{damage}`");
        }
    });
}

#[test]
fn a_whole_container_is_repaired_once_and_then_at_rest() {
    on_a_host(async |rig| {
        rig.networks().await;
        let a = rig.guest(1, 10).await;
        let mut hints = rig.net.watch_sandboxes();
        quiet(&mut hints).await;
        // Whoever acts on what his own hand has done would never come to an end.
        inside(&a, "ip route del default");
        let mut repairs = 0;
        while timeout(Duration::from_millis(300), hints.changed()).await.is_ok() {
            if !missing(&rig.net, "guest-1-10", &a.attachment).await.is_empty() {
                rig.net.attach("guest-1-10", &a.attachment).await.unwrap();
                repairs += 1;
            }
        }
        assert_eq!(repairs, 1);
        // Looking at a whole one, or attaching it again, changes nothing that would be told.
        missing(&rig.net, "guest-1-10", &a.attachment).await;
        let told = timeout(Duration::from_millis(300), hints.changed()).await;
        assert!(told.is_err(), "looking is told: {told:?}");
    });
}

#[test]
fn what_a_container_adds_for_itself_stays() {
    on_a_host(async |rig| {
        rig.networks().await;
        let a = rig.guest(1, 10).await;
        for line in [
            "ip link add tun0 type veth peer name tun1",
            "ip addr add 10.8.0.2/24 dev tun0",
            "ip link set tun0 up",
            "ip link set tun1 up",
            "ip addr add 10.90.1.200/24 dev eth0",
            "ip route add 198.51.100.0/24 via 10.90.1.1",
            // As VPNs take over the default route: its halves, or its place.
            "ip route add 0.0.0.0/1 dev tun0",
            "ip route add 128.0.0.0/1 dev tun0",
            "ip route replace default dev tun0",
            "ip -6 route del default",
            "ip -6 route add default dev tun0",
        ] {
            inside(&a, line);
            let missing = missing(&rig.net, "guest-1-10", &a.attachment).await;
            if line != "ip -6 route del default" {
                assert_eq!(missing, Vec::<String>::new(), "after `{line}`");
            }
        }
        let state = || inside(&a, "ip -o addr") + &inside(&a, "ip route") + &inside(&a, "ip -6 route");
        // Lifetimes and metrics of IPv6's own making aside, a repair of something else leaves all of it.
        inside(&a, "ip route del 169.254.53.53");
        rig.net.attach("guest-1-10", &a.attachment).await.unwrap();
        let after = state();
        for kept in [
            "10.8.0.2/24",
            "10.90.1.200/24",
            "198.51.100.0/24 via 10.90.1.1",
            "0.0.0.0/1 dev tun0",
            "128.0.0.0/1 dev tun0",
            "default dev tun0 scope link",
            "default dev tun0 metric 1024",
            "169.254.53.53 dev eth0",
        ] {
            assert!(after.contains(kept), "no {kept} in {after}");
        }
        assert!(!after.contains("default via"), "{after}");
    });
}

#[test]
fn an_address_that_a_container_has_put_on_a_bridge_of_its_own_stays_there() {
    on_a_host(async |rig| {
        rig.networks().await;
        let a = rig.guest(1, 10).await;
        for line in [
            "ip link add br0 type bridge",
            "ip link set br0 up",
            "ip addr del 10.90.1.10/24 dev eth0",
            "ip addr del fd90:0:0:1::a/64 dev eth0",
            "ip link set eth0 master br0",
            "ip addr add 10.90.1.10/24 dev br0",
            "ip -6 addr add fd90:0:0:1::a/64 dev br0 nodad",
            "ip route add default via 10.90.1.1",
            "ip route add 169.254.53.53 dev br0",
            "ip -6 route replace default via fd90:0:0:1::1 dev br0",
        ] {
            inside(&a, line);
        }
        let missing = missing(&rig.net, "guest-1-10", &a.attachment).await;
        assert_eq!(missing, Vec::<String>::new());
        assert!(pings(&a.netns, LAN4));
    });
}

#[test]
fn a_container_that_has_turned_ipv6_off_is_whole_without() {
    on_a_host(async |rig| {
        rig.networks().await;
        let a = rig.guest(1, 10).await;
        inside(&a, "sysctl -q -w net.ipv6.conf.all.disable_ipv6=1");
        assert_eq!(
            missing(&rig.net, "guest-1-10", &a.attachment).await,
            Vec::<String>::new()
        );
        inside(&a, "ip route del default");
        rig.net.attach("guest-1-10", &a.attachment).await.unwrap();
        assert_eq!(
            missing(&rig.net, "guest-1-10", &a.attachment).await,
            Vec::<String>::new()
        );
        assert!(pings(&a.netns, LAN4));
    });
}

/// Does the watch of this daemon hear of a change in a container?
async fn hears(hints: &mut SandboxHints, netns: &Path, sandbox: &str) -> bool {
    quiet(hints).await;
    sh(&format!(
        "nsenter --net={} ip link add one type bridge",
        netns.display()
    ));
    let told = timeout(Duration::from_secs(1), hints.changed()).await;
    sh(&format!("nsenter --net={} ip link del one", netns.display()));
    told == Ok(only(sandbox))
}

#[test]
fn the_next_daemon_hears_of_what_it_has_looked_at() {
    on_a_host(async |rig| {
        rig.networks().await;
        let a = rig.guest(1, 10).await;
        let next = rig.another_daemon().await;
        let mut hints = next.watch_sandboxes();
        assert!(!hears(&mut hints, &a.netns, "guest-1-10").await);
        assert_eq!(
            missing(&next, "guest-1-10", &a.attachment).await,
            Vec::<String>::new()
        );
        assert!(hears(&mut hints, &a.netns, "guest-1-10").await);
        next.remove_sandbox("guest-1-10").await.unwrap();
        let told = timeout(Duration::from_millis(200), hints.changed()).await;
        assert!(told.is_err(), "{told:?}");
    });
}

#[test]
fn after_more_changes_than_can_be_heard_every_container_is_told() {
    on_a_host(async |rig| {
        rig.networks().await;
        let a = rig.guest(1, 10).await;
        rig.guest(1, 11).await;
        let mut hints = rig.net.watch_sandboxes();
        quiet(&mut hints).await;
        // One thread runs here and all there: nothing is read until all is written.
        let batch: String = (0..40_000)
            .map(|n| {
                format!(
                    "route add 10.{}.{}.{}/32 dev eth0\n",
                    100 + n / 65_536,
                    n / 256 % 256,
                    n % 256
                )
            })
            .collect();
        let file = rig.run_dir().join("batch");
        std::fs::write(&file, batch).unwrap();
        inside(&a, &format!("ip -b {}", file.display()));
        let told = timeout(Duration::from_secs(2), hints.changed()).await.unwrap();
        assert_eq!(told, ["guest-1-10".to_owned(), "guest-1-11".to_owned()].into());
    });
}

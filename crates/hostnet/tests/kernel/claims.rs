//! Ranges of others: what of the kernel's and of files counts, and that a change is told.

use std::path::Path;
use std::time::Duration;

use linkspan_hostnet::Hint;
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;

use crate::rig::*;

/// All claims, and all that is none with the reason, a line each.
async fn told(rig: &Rig) -> Vec<String> {
    let found = rig.net.claims().await.unwrap();
    let observed = rig.net.observe().await.unwrap();
    assert_eq!(found.counting, *observed.claims);
    let counts = found
        .counting
        .iter()
        .map(|claim| format!("{} {}", claim.range, claim.source));
    let not = found
        .disregarded
        .iter()
        .map(|(claim, reason)| format!("not {} {}: {reason}", claim.range, claim.source));
    counts.chain(not).collect()
}

/// What changed by a command.
async fn new_after(rig: &Rig, commands: &[&str]) -> Vec<String> {
    let before = told(rig).await;
    commands.iter().for_each(|command| {
        sh(command);
    });
    let mut after = told(rig).await;
    after.retain(|line| !before.contains(line));
    after
}

#[test]
fn addresses_of_links_that_are_down_count() {
    on_a_host(async |rig| {
        let found = new_after(
            &rig,
            &[
                "ip link add docker0 type bridge",
                "ip addr add 172.30.0.1/16 dev docker0",
                "ip link add br-0123456789ab type bridge",
                "ip addr add fd30::1/64 dev br-0123456789ab",
                "ip link add wg0 type bridge",
                "ip addr add 10.31.0.1 peer 10.31.0.2/32 dev wg0",
            ],
        )
        .await;
        assert_eq!(
            found,
            [
                "10.31.0.1/32 address of `wg0`",
                "172.30.0.0/16 address of `docker0`",
                "fd30::/64 address of `br-0123456789ab`",
            ]
        );
        // Up and without a carrier, as Docker's bridge is while no container runs.
        sh("ip link set docker0 up");
        assert!(
            told(&rig)
                .await
                .contains(&"172.30.0.0/16 address of `docker0`".to_owned())
        );
    });
}

#[test]
fn routes_of_all_tables_and_kinds_count() {
    on_a_host(async |rig| {
        let found = new_after(
            &rig,
            &[
                "ip link add tun0 type veth peer name tun1",
                "ip link set tun1 up",
                "ip link set tun0 up",
                "ip route add 10.1.0.0/16 dev tun0",
                "ip route add 10.2.0.0/16 dev tun0 table 100",
                "ip route add 10.3.0.0/16 dev tun0 table 100000",
                "ip route add blackhole 10.4.0.0/16",
                "ip route add unreachable 10.5.0.0/16 table 7",
                "ip route add prohibit 10.6.0.0/16",
                "ip route add throw 10.7.0.0/16 table 7",
                "ip route add 10.8.0.0/16 nexthop via 192.0.2.2 nexthop via 192.0.2.3",
                "ip nexthop add id 5 dev tun0",
                "ip nexthop add id 6 via 192.0.2.2 dev uplink",
                "ip nexthop add id 7 group 5/6",
                "ip route add 10.9.0.0/16 nhid 5",
                "ip route add local 10.11.0.0/16 dev lo",
                "ip route add 0.0.0.0/1 dev tun0",
                "ip route add 128.0.0.0/1 dev tun0",
                "ip route add default dev tun0 table 100",
                "ip -6 route add fd01::/48 dev tun0",
                "ip -6 route add unreachable fd04::/48 table 7",
                "ip -6 route add 2000::/3 dev tun0 metric 5",
            ],
        )
        .await;
        let found: Vec<_> = found.iter().filter(|line| !line.contains("link-local")).collect();
        assert_eq!(
            found,
            [
                "10.1.0.0/16 route via `tun0`",
                "10.2.0.0/16 route in table 100 via `tun0`",
                "10.3.0.0/16 route in table 100000 via `tun0`",
                "10.4.0.0/16 blackhole route",
                "10.5.0.0/16 unreachable route in table 7",
                "10.6.0.0/16 prohibit route",
                "10.8.0.0/16 route via `uplink`, `uplink`",
                "10.9.0.0/16 route via `tun0`",
                "10.11.0.0/16 route to this host in table local via `lo`",
                "fd01::/48 route via `tun0`",
                "fd04::/48 unreachable route in table 7",
                "not 0.0.0.0/0 route in table 100 via `tun0`: a default route",
                "not 0.0.0.0/1 route via `tun0`: a part of a default route",
                "not 10.7.0.0/16 throw route in table 7: it only ends the search in its table",
                "not 128.0.0.0/1 route via `tun0`: a part of a default route",
                "not 2000::/3 route via `tun0`: a part of a default route",
            ]
        );
        let found = new_after(
            &rig,
            &[
                "ip rule add to 10.14.0.0/16 lookup 100",
                "ip rule add to 10.15.0.0/16 lookup 7",
                "ip rule add to 10.16.0.0/16 lookup main",
                "ip rule add to 10.17.0.0/16 prohibit",
                "ip -6 rule add to fd14::/48 unreachable",
                "ip rule add fwmark 9 lookup 100",
            ],
        )
        .await;
        assert_eq!(
            found,
            [
                "10.14.0.0/16 rule for table 100",
                "10.17.0.0/16 rule that drops",
                "fd14::/48 rule that drops",
                "not 10.15.0.0/16 rule for table 7: its table has no route for all of it; those that it has count",
            ]
        );
    });
}

#[test]
fn a_route_whose_next_hop_is_not_resolved_counts() {
    on_a_host(async |rig| {
        let found = new_after(
            &rig,
            &[
                "sysctl -q -w net.ipv4.nexthop_compat_mode=0",
                "ip nexthop add id 5 via 192.0.2.2 dev uplink",
                "ip route add 10.9.0.0/16 nhid 5",
            ],
        )
        .await;
        assert_eq!(found, ["10.9.0.0/16 route via next hop 5"]);
    });
}

#[test]
fn routes_that_the_kernel_keeps_in_mind_do_not_count() {
    on_a_host(async |rig| {
        // Behind the neighbour is a link of a smaller MTU, which makes an exception of the route, for one host.
        for line in [
            "ip netns exec lan sysctl -q -w net.ipv4.ip_forward=1",
            "ip -n lan link add far mtu 1300 type bridge",
            "ip -n lan addr add 198.51.100.1/24 dev far",
            "ip -n lan link set far up",
        ] {
            sh(line);
        }
        let before = told(&rig).await;
        let _ = try_sh("ping -c 2 -W 1 -M do -s 1400 198.51.100.9");
        assert!(sh("ip route show cache").contains("198.51.100.9"));
        assert_eq!(told(&rig).await, before);
    });
}

#[test]
fn what_is_ours_is_told_as_ours() {
    on_a_host(async |rig| {
        rig.networks().await;
        let _a = rig.guest(1, 10).await;
        let all = told(&rig).await;
        assert!(
            all.contains(&"not 10.90.1.0/24 address of `ls-b1`: ours".to_owned()),
            "{all:?}"
        );
        assert!(
            !all.iter()
                .any(|line| line.starts_with("10.90.") || line.starts_with("fd90:")),
            "{all:?}"
        );
    });
}

// === Files ===

fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// Waits for a hint that files changed, and for the burst that it came in to end.
async fn hinted(hints: &mut Receiver<Hint>) -> bool {
    let found = timeout(Duration::from_secs(2), async {
        while hints.recv().await.unwrap() != Hint::Files {}
    })
    .await;
    while timeout(Duration::from_millis(60), hints.recv()).await.is_ok() {}
    found.is_ok()
}

#[test]
fn a_file_that_appears_changes_or_goes_is_told_and_counts() {
    on_a_host(async |rig| {
        let mut hints = rig.net.watch();
        let peer = "10.5.0.0/24 peer in /etc/wireguard/wg0.conf:2".to_owned();
        let moved = "10.6.0.0/24 peer in /etc/wireguard/wg0.conf:2".to_owned();
        let file = rig.file("/etc/wireguard/wg0.conf");
        // Nothing is there at first, not even `etc`.
        for _ in 0..2 {
            write(&file, "[Peer]\nAllowedIPs = 10.5.0.0/24\n");
            assert!(hinted(&mut hints).await, "it appeared");
            assert!(told(&rig).await.contains(&peer));
            write(&file, "[Peer]\nAllowedIPs = 10.6.0.0/24\n");
            assert!(hinted(&mut hints).await, "it changed");
            assert!(told(&rig).await.contains(&moved));
            // As editors do.
            write(
                &rig.file("/etc/wireguard/.wg0.new"),
                "[Peer]\nAllowedIPs = 10.5.0.0/24\n",
            );
            std::fs::rename(rig.file("/etc/wireguard/.wg0.new"), &file).unwrap();
            assert!(hinted(&mut hints).await, "it was replaced");
            assert!(told(&rig).await.contains(&peer));
            std::fs::remove_file(&file).unwrap();
            assert!(hinted(&mut hints).await, "it went");
            assert!(!told(&rig).await.contains(&peer));
            std::fs::remove_dir_all(rig.file("/etc")).unwrap();
            assert!(hinted(&mut hints).await, "its folder went");
        }
    });
}

#[test]
fn files_of_every_program_are_watched() {
    on_a_host(async |rig| {
        let mut hints = rig.net.watch();
        for path in [
            "/etc/resolv.conf",
            "/etc/containers/networks/foo.json",
            "/etc/cni/net.d/foo.conflist",
            "/etc/docker/daemon.json",
            "/etc/libvirt/qemu/networks/foo.xml",
            "/etc/openvpn/client/foo.ovpn",
            "/run/systemd/resolve/resolv.conf",
            "/etc/systemd/network/foo.network",
            "/etc/systemd/network/foo.network.d/more.conf",
            "/etc/netplan/foo.yaml",
            "/etc/network/interfaces",
            "/etc/NetworkManager/system-connections/foo.nmconnection",
            "/etc/swanctl/conf.d/foo.conf",
        ] {
            write(&rig.file(path), "");
            assert!(hinted(&mut hints).await, "{path} appeared");
            write(&rig.file(path), "\n");
            assert!(hinted(&mut hints).await, "{path} changed");
        }
    });
}

#[test]
fn other_files_wake_nobody() {
    on_a_host(async |rig| {
        write(&rig.file("/etc/resolv.conf"), "");
        write(&rig.file("/etc/wireguard/wg0.conf"), "");
        write(&rig.file("/etc/passwd"), "");
        std::fs::create_dir_all(rig.file("/run")).unwrap();
        let mut hints = rig.net.watch();
        while timeout(Duration::from_millis(100), hints.recv()).await.is_ok() {}
        for path in [
            "/etc/passwd",
            "/etc/shadow",
            "/etc/ssl/cert.pem",
            "/run/some.pid",
            "/other",
        ] {
            write(&rig.file(path), "x");
        }
        let told = timeout(Duration::from_millis(300), hints.recv()).await;
        assert!(told.is_err(), "{told:?}");
    });
}

#[test]
fn a_resolv_conf_that_is_a_link_is_followed() {
    on_a_host(async |rig| {
        let target = rig.file("/run/elsewhere/resolv.conf");
        write(&target, "nameserver 10.0.0.53\n");
        std::fs::create_dir_all(rig.file("/etc")).unwrap();
        std::os::unix::fs::symlink(&target, rig.file("/etc/resolv.conf")).unwrap();
        let mut hints = rig.net.watch();
        while timeout(Duration::from_millis(100), hints.recv()).await.is_ok() {}
        write(&target, "nameserver 10.0.0.54\n");
        assert!(hinted(&mut hints).await);
        let all = told(&rig).await;
        assert!(
            all.contains(&"10.0.0.54/32 name server in /etc/resolv.conf".to_owned()),
            "{all:?}"
        );
    });
}

#[test]
fn files_that_cannot_be_understood_fail_nothing_and_are_noted() {
    on_a_host(async |rig| {
        write(&rig.file("/etc/docker/daemon.json"), "{");
        write(
            &rig.file("/etc/wireguard/wg0.conf"),
            "[Peer]\nAllowedIPs = 10.5.0.0/24, ten\n",
        );
        let found = rig.net.observe().await.unwrap();
        assert_eq!(
            *found.notes,
            [
                "/etc/docker/daemon.json:1: EOF while parsing an object at line 1 column 1",
                "/etc/wireguard/wg0.conf:2: `ten` is no address range",
            ]
        );
        assert!(
            found
                .claims
                .iter()
                .any(|claim| claim.range.to_string() == "10.5.0.0/24")
        );
    });
}

/// What was followed is what one sees who comes anew and lists everything.
async fn is_as_listed(rig: &Rig, after: &str) {
    // Consequences come a moment later.
    tokio::time::sleep(Duration::from_millis(15)).await;
    let followed = rig.net.observe().await.unwrap();
    let listed = rig.net.observe_anew().await.unwrap();
    assert_eq!(followed, listed, "after `{after}`");
}

#[test]
fn what_is_followed_is_what_is_there_whatever_others_do() {
    on_a_host(async |rig| {
        rig.networks().await;
        rig.guest(1, 10).await;
        rig.net.observe().await.unwrap();
        for damage in [
            "ip link add f0 type bridge",
            "ip addr add 10.60.0.1/24 dev f0",
            "ip link set f0 up",
            "ip route add 10.61.0.0/16 via 10.60.0.9 dev f0",
            "ip route add 10.62.0.0/16 via 10.60.0.9 dev f0 metric 7",
            "ip route append 10.62.0.0/16 via 10.60.0.8 dev f0 metric 7",
            "ip route replace 10.62.0.0/16 via 10.60.0.7 dev f0 metric 7",
            "ip route add 10.63.0.0/16 dev f0 src 10.60.0.1 table 100",
            "ip rule add to 10.64.0.0/16 table 100",
            "ip route add blackhole 10.65.0.0/16",
            "ip route add 10.66.0.0/16 nexthop via 10.60.0.5 nexthop via 10.60.0.6",
            "ip -6 addr add fd60::1/64 dev f0 nodad",
            "ip -6 route add fd61::/48 via fd60::9 dev f0",
            "ip -6 route append fd61::/48 via fd60::8 dev f0",
            "ip -6 route del fd61::/48 via fd60::9 dev f0",
            "ip addr add 10.60.0.2/24 dev f0",
            "ip addr del 10.60.0.1/24 dev f0",
            "ip link set f0 name f1",
            "ip link set f1 down",
            "ip link set f1 up",
            "ip link set f1 down",
            "ip rule del to 10.64.0.0/16 table 100",
            "ip route del blackhole 10.65.0.0/16",
            "ip link del f1",
            "ip link set ls-b1 down",
            "ip link set ls-b1 up",
            "ip addr flush dev ls-b1",
            "ip link set ls-b1 mtu 1400",
            "ip link set ls-v1-10 nomaster",
            "ip link set ls-v1-10 master ls-b2",
            "sysctl -w net.ipv4.conf.ls-b1.forwarding=0",
            "sysctl -w net.ipv4.ip_forward=0",
            "sysctl -w net.ipv6.conf.all.forwarding=0",
            "ip link set ls-r1 down",
            "ip link del ls-r1",
            "ip link del ls-v1-10",
            "ip link del ls-b1",
        ] {
            sh(damage);
            is_as_listed(&rig, damage).await;
        }
    });
}

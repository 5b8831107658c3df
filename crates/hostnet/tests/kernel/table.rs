//! The nftables table: written once, changed by elements, kept by its owner.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use linkspan_hostnet::{FirewallChange, FirewallError, TableState};
use linkspan_plan::{Dnat, Firewall};
use linkspan_site::Protocol::{Tcp, Udp};

use crate::rig::*;

fn many(count: u16) -> BTreeSet<Dnat> {
    (0..count)
        .map(|number| {
            publish(
                if number % 2 == 0 { Tcp } else { Udp },
                HOST4,
                10_000 + number,
                guest4(1, 10),
                80,
            )
        })
        .collect()
}

#[test]
fn the_same_rules_again_change_nothing() {
    on_a_host(async |rig| {
        let desired = firewall(many(3));
        let first = rig.net.apply_firewall(&desired).await.unwrap();
        // 3 bridges, each on its own and paired; 2 outward; 4 subnets; 3 ports of one container.
        assert_eq!(
            first,
            FirewallChange {
                added: 16,
                removed: 0,
                rebuilt: true
            }
        );
        assert_eq!(
            rig.net.apply_firewall(&desired).await.unwrap(),
            FirewallChange::default()
        );
        let fewer = rig.net.apply_firewall(&firewall(many(2))).await.unwrap();
        assert_eq!(
            fewer,
            FirewallChange {
                added: 0,
                removed: 1,
                rebuilt: false
            }
        );
    });
}

#[test]
fn another_tool_reads_what_was_meant() {
    on_a_host(async |rig| {
        let desired = firewall([
            publish(Tcp, HOST4, 8080, guest4(1, 10), 80),
            publish(Udp, std::net::Ipv6Addr::UNSPECIFIED, 53, guest6(2, 10), 5353),
            publish_run(Tcp, HOST4, 20_000, 10_000, guest4(1, 10)),
        ]);
        rig.net.apply_firewall(&desired).await.unwrap();
        let text = sh("nft list table inet linkspan");
        for part in [
            "tcp . 192.0.2.1 . 8080 : 10.90.1.10 . 80",
            "udp . 53 : fd90:0:0:2::a . 5353",
            "tcp . 192.0.2.1 . 20000-29999 : 10.90.1.10",
            "dnat ip to meta l4proto . ip daddr . th dport map @runs4",
            "elements = { 10.90.1.0/24, 10.90.2.0/24 }",
            "fd90:0:0:1::/64",
            "\"ls-b1\" . \"ls-b1\"",
            "iifname . oifname @same ct status dnat masquerade",
            "dnat ip to meta l4proto . ip daddr . th dport map @publish4",
            "type nat hook prerouting priority dstnat - 10; policy accept;",
        ] {
            assert!(text.contains(part), "no `{part}` in\n{text}");
        }
    });
}

#[test]
fn a_flush_by_another_tool_does_not_last() {
    on_a_host(async |rig| {
        rig.networks().await;
        let a = rig.guest(1, 10).await;
        serve(&a.netns, a.v4, 80);
        let desired = firewall([publish(Tcp, HOST4, 8080, a.v4, 80)]);
        rig.net.apply_firewall(&desired).await.unwrap();
        sh("nft flush ruleset");
        // On kernels with owned tables nothing has happened; on others the watch has told us.
        tokio::time::sleep(Duration::from_millis(100)).await;
        rig.net.apply_firewall(&desired).await.unwrap();
        assert_eq!(ask(&lan(), HOST4, 8080).unwrap(), LAN4.to_string());
        assert!(ask(&lan(), a.v4, 80).is_err());
    });
}

#[test]
fn the_next_daemon_adopts_the_table_that_the_last_one_left() {
    on_a_host(async |rig| {
        let desired = firewall(many(5));
        rig.net.apply_firewall(&desired).await.unwrap();
        let next = rig.another_daemon().await;
        assert_eq!(next.observe().await.unwrap().table, TableState::Intact);
        let owned = next.apply_firewall(&desired).await;
        assert!(
            matches!(owned, Err(FirewallError::Owned)),
            "two daemons at once: {owned:?}"
        );
        drop(rig);
        assert_eq!(
            next.apply_firewall(&desired).await.unwrap(),
            FirewallChange::default(),
            "claimed as it was"
        );
        sh("nft flush ruleset");
        assert_eq!(
            next.observe().await.unwrap().table,
            TableState::Intact,
            "and owned again"
        );
        let more = next.apply_firewall(&firewall(many(6))).await.unwrap();
        assert_eq!(
            more,
            FirewallChange {
                added: 1,
                removed: 0,
                rebuilt: false
            }
        );
    });
}

#[test]
fn a_table_that_was_flushed_or_changed_while_no_daemon_ran_is_written_anew() {
    on_a_host(async |rig| {
        let desired = firewall(many(5));
        rig.net.apply_firewall(&desired).await.unwrap();
        let next = rig.another_daemon().await;
        drop(rig);
        sh("nft delete table inet linkspan");
        assert_eq!(next.observe().await.unwrap().table, TableState::Absent);
        assert!(next.apply_firewall(&desired).await.unwrap().rebuilt);
        assert_eq!(next.observe().await.unwrap().table, TableState::Intact);
    });
}

#[test]
fn a_foreign_table_of_our_name_is_replaced() {
    on_a_host(async |rig| {
        for line in [
            "add table inet linkspan",
            "add chain inet linkspan guard",
            "add set inet linkspan bridges { type ifname; }",
        ] {
            sh(&format!("nft {line}"));
        }
        assert_eq!(rig.net.observe().await.unwrap().table, TableState::Damaged);
        assert!(rig.net.apply_firewall(&firewall([])).await.unwrap().rebuilt);
        assert_eq!(rig.net.observe().await.unwrap().table, TableState::Intact);
    });
}

#[test]
fn elements_that_another_tool_put_in_are_taken_out() {
    on_a_host(async |rig| {
        rig.net.apply_firewall(&firewall(many(2))).await.unwrap();
        let next = rig.another_daemon().await;
        drop(rig);
        sh("nft add element inet linkspan bridges { evil0 }");
        sh("nft delete element inet linkspan masquerade4 { 10.90.2.0/24 }");
        let change = next.apply_firewall(&firewall(many(2))).await.unwrap();
        assert_eq!(
            change,
            FirewallChange {
                added: 1,
                removed: 1,
                rebuilt: false
            }
        );
    });
}

#[test]
fn other_tables_are_left_alone() {
    on_a_host(async |rig| {
        sh("nft add table inet other");
        sh("nft add chain inet other c { type filter hook input priority 0; }");
        let before = sh("nft list table inet other");
        rig.net.apply_firewall(&firewall(many(5))).await.unwrap();
        rig.net.apply_firewall(&Firewall::default()).await.unwrap();
        rig.net.remove_all().await.unwrap();
        assert_eq!(sh("nft list ruleset"), before);
    });
}

#[test]
fn ten_thousand_ports_are_one_quick_transaction() {
    on_a_host(async |rig| {
        let desired = firewall(many(10_000));
        let start = Instant::now();
        let change = rig.net.apply_firewall(&desired).await.unwrap();
        let all = start.elapsed();
        assert_eq!(change.added, 10_013);
        let start = Instant::now();
        rig.net.apply_firewall(&firewall(many(10_001))).await.unwrap();
        let one_more = start.elapsed();
        let next = rig.another_daemon().await;
        drop(rig);
        let start = Instant::now();
        assert_eq!(
            next.apply_firewall(&firewall(many(10_001))).await.unwrap(),
            FirewallChange::default()
        );
        let adopted = start.elapsed();
        println!("10,000 ports: {all:?}; one more: {one_more:?}; adopted: {adopted:?}");
        assert!(all < Duration::from_secs(3), "{all:?}");
        assert!(one_more < Duration::from_secs(1), "{one_more:?}");
    });
}

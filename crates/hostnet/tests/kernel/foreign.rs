//! What is told of other firewalls, and of our own rules.

use std::time::Duration;

use linkspan_hostnet::{Backend, Flow, ForeignChain, Hint, Outcome, Owner};
use linkspan_plan::Firewall;
use linkspan_site::Protocol::Tcp;

use crate::coexist::docker;
use crate::rig::*;

fn named<'a>(chains: &'a [ForeignChain], family: &str, name: &str) -> &'a ForeignChain {
    let found = chains
        .iter()
        .find(|chain| chain.family == family && chain.name == name);
    found.unwrap_or_else(|| panic!("no {family} {name} in {chains:#?}"))
}

fn outcomes(chain: &ForeignChain) -> Vec<(Flow, Outcome)> {
    chain
        .effects
        .iter()
        .map(|effect| (effect.flow, effect.outcome))
        .collect()
}

#[test]
fn dockers_policy_is_told_with_what_helps() {
    on_a_host(async |rig| {
        rig.networks().await;
        try_sh("sysctl -q -w net.bridge.bridge-nf-call-iptables=0");
        try_sh("sysctl -q -w net.bridge.bridge-nf-call-ip6tables=0");
        assert!(
            rig.net.foreign_chains().await.unwrap().is_empty(),
            "our own table is no foreign one"
        );
        docker("iptables-nft");
        let chains = rig.net.foreign_chains().await.unwrap();
        let forward = named(&chains, "ip", "FORWARD");
        assert_eq!(
            outcomes(forward),
            [
                (Flow::Outward, Outcome::Dropped),
                (Flow::Published, Outcome::Dropped),
                (Flow::Answers, Outcome::Dropped)
            ]
        );
        assert_eq!(forward.owners, [Owner::Docker].into());
        assert_eq!(
            (forward.hook, forward.priority, forward.accepts_by_policy),
            ("forward", 0, false)
        );
        assert!(!forward.accepts_ours);
        assert_eq!(
            forward.words,
            "drops connections of containers to the outside, connections from outside to published ports, answers of \
             and to containers (by the policy of chain `FORWARD`)"
        );
        assert_eq!(
            forward.remedy.as_deref().unwrap(),
            "iptables -I DOCKER-USER -i ls-b+ -m comment --comment linkspan -j ACCEPT && \
             iptables -I DOCKER-USER -o ls-b+ -m comment --comment linkspan -j ACCEPT"
        );
        let nat = named(&chains, "ip", "PREROUTING");
        assert!(
            nat.words.starts_with("translates destinations after us"),
            "{}",
            nat.words
        );

        rig.net.coexist(true).await.unwrap();
        let chains = rig.net.foreign_chains().await.unwrap();
        let forward = named(&chains, "ip", "FORWARD");
        assert!(
            outcomes(forward)
                .iter()
                .all(|(_, outcome)| *outcome == Outcome::Passes),
            "{forward:#?}"
        );
        assert!(forward.accepts_ours);
        assert_eq!(forward.remedy, None);
    });
}

#[test]
fn traffic_within_a_network_counts_where_frames_are_shown() {
    on_a_host(async |rig| {
        rig.networks().await;
        if !try_sh("sysctl -q -w net.bridge.bridge-nf-call-iptables=1")
            .status
            .success()
        {
            skip("this kernel has no bridge netfilter");
            return;
        }
        docker("iptables-nft");
        let chains = rig.net.foreign_chains().await.unwrap();
        assert!(outcomes(named(&chains, "ip", "FORWARD")).contains(&(Flow::Within, Outcome::Dropped)));
    });
}

#[test]
fn chains_of_nftables_are_read_with_their_maps() {
    on_a_host(async |rig| {
        rig.networks().await;
        for line in [
            "add table inet firewalld",
            "add chain inet firewalld filter_FORWARD { type filter hook forward priority 10; policy accept; }",
            "add rule inet firewalld filter_FORWARD ct state { established, related } accept",
            "add rule inet firewalld filter_FORWARD ct status dnat accept",
            "add rule inet firewalld filter_FORWARD ip6 daddr 2002::/16 reject",
            "add rule inet firewalld filter_FORWARD reject with icmpx admin-prohibited",
            "add table ip mine",
            "add chain ip mine into { type filter hook input priority 0; policy drop; }",
            "add rule ip mine into ct state vmap { established : accept, related : accept, invalid : drop }",
            "add rule ip mine into iifname { lo, ls-b1 } accept",
        ] {
            sh(&format!("nft {line}"));
        }
        let chains = rig.net.foreign_chains().await.unwrap();
        let forward = named(&chains, "inet", "filter_FORWARD");
        let of = |flow| forward.effects.iter().find(|effect| effect.flow == flow).unwrap();
        assert_eq!(of(Flow::Outward).outcome, Outcome::Dropped);
        assert_eq!(
            of(Flow::Outward).by.as_deref(),
            Some("rule 4 of chain `filter_FORWARD`")
        );
        assert_eq!(
            of(Flow::Published).outcome,
            Outcome::Passes,
            "it lets through what was translated"
        );
        assert_eq!(of(Flow::Answers).outcome, Outcome::Passes);
        assert_eq!(forward.owners, [Owner::Firewalld].into());
        assert!(forward.remedy.as_ref().unwrap().starts_with("firewall-cmd "));
        let input = named(&chains, "ip", "into");
        assert_eq!(
            outcomes(input),
            [(Flow::ToHost, Outcome::Depends)],
            "one of our bridges is let through, others are not"
        );
    });
}

#[test]
fn answers_are_told_from_new_connections_by_iptables_own_matches() {
    on_a_host(async |rig| {
        rig.networks().await;
        sh("iptables-nft -P FORWARD DROP");
        sh("iptables-nft -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT");
        sh("ip6tables-nft -P FORWARD DROP");
        sh("ip6tables-nft -A FORWARD -m rt --rt-type 0 -j DROP");
        sh("ip6tables-nft -A FORWARD -m state ! --state NEW,INVALID -m comment --comment answers -j ACCEPT");
        let chains = rig.net.foreign_chains().await.unwrap();
        for family in ["ip", "ip6"] {
            let forward = outcomes(named(&chains, family, "FORWARD"));
            assert!(
                forward.contains(&(Flow::Answers, Outcome::Passes)),
                "{family}: {forward:?}"
            );
            assert!(
                forward.contains(&(Flow::Outward, Outcome::Dropped)),
                "{family}: {forward:?}"
            );
        }
    });
}

#[test]
fn a_map_of_pairs_of_links_is_more_than_we_can_tell() {
    on_a_host(async |rig| {
        rig.networks().await;
        for line in [
            "add table inet mine",
            "add chain inet mine pass { type filter hook forward priority 0; policy drop; }",
            "add rule inet mine pass iifname . oifname { uplink . ls-b1, eth7 . eth8 } accept",
            "add rule inet mine pass iifname vmap { eth7 : drop, uplink : accept }",
        ] {
            sh(&format!("nft {line}"));
        }
        let chains = rig.net.foreign_chains().await.unwrap();
        let pass = outcomes(named(&chains, "inet", "pass"));
        assert!(pass.contains(&(Flow::Published, Outcome::Passes)), "{pass:?}");
        assert!(pass.contains(&(Flow::Outward, Outcome::Depends)), "{pass:?}");
    });
}

#[test]
fn changes_of_others_rules_are_told_but_not_those_of_their_sets() {
    on_a_host(async |rig| {
        let mut hints = rig.net.watch();
        let told = async |hints: &mut tokio::sync::mpsc::Receiver<Hint>| {
            tokio::time::sleep(Duration::from_millis(200)).await;
            std::iter::from_fn(|| hints.try_recv().ok()).any(|hint| hint == Hint::Foreign)
        };
        sh("nft add table ip f2b");
        sh("nft add set ip f2b banned { type ipv4_addr; }");
        sh("nft add chain ip f2b input { type filter hook input priority -1; }");
        assert!(told(&mut hints).await);
        sh("nft add element ip f2b banned { 203.0.113.9 }");
        assert!(!told(&mut hints).await, "a ban is no business of ours");
        rig.networks().await;
        assert!(!told(&mut hints).await, "our own table is no foreign one");
        sh("nft add rule ip f2b input ip saddr @banned drop");
        assert!(told(&mut hints).await);
    });
}

#[test]
fn the_older_filter_is_read_by_its_program() {
    on_a_host(async |rig| {
        if !try_sh("iptables-legacy -S").status.success() {
            skip("this kernel has no legacy filter");
            return;
        }
        rig.networks().await;
        docker("iptables-legacy");
        let chains = rig.net.foreign_chains().await.unwrap();
        let forward = named(&chains, "ip", "FORWARD");
        assert_eq!(forward.backend, Backend::Legacy);
        assert!(outcomes(forward).contains(&(Flow::Outward, Outcome::Dropped)));
        assert!(
            forward
                .remedy
                .as_ref()
                .unwrap()
                .starts_with("iptables-legacy -I DOCKER-USER")
        );
    });
}

#[test]
fn our_rules_are_explained_with_what_they_hold_and_have_dropped() {
    on_a_host(async |rig| {
        assert!(
            rig.net.explain_firewall().await.unwrap().is_empty(),
            "no table yet"
        );
        rig.networks().await;
        let a = rig.guest(1, 10).await;
        serve(&a.netns, a.v4, 80);
        let desired = Firewall {
            isolated: ["ls-b2".to_owned()].into(),
            ..firewall([
                publish(Tcp, HOST4, 8080, a.v4, 80),
                publish(Tcp, HOST4, 8081, a.v4, 80),
                publish_run(Tcp, HOST4, 20_000, 10_000, a.v4),
            ])
        };
        rig.net.apply_firewall(&desired).await.unwrap();
        assert!(ask(&lan(), a.v4, 80).is_err());
        let rules = rig.net.explain_firewall().await.unwrap();
        let rule = |comment: &str| rules.iter().find(|rule| rule.comment == comment).unwrap();
        let held = |comment: &str| {
            let sets = &rule(comment).sets;
            sets.iter()
                .map(|set| (set.name, set.elements))
                .collect::<Vec<_>>()
        };
        assert_eq!(held("published on an address, IPv4"), [("publish4", 2)]);
        assert_eq!(held("published in a run on an address, IPv4"), [("runs4", 1)]);
        assert_eq!(held("on one network"), [("isolated", 1), ("same", 3)]);
        let guard = rule("from outside, not published, IPv4");
        assert_eq!(
            (guard.chain, guard.hook, guard.priority),
            ("guard", "prerouting", -300)
        );
        assert!(guard.packets.unwrap() > 0 && guard.bytes.unwrap() > 0);
        assert_eq!(
            held("from outside, not published, IPv4"),
            [("bridges", 3), ("masquerade4", 2)]
        );
        assert_eq!(rule("answers").packets, None, "only what drops is counted");
    });
}

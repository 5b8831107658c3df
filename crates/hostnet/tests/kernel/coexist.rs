//! Beside other firewalls: what they drop is let through by the one accept that we make, and that goes with us.

use std::time::Duration;

use linkspan_hostnet::{AcceptChange, Backend, Hint};
use linkspan_site::Protocol::Tcp;
use tokio::time::timeout;

use crate::rig::*;

/// Rules as dockerd 20 to 28 makes them for `docker0`, with `iptables` or `ip6tables`.
pub(crate) fn docker(program: &str) {
    let nat = format!("{program} -t nat");
    for line in [
        "-P FORWARD DROP",
        "-N DOCKER",
        "-N DOCKER-ISOLATION-STAGE-1",
        "-N DOCKER-ISOLATION-STAGE-2",
        "-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        "-A FORWARD -o docker0 -j DOCKER",
        "-A FORWARD -i docker0 ! -o docker0 -j ACCEPT",
        "-A FORWARD -i docker0 -o docker0 -j ACCEPT",
        "-A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2",
        "-A DOCKER-ISOLATION-STAGE-1 -j RETURN",
        "-A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP",
        "-A DOCKER-ISOLATION-STAGE-2 -j RETURN",
        "-I FORWARD -j DOCKER-ISOLATION-STAGE-1",
        "-N DOCKER-USER",
        "-A DOCKER-USER -j RETURN",
        "-I FORWARD -j DOCKER-USER",
    ] {
        sh(&format!("{program} -w 5 {line}"));
    }
    for line in [
        "-N DOCKER",
        "-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER",
        "-A DOCKER -i docker0 -j RETURN",
    ] {
        sh(&format!("{nat} -w 5 {line}"));
    }
}

/// A saved ruleset, byte for byte, but the time and what the policies have counted.
fn saved(program: &str) -> String {
    let text = sh(program);
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| match line.split_once('[') {
            Some((chain, _)) if line.starts_with(':') => format!("{chain}\n"),
            _ => format!("{line}\n"),
        })
        .collect()
}

fn show_frames() {
    for family in ["iptables", "ip6tables"] {
        try_sh(&format!("sysctl -q -w net.bridge.bridge-nf-call-{family}=1"));
    }
}

/// What must flow: out, in, and between the two.
struct Traffic {
    a: Guest,
    b: Guest,
}

impl Traffic {
    async fn new(rig: &Rig) -> Self {
        show_frames();
        rig.networks().await;
        let (a, b) = (rig.guest(1, 10).await, rig.guest(1, 11).await);
        serve(&lan(), LAN4, 80);
        serve(&lan(), LAN6, 80);
        serve(&a.netns, a.v4, 80);
        serve(&a.netns, a.v6, 80);
        let ports = [
            publish(Tcp, HOST4, 8080, a.v4, 80),
            publish(Tcp, HOST6, 8080, a.v6, 80),
        ];
        rig.net.apply_firewall(&firewall(ports)).await.unwrap();
        Self { a, b }
    }

    fn flows4(&self) -> [bool; 3] {
        [
            ask(&self.a.netns, LAN4, 80).is_ok(),
            ask(&lan(), HOST4, 8080).is_ok_and(|from| from == LAN4.to_string()),
            ask(&self.b.netns, self.a.v4, 80).is_ok(),
        ]
    }

    fn flows6(&self) -> [bool; 3] {
        [
            ask(&self.a.netns, LAN6, 80).is_ok(),
            ask(&lan(), HOST6, 8080).is_ok_and(|from| from == LAN6.to_string()),
            ask(&self.b.netns, self.a.v6, 80).is_ok(),
        ]
    }
}

#[test]
fn beside_docker_everything_flows_and_nothing_is_left_behind() {
    on_a_host(async |rig| {
        let traffic = Traffic::new(&rig).await;
        docker("iptables-nft");
        docker("ip6tables-nft");
        let before = (saved("iptables-nft-save"), saved("ip6tables-nft-save"));
        assert_eq!(traffic.flows4(), [false; 3], "Docker's policy");
        assert_eq!(traffic.flows6(), [false; 3], "Docker's policy");

        let made = rig.net.coexist(true).await.unwrap();
        let places: Vec<_> = made
            .iter()
            .map(|accept| (accept.place.as_str(), accept.done))
            .collect();
        assert_eq!(
            places,
            [
                ("ip filter DOCKER-USER", AcceptChange::Made),
                ("ip6 filter DOCKER-USER", AcceptChange::Made)
            ]
        );
        assert_eq!(traffic.flows4(), [true; 3]);
        assert_eq!(traffic.flows6(), [true; 3]);
        // The program that made the chain reads what we wrote as its own.
        for program in ["iptables-nft", "ip6tables-nft"] {
            assert_eq!(
                sh(&format!("{program} -S DOCKER-USER")),
                "-N DOCKER-USER\n\
                 -A DOCKER-USER -i ls-b+ -m comment --comment linkspan -j ACCEPT\n\
                 -A DOCKER-USER -o ls-b+ -m comment --comment linkspan -j ACCEPT\n\
                 -A DOCKER-USER -j RETURN\n"
            );
            sh(&format!(
                "{program} -C DOCKER-USER -i ls-b+ -m comment --comment linkspan -j ACCEPT"
            ));
        }
        let again = rig.net.coexist(true).await.unwrap();
        assert!(
            again.iter().all(|accept| accept.done == AcceptChange::Kept),
            "{again:?}"
        );

        let removed = rig.net.coexist(false).await.unwrap();
        assert!(
            removed.iter().all(|accept| accept.done == AcceptChange::Removed),
            "{removed:?}"
        );
        assert_eq!((saved("iptables-nft-save"), saved("ip6tables-nft-save")), before);
        assert!(rig.net.coexist(false).await.unwrap().is_empty());

        rig.net.coexist(true).await.unwrap();
        rig.net.remove_all().await.unwrap();
        assert_eq!(
            (saved("iptables-nft-save"), saved("ip6tables-nft-save")),
            before,
            "when we go"
        );
    });
}

#[test]
fn an_accept_that_was_flushed_is_told_and_made_again() {
    on_a_host(async |rig| {
        let traffic = Traffic::new(&rig).await;
        docker("iptables-nft");
        rig.net.coexist(true).await.unwrap();
        let mut hints = rig.net.watch();
        for damage in [
            "iptables-nft -F DOCKER-USER",
            "iptables-nft -D DOCKER-USER -o ls-b+ -m comment --comment linkspan -j ACCEPT",
        ] {
            tokio::time::sleep(Duration::from_millis(100)).await;
            while hints.try_recv().is_ok() {}
            sh(damage);
            assert!(!traffic.flows4()[1], "{damage}");
            let hint = timeout(Duration::from_secs(1), hints.recv()).await.unwrap();
            assert_eq!(hint, Some(Hint::Foreign), "{damage}");
            let made = rig.net.coexist(true).await.unwrap();
            assert_eq!(made[0].done, AcceptChange::Made);
            assert_eq!(traffic.flows4(), [true; 3], "{damage}");
        }
        // A restart of dockerd: it empties the chain's neighbours and puts its own jump first again.
        sh("iptables-nft -F FORWARD");
        sh("iptables-nft -F DOCKER-USER");
        sh("iptables-nft -A DOCKER-USER -j RETURN");
        sh("iptables-nft -I FORWARD -j DOCKER-USER");
        rig.net.coexist(true).await.unwrap();
        assert_eq!(traffic.flows4(), [true; 3]);
    });
}

#[test]
fn the_users_own_rules_go_first() {
    on_a_host(async |rig| {
        let traffic = Traffic::new(&rig).await;
        docker("iptables-nft");
        sh(&format!(
            "iptables-nft -I DOCKER-USER -s {LAN4} -m comment --comment mine -j DROP"
        ));
        let before = saved("iptables-nft-save");
        rig.net.coexist(true).await.unwrap();
        assert_eq!(
            traffic.flows4(),
            [false, false, true],
            "he wants nothing from there, answers included"
        );
        rig.net.coexist(false).await.unwrap();
        assert_eq!(saved("iptables-nft-save"), before);
    });
}

#[test]
fn one_behind_a_closing_return_is_moved_before_it() {
    on_a_host(async |rig| {
        let traffic = Traffic::new(&rig).await;
        docker("iptables-nft");
        for option in ["-i", "-o", "-o"] {
            sh(&format!(
                "iptables-nft -A DOCKER-USER {option} ls-b+ -m comment --comment linkspan -j ACCEPT"
            ));
        }
        assert_eq!(traffic.flows4(), [false; 3]);
        rig.net.coexist(true).await.unwrap();
        assert_eq!(traffic.flows4(), [true; 3]);
        assert_eq!(sh("iptables-nft -S DOCKER-USER").lines().count(), 4);
    });
}

#[test]
fn what_our_own_table_forbids_stays_forbidden() {
    on_a_host(async |rig| {
        let traffic = Traffic::new(&rig).await;
        docker("iptables-nft");
        rig.net.coexist(true).await.unwrap();
        let other = rig.guest(2, 10).await;
        serve(&other.netns, other.v4, 80);
        assert!(ask(&traffic.a.netns, other.v4, 80).is_err(), "another network");
        assert!(ask(&lan(), traffic.a.v4, 80).is_err(), "not by its own address");
        let inside = rig.guest(3, 10).await;
        sh(&format!(
            "nsenter --net={} ip route replace default via {}",
            inside.netns.display(),
            guest4(3, 1)
        ));
        assert!(ask(&inside.netns, LAN4, 80).is_err(), "an internal network");
    });
}

#[test]
fn ufws_chain_for_forwarded_traffic_is_used_alike() {
    on_a_host(async |rig| {
        let traffic = Traffic::new(&rig).await;
        for (program, name) in [("iptables-nft", "ufw"), ("ip6tables-nft", "ufw6")] {
            for line in [
                "-P FORWARD DROP".to_owned(),
                format!("-N {name}-before-forward"),
                format!("-N {name}-user-forward"),
                format!("-N {name}-reject-forward"),
                format!("-A FORWARD -j {name}-before-forward"),
                format!("-A FORWARD -j {name}-reject-forward"),
                format!("-A {name}-before-forward -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"),
                format!("-A {name}-before-forward -j {name}-user-forward"),
                format!("-A {name}-user-forward -i wg0 -o eth0 -j ACCEPT"),
            ] {
                sh(&format!("{program} -w 5 {line}"));
            }
        }
        let before = (saved("iptables-nft-save"), saved("ip6tables-nft-save"));
        assert_eq!(traffic.flows4(), [false; 3]);
        let made = rig.net.coexist(true).await.unwrap();
        assert_eq!(made.len(), 2, "{made:?}");
        assert_eq!(traffic.flows4(), [true; 3]);
        assert_eq!(traffic.flows6(), [true; 3]);
        rig.net.coexist(false).await.unwrap();
        assert_eq!((saved("iptables-nft-save"), saved("ip6tables-nft-save")), before);
    });
}

#[test]
fn a_policy_without_a_place_for_others_is_left_alone() {
    on_a_host(async |rig| {
        let traffic = Traffic::new(&rig).await;
        sh("iptables-nft -P FORWARD DROP");
        let before = saved("iptables-nft-save");
        assert!(rig.net.coexist(true).await.unwrap().is_empty());
        assert_eq!(saved("iptables-nft-save"), before);
        assert_eq!(traffic.flows4(), [false; 3]);
        // The report has a command that helps.
        let chains = rig.net.foreign_chains().await.unwrap();
        let forward = chains.iter().find(|chain| chain.name == "FORWARD").unwrap();
        for command in forward.remedy.as_ref().unwrap().split(" && ") {
            sh(command);
        }
        assert_eq!(traffic.flows4(), [true; 3]);
    });
}

#[test]
fn the_older_filter_is_told_by_its_own_program() {
    on_a_host(async |rig| {
        if !try_sh("iptables-legacy -S").status.success() {
            skip("this kernel has no legacy filter");
            return;
        }
        let traffic = Traffic::new(&rig).await;
        docker("iptables-legacy");
        // Policies count packets, and so differ; rules and chains do not.
        let rules = || sh("iptables-legacy -S");
        let before = rules();
        assert_eq!(traffic.flows4(), [false; 3]);
        let made = rig.net.coexist(true).await.unwrap();
        assert_eq!(made.len(), 1);
        assert_eq!(
            (made[0].backend, made[0].done),
            (Backend::Legacy, AcceptChange::Made)
        );
        assert_eq!(traffic.flows4(), [true; 3]);
        assert_eq!(rig.net.coexist(true).await.unwrap()[0].done, AcceptChange::Kept);
        rig.net.coexist(false).await.unwrap();
        assert_eq!(rules(), before);
    });
}

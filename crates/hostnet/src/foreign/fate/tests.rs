//! Walking chains.

use std::collections::BTreeMap;

use super::*;
use crate::foreign::legacy;
use crate::foreign::rules::{ESTABLISHED, IPV4, Link, NEW};

/// What becomes of a connection from a container to the outside in chain `FORWARD` with these rules.
fn of_new(rules: &str) -> Fate {
    of(rules, NEW)
}

fn of(rules: &str, state: u32) -> Fate {
    let chains = ":FORWARD DROP [0:0]\n:SUB - [0:0]\n:LOOP - [0:0]";
    let tables: BTreeMap<_, _> = legacy::tables(&format!("*filter\n{chains}\n{rules}\n"));
    let packet = Packet {
        family: IPV4,
        iif: Some(Link::Ours),
        oif: Some(Link::Named("eth0")),
        state,
        published: false,
    };
    fate(&tables["filter"], "FORWARD", &packet)
}

fn policy() -> String {
    "the policy of chain `FORWARD`".to_owned()
}

#[test]
fn a_rule_for_other_links_decides_nothing() {
    assert_eq!(of_new("-A FORWARD -i docker0 -j ACCEPT"), Fate::Dropped(policy()));
    assert_eq!(of_new("-A FORWARD ! -i docker0 -j ACCEPT"), Fate::Passes);
    assert_eq!(of_new("-A FORWARD -o eth+ -j ACCEPT"), Fate::Passes);
    assert_eq!(of_new("-A FORWARD -i ls-b+ -j ACCEPT"), Fate::Passes);
}

#[test]
fn one_of_our_bridges_is_not_all_of_them() {
    assert_eq!(
        of_new("-A FORWARD -i ls-b12345678 -j ACCEPT"),
        Fate::Perhaps(policy())
    );
}

#[test]
fn states_are_told_apart() {
    let answers = "-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT";
    assert_eq!(of(answers, NEW), Fate::Dropped(policy()));
    assert_eq!(of(answers, ESTABLISHED), Fate::Passes);
    assert_eq!(
        of("-A FORWARD -m state ! --state NEW -j ACCEPT", ESTABLISHED),
        Fate::Passes
    );
}

#[test]
fn what_depends_on_addresses_is_uncertain() {
    assert_eq!(
        of_new("-A FORWARD -s 10.0.0.0/8 -j ACCEPT"),
        Fate::Perhaps(policy())
    );
    let drop = "-A FORWARD -d 192.0.2.1 -j DROP\n-A FORWARD -j ACCEPT";
    assert_eq!(
        of_new(drop),
        Fate::Perhaps("rule 1 of chain `FORWARD`".to_owned())
    );
}

#[test]
fn jumps_come_back_and_gotos_do_not() {
    assert_eq!(
        of_new("-A FORWARD -j SUB\n-A FORWARD -j ACCEPT\n-A SUB -j RETURN\n-A SUB -j DROP"),
        Fate::Passes
    );
    assert_eq!(
        of_new("-A FORWARD -g SUB\n-A FORWARD -j ACCEPT\n-A SUB -j RETURN"),
        Fate::Dropped(policy())
    );
    assert_eq!(
        of_new("-A FORWARD -j SUB\n-A FORWARD -j ACCEPT\n-A SUB -p tcp -j REJECT --reject-with tcp-reset"),
        Fate::Dropped("rule 1 of chain `SUB`".to_owned())
    );
}

#[test]
fn a_return_that_may_apply_makes_what_follows_uncertain() {
    assert_eq!(
        of_new("-A FORWARD -j SUB\n-A FORWARD -j ACCEPT\n-A SUB -s 10.0.0.0/8 -j RETURN\n-A SUB -j DROP"),
        Fate::Perhaps("rule 2 of chain `SUB`".to_owned())
    );
}

#[test]
fn chains_that_lead_to_each_other_come_to_an_end() {
    assert_eq!(
        of_new("-A FORWARD -j LOOP\n-A LOOP -j SUB\n-A SUB -j LOOP"),
        Fate::Dropped(policy())
    );
}

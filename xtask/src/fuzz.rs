//! The fuzz targets in `fuzz/`, coverage-guided by LLVM's libFuzzer, with the toolchain that builds everything else.

use std::fs;
use std::process::Command;

use crate::{Outcome, program, root, target};

/// What `cargo fuzz` passes on a nightly toolchain, less the sanitizer, which is all that needs one: the code under
/// test has no `unsafe`.
const COVERAGE: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1";

/// The targets, as `fuzz/Cargo.toml` names them.
const TARGETS: [&str; 5] = ["site", "htpasswd", "dns", "h1_head", "h1_chunked"];

/// Runs every target for so many seconds. The inputs in `fuzz/corpus` are always tried; what is found goes to `target`.
pub(crate) fn run(seconds: u32) -> Outcome {
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let folder = target().join("fuzz");
    // With a target of its own, build scripts and macros stay free of counters.
    program::run(
        program::cargo([
            "build",
            "--quiet",
            "--release",
            "--manifest-path",
            "fuzz/Cargo.toml",
            "--target",
            &triple,
        ])
        .env("CARGO_TARGET_DIR", &folder)
        .env("RUSTFLAGS", COVERAGE),
    )?;
    for name in TARGETS {
        let found = folder.join("corpus").join(name);
        fs::create_dir_all(&found)?;
        let artifacts = format!("-artifact_prefix={}/", folder.join("corpus").display());
        println!("fuzz target `{name}` for {seconds} s");
        program::output(
            Command::new(folder.join(&triple).join("release").join(name))
                .arg(&found)
                .arg(root().join("fuzz/corpus").join(name))
                .args([
                    &format!("-max_total_time={seconds}"),
                    "-rss_limit_mb=2048",
                    "-timeout=10",
                    &artifacts,
                ]),
        )?;
    }
    Ok(())
}

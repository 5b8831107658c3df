//! One more container, one more network: does it cost the same with a thousand there?

use std::fmt::Write;
use std::process::Command;
use std::time::Instant;

use super::engine::Engine;
use super::{Bench, WEB, line};
use crate::bench::{median, millis};
use crate::{Outcome, program};

/// Measured at once, so that what `up` itself takes counts little.
const BATCH: usize = 10;
/// So many are started at once until they are there.
const STEP: usize = 100;

/// Containers on one network, from nothing to running.
pub(super) fn containers(bench: &Bench) -> Outcome {
    println!("milliseconds of each of {BATCH} more containers, from `up` to its end");
    let site = |replicas: usize| {
        format!(
            "containers: {{ web: {{ {WEB}, command: [sleep, '100000'], replicas: {replicas} }} }}\n\
             networks: {{ default: {{ subnet: 10.99.0.0/16 }} }}\n"
        )
    };
    // Images and caches are warm after the first.
    bench.up(&site(1))?;
    let mut first = f64::NAN;
    let mut links = f64::NAN;
    let mut filled = 1;
    for there in bench.sizes.containers {
        while filled < there {
            filled = there.min(filled + STEP);
            bench.up(&site(filled))?;
        }
        let each = bench.up(&site(there.max(1) + BATCH))? / BATCH as f64;
        // Of that, the links alone, as the kernel makes them: what it takes one by one.
        let bare = bare_links(there)?;
        if there == 0 {
            (first, links) = (each, bare);
        }
        line("linkspan, containers", there.max(1), each, "ms", first);
        line(
            "(the kernel's part: a pair on a bridge)",
            there.max(1),
            bare,
            "ms",
            links,
        );
    }
    println!("  all of them down: {:.1} s", bench.down()? / 1000.0);
    for engine in &bench.engines {
        theirs(bench, engine)?;
    }
    Ok(())
}

/// The same with another engine, which starts them one by one.
fn theirs(bench: &Bench, engine: &Engine) -> Outcome {
    let mut number = 0;
    let mut more = |count: usize| -> Outcome<f64> {
        let clock = Instant::now();
        for _ in 0..count {
            number += 1;
            engine.run(&format!("bench-{number}"), &[], &["sleep", "100000"])?;
        }
        Ok(millis(clock.elapsed()))
    };
    more(1)?;
    let mut first = f64::NAN;
    for there in bench.sizes.their_containers {
        more(there.saturating_sub(BATCH + 1))?;
        let each = more(BATCH)? / BATCH as f64;
        if there == 0 {
            first = each;
        }
        line(
            &format!("{} run -d", engine.name()),
            there.max(1),
            each,
            "ms",
            first,
        );
    }
    let names: Vec<String> = (1..=number).map(|number| format!("bench-{number}")).collect();
    engine.remove(&names)
}

/// A veth pair whose end is a port of a bridge with so many others, made by `ip`; the median of ten.
fn bare_links(there: usize) -> Outcome<f64> {
    let ip = |line: &str| program::output(Command::new("ip").args(line.split(' ')));
    ip("netns add bare")?;
    ip("-n bare link add br0 type bridge")?;
    let mut script = String::new();
    for index in 0..there {
        let _ = writeln!(
            script,
            "link add v{index} master br0 type veth peer name p{index}"
        );
    }
    let file = std::env::temp_dir().join(format!("linkspan-bench-links-{}", std::process::id()));
    std::fs::write(&file, script)?;
    program::output(Command::new("ip").args(["-n", "bare", "-batch"]).arg(&file))?;
    std::fs::remove_file(&file)?;
    let mut times = Vec::new();
    for index in 0..BATCH {
        let clock = Instant::now();
        ip(&format!(
            "-n bare link add w{index} master br0 type veth peer name q{index}"
        ))?;
        times.push(millis(clock.elapsed()));
    }
    ip("netns del bare")?;
    Ok(median(&times))
}

/// Networks without a container: bridge, resolver's leg, addresses, firewall.
pub(super) fn networks(bench: &Bench) -> Outcome {
    println!("milliseconds of each of {BATCH} more networks, from `up` to its end");
    let site = |count: usize| {
        let mut text = "containers:\n".to_owned();
        for index in 0..count {
            let _ = writeln!(text, "  c{index}: {{ {WEB}, replicas: 0, networks: [n{index}] }}");
        }
        text.push_str("networks:\n");
        for index in 0..count {
            let _ = writeln!(text, "  n{index}: {{}}");
        }
        text
    };
    bench.up(&site(1))?;
    let mut first = f64::NAN;
    let [_, middle, most] = bench.sizes.networks;
    for there in bench.sizes.networks {
        let filled = bench.up(&site(there.max(1)))?;
        let each = bench.up(&site(there.max(1) + BATCH))? / BATCH as f64;
        if there == 0 {
            first = each;
        }
        line("linkspan, networks", there.max(1), each, "ms", first);
        if there == most {
            println!(
                "  from {} to {there} networks at once: {:.1} s",
                middle + BATCH,
                filled / 1000.0
            );
        }
    }
    println!("  all of them down: {:.1} s", bench.down()? / 1000.0);
    for engine in &bench.engines {
        their_networks(bench, engine)?;
    }
    Ok(())
}

/// Podman makes a bridge only when a container is on it; what it does before is measured.
fn their_networks(bench: &Bench, engine: &Engine) -> Outcome {
    let mut number = 0;
    let mut more = |count: usize| -> Outcome<f64> {
        let clock = Instant::now();
        for _ in 0..count {
            number += 1;
            program::output(&mut engine.command(&["network", "create", &format!("bench-{number}")]))?;
        }
        Ok(millis(clock.elapsed()))
    };
    let mut first = f64::NAN;
    for there in bench.sizes.their_networks {
        more(there.saturating_sub(BATCH))?;
        let each = more(BATCH.min(8))? / BATCH.min(8) as f64;
        if there == 0 {
            first = each;
        }
        line(
            &format!("{} network create", engine.name()),
            there.max(1),
            each,
            "ms",
            first,
        );
    }
    let names: Vec<String> = (1..=number).map(|number| format!("bench-{number}")).collect();
    program::output(engine.command(&["network", "rm"]).args(&names)).map(drop)
}

//! Many published ports: the time from `up` until the last of them is reached, and what the kernel was given.

use std::fmt::Write;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use super::engine::Engine;
use super::flows::in_lan;
use super::{Bench, WEB, line};
use crate::bench::millis;
use crate::{Failure, Outcome};

/// First host port.
const FIRST: u16 = 20_000;
/// Single ports, each a line of the file.
const SINGLE: [u16; 2] = [1, 500];
/// Ports of a range.
const RANGE: u16 = 10_000;

pub(super) fn run(bench: &Bench) -> Outcome {
    println!(
        "milliseconds from the start of a container until the LAN reaches the first and the last of its ports"
    );
    let mut first = f64::NAN;
    for count in SINGLE {
        let mut ports = String::new();
        for port in FIRST..FIRST + count {
            let _ = write!(ports, "'0.0.0.0:{port}:80', ");
        }
        let took = until_reached(
            bench,
            &format!("{WEB}, ports: [{}]", ports.trim_end_matches(", ")),
            &[FIRST, FIRST + count - 1],
        )?;
        if count == 1 {
            first = took;
        }
        line("linkspan, single ports", count.into(), took, "ms", first);
        told(bench)?;
        bench.down()?;
    }
    let mut failed = Ok(());
    let (last, inside) = (FIRST + RANGE - 1, 40_000);
    let listen = |first: u16, last: u16| {
        format!("command: [sh, -c, 'httpd -p {first} -h /www; httpd -f -p {last} -h /www']")
    };
    for (what, inner) in [
        ("linkspan, a range that keeps its numbers", FIRST),
        ("linkspan, a range that changes its numbers", inside),
    ] {
        let end = inner + RANGE - 1;
        let container = format!(
            "{WEB}, {}, ports: ['0.0.0.0:{FIRST}-{last}:{inner}-{end}']",
            listen(inner, end)
        );
        match until_reached(bench, &container, &[FIRST, last]) {
            Ok(took) => {
                line(what, RANGE.into(), took, "ms", first);
                told(bench)?;
            }
            // The others are measured all the same.
            Err(Failure(why)) => failed = Err(format!("{what}: {why}").into()),
        }
        let _ = bench.down();
    }
    for engine in &bench.engines {
        theirs(bench, engine)?;
    }
    failed
}

fn theirs(bench: &Bench, engine: &Engine) -> Outcome {
    let mut first = f64::NAN;
    for count in bench.sizes.their_ports {
        let published = (FIRST..FIRST + count).map(|port| format!("0.0.0.0:{port}:80"));
        let more: Vec<String> = published.flat_map(|port| ["-p".to_owned(), port]).collect();
        let clock = Instant::now();
        engine.run("bench", &more, &[])?;
        reach(&[FIRST, FIRST + count - 1])?;
        let took = millis(clock.elapsed());
        if count == 1 {
            first = took;
        }
        line(
            &format!("{} run -d -p … -p …", engine.name()),
            count.into(),
            took,
            "ms",
            first,
        );
        engine.remove(&["bench".to_owned()])?;
    }
    Ok(())
}

fn told(bench: &Bench) -> Outcome {
    let (elements, rules) = bench.table()?;
    println!("  {:<52} {elements:>6} elements, {rules} rules", "");
    Ok(())
}

fn until_reached(bench: &Bench, container: &str, ports: &[u16]) -> Outcome<f64> {
    let clock = Instant::now();
    bench.up(&format!("containers: {{ web: {{ {container} }} }}\n"))?;
    reach(ports)?;
    Ok(millis(clock.elapsed()))
}

/// From the LAN, until each of these ports of this host answers.
fn reach(ports: &[u16]) -> Outcome {
    let ports = ports.to_vec();
    in_lan(move || {
        for port in ports {
            let address = SocketAddr::from(([192, 0, 2, 1], port));
            let begun = Instant::now();
            while super::flows::fetch(address, 0).is_err() {
                if begun.elapsed() > Duration::from_secs(60) {
                    return Err(format!("nothing answers at {address}").into());
                }
                thread::sleep(Duration::from_millis(2));
            }
        }
        Ok(())
    })
}

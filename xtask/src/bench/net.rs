//! What networks cost: containers attached, ports published, connections through them, names, beside Docker, podman and others.
//!
//! Each part is measured at several sizes, so that a cost that grows shows: the last column is a size's cost by the
//! first one's.

mod attach;
mod engine;
mod flows;
mod names;
mod ports;

use std::fs;
use std::process::{Command, Stdio};
use std::time::Instant;

use super::{Options, millis, private};
use crate::daemon::Daemon;
use crate::{Failure, Outcome, images, packages, program};

use engine::Engine;

/// What the peers take beside the suite's packages.
const PEERS: &[packages::Need] = &[
    ("dockerd", "docker.io"),
    ("docker", "docker.io"),
    ("docker-proxy", "docker.io"),
    ("haproxy", "haproxy"),
    ("dnsmasq", "dnsmasq-base"),
    ("dnsperf", "dnsperf"),
    ("podman", "podman"),
    ("netavark", "netavark"),
    ("aardvark-dns", "aardvark-dns"),
];

/// How many of each there are when more are measured: what ends within ten minutes, or all.
struct Sizes {
    containers: [usize; 3],
    networks: [usize; 3],
    /// Other engines take minutes for a thousand containers; Docker's pools hold 31 networks.
    their_containers: [usize; 2],
    their_networks: [usize; 2],
    /// Published one by one.
    their_ports: [u16; 2],
}

const SHORT: Sizes = Sizes {
    containers: [0, 50, 200],
    networks: [0, 50, 200],
    their_containers: [0, 30],
    their_networks: [0, 20],
    their_ports: [1, 100],
};
const FULL: Sizes = Sizes {
    containers: [0, 100, 990],
    networks: [0, 100, 990],
    their_containers: [0, 100],
    their_networks: [0, 20],
    their_ports: [1, 500],
};

/// A part of the benchmark.
type Part = fn(&Bench) -> Outcome;
const PARTS: [(&str, Part); 6] = [
    ("attach", attach::containers),
    ("networks", attach::networks),
    ("ports", ports::run),
    ("nat", flows::nat),
    ("localhost", flows::localhost),
    ("names", names::run),
];

/// The machine that is measured: a Linkspan daemon, other engines where they run, and a neighbour in the LAN.
struct Bench {
    daemon: Daemon,
    engines: Vec<Engine>,
    sizes: &'static Sizes,
    /// Of one measurement.
    seconds: u64,
}

/// Measures and prints all parts, or one.
pub(crate) fn run(options: &Options) -> Outcome {
    if let Some(only) = &options.only
        && !PARTS.iter().any(|(name, _)| name == only)
    {
        let all = PARTS.map(|(name, _)| name).join(", ");
        return Err(format!("`bench net` has no part `{only}`: they are {all}").into());
    }
    let Some(run) = private("net", options, PEERS)? else {
        return Ok(());
    };
    lan()?;
    let binary = options.binary.clone().ok_or("no binary was named")?;
    let daemon = Daemon::prepare(&run, binary, 8180, 8543)?;
    let mut child = daemon.start()?;
    let archive = images::folder().join("busybox.tar");
    program::run(
        daemon
            .linkspan(&["load", "--input"])
            .arg(&archive)
            .stdout(Stdio::null()),
    )?;
    // A host on which others don't run is no reason to measure nothing.
    let engines = Engine::all(&daemon.state, &archive);
    let bench = Bench {
        daemon,
        engines,
        sizes: if options.full { &FULL } else { &SHORT },
        seconds: options.seconds,
    };
    let wanted = |name: &str| options.only.as_deref().is_none_or(|only| only == name);
    let mut measured = Ok(());
    for (name, part) in PARTS.into_iter().filter(|(name, _)| wanted(name)) {
        let begun = Instant::now();
        println!("── {name}");
        // A part that can't be measured doesn't keep the others from it.
        if let Err(Failure(why)) = part(&bench) {
            println!("  FAILED: {why}");
            measured = Err(format!("part `{name}` failed").into());
        }
        let _ = bench.down();
        eprintln!("({name} took {:.0?})", begun.elapsed());
    }
    if measured.is_err() {
        eprintln!("── the daemon's log\n{}", bench.daemon.log());
    }
    drop(bench.engines);
    let stopped = bench.daemon.stop(&mut child);
    bench.daemon.remove()?;
    measured.and(stopped)
}

/// Switches forwarding on, and makes the other end of `wan0` a neighbour of its own, at 192.0.2.2.
fn lan() -> Outcome {
    for line in [
        // Docker makes the firewall drop what is forwarded if it is the first to ask for forwarding.
        "sysctl -q -w net.ipv4.ip_forward=1",
        "ip netns add lan",
        "ip link set wan1 netns lan",
        "ip -n lan address add 192.0.2.2/24 dev wan1",
        "ip -n lan link set wan1 up",
        "ip -n lan link set lo up",
    ] {
        let mut words = line.split(' ');
        program::output(Command::new(words.next().unwrap_or_default()).args(words))?;
    }
    Ok(())
}

impl Bench {
    /// Brings the benchmark's site to this state; how long that took, in milliseconds.
    fn up(&self, site: &str) -> Outcome<f64> {
        let file = self.daemon.state.join("bench.yaml");
        fs::write(&file, format!("name: bench\n{site}"))?;
        let clock = Instant::now();
        program::output(self.daemon.linkspan(&["up", "--file"]).arg(&file))?;
        Ok(millis(clock.elapsed()))
    }

    /// Takes the site down; how long that took, in milliseconds.
    fn down(&self) -> Outcome<f64> {
        let clock = Instant::now();
        program::output(&mut self.daemon.linkspan(&["down", "--timeout", "5m", "bench"]))?;
        Ok(millis(clock.elapsed()))
    }

    /// The address of a container and its process, by its name.
    fn container(&self, name: &str) -> Outcome<(String, u32)> {
        let text = program::output(&mut self.daemon.linkspan(&["inspect", name]))?;
        let pid = super::proxy::number_after(&text, "\"pid\":").ok_or("`linkspan inspect` names no pid")?;
        let pid = u32::try_from(pid).map_err(|_| "a pid is too large")?;
        let said = program::output(Command::new("nsenter").args([
            "-t",
            &pid.to_string(),
            "-n",
            "ip",
            "-4",
            "-o",
            "address",
            "show",
            "eth0",
        ]))?;
        let address = said
            .split(" inet ")
            .nth(1)
            .and_then(|rest| rest.split('/').next())
            .ok_or("the container has no address")?;
        Ok((address.to_owned(), pid))
    }

    /// Elements and rules of our table.
    fn table(&self) -> Outcome<(usize, usize)> {
        let text = program::output(Command::new("nft").args(["-a", "list", "table", "inet", "linkspan"]))?;
        let rules = text
            .lines()
            .filter(|line| {
                line.contains("# handle") && !line.trim_end().ends_with('{') && !line.contains(" {")
            })
            .count();
        let mut elements = 0;
        for part in text.split("elements = {").skip(1) {
            let inside = part.split('}').next().unwrap_or_default();
            elements += inside.split(',').filter(|one| !one.trim().is_empty()).count();
        }
        Ok((elements, rules))
    }
}

/// A container of the site that serves busybox's page on port 80.
const WEB: &str = "image: 'busybox:test', stop_signal: KILL";

/// One line of a table: what, at this size, in this unit, by the first size's.
fn line(what: &str, size: usize, value: f64, unit: &str, first: f64) {
    println!(
        "  {what:<52} {size:>6} {value:>10.2} {unit:<6} {:>6.2}",
        value / first
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_part_is_refused_before_anything_is_started() {
        let options = super::super::options(&["--only", "ntworks"]).expect("well formed");
        let Err(Failure(why)) = run(&options) else {
            panic!("accepted")
        };
        assert!(why.contains("networks"), "{why}");
    }
}

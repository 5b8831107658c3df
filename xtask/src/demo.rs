//! `cargo xtask demo`: the real daemon with the site of `configs/demo/`, and not a trace of it afterwards.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};

use crate::daemon::Daemon;
use crate::{Outcome, images, packages, program, root, target};

/// How the demo is run.
#[derive(Debug, Default)]
pub(crate) struct Options {
    /// Check every printed line, then end.
    pub(crate) once: bool,
    /// Use this `linkspan` instead of building one.
    pub(crate) binary: Option<PathBuf>,
}

/// Brings the demo up, waits for Ctrl-C, and takes it down, also when something failed on the way.
pub(crate) fn run(options: &Options) -> Outcome {
    if !program::is_root() {
        return Err("the demo makes network namespaces and containers: run it as root".into());
    }
    // From here on Ctrl-C is a wish that we fulfil in order. A handler, not a mask: programs we start inherit masks.
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted))?;
    }

    packages::install(packages::DEMO)?;
    let binary = match &options.binary {
        Some(binary) => binary.clone(),
        None => build()?,
    };
    images::make(&["demo-web", "demo-site"])?;
    let (http, https) = ports()?;
    let demo = Demo(Daemon::prepare("demo", binary, http, https)?);
    let ended = demo.show(options.once, &interrupted);
    let swept = demo.0.remove();
    ended?;
    let left = swept?;
    if left.is_empty() {
        println!("nothing is left of the demo");
        return Ok(());
    }
    let list = left.join("\n  ");
    let message = format!("the daemon had left something behind, which is removed now:\n  {list}");
    if options.once {
        return Err(message.into());
    }
    println!("{message}");
    Ok(())
}

fn build() -> Outcome<PathBuf> {
    println!("building linkspan (the first time takes some minutes)");
    program::run(&mut program::cargo([
        "build",
        "--locked",
        "--package",
        "linkspan",
        "--bin",
        "linkspan",
    ]))?;
    Ok(target().join("debug/linkspan"))
}

struct Demo(Daemon);

/// A line to print, and what its output must hold.
struct Line {
    about: &'static str,
    command: String,
    holds: &'static str,
}

impl Demo {
    fn show(&self, once: bool, interrupted: &AtomicBool) -> Outcome {
        let mut child = self.0.start()?;
        let shown = self.show_running(once, interrupted);
        if let Err(failure) = &shown {
            eprintln!("xtask: {}\n── the daemon's log\n{}", failure.0, self.0.log());
        }
        let down = program::run(
            self.0
                .linkspan(&["down", "demo", "--volumes"])
                .stdout(Stdio::null()),
        );
        let stopped = self.0.stop(&mut child);
        shown.and(down).and(stopped)
    }

    fn show_running(&self, once: bool, interrupted: &AtomicBool) -> Outcome {
        for name in ["demo-web.tar", "demo-site.tar"] {
            let archive = images::folder().join(name);
            program::run(
                self.0
                    .linkspan(&["load", "--input"])
                    .arg(&archive)
                    .stdout(Stdio::null()),
            )?;
        }
        let port = if self.0.https == 443 {
            String::new()
        } else {
            format!(":{}", self.0.https)
        };
        let site = root().join("configs/demo/linkspan.yaml");
        program::run(
            self.0
                .linkspan(&["up", "--file"])
                .arg(site)
                .env("DEMO_PORT", port),
        )?;
        let ca = self.0.ca()?;

        let lines = self.lines(&ca);
        println!("\nThe demo is up. Try, in another terminal:\n");
        for line in &lines {
            println!("  # {}\n  {}\n", line.about, line.command);
        }
        println!("  # kill a container, and see no request fail");
        println!(
            "  {} --run-dir {} kill demo-web-1\n",
            self.0.binary.display(),
            self.0.run.display()
        );
        if once {
            for line in &lines {
                check(line)?;
            }
            println!("all {} lines work as printed", lines.len());
            return Ok(());
        }
        println!("Ctrl-C takes it down and removes every trace.");
        while !interrupted.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(50));
        }
        println!();
        Ok(())
    }

    /// The lines that a person copies, and that `--once` runs.
    fn lines(&self, ca: &Path) -> Vec<Line> {
        let curl = |host: &str, path: &str, more: &str| {
            let (https, ca) = (self.0.https, ca.display());
            let port = if https == 443 {
                String::new()
            } else {
                format!(":{https}")
            };
            format!("curl --cacert {ca} --resolve {host}:{https}:127.0.0.1{more} https://{host}{port}{path}")
        };
        let upgrade = " -si -N --http1.1 -m 2 -H 'Connection: Upgrade' -H 'Upgrade: websocket' \
                       -H 'Sec-WebSocket-Version: 13' -H 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=='";
        let plain = if self.0.http == 80 {
            String::new()
        } else {
            format!(":{}", self.0.http)
        };
        vec![
            Line {
                about: "a web program with two replicas, over HTTP/2",
                command: curl("shop.localhost", "/", " -s"),
                holds: "Hello from ",
            },
            Line {
                about: "a path of the same host that another container serves",
                command: curl("shop.localhost", "/api/hello", " -s"),
                holds: "\"path\":\"/api/hello\"",
            },
            Line {
                about: "a static site",
                command: curl("static.localhost", "/", " -s"),
                holds: "<h1>A static site</h1>",
            },
            Line {
                about: "a redirect to the name without www",
                command: curl("www.shop.localhost", "/cart?item=1", " -si"),
                holds: "https://shop.localhost",
            },
            Line {
                about: "a WebSocket: the answer is 101 Switching Protocols",
                command: format!("{} | head -n 1", curl("shop.localhost", "/ws", upgrade)),
                holds: "HTTP/1.1 101 ",
            },
            Line {
                about: "plain HTTP redirects to HTTPS",
                command: format!(
                    "curl -si --resolve shop.localhost:{0}:127.0.0.1 http://shop.localhost{plain}/",
                    self.0.http
                ),
                holds: "308 Permanent Redirect",
            },
        ]
    }
}

/// Runs a line as a shell would, and looks at what it printed.
fn check(line: &Line) -> Outcome {
    let printed = program::output(Command::new("sh").args(["-c", &line.command]))?;
    if printed.contains(line.holds) {
        return Ok(());
    }
    Err(format!("`{}` printed no `{}` but:\n{printed}", line.command, line.holds).into())
}

/// 80 and 443, or 8080 and 8443 where one of them is taken.
fn ports() -> Outcome<(u16, u16)> {
    let taken = |port: u16| {
        TcpListener::bind(("0.0.0.0", port))
            .err()
            .map(|error| format!("port {port}: {error}"))
    };
    let Some(reason) = taken(80).or_else(|| taken(443)) else {
        return Ok((80, 443));
    };
    if let Some(other) = taken(8080).or_else(|| taken(8443)) {
        return Err(format!("no ports to listen on: {reason}; {other}").into());
    }
    println!("{reason}; the demo listens on 8080 and 8443 instead");
    Ok((8080, 8443))
}

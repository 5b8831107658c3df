//! From nothing to the first answer: `linkspan up` beside `docker run -d -p` and bare `runc`, with the same busybox.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::{Options, median, millis, ninetieth, private};
use crate::daemon::Daemon;
use crate::{Failure, Outcome, images, packages, program};

const ROUNDS: usize = 20;
/// What the peers take beside the suite's packages.
const PEERS: &[packages::Need] = &[
    ("dockerd", "docker.io"),
    ("docker", "docker.io"),
    ("runc", "runc"),
];

/// Measures and prints medians of [`ROUNDS`] interleaved rounds.
pub(crate) fn run(options: &Options) -> Outcome {
    let Some(run) = private("start", options, PEERS)? else {
        return Ok(());
    };
    let binary = options.binary.clone().ok_or("no binary was named")?;
    let daemon = Daemon::prepare(&run, binary, 8180, 8543)?;
    let mut child = daemon.start()?;
    let measured = compare(&daemon, options.rounds.unwrap_or(ROUNDS));
    if measured.is_err() {
        eprintln!("── the daemon's log\n{}", daemon.log());
    }
    // Best effort after a failure: whatever stays is swept below.
    let _ = program::output(&mut daemon.linkspan(&["down", "bench"]));
    let stopped = daemon.stop(&mut child);
    daemon.remove()?;
    measured.and(stopped)
}

fn compare(daemon: &Daemon, rounds: usize) -> Outcome {
    let archive = images::folder().join("busybox.tar");
    program::run(
        daemon
            .linkspan(&["load", "--input"])
            .arg(&archive)
            .stdout(Stdio::null()),
    )?;
    let site = Site::write(daemon)?;
    // Its data lies on the same disk as Linkspan's; a host on which it doesn't run is no reason to measure nothing.
    let docker = Docker::start(&daemon.state).and_then(|docker| docker.load(&archive).map(|()| docker));
    if let Err(Failure(why)) = &docker {
        println!("SKIP docker: {why}");
    }
    let bundle = bundle(&daemon.state)?;

    let mut ups = Vec::new();
    let (mut dockers, mut runcs) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        let up = site.round(daemon)?;
        let other = docker.as_ref().ok().map(Docker::round).transpose()?;
        let bare = runc(&bundle)?;
        eprintln!(
            "round {round} of {rounds}: https {:.1} port {:.1} docker {:.1} runc {bare:.1} ms",
            up.https,
            up.port,
            other.unwrap_or(f64::NAN),
        );
        // The first only fills caches.
        if round > 0 {
            ups.push(up);
            dockers.extend(other);
            runcs.push(bare);
        }
    }
    let of = |part: fn(&Up) -> f64| ups.iter().map(part).collect::<Vec<f64>>();
    println!("{rounds} interleaved rounds, milliseconds");
    println!("  {:<55} {:>8} {:>8} {:>10}", "", "median", "p90", "of docker");
    for (name, values) in [
        (
            "linkspan up → first HTTPS 200 (one curl after it)",
            of(|up| up.https),
        ),
        (
            "linkspan up → first byte from the published port",
            of(|up| up.port),
        ),
        (
            "docker run -d -p → first byte from the published port",
            dockers.clone(),
        ),
        ("runc run -d, host network → first byte", runcs),
    ] {
        let (middle, high) = (median(&values), ninetieth(&values));
        let ratio = middle / median(&dockers);
        println!("  {name:<55} {middle:>8.1} {high:>8.1} {ratio:>10.2}");
    }
    println!("where the time of an `up` goes, by the daemon's log; medians of each step, milliseconds");
    for (index, name) in STEPS.iter().enumerate() {
        let values: Vec<f64> = ups.iter().map(|up| up.steps[index]).collect();
        println!(
            "  {name:<55} {:>8.1} {:>8.1}",
            median(&values),
            ninetieth(&values)
        );
    }
    Ok(())
}

/// What [`Up::steps`] are, in order.
const STEPS: [&str; 9] = [
    "`up` is run → accepted",
    "accepted → network created",
    "network created → starting",
    "starting → started",
    "started → ready",
    "ready → converged",
    "converged → `up` ends",
    "`up` ends → HTTPS 200",
    "(a second curl, alone)",
];

/// Events between the steps: kind and action.
const EVENTS: [(&str, &str); 6] = [
    ("site", "accepted"),
    ("network", "created"),
    ("container", "starting"),
    ("container", "started"),
    ("container", "ready"),
    ("site", "converged"),
];

/// One `up`, in milliseconds.
struct Up {
    https: f64,
    port: f64,
    steps: [f64; STEPS.len()],
}

struct Site {
    file: PathBuf,
    ca: PathBuf,
}

impl Site {
    fn write(daemon: &Daemon) -> Outcome<Site> {
        let file = daemon.state.join("bench.yaml");
        let text = "name: bench\nroutes: { bench.localhost: web:80 }\n\
                    containers: { web: { image: 'busybox:test', stop_signal: KILL, ports: ['18081:80'] } }\n";
        fs::write(&file, text)?;
        Ok(Site {
            file,
            ca: daemon.ca()?,
        })
    }

    /// Two from nothing: one with a client that asks the published port all the time, one without.
    fn round(&self, daemon: &Daemon) -> Outcome<Up> {
        let clock = Instant::now();
        let up = {
            let mut command = self.up(daemon);
            thread::spawn(move || program::output(&mut command))
        };
        first_byte(18081, clock)?;
        let port = millis(clock.elapsed());
        up.join().map_err(|_| "`linkspan up` could not be waited for")??;
        program::output(&mut daemon.linkspan(&["down", "bench"]))?;

        let logged = daemon.log().len();
        let began = time_of_day();
        let clock = Instant::now();
        program::output(&mut self.up(daemon))?;
        let ended = millis(clock.elapsed());
        self.ask(daemon)?;
        let https = millis(clock.elapsed());
        self.ask(daemon)?;
        let again = millis(clock.elapsed());
        let log = daemon.log();
        let log = log.get(logged..).unwrap_or_default();
        program::output(&mut daemon.linkspan(&["down", "bench"]))?;

        let mut steps = [0.0; STEPS.len()];
        let mut since = 0.0;
        for (step, (kind, action)) in EVENTS.iter().enumerate() {
            let at = logged_at(log, kind, action)
                .ok_or_else(|| format!("the daemon logged no `{kind} {action}`:\n{log}"))?
                - began;
            steps[step] = at - since;
            since = at;
        }
        steps[6] = ended - since;
        steps[7] = https - ended;
        steps[8] = again - https;
        Ok(Up { https, port, steps })
    }

    fn up(&self, daemon: &Daemon) -> Command {
        let mut command = daemon.linkspan(&["up", "--file"]);
        command.arg(&self.file);
        command
    }

    fn ask(&self, daemon: &Daemon) -> Outcome {
        let authority = format!("bench.localhost:{}", daemon.https);
        let answer = program::output(
            Command::new("curl")
                .args(["-sf", "-o", "/dev/null", "-w", "%{http_code}", "--cacert"])
                .arg(&self.ca)
                .args([
                    "--resolve",
                    &format!("{authority}:127.0.0.1"),
                    &format!("https://{authority}/"),
                ]),
        )?;
        if answer != "200" {
            return Err(format!("the site answered {answer}").into());
        }
        Ok(())
    }
}

/// Milliseconds since midnight UTC.
fn time_of_day() -> f64 {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    millis(now) % 86_400_000.0
}

/// When an event was first logged, in the same unit: the daemon's events are no finer than a millisecond, its log is.
fn logged_at(log: &str, kind: &str, action: &str) -> Option<f64> {
    let (kind, action) = (format!("kind=\"{kind}\""), format!("action=\"{action}\""));
    let line = log
        .lines()
        .find(|line| line.contains(&kind) && line.contains(&action))?;
    let (_, time) = line.split_once('T')?;
    let mut parts = time.split_once('Z')?.0.split(':');
    let mut part = || parts.next()?.parse::<f64>().ok();
    Some(((part()? * 60.0 + part()?) * 60.0 + part()?) * 1000.0)
}

/// A Docker daemon of our own; gone when dropped.
pub(super) struct Docker {
    child: Child,
    host: String,
}

impl Docker {
    pub(super) fn start(state: &Path) -> Outcome<Docker> {
        let folder = state.join("docker");
        fs::create_dir(&folder)?;
        let host = format!("unix://{}", folder.join("docker.sock").display());
        let log = fs::File::create(folder.join("log"))?;
        let child = Command::new("dockerd")
            .args(["--host", &host, "--data-root"])
            .arg(folder.join("data"))
            // Under a name that is swept.
            .args(["--cgroup-parent", "/linkspan-bench", "--exec-root"])
            .arg(folder.join("exec"))
            .arg("--pidfile")
            .arg(folder.join("pid"))
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .map_err(|error| format!("cannot start `dockerd`: {error}"))?;
        let docker = Docker { child, host };
        let begun = Instant::now();
        while program::output(&mut docker.command(&["info"])).is_err() {
            if begun.elapsed() > Duration::from_secs(60) {
                let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
                return Err(format!("`dockerd` does not answer; its log:\n{log}").into());
            }
            thread::sleep(Duration::from_millis(200));
        }
        Ok(docker)
    }

    pub(super) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.args(["--host", &self.host]).args(args);
        command
    }

    pub(super) fn load(&self, archive: &Path) -> Outcome {
        program::output(self.command(&["load", "--input"]).arg(archive)).map(drop)
    }

    fn round(&self) -> Outcome<f64> {
        let clock = Instant::now();
        let run = [
            "run",
            "-d",
            "--name",
            "bench",
            "-p",
            "127.0.0.1:18082:80",
            "busybox:test",
        ];
        program::output(&mut self.command(&run))?;
        first_byte(18082, clock)?;
        let took = millis(clock.elapsed());
        program::output(&mut self.command(&["rm", "-f", "bench"]))?;
        Ok(took)
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let _ = program::output(&mut self.command(&["rm", "-f", "bench"]));
        let pid = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

/// A bundle of the same busybox for `runc`, on the host's network: no link, no NAT, no engine.
fn bundle(state: &Path) -> Outcome<PathBuf> {
    let bundle = state.join("bundle");
    let rootfs = bundle.join("rootfs");
    fs::create_dir_all(rootfs.join("bin"))?;
    fs::create_dir_all(rootfs.join("www"))?;
    fs::write(rootfs.join("www/index.html"), "busybox says hello\n")?;
    let busybox =
        program::find("busybox").ok_or("no `busybox` here; install the Debian package busybox-static")?;
    fs::copy(busybox, rootfs.join("bin/busybox"))?;
    program::output(Command::new("runc").arg("spec").current_dir(&bundle))?;
    let config = fs::read_to_string(bundle.join("config.json"))?;
    let config = config
        .replace("\"terminal\": true", "\"terminal\": false")
        .replace(
            "\"sh\"",
            r#""/bin/busybox","httpd","-f","-p","127.0.0.1:18083","-h","/www""#,
        );
    // Without a network namespace of its own.
    let network = config
        .find("\"type\": \"network\"")
        .ok_or("`runc spec` names no network namespace")?;
    let start = config[..network].rfind('{').ok_or("`runc spec` is not JSON")?;
    let end = config[network..].find("},").ok_or("`runc spec` is not JSON")? + network + 2;
    fs::write(
        bundle.join("config.json"),
        format!("{}{}", &config[..start], &config[end..]),
    )?;
    Ok(bundle)
}

fn runc(bundle: &Path) -> Outcome<f64> {
    let clock = Instant::now();
    let mut run = Command::new("runc");
    run.args(["run", "--detach", "linkspan-bench"])
        .current_dir(bundle);
    // Detached, it hands its own output to the container, so no pipe of ours may be that output.
    program::run(
        run.stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null()),
    )?;
    first_byte(18083, clock)?;
    let took = millis(clock.elapsed());
    program::output(Command::new("runc").args(["delete", "--force", "linkspan-bench"]))?;
    Ok(took)
}

/// Asks a port on this host until the first byte of an answer comes.
fn first_byte(port: u16, clock: Instant) -> Outcome {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    while clock.elapsed() < Duration::from_secs(30) {
        if ask(address).is_ok_and(|byte| byte == b'H') {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(1));
    }
    Err(format!("nothing answers on port {port}").into())
}

fn ask(address: SocketAddr) -> std::io::Result<u8> {
    // A first packet that came too early is not sent again for a second.
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_millis(25))?;
    stream.set_read_timeout(Some(Duration::from_millis(250)))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut byte = [0];
    stream.read_exact(&mut byte)?;
    Ok(byte[0])
}

#[cfg(test)]
mod tests {
    use super::logged_at;

    #[test]
    fn an_events_time_is_read_from_the_log() {
        let log = "2026-01-01T00:01:02.500000Z  INFO x: event kind=\"site\" name=\"a\" action=\"accepted\" detail=\"\"\n";
        assert_eq!(logged_at(log, "site", "accepted"), Some(62_500.0));
        assert_eq!(logged_at(log, "site", "down"), None);
    }
}

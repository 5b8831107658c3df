//! CPU time of a proxied request: Linkspan beside nginx and haproxy, each on one core, backend and load on another.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use super::{Options, median, private};
use crate::daemon::Daemon;
use crate::{Outcome, packages, program};

const ROUNDS: usize = 5;
const PEERS: &[packages::Need] = &[
    ("nginx", "nginx-light"),
    ("haproxy", "haproxy"),
    ("openssl", "openssl"),
    ("taskset", "util-linux"),
];

/// Bytes of a response's body.
const BODY: usize = 1024;

/// Measures and prints medians of [`ROUNDS`] interleaved rounds.
pub(crate) fn run(options: &Options) -> Outcome {
    let Some(run) = private("proxy", options, PEERS)? else {
        return Ok(());
    };
    let binary = options.binary.clone().ok_or("no binary was named")?;
    let daemon = Daemon::prepare(&run, binary, 8180, 8543)?;
    let settings = daemon.state.join("config.yaml");
    fs::write(&settings, "proxy_workers: 1\n")?;
    let mut child = daemon.start_with(&["--config", &settings.to_string_lossy()])?;
    let measured = compare(&daemon, options);
    if measured.is_err() {
        eprintln!("── the daemon's log\n{}", daemon.log());
    }
    let _ = program::output(&mut daemon.linkspan(&["down", "bench"]));
    let stopped = daemon.stop(&mut child);
    daemon.remove()?;
    measured.and(stopped)
}

/// What is spoken between client and proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Front {
    Plain,
    Tls,
    Http2,
}

impl Front {
    const ALL: [Front; 3] = [Front::Plain, Front::Tls, Front::Http2];

    fn name(self) -> &'static str {
        match self {
            Front::Plain => "HTTP/1.1 plain",
            Front::Tls => "HTTP/1.1 TLS 1.3",
            Front::Http2 => "HTTP/2 TLS 1.3",
        }
    }
}

/// A proxy under test.
struct Contender {
    name: &'static str,
    /// Its processes that forward.
    pids: Vec<u32>,
    plain: Option<u16>,
    tls: u16,
}

fn compare(daemon: &Daemon, options: &Options) -> Outcome {
    let backend = Nginx::backend(&daemon.state)?;
    let certificate = certificate(&daemon.state)?;
    let nginx = Nginx::proxy(&daemon.state, &certificate)?;
    let haproxy = haproxy(&daemon.state, &certificate)?;
    let site = daemon.state.join("bench.yaml");
    fs::write(
        &site,
        "name: bench\nroutes: { bench.localhost: { to: 'http://127.0.0.1:18090' } }\n",
    )?;
    program::run(
        daemon
            .linkspan(&["up", "--file"])
            .arg(&site)
            .stdout(Stdio::null()),
    )?;

    let status = program::output(&mut daemon.linkspan(&["status", "--format", "json"]))?;
    let pid = status
        .split_once("\"proxy\"")
        .and_then(|(_, rest)| number_after(rest, "\"pid\":"));
    let own = pid
        .and_then(|pid| u32::try_from(pid).ok())
        .ok_or("`linkspan status` names no proxy")?;
    let contenders = [
        // Plain HTTP is answered with a redirect; there is nothing to measure.
        Contender {
            name: "linkspan",
            pids: vec![own],
            plain: None,
            tls: daemon.https,
        },
        Contender {
            name: "nginx",
            pids: nginx.workers(),
            plain: Some(18091),
            tls: 18443,
        },
        Contender {
            name: "haproxy",
            pids: vec![haproxy.0.id()],
            plain: Some(18092),
            tls: 18444,
        },
    ];
    for contender in &contenders {
        for pid in &contender.pids {
            pin(*pid, 0)?;
        }
    }
    for pid in backend.workers() {
        pin(pid, 1)?;
    }

    let (rounds, seconds) = (options.rounds.unwrap_or(ROUNDS), options.seconds);
    println!("median of {rounds} interleaved rounds of {seconds} s, {BODY}-byte bodies, proxy on one core");
    for front in Front::ALL {
        println!("{}", front.name());
        let mut cpu = vec![Vec::new(); contenders.len()];
        let mut rate = vec![Vec::new(); contenders.len()];
        for round in 0..=rounds {
            for (index, contender) in contenders.iter().enumerate() {
                if front == Front::Plain && contender.plain.is_none() {
                    continue;
                }
                let before = cpu_seconds(&contender.pids)?;
                let requests = load(contender, front, seconds)?;
                let used = cpu_seconds(&contender.pids)? - before;
                if round == 0 {
                    // Connections and memory that stay are made in the first.
                    continue;
                }
                cpu[index].push(used * 1e6 / requests);
                rate[index].push(requests / seconds as f64);
            }
        }
        let reference = median(&cpu[1]);
        for (index, contender) in contenders.iter().enumerate() {
            if cpu[index].is_empty() {
                println!("  {:<10} redirects", contender.name);
                continue;
            }
            let micros = median(&cpu[index]);
            println!(
                "  {:<10} {micros:>7.1} µs CPU a request ({:.2} of nginx) {:>9.0} requests/s",
                contender.name,
                micros / reference,
                median(&rate[index])
            );
        }
    }
    Ok(())
}

/// Requests that were answered with 200 within so many seconds.
fn load(contender: &Contender, front: Front, seconds: u64) -> Outcome<f64> {
    let duration = seconds.to_string();
    let (scheme, port) = match (front, contender.plain) {
        (Front::Plain, Some(port)) => ("http", port),
        _ => ("https", contender.tls),
    };
    let url = format!("{scheme}://bench.localhost:{port}/");
    let mut command = Command::new("taskset");
    command.args([
        "-c",
        "1",
        "h2load",
        "--duration",
        &duration,
        "--warm-up-time",
        "0",
        "-t",
        "1",
    ]);
    match front {
        Front::Http2 => command.args(["-c", "8", "-m", "16"]),
        _ => command.args(["-c", "64", "--h1"]),
    };
    let out = program::output(command.arg(format!("--connect-to=127.0.0.1:{port}")).arg(&url))?;
    // `status codes: 12345 2xx, 0 3xx, 0 4xx, 0 5xx`
    let codes = out
        .lines()
        .find(|line| line.starts_with("status codes:"))
        .ok_or("h2load printed no status codes")?;
    let good = number_after(codes, "status codes:").ok_or("h2load counted nothing")?;
    if good == 0 || !codes.contains(" 0 3xx, 0 4xx, 0 5xx") {
        return Err(format!("{} answered `{codes}`", contender.name).into());
    }
    Ok(good as f64)
}

pub(super) fn number_after(text: &str, key: &str) -> Option<u64> {
    let (_, rest) = text.split_once(key)?;
    let digits: String = rest
        .trim_start()
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    digits.parse().ok()
}

/// User and system time of all threads, in seconds: fields 14 and 15 of `/proc/PID/stat`, proc(5).
pub(super) fn cpu_seconds(pids: &[u32]) -> Outcome<f64> {
    let mut ticks = 0;
    for pid in pids {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let (_, fields) = stat.rsplit_once(") ").ok_or("`/proc/PID/stat` has no name")?;
        let fields: Vec<&str> = fields.split(' ').collect();
        let time = |index: usize| {
            fields
                .get(index)
                .and_then(|field| field.parse::<u64>().ok())
                .unwrap_or(0)
        };
        ticks += time(11) + time(12);
    }
    // USER_HZ, which is 100 on every architecture that we build for.
    Ok(ticks as f64 / 100.0)
}

fn pin(pid: u32, core: u32) -> Outcome {
    let mut command = Command::new("taskset");
    program::output(command.args(["-a", "-c", "-p", &core.to_string(), &pid.to_string()])).map(drop)
}

fn certificate(state: &Path) -> Outcome<PathBuf> {
    let (key, certificate, both) = (
        state.join("peer.key"),
        state.join("peer.pem"),
        state.join("peer.both"),
    );
    program::output(
        Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-days",
                "2",
            ])
            .args([
                "-subj",
                "/CN=bench.localhost",
                "-addext",
                "subjectAltName=DNS:bench.localhost",
                "-keyout",
            ])
            .arg(&key)
            .arg("-out")
            .arg(&certificate),
    )?;
    fs::write(
        &both,
        fs::read_to_string(&certificate)? + &fs::read_to_string(&key)?,
    )?;
    Ok(both)
}

/// An nginx in the foreground; stopped when dropped.
struct Nginx(Child);

impl Nginx {
    fn backend(state: &Path) -> Outcome<Nginx> {
        let body = "x".repeat(BODY);
        Nginx::start(
            state,
            "backend",
            &format!("access_log off; server {{ listen 127.0.0.1:18090; return 200 '{body}'; }}"),
        )
    }

    fn proxy(state: &Path, certificate: &Path) -> Outcome<Nginx> {
        let (certificate, log) = (certificate.display(), state.join("nginx-access.log"));
        let log = log.display();
        Nginx::start(
            state,
            "proxy",
            // An access log, as nginx keeps by default and as Linkspan does.
            &format!(
                "access_log {log} combined; upstream backend {{ server 127.0.0.1:18090; keepalive 128; }}
                 server {{
                   listen 127.0.0.1:18091; listen 127.0.0.1:18443 ssl http2;
                   ssl_certificate {certificate}; ssl_certificate_key {certificate}; ssl_protocols TLSv1.3;
                   location / {{ proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection '';
                     proxy_set_header Host $host; proxy_set_header X-Forwarded-For $remote_addr; }}
                 }}"
            ),
        )
    }

    fn start(state: &Path, name: &str, servers: &str) -> Outcome<Nginx> {
        let folder = state.join(name);
        fs::create_dir(&folder)?;
        let file = folder.join("nginx.conf");
        let prefix = folder.display();
        let text = format!(
            "daemon off; user root; worker_processes 1; pid {prefix}/pid; error_log {prefix}/error.log;
             events {{ worker_connections 4096; }}
             http {{ keepalive_requests 1000000000; client_body_temp_path {prefix}/body;
               proxy_temp_path {prefix}/temp; fastcgi_temp_path {prefix}/f; uwsgi_temp_path {prefix}/u;
               scgi_temp_path {prefix}/s; {servers} }}"
        );
        fs::write(&file, text)?;
        let nginx = program::find("nginx").ok_or("no `nginx` here")?;
        let child = Command::new(nginx)
            .arg("-c")
            .arg(&file)
            .stdin(Stdio::null())
            .spawn()?;
        thread::sleep(Duration::from_millis(300));
        Ok(Nginx(child))
    }

    fn workers(&self) -> Vec<u32> {
        let pid = self.0.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        children
            .split_whitespace()
            .filter_map(|pid| pid.parse().ok())
            .collect()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.0.id().cast_signed());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.0.wait();
    }
}

/// A process that is killed when dropped.
pub(super) struct Owned(pub(super) Child);

impl Drop for Owned {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn haproxy(state: &Path, certificate: &Path) -> Outcome<Owned> {
    let file = state.join("haproxy.cfg");
    let certificate = certificate.display();
    let text = format!(
        "global\n  nbthread 1\n  ssl-default-bind-options ssl-min-ver TLSv1.3\n\
         defaults\n  mode http\n  timeout client 30s\n  timeout server 30s\n  timeout connect 5s\n  option forwardfor\n\
         \x20 http-reuse always\n\
         frontend f\n  bind 127.0.0.1:18092\n  bind 127.0.0.1:18444 ssl crt {certificate} alpn h2,http/1.1\n\
         \x20 default_backend b\n\
         backend b\n  server s 127.0.0.1:18090\n"
    );
    fs::write(&file, text)?;
    let haproxy = program::find("haproxy").ok_or("no `haproxy` here")?;
    let child = Command::new(haproxy)
        .arg("-db")
        .arg("-f")
        .arg(&file)
        .stdin(Stdio::null())
        .spawn()?;
    thread::sleep(Duration::from_millis(300));
    Ok(Owned(child))
}

//! A TCP port published on localhost, beside docker-proxy and haproxy in TCP mode: `cargo bench -p linkspan-proxy
//! --bench relay -- [--rounds N] [--seconds N] [--binary LINKSPAN]...`, as root. Without a binary it measures itself;
//! with several, one beside the other.
//!
//! All forwarders lead from loopback over a veth pair to one server in a network namespace of its own, as to a
//! container. They have the first core for themselves (more or less), clients and server the second. All take turns in
//! each round; figures of different runs don't compare. CPU time is that of the forwarder's process alone, what the
//! kernel does on its behalf included.
//!
//! This binary is both sides. With `proxy` as its first argument it is the data plane, else it measures.

#![allow(
    clippy::unwrap_used,
    reason = "a measurement that can't be made has nobody to tell but the person who runs it"
)]

mod load;

use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use linkspan_api::feed::{
    self, Endpoint, FeedReader, Forward, Service, Snapshot, SocketId, SocketKind, ToNetd, ToProxy, VERSION,
};
use load::median;
use nix::sched::{CloneFlags, CpuSet, sched_setaffinity, unshare};
use nix::unistd::Pid;
use tokio::net::UnixStream;

/// Where the server is.
const SERVER: ([u8; 4], u16) = ([198, 51, 100, 2], 7000);
/// Bulk connections at once.
const BULK: usize = 4;
/// Connections with small requests at once.
const BUSY: usize = 64;
/// New connections of one measurement.
const NEW: usize = 1_000;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|arg| arg == "proxy") {
        return linkspan_proxy::main(args.into_iter().skip(1).map(Into::into));
    }
    // `cargo bench` says so; a test runner that takes this for a test does not.
    if !args.iter().any(|arg| arg == "--bench") {
        return ExitCode::SUCCESS;
    }
    let value = |flag: &str| {
        let at = args.iter().position(|arg| arg == flag)?;
        args.get(at + 1).cloned()
    };
    let number = |flag, otherwise| value(flag).map_or(otherwise, |value| value.parse().expect(flag));
    if !nix::unistd::geteuid().is_root() {
        eprintln!("network namespaces are root's: run it as root");
        return ExitCode::FAILURE;
    }
    let flags = args.iter().zip(args.iter().skip(1));
    let mut binaries: Vec<PathBuf> = flags
        .filter(|(flag, _)| *flag == "--binary")
        .map(|(_, value)| value.into())
        .collect();
    if binaries.is_empty() {
        binaries.push(std::env::current_exe().expect("own path"));
    }
    let folder = tempfile::tempdir().expect("folder");
    network();
    let contenders = contenders(&binaries, folder.path());
    measure(
        &contenders,
        number("--rounds", 5),
        Duration::from_secs(number("--seconds", 2) as u64),
    );
    ExitCode::SUCCESS
}

/// A forwarder, or the server itself.
struct Contender {
    name: String,
    address: SocketAddr,
    process: Option<Process>,
}

/// Ends with the measurement.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Contender {
    /// Seconds of CPU that its threads have used, to the nanosecond (`/proc/PID/task/TID/schedstat`).
    fn cpu(&self) -> f64 {
        let Some(process) = &self.process else { return 0.0 };
        let tasks = std::fs::read_dir(format!("/proc/{}/task", process.0.id())).unwrap();
        let nanos = |task: std::fs::DirEntry| -> Option<f64> {
            let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse().ok()
        };
        tasks.flatten().filter_map(nanos).sum::<f64>() / 1e9
    }
}

// === The network ===

/// This process and all that it starts are in a namespace of their own from now on, with a server behind a veth pair.
fn network() {
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    on_core(1);
    run("ip link set lo up");
    run("ip link add outer type veth peer name inner");
    run("ip address add 198.51.100.1/24 dev outer");
    run("ip link set outer up");
    let (tell, told) = std::sync::mpsc::channel();
    let (go, wait) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        tell.send(nix::unistd::gettid()).unwrap();
        wait.recv().unwrap();
        run("ip address add 198.51.100.2/24 dev inner");
        run("ip link set inner up");
        let listener = TcpListener::bind(SocketAddr::from(SERVER)).unwrap();
        tell.send(nix::unistd::gettid()).unwrap();
        load::serve(&listener);
    });
    let thread: Pid = told.recv().unwrap();
    run(&format!("ip link set inner netns {thread}"));
    go.send(()).unwrap();
    told.recv().unwrap();
}

fn run(line: &str) {
    let mut words = line.split(' ');
    let status = Command::new(words.next().unwrap()).args(words).status().unwrap();
    assert!(status.success(), "{line}");
}

/// This thread, and what it starts, run on this core from now on.
fn on_core(core: usize) {
    let mut cores = CpuSet::new();
    cores.set(core).unwrap();
    sched_setaffinity(Pid::from_raw(0), &cores).unwrap();
}

// === Contenders ===

fn contenders(binaries: &[PathBuf], folder: &Path) -> Vec<Contender> {
    let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
    on_core(0);
    let mut all = vec![Contender {
        name: "no forwarder".to_owned(),
        address: SERVER.into(),
        process: None,
    }];
    for (port, binary) in (7010..).zip(binaries) {
        all.push(linkspan(binary, folder, at(port)));
    }
    if let Some(program) = find("docker-proxy") {
        // It reports on descriptor 3 that it listens, and closes that, whatever it is.
        let mut command = Command::new("sh");
        command
            .args(["-c", "exec \"$0\" \"$@\" 3>/dev/null"])
            .arg(program)
            .args(["-proto", "tcp", "-host-ip", "127.0.0.1", "-host-port", "7002"])
            .args(["-container-ip", "198.51.100.2", "-container-port", "7000"]);
        all.push(Contender {
            name: "docker-proxy".to_owned(),
            address: at(7002),
            process: Some(start(&mut command)),
        });
    }
    if let Some(program) = find("haproxy") {
        for (name, port, options) in [
            ("haproxy", 7003, ""),
            ("haproxy splice", 7004, "  option splice-auto\n"),
        ] {
            let file = folder.join(format!("haproxy-{port}.cfg"));
            let text = format!(
                "global\n  nbthread 1\n\
                 defaults\n  mode tcp\n  timeout client 30s\n  timeout server 30s\n  timeout connect 5s\n{options}\
                 listen l\n  bind 127.0.0.1:{port}\n  server s 198.51.100.2:7000\n"
            );
            std::fs::write(&file, text).unwrap();
            all.push(Contender {
                name: name.to_owned(),
                address: at(port),
                process: Some(start(Command::new(&program).arg("-db").arg("-f").arg(file))),
            });
        }
    }
    on_core(1);
    for contender in &all {
        let answers = || load::connections(contender.address, 1).is_ok();
        assert!(
            (0..50).any(|_| answers() || pause()),
            "{} does not answer",
            contender.name
        );
    }
    all
}

fn pause() -> bool {
    std::thread::sleep(Duration::from_millis(100));
    false
}

fn find(program: &str) -> Option<PathBuf> {
    let found = ["/usr/sbin", "/usr/bin"]
        .map(|folder| Path::new(folder).join(program))
        .into_iter()
        .find(|file| file.is_file());
    if found.is_none() {
        println!("no {program} here: left out");
    }
    found
}

fn start(command: &mut Command) -> Process {
    Process(
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap(),
    )
}

/// The data plane with one worker, confined as netd starts it.
fn linkspan(binary: &Path, folder: &Path, address: SocketAddr) -> Contender {
    let socket = folder.join(format!("feed-{}.sock", address.port()));
    let user = "64321";
    let mut command = Command::new(binary);
    command.args(["proxy", "--feed"]).arg(&socket).args([
        "--netns",
        "/proc/self/ns/net",
        "--workers",
        "1",
        "--uid",
        user,
        "--gid",
        user,
    ]);
    let process = start(&mut command);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(publish(&socket, address));
    Contender {
        name: format!("linkspan {}", address.port() - 7009),
        address,
        process: Some(process),
    }
}

async fn publish(socket: &Path, address: SocketAddr) {
    let mut stream = None;
    for _ in 0..100 {
        stream = UnixStream::connect(socket).await.ok();
        if stream.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (mut reader, mut writer): (FeedReader<ToNetd>, _) = feed::split(stream.expect("a proxy"));
    let hello = ToProxy::Hello { version: VERSION };
    writer.send(&hello, &[]).await.unwrap();
    reader.next().await.unwrap().expect("hello");
    let listener = TcpListener::bind(address).unwrap();
    let id = SocketId {
        kind: SocketKind::Tcp,
        address,
        shard: 0,
    };
    let sockets = [(id.clone(), listener.as_fd())];
    writer.send_sockets(ToProxy::Sockets, &sockets).await.unwrap();
    let endpoint = Endpoint {
        id: "server-1".to_owned(),
        generation: 1,
        addresses: vec![SERVER.0.into()],
    };
    let service = Service {
        endpoints: vec![endpoint],
        ..Service::default()
    };
    let snapshot = Snapshot {
        generation: 1,
        listeners: vec![id],
        forwards: vec![Forward {
            kind: SocketKind::Tcp,
            address,
            service: "bench/server".to_owned(),
            endpoint: None,
            port: SERVER.1,
        }],
        services: [("bench/server".to_owned(), service)].into(),
        ..Snapshot::default()
    };
    writer
        .send(&ToProxy::Snapshot(Box::new(snapshot)), &[])
        .await
        .unwrap();
    let (answer, _) = reader.next().await.unwrap().expect("an answer");
    assert_eq!(answer, ToNetd::Serving { generation: 1 });
}

// === Measuring ===

/// One figure of each kind for each round.
#[derive(Default)]
struct Figures {
    bulk_rate: Vec<f64>,
    bulk_cpu: Vec<f64>,
    requests_rate: Vec<f64>,
    requests_cpu: Vec<f64>,
    alone: Vec<f64>,
    connect: Vec<f64>,
    connect_cpu: Vec<f64>,
}

impl Figures {
    fn add(&mut self, contender: &Contender, time: Duration) -> std::io::Result<()> {
        let address = contender.address;
        let cpu = |before: f64| contender.cpu() - before;

        let before = contender.cpu();
        let (bytes, seconds) = load::bulk(address, BULK, time)?;
        self.bulk_cpu.push(cpu(before) * 1e3 / (bytes / 1e9));
        self.bulk_rate.push(bytes / 1e9 / seconds);

        let before = contender.cpu();
        let answered = load::requests(address, BUSY, time)?;
        self.requests_cpu.push(cpu(before) * 1e6 / answered);
        self.requests_rate.push(answered / time.as_secs_f64());

        let answered = load::requests(address, 1, time / 2)?;
        self.alone.push(time.as_secs_f64() / 2.0 * 1e6 / answered);

        let before = contender.cpu();
        self.connect.push(load::connections(address, NEW)? * 1e6);
        self.connect_cpu.push(cpu(before) * 1e6 / NEW as f64);
        Ok(())
    }
}

fn measure(contenders: &[Contender], rounds: usize, time: Duration) {
    let mut figures: Vec<Figures> = contenders.iter().map(|_| Figures::default()).collect();
    for round in 0..=rounds {
        for (contender, figures) in contenders.iter().zip(&mut figures) {
            // What is made once, and stays, is made in the first round.
            let mut unused = Figures::default();
            let added = if round == 0 { &mut unused } else { &mut *figures };
            added.add(contender, time).expect(&contender.name);
        }
    }
    println!("medians of {rounds} interleaved rounds, {time:?} each, forwarder on one core");
    println!(
        "{:<15} {:>7} {:>9} | {:>10} {:>9} | {:>10} | {:>10} {:>9}",
        "", "GB/s", "ms CPU/GB", "requests/s", "µs CPU", "alone µs", "connect µs", "µs CPU"
    );
    for (contender, figures) in contenders.iter().zip(&mut figures) {
        println!(
            "{:<15} {:>7.2} {:>9.1} | {:>10.0} {:>9.2} | {:>10.1} | {:>10.1} {:>9.1}",
            contender.name,
            median(&mut figures.bulk_rate),
            median(&mut figures.bulk_cpu),
            median(&mut figures.requests_rate),
            median(&mut figures.requests_cpu),
            median(&mut figures.alone),
            median(&mut figures.connect),
            median(&mut figures.connect_cpu),
        );
    }
}

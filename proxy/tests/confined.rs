//! The real process, started as root: what it gives up, what it serves after that, and how netd finds it again.
//!
//! This binary is both sides. With `proxy` as its first argument it is the data plane, else it is the test.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, ExitCode};
use std::time::Duration;

use linkspan_api::feed::{
    self, Action, Endpoint, FeedReader, FeedWriter, Route, Service, Snapshot, SocketId, SocketKind, Target,
    ToNetd, ToProxy, VERSION,
};
use tokio::net::UnixStream;

const NAME: &str = "a_proxy_started_as_root_serves_confined_and_gives_its_sockets_to_a_new_netd";
const USER: u32 = 64_321;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|arg| arg == "proxy") {
        return linkspan_proxy::main(args.into_iter().skip(1).map(Into::into));
    }
    // What `cargo nextest` and `cargo test` ask of a test binary without the usual harness.
    if args.iter().any(|arg| arg == "--list") {
        if !args.iter().any(|arg| arg == "--ignored") {
            println!("{NAME}: test");
        }
        return ExitCode::SUCCESS;
    }
    if args
        .iter()
        .any(|arg| !arg.starts_with('-') && !NAME.contains(arg.as_str()))
    {
        return ExitCode::SUCCESS;
    }
    if !nix::unistd::geteuid().is_root() {
        println!("SKIP: needs root");
        return if std::env::var("CI").is_ok_and(|ci| ci == "true") {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        };
    }
    tokio::runtime::Runtime::new().expect("runtime").block_on(test());
    println!("test {NAME} ... ok");
    ExitCode::SUCCESS
}

async fn test() {
    let folder = tempfile::tempdir().expect("folder");
    let socket = folder.path().join("feed.sock");
    let log = folder.path().join("access.log");
    let mut process = Process(
        Command::new(std::env::current_exe().expect("own path"))
            .args(["proxy", "--feed"])
            .arg(&socket)
            .args(["--netns", "/proc/self/ns/net", "--workers", "2", "--access-log"])
            .arg(&log)
            .args(["--uid", &USER.to_string(), "--gid", &USER.to_string()])
            .spawn()
            .expect("spawn"),
    );

    // The first netd.
    let (mut reader, mut writer) = connect(&socket).await;
    assert_eq!(mode(&socket) & 0o777, 0o600, "only root may connect");
    let (generation, sockets) = hello(&mut reader, &mut writer, process.0.id()).await;
    assert_eq!((generation, sockets.len()), (0, 0));
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address");
    let id = SocketId {
        kind: SocketKind::Http,
        address,
        shard: 0,
    };
    writer
        .send_sockets(ToProxy::Sockets, &[(id.clone(), listener.as_fd())])
        .await
        .expect("sockets");
    let upstream = upstream();
    snapshot(&mut reader, &mut writer, 7, &id, upstream).await;
    assert_eq!(get(address), "HTTP/1.1 200 OK");

    // Every thread of it.
    for task in std::fs::read_dir(format!("/proc/{}/task", process.0.id())).expect("tasks") {
        let status = std::fs::read_to_string(task.expect("task").path().join("status")).expect("status");
        let value = |name: &str| {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.unwrap_or_else(|| panic!("no {name}"))
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
        };
        let user = format!("{USER} {USER} {USER} {USER}");
        let thread = value("Name");
        assert_eq!(
            (value("Uid"), value("Gid"), value("Groups")),
            (user.clone(), user, String::new()),
            "{thread}"
        );
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(value(set), "0000000000000000", "{set} of {thread}");
        }
        assert_eq!(value("NoNewPrivs"), "1", "{thread}");
        assert_eq!(value("Seccomp"), "2", "{thread}");
    }

    // netd dies without a word; a new one finds the proxy, what it serves, and the sockets.
    drop((reader, writer, listener));
    assert_eq!(get(address), "HTTP/1.1 200 OK");
    let (mut reader, mut writer) = connect(&socket).await;
    let (generation, sockets) = hello(&mut reader, &mut writer, process.0.id()).await;
    assert_eq!(generation, 7);
    assert_eq!(sockets.iter().map(|(id, _)| id).collect::<Vec<_>>(), [&id]);
    let regained = TcpListener::from(sockets.into_iter().next().expect("one").1);
    assert_eq!(regained.local_addr().expect("address"), address);

    // Nonsense closes the feed and nothing else.
    let mut liar = std::os::unix::net::UnixStream::connect(&socket).expect("connect");
    liar.write_all(b"\0\0\0\x05hello").expect("write");
    assert_eq!(liar.read(&mut [0; 64]).expect("read"), 0);
    assert_eq!(get(address), "HTTP/1.1 200 OK");

    // A drain: the process ends by itself, the socket lives on with us.
    let (mut reader, mut writer) = connect(&socket).await;
    hello(&mut reader, &mut writer, process.0.id()).await;
    writer
        .send(&ToProxy::Drain { grace_ms: 5_000 }, &[])
        .await
        .expect("drain");
    assert!(process.ended().await.success());
    let waiting = TcpStream::connect(address).expect("connections queue up for the next proxy");
    drop((waiting, regained));
    let lines = std::fs::read_to_string(&log).expect("log");
    assert_eq!(lines.lines().count(), 3, "{lines}");
}

type Feed = (FeedReader<ToNetd>, FeedWriter);

async fn connect(socket: &Path) -> Feed {
    for _ in 0..200 {
        if let Ok(stream) = UnixStream::connect(socket).await {
            return feed::split(stream);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the proxy does not come up");
}

async fn next(reader: &mut FeedReader<ToNetd>) -> (ToNetd, Vec<OwnedFd>) {
    let next = tokio::time::timeout(Duration::from_secs(20), reader.next()).await;
    next.expect("in time").expect("a frame").expect("not the end")
}

async fn hello(
    reader: &mut FeedReader<ToNetd>,
    writer: &mut FeedWriter,
    pid: u32,
) -> (u64, Vec<(SocketId, OwnedFd)>) {
    writer
        .send(&ToProxy::Hello { version: VERSION }, &[])
        .await
        .expect("hello");
    let (
        ToNetd::Hello {
            version,
            pid: says,
            generation,
            sockets,
            ..
        },
        _,
    ) = next(reader).await
    else {
        panic!("no hello")
    };
    assert_eq!((version, says), (VERSION, pid));
    let mut held = Vec::new();
    while held.len() < sockets.len() {
        let (ToNetd::Sockets(ids), descriptors) = next(reader).await else {
            panic!("no sockets")
        };
        held.extend(ids.into_iter().zip(descriptors));
    }
    (generation, held)
}

async fn snapshot(
    reader: &mut FeedReader<ToNetd>,
    writer: &mut FeedWriter,
    generation: u64,
    listener: &SocketId,
    upstream: SocketAddr,
) {
    let target = Target::Service {
        id: "p/web".into(),
        port: upstream.port(),
    };
    let endpoint = Endpoint {
        id: "web-1".into(),
        generation: 1,
        addresses: vec![upstream.ip()],
    };
    let snapshot = Snapshot {
        generation,
        listeners: vec![listener.clone()],
        routes: vec![Route {
            project: "p".into(),
            host: linkspan_site::HostPattern::Exact("a.test".into()),
            path: "/".into(),
            action: Action::Forward(vec![target]),
            allow: vec![],
        }],
        services: [(
            "p/web".to_owned(),
            Service {
                endpoints: vec![endpoint],
                coming: false,
                reason: None,
            },
        )]
        .into(),
        ..Snapshot::default()
    };
    writer
        .send(&ToProxy::Snapshot(Box::new(snapshot)), &[])
        .await
        .expect("snapshot");
    let (answer, _) = next(reader).await;
    assert_eq!(answer, ToNetd::Serving { generation });
}

/// A server that answers every connection once.
fn upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("accept");
            let mut head = [0; 4096];
            if stream.read(&mut head).is_ok_and(|n| n > 0) {
                stream
                    .write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
                    .ok();
            }
        }
    });
    address
}

fn get(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).expect("connect");
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .expect("timeout");
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
        .expect("send");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answer");
    answer.lines().next().unwrap_or_default().to_owned()
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).expect("metadata").permissions().mode()
}

/// The process under test; never outlives the test.
struct Process(Child);

impl Process {
    async fn ended(&mut self) -> std::process::ExitStatus {
        for _ in 0..200 {
            if let Some(status) = self.0.try_wait().expect("wait") {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the proxy does not end");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

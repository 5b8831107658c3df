//! The real process, started as root: what it gives up, what it serves after that and from which network, and how netd
//! finds it again.
//!
//! This binary is both sides. With `proxy` as its first argument it is the data plane, else it is the test.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode};
use std::time::Duration;

use linkspan_api::feed::{
    self, Action, Endpoint, FeedReader, FeedWriter, Forward, Route, Service, Snapshot, SocketId, SocketKind,
    Target, ToNetd, ToProxy, VERSION,
};
use linkspan_dns::{Asker, Zone, ZoneNetwork};
use nix::sched::{CloneFlags, unshare};
use tokio::net::UnixStream;

const NAME: &str = "a_proxy_started_as_root_serves_confined_and_gives_its_sockets_to_a_new_netd";
const USER: u32 = 64_321;

/// The address of a container in the resolver's namespace.
const CONTAINER: [u8; 4] = [192, 0, 2, 2];
/// Bytes of every answer: more than what is copied.
const BODY: usize = 1 << 20;

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
    let host = server([127, 0, 0, 1].into(), 0, "200 OK");
    let namespace = resolver(host.port());
    let mut process = Process(
        Command::new(std::env::current_exe().expect("own path"))
            .args(["proxy", "--feed"])
            .arg(&socket)
            .arg("--netns")
            .arg(&namespace)
            .args(["--workers", "2", "--access-log"])
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
    let tcp = TcpListener::bind("127.0.0.1:0").expect("bind");
    let udp = UdpSocket::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address");
    let ports = (
        tcp.local_addr().expect("address"),
        udp.local_addr().expect("address"),
    );
    let id = |kind, address| SocketId {
        kind,
        address,
        shard: 0,
    };
    let resolver = UdpSocket::bind("127.0.0.1:0").expect("bind");
    let names = resolver.local_addr().expect("address");
    let ids = [
        id(SocketKind::Http, address),
        id(SocketKind::Tcp, ports.0),
        id(SocketKind::Udp, ports.1),
        id(SocketKind::DnsUdp, names),
    ];
    let descriptors = [listener.as_fd(), tcp.as_fd(), udp.as_fd(), resolver.as_fd()];
    let sockets: Vec<_> = ids.iter().cloned().zip(descriptors).collect();
    writer
        .send_sockets(ToProxy::Sockets, &sockets)
        .await
        .expect("sockets");
    let world = world(7, &ids, host.port(), stub());
    writer
        .send(&ToProxy::Snapshot(Box::new(world)), &[])
        .await
        .expect("snapshot");
    assert_eq!(next(&mut reader).await.0, ToNetd::Serving { generation: 7 });

    // A container is found in the resolver's namespace; one on the host's own network in the host's, where its
    // loopback addresses are, whatever listens on the same ones in the other.
    assert_eq!(get(address, "container.test"), "HTTP/1.1 201 Created");
    assert_eq!(get(address, "host.test"), "HTTP/1.1 200 OK");
    assert_eq!(get(ports.0, "whatever"), "HTTP/1.1 200 OK");
    assert_eq!(ask(ports.1), "200 OK");
    assert_eq!(resolve(names, "db"), [10, 1, 0, 9]);
    assert_eq!(resolve(names, "before.example"), [192, 0, 2, 1]);
    // The pipe through which the port's answer was spliced; 0 to 2 are what we were started with.
    let is_pipe = |number: u32| {
        let to = std::fs::read_link(format!("/proc/{}/fd/{number}", process.0.id()));
        to.is_ok_and(|to| to.to_string_lossy().starts_with("pipe:"))
    };
    assert!((3..200).any(is_pipe), "nothing was spliced");

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
    // Names are served meanwhile, also those of the world.
    drop((reader, writer, listener, tcp, udp, resolver));
    assert_eq!(get(address, "host.test"), "HTTP/1.1 200 OK");
    assert_eq!(resolve(names, "db"), [10, 1, 0, 9]);
    assert_eq!(resolve(names, "after.example"), [192, 0, 2, 1]);
    let (mut reader, mut writer) = connect(&socket).await;
    let (generation, sockets) = hello(&mut reader, &mut writer, process.0.id()).await;
    assert_eq!(generation, 7);
    assert_eq!(
        sockets.iter().map(|(id, _)| id).collect::<Vec<_>>(),
        ids.iter().collect::<Vec<_>>()
    );
    let regained = TcpListener::from(sockets.into_iter().next().expect("the first").1);
    assert_eq!(regained.local_addr().expect("address"), address);

    // Nonsense closes the feed and nothing else.
    let mut liar = std::os::unix::net::UnixStream::connect(&socket).expect("connect");
    liar.write_all(b"\0\0\0\x05hello").expect("write");
    assert_eq!(liar.read(&mut [0; 64]).expect("read"), 0);
    assert_eq!(get(address, "host.test"), "HTTP/1.1 200 OK");

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
    assert_eq!(lines.lines().count(), 4, "{lines}");
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

/// `host.test` and both ports lead to a container on the host's own network, `container.test` to one with its own.
fn world(generation: u64, listeners: &[SocketId], port: u16, stub: SocketAddr) -> Snapshot {
    let db = ZoneNetwork {
        names: [("db".to_owned(), vec![[10, 1, 0, 9].into()])].into(),
        ..ZoneNetwork::default()
    };
    let asker = Asker {
        networks: vec!["net".into()],
        forward: true,
        servers: vec![],
    };
    let target = |id: &str| Target::Service { id: id.into(), port };
    let route = |host: &str, service| Route {
        project: "p".into(),
        host: linkspan_site::HostPattern::Exact(host.into()),
        path: "/".into(),
        action: Action::Forward(vec![target(service)]),
        allow: vec![],
        middleware: Default::default(),
    };
    let service = |name: &str, addresses: Vec<IpAddr>| {
        let endpoint = Endpoint {
            id: format!("{name}-1"),
            generation: 1,
            addresses,
        };
        let service = Service {
            endpoints: vec![endpoint],
            coming: false,
            reason: None,
        };
        (format!("p/{name}"), service)
    };
    let forwards = listeners
        .iter()
        .filter(|id| matches!(id.kind, SocketKind::Tcp | SocketKind::Udp));
    Snapshot {
        generation,
        listeners: listeners.to_vec(),
        zone: Zone {
            networks: [("net".to_owned(), db)].into(),
            askers: [([127, 0, 0, 1].into(), asker)].into(),
        },
        name_servers: vec![stub],
        routes: vec![
            route("host.test", "p/host"),
            route("container.test", "p/container"),
        ],
        forwards: forwards
            .map(|id| Forward {
                kind: id.kind,
                address: id.address,
                service: "p/host".into(),
                endpoint: None,
                port,
            })
            .collect(),
        services: [
            service(
                "host",
                vec![[127, 0, 0, 1].into(), std::net::Ipv6Addr::LOCALHOST.into()],
            ),
            service("container", vec![CONTAINER.into()]),
        ]
        .into(),
        ..Snapshot::default()
    }
}

/// A network namespace for the proxy's workers, for as long as this process lives: a container in it, and on loopback
/// somebody that must never be asked.
fn resolver(port: u16) -> PathBuf {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("namespace");
        for line in ["link set lo up", "address add 192.0.2.2/32 dev lo"] {
            let status = Command::new("ip").args(line.split(' ')).status().expect("ip");
            assert!(status.success(), "ip {line}");
        }
        server(CONTAINER.into(), port, "201 Created");
        server([127, 0, 0, 1].into(), port, "404 Not Found");
        let path = format!(
            "/proc/{}/task/{}/ns/net",
            std::process::id(),
            nix::unistd::gettid()
        );
        tell.send(PathBuf::from(path)).expect("the test waits");
        loop {
            std::thread::park();
        }
    });
    told.recv().expect("a namespace")
}

/// A server that answers every connection once, and every datagram, with this status.
fn server(ip: IpAddr, port: u16, status: &'static str) -> SocketAddr {
    let listener = TcpListener::bind((ip, port)).expect("bind");
    let address = listener.local_addr().expect("address");
    let datagrams = UdpSocket::bind(address).expect("bind");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("accept");
            let mut head = [0; 4096];
            if stream.read(&mut head).is_ok_and(|n| n > 0) {
                let answer =
                    format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {BODY}\r\n\r\n");
                stream.write_all(answer.as_bytes()).ok();
                stream.write_all(&[b'x'; BODY]).ok();
            }
        }
    });
    std::thread::spawn(move || {
        while let Ok((_, from)) = datagrams.recv_from(&mut [0; 64]) {
            datagrams.send_to(status.as_bytes(), from).ok();
        }
    });
    address
}

/// The first line of an answer to be read to its end.
/// A name server on loopback, where systemd-resolved has its own, that gives every name the same address.
fn stub() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.53:0").expect("bind");
    let address = socket.local_addr().expect("address");
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let mut reply = buffer[..length].to_vec();
            (reply[2], reply[3], reply[7]) = (0x81, 0x80, 1);
            reply.extend(b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02\x01");
            socket.send_to(&reply, from).ok();
        }
    });
    address
}

/// The address of a name.
fn resolve(resolver: SocketAddr, name: &str) -> [u8; 4] {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("bind");
    socket
        .set_read_timeout(Some(Duration::from_secs(20)))
        .expect("timeout");
    let mut query = b"\0\x07\x01\0\0\x01\0\0\0\0\0\0".to_vec();
    for label in name.split('.') {
        query.push(label.len() as u8);
        query.extend(label.as_bytes());
    }
    query.extend(b"\0\0\x01\0\x01");
    socket.send_to(&query, resolver).expect("send");
    let mut reply = [0; 512];
    let length = socket.recv(&mut reply).expect("an answer");
    assert_eq!((reply[1], reply[3] & 0xf, reply[7]), (7, 0, 1), "{name}");
    *reply[..length].last_chunk().expect("an address")
}

fn get(address: SocketAddr, host: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("connect");
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .expect("timeout");
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("send");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("answer");
    assert!(answer.ends_with(&[b'x'; BODY]), "cut short");
    let line = answer.split(|byte| *byte == b'\r').next().unwrap_or_default();
    String::from_utf8_lossy(line).into_owned()
}

fn ask(address: SocketAddr) -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("bind");
    socket
        .set_read_timeout(Some(Duration::from_secs(20)))
        .expect("timeout");
    socket.connect(address).expect("connect");
    socket.send(b"who is there?").expect("send");
    let mut answer = [0; 64];
    let length = socket.recv(&mut answer).expect("answer");
    String::from_utf8_lossy(&answer[..length]).into_owned()
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

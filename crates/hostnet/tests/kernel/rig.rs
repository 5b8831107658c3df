//! A host in a network namespace, with a neighbour on its LAN, and containers made by the code under test.

use std::fs::File;
use std::future::Future;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use linkspan_hostnet::{Config, HostNet};
use linkspan_plan::{Attachment, Dnat, Firewall, IdRange, NetworkId, NetworkSpec, NetworkV6};
use linkspan_site::{Driver, Protocol};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use tempfile::TempDir;

/// The host on its LAN, and the neighbour there.
pub(crate) const HOST4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub(crate) const LAN4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
pub(crate) const HOST6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
pub(crate) const LAN6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);
const LAN: &str = "/run/netns/lan";
const PATIENCE: Duration = Duration::from_millis(700);

pub(crate) struct Rig {
    pub(crate) net: HostNet,
    run_dir: TempDir,
}

/// Runs `test` on a fresh host. Skips, and says so, where that takes privileges that we don't have.
pub(crate) fn on_a_host<F: Future<Output = ()>>(test: impl FnOnce(Rig) -> F) {
    if let Err(reason) = become_a_host() {
        skip(&format!("no namespaces here: {reason}"));
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let run_dir = tempfile::tempdir().unwrap();
        let net = open(run_dir.path()).await;
        test(Rig { net, run_dir }).await;
    });
}

/// Says why a test can't run here; under CI it must.
pub(crate) fn skip(reason: &str) {
    println!("SKIP: {reason}");
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "under CI this is needed: {reason}"
    );
}

fn become_a_host() -> Result<(), String> {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).map_err(|error| error.to_string())?;
    mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        None::<&str>,
    )
    .unwrap();
    std::fs::create_dir_all("/run/netns").unwrap();
    mount(
        None::<&str>,
        "/run/netns",
        Some("tmpfs"),
        MsFlags::empty(),
        None::<&str>,
    )
    .unwrap();
    for line in [
        "ip link set lo up",
        "ip netns add lan",
        // A link-local address that is still being checked can't ask for a neighbour's.
        "sysctl -q -w net.ipv6.conf.default.accept_dad=0",
        "ip netns exec lan sysctl -q -w net.ipv6.conf.default.accept_dad=0",
        // Of ends with equal numbers the kernel thinks that they are one link, and lets carrier wait for up to a second.
        "ip link add uplink index 100 type veth peer name eth0 netns lan",
        "ip addr add 192.0.2.1/24 dev uplink",
        "ip addr add 2001:db8::1/64 dev uplink nodad",
        "ip link set uplink up",
        "ip -n lan link set lo up",
        "ip -n lan addr add 192.0.2.2/24 dev eth0",
        "ip -n lan addr add 2001:db8::2/64 dev eth0 nodad",
        "ip -n lan link set eth0 up",
        "ip route add default via 192.0.2.2",
        "ip -6 route add default via 2001:db8::2",
        // The neighbour knows the way to containers, as an attacker on the LAN would.
        "ip -n lan route add 10.90.0.0/16 via 192.0.2.1",
        "ip -n lan -6 route add fd90::/16 via 2001:db8::1",
    ] {
        sh(line);
    }
    Ok(())
}

async fn open(run_dir: &Path) -> HostNet {
    let binary = PathBuf::from(env!("CARGO_BIN_EXE_hostnet-sandbox"));
    HostNet::open(Config {
        run_dir: run_dir.to_owned(),
        binary,
        root: run_dir.join("root"),
    })
    .await
    .unwrap()
}

/// A container of the rig.
pub(crate) struct Guest {
    pub(crate) netns: PathBuf,
    pub(crate) v4: Ipv4Addr,
    pub(crate) v6: Ipv6Addr,
    pub(crate) attachment: Attachment,
}

impl Rig {
    /// Another daemon on the same run folder.
    pub(crate) async fn another_daemon(&self) -> HostNet {
        open(self.run_dir.path()).await
    }

    pub(crate) fn run_dir(&self) -> &Path {
        self.run_dir.path()
    }

    /// Where the host has the file that people know as `path`.
    pub(crate) fn file(&self, path: &str) -> PathBuf {
        self.run_dir().join("root").join(path.trim_start_matches('/'))
    }

    /// A container with ids of its own as host `number` of network `network`.
    pub(crate) async fn guest(&self, network: u8, number: u8) -> Guest {
        let name = format!("guest-{network}-{number}");
        let sandbox = self.net.create_sandbox(&name, Some(ids(number))).await.unwrap();
        let attachment = attachment(network, number);
        self.net.attach(&name, &attachment).await.unwrap();
        Guest {
            netns: sandbox.net,
            v4: guest4(network, number),
            v6: guest6(network, number),
            attachment,
        }
    }

    /// Networks 1 and 2 with a way out, 3 without, and the rules for them.
    pub(crate) async fn networks(&self) {
        for number in 1..=3 {
            self.net.ensure_network(&network(number)).await.unwrap();
        }
        self.net.apply_firewall(&firewall([])).await.unwrap();
    }

    pub(crate) fn resolver(&self) -> PathBuf {
        self.net.resolver_netns()
    }
}

pub(crate) fn lan() -> PathBuf {
    LAN.into()
}

/// Host ids for container `number`.
pub(crate) fn ids(number: u8) -> IdRange {
    IdRange {
        first: 1_000_000 + 65_536 * u32::from(number),
        count: 65_536,
    }
}

pub(crate) fn guest4(network: u8, number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 90, network, number)
}

pub(crate) fn guest6(network: u8, number: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd90, 0, 0, u16::from(network), 0, 0, 0, u16::from(number))
}

/// Network `number`; 3 is internal.
pub(crate) fn network(number: u8) -> NetworkSpec {
    NetworkSpec {
        id: NetworkId(format!("test_{number}")),
        bridge: format!("ls-b{number}"),
        leg: format!("ls-r{number}"),
        v4: format!("10.90.{number}.0/24").parse().unwrap(),
        gateway: guest4(number, 1),
        resolver: guest4(number, 2),
        v6: Some(NetworkV6 {
            subnet: format!("fd90:0:0:{number}::/64").parse().unwrap(),
            gateway: guest6(number, 1),
            resolver: guest6(number, 2),
        }),
        internal: number == 3,
        mtu: 1500,
        driver: Driver::Bridge,
        retiring: Vec::new(),
    }
}

pub(crate) fn attachment(network: u8, number: u8) -> Attachment {
    let outward = network != 3;
    Attachment {
        network: NetworkId(format!("test_{network}")),
        bridge: format!("ls-b{network}"),
        host_link: format!("ls-v{network}-{number}"),
        link: "eth0".to_owned(),
        mac: [2, 0x4c, 0x53, 0, network, number],
        v4: format!("10.90.{network}.{number}/24").parse().unwrap(),
        v6: Some(format!("{}/64", guest6(network, number)).parse().unwrap()),
        gateway4: outward.then(|| guest4(network, 1)),
        gateway6: outward.then(|| guest6(network, 1)),
        mtu: 1500,
        resolver: true,
        driver: Driver::Bridge,
        isolated: false,
        retiring: Vec::new(),
    }
}

/// The rules for networks 1, 2 and 3.
pub(crate) fn firewall(dnat: impl IntoIterator<Item = Dnat>) -> Firewall {
    let names = |numbers: &[u8]| numbers.iter().map(|number| format!("ls-b{number}")).collect();
    Firewall {
        bridges: names(&[1, 2, 3]),
        outward: names(&[1, 2]),
        masquerade4: [network(1).v4, network(2).v4].into(),
        masquerade6: [network(1).v6.unwrap().subnet, network(2).v6.unwrap().subnet].into(),
        dnat: dnat.into_iter().collect(),
        isolated: Default::default(),
    }
}

pub(crate) fn publish(
    protocol: Protocol,
    host_ip: impl Into<IpAddr>,
    host_port: u16,
    to: impl Into<IpAddr>,
    to_port: u16,
) -> Dnat {
    Dnat {
        protocol,
        host_ip: host_ip.into(),
        host_port,
        to_ip: to.into(),
        to_port,
        count: 1,
    }
}

/// Ports in a row that keep their numbers.
pub(crate) fn publish_run(
    protocol: Protocol,
    host_ip: impl Into<IpAddr>,
    first: u16,
    count: u16,
    to: impl Into<IpAddr>,
) -> Dnat {
    Dnat {
        count,
        ..publish(protocol, host_ip, first, to, first)
    }
}

// === Commands ===

/// Runs a line of words; it must succeed.
pub(crate) fn sh(line: &str) -> String {
    let output = try_sh(line);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "`{line}` failed: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn try_sh(line: &str) -> Output {
    let mut words = line.split_whitespace();
    Command::new(words.next().unwrap()).args(words).output().unwrap()
}

/// Does one of two pings come back?
pub(crate) fn pings(from: &Path, to: impl Into<IpAddr>) -> bool {
    let to = to.into();
    try_sh(&format!("nsenter --net={} ping -c 1 -W 1 {to}", from.display()))
        .status
        .success()
}

// === Sockets ===

/// Does `work` in a network namespace, on a thread of its own.
pub(crate) fn within<T: Send + 'static>(netns: &Path, work: impl FnOnce() -> T + Send + 'static) -> T {
    let netns = File::open(netns).unwrap();
    std::thread::spawn(move || {
        setns(netns, CloneFlags::CLONE_NEWNET).unwrap();
        work()
    })
    .join()
    .unwrap()
}

/// The network namespace of the calling thread.
pub(crate) fn here() -> PathBuf {
    "/proc/thread-self/ns/net".into()
}

/// Serves TCP for ever: tells every client the address that it came from.
pub(crate) fn serve(netns: &Path, address: impl Into<IpAddr>, port: u16) {
    let address = SocketAddr::new(address.into(), port);
    let listener = within(netns, move || TcpListener::bind(address).unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let from = stream.peer_addr().unwrap().ip();
            let _ = write!(stream, "{from}");
        }
    });
}

/// Asks a server of [`serve`].
pub(crate) fn ask(netns: &Path, address: impl Into<IpAddr>, port: u16) -> io::Result<String> {
    let address = SocketAddr::new(address.into(), port);
    within(netns, move || {
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    })
}

/// Serves UDP for ever: answers every datagram with `name` and where it came from.
pub(crate) fn serve_udp(netns: &Path, port: u16, name: &'static str) {
    let socket = within(netns, move || {
        UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap()
    });
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(format!("{name} {}", from.ip()).as_bytes(), from);
        }
    });
}

/// A client that keeps its port: each call asks once more.
pub(crate) fn udp_client(
    netns: &Path,
    to: Ipv4Addr,
    port: u16,
) -> impl FnMut() -> io::Result<String> + use<> {
    let to = SocketAddr::new(to.into(), port);
    let socket = within(netns, || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap());
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    move || {
        let mut buffer = [0; 64];
        socket.send_to(b"?", to)?;
        let (length, _) = socket.recv_from(&mut buffer)?;
        Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
    }
}

//! Container DNS on real sockets.

use std::collections::BTreeMap;

use linkspan_api::feed::Snapshot;
use linkspan_dns::{Asker, Location, Zone, ZoneNetwork};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::*;
use crate::world::Compiler;

/// Asks for a name's IPv4 addresses.
fn query(id: u8, name: &str) -> Vec<u8> {
    let mut query = vec![0, id, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        query.push(label.len() as u8);
        query.extend(label.as_bytes());
    }
    query.extend(b"\0\0\x01\0\x01");
    query
}

/// Id, response code, number of answers and the last four bytes: the address, if there is one.
fn read(reply: &[u8]) -> (u8, u8, u8, [u8; 4]) {
    (reply[1], reply[3] & 0xf, reply[7], *reply.last_chunk().unwrap())
}

/// A name server outside that knows every name, and is slow when asked for `slow`.
async fn outside() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 512];
        loop {
            let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
            let mut reply = buffer[..length].to_vec();
            if reply[13..].starts_with(b"slow") {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            (reply[2], reply[3], reply[7]) = (0x81, 0x80, 1);
            reply.extend(b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02\x01");
            socket.send_to(&reply, from).await.unwrap();
        }
    });
    address
}

/// Names for an asker at 127.0.0.1, who is on a network with `db`, two `web`s and a crowd.
async fn names(forward: bool) -> Names {
    names_with(forward, vec![outside().await]).await
}

async fn names_with(forward: bool, name_servers: Vec<SocketAddr>) -> Names {
    let ip = |text: &str| -> IpAddr { text.parse().unwrap() };
    let names = BTreeMap::from([
        ("db".to_owned(), vec![ip("10.1.0.9")]),
        (
            "web".to_owned(),
            vec![ip("10.1.0.2"), ip("10.1.0.3"), ip("fd00:1::2")],
        ),
        ("shop-web-1".to_owned(), vec![ip("10.1.0.2"), ip("fd00:1::2")]),
        ("shop-web-2".to_owned(), vec![ip("10.1.0.3")]),
        (
            "crowd".to_owned(),
            (0..100).map(|n| IpAddr::from([10, 1, 1, n])).collect(),
        ),
    ]);
    let web = Location {
        port: 80,
        targets: vec!["shop-web-1".into(), "shop-web-2".into()],
    };
    let network = ZoneNetwork {
        names,
        pointers: BTreeMap::from([
            (ip("10.1.0.9"), "shop-db-1".to_owned()),
            (ip("fd00:1::2"), "shop-web-1".to_owned()),
        ]),
        locations: BTreeMap::from([("_tcp.web".to_owned(), vec![web])]),
        ranges: vec!["10.1.0.0/16".parse().unwrap()],
    };
    let asker = Asker {
        networks: vec!["front".to_owned()],
        forward,
        servers: vec![],
    };
    let zone = Zone {
        networks: BTreeMap::from([("front".to_owned(), network)]),
        askers: BTreeMap::from([(IpAddr::from([127, 0, 0, 1]), asker)]),
    };
    let snapshot = Snapshot {
        generation: 1,
        zone,
        name_servers,
        ..Snapshot::default()
    };
    let world = Arc::new(ArcSwap::from_pointee(Compiler::default().compile(snapshot)));
    let (egress, _thread) = Egress::start(|| Ok(())).unwrap();
    Names::new(world, egress)
}

async fn udp(forward: bool) -> (UdpSocket, CancellationToken) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.connect(socket.local_addr().unwrap()).await.unwrap();
    let stop = CancellationToken::new();
    tokio::spawn(names(forward).await.serve_udp(socket, stop.clone()));
    (client, stop)
}

async fn ask(client: &UdpSocket, query: &[u8]) -> (u8, u8, u8, [u8; 4]) {
    client.send(query).await.unwrap();
    let mut buffer = [0; 512];
    let length = timeout(Duration::from_secs(3), client.recv(&mut buffer))
        .await
        .unwrap()
        .unwrap();
    read(&buffer[..length])
}

#[tokio::test]
async fn a_container_finds_its_neighbour_and_the_world() {
    let (client, _stop) = udp(true).await;
    assert_eq!(ask(&client, &query(1, "db")).await, (1, 0, 1, [10, 1, 0, 9]));
    assert_eq!(
        ask(&client, &query(2, "example.com")).await,
        (2, 0, 1, [192, 0, 2, 1])
    );
    let (id, rcode, answers, _) = ask(&client, &query(3, "nobody")).await;
    assert_eq!((id, rcode, answers), (3, 3, 0));
}

#[tokio::test]
async fn a_slow_name_outside_does_not_hold_up_a_neighbour() {
    let (client, _stop) = udp(true).await;
    client.send(&query(1, "slow.example")).await.unwrap();
    assert_eq!(ask(&client, &query(2, "db")).await.0, 2);
    let mut buffer = [0; 512];
    let length = client.recv(&mut buffer).await.unwrap();
    assert_eq!(read(&buffer[..length]), (1, 0, 1, [192, 0, 2, 1]));
}

#[tokio::test]
async fn on_an_internal_network_the_world_does_not_exist() {
    let (client, _stop) = udp(false).await;
    assert_eq!(ask(&client, &query(1, "example.com")).await.1, 3);
}

#[tokio::test]
async fn noise_is_survived() {
    let (client, _stop) = udp(true).await;
    for noise in [&b""[..], b"\0", &[0xff; 600], &[0; 12]] {
        client.send(noise).await.unwrap();
    }
    client.send(&query(4, "db")).await.unwrap();
    let mut buffer = [0; 512];
    loop {
        let length = timeout(Duration::from_secs(3), client.recv(&mut buffer))
            .await
            .unwrap()
            .unwrap();
        if read(&buffer[..length]) == (4, 0, 1, [10, 1, 0, 9]) {
            break;
        }
    }
}

async fn tcp() -> (SocketAddr, CancellationToken, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let task = tokio::spawn(names(true).await.serve_tcp(listener, stop.clone()));
    (address, stop, task)
}

fn framed(query: &[u8]) -> Vec<u8> {
    [&(query.len() as u16).to_be_bytes(), query].concat()
}

async fn reply(stream: &mut TcpStream) -> (u8, u8, u8, [u8; 4]) {
    let mut reply = vec![0; usize::from(stream.read_u16().await.unwrap())];
    stream.read_exact(&mut reply).await.unwrap();
    read(&reply)
}

#[tokio::test]
async fn queries_in_one_segment_are_all_answered_as_they_are_found() {
    let (address, _stop, _task) = tcp().await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let all = [query(1, "slow.example"), query(2, "db"), query(3, "nobody")];
    stream
        .write_all(&all.map(|query| framed(&query)).concat())
        .await
        .unwrap();
    let got = [
        reply(&mut stream).await.0,
        reply(&mut stream).await.0,
        reply(&mut stream).await.0,
    ];
    assert_eq!(got, [2, 3, 1]);
}

#[tokio::test]
async fn a_query_in_pieces_is_answered_and_a_half_closed_asker_too() {
    let (address, _stop, _task) = tcp().await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for byte in framed(&query(1, "slow.example")) {
        stream.write_all(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    stream.shutdown().await.unwrap();
    assert_eq!(reply(&mut stream).await, (1, 0, 1, [192, 0, 2, 1]));
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn one_asker_cannot_take_every_connection() {
    let (address, _stop, _task) = tcp().await;
    let mut open = Vec::new();
    for _ in 0..CONNECTIONS_EACH {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(&framed(&query(1, "db"))).await.unwrap();
        reply(&mut stream).await;
        open.push(stream);
    }
    let mut one_more = TcpStream::connect(address).await.unwrap();
    assert_eq!(one_more.read(&mut [0]).await.unwrap_or(0), 0);
    drop(open.pop());
    tokio::time::sleep(Duration::from_millis(50)).await;
    let mut again = TcpStream::connect(address).await.unwrap();
    again.write_all(&framed(&query(9, "db"))).await.unwrap();
    assert_eq!(reply(&mut again).await.0, 9);
}

#[tokio::test]
async fn idle_connections_do_not_keep_it_from_stopping() {
    let (address, stop, task) = tcp().await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(&framed(&query(1, "db"))).await.unwrap();
    reply(&mut stream).await;
    stop.cancel();
    timeout(Duration::from_secs(2), task)
        .await
        .expect("stops")
        .unwrap();
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
}

/// Both transports on one port, for as long as the token isn't cancelled.
async fn both(names: Names) -> (u16, CancellationToken) {
    let (listener, socket) = loop {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        // Somebody else may have the same port for datagrams.
        if let Ok(socket) = UdpSocket::bind(listener.local_addr().unwrap()).await {
            break (listener, socket);
        }
    };
    let port = listener.local_addr().unwrap().port();
    let stop = CancellationToken::new();
    tokio::spawn(names.clone().serve_udp(socket, stop.clone()));
    tokio::spawn(names.serve_tcp(listener, stop.clone()));
    (port, stop)
}

/// What `dig` prints. `None`, and a word about it, where it isn't installed.
async fn dig(port: u16, args: &[&str]) -> Option<String> {
    let port = port.to_string();
    let mut command = tokio::process::Command::new("dig");
    command
        .args([
            "@127.0.0.1",
            "-p",
            &port,
            "+tries=1",
            "+timeout=5",
            "+noall",
            "+comments",
            "+answer",
            "+additional",
            "+question",
        ])
        .args(args)
        .kill_on_drop(true);
    match timeout(Duration::from_secs(20), command.output()).await.unwrap() {
        Ok(output) => Some(String::from_utf8(output.stdout).unwrap().replace('\t', " ")),
        Err(error) if error.kind() == io::ErrorKind::NotFound && std::env::var("CI").is_err() => {
            println!("SKIP: no `dig` here");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// Each must be printed by `dig` when it is asked so.
async fn expect(port: u16, cases: &[(&[&str], &[&str])]) {
    for (args, wanted) in cases {
        let Some(said) = dig(port, args).await else { return };
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        for part in *wanted {
            assert!(said.contains(part), "{args:?} lacks `{part}`: {said}");
        }
    }
}

#[tokio::test]
async fn dig_is_content() {
    let (port, _stop) = both(names(true).await).await;
    expect(
        port,
        &[
            (
                &["db", "A"],
                &[
                    "status: NOERROR",
                    "flags: qr aa rd ra",
                    "db. 5 IN A 10.1.0.9",
                    "udp: 1232",
                ],
            ),
            (&["db.", "A", "+tcp"], &["db. 5 IN A 10.1.0.9"]),
            (&["db", "AAAA"], &["status: NOERROR", "ANSWER: 0, AUTHORITY: 1"]),
            (&["db", "TYPE65"], &["status: NOERROR", "ANSWER: 0, AUTHORITY: 1"]),
            (
                &["dB", "A", "+noedns"],
                &[";dB. IN A", "dB. 5 IN A 10.1.0.9", "ADDITIONAL: 0"],
            ),
            (&["web", "AAAA"], &["web. 5 IN AAAA fd00:1::2"]),
            (&["web", "ANY", "+notcp"], &["ANSWER: 2,"]),
            (&["nobody", "A"], &["status: NXDOMAIN", "AUTHORITY: 1"]),
            (
                &["-x", "10.1.0.9"],
                &["9.0.1.10.in-addr.arpa. 5 IN PTR shop-db-1."],
            ),
            (&["-x", "fd00:1::2"], &["IN PTR shop-web-1."]),
            (&["-x", "10.1.0.77"], &["status: NXDOMAIN"]),
            (
                &["_80._tcp.web", "SRV"],
                &[
                    "_80._tcp.web. 5 IN SRV 0 1 80 shop-web-1.",
                    "_80._tcp.web. 5 IN SRV 0 1 80 shop-web-2.",
                    "shop-web-1. 5 IN A 10.1.0.2",
                    "shop-web-1. 5 IN AAAA fd00:1::2",
                    "shop-web-2. 5 IN A 10.1.0.3",
                ],
            ),
            (
                &["db", "A", "+edns=1", "+noednsneg"],
                &["status: BADVERS", "ANSWER: 0"],
            ),
            (
                &["db", "A", "+dnssec", "+cookie=0123456789abcdef"],
                &["flags: do;", "10.1.0.9"],
            ),
            (&["version.bind", "TXT", "CH"], &["status: NOTIMP"]),
            (&["db", "+opcode=NOTIFY"], &["status: NOTIMP"]),
            (&["db", "A", "+header-only"], &["status: FORMERR"]),
            (&["crowd", "A", "+ignore"], &["flags: qr aa tc rd ra"]),
            (
                &["crowd", "A"],
                &["Truncated, retrying in TCP mode", "ANSWER: 100,"],
            ),
            (
                &["example.com", "A"],
                &["status: NOERROR", "example.com. 60 IN A 192.0.2.1"],
            ),
            (
                &["eXample.com", "A", "+tcp"],
                &["eXample.com. ", "IN A 192.0.2.1"],
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn replicas_take_turns_at_the_first_place() {
    let (client, _stop) = udp(true).await;
    let mut last = std::collections::BTreeSet::new();
    for id in 0..4 {
        last.insert(ask(&client, &query(id, "web")).await.3);
    }
    assert_eq!(last.len(), 2);
}

#[tokio::test]
async fn a_name_outside_is_asked_once_and_then_known_over_both_transports() {
    let socket = UdpSocket::bind("127.0.0.53:0").await.unwrap();
    let names = names_with(true, vec![socket.local_addr().unwrap()]).await;
    let (port, _stop) = both(names).await;
    let asker = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    asker.connect(("127.0.0.1", port)).await.unwrap();
    asker.send(&query(1, "example.com")).await.unwrap();
    let mut buffer = [0; 512];
    let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
    let mut said = buffer[..length].to_vec();
    (said[2], said[3], said[7]) = (0x81, 0x80, 1);
    said.extend(b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02\x07");
    socket.send_to(&said, from).await.unwrap();
    let length = asker.recv(&mut buffer).await.unwrap();
    assert_eq!(read(&buffer[..length]), (1, 0, 1, [192, 0, 2, 7]));
    // The server has nothing more to say.
    drop(socket);
    assert_eq!(
        ask(&asker, &query(2, "EXAMPLE.com")).await,
        (2, 0, 1, [192, 0, 2, 7])
    );
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(&framed(&query(3, "example.com"))).await.unwrap();
    assert_eq!(reply(&mut stream).await, (3, 0, 1, [192, 0, 2, 7]));
}

#[tokio::test]
async fn when_the_host_changes_its_servers_the_next_question_goes_to_the_new_ones() {
    let names = names(true).await;
    let (port, _stop) = both(names.clone()).await;
    let asker = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    asker.connect(("127.0.0.1", port)).await.unwrap();
    assert_eq!(ask(&asker, &query(1, "example.com")).await.1, 0);
    let mut snapshot = names.world.load().snapshot.clone();
    snapshot.name_servers = Vec::new();
    names
        .world
        .store(Arc::new(Compiler::default().compile(snapshot.clone())));
    assert_eq!(
        ask(&asker, &query(2, "example.com")).await.1,
        2,
        "nobody to ask, and what others said is theirs"
    );
    snapshot.name_servers = vec![outside().await];
    names.world.store(Arc::new(Compiler::default().compile(snapshot)));
    assert_eq!(
        ask(&asker, &query(3, "example.com")).await,
        (3, 0, 1, [192, 0, 2, 1])
    );
}

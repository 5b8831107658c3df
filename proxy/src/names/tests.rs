//! Container DNS on real sockets.

use std::collections::BTreeMap;

use linkspan_api::feed::Snapshot;
use linkspan_dns::{Asker, Zone, ZoneNetwork};
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

/// Names for an asker at 127.0.0.1, who is on a network with `db`.
async fn names(forward: bool) -> Names {
    let network = ZoneNetwork {
        names: BTreeMap::from([("db".to_owned(), vec![IpAddr::from([10, 1, 0, 9])])]),
        ..ZoneNetwork::default()
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
        name_servers: vec![outside().await],
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

//! UDP ports on loopback.

use std::net::SocketAddr;
use std::process::Command;

use linkspan_api::feed::SocketKind;
use nix::sched::{CloneFlags, unshare};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::super::rig::{Rig, host};
use super::*;

struct Served {
    rig: Rig,
    address: SocketAddr,
    inside: u16,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// A port that listens, with endpoint 2 behind it.
async fn serve() -> Served {
    serve_on("127.0.0.1:0").await
}

async fn serve_on(published: &str) -> Served {
    let endpoint = UdpSocket::bind((host(2), 0)).await.unwrap();
    let inside = endpoint.local_addr().unwrap().port();
    tokio::spawn(echo(endpoint, 2));
    let outside = UdpSocket::bind(published).await.unwrap();
    let address = outside.local_addr().unwrap();
    let rig = Rig::new(SocketKind::Udp, address, inside);
    let stop = CancellationToken::new();
    let task = tokio::spawn(rig.port().serve_udp(outside, stop.clone()));
    Served {
        rig,
        address,
        inside,
        stop,
        task,
    }
}

/// Answers with its own number, the sender's port and what was said.
async fn echo(socket: UdpSocket, number: u8) {
    let mut buffer = vec![0; DATAGRAM];
    while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
        let answer = [&[number], &from.port().to_be_bytes()[..], &buffer[..length]].concat();
        let _ = socket.send_to(&answer, from).await;
    }
}

/// A client that takes answers from this address only.
async fn client(address: SocketAddr) -> UdpSocket {
    let own = if address.is_ipv4() {
        "127.0.0.1:0"
    } else {
        "[::1]:0"
    };
    let socket = UdpSocket::bind(own).await.unwrap();
    socket.connect(address).await.unwrap();
    socket
}

/// Which endpoint answered and over which flow; `None` when nobody did.
async fn ask(client: &UdpSocket, text: &[u8]) -> Option<(u8, u16)> {
    client.send(text).await.unwrap();
    let mut buffer = vec![0; DATAGRAM];
    let length = timeout(Duration::from_millis(300), client.recv(&mut buffer))
        .await
        .ok()?
        .unwrap();
    assert_eq!(&buffer[3..length], text);
    Some((buffer[0], u16::from_be_bytes([buffer[1], buffer[2]])))
}

#[tokio::test]
async fn each_client_has_a_flow_of_its_own_and_keeps_it() {
    let mut served = serve().await;
    served.rig.publish(&[2], false);
    let (a, b) = (client(served.address).await, client(served.address).await);
    let first = ask(&a, b"one").await.unwrap();
    let other = ask(&b, b"two").await.unwrap();
    assert_ne!(first, other);
    assert_eq!(ask(&a, b"three").await, Some(first));
    // The echo adds three bytes to what is then the largest datagram of IPv4.
    assert_eq!(ask(&b, &[7; 65_504]).await, Some(other), "large datagrams too");
    assert_eq!(ask(&b, b"").await, Some(other), "and empty ones");
}

#[tokio::test]
async fn a_client_keeps_getting_answers_after_the_container_was_replaced() {
    let mut served = serve().await;
    served.rig.publish(&[2], false);
    let client = client(served.address).await;
    assert_eq!(ask(&client, b"before").await.unwrap().0, 2);
    tokio::spawn(echo(UdpSocket::bind((host(3), served.inside)).await.unwrap(), 3));
    served.rig.publish(&[], true);
    served.rig.publish(&[3], false);
    assert_eq!(ask(&client, b"after").await.unwrap().0, 3);
}

#[tokio::test]
async fn a_flow_follows_its_endpoint_to_another_address() {
    let mut served = serve().await;
    tokio::spawn(echo(UdpSocket::bind((host(3), served.inside)).await.unwrap(), 3));
    served.rig.publish_at(2);
    let client = client(served.address).await;
    assert_eq!(ask(&client, b"before").await.unwrap().0, 2);
    served.rig.publish_at(3);
    assert_eq!(ask(&client, b"after").await.unwrap().0, 3);
}

#[tokio::test]
async fn an_answer_under_way_from_an_address_that_was_left_still_arrives() {
    let mut served = serve().await;
    let old = UdpSocket::bind((host(3), served.inside)).await.unwrap();
    served.rig.publish_at(3);
    let client = client(served.address).await;
    client.send(b"first").await.unwrap();
    let mut buffer = [0; 16];
    let (_, flow) = old.recv_from(&mut buffer).await.unwrap();
    served.rig.publish_at(2);
    assert_eq!(ask(&client, b"second").await.unwrap().0, 2);
    old.send_to(b"to the first", flow).await.unwrap();
    let length = timeout(Duration::from_secs(1), client.recv(&mut buffer))
        .await
        .expect("an answer")
        .unwrap();
    assert_eq!(&buffer[..length], b"to the first");
}

#[tokio::test]
async fn a_port_on_all_addresses_answers_from_the_one_that_was_asked() {
    let mut served = serve_on("0.0.0.0:0").await;
    served.rig.publish(&[2], false);
    let port = served.address.port();
    let asks = |last| SocketAddr::from(([127, 0, 0, last], port));
    let (one, other) = (client(asks(1)).await, client(asks(77)).await);
    for text in [b"first", b"again"] {
        assert!(ask(&one, text).await.is_some());
        assert!(ask(&other, text).await.is_some());
    }
    // One socket that asks two of our addresses has two flows, and each answer comes from where it was asked.
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for last in [78, 79] {
        socket.send_to(b"who", asks(last)).await.unwrap();
        let (_, from) = timeout(Duration::from_secs(1), socket.recv_from(&mut [0; 16]))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(from, asks(last));
    }
}

#[tokio::test]
async fn a_client_that_has_gone_is_no_trouble_for_the_others() {
    let mut served = serve().await;
    let slow = UdpSocket::bind((host(3), served.inside)).await.unwrap();
    served.rig.publish(&[3], false);
    let mut buffer = [0; 16];
    let gone = client(served.address).await;
    gone.send(b"question").await.unwrap();
    let (_, flow) = slow.recv_from(&mut buffer).await.unwrap();
    drop(gone);
    // Each answer is refused by the client's host.
    for _ in 0..3 {
        slow.send_to(b"answer", flow).await.unwrap();
        sleep(Duration::from_millis(20)).await;
    }
    let other = client(served.address).await;
    tokio::spawn(echo(slow, 3));
    assert_eq!(ask(&other, b"hello").await.unwrap().0, 3);
}

/// Runs a test in a network namespace of its own, which only root may make.
fn in_namespace(test: impl AsyncFnOnce() + Send + 'static) {
    if !nix::unistd::geteuid().is_root() {
        println!("SKIP: needs root");
        assert!(
            !std::env::var("CI").is_ok_and(|ci| ci == "true"),
            "a skipped test proves nothing"
        );
        return;
    }
    let run = move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        command("ip link set lo up");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(test());
    };
    std::thread::spawn(run).join().unwrap();
}

/// A program that must succeed, in the namespace of this thread.
fn command(line: &str) {
    let mut words = line.split(' ');
    let mut command = Command::new(words.next().unwrap());
    assert!(command.args(words).status().unwrap().success(), "{line}");
}

#[test]
fn a_flow_outlives_errors_that_icmp_tells_of() {
    in_namespace(async || {
        let mut served = serve().await;
        let endpoint = UdpSocket::bind((host(3), served.inside)).await.unwrap();
        served.rig.publish(&[3], false);
        let client = client(served.address).await;
        let mut buffer = [0; 16];
        let mut heard = async |answer: &[u8]| {
            let heard = timeout(Duration::from_secs(1), client.recv(&mut buffer)).await;
            assert_eq!(&buffer[..heard.expect("an answer").unwrap()], answer);
        };
        client.send(b"question").await.unwrap();
        let (_, flow) = endpoint.recv_from(&mut [0; 16]).await.unwrap();
        command("nft add table inet refuse");
        command("nft add chain inet refuse in { type filter hook input priority 0 ; }");
        let rule = "nft add rule inet refuse in ip daddr 127.0.0.3 udp dport";
        for why in [
            "admin-prohibited",
            "host-prohibited",
            "prot-unreachable",
            "port-unreachable",
        ] {
            command(&format!("{rule} {} reject with icmp type {why}", served.inside));
            client.send(b"refused").await.unwrap();
            sleep(Duration::from_millis(50)).await;
            // The error is told before the answer that comes after it, and must not be the last thing heard.
            endpoint.send_to(b"late", flow).await.unwrap();
            heard(b"late").await;
            command("nft flush chain inet refuse in");
            client.send(b"again").await.unwrap();
            let (_, from) = endpoint.recv_from(&mut [0; 16]).await.unwrap();
            assert_eq!(from, flow, "after {why}");
            endpoint.send_to(b"prompt", flow).await.unwrap();
            heard(b"prompt").await;
        }
    });
}

#[test]
fn a_port_on_all_ipv6_addresses_answers_from_the_one_that_was_asked() {
    in_namespace(async || {
        command("ip address add fd00::77/128 dev lo nodad");
        // It comes into force a moment later, in a task of the kernel's.
        while UdpSocket::bind("[fd00::77]:0").await.is_err() {
            sleep(Duration::from_millis(5)).await;
        }
        let mut served = serve_on("[::]:0").await;
        served.rig.publish(&[2], false);
        let asks = |ip: &str| SocketAddr::new(ip.parse().unwrap(), served.address.port());
        for ip in ["::1", "fd00::77"] {
            let client = client(asks(ip)).await;
            assert!(ask(&client, b"hello").await.is_some(), "{ip}");
        }
    });
}

#[tokio::test]
async fn a_new_snapshot_leaves_a_flow_whose_endpoint_is_still_there() {
    let mut served = serve().await;
    tokio::spawn(echo(UdpSocket::bind((host(3), served.inside)).await.unwrap(), 3));
    served.rig.publish(&[2], false);
    let client = client(served.address).await;
    let first = ask(&client, b"one").await.unwrap();
    served.rig.publish(&[3, 2], false);
    assert_eq!(ask(&client, b"two").await, Some(first));
}

#[tokio::test]
async fn an_endpoint_that_was_not_listening_is_reached_once_it_does() {
    let mut served = serve().await;
    served.rig.publish(&[3], false);
    let client = client(served.address).await;
    assert_eq!(ask(&client, b"nobody").await, None);
    tokio::spawn(echo(UdpSocket::bind((host(3), served.inside)).await.unwrap(), 3));
    assert_eq!(ask(&client, b"now").await.unwrap().0, 3);
}

#[tokio::test]
async fn without_an_endpoint_datagrams_are_lost_and_the_next_one_after_is_not() {
    let mut served = serve().await;
    served.rig.publish(&[], false);
    let client = client(served.address).await;
    assert_eq!(ask(&client, b"lost").await, None);
    served.rig.publish(&[2], false);
    assert_eq!(ask(&client, b"found").await.unwrap().0, 2);
}

#[tokio::test]
async fn the_longest_silent_flow_makes_room_for_a_new_one() {
    let mut served = serve().await;
    served.rig.limits.udp_flows = 2;
    served.rig.publish(&[2], false);
    let clients = [
        client(served.address).await,
        client(served.address).await,
        client(served.address).await,
    ];
    let mut first = Vec::new();
    for client in &clients {
        first.push(ask(client, b"hello").await.unwrap());
        sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(ask(&clients[2], b"kept").await, Some(first[2]));
    assert_eq!(ask(&clients[1], b"kept").await, Some(first[1]));
    assert_ne!(
        ask(&clients[0], b"evicted, and served anew").await,
        Some(first[0])
    );
}

#[tokio::test]
async fn an_idle_flow_is_forgotten_and_a_busy_one_is_not() {
    let mut served = serve().await;
    served.rig.limits.udp_idle_ms = 200;
    served.rig.publish(&[2], false);
    let (idle, busy) = (client(served.address).await, client(served.address).await);
    let (idle_flow, busy_flow) = (ask(&idle, b"x").await.unwrap(), ask(&busy, b"x").await.unwrap());
    for _ in 0..8 {
        sleep(Duration::from_millis(50)).await;
        assert_eq!(ask(&busy, b"x").await, Some(busy_flow));
    }
    assert_ne!(ask(&idle, b"x").await, Some(idle_flow));
}

#[tokio::test]
async fn an_answer_under_way_is_passed_on_after_the_port_was_closed() {
    let mut served = serve().await;
    let slow = UdpSocket::bind((host(3), served.inside)).await.unwrap();
    served.rig.publish(&[3], false);
    let client = client(served.address).await;
    client.send(b"question").await.unwrap();
    let (_, flow) = slow.recv_from(&mut [0; 16]).await.unwrap();
    served.stop.cancel();
    sleep(LINGER / 4).await;
    slow.send_to(b"answer", flow).await.unwrap();
    let mut answer = [0; 16];
    let length = timeout(LINGER, client.recv(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer[..length], b"answer");
    timeout(LINGER * 4, served.task).await.expect("ends").unwrap();
}

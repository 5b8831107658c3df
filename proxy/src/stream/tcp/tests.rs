//! TCP ports on loopback.

use linkspan_api::feed::SocketKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;

use super::super::rig::{Rig, host};
use super::*;

/// A port that listens, and a listener of endpoint 2 behind it.
struct Served {
    rig: Rig,
    address: SocketAddr,
    endpoint: TcpListener,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

async fn serve() -> Served {
    let endpoint = TcpListener::bind((host(2), 0)).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let rig = Rig::new(SocketKind::Tcp, address, endpoint.local_addr().unwrap().port());
    let stop = CancellationToken::new();
    let task = tokio::spawn(rig.port().serve_tcp(listener, stop.clone()));
    Served {
        rig,
        address,
        endpoint,
        stop,
        task,
    }
}

async fn read_all(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.unwrap();
    all
}

#[tokio::test]
async fn bytes_go_both_ways_and_each_end_is_passed_on_alone() {
    let mut served = serve().await;
    served.rig.publish(&[2], false);
    let mut client = TcpStream::connect(served.address).await.unwrap();
    let (mut inside, _) = served.endpoint.accept().await.unwrap();
    client.write_all(b"question").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(read_all(&mut inside).await, b"question");
    // The client has said all, and is answered still.
    inside.write_all(b"answer").await.unwrap();
    drop(inside);
    assert_eq!(read_all(&mut client).await, b"answer");
}

#[tokio::test]
async fn a_server_that_speaks_first_is_heard() {
    let mut served = serve().await;
    served.rig.publish(&[2], false);
    let mut client = TcpStream::connect(served.address).await.unwrap();
    let (mut inside, _) = served.endpoint.accept().await.unwrap();
    inside.write_all(b"220 hello").await.unwrap();
    let mut greeting = [0; 9];
    client.read_exact(&mut greeting).await.unwrap();
    assert_eq!(&greeting, b"220 hello");
}

/// Byte number `at` of a stream without a short period.
fn pattern(at: usize) -> u8 {
    (at.wrapping_mul(2_654_435_761) >> 13) as u8
}

#[tokio::test]
async fn a_hundred_megabytes_arrive_as_they_were_sent() {
    const TOTAL: usize = 100 << 20;
    let mut served = serve().await;
    served.rig.publish(&[2], false);
    let mut client = TcpStream::connect(served.address).await.unwrap();
    let (mut inside, _) = served.endpoint.accept().await.unwrap();
    let send = async move {
        let mut at = 0;
        while at < TOTAL {
            // Pieces of odd sizes, so that no boundary falls together with a buffer's.
            let piece: Vec<u8> = (at..TOTAL.min(at + 99_991)).map(pattern).collect();
            inside.write_all(&piece).await.unwrap();
            at += piece.len();
        }
    };
    let receive = async {
        let (mut at, mut buffer) = (0, vec![0; 1 << 20]);
        loop {
            let read = client.read(&mut buffer).await.unwrap();
            if read == 0 {
                return at;
            }
            assert!(
                buffer[..read]
                    .iter()
                    .enumerate()
                    .all(|(n, byte)| *byte == pattern(at + n)),
                "near {at}"
            );
            at += read;
        }
    };
    assert_eq!(tokio::join!(send, receive).1, TOTAL);
}

#[tokio::test]
async fn a_receiver_that_does_not_read_stops_the_sender() {
    let mut served = serve().await;
    served.rig.publish(&[2], false);
    let _client = TcpStream::connect(served.address).await.unwrap();
    let (mut inside, _) = served.endpoint.accept().await.unwrap();
    let mut sent = 0;
    let piece = vec![0; 1 << 20];
    while timeout(Duration::from_millis(300), inside.write_all(&piece))
        .await
        .is_ok()
    {
        sent += piece.len();
        assert!(sent < 64 << 20, "somebody buffers without bounds");
    }
}

#[tokio::test]
async fn a_connection_waits_while_the_endpoint_is_coming() {
    let mut served = serve().await;
    served.rig.publish(&[], true);
    let mut client = TcpStream::connect(served.address).await.unwrap();
    client.write_all(b"early").await.unwrap();
    assert!(
        timeout(Duration::from_millis(100), served.endpoint.accept())
            .await
            .is_err()
    );
    served.rig.publish(&[2], false);
    let (mut inside, _) = served.endpoint.accept().await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(read_all(&mut inside).await, b"early");
}

#[tokio::test]
async fn a_client_that_gives_up_while_it_waits_is_not_connected_later() {
    let mut served = serve().await;
    served.rig.publish(&[], true);
    let client = TcpStream::connect(served.address).await.unwrap();
    sleep(Duration::from_millis(50)).await;
    client.set_zero_linger().unwrap();
    drop(client);
    sleep(Duration::from_millis(50)).await;
    served.rig.publish(&[2], false);
    assert!(
        timeout(Duration::from_millis(100), served.endpoint.accept())
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_connection_attempt_is_given_up_when_its_endpoint_vanishes() {
    let mut served = serve().await;
    let port = served.endpoint.local_addr().unwrap().port();
    // A full backlog is as silent as a container whose network has gone.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind((host(3), port).into()).unwrap();
    let silent = socket.listen(0).unwrap();
    let address = silent.local_addr().unwrap();
    let mut fillers = Vec::new();
    while let Ok(filler) = timeout(Duration::from_millis(100), TcpStream::connect(address)).await {
        fillers.push(filler);
    }
    served.rig.publish(&[3], false);
    let _client = TcpStream::connect(served.address).await.unwrap();
    sleep(Duration::from_millis(50)).await;
    served.rig.publish(&[2], false);
    timeout(Duration::from_secs(1), served.endpoint.accept())
        .await
        .expect("goes to the new one")
        .unwrap();
}

#[tokio::test]
async fn an_endpoint_that_refuses_is_tried_again_until_it_listens() {
    let mut served = serve().await;
    let inside = served.endpoint.local_addr().unwrap();
    drop(served.endpoint);
    served.rig.publish(&[2], false);
    let mut client = TcpStream::connect(served.address).await.unwrap();
    sleep(RETRY * 2).await;
    let endpoint = TcpListener::bind(inside).await.unwrap();
    let (mut inside, _) = endpoint.accept().await.unwrap();
    inside.write_all(b"late").await.unwrap();
    drop(inside);
    assert_eq!(read_all(&mut client).await, b"late");
}

#[tokio::test]
async fn when_nobody_is_coming_the_connection_is_reset_at_once_and_else_after_the_hold_time() {
    let mut served = serve().await;
    served.rig.limits.hold_ms = 200;
    for (coming, least) in [(false, Duration::ZERO), (true, Duration::from_millis(200))] {
        served.rig.publish(&[], coming);
        let start = Instant::now();
        let mut client = TcpStream::connect(served.address).await.unwrap();
        let error = client.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        assert!(start.elapsed() >= least && start.elapsed() < least + Duration::from_secs(1));
    }
}

#[tokio::test]
async fn a_reset_of_one_side_reaches_the_other() {
    let mut served = serve().await;
    served.rig.publish(&[2], false);
    let mut client = TcpStream::connect(served.address).await.unwrap();
    let (mut inside, _) = served.endpoint.accept().await.unwrap();
    inside.write_all(b"half an ans").await.unwrap();
    let mut half = [0; 11];
    client.read_exact(&mut half).await.unwrap();
    inside.set_zero_linger().unwrap();
    drop(inside);
    assert_eq!(
        client.read_u8().await.unwrap_err().kind(),
        io::ErrorKind::ConnectionReset
    );
}

#[tokio::test]
async fn replicas_take_turns_and_a_dead_one_is_passed_over() {
    let mut served = serve().await;
    let port = served.endpoint.local_addr().unwrap().port();
    let third = TcpListener::bind((host(3), port)).await.unwrap();
    // Nobody listens at 4.
    served.rig.publish(&[2, 3, 4], false);
    let mut counts = [0; 2];
    let mut open = Vec::new();
    for _ in 0..6 {
        open.push(TcpStream::connect(served.address).await.unwrap());
        tokio::select! {
            accepted = served.endpoint.accept() => { open.push(accepted.unwrap().0); counts[0] += 1; }
            accepted = third.accept() => { open.push(accepted.unwrap().0); counts[1] += 1; }
        }
    }
    assert!(counts[0] >= 2 && counts[1] >= 2, "{counts:?}");
}

#[tokio::test]
async fn a_connection_outlives_its_endpoint_in_the_snapshot_and_the_listener() {
    let mut served = serve().await;
    served.rig.publish(&[2], false);
    let mut client = TcpStream::connect(served.address).await.unwrap();
    let (mut inside, _) = served.endpoint.accept().await.unwrap();
    served.rig.publish(&[], false);
    served.stop.cancel();
    sleep(Duration::from_millis(50)).await;
    assert!(
        TcpStream::connect(served.address).await.is_err(),
        "nobody listens any more"
    );
    client.write_all(b"still here").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(read_all(&mut inside).await, b"still here");
    drop(inside);
    timeout(Duration::from_secs(5), served.task)
        .await
        .expect("ends with its last connection")
        .unwrap();
}

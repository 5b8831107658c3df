//! TCP ports on loopback.

use std::sync::Arc;

use linkspan_api::feed::SocketKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;

use super::super::pipes::Pipes;
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
    serve_with(Pipes::default()).await
}

async fn serve_with(pipes: Pipes) -> Served {
    let endpoint = TcpListener::bind((host(2), 0)).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut rig = Rig::new(SocketKind::Tcp, address, endpoint.local_addr().unwrap().port());
    rig.pipes = Arc::new(pipes);
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

impl Served {
    /// A client, and its connection as the endpoint sees it.
    async fn connect(&self) -> (TcpStream, TcpStream) {
        let client = TcpStream::connect(self.address).await.unwrap();
        let (inside, _) = self.endpoint.accept().await.unwrap();
        (client, inside)
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
async fn an_endpoint_that_has_said_all_still_listens() {
    let mut served = serve().await;
    served.rig.publish(&[2], false);
    let (mut client, mut inside) = served.connect().await;
    inside.write_all(b"all").await.unwrap();
    inside.shutdown().await.unwrap();
    assert_eq!(read_all(&mut client).await, b"all");
    let pattern = Pattern::new(4);
    let ((), received) = tokio::join!(pattern.send(&mut client, 5 << 20), pattern.receive(&mut inside));
    assert_eq!(received, 5 << 20);
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

/// A stream that repeats only after a prime number of bytes, so that no boundary ever falls together with a buffer's.
struct Pattern(Vec<u8>);

impl Pattern {
    fn new(seed: usize) -> Self {
        let byte = |at: usize| ((at + seed).wrapping_mul(2_654_435_761) >> 13) as u8;
        Self((0..1_000_003).map(byte).collect())
    }

    /// The bytes from `at` on, as many as there are before the pattern begins anew, but at most `most`.
    fn piece(&self, at: usize, most: usize) -> &[u8] {
        let from = at % self.0.len();
        &self.0[from..self.0.len().min(from + most)]
    }

    async fn send(&self, to: &mut (impl AsyncWriteExt + Unpin), total: usize) {
        let mut at = 0;
        while at < total {
            let piece = self.piece(at, 99_991.min(total - at));
            to.write_all(piece).await.unwrap();
            at += piece.len();
        }
        to.shutdown().await.unwrap();
    }

    /// Reads to the end; every byte must be the right one.
    async fn receive(&self, from: &mut (impl AsyncReadExt + Unpin)) -> usize {
        let (mut at, mut buffer) = (0, vec![0; 1 << 20]);
        loop {
            let read = from.read(&mut buffer).await.unwrap();
            if read == 0 {
                return at;
            }
            let mut rest = &buffer[..read];
            while !rest.is_empty() {
                let right = self.piece(at, rest.len());
                assert!(rest.starts_with(right), "near {at}");
                at += right.len();
                rest = &rest[right.len()..];
            }
        }
    }
}

/// Sends so much both ways at once.
async fn exchange(client: &mut TcpStream, inside: &mut TcpStream, total: usize) {
    let (up, down) = (Pattern::new(1), Pattern::new(2));
    let (mut client_from, mut client_to) = client.split();
    let (mut inside_from, mut inside_to) = inside.split();
    let ((), (), received_up, received_down) = tokio::join!(
        up.send(&mut client_to, total),
        down.send(&mut inside_to, total),
        up.receive(&mut inside_from),
        down.receive(&mut client_from),
    );
    assert_eq!((received_up, received_down), (total, total));
}

#[tokio::test]
async fn a_hundred_megabytes_arrive_both_ways_as_they_were_sent() {
    let mut served = serve().await;
    served.rig.publish(&[2], false);
    let (mut client, mut inside) = served.connect().await;
    exchange(&mut client, &mut inside, 100 << 20).await;
    let (lent, spare) = served.rig.pipes.count();
    assert!(
        lent == 0 && spare > 0,
        "a pipe for each direction was used and given back"
    );
}

#[tokio::test]
async fn without_pipes_to_spare_bytes_are_copied_and_arrive_all_the_same() {
    for most in [0, 1] {
        let mut served = serve_with(Pipes::at_most(most)).await;
        served.rig.publish(&[2], false);
        let (mut client, mut inside) = served.connect().await;
        exchange(&mut client, &mut inside, 20 << 20).await;
        assert_eq!(served.rig.pipes.count(), (0, most));
    }
}

#[tokio::test]
async fn small_messages_are_answered_one_by_one_without_a_pipe() {
    let mut served = serve().await;
    served.rig.publish(&[2], false);
    let (mut client, mut inside) = served.connect().await;
    let mut buffer = [0; 100];
    for n in 0..1_000_u32 {
        let message = [n as u8; 100];
        client.write_all(&message).await.unwrap();
        inside.read_exact(&mut buffer).await.unwrap();
        assert_eq!(buffer, message);
        inside.write_all(&buffer).await.unwrap();
        client.read_exact(&mut buffer).await.unwrap();
        assert_eq!(buffer, message);
    }
    assert_eq!(served.rig.pipes.count(), (0, 0));
}

#[tokio::test]
async fn a_burst_between_small_messages_changes_nothing_about_them() {
    let mut served = serve().await;
    served.rig.publish(&[2], false);
    let (mut client, mut inside) = served.connect().await;
    let bulk = vec![7; 3 << 20];
    for _ in 0..5 {
        let mut word = [0; 4];
        for _ in 0..3 {
            client.write_all(b"ping").await.unwrap();
            inside.read_exact(&mut word).await.unwrap();
            assert_eq!(&word, b"ping");
        }
        let mut received = vec![0; bulk.len()];
        let (sent, read) = tokio::join!(inside.write_all(&bulk), client.read_exact(&mut received));
        assert!(sent.is_ok() && read.is_ok() && received == bulk);
    }
}

#[tokio::test]
async fn two_thousand_idle_connections_hold_no_pipe() {
    const COUNT: usize = 2_000;
    // Four descriptors each: both ends of both connections are ours.
    crate::confine::raise_descriptors();
    let mut served = serve().await;
    served.rig.publish(&[2], false);
    let mut open = Vec::new();
    let bulk = vec![7; 256 << 10];
    for _ in 0..COUNT {
        let (mut client, mut inside) = served.connect().await;
        let mut received = vec![0; bulk.len()];
        let (sent, read) = tokio::join!(inside.write_all(&bulk), client.read_exact(&mut received));
        assert!(sent.is_ok() && read.is_ok() && received == bulk);
        open.push((client, inside));
    }
    let (lent, spare) = served.rig.pipes.count();
    assert!(
        lent == 0 && (1..=16).contains(&spare),
        "{lent} lent, {spare} spare"
    );
    let is_pipe = |entry: io::Result<std::fs::DirEntry>| {
        let to = entry.and_then(|entry| std::fs::read_link(entry.path()));
        to.is_ok_and(|to| to.to_string_lossy().starts_with("pipe:"))
    };
    let pipes = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| is_pipe(entry).then_some(()))
        .count();
    // Two ends of each, and what the test runner gave us.
    assert!(pipes <= 2 * spare + 4, "{pipes} descriptors of pipes");
    // And all of them still work.
    for (client, inside) in &mut open {
        client.write_all(b"?").await.unwrap();
        assert_eq!(inside.read_u8().await.unwrap(), b'?');
    }
}

#[tokio::test]
async fn a_receiver_that_does_not_read_stops_the_sender_and_gets_all_once_it_reads() {
    for most in [0, 8] {
        let mut served = serve_with(Pipes::at_most(most)).await;
        served.rig.publish(&[2], false);
        let (mut client, mut inside) = served.connect().await;
        let pattern = Pattern::new(3);
        let mut sent = 0;
        loop {
            let piece = pattern.piece(sent, 99_991);
            match timeout(Duration::from_millis(300), inside.write(piece)).await {
                Ok(written) => sent += written.unwrap(),
                Err(_) => break,
            }
            assert!(sent < 32 << 20, "somebody buffers without bounds");
        }
        drop(inside);
        assert_eq!(pattern.receive(&mut client).await, sent);
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

/// Reads and throws away until the connection ends, and says how it did.
async fn end(stream: &mut TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 20];
    while stream.read(&mut buffer).await? > 0 {}
    Ok(())
}

#[tokio::test]
async fn a_reset_in_the_middle_of_much_is_a_reset_on_the_other_side() {
    for most in [0, 8] {
        let mut served = serve_with(Pipes::at_most(most)).await;
        served.rig.publish(&[2], false);
        for client_breaks in [false, true] {
            let (client, inside) = served.connect().await;
            let [mut breaks, mut sees] = match client_breaks {
                true => [client, inside],
                false => [inside, client],
            };
            let bulk = vec![7; 8 << 20];
            let mut half = vec![0; bulk.len()];
            let (sent, read) = tokio::join!(breaks.write_all(&bulk), sees.read_exact(&mut half));
            assert!(sent.is_ok() && read.is_ok());
            // More is on its way when it breaks.
            let _ = breaks.try_write(&bulk);
            breaks.set_zero_linger().unwrap();
            drop(breaks);
            let ended = timeout(Duration::from_secs(5), end(&mut sees))
                .await
                .expect("in time");
            assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        }
        assert_eq!(
            served.rig.pipes.count().0,
            0,
            "a pipe is lost with its connection, not kept"
        );
    }
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

#[tokio::test]
async fn when_an_endpoint_moves_new_connections_follow_and_old_ones_go_on() {
    let mut served = serve().await;
    let port = served.endpoint.local_addr().unwrap().port();
    let moved = TcpListener::bind((host(3), port)).await.unwrap();
    served.rig.publish_at(2);
    let (mut client, mut inside) = served.connect().await;
    // What has arrived shows that the port took this endpoint. Accepted it may be while the port still chooses: the
    // kernel shakes hands by itself.
    client.write_all(b"?").await.unwrap();
    assert_eq!(inside.read_u8().await.unwrap(), b'?');
    client.write_all(b"before").await.unwrap();
    served.rig.publish_at(3);
    for _ in 0..5 {
        let mut new = TcpStream::connect(served.address).await.unwrap();
        let (mut there, _) = timeout(Duration::from_secs(1), moved.accept())
            .await
            .expect("goes there")
            .unwrap();
        new.write_all(b"!").await.unwrap();
        assert_eq!(there.read_u8().await.unwrap(), b'!');
    }
    let mut word = [0; 6];
    inside.read_exact(&mut word).await.unwrap();
    assert_eq!(&word, b"before");
    exchange(&mut client, &mut inside, 3 << 20).await;
}

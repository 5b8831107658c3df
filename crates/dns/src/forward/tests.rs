//! Forwarding to servers on loopback.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinHandle;

use super::*;

const ASKER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

/// Asks for `name`.test, type A, without EDNS.
fn query(id: u16, name: &str) -> Vec<u8> {
    let mut query = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, name.len() as u8];
    query.extend(name.as_bytes());
    query.extend(b"\x04test\0\0\x01\0\x01");
    wire::set_id(&mut query, id);
    query
}

/// `count` addresses for the name that was asked for.
fn reply(query: &[u8], count: u8) -> Vec<u8> {
    let mut reply = wire::bare(query, 0, false);
    reply[7] = count;
    for n in 0..count {
        reply.extend(b"\xc0\x0c\0\x01\0\x01\0\0\0\x1e\0\x04\xc0\0\x02");
        reply.push(n);
    }
    reply
}

fn sockets() -> SocketFactory {
    Arc::new(|need| {
        Box::pin(async move {
            Ok(match need {
                SocketNeed::Udp { v6: false } => {
                    let socket = std::net::UdpSocket::bind("127.0.0.1:0")?;
                    socket.set_nonblocking(true)?;
                    socket.into()
                }
                SocketNeed::Tcp { v6: false } => {
                    tokio::net::TcpSocket::new_v4()?.as_fd().try_clone_to_owned()?
                }
                _ => return Err(io::ErrorKind::Unsupported.into()),
            })
        })
    })
}

/// A server that answers every datagram with what `respond` makes of it.
async fn server<F>(respond: F) -> (SocketAddr, Arc<AtomicUsize>, JoinHandle<()>)
where
    F: Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static,
{
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let task = tokio::spawn(async move {
        let mut buffer = [0; 2048];
        loop {
            let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
            count.fetch_add(1, Ordering::Relaxed);
            for reply in respond(&buffer[..length]) {
                socket.send_to(&reply, from).await.unwrap();
            }
        }
    });
    (address, asked, task)
}

async fn ask(forwarder: &Forwarder, query: &[u8], servers: &[SocketAddr]) -> Vec<u8> {
    forwarder.forward(ASKER, query, servers, Transport::Udp).await
}

#[tokio::test]
async fn an_answer_comes_back_with_the_askers_id_and_is_kept_for_the_next() {
    let (address, asked, _task) = server(|query| vec![reply(query, 1)]).await;
    let forwarder = Forwarder::new(sockets());
    for id in [7, 8, 9] {
        let query = query(id, "a");
        assert_eq!(ask(&forwarder, &query, &[address]).await, reply(&query, 1));
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn identical_questions_in_flight_are_asked_once_and_survive_the_first_askers_departure() {
    // The first datagram is not answered, the repetition is.
    let seen = AtomicUsize::new(0);
    let (address, _, _task) = server(move |query| {
        if seen.fetch_add(1, Ordering::Relaxed) == 0 {
            vec![]
        } else {
            vec![reply(query, 1)]
        }
    })
    .await;
    let forwarder = Arc::new(Forwarder::new(sockets()));
    let first = tokio::spawn({
        let forwarder = Arc::clone(&forwarder);
        async move { ask(&forwarder, &query(1, "a"), &[address]).await }
    });
    tokio::task::yield_now().await;
    let others: Vec<_> = (2..6)
        .map(|id| {
            let forwarder = Arc::clone(&forwarder);
            tokio::spawn(async move { ask(&forwarder, &query(id, "a"), &[address]).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(forwarder.state().under_way.len(), 1);
    first.abort();
    for (id, other) in (2..6).zip(others) {
        assert_eq!(other.await.unwrap(), reply(&query(id, "a"), 1));
    }
    let state = forwarder.state();
    assert!(state.under_way.is_empty() && state.waiting == 0 && state.by_asker.is_empty());
}

#[tokio::test]
async fn a_silent_server_costs_a_moment_and_is_asked_last_from_then_on() {
    let (silent, asked, _task) = server(|_| vec![]).await;
    let (good, _, _task2) = server(|query| vec![reply(query, 1)]).await;
    let forwarder = Forwarder::new(sockets());
    let start = Instant::now();
    assert_eq!(
        wire::answers(&ask(&forwarder, &query(1, "a"), &[silent, good]).await),
        1
    );
    assert!((Duration::from_millis(700)..Duration::from_secs(2)).contains(&start.elapsed()));
    let before = asked.load(Ordering::Relaxed);
    let start = Instant::now();
    assert_eq!(
        wire::answers(&ask(&forwarder, &query(1, "b"), &[silent, good]).await),
        1
    );
    assert!(start.elapsed() < Duration::from_millis(400));
    assert_eq!(asked.load(Ordering::Relaxed), before);
}

#[tokio::test]
async fn a_slow_server_is_still_listened_to_while_the_next_is_asked() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let slow = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 2048];
        let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1100)).await;
        socket.send_to(&reply(&buffer[..length], 1), from).await.unwrap();
    });
    let (silent, asked, _task) = server(|_| vec![]).await;
    let forwarder = Forwarder::new(sockets());
    let start = Instant::now();
    let reply = ask(&forwarder, &query(1, "a"), &[slow, silent]).await;
    assert_eq!(wire::answers(&reply), 1);
    assert!(start.elapsed() < Duration::from_secs(2));
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    assert_eq!(
        forwarder.order(&[slow, silent]),
        [slow, silent],
        "it was the other that kept silent"
    );
}

#[tokio::test]
async fn nobody_waits_longer_than_an_asker_does() {
    let (silent, asked, _task) = server(|_| vec![]).await;
    let forwarder = Forwarder::new(sockets());
    let start = Instant::now();
    let reply = ask(&forwarder, &query(5, "a"), &[silent]).await;
    assert_eq!((wire::rcode(&reply), wire::id(&reply)), (SERVFAIL, Some(5)));
    assert!((PATIENCE..PATIENCE + Duration::from_secs(1)).contains(&start.elapsed()));
    assert_eq!(
        asked.load(Ordering::Relaxed),
        4,
        "sent again as long as there was hope"
    );
}

#[tokio::test]
async fn a_server_that_refuses_is_no_reason_to_stop() {
    let (refusing, _, _task) = server(|query| vec![wire::bare(query, wire::REFUSED, false)]).await;
    let (good, _, _task2) = server(|query| vec![reply(query, 1)]).await;
    let forwarder = Forwarder::new(sockets());
    assert_eq!(
        wire::answers(&ask(&forwarder, &query(1, "a"), &[refusing, good]).await),
        1
    );
    assert_eq!(
        wire::rcode(&ask(&forwarder, &query(1, "b"), &[refusing]).await),
        wire::REFUSED
    );
}

#[tokio::test]
async fn forged_answers_are_not_believed() {
    let (address, _, _task) = server(|query| {
        let mut wrong_id = reply(query, 2);
        wrong_id[0] ^= 1;
        let other = super::tests::query(wire::id(query).unwrap(), "b");
        let no_response = query.to_vec();
        vec![
            wrong_id,
            reply(&other, 2),
            no_response,
            vec![1, 2, 3],
            reply(query, 1),
        ]
    })
    .await;
    let forwarder = Forwarder::new(sockets());
    assert_eq!(
        wire::answers(&ask(&forwarder, &query(1, "a"), &[address]).await),
        1
    );
}

#[tokio::test]
async fn nobody_to_ask_and_nobody_who_answers_is_servfail() {
    let forwarder = Forwarder::new(sockets());
    assert_eq!(wire::rcode(&ask(&forwarder, &query(1, "a"), &[]).await), SERVFAIL);
    // A port that was just closed: refused at once.
    let gone = UdpSocket::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let reply = ask(&forwarder, &query(5, "a"), &[gone]).await;
    assert_eq!((wire::rcode(&reply), wire::id(&reply)), (SERVFAIL, Some(5)));
}

#[tokio::test]
async fn a_cut_answer_is_fetched_over_tcp_and_fitted_to_the_asker() {
    static FEW: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let socket = UdpSocket::bind(address).await.unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 2048];
        loop {
            let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
            socket
                .send_to(&wire::bare(&buffer[..length], 0, true), from)
                .await
                .unwrap();
        }
    });
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut query = vec![0; usize::from(stream.read_u16().await.unwrap())];
            stream.read_exact(&mut query).await.unwrap();
            let reply = reply(&query, if FEW.load(Ordering::Relaxed) { 60 } else { 100 });
            stream.write_u16(reply.len() as u16).await.unwrap();
            stream.write_all(&reply).await.unwrap();
        }
    });
    let forwarder = Forwarder::new(sockets());
    let query = query(3, "a");
    let udp = forwarder.forward(ASKER, &query, &[address], Transport::Udp).await;
    assert!(wire::is_truncated(&udp) && udp.len() <= wire::UDP_PLAIN);
    let tcp = forwarder.forward(ASKER, &query, &[address], Transport::Tcp).await;
    assert_eq!(tcp, reply(&query, 100));
    let mut big = [&query[..], b"\0\0\x29\x10\0\0\0\0\0\0\0"].concat();
    big[11] = 1;
    let udp = forwarder.forward(ASKER, &big, &[address], Transport::Udp).await;
    assert!(
        wire::is_truncated(&udp),
        "fragments get lost, whatever the asker takes"
    );
    let few = Forwarder::new(sockets());
    FEW.store(true, Ordering::Relaxed);
    let whole = few.forward(ASKER, &big, &[address], Transport::Udp).await;
    assert_eq!((wire::answers(&whole), wire::is_truncated(&whole)), (60, false));
}

#[tokio::test]
async fn one_asker_cannot_take_every_seat() {
    let (address, _, _task) = server(|_| vec![]).await;
    let forwarder = Arc::new(Forwarder::new(sockets()));
    for n in 0..IN_FLIGHT_EACH {
        let forwarder = Arc::clone(&forwarder);
        tokio::spawn(async move { ask(&forwarder, &query(1, &format!("n{n}")), &[address]).await });
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    let start = Instant::now();
    assert_eq!(
        wire::rcode(&ask(&forwarder, &query(1, "more"), &[address]).await),
        SERVFAIL
    );
    assert!(start.elapsed() < Duration::from_millis(500), "refused at once");
    let (good, _, _task2) = server(|query| vec![reply(query, 1)]).await;
    let other = IpAddr::from([10, 0, 0, 3]);
    let reply = forwarder
        .forward(other, &query(1, "x"), &[good], Transport::Udp)
        .await;
    assert_eq!(wire::answers(&reply), 1);
}

/// With EDNS, this size, an option and perhaps the DO bit.
fn with_edns(mut query: Vec<u8>, option: u8, dnssec: bool) -> Vec<u8> {
    query[11] = 1;
    query.extend(b"\0\0\x29\x10\0\0\0");
    query.extend([
        if dnssec { 0x80 } else { 0 },
        0,
        0,
        9,
        0,
        10,
        0,
        5,
        1,
        2,
        3,
        4,
        option,
    ]);
    query
}

#[tokio::test]
async fn spelling_and_options_are_the_askers_own_and_the_answer_is_everybodys() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&seen);
    let (address, asked, _task) = server(move |query| {
        record.lock().unwrap().push(query.to_vec());
        let mut answer = reply(&query[..wire::HEADER + wire::question(query).unwrap().len()], 1);
        if wire::edns(query).unwrap().is_some() {
            answer[11] = 1;
            answer.extend(b"\0\0\x29\x02\0\0\0\0\0\0\0");
        }
        vec![answer]
    })
    .await;
    let forwarder = Forwarder::new(sockets());
    for (id, name, cookie) in [(1, "ab", 1), (2, "aB", 2), (3, "AB", 3)] {
        let query = with_edns(query(id, name), cookie, false);
        let reply = ask(&forwarder, &query, &[address]).await;
        assert_eq!(
            (wire::id(&reply), wire::question(&reply)),
            (Some(id), wire::question(&query))
        );
        assert_eq!(
            wire::edns(&reply).unwrap().unwrap().size,
            1232,
            "our size, not the server's"
        );
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    assert_eq!(
        wire::edns(&ask(&forwarder, &query(4, "ab"), &[address]).await),
        Ok(None)
    );
    ask(&forwarder, &with_edns(query(5, "ab"), 1, true), &[address]).await;
    let seen = seen.lock().unwrap();
    let edns: Vec<_> = seen
        .iter()
        .map(|query| wire::edns(query).unwrap().map(|opt| opt.dnssec))
        .collect();
    assert_eq!(edns, [Some(false), None, Some(true)]);
    assert!(
        seen.iter().all(|query| !query.ends_with(&[1, 2, 3, 4, 1])),
        "no cookie is passed on"
    );
}

#[tokio::test]
async fn ids_and_ports_are_not_to_be_guessed() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let forwarder = Arc::new(Forwarder::new(sockets()));
    let (mut ids, mut ports) = (
        std::collections::BTreeSet::new(),
        std::collections::BTreeSet::new(),
    );
    for n in 0..16 {
        let (forwarder, query) = (Arc::clone(&forwarder), query(1, &format!("n{n}")));
        tokio::spawn(async move { ask(&forwarder, &query, &[address]).await });
        let mut buffer = [0; 2048];
        let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
        ids.insert(wire::id(&buffer[..length]));
        ports.insert(from.port());
    }
    assert!(ids.len() > 12 && ports.len() > 12);
}

#[tokio::test]
async fn what_one_server_says_is_not_told_to_those_who_ask_another() {
    let (first, _, _task) = server(|query| vec![reply(query, 1)]).await;
    let (second, _, _task2) = server(|query| vec![reply(query, 2)]).await;
    let forwarder = Forwarder::new(sockets());
    for (server, count) in [(first, 1), (second, 2), (first, 1)] {
        let answer = ask(&forwarder, &query(1, "a"), &[server]).await;
        assert_eq!(wire::answers(&answer), count);
        let recalled = forwarder
            .recall(&query(2, "A"), &[server], Transport::Udp)
            .unwrap();
        assert_eq!(wire::answers(&recalled), count);
    }
    assert!(
        forwarder
            .recall(&query(2, "a"), &[first, second], Transport::Udp)
            .is_none()
    );
}

#[tokio::test]
async fn an_answer_that_has_run_out_is_better_than_none() {
    let dead = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let is_dead = Arc::clone(&dead);
    let (address, asked, _task) = server(move |query| {
        let mut answer = reply(query, 1);
        let length = answer.len();
        answer[length - 7] = 1;
        if is_dead.load(Ordering::Relaxed) {
            vec![]
        } else {
            vec![answer]
        }
    })
    .await;
    let forwarder = Forwarder::new(sockets());
    let ttl = |reply: &[u8]| wire::times(reply).unwrap().lowest;
    assert_eq!(ttl(&ask(&forwarder, &query(1, "a"), &[address]).await), 1);
    dead.store(true, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert!(
        forwarder
            .recall(&query(2, "a"), &[address], Transport::Udp)
            .is_none()
    );
    let start = Instant::now();
    let stale = ask(&forwarder, &query(2, "a"), &[address]).await;
    assert_eq!(
        (wire::answers(&stale), ttl(&stale), wire::id(&stale)),
        (1, 30, Some(2))
    );
    assert!(
        start.elapsed() < Duration::from_millis(2500),
        "not as long as for a name that is new"
    );
    let before = asked.load(Ordering::Relaxed);
    let start = Instant::now();
    assert_eq!(ttl(&ask(&forwarder, &query(3, "a"), &[address]).await), 30);
    assert!(start.elapsed() < Duration::from_millis(200) && asked.load(Ordering::Relaxed) == before);
}

#[tokio::test]
async fn an_asker_who_is_the_server_and_asks_back_is_told_no_at_once() {
    let (silent, _, _task) = server(|_| vec![]).await;
    let forwarder = Arc::new(Forwarder::new(sockets()));
    let first = Arc::clone(&forwarder);
    let waiting = tokio::spawn(async move { ask(&first, &query(1, "a"), &[silent]).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    let start = Instant::now();
    let back = forwarder
        .forward(silent.ip(), &query(2, "A"), &[silent], Transport::Udp)
        .await;
    assert_eq!(wire::rcode(&back), SERVFAIL);
    assert!(start.elapsed() < Duration::from_millis(500));
    waiting.abort();
}

#[tokio::test]
async fn a_server_that_answers_rubbish_is_passed_over() {
    let (broken, _, _task) = server(|query| {
        let mut answer = reply(query, 2);
        answer.pop();
        vec![answer]
    })
    .await;
    let (good, _, _task2) = server(|query| vec![reply(query, 1)]).await;
    let forwarder = Forwarder::new(sockets());
    let start = Instant::now();
    let answer = ask(&forwarder, &query(1, "a"), &[broken, good]).await;
    assert_eq!(wire::answers(&answer), 1);
    assert!(start.elapsed() < Duration::from_millis(500));
}

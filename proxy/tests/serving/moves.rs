//! An endpoint that gets another address while it runs, as when its network moves: same id, same generation. Both
//! addresses work for a while, and nobody notices.

use std::io::Write;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use linkspan_api::feed::ToNetd;
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, listen, socket};

use crate::rig::{Raw, Rig, Upstream};

const GET: &str = "GET / HTTP/1.1\nHost: a.test\n\n";

impl Rig {
    /// The one endpoint of `p/web` is at 127.0.0.`n` from now on.
    fn move_to(&mut self, n: u8) {
        self.service("p/web", &[("web-1", n)]);
        self.publish();
    }
}

/// A server that answers with its name, and counts the connections that were closed on it.
fn named(address: &str, name: &'static str) -> (Upstream, Arc<AtomicUsize>) {
    let closed = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&closed);
    let upstream = Upstream::at(address, move |mut raw| {
        while raw.head().is_some() {
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{name}", name.len());
            raw.stream.write_all(answer.as_bytes()).unwrap();
        }
        count.fetch_add(1, Ordering::SeqCst);
    });
    (upstream, closed)
}

#[test]
fn new_requests_go_to_the_new_address_at_once_and_idle_connections_to_the_old_are_closed() {
    let (old, closed) = named("127.0.0.1:0", "old");
    let (_new, _) = named(&format!("127.0.0.2:{}", old.port), "new");
    let mut rig = Rig::with_upstream(&old);
    let mut clients: Vec<_> = (0..8).map(|_| Raw::connect(rig.http)).collect();
    for client in &mut clients {
        client.send(GET);
        assert_eq!(client.answer().text(), "old");
    }
    rig.move_to(2);
    for client in &mut clients {
        client.send(GET);
        assert_eq!(client.answer().text(), "new");
    }
    let deadline = Instant::now() + Duration::from_secs(3);
    while closed.load(Ordering::SeqCst) < old.connections() {
        assert!(
            Instant::now() < deadline,
            "connections to the old address are kept"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(
        rig.hints.try_recv().is_err(),
        "nothing was amiss, and nothing is drained"
    );
}

#[test]
fn a_request_under_way_and_a_websocket_end_where_they_began() {
    let old = Upstream::new(|mut raw| {
        while let Some(head) = raw.head() {
            if head.contains("websocket") {
                raw.stream
                    .write_all(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
                    .unwrap();
                while let Some(word) = raw.exactly(4) {
                    raw.stream.write_all(&word).unwrap();
                }
                return;
            }
            raw.stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nhalf")
                .unwrap();
            // The other half comes when it is asked for.
            let rest = raw.exactly(4).unwrap();
            raw.stream.write_all(&rest).unwrap();
        }
    });
    let (_new, _) = named(&format!("127.0.0.2:{}", old.port), "new");
    let mut rig = Rig::with_upstream(&old);
    let mut socket = Raw::connect(rig.http);
    socket.send("GET /ws HTTP/1.1\nHost: a.test\nConnection: upgrade\nUpgrade: websocket\n\n");
    assert_eq!(socket.answer().status, 101);
    let mut slow = Raw::connect(rig.http);
    slow.send("POST / HTTP/1.1\nHost: a.test\nContent-Length: 4\n\n");
    let head = slow.head().unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(slow.exactly(4).unwrap(), b"half");

    rig.move_to(2);
    assert_eq!(rig.ask(GET).text(), "new");
    std::thread::sleep(Duration::from_millis(1_200));
    slow.stream.write_all(b"rest").unwrap();
    assert_eq!(slow.exactly(4).unwrap(), b"rest");
    for word in [b"ping", b"pong"] {
        socket.stream.write_all(word).unwrap();
        assert_eq!(socket.exactly(4).unwrap(), word);
    }

    // It is drained when it was removed and the last thing under way has ended, at whichever address, and not before.
    rig.no_service("p/web", false, None);
    rig.publish();
    std::thread::sleep(Duration::from_millis(1_200));
    assert!(rig.hints.try_recv().is_err());
    drop(socket);
    let drained = ToNetd::Drained {
        endpoint: "web-1".into(),
        generation: 1,
    };
    let deadline = Instant::now() + Duration::from_secs(5);
    let told = loop {
        match rig.hints.try_recv() {
            Ok(told) => break told,
            Err(_) => assert!(Instant::now() < deadline, "nobody is told"),
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    assert_eq!(told, drained);
}

/// Takes no connection and refuses none, like an address that has left its link.
fn silent(address: [u8; 4], port: u16) -> TcpListener {
    let made = socket(
        AddressFamily::Inet,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .unwrap();
    let [a, b, c, d] = address;
    bind(
        std::os::fd::AsRawFd::as_raw_fd(&made),
        &SockaddrIn::new(a, b, c, d, port),
    )
    .unwrap();
    listen(&made, Backlog::new(0).unwrap()).unwrap();
    TcpListener::from(made)
}

#[test]
fn a_request_that_waits_for_the_old_address_is_answered_by_the_new_one() {
    let (new, _) = named("127.0.0.2:0", "new");
    let gone = silent([127, 0, 0, 1], new.port);
    let address = gone.local_addr().unwrap();
    let fillers: Vec<_> = (0..4)
        .filter_map(|_| std::net::TcpStream::connect_timeout(&address, Duration::from_millis(100)).ok())
        .collect();
    assert!(fillers.len() < 4, "its queue is full");
    let mut rig = Rig::with_upstream(&new);
    rig.snapshot.limits.connect_ms = 10_000;
    rig.move_to(1);
    let mut clients: Vec<_> = (0..4).map(|_| Raw::connect(rig.http)).collect();
    for client in &mut clients {
        client.send("POST / HTTP/1.1\nHost: a.test\nContent-Length: 0\n\n");
    }
    std::thread::sleep(Duration::from_millis(300));
    let moved = Instant::now();
    rig.move_to(2);
    for client in &mut clients {
        assert_eq!(client.answer().text(), "new");
    }
    assert!(moved.elapsed() < Duration::from_secs(1), "{:?}", moved.elapsed());
    assert!(
        rig.hints.try_recv().is_err(),
        "an address that it has left says nothing about it"
    );
}

#[test]
fn requests_held_for_one_that_is_coming_are_released_to_where_it_comes() {
    let (old, _) = named("127.0.0.1:0", "old");
    let (_new, _) = named(&format!("127.0.0.2:{}", old.port), "new");
    let mut rig = Rig::with_upstream(&old);
    assert_eq!(rig.ask(GET).text(), "old");
    rig.no_service("p/web", true, None);
    rig.publish();
    let mut clients: Vec<_> = (0..4).map(|_| Raw::connect(rig.http)).collect();
    for client in &mut clients {
        client.send(GET);
    }
    std::thread::sleep(Duration::from_millis(200));
    rig.move_to(2);
    for client in &mut clients {
        assert_eq!(client.answer().text(), "new");
    }
}

#[test]
fn no_request_fails_while_an_endpoint_moves_to_and_fro() {
    let first = Upstream::echo();
    let port = first.port;
    let mut rig = Rig::with_upstream(&first);
    let stop = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..8)
        .map(|n| {
            let (stop, done, address) = (Arc::clone(&stop), Arc::clone(&done), rig.http);
            std::thread::spawn(move || {
                let mut client = Raw::connect(address);
                while !stop.load(Ordering::SeqCst) {
                    // What must not be sent twice fails if a connection is lost under it.
                    client.send(if n % 2 == 0 {
                        GET
                    } else {
                        "POST / HTTP/1.1\nHost: a.test\nContent-Length: 2\n\nhi"
                    });
                    let answer = client.answer();
                    assert!(answer.status == 200 && answer.whole, "{answer:?}");
                    done.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    let mut alive = vec![first];
    for n in 2..22u8 {
        let next = Upstream::echo_at(&format!("127.0.0.{n}:{port}"));
        rig.move_to(n);
        std::thread::sleep(Duration::from_millis(60));
        // The old address goes once what was under way there has ended.
        alive.push(next);
        if alive.len() > 2 {
            alive.remove(0).kill();
        }
    }
    stop.store(true, Ordering::SeqCst);
    for client in clients {
        client.join().expect("no request of this client failed");
    }
    let done = done.load(Ordering::SeqCst);
    assert!(done > 100, "{done} requests");
}

//! Containers that die, come back, and lie.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use linkspan_api::feed::ToNetd;

use crate::rig::{Raw, Rig, Upstream};

const GET: &str = "GET / HTTP/1.1\nHost: a.test\n\n";

#[test]
fn a_request_waits_until_the_container_that_is_coming_is_there() {
    let upstream = Upstream::echo();
    let mut rig = Rig::plain();
    rig.route("a.test", "/", "p/web", upstream.port);
    rig.no_service("p/web", true, None);
    rig.publish();
    let mut client = Raw::connect(rig.http);
    client.send(GET);
    // One with a large body waits too, unread.
    let mut post = Raw::connect(rig.http);
    post.send("POST / HTTP/1.1\nHost: a.test\nContent-Length: 200000\n\n");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(upstream.connections(), 0);
    rig.service("p/web", &[("web-1", 1)]);
    rig.publish();
    assert_eq!(client.answer().status, 200);
    post.stream.write_all(&vec![b'x'; 200_000]).unwrap();
    assert_eq!(post.answer().status, 200);
    let lines = rig.access_lines(2);
    assert!(
        lines.iter().all(|line| line["held_ms"].as_u64().unwrap() >= 200),
        "{lines:?}"
    );
}

#[test]
fn waiting_ends_with_503_and_the_reason_as_soon_as_nobody_is_coming_any_more() {
    let mut rig = Rig::plain();
    rig.route("a.test", "/", "p/web", 9);
    rig.no_service("p/web", true, None);
    rig.publish();
    let mut client = Raw::connect(rig.http);
    client.send(GET);
    std::thread::sleep(Duration::from_millis(200));
    rig.no_service("p/web", false, Some("stopped"));
    rig.publish();
    let started = Instant::now();
    let answer = client.answer();
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (503, "service unavailable: `p/web` is down: stopped\n")
    );
    assert!(started.elapsed() < Duration::from_secs(1));
}

#[test]
fn waiting_has_a_deadline_and_a_number() {
    let mut rig = Rig::plain();
    rig.route("a.test", "/", "p/web", 9);
    rig.no_service("p/web", true, None);
    rig.snapshot.limits.hold_ms = 700;
    rig.snapshot.limits.hold_per_service = 1;
    rig.publish();
    let mut first = Raw::connect(rig.http);
    let started = Instant::now();
    first.send(GET);
    std::thread::sleep(Duration::from_millis(200));
    let second = rig.ask(GET);
    assert_eq!(second.status, 503);
    assert!(
        second.text().contains("too many requests already wait"),
        "{}",
        second.text()
    );
    let answer = first.answer();
    assert_eq!((answer.status, answer.field("retry-after")), (503, Some("5")));
    assert!(
        started.elapsed() >= Duration::from_millis(690),
        "{:?}",
        started.elapsed()
    );
}

#[test]
fn a_refused_connection_is_held_and_hinted_until_the_next_snapshot_brings_another_endpoint() {
    let dead = Upstream::echo();
    let mut rig = Rig::with_upstream(&dead);
    let port = dead.port;
    dead.kill();
    let mut client = Raw::connect(rig.http);
    client.send("POST / HTTP/1.1\nHost: a.test\nContent-Length: 2\n\nhi");
    let hint = rig.hints.blocking_recv().unwrap();
    assert!(
        matches!(&hint, ToNetd::Unhealthy { endpoint, .. } if endpoint == "web-1"),
        "{hint:?}"
    );
    let fresh = Upstream::echo_at(&format!("127.0.0.2:{port}"));
    rig.service("p/web", &[("web-2", 2)]);
    rig.publish();
    let answer = client.answer();
    assert_eq!(answer.status, 200);
    assert!(answer.text().ends_with("hi"));
    assert_eq!(fresh.connections(), 1);
}

#[test]
fn a_dead_endpoint_is_passed_over_for_one_that_lives() {
    let live = Upstream::echo();
    let mut rig = Rig::with_upstream(&live);
    // Nobody listens on 127.0.0.3.
    rig.service("p/web", &[("web-1", 1), ("web-3", 3)]);
    rig.publish();
    for _ in 0..10 {
        assert_eq!(
            rig.ask("POST / HTTP/1.1\nHost: a.test\nContent-Length: 2\n\nhi")
                .status,
            200
        );
    }
}

#[test]
fn a_kept_connection_that_turns_out_dead_is_replaced_without_anybody_noticing() {
    // Answers once, then closes the connection at the moment when the next request arrives on it.
    let requests = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&requests);
    let upstream = Upstream::new(move |mut raw| {
        raw.head();
        raw.stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            .unwrap();
        if raw.head().is_some() {
            seen.fetch_add(1, Ordering::SeqCst);
        }
    });
    let rig = Rig::with_upstream(&upstream);
    let mut client = Raw::connect(rig.http);
    for _ in 0..6 {
        client.send("PUT / HTTP/1.1\nHost: a.test\nContent-Length: 3\n\nabc");
        let answer = client.answer();
        assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
    }
    assert!(requests.load(Ordering::SeqCst) > 0, "the case did not occur");
}

#[test]
fn a_post_that_may_have_been_acted_on_is_not_sent_twice() {
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    let upstream = Upstream::new(move |mut raw| {
        if raw.head().is_some() {
            raw.exactly(2);
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    let rig = Rig::with_upstream(&upstream);
    let answer = rig.ask("POST / HTTP/1.1\nHost: a.test\nContent-Length: 2\n\nhi");
    assert_eq!(answer.status, 502);
    assert_eq!(seen.load(Ordering::SeqCst), 1);
}

#[test]
fn a_request_that_kills_whoever_gets_it_is_not_repeated_for_ever() {
    let upstream = Upstream::new(|mut raw| drop(raw.head()));
    let rig = Rig::with_upstream(&upstream);
    let answer = rig.ask(GET);
    assert_eq!(answer.status, 502);
    assert!(
        answer
            .text()
            .contains("`web-1` closed the connection before it answered"),
        "{}",
        answer.text()
    );
    assert!(
        (2..=6).contains(&upstream.connections()),
        "{}",
        upstream.connections()
    );
}

#[test]
fn an_answer_that_breaks_off_is_visibly_broken_off() {
    for head in [
        "content-length: 100\r\n\r\nhalf",
        "transfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ] {
        let upstream = Upstream::new(move |mut raw| {
            raw.head();
            write!(raw.stream, "HTTP/1.1 200 OK\r\n{head}").unwrap();
        });
        let rig = Rig::with_upstream(&upstream);
        let answer = rig.ask(GET);
        assert_eq!(
            (answer.status, answer.text().as_str(), answer.whole),
            (200, "half", false)
        );
        assert_eq!(rig.access_lines(1)[0]["outcome"], "upstream_truncated");
    }
}

#[test]
fn an_upstream_that_does_not_speak_http_is_a_bad_gateway() {
    let upstream = Upstream::saying("SSH-2.0-OpenSSH_9.2\n\n");
    let rig = Rig::with_upstream(&upstream);
    let answer = rig.ask(GET);
    assert_eq!(answer.status, 502);
    assert!(answer.text().contains("not HTTP"), "{}", answer.text());
}

#[test]
fn a_client_that_leaves_is_in_the_log_as_gone() {
    let upstream = Upstream::new(|mut raw| {
        raw.head();
        raw.stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10000000\r\n\r\n")
            .unwrap();
        while raw.stream.write_all(&[b'x'; 1024]).is_ok() {}
    });
    let rig = Rig::with_upstream(&upstream);
    let mut client = Raw::connect(rig.http);
    client.send(GET);
    client.head().unwrap();
    drop(client);
    assert_eq!(rig.access_lines(1)[0]["outcome"], "client_gone");
}

#[test]
fn no_request_fails_while_containers_are_replaced_and_killed_under_load() {
    let first = Upstream::echo_at("127.0.0.1:0");
    let port = first.port;
    let mut rig = Rig::with_upstream(&first);
    let stop = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let (stop, done, address) = (Arc::clone(&stop), Arc::clone(&done), rig.http);
            std::thread::spawn(move || {
                let mut client = Raw::connect(address);
                while !stop.load(Ordering::SeqCst) {
                    client.send(GET);
                    let answer = client.answer();
                    assert!(answer.status == 200 && answer.whole, "{answer:?}");
                    done.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    let mut current = first;
    for n in 2..12u8 {
        std::thread::sleep(Duration::from_millis(60));
        let name = format!("web-{n}");
        if n % 2 == 0 {
            // A deploy: the new one is there before the old one goes.
            let next = Upstream::echo_at(&format!("127.0.0.{n}:{port}"));
            rig.service("p/web", &[(&name, n)]);
            rig.publish();
            drop(std::mem::replace(&mut current, next));
        } else {
            // A crash: netd hears of it later than the clients do.
            current.kill();
            std::thread::sleep(Duration::from_millis(40));
            rig.no_service("p/web", true, None);
            rig.publish();
            std::thread::sleep(Duration::from_millis(40));
            current = Upstream::echo_at(&format!("127.0.0.{n}:{port}"));
            rig.service("p/web", &[(&name, n)]);
            rig.publish();
        }
    }
    stop.store(true, Ordering::SeqCst);
    for client in clients {
        client.join().expect("no request of this client failed");
    }
    assert!(
        done.load(Ordering::SeqCst) > 100,
        "{} requests",
        done.load(Ordering::SeqCst)
    );
}

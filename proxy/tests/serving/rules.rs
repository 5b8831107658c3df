//! HTTP/1.1 by the book: each test is named for the section it holds the proxy to. What takes one request and one answer
//! to tell is a row of `conformance`; here is what takes more.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::rig::{Answer, Raw, Rig, Upstream, field, fields};

const GET: &str = "GET / HTTP/1.1\nHost: a.test\n\n";

/// Counts the heads that reach it; answers each with `ok` and expects no bodies.
fn counting() -> (Upstream, Arc<AtomicUsize>) {
    let heads = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&heads);
    let upstream = Upstream::new(move |mut raw| {
        while raw.head().is_some() {
            count.fetch_add(1, Ordering::SeqCst);
            if raw
                .stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                .is_err()
            {
                return;
            }
        }
    });
    (upstream, heads)
}

/// Sends bytes as they are, followed by a request that must not be read as one.
fn refused(rig: &Rig, bytes: &[u8]) -> Answer {
    let mut client = Raw::connect(rig.http);
    client.stream.write_all(bytes).unwrap();
    client
        .stream
        .write_all(b"GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n")
        .ok();
    let answer = client.answer();
    assert_eq!(
        answer.field("connection"),
        Some("close"),
        "{}",
        bytes.escape_ascii()
    );
    let rest = client.rest();
    assert!(
        rest.is_empty(),
        "{}: {}",
        bytes.escape_ascii(),
        rest.escape_ascii()
    );
    answer
}

#[test]
fn a_request_that_can_t_be_read_is_in_the_access_log_too() {
    let (upstream, heads) = counting();
    let rig = Rig::with_upstream(&upstream);
    for text in [
        "GET / HTTP/1.1\nHost: a.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        assert_eq!(refused(&rig, text.as_bytes()).status, 400);
    }
    assert_eq!(heads.load(Ordering::SeqCst), 0);
    let lines = rig.access_lines(2);
    assert!(lines.iter().all(|line| line["outcome"] == "refused"), "{lines:?}");
}

#[test]
fn rfc_9112_section_6_3_a_malformed_answer_is_a_bad_gateway_and_its_connection_ends() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ncontent-length: 2, 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ncontent-length: -2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\ncontent-length: 2\n\nok",
        "HTTP/1.1 200 OK\r\nx: a\r\n b\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nx : a\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nx: a\0\r\ncontent-length: 2\r\n\r\nok",
        "\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
    ] {
        let closed = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&closed);
        let upstream = Upstream::new(move |mut raw| {
            raw.head();
            raw.stream.write_all(answer.as_bytes()).unwrap();
            if raw.head().is_none() {
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
        let rig = Rig::with_upstream(&upstream);
        let mut client = Raw::connect(rig.http);
        client.send("POST / HTTP/1.1\nHost: a.test\nContent-Length: 0\n\n");
        assert_eq!(client.answer().status, 502, "{answer:?}");
        let deadline = Instant::now() + Duration::from_secs(5);
        while closed.load(Ordering::SeqCst) == 0 {
            assert!(Instant::now() < deadline, "{answer:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(upstream.connections(), 1);
    }
}

#[test]
fn rfc_9112_section_9_3_a_connection_with_bytes_left_over_is_not_used_again() {
    // Behind the first answer comes one to nobody's question.
    let upstream = Upstream::new(|mut raw| {
        while raw.head().is_some() {
            raw.stream
                .write_all(
                    b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil",
                )
                .unwrap();
        }
    });
    let rig = Rig::with_upstream(&upstream);
    let mut client = Raw::connect(rig.http);
    for n in 1..4 {
        client.send(GET);
        assert_eq!(client.answer().text(), "ok");
        assert_eq!(upstream.connections(), n);
    }
    // Here it comes a moment later, while nobody waits for anything.
    let upstream = Upstream::new(|mut raw| {
        while raw.head().is_some() {
            raw.stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                .unwrap();
            std::thread::sleep(Duration::from_millis(50));
            raw.stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil")
                .unwrap();
        }
    });
    let rig = Rig::with_upstream(&upstream);
    let mut client = Raw::connect(rig.http);
    for n in 1..4 {
        client.send(GET);
        assert_eq!(client.answer().text(), "ok");
        assert_eq!(upstream.connections(), n);
        std::thread::sleep(Duration::from_millis(120));
    }
}

#[test]
fn rfc_9112_section_9_3_2_pipelined_requests_are_answered_in_their_order() {
    let upstream = Upstream::echo();
    let rig = Rig::with_upstream(&upstream);
    let mut client = Raw::connect(rig.http);
    client.send(
        "\nPOST /1 HTTP/1.1\nHost: a.test\nContent-Length: 3\n\noneGET /2 HTTP/1.1\nHost: a.test\n\n\
         PUT /3 HTTP/1.1\nHost: a.test\nContent-Length: 5\n\nthreeGET /4 HTTP/1.1\nHost: a.test\nConnection: close\n\n",
    );
    client.stream.shutdown(Shutdown::Write).unwrap();
    for (start, end) in [
        ("POST /1 ", "one"),
        ("GET /2 ", ""),
        ("PUT /3 ", "three"),
        ("GET /4 ", ""),
    ] {
        let answer = client.answer();
        assert!(
            answer.text().starts_with(start) && answer.text().ends_with(end),
            "{}",
            answer.text()
        );
        assert_eq!(
            answer.field("connection"),
            (start == "GET /4 ").then_some("close")
        );
    }
    assert!(client.rest().is_empty());
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn rfc_9112_section_9_3_http_1_0_persists_when_it_asks_to() {
    let upstream = Upstream::echo();
    let rig = Rig::with_upstream(&upstream);
    let mut client = Raw::connect(rig.http);
    for _ in 0..2 {
        client.send("GET / HTTP/1.0\nHost: a.test\nConnection: keep-alive\n\n");
        let answer = client.answer();
        assert_eq!(
            (answer.status, answer.field("connection")),
            (200, Some("keep-alive"))
        );
    }
    client.send("GET / HTTP/1.0\nHost: a.test\n\n");
    let answer = client.answer();
    assert_eq!((answer.status, answer.field("connection")), (200, Some("close")));
    assert!(client.rest().is_empty());
}

#[test]
fn rfc_9110_section_15_2_informational_answers_are_passed_on_but_never_to_http_1_0() {
    let upstream = Upstream::saying(
        "HTTP/1.1 103 Early Hints\nLink: </a.css>; rel=preload\nConnection: x-hop\nX-Hop: 1\n\n\
         HTTP/1.1 103 Early Hints\nLink: </b.css>; rel=preload\n\n\
         HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    );
    let rig = Rig::with_upstream(&upstream);
    let mut client = Raw::connect(rig.http);
    for _ in 0..2 {
        client.send(GET);
        assert_eq!(
            client.head().unwrap(),
            "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload"
        );
        assert_eq!(
            client.head().unwrap(),
            "HTTP/1.1 103 Early Hints\r\nlink: </b.css>; rel=preload"
        );
        assert_eq!(client.answer().text(), "ok");
    }
    assert_eq!(upstream.connections(), 1);
    let answer = rig.ask("GET / HTTP/1.0\nHost: a.test\n\n");
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
}

#[test]
fn rfc_9110_section_15_2_an_informational_answer_comes_at_once() {
    let upstream = Upstream::new(|mut raw| {
        raw.head();
        raw.stream
            .write_all(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n")
            .unwrap();
        // The rest is held back until the client has said that it saw the hints.
        let word = raw.exactly(4).unwrap();
        raw.stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n")
            .unwrap();
        raw.stream.write_all(&word).unwrap();
    });
    let rig = Rig::with_upstream(&upstream);
    let mut client = Raw::connect(rig.http);
    client.send("POST / HTTP/1.1\nHost: a.test\nContent-Length: 4\n\n");
    assert!(client.head().unwrap().starts_with("HTTP/1.1 103"));
    client.send("seen");
    assert_eq!(client.answer().text(), "seen");
}

#[test]
fn rfc_9110_section_15_2_an_endless_series_of_informational_answers_is_cut() {
    let upstream = Upstream::new(|mut raw| {
        raw.head();
        while raw.stream.write_all(b"HTTP/1.1 102 Processing\r\n\r\n").is_ok() {}
    });
    let rig = Rig::with_upstream(&upstream);
    let mut client = Raw::connect(rig.http);
    client.send(GET);
    let last = loop {
        let head = client.head().expect("an answer");
        if !head.starts_with("HTTP/1.1 102") {
            break head;
        }
    };
    assert!(last.starts_with("HTTP/1.1 502"), "{last}");
}

#[test]
fn rfc_9110_section_10_1_1_leave_to_send_a_body_is_the_upstream_s_to_give_and_comes_once() {
    let upstream = Upstream::new(|mut raw| {
        while let Some(head) = raw.head() {
            assert_eq!(field(&head, "expect"), Some("100-continue"));
            raw.stream
                .write_all(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n")
                .unwrap();
            let body = raw.exactly(2).unwrap();
            raw.stream
                .write_all(&[&b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"[..], &body].concat())
                .unwrap();
        }
    });
    let rig = Rig::with_upstream(&upstream);
    let mut client = Raw::connect(rig.http);
    for _ in 0..2 {
        client.send("PUT / HTTP/1.1\nHost: a.test\nExpect: 100-continue\nContent-Length: 2\n\n");
        assert_eq!(client.head().unwrap(), "HTTP/1.1 100 Continue");
        client.send("hi");
        let answer = client.answer();
        assert_eq!((answer.status, answer.text().as_str()), (200, "hi"));
    }
}

#[test]
fn rfc_9110_section_10_1_1_without_leave_the_body_is_not_waited_for() {
    let upstream = Upstream::saying("HTTP/1.1 417 Expectation Failed\nContent-Length: 2\n\nno");
    let rig = Rig::with_upstream(&upstream);
    let mut client = Raw::connect(rig.http);
    client.send("PUT / HTTP/1.1\nHost: a.test\nExpect: 100-continue\nContent-Length: 2\n\n");
    let answer = client.answer();
    // Whether the two bytes come is the client's choice, so what comes next can't be told from them.
    assert_eq!((answer.status, answer.field("connection")), (417, Some("close")));
    assert!(client.rest().is_empty());
    // Nor is leave asked for by one who can't wait for it.
    let upstream = Upstream::echo();
    let rig = Rig::with_upstream(&upstream);
    let answer = rig.ask("PUT / HTTP/1.0\nHost: a.test\nExpect: 100-continue\nContent-Length: 2\n\nhi");
    assert!(
        !fields(&answer.text()).contains_key("expect"),
        "{}",
        answer.text()
    );
    assert_eq!(
        rig.ask("GET / HTTP/1.1\nHost: a.test\nExpect: 100-continue\n\n")
            .status,
        200
    );
}

#[test]
fn rfc_9110_section_7_8_only_a_protocol_that_was_asked_for_is_changed_to() {
    let upstream =
        Upstream::saying("HTTP/1.1 101 Switching Protocols\nConnection: upgrade\nUpgrade: other\n\nraw");
    let rig = Rig::with_upstream(&upstream);
    let answer = rig.ask("GET / HTTP/1.1\nHost: a.test\nConnection: upgrade\nUpgrade: websocket\n\n");
    assert_eq!(answer.status, 502);
}

#[test]
fn rfc_9110_section_7_6_2_an_options_that_may_go_no_further_is_answered_here() {
    let upstream = Upstream::echo();
    let rig = Rig::with_upstream(&upstream);
    let last = rig.ask("OPTIONS / HTTP/1.1\nHost: a.test\nMax-Forwards: 0\n\n");
    assert_eq!(last.status, 200);
    assert!(last.field("allow").unwrap().contains("GET") && last.body.is_empty());
    assert_eq!(upstream.connections(), 0);
    let passed = rig.ask("OPTIONS * HTTP/1.1\nHost: a.test\nMax-Forwards: 2\n\n");
    assert!(passed.text().starts_with("OPTIONS * "), "{}", passed.text());
    assert_eq!(fields(&passed.text())["max-forwards"], ["1"]);
}

#[test]
fn rfc_9110_section_6_5_trailers_go_both_ways_but_none_that_steers() {
    let upstream = Upstream::new(|mut raw| {
        raw.head();
        assert_eq!(
            raw.until(b"0\r\nx-up: 1\r\n\r\n").unwrap(),
            b"2\r\nhi\r\n0\r\nx-up: 1\r\n\r\n"
        );
        raw.stream
            .write_all(
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-sum: 7\r\nset-cookie: a=b\r\ncontent-length: 9\r\n\r\n",
            )
            .unwrap();
    });
    let rig = Rig::with_upstream(&upstream);
    let answer = rig.ask(
        "POST / HTTP/1.1\nHost: a.test\nTransfer-Encoding: chunked\n\n2\nhi\n0\nx-up: 1\nHost: b.test\n\
         X-Forwarded-For: 6.6.6.6\nContent-Length: 5\n\n",
    );
    assert_eq!((answer.text().as_str(), answer.whole), ("okx-sum: 7\r\n", true));
}

#[test]
fn rfc_9110_section_6_6_1_an_answer_without_a_date_gets_one() {
    let upstream = Upstream::saying("HTTP/1.1 200 Fine\nContent-Length: 0\n\n");
    let rig = Rig::with_upstream(&upstream);
    let answer = rig.ask(GET);
    assert!(
        answer.head.starts_with("HTTP/1.1 200 Fine\r\n"),
        "{}",
        answer.head
    );
    assert!(answer.field("date").unwrap().ends_with(" GMT"), "{}", answer.head);
}

#[test]
fn rfc_9112_section_8_an_answer_cut_short_is_no_whole_one_to_http_1_0_either() {
    let upstream = Upstream::new(|mut raw| {
        raw.head();
        raw.stream
            .write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n")
            .unwrap();
    });
    let rig = Rig::with_upstream(&upstream);
    let mut client = Raw::connect(rig.http);
    client.send("GET / HTTP/1.0\nHost: a.test\n\n");
    assert!(client.head().unwrap().starts_with("HTTP/1.1 200"));
    // An end would say that this was all; a reset says that it wasn't.
    let mut rest = Vec::new();
    let ended = client.stream.read_to_end(&mut rest);
    assert_eq!(ended.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn rfc_9112_section_9_6_an_answer_before_the_end_of_a_large_upload_arrives() {
    let upstream = Upstream::new(|mut raw| {
        raw.head();
        raw.stream
            .write_all(b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 3\r\nconnection: close\r\n\r\nno!")
            .unwrap();
    });
    let rig = Rig::with_upstream(&upstream);
    for length in ["Content-Length: 8388608", "Transfer-Encoding: chunked"] {
        let mut client = Raw::connect(rig.http);
        client.send(&format!("POST / HTTP/1.1\nHost: a.test\n{length}\n\n"));
        // Sends all of it before it looks.
        let block = if length.starts_with('C') {
            vec![b'x'; 64 << 10]
        } else {
            [&b"fff8\r\n"[..], &vec![b'x'; 0xfff8], b"\r\n"].concat()
        };
        for _ in 0..128 {
            client.stream.write_all(&block).expect("it is heard out");
        }
        let answer = client.answer();
        assert_eq!((answer.status, answer.text().as_str()), (413, "no!"));
        assert!(client.rest().is_empty());
    }
}

#[test]
fn a_refused_request_with_a_small_body_keeps_its_connection_and_one_with_a_large_does_not() {
    let upstream = Upstream::echo();
    let rig = Rig::with_upstream(&upstream);
    let mut client = Raw::connect(rig.http);
    client.send("POST / HTTP/1.1\nHost: b.test\nContent-Length: 5\n\nhello");
    let answer = client.answer();
    assert_eq!((answer.status, answer.field("connection")), (404, None));
    client.send("POST / HTTP/1.1\nHost: b.test\nContent-Length: 100000\n\nhello");
    let answer = client.answer();
    assert_eq!((answer.status, answer.field("connection")), (404, Some("close")));
    assert!(client.rest().is_empty());
}

#[test]
fn large_bodies_come_through_both_ways_as_they_were() {
    let upstream = Upstream::new(|mut raw| {
        while let Some(head) = raw.head() {
            let length = field(&head, "content-length").map(|length| length.parse().unwrap());
            let chunked = length.is_none();
            let body = match length {
                Some(length) => raw.exactly(length).unwrap(),
                None => {
                    let mut body = Vec::new();
                    assert!(raw.chunks(&mut body));
                    body
                }
            };
            if chunked {
                write!(
                    raw.stream,
                    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
                )
                .unwrap();
                for part in body.chunks(70_001) {
                    write!(raw.stream, "{:x}\r\n", part.len()).unwrap();
                    raw.stream.write_all(part).unwrap();
                    raw.stream.write_all(b"\r\n").unwrap();
                }
                raw.stream.write_all(b"0\r\n\r\n").unwrap();
            } else {
                write!(
                    raw.stream,
                    "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n",
                    body.len()
                )
                .unwrap();
                raw.stream.write_all(&body).unwrap();
            }
        }
    });
    let rig = Rig::with_upstream(&upstream);
    let mut client = Raw::connect(rig.http);
    for size in [
        0usize, 1, 8_191, 8_192, 8_193, 16_384, 65_537, 1_000_003, 5_000_000,
    ] {
        let body: Vec<u8> = (0..size).map(|n| ((n * n) >> 7) as u8 ^ n as u8).collect();
        client.send(&format!(
            "POST / HTTP/1.1\nHost: a.test\nContent-Length: {size}\n\n"
        ));
        client.stream.write_all(&body).unwrap();
        let answer = client.answer();
        assert!(
            answer.status == 200 && answer.whole && answer.body == body,
            "{size}: {}",
            answer.head
        );
        client.send("POST / HTTP/1.1\nHost: a.test\nTransfer-Encoding: chunked\n\n");
        for part in body.chunks(33_333) {
            write!(client.stream, "{:X};x=y\r\n", part.len()).unwrap();
            client.stream.write_all(part).unwrap();
            client.stream.write_all(b"\r\n").unwrap();
        }
        client.stream.write_all(b"0\r\n\r\n").unwrap();
        let answer = client.answer();
        assert!(
            answer.status == 200 && answer.whole && answer.body == body,
            "{size}: {}",
            answer.head
        );
    }
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn an_upload_goes_on_while_nobody_reads_the_answer() {
    // Sends everything back as it comes, in far larger amounts than buffers hold; the client reads when it has sent all.
    const SIZE: usize = 32 << 20;
    let upstream = Upstream::new(|mut raw| {
        raw.head();
        write!(raw.stream, "HTTP/1.1 200 OK\r\ncontent-length: {SIZE}\r\n\r\n").unwrap();
        let mut writer = raw.stream.try_clone().unwrap();
        let answer = std::thread::spawn(move || writer.write_all(&vec![b'y'; SIZE]).unwrap());
        assert_eq!(raw.exactly(SIZE).unwrap().len(), SIZE);
        answer.join().unwrap();
    });
    let rig = Rig::with_upstream(&upstream);
    let mut client = Raw::connect(rig.http);
    client.send(&format!(
        "POST / HTTP/1.1\nHost: a.test\nContent-Length: {SIZE}\n\n"
    ));
    client
        .stream
        .set_write_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    client
        .stream
        .write_all(&vec![b'x'; SIZE])
        .expect("the upload is taken");
    let answer = client.answer();
    assert_eq!((answer.body.len(), answer.whole), (SIZE, true));
    // Both ended, so both connections are good for more.
    let mut lines = rig.access_lines(1);
    assert_eq!(lines.remove(0)["bytes_in"], SIZE);
}

#[test]
fn a_client_that_resets_while_it_is_waited_for_is_noticed() {
    let upstream = Upstream::new(|mut raw| {
        raw.head();
        raw.rest();
    });
    let rig = Rig::with_upstream(&upstream);
    let mut client = Raw::connect(rig.http);
    client.send(GET);
    std::thread::sleep(Duration::from_millis(100));
    nix::sys::socket::setsockopt(
        &client.stream,
        nix::sys::socket::sockopt::Linger,
        &nix::libc::linger {
            l_onoff: 1,
            l_linger: 0,
        },
    )
    .unwrap();
    drop(client);
    assert_eq!(rig.access_lines(1)[0]["outcome"], "client_gone");
}

#[test]
fn what_is_spliced_ends_where_its_body_ends() {
    // A large body, and right behind it the next request or what nobody asked for.
    let upstream = Upstream::new(|mut raw| {
        while let Some(head) = raw.head() {
            let length = field(&head, "content-length").unwrap().parse().unwrap();
            let body = raw.exactly(length).unwrap();
            let mut answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n").into_bytes();
            answer.extend_from_slice(&body);
            if head.contains("/more") {
                answer.extend_from_slice(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil");
            }
            raw.stream.write_all(&answer).unwrap();
        }
    });
    let rig = Rig::with_upstream(&upstream);
    let body = |seed: usize, size: usize| -> Vec<u8> { (0..size).map(|n| (n * seed / 3) as u8).collect() };
    let sizes = [300_000, 131_072, 1_048_577, 40_000, 2_000_000];
    let mut client = Raw::connect(rig.http);
    let mut writer = client.stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        for (n, size) in sizes.into_iter().enumerate() {
            let path = if n % 2 == 0 { "/more" } else { "/" };
            let head = format!("POST {path} HTTP/1.1\r\nHost: a.test\r\nContent-Length: {size}\r\n\r\n");
            writer
                .write_all(&[head.as_bytes(), &body(n, size)].concat())
                .unwrap();
        }
    });
    for (n, size) in sizes.into_iter().enumerate() {
        let answer = client.answer();
        assert_eq!((answer.status, answer.body.len()), (200, size), "{}", answer.head);
        assert!(answer.body == body(n, size), "body {n} is another one");
    }
    sender.join().unwrap();
    assert_eq!(
        upstream.connections(),
        3,
        "one with bytes left over is not used again"
    );
    let lines = rig.access_lines(sizes.len());
    for (line, size) in lines.iter().zip(sizes) {
        assert_eq!(
            (line["bytes_in"].as_u64(), line["bytes_out"].as_u64()),
            (Some(size as u64), Some(size as u64))
        );
    }
}

#[test]
fn a_large_answer_that_breaks_off_is_broken_off() {
    let upstream = Upstream::new(|mut raw| {
        raw.head();
        write!(raw.stream, "HTTP/1.1 200 OK\r\ncontent-length: 10000000\r\n\r\n").unwrap();
        raw.stream.write_all(&vec![b'x'; 5_000_000]).unwrap();
    });
    let rig = Rig::with_upstream(&upstream);
    let answer = rig.ask(GET);
    assert_eq!((answer.body.len(), answer.whole), (5_000_000, false));
    assert_eq!(rig.access_lines(1)[0]["outcome"], "upstream_truncated");
}

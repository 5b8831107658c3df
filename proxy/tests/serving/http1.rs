//! HTTP/1.1 on both sides.

use std::io::Write;
use std::net::Shutdown;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use linkspan_api::feed::{Action, Target};

use crate::rig::{Raw, Rig, Upstream, fields};

#[test]
fn a_request_reaches_the_container_and_its_answer_the_client() {
    let upstream = Upstream::echo();
    let rig = Rig::with_upstream(&upstream);
    let answer = rig.ask("GET /some/path?q=%20x HTTP/1.1\nHost: a.test\nX-Own: 1\n\n");
    assert_eq!(answer.status, 200);
    assert!(
        answer.text().starts_with("GET /some/path?q=%20x HTTP/1.1\r\n"),
        "{}",
        answer.text()
    );
    assert_eq!(fields(&answer.text())["x-own"], ["1"]);
    let line = &rig.access_lines(1)[0];
    assert_eq!(line["status"], 200);
    assert_eq!(line["host"], "a.test");
    assert_eq!(line["path"], "/some/path?q=%20x");
    assert_eq!(line["upstream"], "web-1");
    assert_eq!(line["outcome"], "ok");
    assert_eq!(line["bytes_out"], answer.body.len());
}

#[test]
fn the_container_is_told_the_truth_about_the_client() {
    let upstream = Upstream::echo();
    let rig = Rig::with_upstream(&upstream);
    let answer = rig.ask(
        "GET / HTTP/1.1\nHost: A.test:8080\nForwarded: for=6.6.6.6\nX-Forwarded-For: 6.6.6.6\n\
         X_Forwarded_For: 6.6.6.6\nX-Forwarded-Proto: https\nX-Real-IP: 6.6.6.6\nProxy: http://6.6.6.6\n\
         X-Forwarded-Server: evil\nConnection: close, X-Forwarded-For, X-Drop\nX-Drop: 1\nTE: gzip\n\
         Keep-Alive: 5\nCookie: a=b\nX-Request-Id: mine-1\n\n",
    );
    let text = answer.text();
    let got: Vec<String> = fields(&text)
        .into_iter()
        .map(|(n, v)| format!("{n}: {}", v.join(" | ")))
        .collect();
    assert_eq!(
        got,
        [
            "cookie: a=b",
            "forwarded: for=127.0.0.1;host=\"A.test:8080\";proto=http",
            "host: A.test:8080",
            "via: 1.1 linkspan",
            "x-forwarded-for: 127.0.0.1",
            "x-forwarded-host: A.test:8080",
            "x-forwarded-port: 8080",
            "x-forwarded-proto: http",
            "x-real-ip: 127.0.0.1",
            "x-request-id: mine-1",
        ]
    );
}

#[test]
fn hop_by_hop_fields_of_an_answer_stay_behind_and_the_rest_comes_through() {
    let upstream = Upstream::saying(
        "HTTP/1.1 200 OK\nServer: theirs\nConnection: x-secret\nX-Secret: 1\nKeep-Alive: timeout=9\n\
         Set-Cookie: a=1\nSet-Cookie: b=2\nContent-Length: 2\n\nok",
    );
    let rig = Rig::with_upstream(&upstream);
    let answer = rig.ask("GET / HTTP/1.1\nHost: a.test\n\n");
    assert_eq!(answer.text(), "ok");
    let got = fields(&answer.head);
    assert_eq!(got["server"], ["theirs"]);
    assert_eq!(got["set-cookie"], ["a=1", "b=2"]);
    assert!(
        !got.contains_key("x-secret") && !got.contains_key("keep-alive"),
        "{}",
        answer.head
    );
}

#[test]
fn requests_that_name_no_host_or_several_or_a_broken_one_are_refused() {
    let upstream = Upstream::echo();
    let rig = Rig::with_upstream(&upstream);
    for (request, status) in [
        ("GET / HTTP/1.1\n\n", 400),
        ("GET / HTTP/1.1\nHost: a.test\nHost: a.test\n\n", 400),
        ("GET / HTTP/1.1\nHost: a.test, b.test\n\n", 400),
        ("GET / HTTP/1.1\nHost: me@a.test\n\n", 400),
        ("GET / HTTP/1.1\nHost: b.test\n\n", 404),
        ("GET / HTTP/1.1\nHost: a.test.\n\n", 200),
        ("GET / HTTP/1.1\nHost: A.TEST:81\n\n", 200),
        ("GET http://a.test/x HTTP/1.1\nHost: b.test\n\n", 200),
        ("CONNECT a.test:443 HTTP/1.1\nHost: a.test:443\n\n", 405),
        ("TRACE / HTTP/1.1\nHost: a.test\n\n", 405),
        ("OPTIONS * HTTP/1.1\nHost: a.test\n\n", 200),
        ("GET / HTTP/1.1\nHost: a.test\nBad Name: x\n\n", 400),
        (
            "POST / HTTP/1.1\nHost: a.test\nTransfer-Encoding: gzip, chunked\n\n0\n\n",
            400,
        ),
    ] {
        assert_eq!(rig.ask(request).status, status, "{request}");
    }
}

#[test]
fn a_page_for_people_is_html_and_one_for_programs_text() {
    let mut rig = Rig::plain();
    rig.route("a.test", "/", "p/web", 80);
    rig.no_service("p/web", false, Some("crashed with exit status 1 <script>"));
    rig.publish();
    let text = rig.ask("GET / HTTP/1.1\nHost: a.test\n\n");
    assert_eq!(text.status, 503);
    assert_eq!(
        text.text(),
        "service unavailable: `p/web` is down: crashed with exit status 1 <script>\n"
    );
    let html = rig.ask("GET / HTTP/1.1\nHost: a.test\nAccept: text/html,*/*\n\n");
    assert!(html.text().contains("&lt;script&gt;") && !html.text().contains("<script>"));
    assert!(html.field("content-type").unwrap().starts_with("text/html"));
}

#[test]
fn bodies_stream_both_ways_while_they_are_made() {
    // The upstream answers each chunk as soon as it came; with any buffering the two would wait for each other.
    let upstream = Upstream::new(|mut raw| {
        raw.head();
        raw.stream
            .write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            .unwrap();
        for _ in 0..3 {
            let size = raw.until(b"\r\n").unwrap();
            assert_eq!(size, b"1\r\n");
            let chunk = raw.exactly(3).unwrap();
            raw.stream.write_all(b"1\r\n").unwrap();
            raw.stream.write_all(&chunk).unwrap();
        }
        raw.stream.write_all(b"0\r\n\r\n").unwrap();
    });
    let rig = Rig::with_upstream(&upstream);
    let mut client = Raw::connect(rig.http);
    client.send("POST / HTTP/1.1\nHost: a.test\nTransfer-Encoding: chunked\n\n");
    client.send("1\na\n");
    assert!(client.head().unwrap().starts_with("HTTP/1.1 200"));
    for letter in ["a", "b", "c"] {
        assert_eq!(client.until(b"\r\n").unwrap(), b"1\r\n");
        assert_eq!(client.exactly(3).unwrap(), format!("{letter}\r\n").as_bytes());
        match letter {
            "a" => client.send("1\nb\n"),
            "b" => client.send("1\nc\n0\n\n"),
            _ => {}
        }
    }
}

#[test]
fn a_slow_client_slows_the_upstream_down_instead_of_filling_memory() {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    let written = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&written);
    let upstream = Upstream::new(move |mut raw| {
        raw.head();
        raw.stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1073741824\r\n\r\n")
            .unwrap();
        let block = vec![b'x'; 1 << 20];
        while raw.stream.write_all(&block).is_ok() {
            count.fetch_add(block.len(), Ordering::SeqCst);
        }
    });
    let rig = Rig::with_upstream(&upstream);
    let mut client = Raw::connect(rig.http);
    client.send("GET / HTTP/1.1\nHost: a.test\n\n");
    client.head().unwrap();
    let mut before = usize::MAX;
    while before != written.load(Ordering::SeqCst) {
        before = written.load(Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(300));
    }
    // What the kernel's socket buffers and ours hold, far from the gigabyte.
    assert!(before < 64 << 20, "{before} bytes were taken from the upstream");
    drop(client);
    assert_eq!(rig.access_lines(1)[0]["outcome"], "client_gone");
}

#[test]
fn trailers_go_both_ways() {
    let upstream = Upstream::new(|mut raw| {
        let head = raw.head().unwrap();
        assert!(head.contains("trailer: x-up"), "{head}");
        let request = raw.until(b"0\r\nx-up: 1\r\n\r\n");
        assert!(request.is_some());
        raw.stream
            .write_all(
                b"HTTP/1.1 200 OK\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-sum: 7\r\n\r\n",
            )
            .unwrap();
    });
    let rig = Rig::with_upstream(&upstream);
    let answer = rig.ask(
        "POST / HTTP/1.1\nHost: a.test\nTE: trailers\nConnection: te\nTrailer: x-up\n\
         Transfer-Encoding: chunked\n\n2\nhi\n0\nx-up: 1\n\n",
    );
    assert_eq!(answer.text(), "okx-sum: 7\r\n");
    assert!(answer.whole);
}

#[test]
fn answers_to_head_and_304_have_no_body() {
    let upstream = Upstream::saying("HTTP/1.1 304 Not Modified\nETag: \"a\"\nContent-Length: 5\n\n");
    let rig = Rig::with_upstream(&upstream);
    let mut client = Raw::connect(rig.http);
    for _ in 0..2 {
        client.send("GET / HTTP/1.1\nHost: a.test\n\n");
        let answer = client.answer();
        assert_eq!((answer.status, answer.field("etag")), (304, Some("\"a\"")));
    }

    let upstream = Upstream::saying("HTTP/1.1 200 OK\nContent-Length: 5\n\n");
    let rig = Rig::with_upstream(&upstream);
    let mut client = Raw::connect(rig.http);
    for _ in 0..2 {
        client.send("HEAD / HTTP/1.1\nHost: a.test\n\n");
        assert!(client.head().unwrap().contains("content-length: 5"));
    }
    assert_eq!(upstream.connections(), 1, "the connection is used again");
}

#[test]
fn connections_are_used_again_and_never_shared_between_endpoints() {
    let upstream = Upstream::echo();
    let mut rig = Rig::with_upstream(&upstream);
    let mut client = Raw::connect(rig.http);
    for _ in 0..5 {
        client.send("GET / HTTP/1.1\nHost: a.test\n\n");
        assert_eq!(client.answer().status, 200);
    }
    assert_eq!(upstream.connections(), 1);
    // Another container, same address and port.
    rig.service("p/web", &[("web-2", 1)]);
    rig.publish();
    client.send("GET / HTTP/1.1\nHost: a.test\n\n");
    assert_eq!(client.answer().status, 200);
    assert_eq!(upstream.connections(), 2);
}

#[test]
fn a_client_that_closed_its_side_still_gets_the_answer() {
    let upstream = Upstream::new(|mut raw| {
        raw.head();
        std::thread::sleep(Duration::from_millis(100));
        raw.stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            .unwrap();
    });
    let rig = Rig::with_upstream(&upstream);
    let mut client = Raw::connect(rig.http);
    client.send("GET / HTTP/1.1\nHost: a.test\n\n");
    client.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.answer().text(), "ok");
}

#[test]
fn a_redirecting_route_answers_by_itself_and_keeps_path_and_query() {
    let mut rig = Rig::plain();
    rig.route_to(
        "www.a.test",
        "/",
        Action::Redirect {
            to: "https://a.test".into(),
            status: 308,
        },
    );
    rig.publish();
    let answer = rig.ask("GET /x?y HTTP/1.1\nHost: www.a.test\n\n");
    assert_eq!(
        (answer.status, answer.field("location")),
        (308, Some("https://a.test/x?y"))
    );
}

#[test]
fn a_client_from_another_network_is_not_let_in() {
    let upstream = Upstream::echo();
    let mut rig = Rig::with_upstream(&upstream);
    rig.snapshot.routes[0].allow = vec!["10.0.0.0/8".parse().unwrap()];
    rig.publish();
    assert_eq!(rig.ask("GET / HTTP/1.1\nHost: a.test\n\n").status, 403);
    rig.snapshot.routes[0].allow.push("127.0.0.0/8".parse().unwrap());
    rig.publish();
    assert_eq!(rig.ask("GET / HTTP/1.1\nHost: a.test\n\n").status, 200);
}

#[test]
fn a_server_elsewhere_gets_its_own_host_and_is_asked_over_the_host_s_network() {
    let upstream = Upstream::echo();
    let mut rig = Rig::plain();
    let target = Target::Url {
        tls: false,
        host: "127.0.0.1".into(),
        port: upstream.port,
    };
    rig.route_to("a.test", "/", Action::Forward(vec![target]));
    rig.publish();
    let answer = rig.ask("GET / HTTP/1.1\nHost: a.test\n\n");
    let got = fields(&answer.text());
    assert_eq!(got["host"], [format!("127.0.0.1:{}", upstream.port)]);
    assert_eq!(got["x-forwarded-host"], ["a.test"]);
    upstream.kill();
    let started = Instant::now();
    assert_eq!(rig.ask("GET / HTTP/1.1\nHost: a.test\n\n").status, 502);
    assert!(
        started.elapsed() < Duration::from_secs(3),
        "no snapshot tells that a server elsewhere is back"
    );
}

#[test]
fn replicas_share_the_requests() {
    let a = Upstream::saying("HTTP/1.1 200 OK\nContent-Length: 1\n\na");
    let b = Upstream::saying_at(
        &format!("127.0.0.2:{}", a.port),
        "HTTP/1.1 200 OK\nContent-Length: 1\n\nb",
    );
    let mut rig = Rig::with_upstream(&a);
    rig.service("p/web", &[("web-1", 1), ("web-2", 2)]);
    rig.publish();
    let mut client = Raw::connect(rig.http);
    let mut seen = String::new();
    for _ in 0..20 {
        client.send("GET / HTTP/1.1\nHost: a.test\n\n");
        seen.push_str(&client.answer().text());
    }
    assert_eq!(seen.matches('a').count(), 10, "{seen}");
    assert_eq!(b.connections(), 1);
}

#[test]
fn slow_heads_and_idle_connections_are_closed_by_their_own_deadlines() {
    let upstream = Upstream::echo();
    let mut rig = Rig::with_upstream(&upstream);
    rig.snapshot.limits.head_ms = 500;
    rig.snapshot.limits.idle_ms = 1_500;
    rig.publish();
    let started = Instant::now();
    let mut slow = Raw::connect(rig.http);
    slow.send("GET / HTTP/1.1\nHost: a.te");
    assert!(slow.head().is_none());
    assert!(
        started.elapsed() < Duration::from_millis(1_400),
        "{:?}",
        started.elapsed()
    );
    let mut idle = Raw::connect(rig.http);
    idle.send("GET / HTTP/1.1\nHost: a.test\n\n");
    idle.answer();
    let started = Instant::now();
    assert!(idle.head().is_none());
    let lived = started.elapsed();
    assert!(
        lived > Duration::from_millis(1_000) && lived < Duration::from_secs(4),
        "{lived:?}"
    );
}

#[test]
fn a_client_that_stops_within_its_body_or_never_reads_is_let_go() {
    let upstream = Upstream::new(|mut raw| {
        let head = raw.head().unwrap();
        if head.starts_with("GET") {
            raw.stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1073741824\r\n\r\n")
                .unwrap();
            while raw.stream.write_all(&[b'x'; 65536]).is_ok() {}
        } else {
            raw.rest();
        }
    });
    let mut rig = Rig::with_upstream(&upstream);
    rig.snapshot.limits.idle_ms = 700;
    rig.snapshot.limits.body_ms = 700;
    rig.snapshot.limits.head_ms = 700;
    rig.publish();
    let mut half = Raw::connect(rig.http);
    half.send("POST / HTTP/1.1\nHost: a.test\nContent-Length: 10\n\nhalf");
    assert_eq!(half.answer().status, 400);
    let mut deaf = Raw::connect(rig.http);
    deaf.send("GET / HTTP/1.1\nHost: a.test\n\n");
    let lines = rig.access_lines(2);
    assert!(
        lines.iter().all(|line| line["outcome"] == "client_gone"),
        "{lines:?}"
    );
}

#[test]
fn a_head_that_is_too_long_is_refused() {
    let upstream = Upstream::echo();
    let mut rig = Rig::with_upstream(&upstream);
    rig.snapshot.limits.head_bytes = 16 << 10;
    rig.publish();
    let long = "x".repeat(20 << 10);
    let answer = rig.ask(&format!("GET / HTTP/1.1\nHost: a.test\nX-Long: {long}\n\n"));
    assert_eq!(answer.status, 431);
    assert_eq!(
        rig.ask(&format!(
            "GET / HTTP/1.1\nHost: a.test\nX-Long: {}\n\n",
            "x".repeat(9 << 10)
        ))
        .status,
        200
    );
}

#[test]
fn a_client_of_http_1_0_gets_no_chunks() {
    let upstream = Upstream::saying("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n2\nok\n0\n\n");
    let rig = Rig::with_upstream(&upstream);
    let answer = rig.ask("GET / HTTP/1.0\nHost: a.test\n\n");
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
    assert!(answer.field("transfer-encoding").is_none(), "{}", answer.head);
    assert_eq!(rig.ask("GET / HTTP/1.0\n\n").status, 400);
}

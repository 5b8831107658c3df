//! What is allowed, by the settings: sizes, numbers, and silence.

use std::io::Write;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::Empty;

use crate::http2::{block_on, dial};
use crate::rig::{Raw, Rig, Upstream};

const GET: &str = "GET / HTTP/1.1\nHost: a.test\n\n";

#[test]
fn a_head_with_too_many_fields_or_too_long_a_target_is_refused_in_both_versions() {
    let upstream = Upstream::echo();
    let (mut rig, config) = crate::http2::rig(&upstream);
    rig.snapshot.limits.head_fields = 10;
    rig.snapshot.limits.target_bytes = 100;
    rig.publish();
    block_on(async {
        let mut sender = dial(&rig, &config).await;
        let empty = Empty::<Bytes>::new;
        let mut many = Request::get("https://a.test/").body(empty()).unwrap();
        for n in 0..11 {
            many.headers_mut().insert(
                http::HeaderName::try_from(format!("x-{n}")).unwrap(),
                http::HeaderValue::from_static("1"),
            );
        }
        assert_eq!(sender.send_request(many).await.unwrap().status(), 431);
        let long = format!("https://a.test/{}", "x".repeat(100));
        let long = Request::get(long).body(empty()).unwrap();
        assert_eq!(sender.send_request(long).await.unwrap().status(), 414);
    });
    let mut rig = Rig::with_upstream(&upstream);
    rig.snapshot.limits.head_fields = 10;
    rig.snapshot.limits.target_bytes = 100;
    rig.publish();
    let mut client = Raw::connect(rig.http);
    let ask = |client: &mut Raw, target: usize, fields: usize| {
        let target = "x".repeat(target - 1);
        let fields: String = (1..fields).map(|n| format!("X-{n}: 1\n")).collect();
        client.send(&format!("GET /{target} HTTP/1.1\nHost: a.test\n{fields}\n"));
        client.answer().status
    };
    // Such a request was read to its end, so the connection goes on.
    assert_eq!(ask(&mut client, 100, 10), 200);
    assert_eq!(ask(&mut client, 101, 10), 414);
    assert_eq!(ask(&mut client, 100, 11), 431);
    assert_eq!(ask(&mut client, 100, 10), 200);
}

#[test]
fn one_address_has_so_many_connections_and_no_more() {
    let upstream = Upstream::echo();
    let mut rig = Rig::with_upstream(&upstream);
    rig.snapshot.limits.connections_per_address = 2;
    rig.publish();
    let ask = || {
        let mut client = Raw::connect(rig.http);
        // The proxy may have closed it already.
        client.stream.write_all(GET.replace('\n', "\r\n").as_bytes()).ok();
        let answered = client.head().is_some();
        (client, answered)
    };
    let (first, second) = (ask(), ask());
    assert!(first.1 && second.1);
    assert!(!ask().1);
    drop(first);
    let deadline = Instant::now() + Duration::from_secs(10);
    while !ask().1 {
        assert!(
            Instant::now() < deadline,
            "the place of one that left stays taken"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_connection_ends_in_order_after_so_many_requests() {
    let upstream = Upstream::echo();
    let (mut rig, config) = crate::http2::rig(&upstream);
    rig.snapshot.limits.requests_per_connection = 3;
    rig.publish();
    // On one thread, so that the client sees what comes in the order in which it comes.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(async {
        let mut sender = dial(&rig, &config).await;
        for _ in 0..3 {
            sender.ready().await.unwrap();
            let request = Request::get("https://a.test/")
                .body(Empty::<Bytes>::new())
                .unwrap();
            assert_eq!(sender.send_request(request).await.unwrap().status(), 200);
        }
        // What the client still sends before it has heard of the end is served, or told that it was not.
        while !sender.is_closed() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let mut rig = Rig::with_upstream(&upstream);
    rig.snapshot.limits.requests_per_connection = 3;
    rig.publish();
    let mut client = Raw::connect(rig.http);
    for last in [false, false, true] {
        client.send(GET);
        let answer = client.answer();
        assert_eq!(answer.status, 200);
        assert_eq!(answer.field("connection"), last.then_some("close"));
    }
    assert!(client.rest().is_empty());
}

#[test]
fn an_endpoint_that_never_answers_is_a_gateway_timeout_and_not_ill() {
    let upstream = Upstream::new(|mut raw| drop(raw.rest()));
    let mut rig = Rig::with_upstream(&upstream);
    rig.snapshot.limits.response_ms = 300;
    rig.publish();
    let answer = rig.ask(GET);
    assert_eq!(answer.status, 504);
    assert!(
        answer.text().contains("`web-1` has not answered"),
        "{}",
        answer.text()
    );
    assert!(
        rig.hints.try_recv().is_err(),
        "nobody is told that it is unhealthy"
    );
    assert_eq!(upstream.connections(), 1, "the request may have been acted on");
}

#[test]
fn a_slow_upload_takes_the_time_that_it_takes() {
    let upstream = Upstream::echo();
    let mut rig = Rig::with_upstream(&upstream);
    rig.snapshot.limits.body_ms = 2_000;
    rig.snapshot.limits.response_ms = 2_000;
    rig.snapshot.limits.idle_ms = 2_000;
    rig.snapshot.limits.head_ms = 2_000;
    rig.publish();
    let mut client = Raw::connect(rig.http);
    client.send("POST / HTTP/1.1\nHost: a.test\nContent-Length: 10\n\n");
    for _ in 0..10 {
        std::thread::sleep(Duration::from_millis(500));
        client.stream.write_all(b"x").unwrap();
    }
    let answer = client.answer();
    assert!(answer.status == 200 && answer.text().ends_with("xxxxxxxxxx"));
}

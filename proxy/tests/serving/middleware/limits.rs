//! How often, how many at once, and how much.

use std::time::Duration;

use linkspan_site::{RateKey, RateLimit};

use super::{echoing, line_of};
use crate::rig::{Raw, Rig, Upstream};

const GET: &str = "GET / HTTP/1.1\nHost: a.test\n\n";

#[test]
fn who_asks_too_often_is_told_when_to_come_back_and_a_new_snapshot_forgets_nothing() {
    let (mut rig, _upstream) = echoing("/");
    let limit = RateLimit {
        count: 2,
        period: 3600,
        burst: 2,
        by: RateKey::Header("x-key".into()),
    };
    rig.middleware().rate_limit = Some(limit);
    rig.publish();
    let ask = |rig: &Rig, key: &str| rig.ask(&format!("GET /{key} HTTP/1.1\nHost: a.test\nX-Key: {key}\n\n"));
    assert_eq!((ask(&rig, "a").status, ask(&rig, "a").status), (200, 200));
    let answer = ask(&rig, "a");
    assert_eq!(answer.status, 429);
    let after: u32 = answer.field("retry-after").unwrap().parse().unwrap();
    assert!((1700..=1800).contains(&after), "{after}");
    assert_eq!(ask(&rig, "b").status, 200);
    // Something else about the route changes, and the others come and go.
    rig.middleware().max_body = Some(1);
    rig.publish();
    assert_eq!(ask(&rig, "a").status, 429);
    let lines = rig.access_lines(5);
    assert_eq!(
        lines.iter().filter(|line| line["reason"] == "rate_limit").count(),
        2
    );
    assert_eq!(line_of(&lines, "/b")["outcome"], "ok");
}

#[test]
fn a_request_has_its_place_until_its_answer_is_over() {
    let upstream = Upstream::new(|mut raw| {
        while raw.head().is_some() {
            use std::io::Write as _;
            raw.stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nha")
                .unwrap();
            // The rest follows when the test says so, by the next byte that the upstream reads.
            if raw.exactly(1).is_none() {
                return;
            }
            raw.stream.write_all(b"lf").unwrap();
        }
    });
    let mut rig = Rig::with_upstream(&upstream);
    rig.middleware().concurrency = Some(1);
    rig.publish();
    let mut slow = Raw::connect(rig.http);
    slow.send("POST / HTTP/1.1\nHost: a.test\nContent-Length: 1\n\n");
    assert!(slow.head().unwrap().contains("200 OK"));
    assert_eq!(slow.exactly(2).unwrap(), b"ha");
    let answer = rig.ask(GET);
    assert_eq!((answer.status, answer.field("retry-after")), (503, Some("1")));
    slow.send("x");
    assert_eq!(slow.exactly(2).unwrap(), b"lf");
    drop(slow);
    let lines = rig.access_lines(2);
    assert!(
        lines.iter().any(|line| line["reason"] == "concurrency"),
        "{lines:?}"
    );
    let mut next = Raw::connect(rig.http);
    next.send("POST / HTTP/1.1\nHost: a.test\nContent-Length: 1\n\nx");
    assert_eq!(next.answer().status, 200);
}

#[test]
fn a_body_that_is_too_large_is_refused_before_it_is_sent_or_cut_while_it_is() {
    let (mut rig, upstream) = echoing("/");
    rig.middleware().max_body = Some(10);
    rig.publish();
    let post =
        |fields: &str, body: &str| rig.ask(&format!("POST / HTTP/1.1\nHost: a.test\n{fields}\n\n{body}"));
    assert_eq!(post("Content-Length: 11", "hello world").status, 413);
    assert_eq!(
        post("Content-Length: 999999\nExpect: 100-continue", "").status,
        413
    );
    assert_eq!(upstream.connections(), 0, "nothing was sent");
    assert_eq!(post("Content-Length: 10", "hello worl").status, 200);
    let chunked = post("Transfer-Encoding: chunked", "6\nhello \n5\nworld\n0\n\n");
    assert_eq!(chunked.status, 413, "{}", chunked.text());
    let lines = rig.access_lines(4);
    assert_eq!(
        lines
            .iter()
            .filter(|line| line["reason"] == "body_too_large")
            .count(),
        3
    );
    assert!(rig.hints_are_none(), "the upstream is not to blame");
}

#[test]
fn a_body_that_grows_too_large_never_ends_for_the_upstream() {
    let (tell, told) = std::sync::mpsc::channel();
    let upstream = Upstream::new(move |mut raw| {
        raw.head();
        tell.send(raw.rest()).unwrap();
    });
    let mut rig = Rig::plain();
    rig.route("a.test", "/", "p/web", upstream.port);
    rig.service("p/web", &[("web-1", 1)]);
    rig.middleware().max_body = Some(10);
    rig.publish();
    let mut client = Raw::connect(rig.http);
    client.send("POST / HTTP/1.1\nHost: a.test\nTransfer-Encoding: chunked\n\n6\nhello \n");
    std::thread::sleep(Duration::from_millis(100));
    client.send("5\nworld\n0\n\n");
    assert_eq!(client.answer().status, 413);
    let got = told.recv_timeout(Duration::from_secs(5)).unwrap();
    assert!(!got.ends_with(b"0\r\n\r\n"), "it took part of it for all");
}

//! WebSockets and other upgrades.

use std::io::Write;
use std::net::Shutdown;

use crate::rig::{Raw, Rig, Upstream, field, fields};

/// Agrees to any upgrade, then sends back all it gets, and `bye` after the client's end.
fn tunnel() -> Upstream {
    Upstream::new(|mut raw| {
        let head = raw.head().unwrap();
        let protocol = field(&head, "upgrade").unwrap_or("none").to_owned();
        write!(
            raw.stream,
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\
             Sec-WebSocket-Accept: x\r\n\r\nhello "
        )
        .unwrap();
        let all = raw.rest();
        raw.stream.write_all(&all).unwrap();
        raw.stream.write_all(b" bye").unwrap();
    })
}

#[test]
fn a_websocket_is_raw_bytes_both_ways_and_each_side_ends_by_itself() {
    let upstream = tunnel();
    let rig = Rig::with_upstream(&upstream);
    let mut client = Raw::connect(rig.http);
    client.send(
        "GET /ws HTTP/1.1\nHost: a.test\nConnection: keep-alive, Upgrade\nUpgrade: websocket\n\
         Sec-WebSocket-Key: abc\nSec-WebSocket-Version: 13\n\n",
    );
    let answer = client.answer();
    assert_eq!(answer.status, 101);
    assert_eq!(answer.field("upgrade"), Some("websocket"));
    assert_eq!(answer.field("sec-websocket-accept"), Some("x"));
    assert_eq!(client.exactly(6).unwrap(), b"hello ");
    client.stream.write_all(b"\x81\x00raw\xff").unwrap();
    client.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.rest(), b"\x81\x00raw\xff bye");
    let line = &rig.access_lines(1)[0];
    assert_eq!(
        (line["status"].as_u64(), line["outcome"].as_str()),
        (Some(101), Some("ok"))
    );
    assert_eq!(
        (line["bytes_in"].as_u64(), line["bytes_out"].as_u64()),
        (Some(6), Some(16))
    );
}

#[test]
fn an_upstream_that_does_not_agree_to_an_upgrade_answers_as_usual_and_nothing_is_raw() {
    let upstream = Upstream::echo();
    let rig = Rig::with_upstream(&upstream);
    let mut client = Raw::connect(rig.http);
    // The second request is sent ahead, as if the upgrade had been granted already.
    client.send(
        "GET /a HTTP/1.1\nHost: a.test\nConnection: upgrade\nUpgrade: websocket\n\n\
         GET /b HTTP/1.1\nHost: a.test\nX-Forwarded-For: 6.6.6.6\n\n",
    );
    let first = client.answer();
    assert_eq!(fields(&first.text())["upgrade"], ["websocket"]);
    let second = client.answer();
    assert!(second.text().starts_with("GET /b "));
    assert_eq!(
        fields(&second.text())["x-forwarded-for"],
        ["127.0.0.1"],
        "the second one was not smuggled past"
    );
}

#[test]
fn an_upgrade_to_h2c_never_reaches_the_upstream() {
    let upstream = Upstream::echo();
    let rig = Rig::with_upstream(&upstream);
    let answer = rig.ask(
        "GET / HTTP/1.1\nHost: a.test\nConnection: Upgrade, HTTP2-Settings\nUpgrade: h2c\n\
         HTTP2-Settings: AAMAAABkAAQAAP__\n\n",
    );
    let got = fields(&answer.text());
    assert_eq!(answer.status, 200);
    assert!(
        !got.contains_key("upgrade")
            && !got.contains_key("http2-settings")
            && !got.contains_key("connection")
    );
}

#[test]
fn a_101_that_nobody_asked_for_is_a_bad_gateway() {
    let upstream = tunnel();
    let rig = Rig::with_upstream(&upstream);
    assert_eq!(rig.ask("GET / HTTP/1.1\nHost: a.test\n\n").status, 502);
}

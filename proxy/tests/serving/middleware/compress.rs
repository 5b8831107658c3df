//! Compressed answers, read as a browser reads them.

use std::io::{Read, Write};

use crate::rig::{Raw, Rig, Upstream};

const BIG: &str = "HTTP/1.1 200 OK\ncontent-type: text/plain\ncontent-length: 9000\netag: \"v1\"\n\n";

fn rig(upstream: &Upstream) -> Rig {
    let mut rig = Rig::with_upstream(upstream);
    rig.middleware().compress = true;
    rig.publish();
    rig
}

fn big() -> Upstream {
    Upstream::saying(&format!("{BIG}{}", "abcdefghi".repeat(1000)))
}

#[test]
fn rfc_9110_section_8_4_the_client_gets_the_coding_it_likes_and_the_same_text() {
    let upstream = big();
    let rig = rig(&upstream);
    let text = "abcdefghi".repeat(1000);
    for coding in ["gzip", "br", "zstd"] {
        let answer = rig.ask(&format!(
            "GET / HTTP/1.1\nHost: a.test\nAccept-Encoding: {coding}\n\n"
        ));
        assert_eq!(
            (answer.status, answer.field("content-encoding")),
            (200, Some(coding))
        );
        assert!(
            answer.whole && answer.body.len() < 1000,
            "{coding}: {}",
            answer.body.len()
        );
        assert_eq!(answer.field("etag"), Some("W/\"v1\""));
        assert_eq!(answer.field("vary"), Some("accept-encoding"));
        assert_eq!(answer.field("content-length"), None);
        let mut read = String::new();
        let body = answer.body.as_slice();
        match coding {
            "gzip" => flate2::read::GzDecoder::new(body).read_to_string(&mut read),
            "br" => brotli::Decompressor::new(body, 4096).read_to_string(&mut read),
            _ => zstd::stream::read::Decoder::new(body)
                .unwrap()
                .read_to_string(&mut read),
        }
        .unwrap();
        assert_eq!(read, text, "{coding}");
    }
    let plain = rig.ask("GET / HTTP/1.1\nHost: a.test\n\n");
    assert_eq!((plain.text(), plain.field("etag")), (text, Some("\"v1\"")));
    assert_eq!(plain.field("vary"), Some("accept-encoding"));
}

#[test]
fn a_head_answer_says_what_a_get_would() {
    let upstream = Upstream::saying(BIG);
    let rig = rig(&upstream);
    let mut client = Raw::connect(rig.http);
    client.send("HEAD / HTTP/1.1\nHost: a.test\nAccept-Encoding: gzip\n\n");
    let head = client.head().unwrap().to_ascii_lowercase();
    assert!(
        head.contains("content-encoding: gzip") && head.contains("etag: w/\"v1\""),
        "{head}"
    );
    assert!(!head.contains("content-length"), "{head}");
}

#[test]
fn events_of_a_stream_leave_when_they_come() {
    let upstream = Upstream::new(|mut raw| {
        raw.head();
        raw.send("HTTP/1.1 200 OK\ncontent-type: text/event-stream\ntransfer-encoding: chunked\n\nf\ndata: first\n\n\n");
        // The second comes only when the client has seen the first and hangs up.
        raw.rest();
    });
    let rig = rig(&upstream);
    let mut client = Raw::connect(rig.http);
    client.send("GET / HTTP/1.1\nHost: a.test\nAccept-Encoding: gzip\n\n");
    assert!(
        client
            .head()
            .unwrap()
            .to_ascii_lowercase()
            .contains("content-encoding: gzip")
    );
    let mut seen = Vec::new();
    let mut decoder = flate2::write::GzDecoder::new(Vec::new());
    while !String::from_utf8_lossy(decoder.get_ref()).contains("data: first") {
        let size = client.until(b"\r\n").expect("a chunk");
        let size = usize::from_str_radix(String::from_utf8_lossy(&size).trim(), 16).unwrap();
        assert!(size > 0, "it ended: {seen:?}");
        let chunk = client.exactly(size + 2).unwrap();
        decoder.write_all(&chunk[..size]).unwrap();
        decoder.flush().unwrap();
        seen.push(chunk);
    }
}

#[test]
fn a_part_and_what_is_broken_off_stay_what_they_are() {
    let part = Upstream::saying(
        "HTTP/1.1 206 Partial Content\ncontent-type: text/plain\ncontent-range: bytes 0-3/9000\ncontent-length: 4\n\nabcd",
    );
    let served = rig(&part);
    let answer = served.ask("GET / HTTP/1.1\nHost: a.test\nRange: bytes=0-3\nAccept-Encoding: gzip\n\n");
    assert_eq!(
        (
            answer.status,
            answer.field("content-encoding"),
            answer.text().as_str()
        ),
        (206, None, "abcd")
    );
    let cut = Upstream::new(|mut raw| {
        raw.head();
        raw.send(&format!("{BIG}abc"));
    });
    let served = rig(&cut);
    let answer = served.ask("GET / HTTP/1.1\nHost: a.test\nAccept-Encoding: gzip\n\n");
    assert!(!answer.whole, "the client must see that it is not all");
}

//! A drain as clients see it.

use std::time::Duration;

use crate::rig::{Raw, Rig, Upstream};

#[test]
fn a_drain_lets_requests_under_way_end_and_accepts_no_more() {
    let upstream = Upstream::new(|mut raw| {
        use std::io::Write;
        raw.head();
        std::thread::sleep(Duration::from_millis(500));
        raw.stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            .unwrap();
    });
    let rig = Rig::with_upstream(&upstream);
    let mut busy = Raw::connect(rig.http);
    busy.send("GET / HTTP/1.1\nHost: a.test\n\n");
    let mut idle = Raw::connect(rig.http);
    std::thread::sleep(Duration::from_millis(150));
    let address = rig.http;
    let drained = std::thread::spawn(move || rig.proxy.drain(Duration::from_secs(5)));
    let answer = busy.answer();
    assert_eq!(
        (answer.text().as_str(), answer.field("connection")),
        ("ok", Some("close"))
    );
    assert!(idle.head().is_none(), "an idle connection is closed");
    assert!(drained.join().unwrap(), "all ended in time");
    assert!(
        std::net::TcpStream::connect(address).is_err(),
        "the last holder of the listener let go"
    );
}

#[test]
fn what_does_not_end_in_time_is_cut_and_still_in_the_log() {
    let upstream = Upstream::new(|mut raw| {
        raw.head();
        raw.rest();
    });
    let rig = Rig::with_upstream(&upstream);
    let mut waiting = Raw::connect(rig.http);
    waiting.send("GET /for-ever HTTP/1.1\nHost: a.test\n\n");
    std::thread::sleep(Duration::from_millis(200));
    let log = rig.log;
    assert!(!rig.proxy.drain(Duration::from_millis(300)));
    assert!(waiting.head().is_none());
    let text = std::fs::read_to_string(log.path()).unwrap();
    assert!(text.contains("\"path\":\"/for-ever\""), "{text}");
}

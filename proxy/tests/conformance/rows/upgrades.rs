//! Another protocol is spoken only when both sides have said so.

use std::sync::Arc;

use super::{Row, check, get};
use crate::origin::{self, Script};
use crate::subject::removed;
use crate::wire::{Stop, field};

const WEBSOCKET: &str = "GET /ws HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                         Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n";
const AGREED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                      Sec-WebSocket-Accept: ICX+Yqv66kxgM0FcWaLWlFLwTAI=\r\n\r\n";

pub(super) fn rows() -> Vec<Row> {
    vec![
        check(
            "RFC 9110 §7.8",
            "a WebSocket is raw bytes both ways",
            &["101, raw"],
            |subject| {
                let script: Script = Arc::new(|asked| {
                    asked.wire.send(AGREED);
                    let Ok(said) = asked.wire.exactly(4) else {
                        return false;
                    };
                    asked.wire.send(said);
                    false
                });
                subject.origin.begin(script);
                let mut client = subject.client();
                client.send(WEBSOCKET);
                let answer = client.answer().map_err(Stop::shown)?;
                if answer.status() != "101" {
                    return Err(answer.status().to_owned());
                }
                client.send(b"\x81\x00\xff\r");
                let back = client.exactly(4).map_err(Stop::shown)?;
                Ok(if back == b"\x81\x00\xff\r" {
                    "101, raw"
                } else {
                    "101, changed"
                }
                .into())
            },
        ),
        check(
            "RFC 9110 §7.8",
            "a 101 that nobody asked for",
            &["502"],
            |subject| {
                Ok(status(
                    subject.ask(origin::saying(format!("{AGREED}raw")), get("")),
                ))
            },
        ),
        check(
            "RFC 9110 §7.8",
            "a 101 to another protocol",
            &["502"],
            |subject| {
                let other =
                    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\nraw";
                Ok(status(subject.ask(origin::saying(other), WEBSOCKET)))
            },
        ),
        check(
            "RFC 9110 §7.8",
            "nothing is raw before the 101",
            &["read as a request"],
            |subject| {
                // What follows at once would slip by, were it passed on unread (CVE-2026-2833).
                subject.origin.begin(origin::path());
                let mut client = subject.client();
                client.send(WEBSOCKET);
                client.send("GET /next HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-For: 6.6.6.6\r\nConnection: x-hop\r\nX-Hop: 1\r\n\r\n");
                client.answer().map_err(Stop::shown)?;
                client.answer().ok();
                let seen = subject.origin.seen();
                Ok(if seen.contains("X-Hop") || seen.contains("x-hop") {
                    "passed unread"
                } else {
                    "read as a request"
                }
                .into())
            },
        ),
        check("RFC 9110 §7.8", "Upgrade in HTTP/1.0", &["removed"], |subject| {
            let request = WEBSOCKET.replace("HTTP/1.1", "HTTP/1.0");
            Ok(removed(&subject.forwarded(request)?, &["upgrade"]))
        }),
        check(
            "RFC 9110 §7.8",
            "Upgrade that Connection does not name",
            &["removed"],
            |subject| {
                Ok(removed(
                    &subject.forwarded(get("Upgrade: websocket\r\n"))?,
                    &["upgrade"],
                ))
            },
        ),
        check(
            "RFC 9113 §3.1",
            "Upgrade: h2c, a way past the proxy",
            &["removed"],
            |subject| {
                let seen = subject.forwarded(get(
                "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
            ))?;
                Ok(removed(&seen, &["upgrade", "http2-settings"]))
            },
        ),
        check(
            "RFC 9113 §3.1",
            "h2c beside another protocol",
            &["removed"],
            |subject| {
                let seen = subject.forwarded(get("Connection: Upgrade\r\nUpgrade: h2c, websocket\r\n"))?;
                let left = field(&seen, "upgrade").unwrap_or_default();
                Ok(if left.contains("h2c") {
                    "passed".into()
                } else {
                    removed(&seen, &["http2-settings"])
                })
            },
        ),
        check("RFC 9113 §3.1", "HTTP2-Settings alone", &["removed"], |subject| {
            let seen = subject.forwarded(get("HTTP2-Settings: AAMAAABkAAQAAP__\r\n"))?;
            Ok(removed(&seen, &["http2-settings"]))
        }),
    ]
}

fn status(answer: Result<crate::wire::Message, Stop>) -> String {
    answer.map_or_else(Stop::shown, |answer| answer.status().to_owned())
}

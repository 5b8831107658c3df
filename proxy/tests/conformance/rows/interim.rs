//! Responses before the response: hints, and leave to send a body.

use std::sync::Arc;

use super::{Row, check, get};
use crate::origin::{self, Script};
use crate::subject::Subject;
use crate::wire::{Stop, Wire};

const HINTS: &str =
    "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

pub(super) fn rows() -> Vec<Row> {
    vec![
        check("RFC 9110 §15.2", "103 to HTTP/1.1", &["103 200"], |subject| {
            Ok(statuses(subject, origin::saying(HINTS), &get("")))
        }),
        check("RFC 9110 §15.2", "103 to HTTP/1.0", &["200"], |subject| {
            Ok(statuses(
                subject,
                origin::saying(HINTS),
                "GET / HTTP/1.0\r\nHost: a.test\r\n\r\n",
            ))
        }),
        check(
            "RFC 9110 §15.2",
            "103 at once, not with the response",
            &["103 200"],
            |subject| {
                let script: Script = Arc::new(|asked| {
                    asked
                        .wire
                        .send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n");
                    // The body only comes when the client has seen the hints.
                    asked.read() && asked.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                });
                subject.origin.begin(script);
                let mut client = subject.client();
                client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\n\r\n");
                let first = client.response(false).map_err(Stop::shown)?;
                client.send("seen");
                let second = client.response(false).map_err(Stop::shown)?;
                Ok(format!("{} {}", first.status(), second.status()))
            },
        ),
        check("RFC 9110 §15.2", "an unknown 1xx", &["199 200"], |subject| {
            let answer = "HTTP/1.1 199 Odd\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
            Ok(statuses(subject, origin::saying(answer), &get("")))
        }),
        check(
            "RFC 9110 §15.2",
            "fields of a connection in a 103",
            &["removed"],
            |subject| {
                let answer = "HTTP/1.1 103 Early Hints\r\nConnection: x-hop\r\nX-Hop: 1\r\n\r\n\
                          HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
                subject.origin.begin(origin::saying(answer));
                let mut client = subject.client();
                client.send(get(""));
                let first = client.response(false).map_err(Stop::shown)?;
                if first.status() != "103" {
                    return Err(first.status().to_owned());
                }
                Ok(crate::subject::removed(&first.head, &["x-hop", "connection"]))
            },
        ),
        check(
            "RFC 9110 §10.1.1",
            "Expect goes to the origin",
            &["forwarded"],
            |subject| {
                subject.origin.begin(leave());
                let mut client = subject.client();
                client.send(EXPECTING);
                client.response(false).map_err(Stop::shown)?;
                client.send("hi");
                client.answer().map_err(Stop::shown)?;
                let expects = crate::wire::field(&subject.origin.seen(), "expect").is_some();
                Ok(if expects { "forwarded" } else { "removed" }.into())
            },
        ),
        check("RFC 9110 §10.1.1", "exactly one 100", &["100 200"], |subject| {
            Ok(statuses_with(subject, leave(), EXPECTING, "hi"))
        }),
        check(
            "RFC 9110 §10.1.1",
            "no leave from the origin, no 100",
            &["417"],
            |subject| {
                let script: Script = Arc::new(|asked| {
                    asked
                        .wire
                        .send("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n");
                    false
                });
                Ok(statuses(subject, script, EXPECTING))
            },
        ),
        check(
            "RFC 9110 §10.1.1",
            "Expect in HTTP/1.0 asks for nothing",
            &["200"],
            |subject| {
                let request =
                    "PUT / HTTP/1.0\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi";
                Ok(statuses(subject, leave(), request))
            },
        ),
    ]
}

const EXPECTING: &str = "PUT / HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 2\r\nConnection: close\r\n\r\n";

/// An origin that gives leave where it is asked for, and once too often.
fn leave() -> Script {
    Arc::new(|asked| {
        if asked.field("expect").is_some() {
            asked
                .wire
                .send("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n");
        }
        asked.read() && asked.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    })
}

fn statuses(subject: &Subject, script: Script, request: &str) -> String {
    statuses_with(subject, script, request, "")
}

/// All statuses up to the final one. `body` is sent when leave for it has come.
fn statuses_with(subject: &Subject, script: Script, request: &str, body: &str) -> String {
    subject.origin.begin(script);
    let mut client = subject.client();
    client.send(request);
    all(&mut client, body)
}

fn all(client: &mut Wire<std::net::TcpStream>, body: &str) -> String {
    let mut told = Vec::new();
    let mut sent = false;
    loop {
        match client.response(false) {
            Ok(message) => {
                told.push(message.status().to_owned());
                if message.status() == "100" && !sent {
                    client.send(body);
                    sent = true;
                }
                if !message.status().starts_with('1') {
                    return told.join(" ");
                }
            }
            Err(stop) => {
                told.push(stop.shown());
                return told.join(" ");
            }
        }
    }
}

//! Bodies have the end that they have, and connections go on only where that is known.

use std::sync::Arc;

use super::{Row, check, get, post};
use crate::origin::{self, Script};
use crate::subject::half_close;
use crate::wire::{Stop, field};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = vec![
        check(
            "RFC 9112 §6.3",
            "a response to HEAD has no body",
            &["200, then 200"],
            |subject| {
                subject.origin.begin(Arc::new(|asked| {
                    let head = asked.head.starts_with("HEAD");
                    let body = if head { "" } else { "hello" };
                    asked.read()
                        && asked
                            .wire
                            .send(format!("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{body}"))
                }));
                let mut client = subject.client();
                client.send("HEAD / HTTP/1.1\r\nHost: a.test\r\n\r\n");
                let first = client.response(true).map_err(Stop::shown)?;
                client.send(get(""));
                let second = client.answer().map_err(Stop::shown)?;
                Ok(format!("{}, then {}", first.status(), second.status()))
            },
        ),
        check(
            "RFC 9110 §8.6",
            "the length of a response to HEAD",
            &["5"],
            |subject| {
                subject
                    .origin
                    .begin(origin::saying("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"));
                let mut client = subject.client();
                client.send("HEAD / HTTP/1.1\r\nHost: a.test\r\n\r\n");
                let answer = client.response(true).map_err(Stop::shown)?;
                Ok(field(&answer.head, "content-length").unwrap_or("none".into()))
            },
        ),
        check("RFC 9110 §8.6", "204 has no length", &["none"], |subject| {
            let answer = subject.ask(
                origin::saying("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"),
                get(""),
            );
            Ok(field(&answer.map_err(Stop::shown)?.head, "content-length").unwrap_or("none".into()))
        }),
        check(
            "RFC 9110 §15.4.5",
            "304 has no body",
            &["304, then 304"],
            |subject| {
                subject.origin.begin(origin::saying(
                    "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nContent-Length: 5\r\n\r\n",
                ));
                let mut client = subject.client();
                client.send(get(""));
                let first = client.answer().map_err(Stop::shown)?;
                client.send(get(""));
                let second = client.answer().map_err(Stop::shown)?;
                Ok(format!("{}, then {}", first.status(), second.status()))
            },
        ),
        check(
            "RFC 9110 §6.5",
            "trailers of a request",
            &["forwarded"],
            |subject| {
                let request = "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
                           2\r\nhi\r\n0\r\nX-Sum: 7\r\n\r\n";
                let seen = subject.forwarded(request)?.to_ascii_lowercase();
                Ok(if seen.contains("x-sum: 7") {
                    "forwarded"
                } else {
                    "dropped"
                }
                .into())
            },
        ),
        check(
            "RFC 9110 §6.5",
            "trailers of a response",
            &["forwarded"],
            |subject| {
                let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n";
                let got = subject.ask(origin::saying(answer), get("TE: trailers\r\nConnection: te\r\n"));
                let trailers = got.map_err(Stop::shown)?.trailers.to_ascii_lowercase();
                Ok(if trailers.contains("x-sum: 7") {
                    "forwarded"
                } else {
                    "dropped"
                }
                .into())
            },
        ),
        check(
            "RFC 9110 §6.5.1",
            "trailers that would steer",
            &["removed"],
            |subject| {
                let request = "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n\
                           2\r\nhi\r\n0\r\nX-Forwarded-For: 6.6.6.6\r\nContent-Length: 66\r\nHost: c.test\r\n\r\n";
                let seen = subject.forwarded(request)?.to_ascii_lowercase();
                let passed = ["6.6.6.6", "66\r\n", "c.test"]
                    .iter()
                    .any(|what| seen.contains(what));
                Ok(if passed { "passed" } else { "removed" }.into())
            },
        ),
    ];
    rows.extend(ends());
    rows.extend(connections());
    rows
}

fn ends() -> Vec<Row> {
    vec![
        check(
            "RFC 9112 §8",
            "a response cut within its length",
            &["cut"],
            |subject| truncated(subject, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"),
        ),
        check(
            "RFC 9112 §8",
            "a response cut before its last chunk",
            &["cut"],
            |subject| {
                truncated(
                    subject,
                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
                )
            },
        ),
        check(
            "RFC 9112 §8",
            "a response cut within a chunk",
            &["cut"],
            |subject| {
                truncated(
                    subject,
                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nhalf",
                )
            },
        ),
        check(
            "RFC 9112 §6.3",
            "a response that ends with its connection",
            &["whole"],
            |subject| truncated(subject, "HTTP/1.1 200 OK\r\n\r\nall"),
        ),
        check("RFC 9112 §6.1", "no chunks to HTTP/1.0", &["ok"], |subject| {
            let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
            let got = subject.ask(origin::saying(answer), "GET / HTTP/1.0\r\nHost: a.test\r\n\r\n");
            let got = got.map_err(Stop::shown)?;
            Ok(field(&got.head, "transfer-encoding").unwrap_or(got.text()))
        }),
        check(
            "RFC 9112 §8",
            "a request cut within its length",
            &["never whole"],
            |subject| half(subject, &post("Content-Length: 10\r\n", "half")),
        ),
        check(
            "RFC 9112 §8",
            "a request cut before its last chunk",
            &["never whole"],
            |subject| half(subject, &post("Transfer-Encoding: chunked\r\n", "4\r\nhalf\r\n")),
        ),
        check(
            "RFC 9112 §9.6",
            "a final response to a large upload",
            &["413"],
            |subject| {
                let script: Script = Arc::new(|asked| {
                    let answer =
                        "HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                    asked.wire.send(answer);
                    false
                });
                subject.origin.begin(script);
                let mut client = subject.client();
                client.send(post("Content-Length: 8388608\r\n", ""));
                // All of it is sent before anything is read.
                let block = vec![b'x'; 64 << 10];
                for _ in 0..128 {
                    client.send(&block);
                }
                Ok(client
                    .answer()
                    .map_or_else(Stop::shown, |answer| answer.status().to_owned()))
            },
        ),
    ]
}

fn connections() -> Vec<Row> {
    vec![
        check(
            "RFC 9112 §9.3.2",
            "pipelined requests, in order",
            &["/1 /2 /3"],
            |subject| {
                subject.origin.begin(origin::path());
                let mut client = subject.client();
                client.send(
                "GET /1 HTTP/1.1\r\nHost: a.test\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\n\
                 twoGET /3 HTTP/1.1\r\nHost: a.test\r\n\r\n",
            );
                let answers: Vec<String> = (0..3)
                    .map(|_| client.answer().map_or_else(Stop::shown, |answer| answer.text()))
                    .collect();
                Ok(answers.join(" "))
            },
        ),
        check(
            "RFC 9112 §9.6",
            "a client that closed its side is answered",
            &["200"],
            |subject| {
                let script: Script = Arc::new(|asked| {
                    std::thread::sleep(std::time::Duration::from_millis(100));
                    asked.read() && asked.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                });
                subject.origin.begin(script);
                let mut client = subject.client();
                client.send(get(""));
                half_close(&client);
                Ok(client
                    .answer()
                    .map_or_else(Stop::shown, |answer| answer.status().to_owned()))
            },
        ),
        check(
            "RFC 9112 §9.6",
            "Connection: close is heeded",
            &["close"],
            |subject| {
                subject.origin.begin(origin::path());
                let mut client = subject.client();
                client.send(get("Connection: close\r\n"));
                client.answer().map_err(Stop::shown)?;
                let (more, stop) = client.rest();
                Ok(if more.is_empty() && stop == Stop::Closed {
                    "close"
                } else {
                    "open"
                }
                .into())
            },
        ),
        check(
            "RFC 9112 §9.3",
            "HTTP/1.0 that asks to persist",
            &["kept"],
            |subject| {
                subject.origin.begin(origin::path());
                let mut client = subject.client();
                for _ in 0..2 {
                    client.send("GET / HTTP/1.0\r\nHost: a.test\r\nConnection: keep-alive\r\n\r\n");
                    client.answer().map_err(Stop::shown)?;
                }
                Ok("kept".into())
            },
        ),
        check(
            "RFC 9112 §9.3",
            "an upstream connection is used again",
            &["1"],
            |subject| {
                subject.origin.begin(origin::path());
                let mut client = subject.client();
                for _ in 0..3 {
                    client.send(get(""));
                    client.answer().map_err(Stop::shown)?;
                }
                Ok(subject.origin.connections().to_string())
            },
        ),
        check(
            "RFC 9112 §9.3",
            "bytes that come while nobody waits for any",
            &["/2"],
            |subject| {
                let script: Script = Arc::new(|asked| {
                    let path = asked.head.split(' ').nth(1).unwrap_or_default().to_owned();
                    let read = asked.read();
                    asked.wire.send(format!(
                        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{path}",
                        path.len()
                    ));
                    std::thread::sleep(std::time::Duration::from_millis(50));
                    read && asked
                        .wire
                        .send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
                });
                subject
                    .ask(script, "GET /1 HTTP/1.1\r\nHost: a.test\r\n\r\n")
                    .map_err(Stop::shown)?;
                std::thread::sleep(std::time::Duration::from_millis(150));
                let next = subject.again("GET /2 HTTP/1.1\r\nHost: a.test\r\n\r\n");
                Ok(next.map_or_else(Stop::shown, |answer| answer.text()))
            },
        ),
    ]
}

/// What a client can know about the response that an origin ends with.
fn truncated(subject: &crate::subject::Subject, answer: &str) -> Result<String, String> {
    let got = subject.ask(origin::closing(answer), get(""));
    Ok(match got {
        Ok(message) if message.status() != "200" => message.status().to_owned(),
        Ok(message) if message.whole => "whole".into(),
        Ok(_) | Err(Stop::Closed) => "cut".into(),
        Err(stop) => stop.shown(),
    })
}

/// May the origin take what a client ended half way for a whole request?
fn half(subject: &crate::subject::Subject, request: &str) -> Result<String, String> {
    subject.origin.begin(origin::path());
    let mut client = subject.client();
    client.send(request);
    half_close(&client);
    client.answer().ok();
    Ok(if subject.origin.whole() == 0 {
        "never whole"
    } else {
        "whole"
    }
    .into())
}

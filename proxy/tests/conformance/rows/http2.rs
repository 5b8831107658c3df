//! HTTP/2: what is malformed is never forwarded, and who only makes work is sent away.

use super::{Row, check};
use crate::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, Http2Client, PING, PRIORITY, RST_STREAM, SETTINGS,
    WINDOW_UPDATE, block, frame,
};
use crate::origin;
use crate::subject::Subject;
use crate::wire::field;

/// A stream error may be preceded by a response (RFC 9113 §8.1.1), and may be treated as one of the connection (§5.4).
const MALFORMED: &[&str] = &["stream error", "connection error", "400"];
/// The head was right, so it may have gone on; the end of the request may not.
const MALFORMED_LATER: &[&str] = &[
    "stream error",
    "connection error",
    "400",
    "stream error, begun",
    "connection error, begun",
    "400, begun",
];

const METHOD: (&str, &str) = (":method", "GET");
const SCHEME: (&str, &str) = (":scheme", "https");
const AUTHORITY: (&str, &str) = (":authority", "a.test");
const PATH: (&str, &str) = (":path", "/");
const HEAD: [(&str, &str); 4] = [METHOD, SCHEME, AUTHORITY, PATH];

pub(super) fn rows() -> Vec<Row> {
    let mut rows = fields();
    rows.extend(requests());
    rows.extend(translated());
    rows.extend(abuse());
    rows
}

fn malformed(rule: &'static str, probe: &'static str, ask: fn(&Subject) -> Result<String, String>) -> Row {
    check(rule, probe, MALFORMED, ask)
}

fn fields() -> Vec<Row> {
    vec![
        check(
            "RFC 9113 §8.3",
            "a request that is right",
            &["200, forwarded"],
            |s| get(s, &[]),
        ),
        malformed("RFC 9113 §8.2.1", "a name with a capital", |s| {
            get(s, &[("X-Name", "1")])
        }),
        malformed("RFC 9113 §8.2.1", "a name with a space", |s| {
            get(s, &[("x name", "1")])
        }),
        malformed("RFC 9113 §8.2.1", "a name with a colon", |s| {
            get(s, &[("x:name", "1")])
        }),
        malformed("RFC 9113 §8.2.1", "an empty name", |s| get(s, &[("", "1")])),
        malformed("RFC 9113 §8.2.1", "NUL in a value", |s| get(s, &[("x", "a\0b")])),
        malformed("RFC 9113 §8.2.1", "CR LF in a value", |s| {
            get(s, &[("x", "a\r\ny: b")])
        }),
        malformed("RFC 9113 §8.2.1", "LF in a value", |s| get(s, &[("x", "a\nb")])),
        malformed("RFC 9113 §8.2.2", "Connection", |s| {
            get(s, &[("connection", "close")])
        }),
        malformed("RFC 9113 §8.2.2", "Keep-Alive", |s| {
            get(s, &[("keep-alive", "timeout=5")])
        }),
        malformed("RFC 9113 §8.2.2", "Proxy-Connection", |s| {
            get(s, &[("proxy-connection", "close")])
        }),
        malformed("RFC 9113 §8.2.2", "Transfer-Encoding", |s| {
            get(s, &[("transfer-encoding", "chunked")])
        }),
        malformed("RFC 9113 §8.2.2", "Upgrade", |s| {
            get(s, &[("upgrade", "websocket")])
        }),
        malformed("RFC 9113 §8.2.2", "TE other than trailers", |s| {
            get(s, &[("te", "gzip")])
        }),
        malformed("RFC 9113 §8.3", "a pseudo field behind others", |s| {
            head(s, &[METHOD, SCHEME, AUTHORITY, ("x", "1"), PATH])
        }),
        malformed("RFC 9113 §8.3", "an unknown pseudo field", |s| {
            get(s, &[(":unknown", "1")])
        }),
        malformed("RFC 9113 §8.3", "a pseudo field of responses", |s| {
            get(s, &[(":status", "200")])
        }),
        malformed("RFC 9113 §8.3", ":method twice", |s| {
            head(s, &[METHOD, METHOD, SCHEME, AUTHORITY, PATH])
        }),
        malformed("RFC 9113 §8.3", ":path twice", |s| {
            head(s, &[METHOD, SCHEME, AUTHORITY, PATH, PATH])
        }),
        malformed("RFC 9113 §8.3", ":authority twice", |s| {
            head(s, &[METHOD, SCHEME, AUTHORITY, AUTHORITY, PATH])
        }),
        malformed("RFC 9113 §8.3.1", "no :method", |s| {
            head(s, &[SCHEME, AUTHORITY, PATH])
        }),
        malformed("RFC 9113 §8.3.1", "no :scheme", |s| {
            head(s, &[METHOD, AUTHORITY, PATH])
        }),
        malformed("RFC 9113 §8.3.1", "no :path", |s| {
            head(s, &[METHOD, SCHEME, AUTHORITY])
        }),
        malformed("RFC 9113 §8.3.1", "an empty :path", |s| {
            head(s, &[METHOD, SCHEME, AUTHORITY, (":path", "")])
        }),
        malformed("RFC 9113 §8.3.1", "a :path that is none", |s| {
            head(s, &[METHOD, SCHEME, AUTHORITY, (":path", "x y")])
        }),
        malformed("RFC 9113 §8.3.1", "a :path with CR LF", |s| {
            head(s, &[METHOD, SCHEME, AUTHORITY, (":path", "/ HTTP/1.1\r\nx: y")])
        }),
        malformed("RFC 9113 §8.3.1", "a :method with a space", |s| {
            head(s, &[(":method", "GET /x"), SCHEME, AUTHORITY, PATH])
        }),
        malformed("RFC 9113 §8.3.1", "an asterisk without OPTIONS", |s| {
            head(s, &[METHOD, SCHEME, AUTHORITY, (":path", "*")])
        }),
        malformed("RFC 9113 §8.3.1", "user information in :authority", |s| {
            head(s, &[METHOD, SCHEME, (":authority", "me@a.test"), PATH])
        }),
        malformed("RFC 9113 §8.3.1", "neither :authority nor host", |s| {
            head(s, &[METHOD, SCHEME, PATH])
        }),
        malformed("RFC 9113 §8.3.1", "host and :authority differ", |s| {
            get(s, &[("host", "b.test")])
        }),
    ]
}

fn requests() -> Vec<Row> {
    vec![
        check(
            "RFC 9113 §8.1.1",
            "fewer bytes than Content-Length",
            MALFORMED_LATER,
            |s| {
                body(
                    s,
                    &[("content-length", "5")],
                    &[frame(DATA, END_STREAM, 1, b"hi")],
                )
            },
        ),
        check(
            "RFC 9113 §8.1.1",
            "more bytes than Content-Length",
            MALFORMED_LATER,
            |s| {
                body(
                    s,
                    &[("content-length", "1")],
                    &[frame(DATA, END_STREAM, 1, b"hi")],
                )
            },
        ),
        check(
            "RFC 9113 §8.1.1",
            "Content-Length and no body at all",
            MALFORMED_LATER,
            |s| get(s, &[("content-length", "5")]),
        ),
        check("RFC 9113 §8.1.1", "two lengths", MALFORMED_LATER, |s| {
            let lengths = [("content-length", "2"), ("content-length", "3")];
            body(s, &lengths, &[frame(DATA, END_STREAM, 1, b"hi")])
        }),
        check("RFC 9113 §8.1.1", "a length with a sign", MALFORMED_LATER, |s| {
            body(
                s,
                &[("content-length", "+2")],
                &[frame(DATA, END_STREAM, 1, b"hi")],
            )
        }),
        check(
            "RFC 9113 §8.1",
            "a pseudo field in the trailers goes no further",
            &["removed"],
            |s| {
                // It makes the request malformed, but the library that we have drops the field and says nothing.
                let fields = block(&[(":path", "/evil")]);
                let trailers = frame(HEADERS, END_HEADERS | END_STREAM, 1, &fields);
                body(s, &[], &[frame(DATA, 0, 1, b"hi"), trailers])?;
                let passed = s.origin.seen().contains("evil");
                Ok(if passed { "passed" } else { "removed" }.into())
            },
        ),
        check(
            "RFC 9113 §8.1",
            "trailers that do not end the stream",
            MALFORMED_LATER,
            |s| {
                let trailers = frame(HEADERS, END_HEADERS, 1, &block(&[("x-sum", "7")]));
                body(s, &[], &[frame(DATA, 0, 1, b"hi"), trailers])
            },
        ),
        check(
            "RFC 9113 §5.1",
            "data on a stream that is not open",
            &["connection error"],
            |s| raw(s, &[frame(DATA, 0, 1, b"hi")]),
        ),
        check(
            "RFC 9113 §5.1.1",
            "a client's stream with an even number",
            &["connection error"],
            |s| raw(s, &[frame(HEADERS, END_HEADERS | END_STREAM, 2, &block(&HEAD))]),
        ),
        check(
            "RFC 9113 §6.10",
            "another frame within a block of fields",
            &["connection error"],
            |s| {
                raw(
                    s,
                    &[
                        frame(HEADERS, END_STREAM, 1, &block(&HEAD)),
                        frame(PING, 0, 0, &[0; 8]),
                    ],
                )
            },
        ),
        check(
            "RFC 9113 §4.2",
            "a frame longer than the settings say",
            &["connection error", "stream error"],
            |s| {
                raw(
                    s,
                    &[
                        frame(HEADERS, END_HEADERS, 1, &block(&HEAD)),
                        frame(DATA, 0, 1, &vec![0; 1 << 20]),
                    ],
                )
            },
        ),
        check(
            "RFC 7541 §2.3.3",
            "a field that is in no table",
            &["connection error"],
            |s| {
                raw(
                    s,
                    &[frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0xff, 0x80, 0x7f])],
                )
            },
        ),
        check(
            "RFC 9113 §6.9",
            "a window opened by nothing",
            &["connection error"],
            |s| raw(s, &[frame(WINDOW_UPDATE, 0, 0, &[0; 4])]),
        ),
        check(
            "RFC 9113 §6.9.1",
            "a window beyond its bounds",
            &["connection error"],
            |s| raw(s, &[frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff])]),
        ),
        check(
            "RFC 9113 §6.7",
            "a ping of seven bytes",
            &["connection error"],
            |s| raw(s, &[frame(PING, 0, 0, &[0; 7])]),
        ),
    ]
}

fn translated() -> Vec<Row> {
    vec![
        check(
            "RFC 9113 §8.5",
            "CONNECT",
            &["405", "stream error", "501"],
            |s| head(s, &[(":method", "CONNECT"), (":authority", "a.test:443")]),
        ),
        check(
            "RFC 9113 §8.5",
            "CONNECT with a body does not poison the next",
            &["/next"],
            |s| {
                s.origin.begin(origin::path());
                let mut client = Http2Client::dial(s);
                client.request(&[(":method", "CONNECT"), (":authority", "a.test:443")], 0);
                client.send(&frame(
                    DATA,
                    END_STREAM,
                    1,
                    b"GET /evil HTTP/1.1\r\nHost: a.test\r\n\r\n",
                ));
                client.outcome(1);
                client.send(&frame(
                    HEADERS,
                    END_HEADERS | END_STREAM,
                    3,
                    &block(&[METHOD, SCHEME, AUTHORITY, (":path", "/next")]),
                ));
                client.outcome(3);
                Ok(String::from_utf8_lossy(&client.data(3)?).into_owned())
            },
        ),
        check(
            "RFC 9113 §8.2.3",
            "crumbs of a cookie are joined",
            &["a=1; b=2"],
            |s| {
                s.origin.begin(origin::path());
                let told = ask(s, &[("cookie", "a=1"), ("cookie", "b=2")]);
                field(&s.origin.seen(), "cookie").ok_or(told)
            },
        ),
        check(
            "RFC 9113 §8.3.1",
            "Host is made from :authority",
            &["a.test"],
            |s| {
                s.origin.begin(origin::path());
                let told = ask(s, &[]);
                field(&s.origin.seen(), "host").ok_or(told)
            },
        ),
        check("RFC 9113 §8.3.1", "host alone does", &["a.test"], |s| {
            s.origin.begin(origin::path());
            let mut client = Http2Client::dial(s);
            client.request(&[METHOD, SCHEME, PATH, ("host", "a.test")], END_STREAM);
            let told = client.outcome(1);
            field(&s.origin.seen(), "host").ok_or(told)
        }),
        check(
            "RFC 9113 §8.2.2",
            "TE: trailers is no fault",
            &["200, forwarded"],
            |s| get(s, &[("te", "trailers")]),
        ),
        check(
            "RFC 9113 §8.1",
            "a body without a length is chunked",
            &["chunked"],
            |s| {
                let told = body(
                    s,
                    &[],
                    &[frame(DATA, 0, 1, b"h"), frame(DATA, END_STREAM, 1, b"i")],
                )?;
                field(&s.origin.seen(), "transfer-encoding").ok_or(told)
            },
        ),
        check(
            "RFC 9113 §8.1",
            "a response cut within its length",
            &["stream error"],
            |s| {
                s.origin.begin(origin::closing(
                    "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
                ));
                let mut client = Http2Client::dial(s);
                client.request(&HEAD, END_STREAM);
                let status = client.outcome(1);
                if status != "200" {
                    return Ok(status);
                }
                client.data(1).map(|_| "whole".into())
            },
        ),
    ]
}

fn abuse() -> Vec<Row> {
    let ended: &[&str] = &["ended"];
    vec![
        check("RFC 9113 §10.5", "20,000 streams opened and reset", ended, |s| {
            flood(s, 20_000, |n| {
                let stream = 2 * n + 1;
                let mut bytes = frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(&HEAD));
                bytes.extend(frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]));
                bytes
            })
        }),
        check(
            "RFC 9113 §10.5",
            "20,000 streams that we are made to reset",
            ended,
            |s| {
                flood(s, 20_000, |n| {
                    let stream = 2 * n + 1;
                    let mut bytes = frame(HEADERS, END_HEADERS, stream, &block(&HEAD));
                    bytes.extend(frame(WINDOW_UPDATE, 0, stream, &[0; 4]));
                    bytes
                })
            },
        ),
        check("RFC 9113 §10.5", "16 MiB of continuations", ended, |s| {
            flood(s, 1024, |n| match n {
                0 => frame(HEADERS, END_STREAM, 1, &block(&HEAD)),
                n => frame(
                    CONTINUATION,
                    0,
                    1,
                    &block(&[(&format!("x-{n}"), &"y".repeat(16_000))]),
                ),
            })
        }),
        check("RFC 9113 §10.5", "20,000 empty continuations", ended, |s| {
            flood(s, 20_000, |n| match n {
                0 => frame(HEADERS, END_STREAM, 1, &block(&HEAD)),
                _ => frame(CONTINUATION, 0, 1, &[]),
            })
        }),
        check("RFC 9113 §10.5", "20,000 pings", ended, |s| {
            flood(s, 20_000, |_| frame(PING, 0, 0, &[7; 8]))
        }),
        check("RFC 9113 §10.5", "20,000 settings", ended, |s| {
            flood(s, 20_000, |n| {
                let table: u32 = if n % 2 == 0 { 0 } else { 4096 };
                frame(SETTINGS, 0, 0, &[&[0, 1][..], &table.to_be_bytes()].concat())
            })
        }),
        check("RFC 9113 §10.5", "20,000 priorities", ended, |s| {
            flood(s, 20_000, |n| frame(PRIORITY, 0, 2 * n + 1, &[0, 0, 0, 0, 15]))
        }),
        check(
            "RFC 9113 §10.5",
            "20,000 windows opened by one byte",
            ended,
            |s| flood(s, 20_000, |_| frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        ),
        check("RFC 9113 §10.5", "20,000 empty frames of data", ended, |s| {
            flood(s, 20_000, |n| match n {
                0 => frame(
                    HEADERS,
                    END_HEADERS,
                    1,
                    &block(&[(":method", "POST"), SCHEME, AUTHORITY, PATH]),
                ),
                _ => frame(DATA, 0, 1, &[]),
            })
        }),
        check(
            "RFC 9113 §10.5",
            "20,000 frames of an unknown type",
            ended,
            |s| flood(s, 20_000, |_| frame(0xb7, 0, 0, &[1, 2, 3])),
        ),
        check(
            "RFC 7541 §7.3",
            "a field of 4,000 bytes named 4,000 times",
            &["431", "400", "stream error", "connection error"],
            |s| {
                let before = memory();
                s.origin.begin(origin::path());
                let mut client = Http2Client::dial(s);
                // Indexed once (RFC 7541 §6.2.1), then named by one byte each.
                let mut bomb = block(&HEAD);
                bomb.push(0x40);
                bomb.extend(&block(&[("x-bomb", &"y".repeat(4_000))])[1..]);
                bomb.extend([0x80 | 62; 4_000]);
                client.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &bomb));
                let told = client.outcome(1);
                Ok(told + s.reached() + grown(before))
            },
        ),
    ]
}

/// A GET with these fields too.
fn get(subject: &Subject, fields: &[(&str, &str)]) -> Result<String, String> {
    subject.origin.begin(origin::path());
    let told = ask(subject, fields);
    Ok(told + subject.reached())
}

fn ask(subject: &Subject, fields: &[(&str, &str)]) -> String {
    let mut client = Http2Client::dial(subject);
    client.request(&[&HEAD, fields].concat(), END_STREAM);
    client.outcome(1)
}

/// A request of these fields alone.
fn head(subject: &Subject, fields: &[(&str, &str)]) -> Result<String, String> {
    subject.origin.begin(origin::path());
    let mut client = Http2Client::dial(subject);
    client.request(fields, END_STREAM);
    let told = client.outcome(1);
    Ok(told + subject.reached())
}

/// A POST with these fields, and these frames behind its head.
fn body(subject: &Subject, fields: &[(&str, &str)], frames: &[Vec<u8>]) -> Result<String, String> {
    subject.origin.begin(origin::path());
    let mut client = Http2Client::dial(subject);
    let post = [(":method", "POST"), SCHEME, AUTHORITY, PATH];
    client.request(&[&post, fields].concat(), 0);
    client.send(&frames.concat());
    let told = client.outcome(1);
    Ok(told + subject.reached())
}

/// Frames as they are.
fn raw(subject: &Subject, frames: &[Vec<u8>]) -> Result<String, String> {
    subject.origin.begin(origin::path());
    let mut client = Http2Client::dial(subject);
    client.send(&frames.concat());
    let told = client.outcome(1);
    Ok(told + subject.reached())
}

fn flood(subject: &Subject, times: u32, bytes: impl FnMut(u32) -> Vec<u8>) -> Result<String, String> {
    let before = memory();
    subject.origin.begin(origin::path());
    let told = Http2Client::dial(subject).flood(times, bytes);
    Ok(told + grown(before))
}

/// Resident memory of this process, in pages: that of Linkspan, which runs in it.
fn memory() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse().ok())
        .unwrap_or(0)
}

/// Says so when it has grown by more than 64 MiB.
fn grown(before: u64) -> &'static str {
    if memory().saturating_sub(before) > 16_384 {
        ", memory"
    } else {
        ""
    }
}

//! Fields of one connection stay on it, what others rely on stays, and nobody forges what only the proxy knows.

use super::{Row, check, get};
use crate::origin;
use crate::subject::{Subject, removed};
use crate::wire::{Stop, field};

/// Connection names these, and they are none of its business.
const NOT_ITS_OWN: &[(&str, &str)] = &[
    ("Host", "a.test"),
    ("Content-Type", "text/plain"),
    ("Content-Encoding", "identity"),
    ("Authorization", "Basic eA=="),
    ("Cookie", "a=b"),
];

/// What the proxy writes itself about the client.
const FORWARDING: &[&str] = &["X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host"];

pub(super) fn rows() -> Vec<Row> {
    let mut rows = vec![
        check(
            "RFC 9110 §7.6.1",
            "named by Connection, in a request",
            &["removed"],
            |subject| {
                let seen = subject.forwarded(get("Connection: x-hop\r\nX-Hop: 1\r\nX-End: 1\r\n"))?;
                Ok(removed(&seen, &["x-hop"]))
            },
        ),
        check(
            "RFC 9110 §7.6.1",
            "named by Connection, in a response",
            &["removed"],
            |subject| {
                let answer = "HTTP/1.1 200 OK\r\nConnection: x-hop\r\nX-Hop: 1\r\nContent-Length: 0\r\n\r\n";
                Ok(removed(&head(subject, answer)?, &["x-hop"]))
            },
        ),
        check(
            "RFC 9110 §7.6.1",
            "all fields of a connection, in a request",
            &["removed"],
            |subject| {
                let seen = subject.forwarded(get(
                    "Connection: keep-alive\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\n\
                 TE: gzip\r\nUpgrade: other\r\n",
                ))?;
                Ok(removed(
                    &seen,
                    &["keep-alive", "proxy-connection", "te", "upgrade"],
                ))
            },
        ),
        check(
            "RFC 9110 §7.6.1",
            "all fields of a connection, in a response",
            &["removed"],
            |subject| {
                let answer = "HTTP/1.1 200 OK\r\nKeep-Alive: timeout=9\r\nProxy-Connection: close\r\n\
                          Content-Length: 0\r\n\r\n";
                let head = head(subject, answer)?;
                let own = field(&head, "keep-alive").is_some_and(|value| value.contains("timeout=9"));
                Ok(if own {
                    "passed: keep-alive".into()
                } else {
                    removed(&head, &["proxy-connection"])
                })
            },
        ),
        check(
            "RFC 9110 §7.6.1",
            "Connection cannot name Host, Cookie, …",
            &["kept"],
            |subject| {
                let names: Vec<&str> = NOT_ITS_OWN.iter().map(|(name, _)| *name).collect();
                let fields: String = NOT_ITS_OWN
                    .iter()
                    .skip(1)
                    .map(|(name, value)| format!("{name}: {value}\r\n"))
                    .collect();
                let seen =
                    subject.forwarded(get(&format!("Connection: {}\r\n{fields}", names.join(", "))))?;
                Ok(kept(&seen, &names))
            },
        ),
        check(
            "RFC 9110 §7.6.1",
            "Connection cannot name what the proxy adds",
            &["kept"],
            |subject| {
                let plain = subject.forwarded(get(""))?;
                let written: Vec<&str> = FORWARDING
                    .iter()
                    .copied()
                    .filter(|name| field(&plain, name).is_some())
                    .collect();
                let seen = subject.forwarded(get(&format!("Connection: {}\r\n", FORWARDING.join(", "))))?;
                Ok(kept(&seen, &written))
            },
        ),
        check(
            "RFC 9110 §7.6.1",
            "Connection cannot name Content-Length",
            &["kept"],
            |subject| {
                let seen = subject.forwarded(
                "POST / HTTP/1.1\r\nHost: a.test\r\nConnection: content-length\r\nContent-Length: 2\r\n\r\nhi",
            )?;
                let framed = ["content-length", "transfer-encoding"]
                    .iter()
                    .any(|name| field(&seen, name).is_some());
                Ok(if framed { "kept" } else { "removed" }.into())
            },
        ),
        check("RFC 9110 §7.6.3", "Via on a request", &["1.1"], |subject| {
            let seen = subject.forwarded(get(""))?;
            let via = field(&seen, "via").unwrap_or("none".into());
            Ok(via.split(' ').next().unwrap_or_default().to_owned())
        }),
        check("RFC 9110 §7.6.3", "Via grows", &["1.0 before, 1.1"], |subject| {
            let via = field(&subject.forwarded(get("Via: 1.0 before\r\n"))?, "via").unwrap_or("none".into());
            Ok(via
                .rsplit_once(' ')
                .map_or(via.as_str(), |(start, _)| start)
                .to_owned())
        }),
        check(
            "RFC 9110 §6.6.1",
            "Date where the origin has none",
            &["Date"],
            |subject| {
                let head = head(subject, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
                Ok(field(&head, "date").map_or("none", |_| "Date").into())
            },
        ),
        check(
            "RFC 9110 §5.3",
            "fields of one name keep their order",
            &["a=1, b=2"],
            |subject| {
                let answer =
                    "HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 0\r\n\r\n";
                Ok(field(&head(subject, answer)?, "set-cookie").unwrap_or_default())
            },
        ),
        check(
            "RFC 9110 §5.5",
            "bytes beyond ASCII in a value stay",
            &["kept"],
            |subject| {
                let mut request = b"GET / HTTP/1.1\r\nHost: a.test\r\nX: a".to_vec();
                request.extend_from_slice("\u{e9}\r\n\r\n".as_bytes());
                let seen = subject.forwarded(request)?;
                Ok(if field(&seen, "x").as_deref() == Some("a\u{e9}") {
                    "kept"
                } else {
                    "changed"
                }
                .into())
            },
        ),
    ];
    rows.extend(spoofed());
    rows
}

fn spoofed() -> Vec<Row> {
    vec![
        check("RFC 7239 §8.1", "a spoofed Forwarded", &["removed"], |subject| {
            spoof(subject, "Forwarded: for=6.6.6.6")
        }),
        check(
            "RFC 7239 §8.1",
            "a spoofed X-Forwarded-For",
            &["removed"],
            |subject| spoof(subject, "X-Forwarded-For: 6.6.6.6"),
        ),
        check(
            "RFC 7239 §8.1",
            "a spoofed X-Forwarded-Proto",
            &["removed"],
            |subject| spoof(subject, "X-Forwarded-Proto: 6.6.6.6"),
        ),
        check(
            "RFC 7239 §8.1",
            "a spoofed X-Forwarded-Host",
            &["removed"],
            |subject| spoof(subject, "X-Forwarded-Host: 6.6.6.6"),
        ),
        check(
            "RFC 7239 §8.1",
            "a spoofed X-Forwarded-Server",
            &["removed"],
            |subject| spoof(subject, "X-Forwarded-Server: 6.6.6.6"),
        ),
        check("RFC 7239 §8.1", "a spoofed X-Real-IP", &["removed"], |subject| {
            spoof(subject, "X-Real-IP: 6.6.6.6")
        }),
        check(
            "RFC 3875 §4.1.18",
            "Proxy, which CGI takes for a setting",
            &["removed"],
            |subject| spoof(subject, "Proxy: http://6.6.6.6"),
        ),
        check(
            "RFC 3875 §4.1.18",
            "X_Forwarded_For, the same to CGI",
            &["removed"],
            |subject| spoof(subject, "X_Forwarded_For: 6.6.6.6"),
        ),
        check(
            "RFC 3875 §4.1.18",
            "X-Forwarded_For, half underscored",
            &["removed"],
            |subject| spoof(subject, "X-Forwarded_For: 6.6.6.6"),
        ),
        check(
            "RFC 3875 §4.1.18",
            "X_Real_IP, the same to CGI",
            &["removed"],
            |subject| spoof(subject, "X_Real_IP: 6.6.6.6"),
        ),
    ]
}

/// Does the origin get to see the address that the client made up?
fn spoof(subject: &Subject, line: &str) -> Result<String, String> {
    let seen = subject.forwarded(get(&format!("{line}\r\n")))?;
    Ok(if seen.contains("6.6.6.6") {
        "passed"
    } else {
        "removed"
    }
    .into())
}

/// The head that a client gets when the origin says this.
fn head(subject: &Subject, answer: &str) -> Result<String, String> {
    let answer = subject
        .ask(origin::saying(answer), get(""))
        .map_err(Stop::shown)?;
    Ok(answer.head)
}

fn kept(head: &str, names: &[&str]) -> String {
    let gone: Vec<&str> = names
        .iter()
        .copied()
        .filter(|name| field(head, name).is_none())
        .collect();
    if gone.is_empty() {
        "kept".into()
    } else {
        format!("gone: {}", gone.join(" "))
    }
}

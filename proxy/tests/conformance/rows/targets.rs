//! Forms of the request target, and the methods that are about the proxy itself.

use super::{Row, check, refused};
use crate::origin;
use crate::wire::{Stop, field};

pub(super) fn rows() -> Vec<Row> {
    vec![
        check(
            "RFC 9112 §3.2.2",
            "an absolute target overrules Host",
            &["a.test /x"],
            |subject| {
                let seen = subject
                    .forwarded("GET http://a.test/x HTTP/1.1\r\nHost: b.test\r\nConnection: close\r\n\r\n")?;
                let target = seen.split(' ').nth(1).unwrap_or_default();
                Ok(format!("{} {target}", field(&seen, "host").unwrap_or_default()))
            },
        ),
        check(
            "RFC 9112 §3.2.2",
            "an absolute target needs Host too",
            &["400"],
            |subject| {
                let answer = subject.ask(origin::path(), "GET http://a.test/x HTTP/1.1\r\n\r\n");
                Ok(status(answer))
            },
        ),
        refused(
            "RFC 9112 §3.2.3",
            "an authority without CONNECT",
            "GET a.test:80 HTTP/1.1\r\nHost: a.test\r\n\r\n",
        ),
        refused(
            "RFC 9112 §3.2.4",
            "an asterisk without OPTIONS",
            "GET * HTTP/1.1\r\nHost: a.test\r\n\r\n",
        ),
        check(
            "RFC 9112 §3.2.4",
            "OPTIONS * stays an asterisk",
            &["*"],
            |subject| {
                let seen = subject.forwarded("OPTIONS * HTTP/1.1\r\nHost: a.test\r\n\r\n")?;
                Ok(seen.split(' ').nth(1).unwrap_or_default().to_owned())
            },
        ),
        refused(
            "RFC 9110 §7.1",
            "a fragment",
            "GET /a#b HTTP/1.1\r\nHost: a.test\r\n\r\n",
        ),
        refused(
            "RFC 9110 §4.2",
            "a scheme that is not HTTP",
            "GET ftp://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
        ),
        check(
            "RFC 9112 §3.2.1",
            "the target's bytes stay as they are",
            &["/a%2fb//c/%7e?d=%20&e"],
            |subject| {
                // The route is for everything here, so nothing depends on how it is read.
                let seen = subject.forwarded("GET /a%2fb//c/%7e?d=%20&e HTTP/1.1\r\nHost: a.test\r\n\r\n")?;
                Ok(seen.split(' ').nth(1).unwrap_or_default().to_owned())
            },
        ),
        check("RFC 9110 §9.3.6", "CONNECT", &["405"], |subject| {
            let answer = subject.ask(
                origin::path(),
                "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n",
            );
            Ok(status(answer) + subject.reached())
        }),
        check("RFC 9110 §9.3.8", "TRACE", &["405"], |subject| {
            let answer = subject.ask(origin::path(), "TRACE / HTTP/1.1\r\nHost: a.test\r\n\r\n");
            Ok(status(answer) + subject.reached())
        }),
        check(
            "RFC 9110 §15.5.6",
            "a 405 says what is allowed",
            &["Allow"],
            |subject| {
                let answer = subject.ask(origin::path(), "TRACE / HTTP/1.1\r\nHost: a.test\r\n\r\n");
                let answer = answer.map_err(Stop::shown)?;
                Ok(field(&answer.head, "allow")
                    .map_or("none", |_| "Allow")
                    .to_owned())
            },
        ),
        check(
            "RFC 9110 §7.6.2",
            "OPTIONS with Max-Forwards: 0",
            &["200"],
            |subject| {
                let answer = subject.ask(
                    origin::path(),
                    "OPTIONS / HTTP/1.1\r\nHost: a.test\r\nMax-Forwards: 0\r\n\r\n",
                );
                Ok(status(answer) + subject.reached())
            },
        ),
        check(
            "RFC 9110 §7.6.2",
            "OPTIONS with Max-Forwards: 2",
            &["1"],
            |subject| {
                let seen =
                    subject.forwarded("OPTIONS / HTTP/1.1\r\nHost: a.test\r\nMax-Forwards: 2\r\n\r\n")?;
                Ok(field(&seen, "max-forwards").unwrap_or("none".into()))
            },
        ),
    ]
}

fn status(answer: Result<crate::wire::Message, Stop>) -> String {
    answer.map_or_else(Stop::shown, |answer| answer.status().to_owned())
}

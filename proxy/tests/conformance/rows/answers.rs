//! A response that can be read in two ways is a bad gateway, and its connection is used for nobody else.

use super::{Row, row};
use crate::rows::Ask;

pub(super) fn rows() -> Vec<Row> {
    let bad = |rule, probe, bytes: &str| row(rule, probe, &["502"], Ask::Answered(bytes.into()));
    let fields = |rule, probe, fields: &str, body: &str| {
        let bytes = format!("HTTP/1.1 200 OK\r\n{fields}\r\n{body}");
        row(rule, probe, &["502"], Ask::Answered(bytes.into()))
    };
    // The head may have gone out before the fault came.
    let cut = |probe, body: &str| {
        let bytes = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        row(
            "RFC 9112 §7.1",
            probe,
            &["502", "200 cut"],
            Ask::Answered(bytes.into()),
        )
    };
    let length = |probe, value: &str| {
        let bytes = format!("HTTP/1.1 200 OK\r\nContent-Length: {value}\r\n\r\nok");
        row("RFC 9112 §6.3", probe, &["502"], Ask::Answered(bytes.into()))
    };
    vec![
        bad("RFC 9112 §2.2", "bare LF throughout", "HTTP/1.1 200 OK\ncontent-length: 2\n\nok"),
        bad("RFC 9112 §2.2", "an empty line before it", "\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"),
        bad("RFC 9112 §4", "no status", "HTTP/1.1\r\ncontent-length: 2\r\n\r\nok"),
        bad("RFC 9112 §4", "a status of four digits", "HTTP/1.1 2000 OK\r\ncontent-length: 2\r\n\r\nok"),
        bad("RFC 9112 §4", "no HTTP at all", "SSH-2.0-OpenSSH_9.2\r\n\r\n"),
        fields("RFC 9112 §2.2", "bare CR in a value", "X: a\rb\r\nContent-Length: 2\r\n", "ok"),
        fields("RFC 9112 §5.1", "space before the colon", "X : a\r\nContent-Length: 2\r\n", "ok"),
        fields("RFC 9112 §5.2", "a folded field", "X: a\r\n b\r\nContent-Length: 2\r\n", "ok"),
        fields("RFC 9110 §5.5", "NUL in a value", "X: a\0\r\nContent-Length: 2\r\n", "ok"),
        fields(
            "RFC 9112 §6.1",
            "both lengths",
            "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
            "2\r\nok\r\n0\r\n\r\n",
        ),
        fields("RFC 9112 §6.1", "an unknown coding", "Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"),
        fields("RFC 9112 §6.1", "chunked twice", "Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n"),
        fields("RFC 9112 §6.1", "chunked not last", "Transfer-Encoding: chunked, gzip\r\n", "0\r\n\r\n"),
        bad(
            "RFC 9112 §6.1",
            "a coding in HTTP/1.0",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        ),
        fields("RFC 9112 §6.3", "two lengths", "Content-Length: 2\r\nContent-Length: 3\r\n", "ok"),
        length("a length with a sign", "+2"),
        length("a negative length", "-2"),
        length("a length that overflows", "18446744073709551618"),
        length("a list of lengths, different", "2, 3"),
        cut("a size with 0x", "0x2\r\nok\r\n0\r\n\r\n"),
        cut("a size with a sign", "+2\r\nok\r\n0\r\n\r\n"),
        cut("space behind a size", "2 \r\nok\r\n0\r\n\r\n"),
        cut("a size that overflows", "10000000000000002\r\nok\r\n0\r\n\r\n"),
        cut("bare LF behind a size", "2\nok\r\n0\r\n\r\n"),
        cut("no CR LF behind a chunk", "2\r\nok0\r\n\r\n"),
        cut("64 KiB of an extension", &format!("2;{}\r\nok\r\n0\r\n\r\n", "x".repeat(64 << 10))),
        row(
            "RFC 9112 §6.3",
            "a response to nobody behind the response",
            &["200"],
            Ask::Answered(
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil".into(),
            ),
        ),
        row(
            "RFC 9112 §6.3",
            "two bytes too many",
            &["200"],
            Ask::Answered("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok\r\n".into()),
        ),
        row(
            "RFC 9112 §6.3",
            "a body behind a 204",
            &["204"],
            Ask::Answered(
                "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil".into(),
            ),
        ),
        row(
            "RFC 9112 §6.3",
            "a body behind a 304",
            &["304"],
            Ask::Answered(
                "HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
                    .into(),
            ),
        ),
        row(
            "RFC 9112 §7.1",
            "a response to nobody behind the last chunk",
            &["200"],
            Ask::Answered(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n\
                 HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
                    .into(),
            ),
        ),
    ]
}

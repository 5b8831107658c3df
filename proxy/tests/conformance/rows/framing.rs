//! What two programs may read in two ways is refused, before anybody else reads it.

use super::{Row, get, post, refused, row};
use crate::rows::Ask;

pub(super) fn rows() -> Vec<Row> {
    let mut rows = lines();
    rows.extend(names());
    rows.extend(lengths());
    rows
}

fn lines() -> Vec<Row> {
    vec![
        refused(
            "RFC 9112 §2.2",
            "bare LF after the request line",
            "GET / HTTP/1.1\nHost: a.test\r\n\r\n",
        ),
        refused(
            "RFC 9112 §2.2",
            "bare LF after a field",
            "GET / HTTP/1.1\r\nHost: a.test\n\r\n",
        ),
        refused(
            "RFC 9112 §2.2",
            "bare LF as the empty line",
            "GET / HTTP/1.1\r\nHost: a.test\r\n\n",
        ),
        refused(
            "RFC 9112 §2.2",
            "bare LF throughout",
            "GET / HTTP/1.1\nHost: a.test\n\n",
        ),
        refused("RFC 9112 §2.2", "bare CR in a value", get("X: a\rb\r\n")),
        refused("RFC 9112 §2.2", "bare CR in a name", get("X\rY: a\r\n")),
        refused(
            "RFC 9112 §2.2",
            "bare CR in the request line",
            "GET / HTTP/1.1\rHost: a.test\r\n\r\n",
        ),
        refused(
            "RFC 9112 §2.2",
            "space before the first field",
            "GET / HTTP/1.1\r\n Host: a.test\r\n\r\n",
        ),
        row(
            "RFC 9112 §2.3",
            "a higher minor version",
            &["505, close", "200+200, forwarded"],
            Ask::Refused("GET / HTTP/1.2\r\nHost: a.test\r\n\r\n".into()),
        ),
        row(
            "RFC 9112 §2.3",
            "the preface of HTTP/2, malformed",
            &["505, close", "400, close", "closed"],
            Ask::Refused("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n".into()),
        ),
        refused(
            "RFC 9112 §2.3",
            "a version in small letters",
            "GET / http/1.1\r\nHost: a.test\r\n\r\n",
        ),
        row(
            "RFC 9112 §3",
            "the first bytes of TLS",
            &["400, close", "closed"],
            Ask::Refused(b"\x16\x03\x01\x02\x00\x01".to_vec()),
        ),
        refused(
            "RFC 9112 §3",
            "two spaces behind the method",
            "GET  / HTTP/1.1\r\nHost: a.test\r\n\r\n",
        ),
        refused(
            "RFC 9112 §3",
            "a tab behind the method",
            "GET\t/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
        ),
        refused(
            "RFC 9112 §3",
            "a space in the target",
            "GET /a b HTTP/1.1\r\nHost: a.test\r\n\r\n",
        ),
        refused(
            "RFC 9112 §3",
            "a method that is no token",
            "GE(T / HTTP/1.1\r\nHost: a.test\r\n\r\n",
        ),
        refused("RFC 9112 §5.2", "a folded field", get("X: a\r\n b\r\n")),
        refused(
            "RFC 9112 §5.2",
            "a folded Transfer-Encoding",
            post("Transfer-Encoding:\r\n chunked\r\n", "0\r\n\r\n"),
        ),
    ]
}

fn names() -> Vec<Row> {
    let two = "Host: a.test\r\n";
    vec![
        refused("RFC 9112 §3.2", "no Host", "GET / HTTP/1.1\r\n\r\n"),
        refused("RFC 9112 §3.2", "two Host fields, the same", get(two)),
        refused(
            "RFC 9112 §3.2",
            "two Host fields, different",
            get("Host: b.test\r\n"),
        ),
        refused(
            "RFC 9112 §3.2",
            "a list as Host",
            "GET / HTTP/1.1\r\nHost: a.test, b.test\r\n\r\n",
        ),
        refused(
            "RFC 9112 §3.2",
            "an empty Host",
            "GET / HTTP/1.1\r\nHost:\r\n\r\n",
        ),
        refused(
            "RFC 9112 §3.2",
            "a Host with user information",
            "GET / HTTP/1.1\r\nHost: me@a.test\r\n\r\n",
        ),
        refused(
            "RFC 9112 §3.2",
            "a Host with a path",
            "GET / HTTP/1.1\r\nHost: a.test/x\r\n\r\n",
        ),
        refused(
            "RFC 9112 §3.2",
            "a Host whose port is no number",
            "GET / HTTP/1.1\r\nHost: a.test:x\r\n\r\n",
        ),
        refused(
            "RFC 9112 §3.2",
            "a Host with a space in it",
            "GET / HTTP/1.1\r\nHost: a. test\r\n\r\n",
        ),
        refused("RFC 9112 §5.1", "space before the colon", get("X : a\r\n")),
        refused(
            "RFC 9112 §5.1",
            "space before the colon of a length",
            post("Content-Length : 2\r\n", "hi"),
        ),
        refused("RFC 9112 §5.1", "tab before the colon", get("X\t: a\r\n")),
        refused("RFC 9112 §5.1", "a line without a colon", get("X\r\n")),
        refused("RFC 9112 §5.1", "no name", get(": a\r\n")),
        refused("RFC 9110 §5.1", "a name with brackets", get("X[1]: a\r\n")),
        refused("RFC 9110 §5.1", "a name with NUL", get("X\0: a\r\n")),
        refused("RFC 9110 §5.1", "a name beyond ASCII", get("X\u{e9}: a\r\n")),
        refused("RFC 9110 §5.5", "NUL in a value", get("X: a\0b\r\n")),
        refused(
            "RFC 9110 §5.5",
            "a control character in a value",
            get("X: a\x01b\r\n"),
        ),
        refused("RFC 9110 §5.5", "DEL in a value", get("X: a\x7fb\r\n")),
    ]
}

fn lengths() -> Vec<Row> {
    // RFC 9112 §6.1 lets a server answer 501 to a coding that it does not know.
    let coding = |probe, fields: &str| {
        let right = &["400, close", "501, close"];
        row(
            "RFC 9112 §6.1",
            probe,
            right,
            Ask::Refused(post(fields, "0\r\n\r\n").into_bytes()),
        )
    };
    let length = |probe, value: &str| {
        refused(
            "RFC 9112 §6.3",
            probe,
            post(&format!("Content-Length: {value}\r\n"), "hi"),
        )
    };
    vec![
        coding(
            "both lengths",
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        ),
        coding(
            "both lengths, turned",
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        ),
        refused(
            "RFC 9112 §6.1",
            "a coding in HTTP/1.0",
            "POST / HTTP/1.0\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        coding("chunked not last", "Transfer-Encoding: chunked, gzip\r\n"),
        coding("chunked twice", "Transfer-Encoding: chunked, chunked\r\n"),
        coding(
            "chunked twice, in two fields",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        ),
        coding(
            "chunked behind another",
            "Transfer-Encoding: identity, chunked\r\n",
        ),
        coding("an unknown coding", "Transfer-Encoding: xchunked\r\n"),
        coding(
            "two codings in two fields",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        ),
        coding(
            "a vertical tab before chunked",
            "Transfer-Encoding:\x0bchunked\r\n",
        ),
        coding("chunked with a parameter", "Transfer-Encoding: chunked;a=b\r\n"),
        coding("chunked in quotes", "Transfer-Encoding: \"chunked\"\r\n"),
        coding("an empty coding", "Transfer-Encoding:\r\n"),
        length("a length with a sign", "+2"),
        length("a negative length", "-2"),
        length("a hexadecimal length", "0x2"),
        length("a length with a fraction", "2.0"),
        length("a length with a space in it", "1 2"),
        length("an empty length", ""),
        length("a length that overflows", "18446744073709551616"),
        length("a list of lengths, different", "2, 3"),
        // §6.3 lets a recipient take a list of equal numbers for one; who refuses it is never misread.
        row(
            "RFC 9112 §6.3",
            "a list of lengths, the same",
            &["400, close", "200+200, forwarded"],
            Ask::Refused(post("Content-Length: 2, 2\r\n", "hi").into_bytes()),
        ),
        refused(
            "RFC 9112 §6.3",
            "two lengths, different",
            post("Content-Length: 2\r\nContent-Length: 3\r\n", "hi"),
        ),
        row(
            "RFC 9112 §6.3",
            "two lengths, the same",
            &["400, close", "200+200, forwarded"],
            Ask::Refused(post("Content-Length: 2\r\nContent-Length: 2\r\n", "hi").into_bytes()),
        ),
    ]
}

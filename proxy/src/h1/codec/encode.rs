//! Heads and chunks as they are written. How long the body is says the caller alone: whatever the fields claim about
//! it is left out, so a message can't have two lengths.

use bytes::{BufMut, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, HeaderMap, TRANSFER_ENCODING};
use http::{Method, StatusCode, Uri, Version};

use super::framing::Length;
use super::head::Reason;

/// Behind the last byte of a chunked body without trailers.
pub(crate) const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
/// Behind the bytes of a chunk.
pub(crate) const CHUNK_END: &[u8] = b"\r\n";

/// Behind the bytes of the last chunk that has any, without trailers.
pub(crate) const CHUNK_END_AND_LAST: &[u8] = b"\r\n0\r\n\r\n";

/// What a response says about its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Persistence {
    /// Nothing: HTTP/1.1 keeps it.
    Implied,
    /// It is kept although the client speaks HTTP/1.0.
    KeepAlive,
    Close,
    /// It becomes something else: what the `Connection` field says is passed on.
    Upgrade,
}

/// A request's head. `Connection` is written as it is in `headers`.
pub(crate) fn request(
    out: &mut BytesMut,
    method: &Method,
    target: &Uri,
    headers: &HeaderMap,
    length: Length,
) {
    let path = target.path_and_query().map_or("/", |path| path.as_str());
    out.reserve(512);
    out.put_slice(method.as_str().as_bytes());
    out.put_u8(b' ');
    // A URL may have a query and no path; an origin form always begins with one (RFC 9112 §3.2.1).
    if path.starts_with('?') {
        out.put_u8(b'/');
    }
    out.put_slice(path.as_bytes());
    out.put_slice(b" HTTP/1.1\r\n");
    for (name, value) in headers {
        if *name != CONTENT_LENGTH && *name != TRANSFER_ENCODING {
            field(out, name.as_str(), value.as_bytes());
        }
    }
    body_length(out, length);
    out.put_slice(b"\r\n");
}

/// A response's head. With [`Length::None`] its Content-Length is passed on: it tells how long the body would be.
pub(crate) fn response(
    out: &mut BytesMut,
    head: &http::response::Parts,
    length: Length,
    persistence: Persistence,
    date: &[u8],
) {
    out.reserve(512);
    status_line(out, head.status, head.extensions.get::<Reason>());
    let mut dated = false;
    for (name, value) in &head.headers {
        match *name {
            TRANSFER_ENCODING => continue,
            CONTENT_LENGTH if length != Length::None => continue,
            CONNECTION if persistence != Persistence::Upgrade => continue,
            DATE => dated = true,
            _ => {}
        }
        field(out, name.as_str(), value.as_bytes());
    }
    // RFC 9110 §6.6.1: who has a clock adds what is missing.
    if !dated {
        field(out, "date", date);
    }
    body_length(out, length);
    match persistence {
        Persistence::Implied | Persistence::Upgrade => {}
        Persistence::KeepAlive => out.put_slice(b"connection: keep-alive\r\n"),
        Persistence::Close => out.put_slice(b"connection: close\r\n"),
    }
    out.put_slice(b"\r\n");
}

/// An informational response (RFC 9110 §15.2). It has no body and says nothing about one.
pub(crate) fn informational(out: &mut BytesMut, status: StatusCode, headers: &HeaderMap) {
    status_line(out, status, None);
    for (name, value) in headers {
        if *name != CONTENT_LENGTH && *name != TRANSFER_ENCODING {
            field(out, name.as_str(), value.as_bytes());
        }
    }
    out.put_slice(b"\r\n");
}

/// The line before a chunk's bytes, which are not none.
pub(crate) fn chunk(out: &mut BytesMut, size: usize) {
    let digits = (usize::BITS - size.leading_zeros()).div_ceil(4).max(1);
    for at in (0..digits).rev() {
        let digit = (size >> (at * 4) & 0xf) as u8;
        out.put_u8(if digit < 10 {
            b'0' + digit
        } else {
            b'a' + digit - 10
        });
    }
    out.put_slice(CHUNK_END);
}

/// The last chunk, with trailers.
pub(crate) fn trailers(out: &mut BytesMut, trailers: &HeaderMap) {
    out.put_slice(b"0\r\n");
    for (name, value) in trailers {
        field(out, name.as_str(), value.as_bytes());
    }
    out.put_slice(b"\r\n");
}

fn status_line(out: &mut BytesMut, status: StatusCode, reason: Option<&Reason>) {
    out.put_slice(b"HTTP/1.1 ");
    out.put_slice(status.as_str().as_bytes());
    out.put_u8(b' ');
    out.put_slice(match reason {
        Some(Reason(reason)) => reason,
        None => status.canonical_reason().unwrap_or_default().as_bytes(),
    });
    out.put_slice(b"\r\n");
}

fn field(out: &mut BytesMut, name: &str, value: &[u8]) {
    out.put_slice(name.as_bytes());
    out.put_slice(b": ");
    out.put_slice(value);
    out.put_slice(b"\r\n");
}

fn body_length(out: &mut BytesMut, length: Length) {
    match length {
        Length::None | Length::UntilClose => {}
        Length::Chunked => out.put_slice(b"transfer-encoding: chunked\r\n"),
        Length::Exactly(length) => {
            out.put_slice(b"content-length: ");
            decimal(out, length);
            out.put_slice(b"\r\n");
        }
    }
}

fn decimal(out: &mut BytesMut, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.put_slice(&digits[at..]);
}

/// May a server persist the connection by what the message with this version and these fields says (RFC 9112 §9.3)?
pub(crate) fn persists(version: Version, headers: &HeaderMap) -> bool {
    let mut keep = version == Version::HTTP_11;
    for value in headers.get_all(CONNECTION) {
        for option in value.as_bytes().split(|b| *b == b',') {
            match option.trim_ascii() {
                option if option.eq_ignore_ascii_case(b"close") => return false,
                option if option.eq_ignore_ascii_case(b"keep-alive") => keep = true,
                _ => {}
            }
        }
    }
    keep
}

#[cfg(test)]
mod tests {
    #![allow(clippy::semicolon_if_nothing_returned, reason = "closures of one call")]

    use bytes::Bytes;
    use http::HeaderValue;

    use super::*;

    fn text(write: impl FnOnce(&mut BytesMut)) -> String {
        let mut out = BytesMut::new();
        write(&mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    #[test]
    fn a_request_has_the_length_that_the_caller_says_and_no_other() {
        let fields = headers(&[
            ("host", "a"),
            ("content-length", "7"),
            ("transfer-encoding", "chunked"),
            ("x", "1"),
            ("x", "2"),
        ]);
        let write = |length| {
            text(|out| {
                request(
                    out,
                    &Method::PUT,
                    &Uri::from_static("http://b/c?d"),
                    &fields,
                    length,
                )
            })
        };
        assert_eq!(
            write(Length::Chunked),
            "PUT /c?d HTTP/1.1\r\nhost: a\r\nx: 1\r\nx: 2\r\ntransfer-encoding: chunked\r\n\r\n"
        );
        assert_eq!(
            write(Length::None),
            "PUT /c?d HTTP/1.1\r\nhost: a\r\nx: 1\r\nx: 2\r\n\r\n"
        );
        assert!(write(Length::Exactly(1_234_567_890)).contains("\r\ncontent-length: 1234567890\r\n"));
        let bare = Uri::from_static("http://b?d");
        let bare = text(|out| request(out, &Method::GET, &bare, &HeaderMap::new(), Length::None));
        assert_eq!(bare, "GET /?d HTTP/1.1\r\n\r\n");
        let star = text(|out| {
            request(
                out,
                &Method::OPTIONS,
                &Uri::from_static("*"),
                &HeaderMap::new(),
                Length::None,
            )
        });
        assert_eq!(star, "OPTIONS * HTTP/1.1\r\n\r\n");
    }

    #[test]
    fn a_response_says_what_becomes_of_its_connection_and_when_it_was_made() {
        let (mut head, ()) = http::Response::new(()).into_parts();
        head.headers = headers(&[("connection", "x"), ("content-length", "7"), ("a", "b")]);
        let write = |head: &http::response::Parts, length, persistence| {
            text(|out| response(out, head, length, persistence, b"now"))
        };
        assert_eq!(
            write(&head, Length::Exactly(0), Persistence::Close),
            "HTTP/1.1 200 OK\r\na: b\r\ndate: now\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        );
        assert_eq!(
            write(&head, Length::None, Persistence::Implied),
            "HTTP/1.1 200 OK\r\ncontent-length: 7\r\na: b\r\ndate: now\r\n\r\n"
        );
        head.status = StatusCode::from_u16(599).unwrap();
        head.headers = headers(&[("date", "then"), ("connection", "upgrade")]);
        assert_eq!(
            write(&head, Length::UntilClose, Persistence::Upgrade),
            "HTTP/1.1 599 \r\ndate: then\r\nconnection: upgrade\r\n\r\n"
        );
        head.extensions.insert(Reason(Bytes::from_static(b"Odd")));
        assert!(write(&head, Length::None, Persistence::KeepAlive).starts_with("HTTP/1.1 599 Odd\r\n"));
    }

    #[test]
    fn chunks_have_their_size_in_hexadecimal() {
        for size in [1, 9, 10, 15, 16, 255, 256, 0xfeed, 1 << 20] {
            assert_eq!(text(|out| chunk(out, size)), format!("{size:x}\r\n"));
        }
        assert_eq!(
            text(|out| trailers(out, &headers(&[("x-sum", "7")]))),
            "0\r\nx-sum: 7\r\n\r\n"
        );
    }

    #[test]
    fn rfc_9112_section_9_3_connections_persist_by_version_and_by_what_is_said() {
        let says = |version, value| persists(version, &headers(&[("connection", value)]));
        assert!(
            persists(Version::HTTP_11, &HeaderMap::new()) && !persists(Version::HTTP_10, &HeaderMap::new())
        );
        assert!(!says(Version::HTTP_11, "x, Close") && !says(Version::HTTP_10, "keep-alive, close"));
        assert!(says(Version::HTTP_10, "Keep-Alive") && says(Version::HTTP_11, "closed"));
    }
}

//! Heads of requests and responses, from bytes that [`Scan`](super::lines::Scan) found to be one.
//!
//! `httparse` reads them. Before it, bare LF and folded lines are gone; after it, what it lets through is looked at:
//! forms of the target, versions, numbers of fields.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::request::Parts as Request;
use http::response::Parts as Response;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version};

use super::lines::LineError;

/// Most fields of a head, whatever the settings say.
pub(crate) const FIELDS: usize = 256;
/// Longest request target, in bytes, whatever the settings say; `Uri` holds no longer one.
pub(crate) const TARGET: usize = 65_534;
/// Room for the fields that are written about a request on its way, so that the map doesn't grow for them.
const OURS: usize = 12;

/// What is wrong with a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeadError {
    #[error(transparent)]
    Line(#[from] LineError),
    #[error("the first line is malformed")]
    FirstLine,
    #[error("a field's name is not a token, or something stands between it and its colon")]
    FieldName,
    #[error("a field's value has a control character in it")]
    FieldValue,
    #[error("the request target is malformed")]
    Target,
    #[error("the request target is not of a form that its method may have")]
    TargetForm,
    #[error("the request target is longer than {TARGET} bytes")]
    TargetLength,
    #[error("there are more than {FIELDS} fields")]
    TooManyFields,
    #[error("the head is too long")]
    TooLong,
    #[error("the version is neither HTTP/1.1 nor HTTP/1.0")]
    Version,
}

impl HeadError {
    /// What a client is answered.
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::TooManyFields | Self::TooLong => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::TargetLength => StatusCode::URI_TOO_LONG,
            Self::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

impl From<httparse::Error> for HeadError {
    fn from(error: httparse::Error) -> Self {
        match error {
            httparse::Error::HeaderName => Self::FieldName,
            httparse::Error::HeaderValue => Self::FieldValue,
            httparse::Error::TooManyHeaders => Self::TooManyFields,
            httparse::Error::Version => Self::Version,
            // A CR within a line is where it expects the line's end.
            httparse::Error::NewLine | httparse::Error::Status | httparse::Error::Token => Self::FirstLine,
        }
    }
}

/// The words behind a status, where they are not the usual ones; an extension of the response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reason(pub(crate) Bytes);

/// Reads the head of a request. Values share the memory of `bytes`.
pub(crate) fn request(bytes: &Bytes) -> Result<Request, HeadError> {
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS];
    let mut head = httparse::Request::new(&mut []);
    match head.parse_with_uninit_headers(bytes, &mut fields) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(HeadError::FirstLine),
        // Another version is one that is written like ours; anything else is no version at all.
        Err(httparse::Error::Version) if !names_a_version(bytes) => return Err(HeadError::FirstLine),
        Err(error) => return Err(error.into()),
    }
    let (Some(method), Some(path), Some(minor)) = (head.method, head.path, head.version) else {
        return Err(HeadError::FirstLine);
    };
    let (mut request, ()) = http::Request::new(()).into_parts();
    request.method = Method::from_bytes(method.as_bytes()).map_err(|_| HeadError::FirstLine)?;
    request.uri = target(&request.method, bytes.slice_ref(path.as_bytes()))?;
    request.version = version(minor);
    request.headers = map(bytes, head.headers, OURS)?;
    Ok(request)
}

/// Is the third word of the request line, and last, `HTTP/`, a digit, a dot, and a digit (RFC 9112 §2.3)?
fn names_a_version(head: &[u8]) -> bool {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|byte| *byte == b' ').skip(2);
    let (word, more) = (words.next(), words.next());
    let version = word.and_then(|word| word.strip_prefix(b"HTTP/"));
    matches!(version, Some([major, b'.', minor]) if major.is_ascii_digit() && minor.is_ascii_digit())
        && more.is_none()
}

/// Reads the head of a response.
pub(crate) fn response(bytes: &Bytes) -> Result<Response, HeadError> {
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS];
    let mut head = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    if config
        .parse_response_with_uninit_headers(&mut head, bytes, &mut fields)?
        .is_partial()
    {
        return Err(HeadError::FirstLine);
    }
    let (Some(code), Some(minor)) = (head.code, head.version) else {
        return Err(HeadError::FirstLine);
    };
    let (mut response, ()) = http::Response::new(()).into_parts();
    response.status = StatusCode::from_u16(code).map_err(|_| HeadError::FirstLine)?;
    response.version = version(minor);
    response.headers = map(bytes, head.headers, 0)?;
    if let Some(reason) = head.reason
        && !reason.is_empty()
        && response.status.canonical_reason() != Some(reason)
    {
        response
            .extensions
            .insert(Reason(bytes.slice_ref(reason.as_bytes())));
    }
    Ok(response)
}

/// Reads a trailer section, with its empty line.
pub(crate) fn trailers(bytes: &Bytes) -> Result<HeaderMap, HeadError> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS];
    match httparse::parse_headers(bytes, &mut fields)? {
        httparse::Status::Complete((_, fields)) => map(bytes, fields, 0),
        httparse::Status::Partial => Err(HeadError::FirstLine),
    }
}

fn version(minor: u8) -> Version {
    if minor == 0 {
        Version::HTTP_10
    } else {
        Version::HTTP_11
    }
}

fn map(bytes: &Bytes, fields: &[httparse::Header<'_>], more: usize) -> Result<HeaderMap, HeadError> {
    let mut headers = HeaderMap::with_capacity(fields.len() + more);
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| HeadError::FieldName)?;
        let value = if field.value.is_empty() {
            HeaderValue::from_static("")
        } else {
            HeaderValue::from_maybe_shared(bytes.slice_ref(field.value)).map_err(|_| HeadError::FieldValue)?
        };
        headers.append(name, value);
    }
    Ok(headers)
}

/// RFC 9112 §3.2: a path; a URL, for a proxy; an authority, for CONNECT alone; `*`, for OPTIONS alone.
fn target(method: &Method, target: Bytes) -> Result<Uri, HeadError> {
    if target.len() > TARGET {
        return Err(HeadError::TargetLength);
    }
    // A fragment is never sent (RFC 9110 §7.1), and `Uri` would drop it without a word.
    if target.contains(&b'#') {
        return Err(HeadError::Target);
    }
    let is_path = target.first() == Some(&b'/');
    let uri = Uri::from_maybe_shared(target).map_err(|_| HeadError::Target)?;
    let has_form = if *method == Method::CONNECT {
        uri.authority().is_some() && uri.scheme().is_none() && uri.path_and_query().is_none()
    } else if is_path {
        true
    } else if uri == "*" {
        *method == Method::OPTIONS
    } else {
        uri.authority().is_some() && matches!(uri.scheme_str(), Some("http" | "https"))
    };
    if has_form {
        Ok(uri)
    } else {
        Err(HeadError::TargetForm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::h1::codec::lines::Scan;

    /// As a connection does it: the end first, then what is before it.
    fn read<T>(bytes: &[u8], parse: fn(&Bytes) -> Result<T, HeadError>) -> Result<T, HeadError> {
        let end = Scan::default().end(bytes)?.expect("a whole head");
        parse(&Bytes::copy_from_slice(&bytes[..end]))
    }

    fn refused(text: &str) -> HeadError {
        match read(text.replace('\n', "\r\n").as_bytes(), request) {
            Err(error) => error,
            Ok(parts) => panic!("{text:?} became {parts:?}"),
        }
    }

    fn asked(text: &str) -> Request {
        read(text.replace('\n', "\r\n").as_bytes(), request).expect(text)
    }

    #[test]
    fn a_request_is_read_as_it_was_written() {
        let head =
            asked("M-SEARCH /a%2Fb/../c?d=%20e HTTP/1.1\nHost: A.test\nX-Empty:\nX-Two:  a \nx-two: b\t\n\n");
        assert_eq!(
            (head.method.as_str(), head.version),
            ("M-SEARCH", Version::HTTP_11)
        );
        assert_eq!(head.uri.path_and_query().unwrap().as_str(), "/a%2Fb/../c?d=%20e");
        assert_eq!(
            (&head.headers["host"], &head.headers["x-empty"]),
            (&"A.test".parse().unwrap(), &"".parse().unwrap())
        );
        assert_eq!(
            head.headers.get_all("x-two").iter().collect::<Vec<_>>(),
            ["a", "b"]
        );
        assert_eq!(asked("GET / HTTP/1.0\n\n").version, Version::HTTP_10);
    }

    #[test]
    fn a_response_keeps_words_of_its_own_behind_its_status() {
        let head = read(b"HTTP/1.1 200 Fine\r\nA: \xe9\r\n\r\n", response).unwrap();
        assert_eq!(head.extensions.get::<Reason>(), Some(&Reason("Fine".into())));
        assert_eq!(
            head.headers["a"].as_bytes(),
            b"\xe9",
            "obs-text is passed on (RFC 9110 §5.5)"
        );
        let head = read(b"HTTP/1.0 404 Not Found\r\n\r\n", response).unwrap();
        assert_eq!((head.status.as_u16(), head.version), (404, Version::HTTP_10));
        assert!(head.extensions.get::<Reason>().is_none());
        assert_eq!(read(b"HTTP/1.1 200\r\n\r\n", response).unwrap().status, 200);
        for wrong in [
            "HTTP/1.1 20 OK",
            "HTTP/1.1 2000 OK",
            "HTTP/1.1 099 No",
            "HTTP/2 200 OK",
            "SSH-2.0-x",
            "HTTP/1.1 +20 OK",
        ] {
            assert!(
                read(format!("{wrong}\r\n\r\n").as_bytes(), response).is_err(),
                "{wrong}"
            );
        }
    }

    #[test]
    fn rfc_9112_section_3_a_request_line_is_three_words_with_one_space_between() {
        for line in [
            "GET  / HTTP/1.1",
            "GET / HTTP/1.1 ",
            " GET / HTTP/1.1",
            "GET /",
            "GET\t/\tHTTP/1.1",
            "G(T / HTTP/1.1",
            "GET / x HTTP/1.1",
            "GET / http/1.1",
        ] {
            let error = refused(&format!("{line}\nHost: a\n\n"));
            assert_eq!(
                error.status().as_u16() / 100,
                if error == HeadError::Version { 5 } else { 4 },
                "{line}: {error}"
            );
        }
    }

    #[test]
    fn rfc_9112_section_2_3_versions_other_than_1_0_and_1_1_are_not_spoken() {
        for version in ["HTTP/2.0", "HTTP/0.9", "HTTP/1.2"] {
            assert_eq!(
                refused(&format!("GET / {version}\nHost: a\n\n")).status(),
                505,
                "{version}"
            );
        }
        for version in ["HTTP/11", "HTTP/1.10", "http/1.1", "x HTTP/1.1"] {
            assert_eq!(
                refused(&format!("GET / {version}\nHost: a\n\n")).status(),
                400,
                "{version}"
            );
        }
    }

    #[test]
    fn rfc_9112_section_5_1_nothing_stands_between_a_name_and_its_colon() {
        for line in [
            "Host : a",
            "Host\t: a",
            " Host: a",
            "Ho st: a",
            ": a",
            "Host",
            "H\u{e9}: a",
            "H[1]: a",
        ] {
            let error = refused(&format!("GET / HTTP/1.1\n{line}\n\n"));
            assert_eq!(error.status(), 400, "{line}: {error}");
        }
    }

    #[test]
    fn rfc_9110_section_5_5_a_value_has_no_nul_cr_or_lf_in_it() {
        for value in [&b"a\0b"[..], b"a\rb", b"a\x0bb", b"a\x7fb", b"\r", b"a\r\r"] {
            let mut bytes = b"GET / HTTP/1.1\r\nHost: a\r\nX: ".to_vec();
            bytes.extend_from_slice(value);
            bytes.extend_from_slice(b"\r\n\r\n");
            assert!(read(&bytes, request).is_err(), "{}", bytes.escape_ascii());
            let answer = [&b"HTTP/1.1 200 OK\r\nX: "[..], value, b"\r\n\r\n"].concat();
            assert!(read(&answer, response).is_err(), "{}", answer.escape_ascii());
        }
        assert!(
            read(b"GET / HTTP/1.1\rHost: a\r\n\r\n", request).is_err(),
            "a bare CR ends no line"
        );
    }

    #[test]
    fn rfc_9112_section_3_2_each_form_of_target_has_its_methods() {
        for (line, host) in [
            ("GET /", None),
            ("GET //a/b", None),
            ("GET http://a.test/x?y", Some("a.test")),
            ("GET HTTP://a.test:80", Some("a.test:80")),
            ("OPTIONS *", None),
            ("CONNECT a.test:443", Some("a.test:443")),
        ] {
            let head = asked(&format!("{line} HTTP/1.1\nHost: a\n\n"));
            assert_eq!(
                head.uri.authority().map(http::uri::Authority::as_str),
                host,
                "{line}"
            );
        }
        for line in [
            "GET *",
            "GET a.test:443",
            "GET a.test",
            "CONNECT /",
            "CONNECT http://a.test/",
            "CONNECT *",
            "GET ftp://a.test/",
            "GET http:///x",
            "GET ?x",
            "OPTIONS **",
        ] {
            assert_eq!(
                refused(&format!("{line} HTTP/1.1\nHost: a\n\n")).status(),
                400,
                "{line}"
            );
        }
        assert_eq!(refused("GET /a#b HTTP/1.1\nHost: a\n\n"), HeadError::Target);
    }

    #[test]
    fn rfc_9112_section_3_and_rfc_6585_what_is_too_long_is_told_so() {
        let long = "x".repeat(TARGET);
        assert_eq!(
            refused(&format!("GET /{long} HTTP/1.1\nHost: a\n\n")).status(),
            414
        );
        let many = "A: b\n".repeat(FIELDS + 1);
        assert_eq!(refused(&format!("GET / HTTP/1.1\n{many}\n")).status(), 431);
        asked(&format!("GET / HTTP/1.1\n{}\n", "A: b\n".repeat(FIELDS)));
    }
}

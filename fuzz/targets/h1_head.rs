//! Any bytes as a head: no panic, byte by byte the same as at once, and what is accepted is accepted by `httparse` as
//! it is, means the same to it, and is read back as the same when it was written again.
#![no_main]
#![allow(dead_code, unreachable_pub)]

use bytes::{Bytes, BytesMut};
use h1::codec::framing::{self, Length};
use h1::codec::lines::Scan;
use h1::codec::{encode, head};
use libfuzzer_sys::fuzz_target;

#[path = "../../proxy/src/h1"]
mod h1 {
    pub(crate) mod codec;
}

fuzz_target!(|bytes: &[u8]| {
    let Some(end) = end(bytes) else { return };
    let section = Bytes::copy_from_slice(&bytes[..end]);
    request(&section);
    response(&section);
});

fn end(bytes: &[u8]) -> Option<usize> {
    let whole = Scan::default().end(bytes);
    let mut scan = Scan::default();
    let slowly = (0..=bytes.len()).map(|n| scan.end(&bytes[..n])).find(|found| *found != Ok(None));
    assert_eq!(slowly.unwrap_or(Ok(None)), whole, "it matters how the bytes come in");
    whole.ok().flatten()
}

fn request(section: &Bytes) {
    let Ok(parts) = head::request(section) else { return };
    let mut fields = [httparse::EMPTY_HEADER; head::FIELDS];
    let mut theirs = httparse::Request::new(&mut fields);
    assert_eq!(theirs.parse(section), Ok(httparse::Status::Complete(section.len())));
    assert_eq!(theirs.method, Some(parts.method.as_str()));
    assert_eq!(theirs.headers.len(), parts.headers.len());
    for field in theirs.headers {
        assert!(parts.headers.get_all(field.name).iter().any(|value| value.as_bytes() == field.value));
        assert!(!field.value.iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n')));
    }
    let Ok(length) = framing::of_request(parts.version, &parts.headers) else { return };
    assert_ne!(length, Length::UntilClose, "no request ends with its connection");
    if parts.method == http::Method::CONNECT {
        return;
    }
    let mut out = BytesMut::new();
    encode::request(&mut out, &parts.method, &parts.uri, &parts.headers, length);
    let again = written(out);
    let again = head::request(&again).expect("what was accepted is accepted again");
    assert_eq!((&again.method, again.uri.to_string()), (&parts.method, path(&parts.uri)));
    assert_eq!(framing::of_request(again.version, &again.headers), Ok(length));
}

/// A URL without a path means the root.
fn path(uri: &http::Uri) -> String {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    if path.starts_with('?') { format!("/{path}") } else { path.to_owned() }
}

fn response(section: &Bytes) {
    let Ok(parts) = head::response(section) else { return };
    for method in [http::Method::GET, http::Method::HEAD] {
        let Ok(length) = framing::of_response(&method, parts.status, parts.version, &parts.headers) else {
            return;
        };
        let mut out = BytesMut::new();
        encode::response(&mut out, &parts, length, encode::Persistence::Upgrade, b"now");
        let again = head::response(&written(out));
        match again {
            Ok(again) => {
                assert_eq!(again.status, parts.status);
                let again = framing::of_response(&method, again.status, again.version, &again.headers);
                assert_eq!(again, Ok(length));
            }
            // The date is one field too many.
            Err(error) => assert_eq!((error, parts.headers.len()), (head::HeadError::TooManyFields, head::FIELDS)),
        }
    }
}

/// One head and nothing behind it.
fn written(out: BytesMut) -> Bytes {
    assert_eq!(Scan::default().end(&out), Ok(Some(out.len())));
    out.freeze()
}

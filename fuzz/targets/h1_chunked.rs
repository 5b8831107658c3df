//! Any bytes as a chunked body: no panic, byte by byte the same as at once, nothing invented, and where `httparse` reads
//! a size too it reads the same.
#![no_main]
#![allow(dead_code, unreachable_pub)]

use bytes::{Bytes, BytesMut};
use h1::codec::chunked::{Chunked, Piece};
use libfuzzer_sys::fuzz_target;

#[path = "../../proxy/src/h1"]
mod h1 {
    pub(crate) mod codec;
}

/// Data, number of trailers, and what is left over.
type Read = Result<Option<(Vec<u8>, Option<usize>, Bytes)>, ()>;

fn read(text: &[u8], step: usize) -> Read {
    let (mut chunked, mut bytes) = (Chunked::new(), BytesMut::new());
    let (mut body, mut trailers) = (Vec::new(), None);
    for part in text.chunks(step) {
        bytes.extend_from_slice(part);
        while let Some(piece) = chunked.next(&mut bytes).map_err(drop)? {
            match piece {
                Piece::Data(data) => {
                    assert!(!data.is_empty(), "an empty piece would be written as the last chunk");
                    body.extend_from_slice(&data);
                }
                Piece::Trailers(fields) => trailers = Some(fields.len()),
                Piece::End => break,
            }
        }
    }
    Ok(chunked.is_ended().then(|| (body, trailers, bytes.freeze())))
}

fuzz_target!(|text: &[u8]| {
    let whole = read(text, text.len().max(1));
    for step in [1, 3] {
        assert_eq!(read(text, step), whole, "it matters how the bytes come in");
    }
    let Ok(Some((body, _, rest))) = whole else { return };
    assert!(text.ends_with(&rest), "what is left over is the end of what came in");
    assert_eq!(body, theirs(text), "httparse reads other sizes");
});

/// The body by `httparse`'s reading of the sizes.
fn theirs(mut text: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let Ok(httparse::Status::Complete((line, size))) = httparse::parse_chunk_size(text) else {
            panic!("httparse reads no size where there was one");
        };
        let (start, size) = (line, usize::try_from(size).expect("it was read from memory"));
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&text[start..start + size]);
        text = &text[start + size + 2..];
    }
}

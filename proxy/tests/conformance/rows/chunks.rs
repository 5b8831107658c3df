//! A chunked body is read to the letter, and what is wrong with it never reaches the origin.

use super::{Row, post, row};
use crate::rows::Ask;

pub(super) fn rows() -> Vec<Row> {
    let chunk = |probe, body: String| {
        // What comes before the fault may have been passed on; the end of the body may not.
        let right = &["400, close", "400, close, begun"];
        let bytes = post("Transfer-Encoding: chunked\r\n", &body);
        row("RFC 9112 §7.1", probe, right, Ask::Refused(bytes.into_bytes()))
    };
    let size = |probe, size: &str| chunk(probe, format!("{size}\r\nhi\r\n0\r\n\r\n"));
    vec![
        size("a size with 0x", "0x2"),
        size("a size with a sign", "+2"),
        size("a negative size", "-2"),
        size("space before a size", " 2"),
        size("space behind a size", "2 "),
        size("tab behind a size", "2\t"),
        size("an empty size", ""),
        size("a size that is no number", "x"),
        size("a size that overflows", "10000000000000002"),
        size("a size with an underscore", "0_2"),
        chunk("bare LF behind a size", "2\nhi\r\n0\r\n\r\n".into()),
        chunk("bare CR in a size's line", "2;\rx\r\nhi\r\n0\r\n\r\n".into()),
        chunk("no CR LF behind a chunk", "2\r\nhi0\r\n\r\n".into()),
        chunk("bare LF behind a chunk", "2\r\nhi\n0\r\n\r\n".into()),
        chunk(
            "two more bytes than the size says",
            "2\r\nhixx\r\n0\r\n\r\n".into(),
        ),
        chunk("bare LF behind the last chunk", "2\r\nhi\r\n0\n\r\n".into()),
        chunk("NUL in an extension", "2;a\0\r\nhi\r\n0\r\n\r\n".into()),
        chunk(
            "an extension of 64 KiB",
            format!("2;{}\r\nhi\r\n0\r\n\r\n", "x".repeat(64 << 10)),
        ),
        chunk("64 KiB of extensions, chunk by chunk", {
            format!(
                "{}0\r\n\r\n",
                format!("1;{}\r\nx\r\n", "y".repeat(200)).repeat(330)
            )
        }),
        chunk("space before a trailer's colon", "0\r\nX : 1\r\n\r\n".into()),
        chunk("a folded trailer", "0\r\nX: 1\r\n 2\r\n\r\n".into()),
        chunk("NUL in a trailer", "0\r\nX: a\0b\r\n\r\n".into()),
        chunk("bare LF in the trailers", "0\r\nX: 1\n\r\n".into()),
        row(
            "RFC 9112 §7.1.1",
            "a short extension is skipped",
            &["200+200, forwarded"],
            Ask::Refused(post("Transfer-Encoding: chunked\r\n", "2;a=b\r\nhi\r\n0\r\n\r\n").into_bytes()),
        ),
    ]
}

//! The chunked coding (RFC 9112 §7.1), undone as it comes in.

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;

use super::head::{self, HeadError};
use super::lines::{LineError, Scan};

/// Longest line that begins a chunk, in bytes: 16 digits and what extensions may take.
const LINE: usize = 256;
/// Bytes of chunk extensions in one body. Nobody needs any; a chunk of one byte can have many (CVE-2023-39326).
const EXTENSIONS: usize = 16 << 10;
/// Longest trailer section, in bytes.
const TRAILERS: usize = 16 << 10;

/// What is wrong with a chunked body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ChunkError {
    #[error("a chunk's size is not a hexadecimal number")]
    Size,
    #[error("a chunk's size is too large")]
    TooLarge,
    #[error("a chunk's first line does not end in CR LF")]
    Line,
    #[error("chunk extensions are too long")]
    Extensions,
    #[error("a chunk is not followed by CR LF")]
    End,
    #[error("the trailers are too long")]
    Trailers,
    #[error("the trailers are malformed")]
    Field(#[from] HeadError),
}

impl From<LineError> for ChunkError {
    fn from(error: LineError) -> Self {
        Self::Field(error.into())
    }
}

/// What comes out.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Piece {
    Data(Bytes),
    /// Comes at most once, and then the end.
    Trailers(HeaderMap),
    End,
}

/// Where in a body we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chunked {
    state: State,
    extensions: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Size,
    /// So many bytes of the chunk are still to come.
    Data(u64),
    /// The CR LF behind the chunk's bytes.
    AfterData,
    Trailers(Scan),
    Ended,
}

impl Chunked {
    pub(crate) fn new() -> Self {
        Self {
            state: State::Size,
            extensions: 0,
        }
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.state == State::Ended
    }

    /// Takes the next piece out of what has come in; `None` when more must come first.
    pub(crate) fn next(&mut self, bytes: &mut BytesMut) -> Result<Option<Piece>, ChunkError> {
        loop {
            match &mut self.state {
                State::Size => {
                    let Some(lf) = memchr::memchr(b'\n', &bytes[..bytes.len().min(LINE)]) else {
                        return if bytes.len() >= LINE {
                            Err(ChunkError::Extensions)
                        } else {
                            // Wrong digits are told at once, not when the line is whole.
                            size(bytes).map(|_| None)
                        };
                    };
                    let line = bytes[..lf].strip_suffix(b"\r").ok_or(ChunkError::Line)?;
                    let (size, digits) = size(line)?;
                    self.extensions += extensions(&line[digits..])?;
                    if digits == 0 {
                        return Err(ChunkError::Size);
                    }
                    if self.extensions > EXTENSIONS {
                        return Err(ChunkError::Extensions);
                    }
                    bytes.advance(lf + 1);
                    self.state = match size {
                        0 => State::Trailers(Scan::default()),
                        size => State::Data(size),
                    };
                }
                State::Data(left) => {
                    if bytes.is_empty() {
                        return Ok(None);
                    }
                    let n = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    *left -= n as u64;
                    if *left == 0 {
                        self.state = State::AfterData;
                    }
                    return Ok(Some(Piece::Data(bytes.split_to(n).freeze())));
                }
                State::AfterData => match bytes[..] {
                    [b'\r', b'\n', ..] => {
                        bytes.advance(2);
                        self.state = State::Size;
                    }
                    [] | [b'\r'] => return Ok(None),
                    _ => return Err(ChunkError::End),
                },
                State::Trailers(scan) => {
                    let Some(end) = scan.end(bytes)? else {
                        return if bytes.len() > TRAILERS {
                            Err(ChunkError::Trailers)
                        } else {
                            Ok(None)
                        };
                    };
                    if end > TRAILERS {
                        return Err(ChunkError::Trailers);
                    }
                    if end == 2 {
                        self.state = State::Ended;
                        bytes.advance(end);
                    } else {
                        let section = bytes.split_to(end).freeze();
                        // What can't be read is no end.
                        let trailers = head::trailers(&section)?;
                        self.state = State::Ended;
                        return Ok(Some(Piece::Trailers(trailers)));
                    }
                }
                State::Ended => return Ok(Some(Piece::End)),
            }
        }
    }
}

/// The number that a line begins with, and how many digits it has. No `0x`, no sign, no space before or after.
fn size(line: &[u8]) -> Result<(u64, usize), ChunkError> {
    let mut size = 0u64;
    for (at, byte) in line.iter().enumerate() {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            b';' | b'\r' => return Ok((size, at)),
            _ => return Err(ChunkError::Size),
        };
        // Zeros before it can't hide how long a number is: some read no more than 16 digits.
        if at == 16 {
            return Err(ChunkError::TooLarge);
        }
        size = size << 4 | u64::from(digit);
    }
    Ok((size, line.len()))
}

/// Checks what follows the size: nothing, or `;` and text. Nobody acts on it, and it goes no further.
fn extensions(text: &[u8]) -> Result<usize, ChunkError> {
    let is_text = |byte: &u8| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f);
    if text.iter().all(is_text) {
        Ok(text.len())
    } else {
        Err(ChunkError::Line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The body, its trailers, and what is left over; `None` when the end has not come.
    type Read = Result<Option<(Vec<u8>, HeaderMap, Vec<u8>)>, ChunkError>;

    /// Fed so many bytes at a time.
    fn fed(text: &[u8], step: usize) -> Read {
        let (mut chunked, mut bytes) = (Chunked::new(), BytesMut::new());
        let (mut body, mut trailers) = (Vec::new(), HeaderMap::new());
        for part in text.chunks(step) {
            bytes.extend_from_slice(part);
            while let Some(piece) = chunked.next(&mut bytes)? {
                match piece {
                    Piece::Data(data) => body.extend_from_slice(&data),
                    Piece::Trailers(fields) => trailers = fields,
                    Piece::End => break,
                }
            }
        }
        Ok(chunked.is_ended().then(|| (body, trailers, bytes.to_vec())))
    }

    fn read(text: &[u8]) -> Read {
        let whole = fed(text, text.len());
        for step in [1, 2, 3, 7] {
            assert_eq!(fed(text, step), whole, "{} by {step}", text.escape_ascii());
        }
        whole
    }

    #[test]
    fn rfc_9112_section_7_1_a_body_comes_out_as_it_went_in() {
        let (body, trailers, rest) = read(b"3\r\nabc\r\n0A\r\n0123456789\r\n0\r\n\r\nGET")
            .unwrap()
            .unwrap();
        assert_eq!((&body[..], &rest[..]), (&b"abc0123456789"[..], &b"GET"[..]));
        assert!(trailers.is_empty());
        assert_eq!(read(b"3\r\nabc\r\n0\r\n").unwrap(), None, "the end has not come");
        assert_eq!(read(b"000\r\n\r\n").unwrap().unwrap().0, b"");
    }

    #[test]
    fn rfc_9112_section_7_1_a_size_is_hexadecimal_digits_and_nothing_else() {
        for size in [
            "0x2", "+2", "-2", " 2", "2 ", "2\t", "", "g", "2h", "2,", "2 ;a", "\u{b2}",
        ] {
            let text = format!("{size}\r\nhi\r\n0\r\n\r\n");
            assert_eq!(read(text.as_bytes()).unwrap_err(), ChunkError::Size, "{size:?}");
        }
    }

    #[test]
    fn rfc_9112_section_7_1_a_size_that_overflows_is_no_size() {
        for size in ["10000000000000000", "ffffffffffffffff1", "00000000000000002"] {
            let text = format!("{size}\r\nhi\r\n0\r\n\r\n");
            assert_eq!(read(text.as_bytes()).unwrap_err(), ChunkError::TooLarge, "{size}");
        }
        assert_eq!(read(b"ffffffffffffffff\r\nhi").unwrap(), None);
    }

    #[test]
    fn rfc_9112_section_7_1_every_line_ends_in_cr_lf() {
        assert_eq!(read(b"2\nhi\r\n0\r\n\r\n").unwrap_err(), ChunkError::Line);
        assert_eq!(read(b"2\r\nhi0\r\n\r\n").unwrap_err(), ChunkError::End);
        assert_eq!(read(b"2\r\nhi\n0\r\n\r\n").unwrap_err(), ChunkError::End);
        assert_eq!(read(b"2\r\nhi\rx").unwrap_err(), ChunkError::End);
        assert_eq!(read(b"2\r\nhi\r\n0\n\n").unwrap_err(), ChunkError::Line);
        assert!(read(b"2\r\nhi\r\n0\r\n\n").is_err());
        assert_eq!(read(b"2\rX\nhi\r\n0\r\n\r\n").unwrap_err(), ChunkError::Line);
    }

    #[test]
    fn rfc_9112_section_7_1_1_extensions_are_skipped_and_bounded() {
        let (body, ..) = read(b"2;a=b;c=\"d\"\r\nhi\r\n0;x\r\n\r\n").unwrap().unwrap();
        assert_eq!(body, b"hi");
        let long = format!("2;{}\r\nhi\r\n0\r\n\r\n", "x".repeat(LINE));
        assert_eq!(read(long.as_bytes()).unwrap_err(), ChunkError::Extensions);
        let many = format!("1;{}\r\nx\r\n", "y".repeat(200)).repeat(EXTENSIONS / 200 + 1);
        assert_eq!(read(many.as_bytes()).unwrap_err(), ChunkError::Extensions);
        assert_eq!(read(b"2;a\0\r\nhi\r\n0\r\n\r\n").unwrap_err(), ChunkError::Line);
        // A CR that another server may take for the line's end (as in "TERM.EXT" smuggling).
        assert_eq!(read(b"2;\rx\r\nhi\r\n0\r\n\r\n").unwrap_err(), ChunkError::Line);
    }

    #[test]
    fn rfc_9112_section_7_1_2_trailers_come_out_and_are_bounded() {
        let (body, trailers, rest) = read(b"2\r\nhi\r\n0\r\nX-Sum: 7\r\nX-Other:\r\n\r\nnext")
            .unwrap()
            .unwrap();
        assert_eq!((&body[..], &rest[..]), (&b"hi"[..], &b"next"[..]));
        assert_eq!((&trailers["x-sum"], trailers.len()), (&"7".parse().unwrap(), 2));
        let long = format!("0\r\nX: {}\r\n\r\n", "x".repeat(TRAILERS));
        assert_eq!(read(long.as_bytes()).unwrap_err(), ChunkError::Trailers);
        for wrong in ["X : 7", " X: 7", "X", "X: a\0b", "X: a\rb"] {
            let text = format!("0\r\n{wrong}\r\n\r\n");
            assert!(
                matches!(read(text.as_bytes()), Err(ChunkError::Field(_))),
                "{wrong}"
            );
        }
    }
}

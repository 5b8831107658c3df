//! Finds where a head or a trailer section ends, and refuses line ends that somebody else may read otherwise.

/// A line that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LineError {
    /// RFC 9112 §2.2 lets a recipient take it for a line's end, so some do and some don't.
    #[error("a line ends in LF without CR")]
    BareLf,
    /// RFC 9112 §5.2: the continuation of a field's value on the next line.
    #[error("a field goes on in a second line")]
    Folded,
}

/// Looks for the empty line at the end of a section that comes in piece by piece. Each byte is looked at once, however
/// small the pieces are.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Scan {
    looked: usize,
    /// Where the line that is being looked at begins.
    line: usize,
}

impl Scan {
    /// Length of the section with its empty line, once that is there. `bytes` begin where they began the last time.
    pub(crate) fn end(&mut self, bytes: &[u8]) -> Result<Option<usize>, LineError> {
        let fresh = bytes.get(self.looked..).unwrap_or_default();
        for at in memchr::memchr_iter(b'\n', fresh) {
            let lf = self.looked + at;
            let Some(cr) = lf
                .checked_sub(1)
                .filter(|cr| *cr >= self.line && bytes[*cr] == b'\r')
            else {
                return Err(LineError::BareLf);
            };
            if self.line > 0 && matches!(bytes[self.line], b' ' | b'\t') {
                return Err(LineError::Folded);
            }
            if cr == self.line {
                return Ok(Some(lf + 1));
            }
            self.line = lf + 1;
        }
        self.looked = bytes.len();
        Ok(None)
    }
}

/// Is this byte part of a token (RFC 9110 §5.6.2)?
pub(crate) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same, whether the bytes come at once or one by one.
    fn end(bytes: &[u8]) -> Result<Option<usize>, LineError> {
        let mut scan = Scan::default();
        let mut slowly = Ok(None);
        for n in 0..=bytes.len() {
            slowly = scan.end(&bytes[..n]);
            if slowly != Ok(None) {
                break;
            }
        }
        assert_eq!(slowly, Scan::default().end(bytes), "{}", bytes.escape_ascii());
        slowly
    }

    #[test]
    fn a_section_ends_with_an_empty_line() {
        assert_eq!(end(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nbody\r\n"), Ok(Some(27)));
        assert_eq!(end(b"\r\nbody"), Ok(Some(2)), "an empty section");
        assert_eq!(end(b"GET / HTTP/1.1\r\nHost: a\r\n\r"), Ok(None));
        assert_eq!(end(b""), Ok(None));
    }

    #[test]
    fn rfc_9112_section_2_2_a_bare_lf_ends_no_line() {
        for bytes in [
            &b"GET / HTTP/1.1\nHost: a\r\n\r\n"[..],
            b"GET / HTTP/1.1\r\nHost: a\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\n\n",
            b"\n",
        ] {
            assert_eq!(end(bytes), Err(LineError::BareLf), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn rfc_9112_section_5_2_a_field_is_one_line() {
        assert_eq!(
            end(b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n"),
            Err(LineError::Folded)
        );
        assert_eq!(end(b"GET / HTTP/1.1\r\n\tA: b\r\n\r\n"), Err(LineError::Folded));
    }
}

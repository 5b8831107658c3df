//! Where a message's body ends (RFC 9112 §6.3), decided from its head alone.

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, Method, StatusCode, Version};

/// How the end of a body is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length {
    /// There is no body.
    None,
    /// So many bytes, which may be none: the message says how many.
    Exactly(u64),
    /// By the last chunk.
    Chunked,
    /// By the connection's end; responses alone may end so.
    UntilClose,
}

/// A head from which no length follows, or two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FramingError {
    #[error("both Content-Length and Transfer-Encoding")]
    Both,
    #[error("Transfer-Encoding in HTTP/1.0")]
    CodingIn10,
    #[error("a transfer coding other than `chunked` alone")]
    Coding,
    #[error("Content-Length is not one number")]
    NotANumber,
    #[error("Content-Length is too large")]
    TooLarge,
}

/// The body of a request.
pub(crate) fn of_request(version: Version, headers: &HeaderMap) -> Result<Length, FramingError> {
    Ok(declared(version, headers)?.unwrap_or(Length::None))
}

/// The body of the response to a request with this method.
pub(crate) fn of_response(
    asked: &Method,
    status: StatusCode,
    version: Version,
    headers: &HeaderMap,
) -> Result<Length, FramingError> {
    let declared = declared(version, headers)?;
    if *asked == Method::HEAD || never_has_body(status) {
        return Ok(Length::None);
    }
    Ok(declared.unwrap_or(Length::UntilClose))
}

/// Responses with this status end with their head, whatever it says.
pub(crate) fn never_has_body(status: StatusCode) -> bool {
    status.is_informational() || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED
}

fn declared(version: Version, headers: &HeaderMap) -> Result<Option<Length>, FramingError> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    match (codings.next(), lengths.next()) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(FramingError::Both),
        (Some(_), None) if version == Version::HTTP_10 => Err(FramingError::CodingIn10),
        // Two lines are a list, and a list either names a coding that isn't undone here or `chunked` twice.
        (Some(coding), None) => {
            if coding.as_bytes().eq_ignore_ascii_case(b"chunked") && codings.next().is_none() {
                Ok(Some(Length::Chunked))
            } else {
                Err(FramingError::Coding)
            }
        }
        // A repeated one is refused even where both say the same (RFC 9110 §8.6 leaves the choice).
        (None, Some(_)) if lengths.next().is_some() => Err(FramingError::NotANumber),
        (None, Some(length)) => number(length.as_bytes()).map(|length| Some(Length::Exactly(length))),
    }
}

fn number(digits: &[u8]) -> Result<u64, FramingError> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(FramingError::NotANumber);
    }
    digits
        .iter()
        .try_fold(0u64, |n, digit| {
            n.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
        })
        .ok_or(FramingError::TooLarge)
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(lines: &[&str]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for line in lines {
            let (name, value) = line.split_once(": ").expect("a field");
            map.append(
                name.parse::<HeaderName>().unwrap(),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        map
    }

    fn asked(lines: &[&str]) -> Result<Length, FramingError> {
        of_request(Version::HTTP_11, &headers(lines))
    }

    fn answered(method: &Method, status: u16, lines: &[&str]) -> Result<Length, FramingError> {
        let status = StatusCode::from_u16(status).unwrap();
        of_response(method, status, Version::HTTP_11, &headers(lines))
    }

    #[test]
    fn rfc_9112_section_6_3_one_length_follows_from_a_head() {
        assert_eq!(asked(&[]), Ok(Length::None));
        assert_eq!(asked(&["content-length: 0"]), Ok(Length::Exactly(0)));
        assert_eq!(
            asked(&["content-length: 18446744073709551615"]),
            Ok(Length::Exactly(u64::MAX))
        );
        assert_eq!(asked(&["transfer-encoding: Chunked"]), Ok(Length::Chunked));
        assert_eq!(answered(&Method::GET, 200, &[]), Ok(Length::UntilClose));
        assert_eq!(
            answered(&Method::GET, 200, &["content-length: 5"]),
            Ok(Length::Exactly(5))
        );
        assert_eq!(
            answered(&Method::GET, 200, &["transfer-encoding: chunked"]),
            Ok(Length::Chunked)
        );
    }

    #[test]
    fn rfc_9112_section_6_3_item_1_head_1xx_204_and_304_have_no_body() {
        assert_eq!(
            answered(&Method::HEAD, 200, &["content-length: 5"]),
            Ok(Length::None)
        );
        for status in [100, 103, 204, 304] {
            assert_eq!(
                answered(&Method::GET, status, &["content-length: 5"]),
                Ok(Length::None),
                "{status}"
            );
        }
    }

    #[test]
    fn rfc_9112_section_6_1_both_lengths_at_once_are_an_attack() {
        let both = ["content-length: 5", "transfer-encoding: chunked"];
        assert_eq!(asked(&both), Err(FramingError::Both));
        assert_eq!(answered(&Method::GET, 200, &both), Err(FramingError::Both));
        assert_eq!(answered(&Method::HEAD, 200, &both), Err(FramingError::Both));
    }

    #[test]
    fn rfc_9112_section_6_1_http_1_0_knows_no_transfer_coding() {
        let map = headers(&["transfer-encoding: chunked"]);
        assert_eq!(of_request(Version::HTTP_10, &map), Err(FramingError::CodingIn10));
        let answer = of_response(&Method::GET, StatusCode::OK, Version::HTTP_10, &map);
        assert_eq!(answer, Err(FramingError::CodingIn10));
    }

    #[test]
    fn rfc_9112_section_6_1_chunked_is_the_only_coding_and_comes_once() {
        for coding in [
            "gzip, chunked",
            "chunked, gzip",
            "chunked, chunked",
            "identity",
            "gzip",
            "xchunked",
            "chunked;q=1",
            "\"chunked\"",
            "chunked,",
            "",
        ] {
            let line = format!("transfer-encoding: {coding}");
            assert_eq!(asked(&[&line]), Err(FramingError::Coding), "{coding}");
            assert_eq!(
                answered(&Method::GET, 200, &[&line]),
                Err(FramingError::Coding),
                "{coding}"
            );
        }
        let twice = ["transfer-encoding: chunked", "transfer-encoding: chunked"];
        assert_eq!(asked(&twice), Err(FramingError::Coding));
    }

    #[test]
    fn rfc_9112_section_6_3_item_5_content_length_is_one_number() {
        for value in ["", "+5", "-5", "5 5", "5,5", "5, 5", "0x5", "5.0", "five", "5;"] {
            let line = format!("content-length: {value}");
            assert_eq!(asked(&[&line]), Err(FramingError::NotANumber), "{value}");
            assert_eq!(
                answered(&Method::GET, 200, &[&line]),
                Err(FramingError::NotANumber),
                "{value}"
            );
        }
        for twice in [
            ["content-length: 5", "content-length: 6"],
            ["content-length: 5", "content-length: 5"],
        ] {
            assert_eq!(asked(&twice), Err(FramingError::NotANumber));
        }
        for value in ["18446744073709551616", "99999999999999999999999"] {
            let line = format!("content-length: {value}");
            assert_eq!(asked(&[&line]), Err(FramingError::TooLarge), "{value}");
        }
    }
}

//! Answers compressed on their way (RFC 9110 §8.4), where the client takes that and it is worth it.
//!
//! What the upstream compressed itself is left alone, and so is a part of something (206), what says `no-transform`, and
//! what carries a digest of its bytes. The result is another representation of the same thing: its ETag is a weak one, and
//! `Vary` says what it depends on, also where this client got it as it is.

use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_TYPE, ETAG, VARY,
};
use http::{HeaderMap, HeaderValue, StatusCode};

pub(crate) use encoder::Encoder;

mod encoder;

/// A shorter body, in bytes, doesn't get shorter enough.
const WORTH_IT: u64 = 512;

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    Zstd,
    Brotli,
    Gzip,
}

impl Coding {
    /// Of those that a client likes equally, the first costs the least for what it saves.
    const ALL: [(Self, &'static str); 3] = [(Self::Zstd, "zstd"), (Self::Brotli, "br"), (Self::Gzip, "gzip")];

    fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Brotli => "br",
            Self::Gzip => "gzip",
        }
    }

    /// What a request likes best (RFC 9110 §12.5.3); `None` when that is no coding at all.
    pub(crate) fn accepted(headers: &HeaderMap) -> Option<Self> {
        let mut weights = Weights::default();
        for field in headers.get_all(ACCEPT_ENCODING) {
            for item in field.to_str().unwrap_or_default().split(',') {
                weights.read(item);
            }
        }
        let (coding, weight) = Self::ALL
            .map(|(coding, name)| (coding, weights.of(name)))
            .into_iter()
            .reduce(|best, next| if next.1 > best.1 { next } else { best })?;
        // Not mentioned, no coding at all is worth less than any that is.
        let identity = weights.named("identity").unwrap_or(0);
        (weight > 0 && weight >= identity).then_some(coding)
    }
}

/// In thousandths, by name.
#[derive(Debug, Default)]
struct Weights {
    named: Vec<(String, u16)>,
    others: u16,
}

impl Weights {
    fn read(&mut self, item: &str) {
        let mut parts = item.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default().to_ascii_lowercase();
        let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        // What is no number is worth nothing: better too long than not understood.
        let weight = match weight.map(str::parse::<f32>) {
            None => 1000,
            Some(Ok(weight)) if (0.0..=1.0).contains(&weight) => (weight * 1000.0) as u16,
            Some(_) => 0,
        };
        match name.as_str() {
            "" => {}
            "*" => self.others = weight,
            // Nobody knows more.
            _ if self.named.len() >= 32 => {}
            "x-gzip" => self.named.push(("gzip".to_owned(), weight)),
            _ => self.named.push((name, weight)),
        }
    }

    fn named(&self, name: &str) -> Option<u16> {
        self.named
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, weight)| *weight)
    }

    fn of(&self, name: &str) -> u16 {
        self.named(name).unwrap_or(self.others)
    }
}

/// What an answer is to be compressed with, if it is; its `Vary` says that there was a choice. `length`: of its body as it is,
/// where that is known; for HEAD the length that is told.
pub(crate) fn choose(
    accepted: Option<Coding>,
    status: StatusCode,
    headers: &mut HeaderMap,
    length: Option<u64>,
) -> Option<Coding> {
    if !is_compressible(status, headers) {
        return None;
    }
    vary(headers);
    accepted.filter(|_| length.is_none_or(|length| length >= WORTH_IT))
}

/// Changes the head of an answer into that of its compressed form.
pub(crate) fn mark(coding: Coding, headers: &mut HeaderMap) {
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
    headers.remove(CONTENT_LENGTH);
    // A range would be one of the compressed bytes, which nobody can ask for again.
    headers.remove(ACCEPT_RANGES);
    if let Some(tag) = headers.get(ETAG)
        && tag.as_bytes().starts_with(b"\"")
    {
        match HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat()) {
            Ok(weak) => headers.insert(ETAG, weak),
            Err(_) => headers.remove(ETAG),
        };
    }
}

fn is_compressible(status: StatusCode, headers: &HeaderMap) -> bool {
    let never = status.is_informational()
        || matches!(
            status,
            StatusCode::NO_CONTENT
                | StatusCode::RESET_CONTENT
                | StatusCode::PARTIAL_CONTENT
                | StatusCode::NOT_MODIFIED
                | StatusCode::SWITCHING_PROTOCOLS
        );
    let touched = [
        CONTENT_ENCODING.as_str(),
        CONTENT_RANGE.as_str(),
        "content-digest",
        "content-md5",
        "digest",
    ];
    if never || touched.iter().any(|name| headers.contains_key(*name)) {
        return false;
    }
    let mut directives = headers
        .get_all(CACHE_CONTROL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    if directives.any(|directive| directive.trim().eq_ignore_ascii_case("no-transform")) {
        return false;
    }
    headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .is_some_and(is_text)
}

/// Kinds that get shorter; pictures, videos and archives are compressed already.
fn is_text(kind: &str) -> bool {
    let kind = kind
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    kind.starts_with("text/")
        || kind.ends_with("+json")
        || kind.ends_with("+xml")
        || kind.ends_with("+text")
        || matches!(
            kind.as_str(),
            "application/json"
                | "application/javascript"
                | "application/x-javascript"
                | "application/ecmascript"
                | "application/xml"
                | "application/x-ndjson"
                | "application/wasm"
                | "application/graphql"
                | "application/vnd.ms-fontobject"
                | "font/ttf"
                | "font/otf"
                | "font/collection"
                | "image/bmp"
                | "image/x-icon"
                | "image/vnd.microsoft.icon"
        )
}

fn vary(headers: &mut HeaderMap) {
    let mut named = headers
        .get_all(VARY)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim);
    if !named.any(|name| name == "*" || name.eq_ignore_ascii_case("accept-encoding")) {
        headers.append(VARY, HeaderValue::from_static("accept-encoding"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(
        accepted: Option<Coding>,
        status: StatusCode,
        headers: &mut HeaderMap,
        length: Option<u64>,
    ) -> Option<Coding> {
        let coding = choose(accepted, status, headers, length)?;
        mark(coding, headers);
        Some(coding)
    }

    fn map(fields: &[(&'static str, &str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(n, v)| {
                (
                    http::HeaderName::from_static(n),
                    HeaderValue::try_from(*v).unwrap(),
                )
            })
            .collect()
    }

    #[test]
    fn rfc_9110_section_12_5_3_the_client_s_weights_decide() {
        for (field, best) in [
            ("gzip, deflate, br, zstd", Some(Coding::Zstd)),
            ("gzip, deflate, br", Some(Coding::Brotli)),
            ("gzip;q=1.0, br;q=0.5", Some(Coding::Gzip)),
            ("x-gzip", Some(Coding::Gzip)),
            ("GZIP ; Q=0.3", Some(Coding::Gzip)),
            ("*", Some(Coding::Zstd)),
            ("*;q=0.5, zstd;q=0, br;q=0", Some(Coding::Gzip)),
            ("identity, gzip;q=0.5", None),
            ("identity;q=0.5, gzip;q=0.5", Some(Coding::Gzip)),
            ("gzip;q=0", None),
            ("gzip;q=x, br;q=7", None),
            ("deflate, compress", None),
            ("", None),
        ] {
            assert_eq!(
                Coding::accepted(&map(&[("accept-encoding", field)])),
                best,
                "{field}"
            );
        }
        assert_eq!(Coding::accepted(&HeaderMap::new()), None);
    }

    #[test]
    fn a_compressed_answer_is_another_representation() {
        let mut headers = map(&[
            ("content-type", "Text/HTML; charset=utf-8"),
            ("content-length", "9000"),
            ("etag", "\"a\""),
            ("vary", "origin"),
            ("accept-ranges", "bytes"),
        ]);
        let coding = change(Some(Coding::Brotli), StatusCode::OK, &mut headers, Some(9000));
        assert_eq!(coding, Some(Coding::Brotli));
        assert_eq!(
            (&headers["content-encoding"], &headers["etag"]),
            (&"br".parse().unwrap(), &"W/\"a\"".parse().unwrap())
        );
        assert_eq!(
            headers.get_all(VARY).iter().collect::<Vec<_>>(),
            ["origin", "accept-encoding"]
        );
        assert!(!headers.contains_key(CONTENT_LENGTH) && !headers.contains_key(ACCEPT_RANGES));
        // Once more: it is compressed already.
        assert_eq!(
            change(Some(Coding::Gzip), StatusCode::OK, &mut headers, None),
            None
        );
    }

    #[test]
    fn what_must_stay_as_it_is_stays() {
        for (status, fields) in [
            (
                206,
                &[("content-type", "text/plain"), ("content-range", "bytes 0-1/9")][..],
            ),
            (304, &[("content-type", "text/plain")]),
            (200, &[("content-type", "image/png")]),
            (200, &[]),
            (
                200,
                &[
                    ("content-type", "text/plain"),
                    ("cache-control", "max-age=1, No-Transform"),
                ],
            ),
            (
                200,
                &[("content-type", "text/plain"), ("content-encoding", "gzip")],
            ),
            (
                200,
                &[("content-type", "text/plain"), ("content-digest", "sha-256=:x:")],
            ),
        ] {
            let before = map(fields);
            let mut headers = before.clone();
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(change(Some(Coding::Gzip), status, &mut headers, None), None);
            assert_eq!(headers, before, "{status} {fields:?}");
        }
        // Too short, or not taken by this client: caches are told that others might get it otherwise.
        for (accepted, length) in [(Some(Coding::Gzip), Some(511)), (None, None)] {
            let mut headers = map(&[("content-type", "application/ld+json"), ("etag", "\"a\"")]);
            assert_eq!(change(accepted, StatusCode::OK, &mut headers, length), None);
            assert_eq!(
                (&headers["vary"], &headers["etag"]),
                (&"accept-encoding".parse().unwrap(), &"\"a\"".parse().unwrap())
            );
        }
    }
}

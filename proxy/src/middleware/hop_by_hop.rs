//! Fields that belong to one connection and go no further (RFC 9110 §7.6.1).

use http::header::{
    AUTHORIZATION, CONNECTION, COOKIE, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, SET_COOKIE, TE,
    TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::Frame;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// What a message said about its connection before the fields were removed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Said {
    /// Protocols it wants to change to, `h2c` left out: that one is ours to speak, and forwarded it would be a tunnel
    /// past every rule.
    pub(crate) upgrade: Option<HeaderValue>,
    /// It understands trailers.
    pub(crate) trailers: bool,
}

/// Removes the fields of the connection, and those that `Connection` names, save what no client may have removed.
pub(crate) fn strip(headers: &mut HeaderMap) -> Said {
    let mut said = Said::default();
    if headers.contains_key(CONNECTION) {
        let mut upgrades = false;
        for name in named(headers) {
            upgrades |= name == UPGRADE;
            if !protected(&name) && name != TE && name != UPGRADE {
                headers.remove(name);
            }
        }
        if upgrades {
            said.upgrade = protocols(headers);
        }
        headers.remove(CONNECTION);
    }
    if let Some(te) = headers.remove(TE) {
        said.trailers = te
            .to_str()
            .is_ok_and(|te| tokens(te).any(|t| t.eq_ignore_ascii_case("trailers")));
    }
    for name in [
        UPGRADE,
        KEEP_ALIVE,
        PROXY_CONNECTION,
        TRANSFER_ENCODING,
        HTTP2_SETTINGS,
        PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION,
    ] {
        headers.remove(name);
    }
    said
}

/// Fields that mean something only before a body: who took them from behind it would be led to another length, another
/// host or another user (RFC 9110 §6.5.1).
const ONLY_IN_HEADS: [&str; 18] = [
    "age",
    "authorization",
    "cache-control",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "expect",
    "host",
    "location",
    "max-forwards",
    "range",
    "set-cookie",
    "trailer",
    "vary",
    "via",
    "www-authenticate",
];

/// A piece of a body; trailers without what must not be among them.
pub(crate) fn plain_trailers<T>(frame: Frame<T>) -> Frame<T> {
    match frame.into_trailers() {
        Ok(mut trailers) => {
            strip(&mut trailers);
            for name in ONLY_IN_HEADS {
                trailers.remove(name);
            }
            Frame::trailers(trailers)
        }
        Err(frame) => frame,
    }
}

fn tokens(value: &str) -> impl Iterator<Item = &str> {
    value
        .split(',')
        .map(|token| token.split(';').next().unwrap_or(token).trim())
        .filter(|t| !t.is_empty())
}

fn named(headers: &HeaderMap) -> Vec<HeaderName> {
    let values = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok());
    values
        .flat_map(tokens)
        .filter_map(|token| HeaderName::try_from(token).ok())
        .collect()
}

fn protocols(headers: &HeaderMap) -> Option<HeaderValue> {
    let values = headers
        .get_all(UPGRADE)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let kept: Vec<&str> = values
        .flat_map(tokens)
        .filter(|p| !p.eq_ignore_ascii_case("h2c"))
        .collect();
    if kept.is_empty() {
        None
    } else {
        HeaderValue::try_from(kept.join(", ")).ok()
    }
}

/// A client that could have these removed would forge what the upstream is told about it.
fn protected(name: &HeaderName) -> bool {
    matches!(*name, HOST | AUTHORIZATION | COOKIE | SET_COOKIE | VIA)
        || [
            "content-",
            "x-forwarded-",
            "forwarded",
            "x-real-ip",
            "x-request-id",
        ]
        .iter()
        .any(|prefix| name.as_str().starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v)))
            .collect()
    }

    #[test]
    fn connection_fields_and_those_they_name_go_no_further() {
        let mut map = headers(&[
            (
                "connection",
                "close, X-Private, Host, cookie, content-length, X-Forwarded-For",
            ),
            ("x-private", "1"),
            ("x-public", "1"),
            ("host", "a.test"),
            ("cookie", "a=b"),
            ("content-length", "3"),
            ("x-forwarded-for", "192.0.2.1"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers, deflate;q=0.5"),
            ("trailer", "x-sum"),
            ("transfer-encoding", "chunked"),
            ("proxy-connection", "keep-alive"),
            ("proxy-authorization", "Basic eA=="),
        ]);
        assert_eq!(
            strip(&mut map),
            Said {
                upgrade: None,
                trailers: true
            }
        );
        let mut left: Vec<_> = map.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(
            left,
            [
                "content-length",
                "cookie",
                "host",
                "trailer",
                "x-forwarded-for",
                "x-public"
            ]
        );
    }

    #[test]
    fn rfc_9110_section_6_5_1_nothing_that_steers_comes_behind_a_body() {
        let trailers = headers(&[
            ("x-sum", "7"),
            ("content-digest", "sha-256=:eA==:"),
            ("content-length", "5"),
            ("transfer-encoding", "chunked"),
            ("host", "b.test"),
            ("authorization", "Basic eA=="),
            ("connection", "x-named"),
            ("x-named", "1"),
        ]);
        let left = plain_trailers(Frame::<()>::trailers(trailers))
            .into_trailers()
            .unwrap();
        let mut names: Vec<_> = left.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["content-digest", "x-sum"]);
    }

    #[test]
    fn an_upgrade_to_h2c_is_dropped_and_other_protocols_are_kept() {
        let mut map = headers(&[
            ("connection", "Upgrade, HTTP2-Settings"),
            ("upgrade", "h2c, websocket"),
            ("http2-settings", "AAMAAABk"),
        ]);
        assert_eq!(strip(&mut map).upgrade.unwrap(), "websocket");
        assert!(map.is_empty());
        let mut map = headers(&[("connection", "upgrade"), ("upgrade", "H2C")]);
        assert_eq!(strip(&mut map).upgrade, None);
    }

    #[test]
    fn an_upgrade_field_that_connection_does_not_name_asks_for_nothing() {
        let mut map = headers(&[("connection", "keep-alive"), ("upgrade", "websocket")]);
        assert_eq!(strip(&mut map).upgrade, None);
        assert!(map.is_empty());
    }
}

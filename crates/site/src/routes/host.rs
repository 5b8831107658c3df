//! The key of a route: `host[/path]`.

use crate::hosts;
use crate::problem::{Report, quoted};
use crate::{HostPattern, Span};

pub(super) fn read(text: &str, span: Span, report: &mut Report) -> Option<(HostPattern, String)> {
    if let Some((scheme, rest)) = text.split_once("://") {
        let message = format!(
            "a route begins with a host name, not with {}",
            quoted(&format!("{scheme}://"))
        );
        report
            .at(span, message)
            .hint(format!("write `{rest}`; HTTP and HTTPS are both served"));
        return None;
    }
    let (host, path) = match text.find('/') {
        Some(at) => text.split_at(at),
        None => (text, "/"),
    };
    let host = pattern(host, span, report);
    let path = match normalise(path) {
        Ok(path) => Some(path),
        Err((rule, hint)) => {
            report
                .at(span, format!("path {} {rule}", quoted(path)))
                .hint(hint);
            None
        }
    };
    host.zip(path)
}

fn pattern(text: &str, span: Span, report: &mut Report) -> Option<HostPattern> {
    if text == "*" {
        return Some(HostPattern::Default);
    }
    if text.is_empty() {
        report
            .at(span, "the route has no host name")
            .hint("write `host.example.com/path`, or `\"*\"` for any other host");
        return None;
    }
    if text.contains(':') {
        report
            .at(
                span,
                format!(
                    "the host of a route has no port and is no IPv6 address: {}",
                    quoted(text)
                ),
            )
            .hint("Linkspan listens on its HTTP and HTTPS ports for every route; leave the port out");
        return None;
    }
    let (wildcard, name) = match text.strip_prefix("*.") {
        Some(name) => (true, name),
        None => (false, text),
    };
    if name.contains('*') {
        report
            .at(
                span,
                format!("`*` stands for one whole first label, not as in {}", quoted(text)),
            )
            .hint("write `*.example.com`, or `\"*\"` for any other host");
        return None;
    }
    match hosts::normalise(name) {
        Ok(name) if wildcard => Some(HostPattern::Wildcard(name)),
        Ok(name) => Some(HostPattern::Exact(name)),
        Err(error) => {
            let problem = report.at(span, error.to_string());
            problem.hint.clone_from(&error.hint);
            None
        }
    }
}

pub(super) type Fault = (&'static str, &'static str);

/// One slash between segments, none at the end, percent-encoding as RFC 3986 §6.2.2 has it.
pub(super) fn normalise(path: &str) -> Result<String, Fault> {
    let mut out = String::new();
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        out.push('/');
        if segment == "." || segment == ".." {
            return Err(("holds `.` or `..`", "write the path that is meant"));
        }
        encode(segment, &mut out)?;
    }
    if out.is_empty() {
        out.push('/');
    }
    Ok(out)
}

fn encode(segment: &str, out: &mut String) -> Result<(), Fault> {
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'*' => return Err(("holds `*`", "a path stands for all below it: leave `/*` out")),
            b'?' | b'#' => return Err(("holds `?` or `#`", "routes look at the path only")),
            b'%' => {
                let digit = |byte: Option<u8>| byte.and_then(|b| char::from(b).to_digit(16));
                let (Some(high), Some(low)) = (digit(bytes.next()), digit(bytes.next())) else {
                    return Err((
                        "has a `%` without two hex digits",
                        "write `%25` for a percent sign",
                    ));
                };
                let byte = (high * 16 + low) as u8;
                if byte == b'.' || byte == b'/' || byte == b'\\' || byte < 0x20 {
                    return Err((
                        "hides a `.`, a slash or a control character behind `%`",
                        "write the path that is meant",
                    ));
                }
                push(byte, out);
            }
            b'\\' => return Err(("holds `\\`", "write `/`")),
            0..=0x20 | 0x7F => {
                return Err(("holds a space or a control character", "write a space as `%20`"));
            }
            byte => push(byte, out),
        }
    }
    Ok(())
}

/// A byte as it is if the path may hold it (RFC 3986 `pchar`), percent-encoded if not.
fn push(byte: u8, out: &mut String) {
    let plain = byte.is_ascii_alphanumeric() || b"-._~!$&'()+,;=:@".contains(&byte);
    if plain {
        out.push(char::from(byte));
    } else {
        out.push_str(&format!("%{byte:02X}"));
    }
}

#[cfg(test)]
mod tests {
    use super::normalise;

    #[test]
    fn a_path_has_one_spelling() {
        for (written, path) in [
            ("/", "/"),
            ("/api", "/api"),
            ("/api/", "/api"),
            ("//api//v1/", "/api/v1"),
            ("/%7euser", "/~user"),
            ("/a%20b", "/a%20b"),
            ("/ü", "/%C3%BC"),
            ("/%c3%bc", "/%C3%BC"),
            ("/a.b", "/a.b"),
        ] {
            assert_eq!(normalise(written).as_deref(), Ok(path), "{written}");
        }
        for written in [
            "/a/../b", "/.", "/a*", "/a?b", "/%2e%2e", "/a%2Fb", "/%zz", "/%2", "/a b", "/a\\b",
        ] {
            assert!(normalise(written).is_err(), "{written}");
        }
    }
}

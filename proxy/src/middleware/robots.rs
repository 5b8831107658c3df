//! Search engines are asked to stay away: by `/robots.txt` (RFC 9309), and by a field on all else.

use http::{HeaderMap, HeaderName, HeaderValue, Method};

/// What `/robots.txt` says.
pub(crate) const TEXT: &str = "User-agent: *\nDisallow: /\n";

/// Does it ask for that file?
pub(crate) fn is_asked_for(method: &Method, path: &str) -> bool {
    path == "/robots.txt" && matches!(*method, Method::GET | Method::HEAD)
}

/// For those who came by a link and never read the file.
pub(crate) fn mark(headers: &mut HeaderMap) {
    const X_ROBOTS_TAG: HeaderName = HeaderName::from_static("x-robots-tag");
    headers.insert(X_ROBOTS_TAG, HeaderValue::from_static("noindex, nofollow"));
}

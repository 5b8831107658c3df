//! What a client is told when there is no answer from upstream: a sentence, as text or as a small page.

use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Response, Version};

use crate::body::ResponseBody;
use crate::error::{Failure, Kind, Side};
use crate::middleware::access_log::{Outcome, Record};
use crate::middleware::error_pages::Pages;
use crate::middleware::request_id;

/// Is there a person in front of it?
pub(super) fn prefers_html(headers: &HeaderMap) -> bool {
    let accept = headers
        .get(ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .unwrap_or_default();
    accept.contains("text/html")
}

/// Tells the client what is wrong, in a sentence.
pub(super) fn page(
    failure: &Failure,
    pages: Option<&Pages>,
    html: bool,
    version: Version,
    id: &HeaderValue,
    mut record: Record,
) -> Response<ResponseBody> {
    let status = failure.status();
    if failure.side() == Side::Upstream && failure.source.is_some() {
        tracing::debug!(error = %linkspan_telemetry::chain(failure), "request failed");
    }
    record.status(status);
    record.reason(failure.reason());
    record.outcome(match (failure.side(), &failure.kind) {
        (_, Kind::ClientGone) => Outcome::ClientGone,
        (Side::Upstream, _) => Outcome::UpstreamFailed,
        _ => Outcome::Refused,
    });
    let own = pages.and_then(|pages| match failure.kind {
        Kind::Maintenance => pages.maintenance.as_ref().or_else(|| pages.of(status)),
        _ => pages.of(status),
    });
    let text: Bytes = if let Some(own) = own {
        own.text.clone()
    } else if html {
        let title = format!(
            "{} {}",
            status.as_u16(),
            status.canonical_reason().unwrap_or_default()
        );
        let sentence = escape(&failure.kind.to_string());
        format!(
            "<!doctype html><meta charset=utf-8><title>{title}</title><h1>{title}</h1><p>{sentence}</p>\n"
        )
        .into()
    } else {
        format!("{}\n", failure.kind).into()
    };
    let mut response = Response::new(ResponseBody::own(text, record));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let kind = match own {
        Some(own) => own.kind.clone(),
        None if html => HeaderValue::from_static("text/html; charset=utf-8"),
        None => HeaderValue::from_static("text/plain; charset=utf-8"),
    };
    headers.insert(CONTENT_TYPE, kind);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(request_id::X_REQUEST_ID, id.clone());
    if let Some(seconds) = failure.retry_after() {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if matches!(failure.kind, Kind::BadRequest(_) | Kind::ClientGone) && version < Version::HTTP_2 {
        // What follows on such a connection can't be trusted to be a request.
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if let Kind::Unauthorized(challenge) = &failure.kind {
        headers.insert(WWW_AUTHENTICATE, challenge.clone());
    }
    if matches!(failure.kind, Kind::Method(_)) {
        headers.insert(http::header::ALLOW, HeaderValue::from_static(super::METHODS));
    }
    response
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

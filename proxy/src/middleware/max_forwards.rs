//! How many proxies an OPTIONS may still pass (RFC 9110 §7.6.2). TRACE, the other method that counts, is refused anyway.

use http::header::MAX_FORWARDS;
use http::{HeaderMap, HeaderValue, Method};

/// May the request go on? It goes on with one less.
pub(crate) fn may_pass(method: &Method, headers: &mut HeaderMap) -> bool {
    if *method != Method::OPTIONS {
        return true;
    }
    let Some(left) = headers.get(MAX_FORWARDS) else {
        return true;
    };
    // What is not a number counts nothing; it is passed on as it is.
    match left.to_str().ok().and_then(|left| left.parse::<u64>().ok()) {
        None => true,
        Some(0) => false,
        Some(left) => {
            headers.insert(MAX_FORWARDS, HeaderValue::from(left - 1));
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_9110_section_7_6_2_options_are_counted_down_and_stop_at_none() {
        let mut headers = HeaderMap::new();
        assert!(may_pass(&Method::OPTIONS, &mut headers));
        headers.insert(MAX_FORWARDS, HeaderValue::from_static("1"));
        assert!(may_pass(&Method::OPTIONS, &mut headers));
        assert_eq!(headers[MAX_FORWARDS], "0");
        assert!(may_pass(&Method::GET, &mut headers) && !may_pass(&Method::OPTIONS, &mut headers));
        headers.insert(MAX_FORWARDS, HeaderValue::from_static("-1"));
        assert!(may_pass(&Method::OPTIONS, &mut headers));
        assert_eq!(headers[MAX_FORWARDS], "-1");
    }
}

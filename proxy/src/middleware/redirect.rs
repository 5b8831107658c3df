//! Where a redirect leads.

use http::{HeaderValue, Uri};

/// The https URL of a plain request.
pub(crate) fn to_https(host: &str, port: u16, uri: &Uri) -> Option<HeaderValue> {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let location = if port == 443 {
        format!("https://{host}{path}")
    } else {
        format!("https://{host}:{port}{path}")
    };
    HeaderValue::from_str(&location).ok()
}

/// The target of a redirecting route.
pub(crate) fn to_target(to: &str, append: bool, uri: &Uri) -> Option<HeaderValue> {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let location = if append {
        format!("{to}{path}")
    } else {
        to.to_owned()
    };
    HeaderValue::from_str(&location).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_and_query_are_kept_and_the_port_is_named_only_where_it_is_not_443() {
        let uri: Uri = "/a%20b?c=d".parse().unwrap();
        assert_eq!(to_https("a.test", 443, &uri).unwrap(), "https://a.test/a%20b?c=d");
        assert_eq!(
            to_https("a.test", 8443, &uri).unwrap(),
            "https://a.test:8443/a%20b?c=d"
        );
        assert_eq!(
            to_target("https://b.test", true, &uri).unwrap(),
            "https://b.test/a%20b?c=d"
        );
        assert_eq!(
            to_target("https://b.test/x", false, &uri).unwrap(),
            "https://b.test/x"
        );
    }
}

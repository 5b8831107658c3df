//! Request targets, with everything that comes from outside percent-encoded.

use std::fmt::Write as _;

/// Path and query below `/v1`.
#[derive(Debug, Clone)]
pub(super) struct Target {
    text: String,
    has_query: bool,
}

impl Target {
    pub(super) fn new(resource: &'static str) -> Self {
        Self {
            text: format!("/v1/{resource}"),
            has_query: false,
        }
    }

    /// One more path segment; a slash in it is encoded.
    pub(super) fn segment(mut self, segment: &str) -> Self {
        debug_assert!(!self.has_query, "segments come before the query");
        self.text.push('/');
        // `.` and `..` would be taken for steps in the tree by whoever normalises paths.
        match segment {
            "." => self.text.push_str("%2E"),
            ".." => self.text.push_str("%2E%2E"),
            _ => encode(segment, &mut self.text),
        }
        self
    }

    pub(super) fn pair(mut self, key: &str, value: &str) -> Self {
        self.text.push(if self.has_query { '&' } else { '?' });
        self.has_query = true;
        encode(key, &mut self.text);
        self.text.push('=');
        encode(value, &mut self.text);
        self
    }

    /// `key=true`, or nothing.
    pub(super) fn flag(self, key: &str, on: bool) -> Self {
        if on { self.pair(key, "true") } else { self }
    }

    pub(super) fn path(&self) -> &str {
        &self.text
    }
}

/// Everything but RFC 3986's unreserved characters becomes `%XX`.
fn encode(text: &str, out: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => {
                // Writing to a String can't fail.
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_slashes_and_spaces_stay_one_segment() {
        let target = Target::new("images")
            .segment("ghcr.io/acme/shop:1.4")
            .flag("force", true)
            .flag("no", false);
        assert_eq!(target.path(), "/v1/images/ghcr.io%2Facme%2Fshop%3A1.4?force=true");
        assert_eq!(
            Target::new("sites").segment("a b?ü").path(),
            "/v1/sites/a%20b%3F%C3%BC"
        );
        assert_eq!(Target::new("sites").segment("..").path(), "/v1/sites/%2E%2E");
    }

    #[test]
    fn pairs_may_repeat() {
        let target = Target::new("images")
            .segment("save")
            .pair("name", "a:1")
            .pair("name", "b&c");
        assert_eq!(target.path(), "/v1/images/save?name=a%3A1&name=b%26c");
    }
}

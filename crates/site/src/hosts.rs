//! Host names: RFC 1123 labels, as DNS and browsers know them.

/// Why a text is no host name, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("host name `{name}` {rule}")]
pub struct HostError {
    name: String,
    rule: &'static str,
    pub(crate) hint: Option<String>,
}

/// A host name in lower case, without a trailing dot.
pub(crate) fn normalise(name: &str) -> Result<String, HostError> {
    let fail = |rule, hint: Option<&str>| {
        Err(HostError {
            name: name.chars().take(80).collect(),
            rule,
            hint: hint.map(str::to_owned),
        })
    };
    let bare = name.strip_suffix('.').unwrap_or(name);
    if bare.is_empty() {
        return fail("is empty", None);
    }
    if !bare.is_ascii() {
        return fail(
            "has letters beyond a-z",
            Some("write it in punycode (`xn--…`), as `idn2` or a browser shows it"),
        );
    }
    if bare.len() > 253 {
        return fail("is longer than 253 characters", None);
    }
    for label in bare.split('.') {
        if label.is_empty() {
            return fail("has an empty part between its dots", None);
        }
        if label.len() > 63 {
            return fail("has a part longer than 63 characters", None);
        }
        if label.contains('_') {
            return fail("holds `_`, which no host name may", Some("use `-`"));
        }
        if !label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return fail("may hold only a-z, 0-9, `-` and `.`", None);
        }
        if label.starts_with('-') || label.ends_with('-') {
            return fail("has a part that begins or ends with `-`", None);
        }
    }
    Ok(bare.to_ascii_lowercase())
}

/// A name for use inside container networks, in lower case: a host name (RFC 1123), in which `_` is allowed too, as in
/// container names.
///
/// # Errors
/// Which rule it breaks.
pub fn alias(name: &str) -> Result<String, HostError> {
    normalise(&name.replace('_', "-"))
        .map(|_| name.to_ascii_lowercase())
        .map_err(|error| HostError {
            name: name.chars().take(80).collect(),
            ..error
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_lowered_and_checked() {
        assert_eq!(normalise("Shop.Example.COM.").unwrap(), "shop.example.com");
        assert_eq!(normalise("192.0.2.1").unwrap(), "192.0.2.1");
        for name in ["", ".", "a..b", "-a.b", "a-.b", "a b", "a_b.c", "bücher.example"] {
            assert!(normalise(name).is_err(), "{name}");
        }
        assert!(normalise(&"a".repeat(64)).is_err());
        assert!(normalise(&["a"; 200].join(".")).is_err());
        assert_eq!(alias("My_db").unwrap(), "my_db");
    }
}

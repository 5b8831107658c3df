//! Names of things, checked once where they enter.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A name that breaks the rules of its kind; the text says which rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} name `{name}` {rule}")]
pub struct NameError {
    kind: &'static str,
    name: String,
    rule: &'static str,
}

/// Longest name of a project, container, network or volume, in bytes: a DNS label.
pub const NAME_MAX: usize = 63;

fn check(kind: &'static str, name: &str) -> Result<(), NameError> {
    let fail = |rule| {
        Err(NameError {
            kind,
            name: name.to_owned(),
            rule,
        })
    };
    if name.is_empty() {
        return fail("is empty");
    }
    if name.len() > NAME_MAX {
        return fail("is longer than 63 characters");
    }
    if !name
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.'))
    {
        return fail("may hold only a-z, 0-9, `-`, `_` and `.`");
    }
    // `project_name` names volumes and networks on the host; it must be plain where the project ends.
    if kind == "project" && name.contains('_') {
        return fail("may not hold `_`; write `-`");
    }
    if !name.as_bytes()[0].is_ascii_alphanumeric() {
        return fail("must begin with a letter or a digit");
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl FromStr for $type {
            type Err = NameError;
            fn from_str(name: &str) -> Result<Self, NameError> {
                check($kind, name)?;
                Ok(Self(name.to_owned()))
            }
        }
        impl TryFrom<String> for $type {
            type Error = NameError;
            fn try_from(name: String) -> Result<Self, NameError> {
                check($kind, &name)?;
                Ok(Self(name))
            }
        }
        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }
        impl Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// The name of a project: one `linkspan.yaml`.
    ProjectName, "project"
);
name!(
    /// The name of a container in its file (Compose says service).
    ContainerName, "container"
);
name!(
    /// The name of a network in its file.
    NetworkName, "network"
);
name!(
    /// The name of a volume in its file.
    VolumeName, "volume"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_a_slash_is_refused_with_the_rule() {
        let error = "a/b".parse::<ContainerName>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "container name `a/b` may hold only a-z, 0-9, `-`, `_` and `.`"
        );
    }

    #[test]
    fn a_name_may_not_begin_with_a_dash() {
        assert!("-a".parse::<NetworkName>().is_err());
        assert!("9a".parse::<NetworkName>().is_ok());
    }
}

//! Password files in the form of Apache's `htpasswd`: a user and the hash of a password on each line.
//!
//! Only hashes are taken that withstand somebody who has the file, or that are too common to be refused. Their cost is
//! bounded, for it is paid at every log-in.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

/// Most users of one file.
const MOST_USERS: usize = 10_000;
/// Longest name, in bytes.
const LONGEST_NAME: usize = 255;
/// Highest cost of bcrypt: about a second.
const BCRYPT_COST: u32 = 14;
/// Most memory that Argon2 may ask for, in KiB.
const ARGON2_MEMORY: u32 = 256 << 10;
/// Most passes over the memory.
const ARGON2_PASSES: u32 = 32;
/// Most lanes.
const ARGON2_LANES: u32 = 16;

/// The hash of a password. Shown nowhere.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PasswordHash {
    /// `$2y$10$…`.
    Bcrypt(String),
    /// `$argon2id$v=19$…`, as the PHC string format has it.
    Argon2(String),
    /// `$apr1$salt$…`: Apache's own, a thousand rounds of MD5.
    Apr1(String),
    /// The base64 in `{SHA}…`: SHA-1 without salt.
    Sha1(String),
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bcrypt(_) => "Bcrypt",
            Self::Argon2(_) => "Argon2",
            Self::Apr1(_) => "Apr1",
            Self::Sha1(_) => "Sha1",
        })
    }
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HtpasswdProblem {
    /// From 1.
    pub line: usize,
    /// Lower case, no full stop. Never holds any of a hash.
    pub message: String,
}

/// The users of a file by their names. Empty lines and lines that begin with `#` are passed over.
///
/// # Errors
/// All lines that can't be taken.
pub fn parse_htpasswd(text: &str) -> Result<BTreeMap<String, PasswordHash>, Vec<HtpasswdProblem>> {
    let text = text.strip_prefix('\u{FEFF}').unwrap_or(text);
    let mut users = BTreeMap::new();
    let mut problems = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim_end_matches([' ', '\t', '\r']);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut wrong = |message: String| {
            problems.push(HtpasswdProblem {
                line: index + 1,
                message,
            });
        };
        match user(line) {
            Ok((name, _)) if users.contains_key(&name) => wrong(format!("user `{name}` is there already")),
            Ok(_) if users.len() == MOST_USERS => {
                wrong(format!("more than {MOST_USERS} users"));
                break;
            }
            Ok((name, hash)) => {
                users.insert(name, hash);
            }
            Err(message) => wrong(message),
        }
    }
    if problems.is_empty() && users.is_empty() {
        problems.push(HtpasswdProblem {
            line: 1,
            message: "no user is in it".to_owned(),
        });
    }
    if problems.is_empty() {
        Ok(users)
    } else {
        Err(problems)
    }
}

fn user(line: &str) -> Result<(String, PasswordHash), String> {
    let (name, hash) = line
        .split_once(':')
        .ok_or("a line is `user:hash`, as `htpasswd -B` writes it")?;
    if name.is_empty() || name.len() > LONGEST_NAME || name.chars().any(char::is_control) {
        return Err("the user's name is empty, too long, or has control characters".to_owned());
    }
    let hash = self::hash(hash).map_err(|why| format!("the password of `{name}` {why}"))?;
    Ok((name.to_owned(), hash))
}

fn hash(text: &str) -> Result<PasswordHash, String> {
    if let Some(rest) = text.strip_prefix("{SHA}") {
        return match STANDARD.decode(rest) {
            Ok(digest) if digest.len() == 20 => Ok(PasswordHash::Sha1(rest.to_owned())),
            _ => Err("is no SHA-1 in base64".to_owned()),
        };
    }
    let mut parts = text.strip_prefix('$').unwrap_or_default().split('$');
    match parts.next() {
        Some("2" | "2a" | "2b" | "2x" | "2y") => bcrypt(text),
        Some("argon2id" | "argon2i" | "argon2d") => argon2(text),
        Some("apr1") => match (parts.next(), parts.next(), parts.next()) {
            (Some(salt), Some(digest), None)
                if (1..=8).contains(&salt.len())
                    && salt.is_ascii()
                    && digest.len() == 22
                    && crypt64(digest) =>
            {
                Ok(PasswordHash::Apr1(text.to_owned()))
            }
            _ => Err("is no `$apr1$salt$hash`".to_owned()),
        },
        _ => {
            Err("is not hashed by bcrypt, Argon2, apr1 or {SHA}: `htpasswd -B` makes one that is".to_owned())
        }
    }
}

fn bcrypt(text: &str) -> Result<PasswordHash, String> {
    const FORM: &str = "is no `$2y$cost$…` of bcrypt";
    let mut parts = text.split('$').skip(1);
    let (Some(version), Some(cost), Some(rest), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(FORM.to_owned());
    };
    if !matches!(version, "2a" | "2b" | "2y") {
        return Err("is hashed by a version of bcrypt that is known to be wrong".to_owned());
    }
    let digits = cost.len() == 2 && cost.bytes().all(|b| b.is_ascii_digit());
    let cost: u32 = cost.parse().ok().filter(|_| digits).ok_or(FORM)?;
    if rest.len() != 53 || !crypt64(rest) || cost < 4 {
        return Err(FORM.to_owned());
    }
    if cost > BCRYPT_COST {
        return Err(format!(
            "has bcrypt's cost {cost}: more than {BCRYPT_COST} would keep the proxy busy for too long"
        ));
    }
    Ok(PasswordHash::Bcrypt(text.to_owned()))
}

fn argon2(text: &str) -> Result<PasswordHash, String> {
    const FORM: &str = "is no `$argon2id$v=19$m=…,t=…,p=…$salt$hash`";
    let mut parts = text.split('$').skip(2);
    let (Some(version), Some(costs), Some(salt), Some(digest), None) = (
        parts.next(),
        parts.next(),
        parts.next(),
        parts.next(),
        parts.next(),
    ) else {
        return Err(FORM.to_owned());
    };
    let base64 = |text: &str| {
        text.bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/'))
    };
    if version != "v=19" || !(11..=64).contains(&salt.len()) || !(16..=86).contains(&digest.len()) {
        return Err(FORM.to_owned());
    }
    if !base64(salt) || !base64(digest) {
        return Err(FORM.to_owned());
    }
    let mut costs = costs.split(',');
    for (key, least, most) in [
        ("m", 8, ARGON2_MEMORY),
        ("t", 1, ARGON2_PASSES),
        ("p", 1, ARGON2_LANES),
    ] {
        let value = costs
            .next()
            .and_then(|cost| cost.strip_prefix(key)?.strip_prefix('='))
            .filter(|cost| cost.len() < 10 && cost.bytes().all(|b| b.is_ascii_digit()))
            .and_then(|cost| cost.parse::<u32>().ok())
            .ok_or(FORM)?;
        if !(least..=most).contains(&value) {
            return Err(format!(
                "has Argon2's cost {key}={value}: {least} to {most} are taken"
            ));
        }
    }
    match costs.next() {
        None => Ok(PasswordHash::Argon2(text.to_owned())),
        Some(_) => Err(FORM.to_owned()),
    }
}

/// The letters of crypt(3)'s base64, whatever their order.
fn crypt64(text: &str) -> bool {
    text.bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BCRYPT: &str = "$2y$05$bvIG6Nmid91Mu9RcmmWZfO5HJIMCT8riNW0hEp8f6/FuA2/mHZFpe";

    #[test]
    fn every_kind_of_hash_is_known_by_its_form() {
        let text = format!(
            "\u{FEFF}# people\n\nanna:{BCRYPT}\r\nbert:$apr1$TqI9WECO$LHZB2DqRlk9nObiB6vJG9.\ncleo:{{SHA}}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n\
            dora:$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$bm90IGEgcmVhbCBoYXNoIGJ1dCBsb25n\n"
        );
        let users = parse_htpasswd(&text).unwrap();
        assert_eq!(users.keys().collect::<Vec<_>>(), ["anna", "bert", "cleo", "dora"]);
        assert_eq!(users["anna"], PasswordHash::Bcrypt(BCRYPT.to_owned()));
        assert_eq!(
            format!("{users:?}"),
            r#"{"anna": Bcrypt, "bert": Apr1, "cleo": Sha1, "dora": Argon2}"#
        );
    }

    #[test]
    fn what_can_not_be_verified_or_costs_too_much_is_refused_without_showing_it() {
        let long = BCRYPT.replace("$05$", "$20$");
        for (line, message) in [
            ("anna", "a line is `user:hash`"),
            (":x", "the user's name is empty"),
            ("a:secret", "is not hashed by"),
            ("a:rqXexS6ZhobKA", "is not hashed by"),
            ("a:$6$salt$hash", "is not hashed by"),
            ("a:x$apr1$r31.....$HqJZimcKQFAMYayBlzkrA/", "is not hashed by"),
            ("a:{SHA}aGk=", "is no SHA-1"),
            ("a:$apr1$$x", "is no `$apr1$"),
            ("a:$2y$5$x", "is no `$2y$"),
            ("a:$2x$05$x", "known to be wrong"),
            (&format!("a:{long}"), "bcrypt's cost 20"),
            (
                "a:$argon2id$v=19$m=9999999,t=2,p=1$c2FsdHNhbHQ$bm90IGEgcmVhbCBoYXNo",
                "m=9999999",
            ),
            (
                "a:$argon2id$m=8,t=2,p=1$c2FsdHNhbHQ$bm90IGEgcmVhbCBoYXNo",
                "is no `$argon2id$",
            ),
            (&format!("a:{BCRYPT}\na:{BCRYPT}"), "`a` is there already"),
            ("# nobody", "no user"),
        ] {
            let problems = parse_htpasswd(line).unwrap_err();
            assert!(problems[0].message.contains(message), "{line}: {problems:?}");
            assert!(!problems[0].message.contains("secret"), "{problems:?}");
        }
    }
}

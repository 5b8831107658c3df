//! Users and passwords (RFC 7617), asked for before anything reaches the upstream.
//!
//! Hashes of passwords are slow on purpose, so no worker computes one: threads of their own do ([`verifier`]), and each
//! worker remembers who was right ([`Verified`]). What is remembered is a keyed digest of name, password and the hash in
//! the file, so that a password that was changed is asked for anew, and memory holds no password.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use linkspan_site::{BasicAuth, PasswordHash};
use sha2::{Digest, Sha256};

use crate::error::{Failure, Kind};
use verifier::Verifier;

pub(crate) mod verifier;
mod verify;

/// Log-ins that a worker remembers; then it begins anew.
const REMEMBERED: usize = 4096;
/// Longest password, in bytes: what is longer costs more to hash than anybody can type.
const LONGEST_PASSWORD: usize = 1024;

/// Who may use a route.
#[derive(Debug)]
pub(crate) struct Gate {
    challenge: HeaderValue,
    users: BTreeMap<String, PasswordHash>,
    /// Of all users', the hash that takes longest.
    slowest: Option<PasswordHash>,
    /// The upstream gets to see the password too.
    pub(crate) forwards: bool,
}

impl Gate {
    pub(crate) fn compile(auth: &BasicAuth) -> Self {
        let realm = auth.realm.replace('\\', "\\\\").replace('"', "\\\"");
        let challenge = HeaderValue::try_from(format!("Basic realm=\"{realm}\", charset=\"UTF-8\""))
            .unwrap_or_else(|_| HeaderValue::from_static("Basic realm=\"restricted\", charset=\"UTF-8\""));
        Self {
            challenge,
            slowest: auth.users.values().max_by_key(|hash| cost(hash)).cloned(),
            users: auth.users.clone(),
            forwards: auth.forward_authorization,
        }
    }

    /// The user who asks.
    pub(crate) async fn enter(
        &self,
        from: IpAddr,
        headers: &HeaderMap,
        verified: &Verified,
        verifier: &Verifier,
    ) -> Result<String, Failure> {
        let refused = || Failure::from(Kind::Unauthorized(self.challenge.clone()));
        let (user, password) = credentials(headers).ok_or_else(refused)?;
        let known = self.users.get(&user);
        // A name that isn't there takes as long as the slowest that is. In a file with hashes of several kinds those that are
        // quicker can still be told.
        let Some(hash) = known.or(self.slowest.as_ref()) else {
            return Err(refused());
        };
        let digest = verified.digest(&user, &password, hash);
        if known.is_some() && verified.knows(&digest) {
            return Ok(user);
        }
        let right = verifier
            .verify(from, hash.clone(), password)
            .await
            .ok_or(Kind::VerifierFull)?;
        if known.is_none() || !right {
            return Err(refused());
        }
        verified.remember(digest);
        Ok(user)
    }
}

/// Orders hashes by how long they take, roughly.
fn cost(hash: &PasswordHash) -> (u8, String) {
    match hash {
        PasswordHash::Sha1(_) => (0, String::new()),
        PasswordHash::Apr1(_) => (1, String::new()),
        // `$2y$12$…`: the cost has two digits.
        PasswordHash::Bcrypt(text) => (2, text.get(4..6).unwrap_or_default().to_owned()),
        PasswordHash::Argon2(_) => (3, String::new()),
    }
}

/// Name and password, if there is one `Authorization` and it is well-formed.
fn credentials(headers: &HeaderMap) -> Option<(String, Vec<u8>)> {
    let mut fields = headers.get_all(AUTHORIZATION).iter();
    let (field, None) = (fields.next()?, fields.next()) else {
        return None;
    };
    let (scheme, rest) = field.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = STANDARD.decode(rest.trim()).ok()?;
    let colon = decoded.iter().position(|b| *b == b':')?;
    let (user, password) = (&decoded[..colon], &decoded[colon + 1..]);
    let user = std::str::from_utf8(user).ok()?;
    (!user.is_empty() && password.len() <= LONGEST_PASSWORD).then(|| (user.to_owned(), password.to_vec()))
}

/// Who was right lately, as one worker knows it.
#[derive(Debug)]
pub(crate) struct Verified {
    key: [u8; 32],
    digests: RefCell<HashSet<[u8; 32]>>,
}

impl Verified {
    /// `random`: secret bytes of this process.
    pub(crate) fn new(random: [u8; 32]) -> Self {
        Self {
            key: random,
            digests: RefCell::default(),
        }
    }

    fn digest(&self, user: &str, password: &[u8], hash: &PasswordHash) -> [u8; 32] {
        let hash = match hash {
            PasswordHash::Bcrypt(text)
            | PasswordHash::Argon2(text)
            | PasswordHash::Apr1(text)
            | PasswordHash::Sha1(text) => text,
        };
        let mut digest = Sha256::new_with_prefix(self.key);
        for part in [user.as_bytes(), hash.as_bytes(), password] {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        digest.finalize().into()
    }

    fn knows(&self, digest: &[u8; 32]) -> bool {
        self.digests.borrow().contains(digest)
    }

    fn remember(&self, digest: [u8; 32]) {
        let mut digests = self.digests.borrow_mut();
        if digests.len() >= REMEMBERED {
            digests.clear();
        }
        digests.insert(digest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(value: &str) -> Option<(String, Vec<u8>)> {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::try_from(value).unwrap());
        credentials(&headers)
    }

    #[test]
    fn rfc_7617_section_2_the_first_colon_ends_the_name() {
        let pair = |user: &str, password: &str| Some((user.to_owned(), password.as_bytes().to_vec()));
        assert_eq!(
            given("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
            pair("Aladdin", "open sesame")
        );
        assert_eq!(given("basic YTpiOmM="), pair("a", "b:c"));
        assert_eq!(given("Basic YTo="), pair("a", ""));
        for wrong in [
            "Basic",
            "Basic x",
            "Basic OmI=",
            "Bearer YTpi",
            "Basic YQ==",
            "Basic //86Yg==",
        ] {
            assert_eq!(given(wrong), None, "{wrong}");
        }
        let mut twice = HeaderMap::new();
        for _ in 0..2 {
            twice.append(AUTHORIZATION, HeaderValue::from_static("Basic YTpi"));
        }
        assert_eq!(credentials(&twice), None);
    }

    #[test]
    fn who_was_right_with_another_password_or_hash_is_not_known() {
        let verified = Verified::new([7; 32]);
        let hash = |text: &str| PasswordHash::Sha1(text.to_owned());
        verified.remember(verified.digest("a", b"pw", &hash("x")));
        assert!(verified.knows(&verified.digest("a", b"pw", &hash("x"))));
        for other in [
            verified.digest("a", b"pw", &hash("y")),
            verified.digest("ap", b"w", &hash("x")),
            verified.digest("a", b"p", &hash("x")),
            Verified::new([8; 32]).digest("a", b"pw", &hash("x")),
        ] {
            assert!(!verified.knows(&other));
        }
        for n in 0..2 * REMEMBERED {
            verified.remember(verified.digest("a", &n.to_be_bytes(), &hash("x")));
        }
        assert!(verified.digests.borrow().len() <= REMEMBERED);
    }
}

//! Is this the password that was hashed? Slow, and the same time for every wrong one.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use linkspan_site::PasswordHash;
use md5::{Digest, Md5};
use sha1::Sha1;
use subtle::ConstantTimeEq;

/// False for a hash that is broken as well.
pub(super) fn is_right(hash: &PasswordHash, password: &[u8]) -> bool {
    match hash {
        PasswordHash::Bcrypt(text) => bcrypt::verify(password, text).unwrap_or(false),
        PasswordHash::Argon2(text) => argon2(text, password),
        PasswordHash::Apr1(text) => apr1(text, password),
        PasswordHash::Sha1(text) => {
            let made = STANDARD.encode(Sha1::digest(password));
            made.as_bytes().ct_eq(text.as_bytes()).into()
        }
    }
}

fn argon2(text: &str, password: &[u8]) -> bool {
    use argon2::password_hash::{PasswordHash, PasswordVerifier};
    PasswordHash::new(text)
        .is_ok_and(|hash| argon2::Argon2::default().verify_password(password, &hash).is_ok())
}

fn apr1(text: &str, password: &[u8]) -> bool {
    let mut parts = text.split('$').skip(2);
    let (Some(salt), Some(digest)) = (parts.next(), parts.next()) else {
        return false;
    };
    let made = apr1_digest(salt.as_bytes(), password);
    made.as_bytes().ct_eq(digest.as_bytes()).into()
}

/// Apache's variant of the MD5-based crypt(3), from `apr_md5_encode` in `crypto/apr_md5.c` of APR.
fn apr1_digest(salt: &[u8], password: &[u8]) -> String {
    let mut first = Md5::new();
    first.update(password);
    first.update(b"$apr1$");
    first.update(salt);
    let both = [password, salt, password].concat();
    let inner = Md5::digest(both);
    for chunk in password.chunks(inner.len()) {
        first.update(&inner[..chunk.len()]);
    }
    let mut left = password.len();
    while left > 0 {
        first.update(if left & 1 == 1 { &[0][..] } else { &password[..1] });
        left >>= 1;
    }
    let mut digest = first.finalize();
    for round in 0..1000 {
        let mut next = Md5::new();
        let odd = round & 1 == 1;
        next.update(if odd { password } else { &digest });
        if round % 3 != 0 {
            next.update(salt);
        }
        if round % 7 != 0 {
            next.update(password);
        }
        next.update(if odd { &digest } else { password });
        digest = next.finalize();
    }
    let mut out = String::with_capacity(22);
    for [a, b, c] in [[0, 6, 12], [1, 7, 13], [2, 8, 14], [3, 9, 15], [4, 10, 5]] {
        let bits = u32::from(digest[a]) << 16 | u32::from(digest[b]) << 8 | u32::from(digest[c]);
        crypt64(&mut out, bits, 4);
    }
    crypt64(&mut out, u32::from(digest[11]), 2);
    out
}

fn crypt64(out: &mut String, mut bits: u32, letters: usize) {
    const LETTERS: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    for _ in 0..letters {
        out.push(char::from(LETTERS[(bits & 63) as usize]));
        bits >>= 6;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by `openssl passwd -apr1`, `openssl dgst -sha1`, crypt(3) and the reference `argon2`.
    #[test]
    fn hashes_of_other_programs_are_verified() {
        let rows = [
            (
                PasswordHash::Apr1("$apr1$r31.....$HqJZimcKQFAMYayBlzkrA/".into()),
                "myPassword",
            ),
            (
                PasswordHash::Apr1("$apr1$TqI9WECO$zSVeVSnHY2AfaGp7m5OzZ/".into()),
                "a password that is longer than sixteen bytes",
            ),
            (PasswordHash::Apr1("$apr1$ab$S8K6Sgp3W8c9Jb6LxgywZ.".into()), ""),
            (
                PasswordHash::Sha1("W6ph5Mm5Pz8GgiULbPgzG37mj9g=".into()),
                "password",
            ),
            (
                PasswordHash::Bcrypt("$2y$05$abcdefghijklmnopqrstuugwV8qBBvnFAgKU/1lAQTjzoU4mNz2BW".into()),
                "myPassword",
            ),
            (
                PasswordHash::Argon2(
                    "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4"
                        .into(),
                ),
                "password",
            ),
        ];
        for (hash, password) in rows {
            assert!(is_right(&hash, password.as_bytes()), "{hash:?} of `{password}`");
            for wrong in [format!("{password}x"), password.to_uppercase() + "y"] {
                assert!(!is_right(&hash, wrong.as_bytes()), "{hash:?} of `{wrong}`");
            }
        }
        assert!(!is_right(&PasswordHash::Bcrypt("$2y$05$x".into()), b""));
        assert!(!is_right(&PasswordHash::Argon2("$argon2id$".into()), b""));
    }
}

//! Any text as a file of users: no panic, what is accepted is bounded, and no problem tells a password.
#![no_main]

use libfuzzer_sys::fuzz_target;
use linkspan_site::{PasswordHash, parse_htpasswd};

fuzz_target!(|text: &str| {
    match parse_htpasswd(text) {
        Ok(users) => {
            assert!(!users.is_empty());
            for (name, hash) in &users {
                assert!(!name.is_empty() && !name.contains([':', '\n']));
                let (PasswordHash::Bcrypt(hash)
                | PasswordHash::Argon2(hash)
                | PasswordHash::Apr1(hash)
                | PasswordHash::Sha1(hash)) = hash;
                assert!(hash.is_ascii() && text.contains(hash));
            }
            assert_eq!(parse_htpasswd(&text.replace('\n', "\r\n")).as_ref(), Ok(&users));
        }
        Err(problems) => {
            let lines = text.lines().count().max(1);
            assert!(!problems.is_empty() && problems.iter().all(|problem| (1..=lines).contains(&problem.line)));
        }
    }
});

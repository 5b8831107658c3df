//! The rules, one row each: which, what is sent, and what is right.

mod answers;
mod bodies;
mod chunks;
mod fields;
mod framing;
mod http2;
mod interim;
mod targets;
mod upgrades;

use crate::subject::Subject;

/// One rule and how it is probed.
pub(crate) struct Row {
    /// The section that it is from.
    pub(crate) rule: &'static str,
    /// What is sent.
    pub(crate) probe: &'static str,
    /// What is right; where the standard leaves a choice, any of these.
    pub(crate) right: &'static [&'static str],
    pub(crate) ask: Ask,
}

pub(crate) enum Ask {
    /// Bytes that a client must not get away with.
    Refused(Vec<u8>),
    /// Bytes that an origin must not get away with.
    Answered(Vec<u8>),
    /// All else. An error is what came where something else had to come first.
    Check(fn(&Subject) -> Result<String, String>),
}

impl Row {
    /// What this subject does.
    pub(crate) fn probe(&self, subject: &Subject) -> String {
        match &self.ask {
            Ask::Refused(bytes) => subject.refused(bytes),
            Ask::Answered(bytes) => subject.answered(bytes),
            Ask::Check(check) => check(subject).unwrap_or_else(|instead| instead),
        }
    }

    pub(crate) fn is_right(&self, told: &str) -> bool {
        self.right.contains(&told)
    }

    /// As a test's name.
    pub(crate) fn name(&self) -> String {
        let side = match self.ask {
            Ask::Answered(_) => " in a response",
            Ask::Refused(_) | Ask::Check(_) => "",
        };
        let words = format!("{} {}{side}", self.rule.replace('§', "section "), self.probe);
        let mut name = String::new();
        for c in words.chars() {
            if c.is_ascii_alphanumeric() {
                name.push(c.to_ascii_lowercase());
            } else if !name.ends_with('_') {
                name.push('_');
            }
        }
        name.trim_end_matches('_').to_owned()
    }
}

/// All of them, by what they are about.
pub(crate) fn all() -> Vec<(&'static str, Vec<Row>)> {
    vec![
        ("Heads that can be read in two ways", framing::rows()),
        ("Chunks", chunks::rows()),
        ("Targets and methods", targets::rows()),
        ("Fields", fields::rows()),
        ("Informational responses", interim::rows()),
        ("Upgrades", upgrades::rows()),
        ("Responses that can be read in two ways", answers::rows()),
        ("Bodies and connections", bodies::rows()),
        ("HTTP/2", http2::rows()),
    ]
}

fn row(rule: &'static str, probe: &'static str, right: &'static [&'static str], ask: Ask) -> Row {
    Row {
        rule,
        probe,
        right,
        ask,
    }
}

/// A request that is to be refused with 400, its connection closed.
fn refused(rule: &'static str, probe: &'static str, bytes: impl Into<Vec<u8>>) -> Row {
    row(rule, probe, &["400, close"], Ask::Refused(bytes.into()))
}

fn check(
    rule: &'static str,
    probe: &'static str,
    right: &'static [&'static str],
    check: fn(&Subject) -> Result<String, String>,
) -> Row {
    row(rule, probe, right, Ask::Check(check))
}

/// A GET with these fields, each with its CR LF.
fn get(fields: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n")
}

/// A POST with these fields and body.
fn post(fields: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n{body}")
}

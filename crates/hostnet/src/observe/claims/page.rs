//! One file of somebody's, while it is read.

use std::fmt::Display;

use ipnetwork::IpNetwork;

use super::Found;
use super::range::{address, range};
use crate::Claim;

/// A file that is wrong throughout is not worth more lines than this.
const MOST_NOTES: usize = 8;

/// What a file says, and what was made of it so far.
#[derive(Debug)]
pub(super) struct Page<'a> {
    path: &'a str,
    pub(super) text: &'a str,
    found: Found,
}

/// Takes from a file what claims ranges.
pub(super) type Reader = fn(&mut Page<'_>);

impl<'a> Page<'a> {
    /// Reads `text`, which people know as `path`.
    pub(super) fn read(path: &'a str, text: &'a str, reader: Reader) -> Found {
        let mut page = Self {
            path,
            text,
            found: Found::default(),
        };
        reader(&mut page);
        page.found
    }

    /// Somebody writes that `who` uses a range, which must be one.
    pub(super) fn claim(&mut self, line: impl Into<Option<usize>>, who: impl Display, text: &str) {
        let line = line.into();
        match range(text) {
            Some(range) => self.add(line, who, range),
            None => self.note(line, format_args!("`{text}` is no address range")),
        }
    }

    /// `who` uses a range.
    pub(super) fn add(&mut self, line: impl Into<Option<usize>>, who: impl Display, range: IpNetwork) {
        let claim = self.claim_of(line.into(), who, range);
        self.found.add(claim);
    }

    /// A range that does not count, whatever it is.
    pub(super) fn disregard(
        &mut self,
        line: impl Into<Option<usize>>,
        who: impl Display,
        text: &str,
        reason: &'static str,
    ) {
        let line = line.into();
        match range(text) {
            Some(range) => {
                let claim = self.claim_of(line, who, range);
                self.found.disregard(claim, reason);
            }
            None => self.note(line, format_args!("`{text}` is no address range")),
        }
    }

    /// A name server, where one of these may be something else.
    pub(super) fn name_server(&mut self, line: impl Into<Option<usize>>, text: &str) {
        if let Some(ip) = address(text) {
            self.add(line, "name server", ip.into());
        }
    }

    /// Something here can't be understood.
    pub(super) fn note(&mut self, line: impl Into<Option<usize>>, problem: impl Display) {
        let place = self.place(line.into());
        let notes = &mut self.found.notes;
        match notes.len() {
            MOST_NOTES => notes.push(format!("{}: and more of that kind", self.path)),
            known if known < MOST_NOTES => notes.push(format!("{place}: {problem}")),
            _ => {}
        }
    }

    fn claim_of(&self, line: Option<usize>, who: impl Display, range: IpNetwork) -> Claim {
        Claim {
            range,
            source: format!("{who} in {}", self.place(line)),
        }
    }

    fn place(&self, line: Option<usize>) -> String {
        match line {
            Some(line) => format!("{}:{line}", self.path),
            None => self.path.to_owned(),
        }
    }
}

/// What a reader makes of a file, a line each, to be compared.
#[cfg(test)]
pub(super) fn told(path: &str, text: &str, reader: Reader) -> Vec<String> {
    let found = Page::read(path, text, reader);
    let counts = found
        .claims
        .iter()
        .map(|claim| format!("{} {}", claim.range, claim.source));
    let not = found
        .disregarded
        .iter()
        .map(|(claim, reason)| format!("not {} {}: {reason}", claim.range, claim.source));
    let notes = found.notes.iter().map(|note| format!("! {note}"));
    counts.chain(not).chain(notes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_wrong_throughout_is_told_in_a_few_lines() {
        let found = told("/etc/x", "", |page| {
            for line in 1..=100 {
                page.claim(line, "route", "rubbish");
            }
        });
        assert_eq!(found.len(), 9);
        assert_eq!(found[0], "! /etc/x:1: `rubbish` is no address range");
        assert_eq!(found[8], "! /etc/x: and more of that kind");
    }
}

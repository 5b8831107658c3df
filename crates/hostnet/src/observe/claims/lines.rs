//! What most of these files have in common: lines that go on after a backslash, and sections of keys and values.

use std::borrow::Cow;

/// Lines without what surrounds them, numbered from 1; one that ends in a backslash goes on in the next. Empty ones and
/// those that begin with `#` or `;` are left out.
pub(super) fn lines(text: &str) -> impl Iterator<Item = (usize, Cow<'_, str>)> {
    let mut rest = text.lines().enumerate();
    let joined = std::iter::from_fn(move || {
        let (index, line) = rest.next()?;
        let mut line = Cow::Borrowed(line.trim());
        while !is_comment(&line) && line.ends_with('\\') {
            let owned = line.to_mut();
            owned.pop();
            let Some((_, next)) = rest.next() else { break };
            owned.push(' ');
            owned.push_str(next.trim());
        }
        Some((index + 1, line))
    });
    joined.filter(|(_, line)| !line.is_empty() && !is_comment(line))
}

fn is_comment(line: &str) -> bool {
    line.starts_with(['#', ';'])
}

/// A line `key = value` of a section.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    pub(super) line: usize,
    /// Without brackets; empty before the first.
    pub(super) section: Cow<'a, str>,
    pub(super) key: String,
    /// Without a comment behind it.
    pub(super) value: String,
}

impl Entry<'_> {
    /// Is it this key of this section? Capitals don't matter.
    pub(super) fn is(&self, section: &str, key: &str) -> bool {
        self.section.eq_ignore_ascii_case(section) && self.key.eq_ignore_ascii_case(key)
    }

    /// The parts of a value that is a list.
    pub(super) fn list(&self) -> impl Iterator<Item = &str> {
        self.value
            .split([',', ';', ' ', '\t'])
            .filter(|part| !part.is_empty())
    }
}

/// The entries of a file of sections: `[Section]`, `key = value`, comments.
pub(super) fn entries(text: &str) -> impl Iterator<Item = Entry<'_>> {
    let mut section = Cow::Borrowed("");
    lines(text).filter_map(move |(line, text)| {
        if let Some(name) = text.strip_prefix('[') {
            section = Cow::Owned(name.split(']').next().unwrap_or_default().trim().to_owned());
            return None;
        }
        let (key, value) = text.split_once('=')?;
        // No value that matters here holds a `#`.
        let value = value.split('#').next().unwrap_or_default();
        Some(Entry {
            line,
            section: section.clone(),
            key: key.trim().to_owned(),
            value: value.trim().to_owned(),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_goes_on_after_a_backslash_and_keeps_its_number() {
        let text = "a\n# b \\\n  c \\\n  d\n\n;e\nf\\";
        let found: Vec<_> = lines(text).collect();
        assert_eq!(found, [(1, "a".into()), (3, "c  d".into()), (7, "f".into())]);
    }

    #[test]
    fn sections_hold_keys() {
        let text = "x=0\n[Peer]\nAllowedIPs = 10.0.0.0/8 , fd00::/8 # both\nno value\n [ Other ] \nKey=\n";
        let found: Vec<_> = entries(text)
            .map(|entry| format!("{} {} {}={}", entry.line, entry.section, entry.key, entry.value))
            .collect();
        assert_eq!(
            found,
            [
                "1  x=0",
                "3 Peer AllowedIPs=10.0.0.0/8 , fd00::/8",
                "6 Other Key="
            ]
        );
        let peer = entries(text).nth(1).unwrap();
        assert!(peer.is("peer", "allowedips"));
        assert_eq!(peer.list().collect::<Vec<_>>(), ["10.0.0.0/8", "fd00::/8"]);
    }
}

//! Lines and columns of a text, as YAML counts them.

use saphyr_parser::Marker;

use crate::Span;

/// A text as lines.
pub(super) struct Lines<'t>(Vec<&'t str>);

impl<'t> Lines<'t> {
    /// As YAML breaks lines: `\n`, `\r\n` and `\r`.
    pub(super) fn of(text: &'t str) -> Self {
        let mut lines = Vec::new();
        for line in text.split('\n') {
            lines.extend(line.strip_suffix('\r').unwrap_or(line).split('\r'));
        }
        Self(lines)
    }

    /// The first tab in the indentation of a line.
    pub(super) fn tab(&self, line: usize) -> Option<Span> {
        let text = self.0.get(line.checked_sub(1)?)?;
        let indent: Vec<char> = text.chars().take_while(|c| matches!(c, ' ' | '\t')).collect();
        let column = indent.iter().position(|c| *c == '\t')?;
        let tabs = indent[column..].iter().take_while(|c| **c == '\t').count();
        Some(Span {
            line: clamp(line),
            column: clamp(column + 1),
            length: clamp(tabs),
        })
    }

    /// From `start` to `end`, or to the end of the first line.
    pub(super) fn stretch(&self, start: Marker, end: Marker) -> Span {
        let length = if end.line() == start.line() {
            end.col().saturating_sub(start.col())
        } else {
            let line = self
                .0
                .get(start.line().saturating_sub(1))
                .copied()
                .unwrap_or_default();
            line.trim_end().chars().count().saturating_sub(start.col())
        };
        Span {
            line: clamp(start.line().max(1)),
            column: clamp(start.col() + 1),
            length: clamp(length.max(1)),
        }
    }
}

/// Where the text after `before` stands.
pub(super) fn position(before: &[u8]) -> Span {
    let text = String::from_utf8_lossy(before);
    let unix = text.replace("\r\n", "\n").replace('\r', "\n");
    let line = unix.matches('\n').count() + 1;
    let column = unix
        .rsplit('\n')
        .next()
        .unwrap_or_default()
        .trim_start_matches('\u{FEFF}')
        .chars()
        .count()
        + 1;
    Span {
        line: clamp(line),
        column: clamp(column),
        length: 1,
    }
}

pub(super) fn clamp(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

//! What is wrong with a file, where, and what to do about it; drawn as people know it from rustc.

use std::fmt::{self, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::suggest;

/// A stretch of one line: where a key or value stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Span {
    /// From 1.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
    /// In characters; at least 1, within the line.
    pub length: u32,
}

/// One thing wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// From 1.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
    /// How many characters are underlined; at least 1.
    pub length: u32,
    /// What is wrong: lower case, no full stop.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The other place that this one clashes with.
    pub related: Option<Related>,
}

/// A second place that a [`Problem`] speaks of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Related {
    /// Where.
    pub span: Span,
    /// What is there.
    pub message: String,
}

/// Everything wrong with a file, in the order of its lines; never empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problems(pub Vec<Problem>);

/// A longer list is cut when drawn; nobody reads on.
const MOST_DRAWN: usize = 100;
/// A longer line is drawn in part.
const WIDEST: usize = 140;
/// A longer message is cut.
const LONGEST_MESSAGE: usize = 400;

impl Problem {
    pub(crate) fn new(span: Span, message: impl Into<String>) -> Self {
        Self {
            line: span.line.max(1),
            column: span.column.max(1),
            length: span.length.max(1),
            message: message.into(),
            hint: None,
            related: None,
        }
    }

    /// Says what to do.
    pub(crate) fn hint(&mut self, hint: impl Into<String>) -> &mut Self {
        self.hint = Some(hint.into());
        self
    }

    /// Points at the other place.
    pub(crate) fn related(&mut self, span: Span, message: impl Into<String>) -> &mut Self {
        self.related = Some(Related {
            span,
            message: message.into(),
        });
        self
    }

    /// Where it is.
    pub fn span(&self) -> Span {
        Span {
            line: self.line,
            column: self.column,
            length: self.length,
        }
    }

    /// Draws it with the line it is on. `text` is what was parsed; `file` is only shown.
    pub fn render(&self, file: &Path, text: &[u8]) -> String {
        let mut out = String::new();
        self.draw(&mut out, file, &Lines::of(text));
        out
    }

    fn draw(&self, out: &mut String, file: &Path, lines: &Lines<'_>) {
        // Writing to a String can't fail.
        let _ = writeln!(out, "error: {}", printable(&self.message, LONGEST_MESSAGE));
        let last = self
            .related
            .as_ref()
            .map_or(self.line, |other| other.span.line.max(self.line));
        let margin = last.to_string().len();
        let _ = writeln!(
            out,
            "{:margin$}--> {}:{}:{}",
            "",
            file.display(),
            self.line,
            self.column
        );
        lines.draw(out, margin, self.span(), "");
        if let Some(other) = &self.related {
            let _ = writeln!(out, "{:margin$}::: line {}", "", other.span.line);
            lines.draw(out, margin, other.span, &other.message);
        }
        if let Some(hint) = &self.hint {
            let _ = writeln!(out, "{:margin$} = help: {}", "", printable(hint, LONGEST_MESSAGE));
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "line {}, column {}: {}",
            self.line,
            self.column,
            printable(&self.message, LONGEST_MESSAGE)
        )?;
        match &self.hint {
            Some(hint) => write!(f, " ({})", printable(hint, LONGEST_MESSAGE)),
            None => Ok(()),
        }
    }
}

impl Problems {
    /// Draws all of them, one after the other with an empty line between; `text` is what was parsed.
    pub fn render(&self, file: &Path, text: &[u8]) -> String {
        let lines = Lines::of(text);
        let mut out = String::new();
        for (index, problem) in self.0.iter().take(MOST_DRAWN).enumerate() {
            if index > 0 {
                out.push('\n');
            }
            problem.draw(&mut out, file, &lines);
        }
        if self.0.len() > MOST_DRAWN {
            let _ = writeln!(out, "\n… and {} more", self.0.len() - MOST_DRAWN);
        }
        out
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().take(MOST_DRAWN).enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Collects problems, so that all are told at once.
#[derive(Debug, Default)]
pub(crate) struct Report {
    problems: Vec<Problem>,
}

/// Beyond so many problems no names are compared any more: a hostile file would make that quadratic.
const MOST_SUGGESTIONS: usize = 100;

impl Report {
    /// Notes a problem.
    pub(crate) fn at(&mut self, span: Span, message: impl Into<String>) -> &mut Problem {
        let index = self.problems.len();
        self.problems.push(Problem::new(span, message));
        &mut self.problems[index]
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// The candidate that `name` was probably meant to be.
    pub(crate) fn nearest<'c>(
        &self,
        name: &str,
        candidates: impl IntoIterator<Item = &'c str>,
    ) -> Option<&'c str> {
        if self.problems.len() > MOST_SUGGESTIONS {
            return None;
        }
        suggest::nearest(name, candidates)
    }

    /// The problems in the order of the file, each once (an alias repeats what is wrong at its anchor).
    pub(crate) fn finish(self) -> Problems {
        let mut problems = self.problems;
        problems.sort_by(|a, b| (a.line, a.column, &a.message).cmp(&(b.line, b.column, &b.message)));
        problems.dedup_by(|a, b| (a.line, a.column, &a.message) == (b.line, b.column, &b.message));
        Problems(problems)
    }
}

/// A text as lines, broken where YAML breaks them.
struct Lines<'t>(Vec<&'t [u8]>);

impl<'t> Lines<'t> {
    fn of(text: &'t [u8]) -> Self {
        let text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text);
        let mut lines = Vec::new();
        let mut start = 0;
        let mut at = 0;
        while at < text.len() {
            if text[at] == b'\n' || text[at] == b'\r' {
                lines.push(&text[start..at]);
                if text[at] == b'\r' && text.get(at + 1) == Some(&b'\n') {
                    at += 1;
                }
                start = at + 1;
            }
            at += 1;
        }
        lines.push(&text[start..]);
        Self(lines)
    }

    /// `4 |     imgae: x` and the underline below it.
    fn draw(&self, out: &mut String, margin: usize, span: Span, label: &str) {
        let line = self
            .0
            .get(span.line.saturating_sub(1) as usize)
            .copied()
            .unwrap_or_default();
        let column = span.column.saturating_sub(1) as usize;
        let line: Vec<char> = shown(line, column + WIDEST);
        let from = if column + 20 > WIDEST { column - 40 } else { 0 };
        let upto = line.len().min(from + WIDEST);
        let cut: String = line.get(from..upto).unwrap_or_default().iter().collect();
        let room = (upto.saturating_sub(column)).max(1);
        let length = (span.length as usize).clamp(1, room);
        let (before, after) = (
            if from > 0 { "…" } else { "" },
            if upto < line.len() { "…" } else { "" },
        );
        let indent = column - from + before.chars().count();
        let _ = writeln!(out, "{:margin$} |", "");
        let drawn = format!("{:>margin$} | {before}{cut}{after}", span.line);
        let _ = writeln!(out, "{}", drawn.trim_end());
        let under = format!(
            "{:margin$} | {:indent$}{} {}",
            "",
            "",
            "^".repeat(length),
            printable(label, WIDEST)
        );
        let _ = writeln!(out, "{}", under.trim_end());
    }
}

/// The first `most` characters (and a few) of a line, with a tab visible and nothing that a terminal obeys.
fn shown(line: &[u8], most: usize) -> Vec<char> {
    // A character has four bytes at most, so this holds enough of them, however long the line is.
    let line = &line[..line.len().min((most + 1) * 4)];
    String::from_utf8_lossy(line)
        .chars()
        .map(|c| if c == '\t' { '→' } else { harmless(c) })
        .collect()
}

/// Cut to `most` characters, with nothing that a terminal obeys.
fn printable(text: &str, most: usize) -> String {
    let mut out: String = text.chars().take(most).map(harmless).collect();
    if out.len() < text.len() && text.chars().nth(most).is_some() {
        out.push('…');
    }
    out
}

fn harmless(c: char) -> char {
    // Bidirectional overrides can make a line read as something else.
    if c.is_control() || matches!(c, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}') {
        '\u{FFFD}'
    } else {
        c
    }
}

/// A text in backticks for a message, cut where it gets long.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::from("`");
    out.extend(text.chars().take(80));
    if text.chars().nth(80).is_some() {
        out.push('…');
    }
    out.push('`');
    out
}

//! Standard output and error: pipes that close, colours, width, and text that comes from others.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};

use anyhow::Context;

/// Whoever read our standard output went away.
#[derive(Debug, thiserror::Error)]
#[error("standard output was closed")]
pub(crate) struct Closed;

/// Writes to standard output. [`Closed`] when nobody reads any more.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    print_bytes(text.as_bytes())
}

/// [`print()`] for what need not be text.
pub(crate) fn print_bytes(bytes: &[u8]) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Closed.into()),
        result => result.context("cannot write to standard output"),
    }
}

/// Prints a value as JSON, indented, with a line end.
pub(crate) fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    print(&format!("{}\n", serde_json::to_string_pretty(value)?))
}

/// A line on standard error; there is nobody left to tell when that fails.
pub(crate) fn complain(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// [`complain`] for what need not be text, as it is.
pub(crate) fn complain_bytes(bytes: &[u8]) {
    let mut err = io::stderr().lock();
    let _ = err.write_all(bytes).and_then(|()| err.flush());
}

/// Rows and columns of the terminal that is standard output, or else standard error or input.
pub(crate) fn size() -> Option<(u16, u16)> {
    let sizes = [
        rustix::termios::tcgetwinsize(io::stdout()),
        rustix::termios::tcgetwinsize(io::stderr()),
        rustix::termios::tcgetwinsize(io::stdin()),
    ];
    sizes
        .into_iter()
        .flatten()
        .map(|size| (size.ws_row, size.ws_col))
        .find(|(rows, columns)| *rows > 0 && *columns > 0)
}

/// Colours, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Paint(bool);

/// The few colours in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colour {
    Red,
    Green,
    Yellow,
    Dim,
}

impl Paint {
    /// No colours.
    #[cfg(test)]
    pub(crate) const PLAIN: Self = Self(false);
    /// Colours, whatever we write to.
    #[cfg(test)]
    pub(crate) const ALWAYS: Self = Self(true);

    /// Colours if `to` is a terminal, and nobody asked for none (<https://no-color.org>).
    pub(crate) fn for_stream(to: &impl IsTerminal) -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self(to.is_terminal() && !refused && !dumb)
    }

    pub(crate) fn paint(self, colour: Colour, text: &str) -> Cow<'_, str> {
        if !self.0 || text.is_empty() {
            return Cow::Borrowed(text);
        }
        let code = match colour {
            Colour::Red => "31",
            Colour::Green => "32",
            Colour::Yellow => "33",
            Colour::Dim => "2",
        };
        Cow::Owned(format!("\x1b[{code}m{text}\x1b[0m"))
    }
}

/// Text from a file, an image or a program, with nothing in it that a terminal would obey.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(
        text.chars()
            .flat_map(|c| {
                let (escaped, plain) = if c.is_control() {
                    (Some(c.escape_default()), None)
                } else {
                    (None, Some(c))
                };
                escaped.into_iter().flatten().chain(plain)
            })
            .collect(),
    )
}

/// At most so many characters; the last one is `…` when some were left out.
pub(crate) fn cut(text: &str, most: usize) -> Cow<'_, str> {
    if text.chars().count() <= most {
        return Cow::Borrowed(text);
    }
    let mut short: String = text.chars().take(most.saturating_sub(1)).collect();
    if most > 0 {
        short.push('…');
    }
    Cow::Owned(short)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_move_the_cursor() {
        assert_eq!(clean("web\x1b[2J\n"), "web\\u{1b}[2J\\n");
        assert_eq!(clean("wéb"), "wéb");
    }

    #[test]
    fn cutting_counts_characters_not_bytes() {
        assert_eq!(cut("äöü", 3), "äöü");
        assert_eq!(cut("äöüß", 3), "äö…");
        assert_eq!(cut("a", 0), "");
    }

    #[test]
    fn colours_only_where_they_are_wanted() {
        assert_eq!(Paint::PLAIN.paint(Colour::Red, "no"), "no");
        assert_eq!(Paint::ALWAYS.paint(Colour::Red, "no"), "\x1b[31mno\x1b[0m");
    }
}

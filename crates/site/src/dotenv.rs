//! `.env` and `env_file` texts, by Compose's rules.
//!
//! See <https://docs.docker.com/compose/how-tos/environment-variables/variable-interpolation/#env-file-syntax>:
//! `#` begins a comment at the start of a line or after a space; `export` is allowed; `'…'` is taken as it is, over several
//! lines if need be; `"…"` knows `\n`, `\t`, `\r`, `\"`, `\\`, `\$`; in unquoted and double-quoted values variables are put
//! in, from the lines above first. Only one thing differs: a variable that is set nowhere and has no default is an error.

use std::collections::{BTreeMap, BTreeSet};

use crate::interpolate;
use crate::problem::Report;
use crate::{Problems, Span};

/// The variables that a `.env` or `env_file` text sets, interpolated among themselves. See [`parse_dotenv_with`].
///
/// # Errors
/// All problems of the text, with line and column in it.
pub fn parse_dotenv(text: &str) -> Result<BTreeMap<String, String>, Problems> {
    parse_dotenv_with(text, &BTreeMap::new())
}

/// As [`parse_dotenv`], where values may also name `variables`. A name without `=` takes its value from there, or is left out.
///
/// # Errors
/// All problems of the text, with line and column in it.
pub fn parse_dotenv_with(
    text: &str,
    variables: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, Problems> {
    let mut report = Report::default();
    let mut found = BTreeMap::new();
    let mut known = variables.clone();
    for Line { name, value, at } in lines(text, &mut report) {
        let value = match value {
            Some(Raw { text, literal: true }) => text,
            Some(Raw { text, literal: false }) => match interpolate::interpolate(&text, &known) {
                Ok(value) => value,
                Err(error) => {
                    report
                        .at(at, format!("`{name}`: {error}"))
                        .hint("put it in single quotes, or write `$$` for a dollar sign");
                    continue;
                }
            },
            None => match variables.get(&name) {
                Some(value) => value.clone(),
                None => continue,
            },
        };
        known.insert(name.clone(), value.clone());
        found.insert(name, value);
    }
    if report.is_empty() {
        Ok(found)
    } else {
        Err(report.finish())
    }
}

/// The variables that a `.env` or `env_file` text names without setting them above.
pub fn dotenv_references(text: &str) -> BTreeSet<String> {
    let mut report = Report::default();
    let mut set = BTreeSet::new();
    let mut names = BTreeSet::new();
    for Line { name, value, .. } in lines(text, &mut report) {
        match value {
            Some(Raw { text, literal: false }) => {
                names.extend(
                    interpolate::text_names(&text)
                        .into_iter()
                        .filter(|name| !set.contains(name)),
                );
            }
            Some(_) => {}
            None => {
                names.insert(name.clone());
            }
        }
        set.insert(name);
    }
    names
}

struct Line {
    name: String,
    /// `None` for a name alone.
    value: Option<Raw>,
    at: Span,
}

struct Raw {
    text: String,
    /// Single quoted: no variables.
    literal: bool,
}

fn lines(text: &str, report: &mut Report) -> Vec<Line> {
    let text = text
        .strip_prefix('\u{FEFF}')
        .unwrap_or(text)
        .replace("\r\n", "\n");
    let mut found = Vec::new();
    let mut rest = text.as_str();
    let mut number = 1;
    while !rest.is_empty() {
        let before = rest;
        let end = rest.find('\n').unwrap_or(rest.len());
        let line = &rest[..end];
        let length = u32::try_from(line.trim_end().chars().count()).unwrap_or(u32::MAX);
        let at = Span {
            line: number,
            column: 1,
            length: length.max(1),
        };
        rest = rest.get(end + 1..).unwrap_or_default();
        let statement = line.trim_start();
        if !(statement.is_empty() || statement.starts_with('#')) {
            let from = &before[line.len() - statement.len()..];
            match statement_of(from) {
                Ok((name, value, tail)) => {
                    found.push(Line { name, value, at });
                    rest = tail;
                }
                Err(message) => {
                    report.at(at, message).hint("a line is `NAME=value`");
                }
            }
        }
        number +=
            u32::try_from(before[..before.len() - rest.len()].matches('\n').count()).unwrap_or(u32::MAX);
    }
    found
}

type Statement<'t> = (String, Option<Raw>, &'t str);

/// Name, value, and what follows the end of the line.
fn statement_of(text: &str) -> Result<Statement<'_>, String> {
    let text = match text.strip_prefix("export") {
        Some(rest) if rest.starts_with([' ', '\t']) => rest.trim_start_matches([' ', '\t']),
        _ => text,
    };
    let end = text.find(['=', '\n', '#', ':']).unwrap_or(text.len());
    let name = text[..end].trim_end();
    if name.is_empty() {
        return Err("a name is missing before `=`".to_owned());
    }
    if !name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
    {
        return Err(format!(
            "{} is no name of a variable",
            crate::problem::quoted(name)
        ));
    }
    let rest = &text[end..];
    let Some(rest) = rest.strip_prefix(['=', ':']) else {
        let tail = rest.find('\n').map_or("", |end| &rest[end + 1..]);
        return Ok((name.to_owned(), None, tail));
    };
    let rest = rest.trim_start_matches([' ', '\t']);
    let (value, tail) = match rest.chars().next() {
        Some('\'') => {
            let close = rest[1..]
                .find('\'')
                .ok_or_else(|| format!("the quote of `{name}` is not closed"))?;
            (
                Raw {
                    text: rest[1..=close].to_owned(),
                    literal: true,
                },
                &rest[close + 2..],
            )
        }
        Some('"') => {
            double_quoted(&rest[1..]).ok_or_else(|| format!("the quote of `{name}` is not closed"))?
        }
        _ => {
            let end = rest.find('\n').unwrap_or(rest.len());
            let line = &rest[..end];
            let comment = line
                .char_indices()
                .position(|(at, c)| c == '#' && (at == 0 || line[..at].ends_with([' ', '\t'])));
            let value = match comment {
                Some(index) => line.char_indices().nth(index).map_or(line, |(at, _)| &line[..at]),
                None => line,
            };
            (
                Raw {
                    text: value.trim_end().to_owned(),
                    literal: false,
                },
                &rest[end..],
            )
        }
    };
    // After a closing quote only a comment may follow.
    let end = tail.find('\n').unwrap_or(tail.len());
    let after = tail[..end].trim();
    if !(after.is_empty() || after.starts_with('#')) {
        return Err(format!("something follows the closing quote of `{name}`"));
    }
    Ok((
        name.to_owned(),
        Some(value),
        tail.get(end + 1..).unwrap_or_default(),
    ))
}

/// The value up to the closing quote, and what follows that.
fn double_quoted(text: &str) -> Option<(Raw, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => {
                return Some((
                    Raw {
                        text: value,
                        literal: false,
                    },
                    &text[at + 1..],
                ));
            }
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                't' => value.push('\t'),
                'r' => value.push('\r'),
                '"' => value.push('"'),
                '\\' => value.push('\\'),
                // Doubled, so that it is a dollar sign once variables are put in.
                '$' => value.push_str("$$"),
                c => value.extend(['\\', c]),
            },
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> String {
        parse_dotenv(text).unwrap().remove("A").unwrap()
    }

    #[test]
    fn values_are_read_as_compose_reads_them() {
        for (text, value) in [
            ("A=b", "b"),
            ("A=", ""),
            ("A = b ", "b"),
            ("A: b", "b"),
            ("export A=b", "b"),
            ("# no\n\n  A=b # note", "b"),
            ("A=b#c", "b#c"),
            ("A='b # c'", "b # c"),
            ("A=\"b # c\" # d", "b # c"),
            ("A='$B'", "$B"),
            ("A='a\nb'\n", "a\nb"),
            ("A=\"a\\nb\\t\\\"c\\\" \\$d\"", "a\nb\t\"c\" $d"),
            ("B=x\nA=${B}y", "xy"),
            ("B=x\nA=\"$B y\"", "x y"),
            ("A=${B:-z}", "z"),
            ("A=1\nA=2", "2"),
            ("A=b\r\nC=d\r\n", "b"),
            ("A=a=b", "a=b"),
        ] {
            assert_eq!(one(text), value, "{text}");
        }
    }

    #[test]
    fn a_name_alone_takes_its_value_from_outside_or_is_left_out() {
        let outside = BTreeMap::from([("A".to_owned(), "b".to_owned())]);
        assert_eq!(parse_dotenv_with("A\nC\n", &outside).unwrap(), outside);
        let names: Vec<_> = dotenv_references("A\nB=$C$A\nD=$B").into_iter().collect();
        assert_eq!(names, ["A", "C"]);
    }

    #[test]
    fn problems_name_their_line() {
        let problems = parse_dotenv("A=1\nB='open\n=x\n").unwrap_err();
        let texts: Vec<_> = problems.0.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "line 2, column 1: the quote of `B` is not closed (a line is `NAME=value`)",
                "line 3, column 1: a name is missing before `=` (a line is `NAME=value`)",
            ]
        );
    }
}

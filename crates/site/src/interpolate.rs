//! Variables in values: `$NAME`, `${NAME}`, `${NAME:-default}` and the rest of Compose's forms.
//!
//! See <https://docs.docker.com/reference/compose-file/interpolation/>. One thing differs: a variable that is unset and
//! has no default is an error here, not an empty text with a warning that scrolls by.

use std::collections::{BTreeMap, BTreeSet};

use crate::problem::{Report, quoted};
use crate::yaml::{Node, Value};

/// Deepest `${A:-${B:-…}}`.
const MAX_NESTING: usize = 16;
/// Most bytes that one value may become.
const MAX_VALUE_BYTES: usize = 1 << 20;
/// Most bytes that all values of a file may become.
const MAX_TOTAL_BYTES: usize = 16 << 20;

/// Why a text could not be interpolated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InterpolationError {
    #[error("variable `{0}` is not set")]
    Unset(String),
    #[error("variable `{name}` is required: {text}")]
    Required { name: String, text: String },
    #[error("`$` begins a variable here, but no name follows")]
    NoName,
    #[error("`${{` is not closed by `}}`")]
    Unclosed,
    #[error("`${{{name}` is followed by `{found}`")]
    Operator { name: String, found: char },
    #[error("variables nest deeper than {MAX_NESTING} levels")]
    TooDeep,
    #[error("the value becomes longer than 1 MiB")]
    TooLong,
}

impl InterpolationError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Unset(name) => Some(format!(
                "set it in `.env` or in the environment, or write `${{{name}:-}}` for empty, `${{{name}:-text}}` for a default"
            )),
            Self::Required { .. } => Some("set it in `.env` or in the environment".to_owned()),
            Self::NoName => Some("write `$$` for a dollar sign".to_owned()),
            Self::Unclosed | Self::Operator { .. } => {
                Some("forms are `${NAME}`, and with `:-default`, `-default`, `:?error`, `?error`, `:+other`, `+other`".to_owned())
            }
            Self::TooDeep | Self::TooLong => None,
        }
    }
}

/// Replaces the variables in every value below `node`; keys stay as they are, as in Compose.
pub(crate) fn apply(node: &mut Node, variables: &BTreeMap<String, String>, report: &mut Report) {
    let mut total = 0;
    walk(
        node,
        0,
        &mut |text, span, report: &mut Report| match interpolate(text, variables) {
            Ok(value) => {
                total += value.len();
                if total > MAX_TOTAL_BYTES {
                    report.at(
                        span,
                        "the file becomes longer than 16 MiB when its variables are put in",
                    );
                    return Some(String::new());
                }
                Some(value)
            }
            Err(error) => {
                let problem = report.at(span, error.to_string());
                problem.hint = error.hint();
                None
            }
        },
        report,
    );
}

/// The names of all variables below `node`. A text that can't be interpolated names what it can.
pub(crate) fn names(node: &Node) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    collect(node, 0, &mut names);
    names
}

fn collect(node: &Node, level: usize, names: &mut BTreeSet<String>) {
    match &node.value {
        Value::Scalar { text, .. } => names.extend(text_names(text)),
        Value::List(items) => items.iter().for_each(|item| collect(item, level + 1, names)),
        Value::Map(entries) => {
            for entry in entries
                .iter()
                .filter(|entry| !is_extension(level, &entry.key.text))
            {
                collect(&entry.value, level + 1, names);
            }
        }
    }
}

/// The names of the variables in one text.
pub(crate) fn text_names(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    // Alternatives count as well: which of them is taken depends on what is set.
    let _ = Walk {
        rest: text,
        names: Some(&mut names),
        lookup: &|_| Some(String::new()),
    }
    .all();
    names
}

/// `x-…` at the top and in a container is for other tools; what it holds is not read, so it is not interpolated either.
fn is_extension(level: usize, key: &str) -> bool {
    (level == 0 || level == 2) && key.starts_with("x-")
}

type Replace<'f> = &'f mut dyn FnMut(&str, crate::Span, &mut Report) -> Option<String>;

fn walk(node: &mut Node, level: usize, replace: Replace<'_>, report: &mut Report) {
    match &mut node.value {
        Value::Scalar { text, plain } => {
            if text.contains('$')
                && let Some(value) = replace(text, node.span, report)
            {
                *text = value;
                *plain = false;
            }
        }
        Value::List(items) => items
            .iter_mut()
            .for_each(|item| walk(item, level + 1, &mut *replace, report)),
        Value::Map(entries) => {
            for entry in entries
                .iter_mut()
                .filter(|entry| !is_extension(level, &entry.key.text))
            {
                walk(&mut entry.value, level + 1, &mut *replace, report);
            }
        }
    }
}

/// One text with its variables put in.
pub(crate) fn interpolate(
    text: &str,
    variables: &BTreeMap<String, String>,
) -> Result<String, InterpolationError> {
    Walk {
        rest: text,
        names: None,
        lookup: &|name| variables.get(name).cloned(),
    }
    .all()
}

struct Walk<'t, 'n> {
    rest: &'t str,
    /// When present, every name is noted here and nothing is an error.
    names: Option<&'n mut BTreeSet<String>>,
    lookup: &'n dyn Fn(&str) -> Option<String>,
}

impl Walk<'_, '_> {
    fn all(mut self) -> Result<String, InterpolationError> {
        self.part(0)
    }

    /// Up to the end, or inside `${…}` to the `}` that closes it, which is left in place.
    fn part(&mut self, depth: usize) -> Result<String, InterpolationError> {
        if depth > MAX_NESTING {
            return Err(InterpolationError::TooDeep);
        }
        let mut out = String::new();
        while let Some(c) = self.rest.chars().next() {
            if c == '}' && depth > 0 {
                break;
            }
            self.rest = &self.rest[c.len_utf8()..];
            if c == '$' {
                out.push_str(&self.variable(depth)?);
            } else {
                out.push(c);
            }
            if out.len() > MAX_VALUE_BYTES {
                return Err(InterpolationError::TooLong);
            }
        }
        Ok(out)
    }

    /// What follows a `$`.
    fn variable(&mut self, depth: usize) -> Result<String, InterpolationError> {
        if let Some(rest) = self.rest.strip_prefix('$') {
            self.rest = rest;
            return Ok("$".to_owned());
        }
        if let Some(rest) = self.rest.strip_prefix('{') {
            self.rest = rest;
            return self.braced(depth);
        }
        let name = self.name().ok_or(InterpolationError::NoName)?;
        (self.lookup)(&name).ok_or(InterpolationError::Unset(name))
    }

    fn braced(&mut self, depth: usize) -> Result<String, InterpolationError> {
        let name = self.name().ok_or(InterpolationError::NoName)?;
        let value = (self.lookup)(&name);
        let colon = self.take(':');
        let Some(operator) = self.rest.chars().next() else {
            return Err(InterpolationError::Unclosed);
        };
        if operator == '}' && !colon {
            self.take('}');
            return value.ok_or(InterpolationError::Unset(name));
        }
        if !matches!(operator, '-' | '?' | '+') {
            return Err(InterpolationError::Operator {
                name,
                found: if colon { ':' } else { operator },
            });
        }
        self.take(operator);
        let present = value.filter(|value| !(colon && value.is_empty()));
        let other = if operator == '-' && present.is_some() && self.names.is_none()
            || operator == '?' && present.is_some() && self.names.is_none()
            || operator == '+' && present.is_none() && self.names.is_none()
        {
            // Not taken, so what it names need not be set; but it must still be well formed.
            let mut unset = Walk {
                rest: self.rest,
                names: None,
                lookup: &|_| Some(String::new()),
            };
            unset.part(depth + 1).or_else(|error| match error {
                InterpolationError::Required { .. } => Ok(String::new()),
                error => Err(error),
            })?;
            self.rest = unset.rest;
            String::new()
        } else {
            self.part(depth + 1)?
        };
        if !self.take('}') {
            return Err(InterpolationError::Unclosed);
        }
        match (operator, present) {
            ('-', Some(value)) | ('?', Some(value)) => Ok(value),
            ('-', None) | ('+', Some(_)) => Ok(other),
            ('?', None) if self.names.is_some() => Ok(String::new()),
            ('?', None) => {
                let text = if other.is_empty() {
                    "it is not set".to_owned()
                } else {
                    other
                };
                Err(InterpolationError::Required { name, text })
            }
            _ => Ok(String::new()),
        }
    }

    fn take(&mut self, c: char) -> bool {
        match self.rest.strip_prefix(c) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn name(&mut self) -> Option<String> {
        let end = self
            .rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        if !name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
            return None;
        }
        self.rest = rest;
        if let Some(names) = &mut self.names {
            names.insert(name.to_owned());
        }
        Some(name.to_owned())
    }
}

/// A hint for a place that takes no variables.
pub(crate) fn refuse(what: &str, text: &str) -> Option<String> {
    text.contains('$')
        .then(|| format!("variables in {what} are not supported yet: {}", quoted(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(text: &str) -> Result<String, String> {
        let variables = [("A", "x"), ("EMPTY", "")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into();
        interpolate(text, &variables).map_err(|error| error.to_string())
    }

    #[test]
    fn every_form_of_compose_is_understood() {
        for (text, value) in [
            ("$A", "x"),
            ("$A.b", "x.b"),
            ("${A}b", "xb"),
            ("$$A", "$A"),
            ("${EMPTY}", ""),
            ("${EMPTY:-d}", "d"),
            ("${EMPTY-d}", ""),
            ("${NO:-d}", "d"),
            ("${NO-d e}", "d e"),
            ("${NO:-${A}y}", "xy"),
            ("${NO:-${NO2:-z}}", "z"),
            ("${A:-$NO}", "x"),
            ("${A:-${NO}}", "x"),
            ("${A:+other}", "other"),
            ("${EMPTY:+other}", ""),
            ("${EMPTY+other}", "other"),
            ("${NO+other}", ""),
            ("${A:?needed}", "x"),
            ("${A?needed}", "x"),
            ("${NO:-{}}", "{}"),
        ] {
            assert_eq!(with(text), Ok(value.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, error) in [
            ("$NO", "variable `NO` is not set"),
            ("${NO}", "variable `NO` is not set"),
            ("${NO:?say it}", "variable `NO` is required: say it"),
            ("${EMPTY:?say it}", "variable `EMPTY` is required: say it"),
            ("cost: $5", "`$` begins a variable here, but no name follows"),
            ("a$", "`$` begins a variable here, but no name follows"),
            ("${A", "`${` is not closed by `}`"),
            ("${A:-b", "`${` is not closed by `}`"),
            ("${A!}", "`${A` is followed by `!`"),
        ] {
            assert_eq!(with(text), Err(error.to_owned()), "{text}");
        }
    }

    #[test]
    fn names_in_defaults_are_found_too() {
        let names: Vec<_> = text_names("$A ${B:-${C}} ${D:+$E} $$F ${G:?no $H}")
            .into_iter()
            .collect();
        assert_eq!(names, ["A", "B", "C", "D", "E", "G", "H"]);
    }
}

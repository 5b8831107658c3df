//! Reads values of the tree as what their key wants: text, number, switch, list, mapping.

use std::collections::BTreeMap;

use crate::Span;
use crate::keys::Table;
use crate::problem::{Report, quoted};
use crate::yaml::{Entry, Node, Value};

/// The keys that a mapping has, all of them known.
#[derive(Debug)]
pub(crate) struct Fields<'n> {
    table: &'static Table,
    found: BTreeMap<&'static str, &'n Entry>,
}

impl<'n> Fields<'n> {
    /// Notes every key that the table doesn't know, or knows as not supported yet.
    pub(crate) fn read(node: &'n Node, table: &'static Table, report: &mut Report) -> Option<Self> {
        let Value::Map(entries) = &node.value else {
            report
                .at(
                    node.span,
                    format!("{} must be a mapping, not {}", table.what, node.kind()),
                )
                .hint(format!(
                    "its keys are {}",
                    table
                        .names()
                        .map(|name| format!("`{name}`"))
                        .collect::<Vec<_>>()
                        .join(", ")
                ));
            return None;
        };
        let mut found = BTreeMap::new();
        for entry in entries {
            let key = entry.key.text.as_str();
            if let Some(known) = table.keys.iter().find(|known| known.name == key) {
                found.insert(known.name, entry);
            } else if !(table.extensions && key.starts_with("x-")) {
                table.unknown(entry, report);
            }
        }
        Some(Self { table, found })
    }

    /// The entry of a key, if it was written.
    pub(crate) fn entry(&self, key: &str) -> Option<&'n Entry> {
        debug_assert!(
            self.table.names().any(|name| name == key),
            "`{key}` is in no table"
        );
        self.found.get(key).copied()
    }

    /// The value of a key. A key without a value is a problem: what it would mean is anybody's guess.
    pub(crate) fn get(&self, key: &str, report: &mut Report) -> Option<&'n Node> {
        let entry = self.entry(key)?;
        if entry.value.is_null() {
            report
                .at(entry.key.span, format!("`{key}` has no value"))
                .hint("give it one, or remove the line");
            return None;
        }
        Some(&entry.value)
    }

    /// The value of a key that must be there; `span` is the mapping's.
    pub(crate) fn required(
        &self,
        key: &str,
        span: Span,
        hint: &str,
        report: &mut Report,
    ) -> Option<&'n Node> {
        if self.entry(key).is_none() {
            report
                .at(span, format!("{} needs a `{key}`", self.table.what))
                .hint(hint);
        }
        self.get(key, report)
    }

    pub(crate) fn text(&self, key: &str, report: &mut Report) -> Option<&'n str> {
        let node = self.get(key, report)?;
        report.text(key, node)
    }

    pub(crate) fn flag(&self, key: &str, report: &mut Report) -> Option<bool> {
        let node = self.get(key, report)?;
        report.flag(key, node)
    }

    /// A text read by `read`, whose error ends a sentence that begins with the key.
    pub(crate) fn parsed<T, E: std::fmt::Display>(
        &self,
        key: &str,
        report: &mut Report,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let node = self.get(key, report)?;
        report.parsed(key, node, read)
    }
}

impl Report {
    /// A scalar as it was written. Numbers and switches are text too.
    pub(crate) fn text<'n>(&mut self, what: &str, node: &'n Node) -> Option<&'n str> {
        match &node.value {
            Value::Scalar { text, .. } if !node.is_null() => Some(text),
            _ => {
                self.at(node.span, format!("`{what}` must be text, not {}", node.kind()));
                None
            }
        }
    }

    pub(crate) fn parsed<T, E: std::fmt::Display>(
        &mut self,
        what: &str,
        node: &Node,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.text(what, node)?;
        match read(text) {
            Ok(value) => Some(value),
            Err(error) => {
                self.at(node.span, format!("`{what}` {error}"));
                None
            }
        }
    }

    /// `true` or `false`, or the other words that YAML 1.1 has for them.
    pub(crate) fn flag(&mut self, what: &str, node: &Node) -> Option<bool> {
        if let Value::Scalar { text, .. } = &node.value {
            match text.to_ascii_lowercase().as_str() {
                "true" | "yes" | "on" => return Some(true),
                "false" | "no" | "off" => return Some(false),
                _ => {}
            }
        }
        self.at(node.span, format!("`{what}` must be `true` or `false`"));
        None
    }

    /// One of a few words, each standing for a value.
    pub(crate) fn word<T: Clone>(&mut self, what: &str, node: &Node, words: &[(&str, T)]) -> Option<T> {
        let text = self.text(what, node)?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(value.clone());
        }
        let known = words.iter().map(|(word, _)| *word);
        let nearest = self.nearest(text, known.clone());
        let problem = self.at(node.span, format!("`{what}` can't be {}", quoted(text)));
        match nearest {
            Some(nearest) => problem.hint(format!("did you mean `{nearest}`?")),
            None => problem.hint(
                known
                    .map(|word| format!("`{word}`"))
                    .collect::<Vec<_>>()
                    .join(", "),
            ),
        };
        None
    }

    /// A whole number in a range.
    pub(crate) fn whole(&mut self, what: &str, node: &Node, from: i64, to: i64) -> Option<i64> {
        self.parsed(what, node, |text| match text.trim().parse::<i64>() {
            Ok(number) if (from..=to).contains(&number) => Ok(number),
            Ok(number) => Err(format!("must be from {from} to {to}, not {number}")),
            Err(_) => Err(format!(
                "must be a whole number from {from} to {to}, not {}",
                quoted(text)
            )),
        })
    }

    pub(crate) fn list<'n>(&mut self, what: &str, node: &'n Node) -> Option<&'n [Node]> {
        match &node.value {
            Value::List(items) => Some(items),
            _ => {
                self.at(node.span, format!("`{what}` must be a list, not {}", node.kind()))
                    .hint(format!(
                        "`{what}: [a, b]`, or one line each that begins with `- `"
                    ));
                None
            }
        }
    }

    /// One text or a list of them.
    pub(crate) fn one_or_more<'n>(&mut self, what: &str, node: &'n Node) -> Vec<(&'n str, Span)> {
        let nodes = match &node.value {
            Value::List(items) => items.as_slice(),
            _ => std::slice::from_ref(node),
        };
        nodes
            .iter()
            .filter_map(|node| Some((self.text(what, node)?, node.span)))
            .collect()
    }

    /// A mapping of texts, or a list of `name=value`; a name alone has no value.
    pub(crate) fn pairs<'n>(&mut self, what: &str, node: &'n Node) -> Vec<Pair<'n>> {
        match &node.value {
            Value::Map(entries) => entries
                .iter()
                .filter_map(|entry| self.pair(what, entry))
                .collect(),
            Value::List(items) => {
                let mut pairs: Vec<Pair<'n>> = Vec::new();
                for item in items {
                    let Some(text) = self.text(what, item) else {
                        continue;
                    };
                    let (name, value) = match text.split_once('=') {
                        Some((name, value)) => (name, Some(value)),
                        None => (text, None),
                    };
                    pairs.push(Pair {
                        name,
                        value,
                        span: item.span,
                    });
                }
                self.twice(what, &pairs);
                pairs
            }
            Value::Scalar { .. } => {
                self.at(
                    node.span,
                    format!("`{what}` must be a mapping or a list, not {}", node.kind()),
                )
                .hint(format!("`{what}: {{ NAME: value }}` or `{what}: [NAME=value]`"));
                Vec::new()
            }
        }
    }

    fn pair<'n>(&mut self, what: &str, entry: &'n Entry) -> Option<Pair<'n>> {
        let name = entry.key.text.as_str();
        if entry.value.is_null() {
            return Some(Pair {
                name,
                value: None,
                span: entry.key.span,
            });
        }
        match &entry.value.value {
            Value::Scalar { text, .. } => Some(Pair {
                name,
                value: Some(text),
                span: entry.value.span,
            }),
            _ => {
                let message = format!(
                    "{} in `{what}` must be text, not {}",
                    quoted(name),
                    entry.value.kind()
                );
                self.at(entry.value.span, message);
                None
            }
        }
    }

    fn twice(&mut self, what: &str, pairs: &[Pair<'_>]) {
        let mut first = BTreeMap::new();
        for pair in pairs {
            if let Some(earlier) = first.insert(pair.name, pair.span) {
                self.at(pair.span, format!("{} is twice in `{what}`", quoted(pair.name)))
                    .related(earlier, "first written here");
            }
        }
    }
}

/// A name and its value, if it has one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pair<'n> {
    pub(crate) name: &'n str,
    pub(crate) value: Option<&'n str>,
    pub(crate) span: Span,
}

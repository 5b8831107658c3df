//! A YAML text as a tree of nodes that know where they stand.
//!
//! This is the file *as typed*: nothing is interpreted but anchors, aliases and merge keys (`<<`, YAML 1.1, as in Compose).
//! A scalar stays the text that was written, so that `1.10` is not 1.1 and `22:22` is no number to base 60.
//! A hostile file is refused by explicit limits before it costs time or memory.

mod lines;
mod merge;
mod tree;

use std::collections::HashMap;

use crate::Span;

pub(crate) use tree::read;

/// Longest file, in bytes: far more than people write, little enough to parse at once.
pub const MAX_FILE_BYTES: usize = 1 << 20;
/// Deepest nesting.
pub const MAX_DEPTH: usize = 64;
/// Most nodes once aliases are expanded.
pub const MAX_NODES: usize = 100_000;
/// Most bytes of text once aliases are expanded.
pub const MAX_EXPANDED_BYTES: usize = 8 << 20;

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) span: Span,
    pub(crate) value: Value,
}

#[derive(Debug, Clone)]
pub(crate) enum Value {
    /// `plain` is false for quoted and block scalars, and once a variable was put in: these are never null.
    Scalar {
        text: String,
        plain: bool,
    },
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key with its value.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: Key,
    pub(crate) value: Node,
}

#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) text: String,
    pub(crate) span: Span,
}

impl Node {
    /// Nothing was written, or `null`.
    pub(crate) fn is_null(&self) -> bool {
        match &self.value {
            Value::Scalar { text, plain: true } => {
                matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL")
            }
            _ => false,
        }
    }

    /// In words for a message: `a list`.
    pub(crate) fn kind(&self) -> &'static str {
        match &self.value {
            _ if self.is_null() => "empty",
            Value::Scalar { .. } => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }

    /// Entries of a mapping; none for anything else.
    pub(crate) fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The value of a key of a mapping.
    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key.text == key)
    }
}

/// First entry by key, for lists that may be long.
fn first_by_key(entries: &[Entry]) -> HashMap<&str, Span> {
    let mut first = HashMap::new();
    for entry in entries {
        first.entry(entry.key.text.as_str()).or_insert(entry.key.span);
    }
    first
}

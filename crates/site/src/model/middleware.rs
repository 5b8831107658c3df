//! What a route does to its requests and answers besides forwarding them.

use serde::{Deserialize, Serialize};

/// Everything that a route does besides. Nothing by default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Middleware {
    /// How the path changes on its way, one after the other, in the order of the file.
    pub paths: Vec<PathRule>,
}

/// One change of the path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PathRule {
    /// This is taken off the front, on segment boundaries. Normalised as the path of a route is.
    Strip(String),
    /// This is put in front. Normalised as the path of a route is.
    Add(String),
    /// The first that matches is applied.
    Rewrite(Vec<Rewrite>),
}

/// A regular expression over the path, and what the part that it matches is replaced by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rewrite {
    /// In the syntax of the `regex` crate, of at most [`REWRITE_BYTES`] when compiled.
    pub pattern: String,
    /// `$1` and `${name}` are what the groups caught. May end in a query, which then comes before the request's own.
    pub to: String,
}

/// Most memory that one compiled expression may take, in bytes.
pub const REWRITE_BYTES: usize = 256 << 10;

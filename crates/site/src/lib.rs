//! The vocabulary: `linkspan.yaml` as people write it, and [`Site`], what it means once validated.
//!
//! This crate does no I/O and reads no clock. Whoever calls [`parse`] brings everything the file refers to:
//! the variables it interpolates and the text of its `env_file`s and of what its routes refer to; [`references()`] tells what these are.
//!
//! A file goes through three forms, each with its owner: the tree *as typed*, where every node knows its line and column
//! (`yaml`); drafts of its parts with the places they came from (`routes`, `container`, `networks`); and the [`Site`],
//! once `check` has held the parts against each other. All problems are told at once.

mod bounds;
mod check;
mod container;
mod dotenv;
mod fields;
mod file;
mod hosts;
mod htpasswd;
mod interpolate;
mod keys;
mod mac;
mod model;
mod names;
mod networks;
mod problem;
mod quantity;
mod references;
mod routes;
mod schema;
mod signal;
mod suggest;
mod words;
mod yaml;

use std::collections::BTreeMap;
use std::path::Path;

pub use bounds::*;
pub use container::{CAPABILITIES, resolved_host_path_danger};
pub use dotenv::{dotenv_references, parse_dotenv, parse_dotenv_with};
pub use hosts::{HostError, alias};
pub use htpasswd::{HtpasswdProblem, PasswordHash, parse_htpasswd};
pub use mac::MacAddress;
pub use model::*;
pub use names::*;
pub use problem::{Problem, Problems, Related, Span};
pub use references::{EnvFileRef, References, references};
pub use schema::schema;
pub use signal::signal_number;
pub use suggest::nearest;
pub use yaml::{MAX_DEPTH, MAX_EXPANDED_BYTES, MAX_FILE_BYTES, MAX_NODES};

/// A site file and everything that it refers to.
#[derive(Debug, Clone, Copy)]
pub struct Sources<'a> {
    /// Absolute. Relative paths are resolved against its folder, which also names a site without a name.
    pub file: &'a Path,
    /// As it is on disk; may be anything. More than [`MAX_FILE_BYTES`] is refused.
    pub text: &'a [u8],
    /// What `$NAME` stands for: `.env` below the environment.
    pub variables: &'a BTreeMap<String, String>,
    /// The texts of the `env_file`s and of what routes refer to, by the path as it is written. A missing one is a
    /// problem unless it may be missing.
    pub files: &'a BTreeMap<String, String>,
}

/// Reads a site file.
///
/// # Errors
/// All problems of the file, in the order of its lines.
pub fn parse(sources: &Sources<'_>) -> Result<Site, Problems> {
    file::read(sources)
}

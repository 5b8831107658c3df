//! What a file refers to, so that whoever parses it can bring that along.

use std::collections::{BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use crate::problem::Report;
use crate::yaml::Node;
use crate::{Problems, container, interpolate, routes, yaml};

/// What must be brought to [`parse`](crate::parse).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct References {
    /// Names in `$NAME` and `${NAME…}`, and names in `environment` without a value.
    pub variables: BTreeSet<String>,
    /// Each path once, in the order of the file.
    pub env_files: Vec<EnvFileRef>,
    /// Paths of other files, as written; relative to the folder of the site file. Variables mean nothing in them.
    #[serde(default)]
    pub files: BTreeSet<String>,
}

/// A file with variables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvFileRef {
    /// As written; relative to the folder of the site file.
    pub path: String,
    /// False: it may be missing.
    pub required: bool,
}

/// What a site file refers to. It says nothing of whether the rest is right.
///
/// # Errors
/// The text is no YAML, or breaks a limit, or names a file by a variable.
pub fn references(text: &[u8]) -> Result<References, Problems> {
    let root = yaml::read(text)?;
    let mut report = Report::default();
    let mut references = References {
        variables: interpolate::names(&root),
        env_files: Vec::new(),
        files: BTreeSet::new(),
    };
    for route in root
        .entry("routes")
        .into_iter()
        .flat_map(|entry| entry.value.entries())
    {
        references
            .files
            .extend(routes::references(&route.value, &mut report));
    }
    let mut places: HashMap<String, usize> = HashMap::new();
    for container in containers(&root) {
        references.variables.extend(container::valueless(container));
        for file in container::references(container, &mut report) {
            match places.get(&file.path) {
                Some(&place) => references.env_files[place].required |= file.required,
                None => {
                    places.insert(file.path.clone(), references.env_files.len());
                    references.env_files.push(file);
                }
            }
        }
    }
    if report.is_empty() {
        Ok(references)
    } else {
        Err(report.finish())
    }
}

fn containers(root: &Node) -> impl Iterator<Item = &Node> {
    let entry = root.entry("containers").or_else(|| root.entry("services"));
    entry
        .into_iter()
        .flat_map(|entry| entry.value.entries())
        .map(|entry| &entry.value)
}

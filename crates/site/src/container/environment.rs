//! `environment` and `env_file`.

use std::collections::{BTreeMap, BTreeSet};

use super::Context;
use crate::dotenv::parse_dotenv_with;
use crate::fields::Fields;
use crate::keys::ENV_FILE;
use crate::problem::{Report, quoted};
use crate::yaml::{MAX_FILE_BYTES, Node, Value};
use crate::{EnvFileRef, Span, interpolate};

/// Texts that were parsed before; `None` if they had problems.
pub(super) type Cache = BTreeMap<String, Option<BTreeMap<String, String>>>;

/// The `env_file`s, a later one over an earlier, and `environment` over all.
pub(super) fn read(
    fields: &Fields<'_>,
    context: &mut Context<'_>,
    report: &mut Report,
) -> BTreeMap<String, String> {
    let mut environment = BTreeMap::new();
    if let Some(node) = fields.get("env_file", report) {
        for (file, span) in files(node, report) {
            if let Some(variables) = load(&file, span, context, report) {
                environment.extend(variables);
            }
        }
    }
    let Some(node) = fields.get("environment", report) else {
        return environment;
    };
    for pair in report.pairs("environment", node) {
        if pair.name.is_empty() || pair.name.contains('=') {
            report.at(
                pair.span,
                format!("{} is no name of a variable", quoted(pair.name)),
            );
            continue;
        }
        match pair
            .value
            .or_else(|| context.sources.variables.get(pair.name).map(String::as_str))
        {
            Some(value) => environment.insert(pair.name.to_owned(), value.to_owned()),
            // As in Compose: a name without a value that is set nowhere is not set inside either.
            None => environment.remove(pair.name),
        };
    }
    environment
}

fn files(node: &Node, report: &mut Report) -> Vec<(EnvFileRef, Span)> {
    let nodes = match &node.value {
        Value::List(items) => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    let mut files = Vec::new();
    for node in nodes {
        let (path, required) = match &node.value {
            Value::Map(_) => {
                let Some(fields) = Fields::read(node, &ENV_FILE, report) else {
                    continue;
                };
                let required = fields.flag("required", report).unwrap_or(true);
                (
                    fields.required("path", node.span, "the path of the file", report),
                    required,
                )
            }
            _ => (Some(node), true),
        };
        let Some(path) = path else { continue };
        let Some(text) = report.text("env_file", path) else {
            continue;
        };
        files.push((
            EnvFileRef {
                path: text.to_owned(),
                required,
            },
            path.span,
        ));
    }
    files
}

fn load(
    file: &EnvFileRef,
    span: Span,
    context: &mut Context<'_>,
    report: &mut Report,
) -> Option<BTreeMap<String, String>> {
    let path = &file.path;
    if let Some(known) = context.env_files.get(path) {
        return known.clone();
    }
    let Some(text) = context.sources.files.get(path) else {
        if file.required {
            report
                .at(span, format!("`env_file` {} isn't there", quoted(path)))
                .hint("it is sought from the folder of this file; `{ path: …, required: false }` lets it be missing");
        }
        return None;
    };
    let parsed = if text.len() > MAX_FILE_BYTES {
        report.at(span, format!("`env_file` {} is longer than 1 MiB", quoted(path)));
        None
    } else {
        match parse_dotenv_with(text, context.sources.variables) {
            Ok(variables) => Some(variables),
            Err(problems) => {
                for problem in problems.0 {
                    let inner = report.at(
                        span,
                        format!(
                            "`env_file` {}, line {}: {}",
                            quoted(path),
                            problem.line,
                            problem.message
                        ),
                    );
                    inner.hint = problem.hint;
                }
                None
            }
        }
    };
    context.env_files.insert(path.clone(), parsed.clone());
    parsed
}

/// The `env_file`s that a container names; what is no path is left for [`read`] to refuse.
pub(crate) fn references(container: &Node, report: &mut Report) -> Vec<EnvFileRef> {
    let Some(entry) = container.entry("env_file") else {
        return Vec::new();
    };
    let nodes = match &entry.value.value {
        Value::List(items) => items.as_slice(),
        _ => std::slice::from_ref(&entry.value),
    };
    let mut files = Vec::new();
    for node in nodes {
        let path = match &node.value {
            Value::Map(_) => node.entry("path").map(|entry| &entry.value),
            _ => Some(node),
        };
        let Some(Value::Scalar { text, .. }) = path.map(|node| &node.value) else {
            continue;
        };
        if let Some(message) = interpolate::refuse("`env_file`", text) {
            report.at(node.span, message).hint("write the path out");
            continue;
        }
        let required = match node.entry("required").map(|entry| &entry.value.value) {
            Some(Value::Scalar { text, .. }) => !matches!(text.as_str(), "false" | "no" | "off"),
            _ => true,
        };
        if !text.is_empty() {
            files.push(EnvFileRef {
                path: text.clone(),
                required,
            });
        }
    }
    files
}

/// Names in `environment` that take their value from outside.
pub(crate) fn valueless(container: &Node) -> BTreeSet<String> {
    let Some(entry) = container.entry("environment") else {
        return BTreeSet::new();
    };
    match &entry.value.value {
        Value::Map(entries) => entries
            .iter()
            .filter(|entry| entry.value.is_null())
            .map(|entry| entry.key.text.clone())
            .collect(),
        Value::List(items) => items
            .iter()
            .filter_map(|item| match &item.value {
                Value::Scalar { text, .. } if !text.contains('=') && !text.contains('$') => {
                    Some(text.clone())
                }
                _ => None,
            })
            .collect(),
        Value::Scalar { .. } => BTreeSet::new(),
    }
}

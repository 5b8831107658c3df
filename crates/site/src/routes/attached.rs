//! Files that routes refer to, which are brought along with the site's.

use crate::problem::{Report, quoted};
use crate::yaml::{MAX_FILE_BYTES, Node, Value};
use crate::{Sources, interpolate};

/// Keys of a route that name a file, with the key that has it in their long form.
const FILES: &[(&str, &str)] = &[("basic_auth", "file"), ("maintenance", "")];

/// The files of one route.
pub(crate) fn references(route: &Node, report: &mut Report) -> Vec<String> {
    let short = FILES.iter().filter_map(|(key, long)| {
        let entry = route.entry(key)?;
        match &entry.value.value {
            Value::Map(_) => entry.value.entry(long).map(|entry| (*key, &entry.value)),
            _ => Some((*key, &entry.value)),
        }
    });
    let pages = route.entry("error_pages").into_iter();
    let pages = pages.flat_map(|entry| entry.value.entries());
    let pages = pages.map(|entry| ("error_pages", &entry.value));
    let mut files = Vec::new();
    for (key, node) in short.chain(pages) {
        let (Value::Scalar { text, .. }, span) = (&node.value, node.span) else {
            continue;
        };
        if key == "maintenance" && matches!(text.as_str(), "true" | "false") {
            continue;
        }
        if let Some(message) = interpolate::refuse(&format!("`{key}`"), text) {
            report.at(span, message).hint("write the path out");
        } else if !text.is_empty() {
            files.push(text.clone());
        }
    }
    files
}

/// The text of a file that a key names.
pub(super) fn text<'s>(
    key: &str,
    node: &Node,
    sources: &Sources<'s>,
    report: &mut Report,
) -> Option<&'s str> {
    let path = report.text(key, node)?;
    match sources.files.get(path) {
        None => {
            report
                .at(node.span, format!("`{key}` {} isn't there", quoted(path)))
                .hint("it is sought from the folder of this file");
            None
        }
        Some(text) if text.len() > MAX_FILE_BYTES => {
            report.at(
                node.span,
                format!("`{key}` {} is longer than 1 MiB", quoted(path)),
            );
            None
        }
        Some(text) => Some(text),
    }
}

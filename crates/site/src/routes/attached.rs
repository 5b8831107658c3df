//! Files that routes refer to, which are brought along with the site's.

use super::Draft;
use crate::problem::{Report, quoted};
use crate::yaml::{MAX_FILE_BYTES, Node, Value};
use crate::{MOST_ATTACHED, Middleware, Sources, interpolate};

/// About as many bytes as the hash of a password takes in a snapshot.
const LONGEST_HASH: usize = 128;
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

/// Refuses what would make the proxy's snapshots too long.
pub(super) fn bound(drafts: &[Draft], report: &mut Report) {
    let mut sum = 0;
    for draft in drafts {
        let before = sum;
        sum += bytes(&draft.route.middleware);
        if before <= MOST_ATTACHED && sum > MOST_ATTACHED {
            report
                .at(
                    draft.span,
                    "with this route the files that routes refer to come to more than 2 MiB, each counted where it is used",
                )
                .hint("use shorter pages, and let them load pictures from elsewhere");
        }
    }
}

fn bytes(middleware: &Middleware) -> usize {
    let closed = middleware
        .maintenance
        .iter()
        .filter_map(|closed| closed.page.as_ref());
    let pages = middleware.error_pages.values().chain(closed);
    let users = middleware.basic_auth.iter().flat_map(|auth| auth.users.keys());
    pages.map(|page| page.text.len()).sum::<usize>()
        + users.map(|name| name.len() + LONGEST_HASH).sum::<usize>()
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

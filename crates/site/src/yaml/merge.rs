//! Merge keys: `<<: *defaults` and `<<: [*a, *b]`, see <https://yaml.org/type/merge.html>.

use std::collections::HashSet;

use super::{Entry, Node, Value};
use crate::problem::Report;

/// Replaces `<<` by the entries of what it names. A key written out wins over a merged one, an earlier mapping over a later.
pub(super) fn resolve(entries: Vec<Entry>, report: &mut Report) -> Vec<Entry> {
    if !entries.iter().any(|entry| entry.key.text == "<<") {
        return entries;
    }
    let (merges, mut kept): (Vec<_>, Vec<_>) = entries.into_iter().partition(|entry| entry.key.text == "<<");
    let mut known: HashSet<String> = kept.iter().map(|entry| entry.key.text.clone()).collect();
    for source in merges.into_iter().flat_map(|merge| sources(merge.value)) {
        let Node { span, value } = source;
        let Value::Map(merged) = value else {
            report
                .at(span, "`<<` takes a mapping or a list of mappings")
                .hint("`<<: *anchor`");
            continue;
        };
        for entry in merged {
            if known.insert(entry.key.text.clone()) {
                kept.push(entry);
            }
        }
    }
    kept
}

fn sources(node: Node) -> Vec<Node> {
    match node.value {
        Value::List(items) => items,
        value => vec![Node {
            span: node.span,
            value,
        }],
    }
}

//! Builds the tree from the parser's events, within the limits.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Tag};

use super::lines::{Lines, clamp, position};
use super::{
    Entry, Key, MAX_DEPTH, MAX_EXPANDED_BYTES, MAX_FILE_BYTES, MAX_NODES, Node, Value, first_by_key, merge,
};
use crate::problem::{Report, quoted};
use crate::{Problems, Span};

/// Reads one YAML document.
pub(crate) fn read(text: &[u8]) -> Result<Node, Problems> {
    let mut report = Report::default();
    let root = document(text, &mut report);
    match root {
        Some(root) if report.is_empty() => Ok(root),
        _ => Err(report.finish()),
    }
}

/// `None` means that a problem was noted.
fn document(bytes: &[u8], report: &mut Report) -> Option<Node> {
    let start = Span {
        line: 1,
        column: 1,
        length: 1,
    };
    if bytes.len() > MAX_FILE_BYTES {
        let size = bytes.len().div_ceil(1 << 20);
        report
            .at(
                start,
                format!("the file is too long: {size} MiB, the most is 1 MiB"),
            )
            .hint("is this the right file?");
        return None;
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let at = position(&bytes[..error.valid_up_to()]);
            let byte = bytes[error.valid_up_to()];
            report
                .at(at, format!("not UTF-8: byte 0x{byte:02x} begins no character"))
                .hint("save the file as UTF-8");
            return None;
        }
    };
    let text = text.strip_prefix('\u{FEFF}').unwrap_or(text);
    let root = Builder::new(text, report).run().filter(|root| !root.is_null());
    if root.is_none() && report.is_empty() {
        report
            .at(start, "the file is empty")
            .hint("a site has at least `containers:` or `routes:`");
    }
    root
}

/// A collection whose end has not come.
struct Open {
    anchor: usize,
    start: saphyr_parser::Span,
    /// Of the highest child so far.
    height: usize,
    /// Nodes and bytes below, for the limits when an alias repeats it.
    weight: Weight,
    content: Content,
}

enum Content {
    List(Vec<Node>),
    Map { entries: Vec<Entry>, pending: Pending },
}

/// The key whose value comes next.
enum Pending {
    None,
    Key(Key),
    /// The key was refused; its value is dropped.
    Refused,
}

#[derive(Clone, Copy, Default)]
struct Weight {
    nodes: usize,
    bytes: usize,
}

/// A finished node with what is needed to repeat it.
struct Finished {
    node: Node,
    height: usize,
    weight: Weight,
}

struct Builder<'t, 'r> {
    text: &'t str,
    lines: Lines<'t>,
    report: &'r mut Report,
    open: Vec<Open>,
    anchors: HashMap<usize, (Node, usize, Weight)>,
    total: Weight,
    root: Option<Node>,
}

impl<'t, 'r> Builder<'t, 'r> {
    fn new(text: &'t str, report: &'r mut Report) -> Self {
        Self {
            text,
            lines: Lines::of(text),
            report,
            open: Vec::new(),
            anchors: HashMap::new(),
            total: Weight::default(),
            root: None,
        }
    }

    fn run(mut self) -> Option<Node> {
        let mut parser = Parser::new_from_str(self.text);
        let mut documents = 0;
        loop {
            let (event, span) = match parser.next_event()? {
                Ok(event) => event,
                Err(error) => return self.syntax(&error),
            };
            match event {
                Event::StreamEnd => return self.root,
                Event::StreamStart | Event::DocumentEnd | Event::Nothing => {}
                Event::DocumentStart(_) => {
                    documents += 1;
                    if documents > 1 {
                        let at = self.span(span);
                        self.report
                            .at(at, "a second document begins here")
                            .hint("a file is one site: remove `---`");
                        return None;
                    }
                }
                Event::Scalar(text, style, anchor, tag) => {
                    self.tag(tag.as_deref(), span);
                    if text.contains('\0') {
                        let at = self.span(span);
                        self.report.at(
                            at,
                            "the text holds a NUL character, which no program can be given",
                        );
                    }
                    let weight = Weight {
                        nodes: 1,
                        bytes: text.len(),
                    };
                    let value = Value::Scalar {
                        text: text.into_owned(),
                        plain: style == ScalarStyle::Plain,
                    };
                    let node = Node {
                        span: self.span(span),
                        value,
                    };
                    self.count(weight, span)?;
                    self.finish(
                        anchor,
                        Finished {
                            node,
                            height: 1,
                            weight,
                        },
                    );
                }
                Event::Alias(anchor) => self.alias(anchor, span)?,
                Event::SequenceStart(anchor, tag) => {
                    self.tag(tag.as_deref(), span);
                    self.begin(anchor, span, Content::List(Vec::new()))?;
                }
                Event::MappingStart(anchor, tag) => {
                    self.tag(tag.as_deref(), span);
                    self.begin(
                        anchor,
                        span,
                        Content::Map {
                            entries: Vec::new(),
                            pending: Pending::None,
                        },
                    )?;
                }
                Event::SequenceEnd | Event::MappingEnd => self.end(span),
            }
        }
    }

    fn begin(&mut self, anchor: usize, start: saphyr_parser::Span, content: Content) -> Option<()> {
        if self.open.len() >= MAX_DEPTH {
            let at = self.span(start);
            self.report
                .at(at, format!("nested deeper than {MAX_DEPTH} levels"));
            return None;
        }
        let weight = Weight { nodes: 1, bytes: 0 };
        self.count(weight, start)?;
        self.open.push(Open {
            anchor,
            start,
            height: 0,
            weight,
            content,
        });
        Some(())
    }

    fn end(&mut self, end: saphyr_parser::Span) {
        let Some(open) = self.open.pop() else { return };
        let span = self.lines.stretch(open.start.start, end.end);
        let value = match open.content {
            Content::List(items) => Value::List(items),
            Content::Map { entries, .. } => {
                self.duplicates(&entries);
                Value::Map(merge::resolve(entries, self.report))
            }
        };
        let finished = Finished {
            node: Node { span, value },
            height: open.height + 1,
            weight: open.weight,
        };
        self.finish(open.anchor, finished);
    }

    fn alias(&mut self, anchor: usize, span: saphyr_parser::Span) -> Option<()> {
        let at = self.span(span);
        // An anchor that is not finished is one that we are inside of.
        let Some((node, height, weight)) = self.anchors.get(&anchor) else {
            self.report.at(at, "an alias inside the very thing that it names");
            return None;
        };
        let (height, weight) = (*height, *weight);
        if self.open.len() + height > MAX_DEPTH {
            self.report
                .at(at, format!("aliases nest this deeper than {MAX_DEPTH} levels"));
            return None;
        }
        // Counted before it is copied: an alias bomb never gets its memory.
        let node = {
            let total = Weight {
                nodes: self.total.nodes + weight.nodes,
                bytes: self.total.bytes + weight.bytes,
            };
            if over(total) { None } else { Some(node.clone()) }
        };
        self.count(weight, span)?;
        let mut node = node?;
        if matches!(node.value, Value::Scalar { .. }) {
            // A repeated text is wrong where it is used; a repeated collection where it is written.
            node.span = at;
        }
        self.finish(0, Finished { node, height, weight });
        Some(())
    }

    fn count(&mut self, weight: Weight, at: saphyr_parser::Span) -> Option<()> {
        self.total.nodes += weight.nodes;
        self.total.bytes += weight.bytes;
        if !over(self.total) {
            return Some(());
        }
        let at = self.span(at);
        let message = if self.total.nodes > MAX_NODES {
            format!("more than {MAX_NODES} values once aliases are expanded")
        } else {
            format!(
                "more than {} MiB of text once aliases are expanded",
                MAX_EXPANDED_BYTES >> 20
            )
        };
        self.report.at(at, message);
        None
    }

    /// Puts a node where it belongs.
    fn finish(&mut self, anchor: usize, finished: Finished) {
        let Finished { node, height, weight } = finished;
        if anchor != 0 {
            self.anchors.insert(anchor, (node.clone(), height, weight));
        }
        self.tab_before_key(node.span);
        let Some(parent) = self.open.last_mut() else {
            self.root = Some(node);
            return;
        };
        parent.height = parent.height.max(height);
        parent.weight.nodes += weight.nodes;
        parent.weight.bytes += weight.bytes;
        match &mut parent.content {
            Content::List(items) => items.push(node),
            Content::Map { entries, pending } => match std::mem::replace(pending, Pending::None) {
                Pending::Key(key) => entries.push(Entry { key, value: node }),
                Pending::Refused => {}
                Pending::None => {
                    let Node { span, value } = node;
                    *pending = match value {
                        Value::Scalar { text, .. } => Pending::Key(Key { text, span }),
                        _ => {
                            self.report
                                .at(span, "a key must be text")
                                .hint("put text with `{` or `[` in quotes");
                            Pending::Refused
                        }
                    };
                }
            },
        }
    }

    /// The parser lets some tabs pass that indent a block; only between brackets they are no indentation.
    fn tab_before_key(&mut self, at: Span) {
        let key = matches!(
            self.open.last(),
            Some(Open {
                content: Content::Map {
                    pending: Pending::None,
                    ..
                },
                ..
            })
        );
        if key
            && self.open.iter().all(|open| open.start.is_empty())
            && let Some(tab) = self.lines.tab(at.line as usize)
            && tab.column < at.column
        {
            self.report.at(tab, TAB).hint(TAB_HINT);
        }
    }

    fn duplicates(&mut self, entries: &[Entry]) {
        let first = first_by_key(entries);
        for Entry { key, .. } in entries {
            let Some(&earlier) = first.get(key.text.as_str()) else {
                continue;
            };
            if earlier != key.span {
                let message = format!("key {} is written twice", quoted(&key.text));
                self.report
                    .at(key.span, message)
                    .related(earlier, "first written here");
            }
        }
    }

    /// Tags of the core schema change nothing, for values are read as the key wants them; others would be ignored.
    fn tag(&mut self, tag: Option<&Tag>, span: saphyr_parser::Span) {
        let Some(tag) = tag else { return };
        let known = ["str", "int", "bool", "float", "null", "map", "seq"];
        if !(tag.is_yaml_core_schema() && known.contains(&tag.suffix.as_str())) {
            let at = self.span(span);
            self.report
                .at(at, format!("tag `{tag}` is not supported"))
                .hint("remove the tag");
        }
    }

    fn syntax(&mut self, error: &ScanError) -> Option<Node> {
        let line = error.marker().line();
        // The scanner often notices on the line after the tab, or names the symptom.
        for line in [line, line.saturating_sub(1), line + 1] {
            if let Some(at) = self.lines.tab(line) {
                self.report.at(at, TAB).hint(TAB_HINT);
                return None;
            }
        }
        let at = Span {
            line: clamp(line.max(1)),
            column: clamp(error.marker().col() + 1),
            length: 1,
        };
        let info = error.info();
        let bracket = self
            .open
            .iter()
            .rfind(|open| !open.start.is_empty())
            .map(|open| self.span(open.start));
        let problem = self.report.at(at, format!("not YAML: {info}"));
        if info.contains("unknown anchor") {
            problem.message = "this alias names no anchor that was written above it".to_owned();
        } else if info.contains("mapping values are not allowed") {
            problem.hint("is a value with `: ` in it not in quotes, or a line indented wrongly?");
        } else if info.contains("simple key") {
            problem.hint("is a `:` missing after the key, or a line indented wrongly?");
        } else if let (true, Some(bracket)) = (info.contains("flow"), bracket) {
            problem
                .hint("is a `,` or the closing bracket missing?")
                .related(bracket, "opened here");
        }
        None
    }

    fn span(&self, span: saphyr_parser::Span) -> Span {
        self.lines.stretch(span.start, span.end)
    }
}

const TAB: &str = "a tab indents this line, and YAML allows only spaces there";
const TAB_HINT: &str = "replace each tab (drawn as `→`) by two spaces";

fn over(total: Weight) -> bool {
    total.nodes > MAX_NODES || total.bytes > MAX_EXPANDED_BYTES
}

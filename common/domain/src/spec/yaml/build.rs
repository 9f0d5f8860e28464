//! Builds the tree from the parser's events.
//!
//! It works on events, since a ready-made tree would already be as deep as its text asks for, and would hold only the
//! first of two equal keys.

use std::borrow::Cow;
use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};

use super::node::{Entry, Layout, Mark, Node, Scalar, Value};
use super::scalar::resolve;

/// Deepest nesting.
const MAX_DEPTH: usize = 64;
/// Most nodes that aliases may add to a file.
const MAX_ALIASED: usize = 10_000;

/// What is wrong with a text as YAML.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::spec) struct Broken {
    /// Where.
    pub(in crate::spec) at: Mark,
    /// What.
    pub(in crate::spec) message: String,
}

/// A text that could be read.
#[derive(Debug)]
pub(in crate::spec) struct Document {
    /// Its one document.
    pub(in crate::spec) root: Node,
    /// What is wrong with it, although it could be read: keys that come twice, tags.
    pub(in crate::spec) faults: Vec<Broken>,
}

/// Reads a text of exactly one YAML document. An error is a text that cannot be read to its end.
pub(in crate::spec) fn load(text: &str) -> Result<Document, Broken> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut builder = Builder { lines: text.lines().collect(), ..Builder::default() };
    for step in Parser::new_from_str(text) {
        let (event, span) = step.map_err(|error| {
            let message = format!("this is not YAML: {}", error.info());
            Broken { at: Mark::from(*error.marker()), message }
        })?;
        builder.on(event, span)?;
    }
    match builder.root {
        Some(root) => Ok(Document { root, faults: builder.faults }),
        None => Err(Broken { at: Mark { line: 1, column: 1 }, message: "the file is empty".into() }),
    }
}

impl From<saphyr_parser::Marker> for Mark {
    fn from(marker: saphyr_parser::Marker) -> Self {
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX - 1);
        // The parser counts lines from 1 and columns from 0.
        Self { line: number(marker.line()).max(1), column: number(marker.col()) + 1 }
    }
}

/// A list or mapping that is not closed yet.
struct Open {
    node: Node,
    anchor: usize,
    /// The key whose value comes next; without a name if it was refused.
    key: Option<(Option<String>, Mark)>,
    /// Lines of the keys that were there already.
    seen: HashMap<String, u32>,
}

#[derive(Default)]
struct Builder<'t> {
    lines: Vec<&'t str>,
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    aliased: usize,
    root: Option<Node>,
    faults: Vec<Broken>,
}

impl Builder<'_> {
    fn on(&mut self, event: Event<'_>, span: Span) -> Result<(), Broken> {
        let at = Mark::from(span.start);
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
            Event::DocumentStart(_) if self.root.is_some() => {
                return Err(Broken {
                    at,
                    message: "a second document begins here; write one spec per file".into(),
                });
            }
            Event::DocumentStart(_) => {}
            Event::SequenceStart(anchor, tag) => self.start(at, Value::Sequence(Vec::new()), anchor, tag)?,
            Event::MappingStart(anchor, tag) => self.start(at, Value::Mapping(Vec::new()), anchor, tag)?,
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(done) = self.open.pop() {
                    self.add(done.node, done.anchor);
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_tag(at, tag);
                let layout = self.layout(style, at, &text);
                let scalar = match style {
                    ScalarStyle::Plain => resolve(&text, layout),
                    _ => Scalar::Text(text.into_owned(), layout),
                };
                self.add(Node { at, value: Value::Scalar(scalar) }, anchor);
            }
            Event::Alias(anchor) => {
                let node = self.alias(at, anchor)?;
                self.add(node, 0);
            }
        }
        Ok(())
    }

    fn start(
        &mut self,
        at: Mark,
        value: Value,
        anchor: usize,
        tag: Option<Cow<'_, Tag>>,
    ) -> Result<(), Broken> {
        self.refuse_tag(at, tag);
        if self.open.len() >= MAX_DEPTH {
            return Err(Broken { at, message: format!("it is nested deeper than {MAX_DEPTH} levels") });
        }
        self.open.push(Open { node: Node { at, value }, anchor, key: None, seen: HashMap::new() });
        Ok(())
    }

    fn refuse_tag(&mut self, at: Mark, tag: Option<Cow<'_, Tag>>) {
        if let Some(tag) = tag {
            let message = format!("the tag {tag} is not supported; a text goes into quotes");
            self.faults.push(Broken { at, message });
        }
    }

    fn add(&mut self, node: Node, anchor: usize) {
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let Some(parent) = self.open.last_mut() else {
            self.root = Some(node);
            return;
        };
        match &mut parent.node.value {
            Value::Sequence(items) => items.push(node),
            Value::Mapping(entries) => match parent.key.take() {
                None => {
                    let (key, fault) = as_key(&node);
                    self.faults.extend(fault.map(|message| Broken { at: node.at, message }));
                    parent.key = Some((key, node.at));
                }
                Some((None, _)) => {}
                Some((Some(key), at)) => match parent.seen.get(&key) {
                    Some(line) => {
                        let message = format!("key {key:?} comes twice; it is already on line {line}");
                        self.faults.push(Broken { at, message });
                    }
                    None => {
                        parent.seen.insert(key.clone(), at.line);
                        entries.push(Entry { key, at, value: node });
                    }
                },
            },
            Value::Scalar(_) => {}
        }
    }

    /// A copy of what the anchor named, within the budget that stops alias bombs.
    fn alias(&mut self, at: Mark, anchor: usize) -> Result<Node, Broken> {
        let Some(node) = self.anchors.get(&anchor) else {
            return Err(Broken { at, message: "this alias stands inside of what it names".into() });
        };
        self.aliased += size(node);
        let deepest = self.open.len() + depth(node);
        if self.aliased > MAX_ALIASED || deepest > MAX_DEPTH {
            return Err(Broken { at, message: "the aliases of this file make it too large".into() });
        }
        Ok(Node { at, ..node.clone() })
    }

    fn layout(&self, style: ScalarStyle, at: Mark, text: &str) -> Layout {
        match style {
            ScalarStyle::Plain if self.stands(at, 0, text) => Layout::Inline(0),
            // With an escape the text is shorter than what stands in the file.
            ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted if self.stands(at, 1, text) => {
                Layout::Inline(1)
            }
            // The mark is that of the first line that is not empty.
            ScalarStyle::Literal => {
                let empty = text.chars().take_while(|c| *c == '\n').count();
                let empty = u32::try_from(empty).unwrap_or(0);
                Layout::Block { line: at.line.saturating_sub(empty), indent: at.column - 1 }
            }
            _ => Layout::Folded,
        }
    }

    /// Whether the file holds exactly this text at a place.
    fn stands(&self, at: Mark, skip: usize, text: &str) -> bool {
        let Some(line) = self.lines.get(at.line as usize - 1) else { return false };
        let from = line.char_indices().nth(at.column as usize - 1 + skip).map(|(from, _)| from);
        from.is_some_and(|from| line[from..].starts_with(text))
    }
}

fn as_key(node: &Node) -> (Option<String>, Option<String>) {
    match &node.value {
        Value::Scalar(Scalar::Text(text, _)) => (Some(text.clone()), None),
        _ => (None, Some(format!("a key must be a text, not {}; put it into quotes", node.describe()))),
    }
}

fn size(node: &Node) -> usize {
    match &node.value {
        Value::Scalar(_) => 1,
        Value::Sequence(items) => 1 + items.iter().map(size).sum::<usize>(),
        Value::Mapping(entries) => 1 + entries.iter().map(|entry| 1 + size(&entry.value)).sum::<usize>(),
    }
}

fn depth(node: &Node) -> usize {
    match &node.value {
        Value::Scalar(_) => 0,
        Value::Sequence(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Mapping(entries) => 1 + entries.iter().map(|entry| depth(&entry.value)).max().unwrap_or(0),
    }
}

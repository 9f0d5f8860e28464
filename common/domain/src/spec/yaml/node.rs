//! One node of the tree.

/// A place in the file: both from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::spec) struct Mark {
    /// From 1.
    pub(in crate::spec) line: u32,
    /// From 1.
    pub(in crate::spec) column: u32,
}

/// How the characters of a text relate to the characters of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::spec) enum Layout {
    /// They begin so many characters behind the mark (1 after a quote), on one line.
    Inline(u32),
    /// Each line of the text is one line of the file, from this line on, behind so many blanks.
    Block {
        /// Line of the first line of the text.
        line: u32,
        /// Blanks before each of its lines.
        indent: u32,
    },
    /// Character for character from the mark on.
    Verbatim,
    /// The text was folded: no place inside it can be told.
    Folded,
}

/// A value with its place.
#[derive(Debug, Clone)]
pub(in crate::spec) struct Node {
    /// Where it begins.
    pub(in crate::spec) at: Mark,
    /// What it is.
    pub(in crate::spec) value: Value,
}

/// What a node is.
#[derive(Debug, Clone)]
pub(in crate::spec) enum Value {
    /// A leaf.
    Scalar(Scalar),
    /// A list.
    Sequence(Vec<Node>),
    /// Keys with values, in the order of the file.
    Mapping(Vec<Entry>),
}

/// One key of a mapping.
#[derive(Debug, Clone)]
pub(in crate::spec) struct Entry {
    /// The key; keys that are no texts were refused before.
    pub(in crate::spec) key: String,
    /// Where the key stands.
    pub(in crate::spec) at: Mark,
    /// Its value.
    pub(in crate::spec) value: Node,
}

/// A leaf.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::spec) enum Scalar {
    /// `null`, `~` or nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A finite number with a fraction or an exponent.
    Float(f64),
    /// A number that no field can hold: too large, infinite, or not a number. The text as written.
    Unholdable(String),
    /// Everything else.
    Text(String, Layout),
}

impl Node {
    /// A text that stands in the file as it is.
    pub(in crate::spec) fn verbatim(at: Mark, text: impl Into<String>) -> Self {
        Self { at, value: Value::Scalar(Scalar::Text(text.into(), Layout::Verbatim)) }
    }

    /// What it is, with its value where that is short: for messages.
    pub(in crate::spec) fn describe(&self) -> String {
        match &self.value {
            Value::Sequence(_) => "a list".into(),
            Value::Mapping(_) => "a mapping".into(),
            Value::Scalar(Scalar::Null) => "nothing".into(),
            Value::Scalar(Scalar::Bool(value)) => format!("the word {value}"),
            Value::Scalar(Scalar::Int(value)) => format!("the number {value}"),
            Value::Scalar(Scalar::Float(value)) => format!("the number {value}"),
            Value::Scalar(Scalar::Unholdable(text)) => format!("the number {}", shorten(text)),
            Value::Scalar(Scalar::Text(text, _)) => format!("the text {:?}", shorten(text)),
        }
    }

    /// Where a place inside the node's text stands in the file, if it can be told.
    pub(in crate::spec) fn place(&self, line: u32, column: u32) -> Option<Mark> {
        let Value::Scalar(Scalar::Text(_, layout)) = &self.value else { return None };
        match *layout {
            Layout::Inline(skip) if line == 1 => {
                Some(Mark { line: self.at.line, column: self.at.column + skip + column - 1 })
            }
            Layout::Block { line: first, indent } => {
                Some(Mark { line: first + line - 1, column: indent + column })
            }
            Layout::Verbatim if line == 1 => {
                Some(Mark { line: self.at.line, column: self.at.column + column - 1 })
            }
            Layout::Verbatim => Some(Mark { line: self.at.line + line - 1, column }),
            Layout::Inline(_) | Layout::Folded => None,
        }
    }
}

/// The beginning of a text, for messages.
pub(in crate::spec) fn shorten(text: &str) -> String {
    const SHOWN: usize = 40;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

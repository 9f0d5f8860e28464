//! Messages about a program: with line and column, and without values of the row (promise P12).
//!
//! The language puts values into many runtime messages (`Invalid integer "4711"`). A detail is passed on only if it
//! cannot be one: it stands as a literal in the program itself, or it is made of the language's own words.

use vrl::compiler::ExpressionError;
use vrl::diagnostic::{Diagnostic, Label};

/// What messages about types and operators are made of. No word that a row is likely to hold by itself matters here:
/// a message of nothing but these words tells nothing about a person.
const OWN_WORDS: &[&str] = &[
    "a",
    "add",
    "an",
    "and",
    "any",
    "apply",
    "array",
    "assertion",
    "boolean",
    "by",
    "calculate",
    "can't",
    "coerce",
    "compare",
    "convert",
    "divide",
    "expected",
    "failed",
    "float",
    "from",
    "got",
    "integer",
    "into",
    "merge",
    "multiply",
    "nan",
    "never",
    "null",
    "object",
    "of",
    "operation",
    "or",
    "out",
    "produce",
    "range",
    "regex",
    "remainder",
    "string",
    "subtract",
    "these",
    "timestamp",
    "to",
    "type",
    "types",
    "undefined",
    "unhandled",
    "error",
    "would",
    "zero",
    "<",
    "<=",
    ">",
    ">=",
    "-",
];

/// Characters of the program that are shown in a message.
const MAX_SNIPPET: usize = 40;

/// A message with its place: `line 2, column 8: …`. `at`: byte offset in the program.
pub(super) fn at(source: &str, at: usize, message: &str) -> String {
    format!("{}: {message}", place(source, at))
}

/// A problem that the compiler found.
pub(super) fn diagnostic(source: &str, found: &Diagnostic) -> String {
    let primary = found.labels.iter().find(|label| label.primary).or(found.labels.first());
    let Some(label) = primary else { return found.message.clone() };
    // Labels often say the message again; a second one may hold the advice ("did you mean …").
    let mut details: Vec<&str> = Vec::new();
    for detail in found.labels.iter().map(|label| label.message.as_str()) {
        if !detail.is_empty() && !found.message.contains(detail) && !details.contains(&detail) {
            details.push(detail);
        }
    }
    let details = if details.is_empty() { String::new() } else { format!(" ({})", details.join("; ")) };
    at(source, label.span.start(), &format!("{}{}{details}", found.message, snippet(source, label)))
}

/// The beginning of what a label points at, if it points at something.
fn snippet(source: &str, label: &Label) -> String {
    let line = source.get(label.span.range()).and_then(|part| part.lines().next()).unwrap_or_default();
    match line.char_indices().nth(MAX_SNIPPET) {
        Some((end, _)) => format!(" in `{}…`", &line[..end]),
        None if line.is_empty() => String::new(),
        None => format!(" in `{line}`"),
    }
}

/// What went wrong in a run, for the reader of a failure.
pub(super) fn runtime_error(source: &str, error: &ExpressionError) -> String {
    match error {
        ExpressionError::Abort { span, message } => {
            let place = place(source, span.start());
            match message {
                None => format!("the VRL program aborted at {place}"),
                Some(text) if stands_first_in(source.get(span.end()..), text) => {
                    format!("the VRL program aborted at {place}: {text}")
                }
                Some(_) => {
                    format!("the VRL program aborted at {place} (its message may hold values: left out)")
                }
            }
        }
        ExpressionError::Error { message, labels, .. } => failed(source, message, labels.first()),
        ExpressionError::Fallible { span } | ExpressionError::Missing { span, .. } => {
            format!("the VRL program failed at {}: unhandled error", place(source, span.start()))
        }
        ExpressionError::Interrupted | ExpressionError::Return { .. } | ExpressionError::Break { .. } => {
            "the VRL program ended where it must not".to_owned()
        }
    }
}

/// The first label is the innermost function call, with the message before the calls around it were added.
fn failed(source: &str, message: &str, innermost: Option<&Label>) -> String {
    let (detail, call) = match innermost {
        Some(label) => (label.message.as_str(), source.get(label.span.range())),
        None => (message, None),
    };
    let place = match innermost {
        Some(label) => format!(" at {}", place(source, label.span.start())),
        None => String::new(),
    };
    let function: String = call
        .unwrap_or_default()
        .chars()
        .take_while(|letter| letter.is_ascii_alphanumeric() || *letter == '_')
        .collect();
    let function = if function.is_empty() { String::new() } else { format!(" in {function}") };
    if own_words_only(detail) || stands_in(call, detail) {
        format!("the VRL program failed{function}{place}: {detail}")
    } else {
        format!("the VRL program failed{function}{place} (the detail may hold values of the row: left out)")
    }
}

fn stands_in(program: Option<&str>, text: &str) -> bool {
    program.is_some_and(|program| {
        program.contains(&format!("\"{text}\"")) || program.contains(&format!("'{text}'"))
    })
}

/// The span of an `abort` is the word alone; its message follows.
fn stands_first_in(rest: Option<&str>, text: &str) -> bool {
    rest.is_some_and(|rest| rest.trim_start().starts_with(&format!("\"{text}\"")))
}

fn own_words_only(detail: &str) -> bool {
    detail
        .split([' ', ','])
        .filter(|word| !word.is_empty())
        .all(|word| OWN_WORDS.contains(&word.to_lowercase().as_str()))
}

fn place(source: &str, at: usize) -> String {
    let before = source.get(..at).unwrap_or(source);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |text| text.chars().count()) + 1;
    format!("line {line}, column {column}")
}

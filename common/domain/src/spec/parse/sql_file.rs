//! The annotated SQL form: comments that carry the keys, and a section for each direction.
//!
//! It makes the tree that the same spec would have in YAML.

use crate::spec::yaml::{Entry, Layout, Mark, Node, Value, resolve};
use crate::sql::{Comment, MAX_SQL, comments, position};

use super::context::Context;

const HEADER: &str = "shardlift:";
/// One lint rule and, to the end of the line, the reason why it may be broken.
const ALLOW: &str = "shardlift-allow:";
const TOP: Mark = Mark { line: 1, column: 1 };

/// Reads the header and the sections.
pub(super) fn load(ctx: &mut Context, text: &str) -> Option<Node> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.len() > MAX_SQL {
        ctx.invalid(TOP, format!("the file is larger than {} KiB", MAX_SQL / 1024));
        return None;
    }
    let comments = match comments(text) {
        Ok(comments) => comments,
        Err(problem) => {
            ctx.invalid(Mark { line: problem.line, column: problem.column }, problem.message);
            return None;
        }
    };
    let sections = sections(ctx, text, &comments);
    let begin = sections.first().map_or(text.len(), |section| section.comment.start);
    let mut entries = header(ctx, &comments, begin);
    nothing_before(ctx, text, &comments, begin);
    for (index, section) in sections.iter().enumerate() {
        let end = sections.get(index + 1).map_or(text.len(), |next| next.comment.start);
        let at = Mark { line: section.comment.line, column: section.comment.column };
        let body = &text[section.comment.end..end];
        let (line, column) = position(text, section.comment.end);
        let value = Node::verbatim(Mark { line, column }, body);
        if entries.iter().any(|entry| entry.key == section.key) {
            ctx.invalid(at, format!("a second section -- {}", section.key));
        } else {
            entries.push(Entry { key: section.key.into(), at, value });
        }
    }
    Some(Node { at: TOP, value: Value::Mapping(entries) })
}

struct Section<'c> {
    key: &'static str,
    comment: &'c Comment,
}

/// Comments that are `-- up` or `-- down` and alone on their line.
fn sections<'c>(ctx: &mut Context, text: &str, comments: &'c [Comment]) -> Vec<Section<'c>> {
    let mut sections = Vec::new();
    for comment in comments {
        let line = text[..comment.start].rsplit('\n').next().unwrap_or_default();
        let key = match content(comment).map(str::to_ascii_lowercase).as_deref() {
            Some("up") => "up",
            Some("down") => "down",
            _ => continue,
        };
        if line.trim().is_empty() {
            sections.push(Section { key, comment });
        } else {
            let at = Mark { line: comment.line, column: comment.column };
            ctx.invalid(at, format!("\"-- {key}\" begins a section and must stand alone on its line"));
        }
    }
    if sections.is_empty() {
        ctx.invalid(TOP, "the line \"-- up\" is missing; the statements stand below it");
    }
    sections
}

fn content(comment: &Comment) -> Option<&str> {
    comment.text.strip_prefix("--").map(str::trim)
}

/// The keys of all header lines; a `.sql` file is always a PostgreSQL schema spec.
fn header(ctx: &mut Context, comments: &[Comment], begin: usize) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    entries.extend(allowed(ctx, comments, begin));
    let mut found = false;
    for comment in comments {
        let Some(pairs) = content(comment).and_then(|content| content.strip_prefix(HEADER)) else { continue };
        let at = Mark { line: comment.line, column: comment.column };
        if comment.start > begin {
            ctx.invalid(at, "the header \"-- shardlift:\" must stand before the sections");
            continue;
        }
        found = true;
        // The prefix is ASCII: its bytes are its columns.
        let skipped = comment.text.find(HEADER).map_or(0, |start| start + HEADER.len());
        for (offset, pair) in words(pairs) {
            let column = at.column + u32::try_from(skipped + offset).unwrap_or(0);
            add(ctx, &mut entries, Mark { line: at.line, column }, pair);
        }
    }
    if !found {
        ctx.invalid(TOP, "the header is missing; begin with \"-- shardlift: id=… cluster=…\"");
    }
    for (key, value) in [("kind", "schema"), ("engine", "postgres")] {
        if !entries.iter().any(|entry| entry.key == key) {
            entries.push(Entry { key: key.into(), at: TOP, value: Node::verbatim(TOP, value) });
        }
    }
    entries
}

/// What `-- shardlift-allow: RULE REASON` says, as the list that YAML would have.
fn allowed(ctx: &mut Context, comments: &[Comment], begin: usize) -> Option<Entry> {
    let mut items = Vec::new();
    for comment in comments {
        let Some(rest) = content(comment).and_then(|content| content.strip_prefix(ALLOW)) else { continue };
        let at = Mark { line: comment.line, column: comment.column };
        if comment.start > begin {
            ctx.invalid(at, "\"-- shardlift-allow:\" must stand before the sections");
            continue;
        }
        let (rule, reason) = rest.trim().split_once(char::is_whitespace).unwrap_or((rest.trim(), ""));
        let entry = |key: &str, text: &str| Entry { key: key.into(), at, value: Node::verbatim(at, text) };
        items.push(Node {
            at,
            value: Value::Mapping(vec![entry("rule", rule), entry("reason", reason.trim())]),
        });
    }
    let at = items.first()?.at;
    Some(Entry { key: "allow".into(), at, value: Node { at, value: Value::Sequence(items) } })
}

/// Words between blanks, each with its offset in characters.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.split_whitespace().map(move |word| {
        let bytes = word.as_ptr() as usize - text.as_ptr() as usize;
        (text[..bytes].chars().count(), word)
    })
}

fn add(ctx: &mut Context, entries: &mut Vec<Entry>, at: Mark, pair: &str) {
    let Some((key, value)) = pair.split_once('=') else {
        ctx.invalid(at, format!("{pair:?} in the header is not key=value"));
        return;
    };
    if let Some(first) = entries.iter().find(|entry| entry.key == key) {
        ctx.invalid(at, format!("key {key:?} comes twice; it is already on line {}", first.at.line));
        return;
    }
    let width = |text: &str| u32::try_from(text.chars().count()).unwrap_or(0);
    let value_at = Mark { line: at.line, column: at.column + width(key) + 1 };
    let value = match key {
        "depends_on" => {
            let mut column = value_at.column;
            let items = value.split(',').map(|item| {
                let node = Node::verbatim(Mark { line: at.line, column }, item);
                column += width(item) + 1;
                node
            });
            Node { at: value_at, value: Value::Sequence(items.collect()) }
        }
        // A name that looks like a number is still a name here: there are no quotes to put it into.
        "id" | "cluster" => Node::verbatim(value_at, value),
        _ => Node { at: value_at, value: Value::Scalar(resolve(value, Layout::Verbatim)) },
    };
    entries.push(Entry { key: key.into(), at, value });
}

/// Between header and first section only comments may stand.
fn nothing_before(ctx: &mut Context, text: &str, comments: &[Comment], begin: usize) {
    let mut from = 0;
    let ends =
        comments.iter().filter(|comment| comment.start <= begin).map(|comment| (comment.start, comment.end));
    for (start, end) in ends.chain([(begin, begin)]) {
        let gap = text.get(from..start).unwrap_or_default();
        if let Some(offset) = gap.find(|c: char| !c.is_whitespace()) {
            let (line, column) = position(text, from + offset);
            ctx.invalid(Mark { line, column }, "a statement stands before the section \"-- up\"");
            return;
        }
        from = end.max(from);
    }
}

//! Keeps the SQL parser inside bounds: it recurses as deep as its input nests and gives up by a panic, so it gets
//! short text of shallow nesting, and a stack of its own.

use std::thread;

use super::tree::Tree;
use super::{MAX_SQL, SqlProblem};

/// Deepest nesting of brackets.
const MAX_DEPTH: usize = 200;
/// Longest run of operators and `NOT` without anything between them.
const MAX_RUN: usize = 100;
/// Longest chain such as `1+1+1+…`: the parser's time grows with its square.
const MAX_CHAIN: usize = 4000;
/// Stack that every text gets, and what each of its bytes adds: more than the deepest recursion that a text within the
/// bounds can cause (measured without optimisation).
const STACK: usize = 8 * 1024 * 1024;
const STACK_PER_BYTE: usize = 1024;

/// Parses the text and looks at its tree. The tree never leaves the closure.
///
/// The closure runs on another thread: memory for its stack is taken only as far as the nesting needs it, and a panic
/// of the parser ends there and becomes a problem of the text.
pub(super) fn with_tree<T: Send>(
    text: &str,
    look: impl FnOnce(&Tree<'_>) -> T + Send,
) -> Result<T, SqlProblem> {
    check_bounds(text)?;
    let stack = STACK + STACK_PER_BYTE * text.len();
    let outcome = thread::scope(|scope| {
        let parser = thread::Builder::new().name("sql-parser".into()).stack_size(stack);
        parser.spawn_scoped(scope, || look(&Tree::parse(text))).map(|running| running.join())
    });
    match outcome {
        Ok(Ok(seen)) => Ok(seen),
        Ok(Err(_)) => Err(SqlProblem::at(
            text,
            0,
            "the SQL parser cannot make sense of this text; write it in a simpler way",
        )),
        Err(_) => Err(SqlProblem::at(text, 0, "no memory was left to parse this text; try again")),
    }
}

fn check_bounds(text: &str) -> Result<(), SqlProblem> {
    if text.len() > MAX_SQL {
        return Err(SqlProblem::at(text, 0, format!("the text is longer than {} KiB", MAX_SQL / 1024)));
    }
    if let Some(offset) = text.find('\0') {
        return Err(SqlProblem::at(text, offset, "a NUL character is not allowed in SQL"));
    }
    let mut nesting = Nesting::default();
    for (offset, word) in words(text) {
        if !nesting.admits(word, text[..offset].ends_with(RULERS)) {
            return Err(SqlProblem::at(
                text,
                offset,
                "it is nested too deeply, or has too many operators in a row",
            ));
        }
    }
    Ok(())
}

/// Characters that people draw lines with in comments.
const RULERS: [char; 4] = ['-', '=', '*', '#'];

/// How deep the parser may have to go: a rough count that neither knows strings nor comments, with bounds far above
/// what they hold.
#[derive(Default)]
struct Nesting {
    depth: usize,
    run: usize,
    chain: usize,
    after_word: bool,
}

impl Nesting {
    fn admits(&mut self, word: &str, in_ruler: bool) -> bool {
        let is_word = word.starts_with(|c: char| c.is_alphanumeric() || c == '_');
        match word {
            "(" | "[" | "{" => self.depth += 1,
            ")" | "]" | "}" => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        let ends = matches!(word, "(" | ")" | "," | ";");
        let prefix = !ends && !is_word || word.eq_ignore_ascii_case("not");
        self.run = if prefix { self.run + usize::from(!in_ruler) } else { 0 };
        self.chain = match (ends || is_word && self.after_word, is_word) {
            (true, _) => 0,
            (false, true) => self.chain,
            (false, false) => self.chain + 1,
        };
        self.after_word = is_word;
        self.depth <= MAX_DEPTH && self.run <= MAX_RUN && self.chain <= MAX_CHAIN
    }
}

/// Names, and single characters of everything else that is not blank.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut rest = 0;
    std::iter::from_fn(move || {
        let start = rest + text[rest..].find(|c: char| !c.is_whitespace())?;
        let word = |c: char| c.is_alphanumeric() || c == '_';
        let first = text[start..].chars().next()?;
        let length = if word(first) {
            text[start..].find(|c: char| !word(c)).unwrap_or(text.len() - start)
        } else {
            first.len_utf8()
        };
        rest = start + length;
        Some((start, &text[start..rest]))
    })
}

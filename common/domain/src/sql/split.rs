//! Splits a text into statements and says how each must be run.

use squawk_syntax::ast::AstNode;

use super::class::{Class, classify};
use super::guard::with_tree;
use super::preparable::unpreparable;
use super::refused::refusal;
use super::tree::{Tree, start, trimmed};
use super::{SqlProblem, position};

/// One statement of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The statement, without its semicolon and without comments around it.
    pub text: String,
    /// Line of its first word, from 1.
    pub line: u32,
    /// Column of its first word in characters, from 1.
    pub column: u32,
    /// How it must be run.
    pub class: Class,
    /// Why it cannot be part of a prepared transaction, if so.
    pub unpreparable: Option<&'static str>,
}

/// Splits a text of any number of statements. All problems of the text are told at once, in its order.
pub fn split(text: &str) -> Result<Vec<Statement>, Vec<SqlProblem>> {
    with_tree(text, judge).unwrap_or_else(|problem| Err(vec![problem]))
}

fn judge(tree: &Tree<'_>) -> Result<Vec<Statement>, Vec<SqlProblem>> {
    let mut problems = tree.problems();
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut statements = Vec::new();
    for stmt in tree.statements() {
        if let Some((offset, reason)) = refusal(&stmt) {
            problems.push(SqlProblem::at(tree.text, offset, reason));
            continue;
        }
        match classify(&stmt) {
            Err(reason) => problems.push(SqlProblem::at(tree.text, start(stmt.syntax()), reason)),
            Ok(class) => {
                let (from, to) = trimmed(stmt.syntax());
                let (line, column) = position(tree.text, from);
                let unpreparable = unpreparable(&stmt, &class);
                let text = tree.text[from..to].to_owned();
                statements.push(Statement { text, line, column, class, unpreparable });
            }
        }
    }
    if problems.is_empty() { Ok(statements) } else { Err(problems) }
}

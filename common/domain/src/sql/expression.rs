//! Is a text one SQL expression, and nothing that could break out of the place where it will be put?

use squawk_syntax::ast::{AstNode, Stmt};
use squawk_syntax::{SyntaxKind, SyntaxNode, SyntaxToken};

use super::SqlProblem;
use super::guard::with_tree;
use super::refused::names_us;
use super::tree::{Tree, tokens};

/// The text is judged between these, as the batch will put it.
const BEFORE: &str = "SELECT (";
const AFTER: &str = ")";
const BREAKS_OUT: &str = "not one SQL expression: its brackets or statements do not stay within it";

/// Checks that the text is exactly one expression, so that `… AND (text)` and `SET column = (text)` mean what they
/// seem to mean. Comments, parameters (`$1`), lists and a bare `SELECT` are refused.
///
/// Whether its columns and functions exist only the shard can tell.
pub fn check_expression(text: &str) -> Result<(), SqlProblem> {
    if text.trim().is_empty() {
        return Err(SqlProblem::at(text, 0, "the expression is empty"));
    }
    let probe = format!("{BEFORE}{text}{AFTER}");
    let found = with_tree(&probe, |tree| judge(tree, text.len()))?;
    match found {
        None => Ok(()),
        Some((offset, message)) => {
            let offset = offset.saturating_sub(BEFORE.len()).min(text.len());
            Err(SqlProblem::at(text, text.floor_char_boundary(offset), message))
        }
    }
}

/// What is wrong, with the byte offset in the probe.
fn judge(tree: &Tree<'_>, length: usize) -> Option<(usize, String)> {
    if let Some(found) = tree.tokens().find_map(|token| bad_token(&token)) {
        return Some(found);
    }
    if let Some((offset, message)) = tree.first_error() {
        return Some((offset, format!("not one SQL expression: {message}")));
    }
    let end = BEFORE.len() + length;
    let whole = (BEFORE.len() - 1, end + AFTER.len());
    let Some(parens) = only_target(tree).filter(|node| range(node) == whole) else {
        return Some((BEFORE.len(), BREAKS_OUT.into()));
    };
    let kinds: Vec<SyntaxKind> = parens.children().map(|child| child.kind()).collect();
    match (parens.kind(), kinds.as_slice()) {
        (SyntaxKind::PAREN_EXPR, [kind]) if is_query(*kind) => {
            Some((BEFORE.len(), "a query is not an expression; put it into brackets of its own".into()))
        }
        (SyntaxKind::PAREN_EXPR, [_]) => None,
        (SyntaxKind::TUPLE_EXPR, _) => Some((BEFORE.len(), "one expression is expected, not a list".into())),
        // Brackets that close and open again: `a) OR (b`.
        _ => Some((BEFORE.len(), BREAKS_OUT.into())),
    }
}

fn bad_token(token: &SyntaxToken) -> Option<(usize, String)> {
    let message = match token.kind() {
        SyntaxKind::COMMENT => "a comment is not allowed inside an expression; in YAML write it behind a '#'",
        SyntaxKind::SEMICOLON => "';' is not allowed inside an expression",
        SyntaxKind::POSITIONAL_PARAM => "parameters are not allowed: nobody would give them a value",
        SyntaxKind::DEFAULT_KW => "DEFAULT is not an expression; write the value",
        kind if names_us(kind, token.text(), false) => "the name shardlift belongs to Shardlift's own schema",
        _ => return None,
    };
    Some((usize::from(token.text_range().start()), message.to_owned()))
}

/// The expression of a text that is exactly `SELECT expression`.
fn only_target(tree: &Tree<'_>) -> Option<SyntaxNode> {
    let statements = tree.statements();
    let [Stmt::Select(select)] = statements.as_slice() else { return None };
    let clause = select.select_clause()?;
    let list = clause.target_list()?;
    let mut targets = list.targets();
    let (target, None) = (targets.next()?, targets.next()) else { return None };
    let mut parts = target.syntax().children();
    let (expression, None) = (parts.next()?, parts.next()) else { return None };
    Some(expression)
}

fn is_query(kind: SyntaxKind) -> bool {
    matches!(
        kind,
        SyntaxKind::SELECT
            | SyntaxKind::COMPOUND_SELECT
            | SyntaxKind::PAREN_SELECT
            | SyntaxKind::TABLE
            | SyntaxKind::VALUES
    )
}

fn range(node: &SyntaxNode) -> (usize, usize) {
    let mut edges = tokens(node);
    let first = edges.next();
    let start = first.as_ref().map_or(0, |token| usize::from(token.text_range().start()));
    let end = edges.last().or(first).map_or(0, |token| usize::from(token.text_range().end()));
    (start, end)
}

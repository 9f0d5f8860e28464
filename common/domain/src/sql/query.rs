//! Is a text one query that only reads?

use squawk_syntax::SyntaxKind;
use squawk_syntax::ast::{AstNode, Stmt};

use super::SqlProblem;
use super::guard::with_tree;
use super::refused::names_us;
use super::tree::{Tree, start, trimmed};

/// The text of a single `SELECT` (with `WITH` or `UNION`, too), without blanks, comments and semicolons at its ends.
/// Whatever changes or locks rows is refused; what functions do only the shard can tell, which runs it read-only.
pub fn check_query(text: &str) -> Result<String, SqlProblem> {
    with_tree(text, judge)?.map_err(|(offset, message)| SqlProblem::at(text, offset, message))
}

fn judge(tree: &Tree<'_>) -> Result<String, (usize, String)> {
    if let Some((offset, message)) = tree.first_error() {
        return Err((offset, format!("SQL syntax: {message}")));
    }
    let statements = tree.statements();
    let [statement] = statements.as_slice() else {
        return Err((0, format!("one SELECT is expected, not {} statements", statements.len())));
    };
    if !matches!(statement, Stmt::Select(_) | Stmt::CompoundSelect(_) | Stmt::ParenSelect(_)) {
        return Err((start(statement.syntax()), "one SELECT is expected: it must only read".to_owned()));
    }
    let changes = statement.syntax().descendants().find_map(|node| {
        let what = match node.kind() {
            SyntaxKind::INSERT | SyntaxKind::UPDATE | SyntaxKind::DELETE | SyntaxKind::MERGE => {
                "it changes rows"
            }
            SyntaxKind::LOCKING_CLAUSE => "it locks rows",
            SyntaxKind::INTO_CLAUSE | SyntaxKind::SELECT_INTO => "it creates a table",
            _ => return None,
        };
        Some((start(&node), format!("one SELECT is expected that only reads: {what}")))
    });
    if let Some(found) = changes {
        return Err(found);
    }
    for token in tree.tokens() {
        let message = match token.kind() {
            SyntaxKind::POSITIONAL_PARAM => "parameters are not allowed: nobody would give them a value",
            kind if names_us(kind, token.text(), false) => {
                "the name shardlift belongs to Shardlift's own schema"
            }
            _ => continue,
        };
        return Err((usize::from(token.text_range().start()), message.to_owned()));
    }
    let (from, to) = trimmed(statement.syntax());
    Ok(tree.text.get(from..to).unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_select_is_a_query() {
        for (text, kept) in [
            (" SELECT count(*) FROM t -- all\n;", "SELECT count(*) FROM t"),
            ("WITH a AS (SELECT 1) SELECT * FROM a", "WITH a AS (SELECT 1) SELECT * FROM a"),
            ("SELECT 1 UNION SELECT 2", "SELECT 1 UNION SELECT 2"),
            ("(SELECT 1)", "(SELECT 1)"),
        ] {
            assert_eq!(check_query(text).as_deref(), Ok(kept), "{text}");
        }
    }

    #[test]
    fn what_is_no_single_reading_select_is_refused() {
        for (text, why) in [
            ("", "0 statements"),
            ("SELECT 1; SELECT 2", "2 statements"),
            ("DELETE FROM t", "only read"),
            ("WITH gone AS (DELETE FROM t RETURNING *) SELECT count(*) FROM gone", "changes rows"),
            ("WITH a AS (UPDATE t SET x = 1 RETURNING 1) SELECT * FROM a", "changes rows"),
            ("WITH a AS (INSERT INTO t VALUES (1) RETURNING 1) SELECT * FROM a", "changes rows"),
            ("SELECT 1 FROM t FOR UPDATE", "locks rows"),
            ("SELECT 1 INTO copy FROM t", ""),
            ("SELECT $1", "parameters"),
            ("SELECT count(*) FROM shardlift.applied", "own schema"),
            ("SELECT (1", "SQL syntax"),
            ("COMMIT", "only read"),
        ] {
            let problem = check_query(text).expect_err(text);
            assert!(problem.message.contains(why), "{text}: {}", problem.message);
        }
    }
}

//! Which rules of the SQL linter a list of statements breaks. It judges text: whether a table is large or empty it does
//! not know.

use std::str::FromStr;

use squawk_linter::{Linter, LinterSettings, Rule, Version};
use squawk_syntax::SyntaxKind;
use squawk_syntax::ast::{AstNode, Stmt};

use super::canonical::canonical;
use super::guard::with_tree;
use super::tree::{Tree, meaning};
use super::{MAX_SQL, SqlProblem};

/// Between two statements of the text that is judged.
const BETWEEN: &str = ";\n";

/// The rules among `wanted` that are broken: number of the statement (from 1) and name of the rule, each pair once.
/// `server`: the major version of the oldest server that will run them.
///
/// The statements are judged together, as one transaction, since some are harmless only behind others: an index on a
/// table that was created just before. Comments are left out first, so that none can switch a rule off.
pub(crate) fn dangers(
    statements: &[String],
    wanted: &[&str],
    server: Option<u32>,
) -> Result<Vec<(usize, String)>, SqlProblem> {
    let texts: Vec<String> = statements.iter().map(|statement| canonical(statement)).collect();
    let whole = texts.join(BETWEEN);
    if whole.len() <= MAX_SQL {
        return with_tree(&whole, |tree| judge(tree, &texts, wanted, server));
    }
    // Longer than the parser takes at once: each is judged alone, which finds no less.
    let mut found = Vec::new();
    for (at, text) in texts.iter().enumerate() {
        let alone = with_tree(text, |tree| judge(tree, std::slice::from_ref(text), wanted, server))?;
        found.extend(alone.into_iter().map(|(_, rule)| (at + 1, rule)));
    }
    Ok(found)
}

fn judge(tree: &Tree<'_>, texts: &[String], wanted: &[&str], server: Option<u32>) -> Vec<(usize, String)> {
    let mut linter = Linter::from(wanted.iter().filter_map(|name| Rule::from_str(name).ok()));
    let version = server.and_then(|major| Version::from_str(&major.to_string()).ok()).unwrap_or_default();
    linter.settings = LinterSettings { pg_version: version, assume_in_transaction: true };
    let mut starts = Vec::with_capacity(texts.len());
    let mut next = 0;
    for text in texts {
        starts.push(next);
        next += text.len() + BETWEEN.len();
    }
    let mut found: Vec<(usize, String)> = linter
        .lint(tree.parsed(), tree.text)
        .into_iter()
        .map(|broken| {
            let at = usize::from(broken.text_range.start());
            (starts.partition_point(|start| *start <= at), broken.code.to_string())
        })
        .collect();
    for (at, stmt) in tree.statements().iter().enumerate() {
        let own = match stmt {
            Stmt::Truncate(_) => "truncate",
            Stmt::Cluster(_) => "full-rewrite",
            Stmt::Vacuum(vacuum)
                if meaning(vacuum.syntax()).any(|token| token.kind() == SyntaxKind::FULL_KW) =>
            {
                "full-rewrite"
            }
            Stmt::Update(_) | Stmt::Delete(_) | Stmt::Merge(_) => "rows-in-schema",
            _ => continue,
        };
        if wanted.contains(&own) {
            found.push((at + 1, own.to_owned()));
        }
    }
    found.sort();
    found.dedup();
    found
}

//! Which lock a statement asks for, as far as its text says: what a reader of a plan should know beforehand.

use std::fmt;

use squawk_syntax::SyntaxKind;
use squawk_syntax::ast::{AlterTableAction, AstNode, Stmt, TableNameRef};

use super::guard::with_tree;
use super::names::{Relation, parse_relation};
use super::tree::meaning;

/// A lock of a table, from the weakest to the strongest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lock {
    /// Readers and writers go on.
    RowExclusive,
    /// Readers and writers go on; other schema changes and vacuum wait.
    ShareUpdateExclusive,
    /// Writers wait.
    Share,
    /// Writers wait.
    ShareRowExclusive,
    /// Everybody waits.
    AccessExclusive,
}

impl Lock {
    /// Who has to wait meanwhile.
    pub fn effect(self) -> &'static str {
        match self {
            Lock::RowExclusive | Lock::ShareUpdateExclusive => "reads and writes go on",
            Lock::Share | Lock::ShareRowExclusive => "writes wait",
            Lock::AccessExclusive => "reads and writes wait",
        }
    }
}

impl fmt::Display for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Lock::RowExclusive => "ROW EXCLUSIVE",
            Lock::ShareUpdateExclusive => "SHARE UPDATE EXCLUSIVE",
            Lock::Share => "SHARE",
            Lock::ShareRowExclusive => "SHARE ROW EXCLUSIVE",
            Lock::AccessExclusive => "ACCESS EXCLUSIVE",
        })
    }
}

/// The lock that each statement asks for, and the table: the first one that it names. Statements of which nothing is known,
/// or that make something new, are left out. Statements are counted from 1.
pub fn locks(statements: &[String]) -> Vec<(usize, Lock, Relation)> {
    let mut found = Vec::new();
    for (at, statement) in statements.iter().enumerate() {
        let of = with_tree(statement, |tree| tree.statements().first().and_then(of));
        if let Ok(Some((lock, table))) = of {
            found.push((at + 1, lock, table));
        }
    }
    found
}

fn of(stmt: &Stmt) -> Option<(Lock, Relation)> {
    let has = |kind| meaning(stmt.syntax()).any(|token| token.kind() == kind);
    let concurrently = has(SyntaxKind::CONCURRENTLY_KW);
    let lock = match stmt {
        Stmt::AlterTable(alter) => alter.actions().map(|action| of_action(&action)).max()?,
        Stmt::CreateIndex(_) | Stmt::Reindex(_) if concurrently => Lock::ShareUpdateExclusive,
        Stmt::CreateIndex(_) | Stmt::Reindex(_) => Lock::Share,
        Stmt::Vacuum(_) if !has(SyntaxKind::FULL_KW) => Lock::ShareUpdateExclusive,
        Stmt::Vacuum(_) | Stmt::Cluster(_) | Stmt::DropTable(_) | Stmt::Truncate(_) => Lock::AccessExclusive,
        Stmt::CreateTrigger(_) => Lock::ShareRowExclusive,
        Stmt::Update(_) | Stmt::Delete(_) | Stmt::Insert(_) | Stmt::Merge(_) => Lock::RowExclusive,
        _ => return None,
    };
    let table = stmt.syntax().descendants().find_map(TableNameRef::cast)?;
    let text: String = meaning(table.syntax()).map(|token| token.text().to_owned()).collect();
    Some((lock, parse_relation(&text).ok()?))
}

fn of_action(action: &AlterTableAction) -> Lock {
    match action {
        AlterTableAction::ValidateConstraint(_) | AlterTableAction::AttachPartition(_) => {
            Lock::ShareUpdateExclusive
        }
        AlterTableAction::AddConstraint(add)
            if meaning(add.syntax()).any(|token| token.kind() == SyntaxKind::FOREIGN_KW) =>
        {
            Lock::ShareRowExclusive
        }
        _ => Lock::AccessExclusive,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_of_a_statement_is_known_from_its_text() {
        let cases = [
            ("ALTER TABLE t ADD COLUMN a int", "ACCESS EXCLUSIVE"),
            ("ALTER TABLE t VALIDATE CONSTRAINT c", "SHARE UPDATE EXCLUSIVE"),
            ("ALTER TABLE t VALIDATE CONSTRAINT c, ADD COLUMN a int", "ACCESS EXCLUSIVE"),
            (
                "ALTER TABLE t ADD CONSTRAINT c FOREIGN KEY (a) REFERENCES u (a) NOT VALID",
                "SHARE ROW EXCLUSIVE",
            ),
            ("CREATE INDEX CONCURRENTLY i ON t (a)", "SHARE UPDATE EXCLUSIVE"),
            ("CREATE UNIQUE INDEX i ON t (a)", "SHARE"),
            ("DROP TABLE t", "ACCESS EXCLUSIVE"),
        ];
        for (statement, lock) in cases {
            let found = locks(&[statement.to_owned()]);
            let [(1, found, table)] = found.as_slice() else { panic!("{statement}: {found:?}") };
            assert_eq!(
                (found.to_string().as_str(), table.to_string().as_str()),
                (lock, "\"t\""),
                "{statement}"
            );
        }
        assert!(locks(&["CREATE TABLE t (a int)".to_owned()]).is_empty());
    }
}

//! What a schema statement would drop of the values that a shard holds.

use squawk_syntax::SyntaxKind;
use squawk_syntax::ast::{AlterTable, AlterTableAction, AstNode, Stmt};

use super::SqlProblem;
use super::guard::with_tree;
use super::names::{Relation, parse_ident, parse_relation};
use super::tree::meaning;

/// Something that goes away with a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dropped {
    /// A table with all its rows.
    Table(Relation),
    /// A column with all its values.
    Column {
        /// Of this table.
        table: Relation,
        /// As the catalog has it.
        column: String,
    },
    /// Nobody can tell what from the statement alone; its first words.
    Unknown(String),
}

/// What the statements of this text drop, in order. Statements that only change shapes, such as an index's, drop nothing.
pub fn drops(text: &str) -> Result<Vec<Dropped>, SqlProblem> {
    with_tree(text, |tree| tree.statements().iter().flat_map(of_statement).collect())
}

fn of_statement(stmt: &Stmt) -> Vec<Dropped> {
    let unknown = || {
        let words: Vec<String> = meaning(stmt.syntax()).take(4).map(|t| t.text().to_owned()).collect();
        Dropped::Unknown(words.join(" "))
    };
    if meaning(stmt.syntax()).any(|token| token.kind() == SyntaxKind::CASCADE_KW) {
        return vec![unknown()];
    }
    match stmt {
        Stmt::DropTable(drop) => {
            let tables = drop.table_name_refs().map(|name| relation(name.syntax()));
            tables.map(|table| table.map_or_else(unknown, Dropped::Table)).collect()
        }
        Stmt::AlterTable(alter) => of_table(alter).unwrap_or_else(|| vec![unknown()]),
        Stmt::Delete(_) | Stmt::Truncate(_) | Stmt::Update(_) | Stmt::DropSchema(_) | Stmt::Do(_) => {
            vec![unknown()]
        }
        _ => Vec::new(),
    }
}

/// `None`: a name cannot be read.
fn of_table(alter: &AlterTable) -> Option<Vec<Dropped>> {
    let mut dropped = Vec::new();
    for action in alter.actions() {
        let AlterTableAction::DropColumn(drop) = action else { continue };
        let table = alter.table_relation_name().and_then(|name| name.table_name_ref())?;
        let column: String = meaning(drop.column_name_ref()?.syntax()).map(|t| t.text().to_owned()).collect();
        let column = parse_ident(&column).ok()?;
        dropped.push(Dropped::Column { table: relation(table.syntax())?, column });
    }
    Some(dropped)
}

fn relation(node: &squawk_syntax::SyntaxNode) -> Option<Relation> {
    let text: String = meaning(node).map(|token| token.text().to_owned()).collect();
    parse_relation(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(table: &str) -> Relation {
        parse_relation(table).expect("a name")
    }

    #[test]
    fn columns_and_tables_are_named_and_the_rest_is_not_guessed() {
        let column = |table, column: &str| Dropped::Column { table: named(table), column: column.into() };
        let found = drops(
            "ALTER TABLE app.notes DROP COLUMN \"Body\", ADD COLUMN x int, DROP IF EXISTS y; DROP TABLE a, b.c; \
             DROP INDEX i; ALTER TABLE notes DROP CONSTRAINT k; CREATE INDEX j ON notes (id)",
        );
        let expected = vec![
            column("app.notes", "Body"),
            column("app.notes", "y"),
            Dropped::Table(named("a")),
            Dropped::Table(named("b.c")),
        ];
        assert_eq!(found, Ok(expected));
    }

    #[test]
    fn what_may_drop_anything_is_unknown() {
        for text in
            ["DROP TABLE a CASCADE", "DELETE FROM a", "TRUNCATE a", "DROP SCHEMA s", "UPDATE a SET b = 1"]
        {
            assert!(matches!(drops(text).as_deref(), Ok([Dropped::Unknown(_)])), "{text}");
        }
    }
}

//! Which tables a statement names: those whose locks it will ask for.

use std::collections::BTreeMap;

use squawk_syntax::SyntaxNode;
use squawk_syntax::ast::{AstNode, Stmt, TableNameRef};

use super::guard::with_tree;
use super::names::{Relation, parse_relation};
use super::tree::meaning;

/// The tables that these statements name, and whether one of them changes the table itself, which only its owner may.
/// What cannot be read is left out: it is a question of comfort, not of safety.
pub fn touched(statements: &[String]) -> BTreeMap<Relation, bool> {
    let mut tables = BTreeMap::new();
    for statement in statements {
        let Ok(named) = with_tree(statement, |tree| {
            tree.statements().iter().flat_map(of).collect::<Vec<(Relation, bool)>>()
        }) else {
            continue;
        };
        for (relation, changed) in named {
            *tables.entry(relation).or_default() |= changed;
        }
    }
    tables
}

fn of(stmt: &Stmt) -> Vec<(Relation, bool)> {
    let own: Vec<SyntaxNode> = match stmt {
        Stmt::AlterTable(alter) => {
            alter.table_relation_name().and_then(|name| name.table_name_ref()).into_iter().collect()
        }
        Stmt::CreateIndex(create) => {
            create.table_relation_name().and_then(|name| name.table_name_ref()).into_iter().collect()
        }
        Stmt::DropTable(drop) => drop.table_name_refs().collect::<Vec<_>>(),
        _ => Vec::new(),
    }
    .iter()
    .map(|name: &TableNameRef| name.syntax().clone())
    .collect();
    let all = stmt.syntax().descendants().filter_map(TableNameRef::cast);
    all.filter_map(|name| {
        let text: String = meaning(name.syntax()).map(|token| token.text().to_owned()).collect();
        let relation = parse_relation(&text).ok()?;
        Some((relation, own.contains(name.syntax())))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_read_from_what_names_them() {
        let statements = [
            "ALTER TABLE public.Messages ADD COLUMN t bigint REFERENCES tenants (id)",
            "CREATE INDEX CONCURRENTLY i ON \"Drafts\" (a)",
            "DROP TABLE a, b",
            "COMMENT ON COLUMN c.d IS 'x'",
        ]
        .map(str::to_owned);
        let named: Vec<String> =
            touched(&statements).iter().map(|(name, own)| format!("{name} {own}")).collect();
        assert_eq!(
            named,
            [
                "\"Drafts\" true",
                "\"a\" true",
                "\"b\" true",
                "\"tenants\" false",
                "\"public\".\"messages\" true"
            ]
        );
    }
}

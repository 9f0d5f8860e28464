//! Which statements run inside a transaction and which do not.

use squawk_syntax::SyntaxKind;
use squawk_syntax::ast::{AlterTableAction, AstNode, DetachPartitionOption, ReindexTarget, Stmt};

use super::names::{Relation, parse_relation};
use super::tree::meaning;

/// How a statement must be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Class {
    /// Inside a transaction, together with its ledger row.
    Transactional,
    /// Alone: the server refuses it inside a transaction block. After a crash inspection decides.
    NonTransactional(NonTransactionalKind),
}

/// Statements that refuse a transaction, with what is needed to resume them after a crash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NonTransactionalKind {
    /// `CREATE INDEX CONCURRENTLY`: a crash leaves an invalid index, which is dropped and built again.
    CreateIndexConcurrently {
        /// The index, without a schema: it lives in the table's.
        index: String,
        /// The table.
        table: Relation,
    },
    /// `DROP INDEX CONCURRENTLY`: done when the index is gone.
    DropIndexConcurrently {
        /// The index.
        index: Relation,
    },
    /// `REINDEX … CONCURRENTLY`, or of a schema: may be repeated; a crash leaves invalid indexes named `…_ccnew`.
    Reindex,
    /// `VACUUM`: may be repeated.
    Vacuum,
    /// `CLUSTER` of all tables: may be repeated.
    ClusterAll,
    /// `ALTER SYSTEM`: may be repeated.
    AlterSystem,
}

/// Judges a statement. An error is a statement that cannot be run safely; its text says why and what to write instead.
pub(super) fn classify(stmt: &Stmt) -> Result<Class, String> {
    use NonTransactionalKind as Kind;
    let alone = |kind| Ok(Class::NonTransactional(kind));
    match stmt {
        Stmt::CreateIndex(create) if create.concurrently_token().is_some() => {
            let name = create.index().ok_or(
                "CREATE INDEX CONCURRENTLY needs a name for the index, so that it can be resumed after a crash",
            )?;
            let table = create.table_relation_name().and_then(|t| t.table_name_ref()).ok_or("the table is missing")?;
            let index = relation(name.syntax())?;
            alone(Kind::CreateIndexConcurrently { index: index.name, table: relation(table.syntax())? })
        }
        Stmt::DropIndex(drop) if drop.concurrently_token().is_some() => {
            let mut indexes = drop.index_refs();
            match (indexes.next(), indexes.next()) {
                (Some(index), None) => alone(Kind::DropIndexConcurrently { index: relation(index.syntax())? }),
                _ => Err("DROP INDEX CONCURRENTLY takes exactly one index".into()),
            }
        }
        Stmt::Reindex(reindex) => {
            let concurrently = meaning(reindex.syntax()).any(|t| t.kind() == SyntaxKind::CONCURRENTLY_KW);
            let wide = !matches!(
                reindex.reindex_target(),
                Some(ReindexTarget::ReindexTargetIndex(_) | ReindexTarget::ReindexTargetTable(_))
            );
            if concurrently || wide { alone(Kind::Reindex) } else { Ok(Class::Transactional) }
        }
        Stmt::Vacuum(_) => alone(Kind::Vacuum),
        Stmt::Cluster(cluster) if meaning(cluster.syntax()).all(|t| t.kind() != SyntaxKind::IDENT) => {
            alone(Kind::ClusterAll)
        }
        Stmt::AlterSystem(_) => alone(Kind::AlterSystem),
        Stmt::AlterTable(alter) if alter.actions().any(|action| detaches_concurrently(&action)) => {
            Err("DETACH PARTITION CONCURRENTLY cannot be resumed after a crash; write DETACH PARTITION without it".into())
        }
        _ => Ok(Class::Transactional),
    }
}

fn detaches_concurrently(action: &AlterTableAction) -> bool {
    let AlterTableAction::DetachPartition(detach) = action else { return false };
    matches!(
        detach.detach_partition_option(),
        Some(DetachPartitionOption::DetachConcurrently(_) | DetachPartitionOption::DetachFinalize(_))
    )
}

fn relation(node: &squawk_syntax::SyntaxNode) -> Result<Relation, String> {
    let text: String = meaning(node).map(|token| token.text().to_owned()).collect();
    parse_relation(&text).map_err(|problem| problem.message)
}

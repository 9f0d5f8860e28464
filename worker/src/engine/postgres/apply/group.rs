//! Divides the statements of a change into what shares a transaction and what must run alone.

use shardlift_domain::ids::ShardId;
use shardlift_domain::spec::SchemaChange;
use shardlift_domain::sql::{Class, NonTransactionalKind, split};

use crate::engine::EngineResult;
use crate::engine::postgres::walk::misfit;

/// Statements that run as one.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Group {
    /// In one transaction.
    Together { position: usize, statements: Vec<String> },
    /// Outside of any transaction.
    Alone { position: usize, statement: String, kind: NonTransactionalKind },
}

impl Group {
    /// Which statement of the spec is its first, from 0: the group's name in the shard.
    pub(super) fn position(&self) -> usize {
        match self {
            Group::Together { position, .. } | Group::Alone { position, .. } => *position,
        }
    }
}

/// The groups, in the order of the spec.
pub(super) fn groups(shard: &ShardId, change: &SchemaChange) -> EngineResult<Vec<Group>> {
    let SchemaChange::Sql(texts) = change else {
        return Err(misfit(shard, "MongoDB commands cannot run on PostgreSQL".into()));
    };
    let mut groups = Vec::new();
    let mut position = 0;
    for text in texts {
        let statements = split(text).map_err(|problems| {
            let words: Vec<String> = problems.iter().map(ToString::to_string).collect();
            misfit(shard, format!("a statement cannot be read: {}", words.join(", ")))
        })?;
        for statement in statements {
            match (statement.class, groups.last_mut()) {
                (Class::NonTransactional(kind), _) => {
                    groups.push(Group::Alone { position, statement: statement.text, kind });
                }
                (Class::Transactional, Some(Group::Together { statements, .. })) => {
                    statements.push(statement.text)
                }
                (Class::Transactional, _) => {
                    groups.push(Group::Together { position, statements: vec![statement.text] });
                }
            }
            position += 1;
        }
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_share_a_transaction_and_loners_stand_between() {
        let texts = [
            "CREATE TABLE a (id int)",
            "ALTER TABLE a ADD b int",
            "CREATE INDEX CONCURRENTLY a_b ON a (b)",
            "ALTER TABLE a ADD c int",
        ];
        let change = SchemaChange::Sql(texts.map(str::to_owned).to_vec());
        let groups = groups(&ShardId::new("s").expect("a name"), &change).expect("they can be read");
        let positions: Vec<usize> = groups.iter().map(Group::position).collect();
        assert_eq!(positions, [0, 2, 3]);
        assert!(matches!(&groups[0], Group::Together { statements, .. } if statements.len() == 2));
        assert!(matches!(&groups[1], Group::Alone { .. }));
    }
}

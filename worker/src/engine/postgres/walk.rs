//! A data migration as it stands against the real table: resolved once per call, then only turned into SQL.

use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::ids::{MigrationKey, ShardId, TaskId};
use shardlift_domain::spec::{Transform, Where};
use shardlift_domain::sql::{parse_ident, quote_ident};

use super::error::OrTrouble;
use super::key::Key;
use super::session::{QUICK, Session, within};
use super::table::{self, Table};
use crate::engine::{DataJob, EngineError, EngineResult};

/// The table, its key, and the predicate of pending rows.
#[derive(Debug, Clone)]
pub(super) struct Walk {
    pub(super) migration: MigrationKey,
    pub(super) table: Table,
    pub(super) key: Key,
    /// `where` of the spec; `None`: every row of the interval.
    pub(super) pending: Option<String>,
}

impl Walk {
    /// Reads the catalog. A table that does not fit (any more) is refused.
    pub(super) async fn resolve(session: &mut Session, task: &TaskId, job: &DataJob) -> EngineResult<Self> {
        let shard = session.shard.clone();
        let source = &job.data.source;
        let found =
            within(QUICK, table::read(&mut session.conn, &source.relation)).await.or_trouble(&shard)?;
        let table = found.ok_or_else(|| misfit(&shard, format!("there is no table {}", source.relation)))?;
        let key =
            within(QUICK, table::key(&mut session.conn, &table, &source.key)).await.or_trouble(&shard)?;
        let key = key.map_err(|why| misfit(&shard, why))?;
        let pending = predicate(&shard, source.pending.as_ref())?;
        Ok(Self { migration: task.migration.clone(), table, key, pending })
    }

    /// ` AND (where)`, or nothing.
    pub(super) fn and_pending(&self) -> String {
        self.pending.as_ref().map(|predicate| format!(" AND ({predicate})")).unwrap_or_default()
    }

    /// An expression that says whether a row is (still) pending. Without `where` no row is, once it was walked over.
    pub(super) fn still(&self) -> String {
        self.pending.as_ref().map_or_else(|| "false".into(), |predicate| format!("({predicate})"))
    }
}

/// The SQL predicate of the spec.
pub(super) fn predicate(shard: &ShardId, pending: Option<&Where>) -> EngineResult<Option<String>> {
    match pending {
        None => Ok(None),
        Some(Where::Sql(text)) => Ok(Some(text.clone())),
        Some(Where::Query(_)) => {
            Err(misfit(shard, "a MongoDB query cannot select rows of PostgreSQL".into()))
        }
    }
}

/// The `SET` list of a transform that runs in the shard; `None`: it runs in the worker.
pub(super) fn assignments(
    shard: &ShardId,
    transform: &Transform,
) -> EngineResult<Option<Vec<(String, String)>>> {
    match transform {
        Transform::Sql(list) => {
            let name = |text: &String| parse_ident(text).unwrap_or_else(|_| text.clone());
            Ok(Some(list.iter().map(|(column, value)| (name(column), value.clone())).collect()))
        }
        Transform::Pipeline(_) => Err(misfit(shard, "a MongoDB pipeline cannot run in PostgreSQL".into())),
        Transform::Vrl(_) | Transform::Named { .. } => Ok(None),
    }
}

/// `"a" = (expression), …`.
pub(super) fn set_list(assignments: &[(String, String)]) -> String {
    let parts: Vec<String> =
        assignments.iter().map(|(column, value)| format!("{} = ({value})", quote_ident(column))).collect();
    parts.join(", ")
}

/// The table and the spec do not fit.
pub(super) fn misfit(shard: &ShardId, why: String) -> EngineError {
    EngineError::Failed(
        Failure::new(
            ErrorCode::PrecheckRefused,
            format!("shard {shard} does not fit the migration: {why}"),
            "make the shard's schema or the spec right, then retry",
        )
        .on_shard(shard),
    )
}

//! A data migration as it stands against the real table: resolved once per call, then only turned into SQL.

use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::ids::{MigrationKey, ShardId, TaskId};
use shardlift_domain::spec::{TenantKey, Tenants, Transform, Where};
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
    /// Whose rows alone are in scope.
    pub(super) tenants: Option<Scope>,
    /// Whether rows may be set aside: such are not pending.
    pub(super) sets_aside: bool,
}

/// The rows of some tenants. Their keys travel as one parameter, `text[]`, and are compared in the column's own type.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    column: String,
    cast: String,
    keys: Vec<String>,
}

impl Scope {
    /// The tenants of the spec against the real table; an error says what does not fit.
    pub(super) fn of(table: &Table, wanted: Option<&Tenants>) -> Result<Option<Self>, String> {
        let Some(wanted) = wanted else { return Ok(None) };
        let column = table.columns.iter().find(|column| column.name == wanted.field);
        let column = column.ok_or_else(|| {
            format!("{} has no column {}, which source.tenant names", table.sql, wanted.field)
        })?;
        let keys = wanted.keys.iter().map(TenantKey::text).collect();
        Ok(Some(Self { column: column.sql(), cast: column.cast.clone(), keys }))
    }
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
        let tenants = Scope::of(&table, source.tenants.as_ref()).map_err(|why| misfit(&shard, why))?;
        let sets_aside = job.data.on_error.budget().is_some();
        Ok(Self { migration: task.migration.clone(), table, key, pending, tenants, sets_aside })
    }

    /// ` AND (where)`, the tenants in the parameter of this number, and not set aside; or nothing.
    pub(super) fn and_pending(&self, tenants: usize) -> String {
        let conditions = self.conditions(tenants).into_iter().chain(self.not_set_aside());
        conditions.map(|condition| format!(" AND {condition}")).collect()
    }

    /// Without `where` no row is looked at twice, so nothing need be left out. Ids are made of harmless letters.
    fn not_set_aside(&self) -> Option<String> {
        (self.sets_aside && self.pending.is_some()).then(|| {
            format!(
                "NOT EXISTS (SELECT FROM shardlift.quarantine shardlift_q WHERE shardlift_q.migration = '{id}' \
                 AND shardlift_q.version = {version} AND shardlift_q.state <> 'retried' AND shardlift_q.key = {key})",
                id = self.migration.id,
                version = self.migration.version.0,
                key = self.key.texts(&self.table.sql),
            )
        })
    }

    /// An expression that says whether a row is (still) pending. Without `where` no row is, once it was walked over.
    pub(super) fn still(&self, tenants: usize) -> String {
        match self.pending {
            Some(_) => format!("({})", self.conditions(tenants).join(" AND ")),
            None => "false".into(),
        }
    }

    /// What is bound to the parameter of the tenants; it may be bound where no statement asks for it.
    pub(super) fn tenant_keys(&self) -> Vec<String> {
        self.tenants.as_ref().map(|scope| scope.keys.clone()).unwrap_or_default()
    }

    fn conditions(&self, tenants: usize) -> Vec<String> {
        let pending = self.pending.as_ref().map(|predicate| format!("({predicate})"));
        let scope = self.tenants.as_ref();
        let scope =
            scope.map(|scope| format!("{} = ANY (${tenants}::text[]::{}[])", scope.column, scope.cast));
        pending.into_iter().chain(scope).collect()
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

//! Takes a schema change back: `down` through the machinery of `up`, once it is known that nothing is lost that nobody spoke of.

use shardlift_domain::failure::ErrorCode;
use shardlift_domain::spec::SchemaChange;
use shardlift_domain::sql::{Dropped, Relation, drops, quote_ident};
use sqlx::{AssertSqlSafe, PgConnection};

use super::{Apply, together};
use crate::engine::postgres::error::OrTrouble;
use crate::engine::postgres::session::{Access, QUICK, Session, within};
use crate::engine::postgres::watch::watched;
use crate::engine::postgres::{fence, ledger};
use crate::engine::{Direction, EngineResult, SchemaJob};
use crate::lease::TaskLease;

/// Runs `down`, or marks a shard that never had `up`.
pub(in crate::engine::postgres) async fn undo(
    access: &Access,
    lease: &TaskLease,
    job: &SchemaJob,
    drop_data: bool,
) -> EngineResult<()> {
    lease.check()?;
    let apply = Apply { access, lease, job, direction: Direction::Down, gid: None };
    let mut session = access.unbounded(lease.task()).await?;
    fence::raise(&mut session.conn, &access.shard, lease.leader()).await?;
    if !apply.applied(&mut session).await? {
        apply.take_back(&mut session, drop_data).await?;
    }
    session.close().await;
    Ok(())
}

impl Apply<'_> {
    async fn take_back(&self, session: &mut Session, drop_data: bool) -> EngineResult<()> {
        let shard = self.shard();
        // From here on `up` cannot come late: it finds this intent under its lock.
        together::mark(self, session).await?;
        let up = ledger::entry(&mut session.conn, self.migration(), Direction::Up);
        if within(QUICK, up).await.or_trouble(shard)?.is_none() {
            let begun = ledger::begun(&mut session.conn, self.migration());
            if within(QUICK, begun).await.or_trouble(shard)? && !drop_data {
                return Err(self.failure(
                    ErrorCode::UndoHalfApplied,
                    format!("only a part of `up` was applied on shard {shard}, and `down` is written for the whole"),
                    "take that part back by hand, then roll back with --drop-data, which only marks this shard",
                ));
            }
            return together::run(self, session, &[], 0, true).await;
        }
        if !drop_data && !self.underway(session).await? {
            self.nothing_is_lost(session).await?;
        }
        self.all(session).await
    }

    /// Whether some statement of `down` was done before: what it dropped is gone, and what it left was looked at.
    async fn underway(&self, session: &mut Session) -> EngineResult<bool> {
        self.is_done(session, 0).await
    }

    async fn nothing_is_lost(&self, session: &mut Session) -> EngineResult<()> {
        let SchemaChange::Sql(texts) = &self.spec().down else { return Ok(()) };
        // They were parsed when the spec was read.
        let mut all = Vec::new();
        for text in texts {
            // They could be read when the spec was; whatever cannot is not guessed.
            all.extend(drops(text).unwrap_or_else(|_| vec![Dropped::Unknown("it".to_owned())]));
        }
        for dropped in all {
            let lost = match &dropped {
                Dropped::Unknown(words) => {
                    Some(format!("what `{words} …` drops cannot be told from the statement"))
                }
                Dropped::Table(table) => {
                    let sql = format!("SELECT EXISTS (SELECT FROM {table})");
                    let found = self.found(session, table, sql).await?;
                    found.then(|| format!("table {table} has rows"))
                }
                Dropped::Column { table, column } => {
                    let sql = self.values(session, table, column).await?;
                    let found = match sql {
                        Some(sql) => self.found(session, table, sql).await?,
                        None => false,
                    };
                    found.then(|| format!("column {column} of {table} holds values"))
                }
            };
            if let Some(lost) = lost {
                return Err(self.failure(
                    ErrorCode::UndoDropsData,
                    format!("`down` would drop values on shard {}: {lost}", self.shard()),
                    "if they may be lost, roll back with --drop-data; if not, keep them and cancel the rollback",
                ));
            }
        }
        Ok(())
    }

    /// Looks for one value that is neither null nor the column's default. `None`: there is no such column.
    async fn values(
        &self,
        session: &mut Session,
        table: &Relation,
        column: &str,
    ) -> EngineResult<Option<String>> {
        let default = default(&mut session.conn, table, column);
        let default = within(QUICK, default).await.or_trouble(self.shard())?;
        let name = quote_ident(column);
        Ok(default.map(|default| {
            let unlike =
                default.map(|default| format!(" AND {name}::text IS DISTINCT FROM ({default})::text"));
            format!(
                "SELECT EXISTS (SELECT FROM {table} WHERE {name} IS NOT NULL{})",
                unlike.unwrap_or_default()
            )
        }))
    }

    /// A scan, which may take long; ended when the lease is.
    async fn found(&self, session: &mut Session, table: &Relation, sql: String) -> EngineResult<bool> {
        let there = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL").bind(table.to_string());
        let there: bool = within(QUICK, there.fetch_one(&mut session.conn)).await.or_trouble(self.shard())?;
        if !there {
            return Ok(false);
        }
        let pid = session.pid;
        let scan = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut session.conn);
        watched(self.access, self.lease, pid, scan).await
    }
}

/// The default of a column, as an expression; outer `None`: there is no such column.
async fn default(
    conn: &mut PgConnection,
    table: &Relation,
    column: &str,
) -> Result<Option<Option<String>>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT pg_get_expr(d.adbin, d.adrelid) FROM pg_attribute a \
         LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum \
         WHERE a.attrelid = to_regclass($1) AND a.attname = $2 AND NOT a.attisdropped",
    )
    .bind(table.to_string())
    .bind(column)
    .fetch_optional(conn)
    .await
}

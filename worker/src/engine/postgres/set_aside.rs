//! Setting one row aside: what it was and why it could not be changed is written in the transaction that advances the
//! checkpoint past it.
//!
//! Rows are counted against the budget under the lock under which passes are laid out, so that two ranges of the shard
//! cannot both take the last place.

use std::sync::Arc;

use shardlift_domain::failure::Failure;
use shardlift_domain::quarantine::Held;
use shardlift_domain::range::RangeState;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::checkpoint::{Claim, state};
use super::error::OrTrouble;
use super::fence;
use super::key::{Bound, shown};
use super::quarantine::held;
use super::session::{QUICK, Session, within};
use super::split::exclude;
use super::walk::Walk;
use super::window::Window;
use crate::engine::{EngineError, EngineResult, over_budget};
use crate::lease::TaskLease;

/// One row on its way into the quarantine.
pub(super) struct Misfit<'a> {
    pub(super) walk: &'a Walk,
    pub(super) claim: &'a Claim,
    pub(super) after: &'a Bound,
    /// A window of this one row.
    pub(super) window: &'a Window,
    pub(super) why: &'a Failure,
    pub(super) budget: u32,
}

impl Misfit<'_> {
    /// In one transaction, or not at all. `None`: the row is not what it was, and nothing was changed.
    pub(super) async fn set_aside(
        &self,
        session: &mut Session,
        lease: &TaskLease,
    ) -> EngineResult<Option<(RangeState, Held)>> {
        // The row that was refused, and not the one behind it, if that row has gone meanwhile.
        let refused = |key: &&Vec<String>| self.why.place.key.as_ref() == Some(&shown(key));
        let Some(key) = self.window.edge.as_ref().filter(refused) else { return Ok(None) };
        let shard = session.shard.clone();
        let mut tx = within(QUICK, session.conn.begin()).await.or_trouble(&shard)?;
        fence::enter(&mut tx, &shard, lease.leader()).await?;
        within(QUICK, exclude(&mut tx, &self.claim.migration)).await.or_trouble(&shard)?;
        if !within(QUICK, self.held_by_us(&mut tx)).await.or_trouble(&shard)? {
            return Err(EngineError::LeaseLost);
        }
        // Rolled back, as every refusal below, when the transaction is dropped.
        if !within(QUICK, self.is_the_next(&mut tx, key)).await.or_trouble(&shard)? {
            return Ok(None);
        }
        let before = within(QUICK, held(&mut tx, &self.claim.migration)).await.or_trouble(&shard)?;
        if before.rows >= u64::from(self.budget) {
            return Err(over_budget(before.rows, self.budget));
        }
        if within(QUICK, self.write(&mut tx, key)).await.or_trouble(&shard)? != 1 {
            return Ok(None);
        }
        let state = within(QUICK, self.advance(&mut tx)).await.or_trouble(&shard)?;
        let state = state.ok_or(EngineError::LeaseLost)?;
        fail::fail_point!("pg-set-aside-before-commit", |_| std::process::abort());
        within(QUICK, tx.commit()).await.or_trouble(&shard)?;
        fail::fail_point!("pg-set-aside-after-commit", |_| std::process::abort());
        Ok(Some((state, Held { rows: before.rows + 1, ..before })))
    }

    async fn held_by_us(&self, conn: &mut PgConnection) -> Result<bool, sqlx::Error> {
        let held = format!("SELECT 1 FROM shardlift.checkpoint c WHERE {} FOR UPDATE", Claim::HOLDS);
        let query = sqlx::query(AssertSqlSafe(Arc::<str>::from(held)));
        Ok(self.claim.bind(query).fetch_optional(conn).await?.is_some())
    }

    /// Whether this row, and no other, is pending in the window; locks it.
    async fn is_the_next(&self, conn: &mut PgConnection, key: &[String]) -> Result<bool, sqlx::Error> {
        let sql = format!(
            "SELECT {texts} FROM {table} WHERE {interval}{pending} LIMIT 2 FOR NO KEY UPDATE",
            texts = self.walk.key.texts(&self.walk.table.sql),
            table = self.walk.table.sql,
            interval = self.walk.key.between(self.after.is_some().then_some(1), Some(2)),
            pending = self.walk.and_pending(3),
        );
        let found = sqlx::query_scalar(AssertSqlSafe(sql)).bind(self.after).bind(&self.window.edge);
        let found: Vec<Vec<String>> = found.bind(self.walk.tenant_keys()).fetch_all(conn).await?;
        Ok(matches!(found.as_slice(), [only] if only == key))
    }

    /// The before-image never leaves the server. A row that was tried again before keeps its count.
    async fn write(&self, conn: &mut PgConnection, key: &[String]) -> Result<u64, sqlx::Error> {
        let table = &self.walk.table;
        let texts: Vec<String> =
            table.columns.iter().map(|column| format!("{}.{}::text", table.sql, column.sql())).collect();
        let sql = format!(
            "INSERT INTO shardlift.quarantine AS shardlift_q \
               (migration, version, key, key_columns, shown, state, class, message, image) \
             SELECT $2, $3, $1, $4, $5, 'held', $6, $7, jsonb_object($8::text[], ARRAY[{texts}]::text[]) \
             FROM {table} WHERE {same} \
             ON CONFLICT (migration, version, key) DO UPDATE SET state = 'held', class = excluded.class, \
               message = excluded.message, image = excluded.image, attempts = shardlift_q.attempts + 1, at = now() \
             WHERE shardlift_q.state = 'retried'",
            texts = texts.join(", "),
            table = table.sql,
            same = self.walk.key.compare("=", 1),
        );
        let names = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect::<Vec<String>>();
        let written = sqlx::query(AssertSqlSafe(sql))
            .bind(key)
            .bind(self.claim.migration.id.as_str())
            .bind(i32::try_from(self.claim.migration.version.0).unwrap_or(i32::MAX))
            .bind(names(self.walk.key.columns().iter().map(|column| column.name.as_str()).collect()))
            .bind(shown(key))
            .bind(self.why.code.as_str())
            .bind(&self.why.message)
            .bind(names(table.columns.iter().map(|column| column.name.as_str()).collect()))
            .execute(conn)
            .await?;
        Ok(written.rows_affected())
    }

    async fn advance(&self, conn: &mut PgConnection) -> Result<Option<RangeState>, sqlx::Error> {
        debug_assert_eq!(Claim::PARAMETERS, 7, "the parameters below follow those of the claim");
        let sql = format!(
            "UPDATE shardlift.checkpoint c SET last_key = $8::text[], rows_seen = c.rows_seen + 1, \
             batches = c.batches + 1, done = $9, at = now() WHERE {} \
             RETURNING c.range_index, c.rows_changed, c.rows_seen, c.batches, c.done",
            Claim::HOLDS
        );
        let row = self.claim.bind(sqlx::query(AssertSqlSafe(Arc::<str>::from(sql))));
        let row = row.bind(&self.window.edge).bind(self.window.last).fetch_optional(conn).await?;
        row.map(|row| state(&row, 0)).transpose()
    }
}

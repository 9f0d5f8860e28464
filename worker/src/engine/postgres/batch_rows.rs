//! A batch whose transform runs in the worker: rows are locked and read, transformed one by one, and only what the
//! transform touched is written back, by one statement.
//!
//! Rows stay locked from the read to the commit, so nothing that the application wrote meanwhile can be lost. Memory
//! holds the changes of one window, never its rows.

use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::spec::Undo;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};
use vrl::value::Value;

use super::changes::Changes;
use super::checkpoint::{Claim, state};
use super::key::{Bound, shown};
use super::session::within;
use super::walk::Walk;
use super::window::{Stretch, Window};
use super::writer::still_pending;
use super::{batch_sql::Advanced, document};
use crate::engine::EngineError;
use crate::transformer::{Document, Transformer};

/// Changes of one batch that are kept in memory; a window that exceeds it is tried again with fewer rows.
const BUDGET: usize = 16 * 1024 * 1024;
/// Transforms are computation: after so many rows other tasks of the worker get their turn.
const TURN: u64 = 64;

/// Why a batch was not committed.
pub(super) enum Refusal {
    /// The database said so.
    Database(sqlx::Error),
    /// We did.
    Engine(EngineError),
}

impl From<sqlx::Error> for Refusal {
    fn from(error: sqlx::Error) -> Self {
        Refusal::Database(error)
    }
}

/// Reads, transforms and writes the pending rows of a window.
pub(super) struct RowsBatch {
    walk: Walk,
    transformer: Arc<dyn Transformer>,
    undo: Undo,
}

impl RowsBatch {
    pub(super) fn new(walk: Walk, transformer: Arc<dyn Transformer>, undo: Undo) -> Self {
        Self { walk, transformer, undo }
    }

    /// The statement that reads, without bounds, for a look at its plan.
    pub(super) fn sample(&self) -> String {
        self.select(false)
    }

    /// One batch in one transaction. `limit`: how long the worker waits for each answer.
    pub(super) async fn run(
        &self,
        conn: &mut PgConnection,
        stretch: Stretch<'_>,
        limit: Duration,
    ) -> Result<Advanced, Refusal> {
        let mut tx = within(limit, conn.begin()).await?;
        let done = self.steps(&mut tx, stretch, limit).await;
        if matches!(done, Ok(Some(_))) {
            fail::fail_point!("pg-before-commit", |_| std::process::abort());
            within(limit, tx.commit()).await?;
        } else {
            // Its locks must not outlast the refusal; when even this fails the connection is broken anyway.
            within(limit, tx.rollback()).await?;
        }
        done
    }

    /// The batch without the end of its transaction.
    pub(super) async fn steps(
        &self,
        conn: &mut PgConnection,
        stretch: Stretch<'_>,
        limit: Duration,
    ) -> Result<Advanced, Refusal> {
        let Stretch { claim, after, window } = stretch;
        let held = format!("SELECT c.batches FROM shardlift.checkpoint c WHERE {} FOR UPDATE", Claim::HOLDS);
        let held = claim.bind(sqlx::query(AssertSqlSafe(Arc::<str>::from(held)))).fetch_optional(&mut *conn);
        let Some(held) = within(limit, held).await? else { return Ok(None) };
        let batch = held.try_get::<i64, _>(0)? + 1;
        let changes = self.changes(&mut *conn, after, window, limit).await?;
        let changed = if changes.is_empty() {
            0
        } else {
            self.write(&mut *conn, &changes, batch, stretch, limit).await?
        };
        let advance = format!(
            "UPDATE shardlift.checkpoint c SET last_key = $8::text[], rows_changed = c.rows_changed + $9, \
             rows_seen = c.rows_seen + $10, batches = c.batches + 1, done = $11, at = now() WHERE {} \
             RETURNING c.range_index, c.rows_changed, c.rows_seen, c.batches, c.done",
            Claim::HOLDS
        );
        let row = claim
            .bind(sqlx::query(AssertSqlSafe(Arc::<str>::from(advance))))
            .bind(&window.edge)
            .bind(changed)
            .bind(i64::from(window.rows))
            .bind(window.last)
            .fetch_optional(conn);
        let row = within(limit, row).await?;
        let row = row.map(|row| state(&row, 0)).transpose()?;
        Ok(row.map(|state| (state, u64::try_from(changed).unwrap_or_default())))
    }

    /// Reads and transforms the pending rows of the window; keeps only what changes.
    async fn changes(
        &self,
        conn: &mut PgConnection,
        after: &Bound,
        window: &Window,
        limit: Duration,
    ) -> Result<Changes, Refusal> {
        let sql = self.select(after.is_some());
        let rows = sqlx::query(AssertSqlSafe(sql)).bind(after).bind(&window.edge);
        let mut rows = rows.bind(self.walk.tenant_keys()).fetch(conn);
        let mut changes = Changes::new(self.walk.key.columns().len(), self.walk.table.columns.len());
        let mut read = 0_u64;
        while let Some(row) = within(limit, rows.try_next()).await? {
            self.transform(&row, &mut changes)?;
            if changes.bytes() > BUDGET && window.rows > 1 {
                return Err(Refusal::Engine(EngineError::TooSlow(Failure::new(
                    ErrorCode::RowContended,
                    "a batch changes more bytes than the worker keeps in memory",
                    "nothing: a smaller batch is tried",
                ))));
            }
            read += 1;
            if read.is_multiple_of(TURN) {
                tokio::task::yield_now().await;
            }
        }
        Ok(changes)
    }

    fn transform(&self, row: &PgRow, changes: &mut Changes) -> Result<(), Refusal> {
        let key: Vec<String> = row.try_get(0)?;
        let refuse = |why: String| Refusal::Engine(refused(why, &key));
        let columns = &self.walk.table.columns;
        let mut before = Vec::with_capacity(columns.len());
        let mut document = Document::new();
        for (n, column) in columns.iter().enumerate() {
            // A database in SQL_ASCII may hold anything.
            let text: Option<&str> = row
                .try_get(n + 1)
                .map_err(|_| refuse(format!("column {} holds bytes that are not UTF-8", column.name)))?;
            let value = document::value(column.shape, text);
            document.insert(column.name.as_str().into(), value.clone());
            before.push((text, value));
        }
        self.transformer.transform(&mut document).map_err(|error| refuse(error.message))?;
        let mut touched = false;
        for (n, (column, (text, old))) in columns.iter().zip(before).enumerate() {
            let new = document.remove(column.name.as_str()).unwrap_or(Value::Null);
            if new == old {
                continue;
            }
            if column.generated || self.walk.key.columns().iter().any(|part| part.name == column.name) {
                return Err(refuse(format!(
                    "column {} cannot be changed: it is a key or computed",
                    column.name
                )));
            }
            let new = document::text(column.shape, &new, text)
                .map_err(|why| refuse(format!("column {}: {why}", column.name)))?;
            if !touched {
                changes.begin_row(&key);
                touched = true;
            }
            changes.set(n, new);
        }
        if let Some(field) = document.keys().next() {
            return Err(refuse(format!(
                "the transform sets {field}, which is no column of {}",
                self.walk.table.sql
            )));
        }
        if !touched && self.walk.pending.is_some() {
            return Err(Refusal::Engine(EngineError::Row(still_pending().at_key(shown(&key)))));
        }
        Ok(())
    }

    async fn write(
        &self,
        conn: &mut PgConnection,
        changes: &Changes,
        batch: i64,
        stretch: Stretch<'_>,
        limit: Duration,
    ) -> Result<i64, Refusal> {
        let Stretch { claim, after, window } = stretch;
        let statement = changes.statement(&self.walk, after.is_some(), self.undo);
        let query = changes.bind(sqlx::query(AssertSqlSafe(statement))).bind(after).bind(&window.edge);
        let query = query.bind(self.walk.tenant_keys());
        let query = match self.undo {
            Undo::None => query,
            Undo::Capture => claim.bind_name(query).bind(batch),
        };
        let row = within(limit, query.fetch_one(conn)).await?;
        let (changed, still): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        if still > 0 {
            return Err(Refusal::Engine(EngineError::Row(still_pending())));
        }
        Ok(changed)
    }

    /// Key and all columns of the pending rows of the window, locked against changes by others (references to them
    /// from other tables stay possible).
    fn select(&self, after: bool) -> String {
        let table = &self.walk.table;
        let texts: Vec<String> =
            table.columns.iter().map(|column| format!("{}.{}::text", table.sql, column.sql())).collect();
        format!(
            "SELECT {key}, {texts} FROM {table} WHERE {interval}{pending} FOR NO KEY UPDATE",
            key = self.walk.key.texts(&table.sql),
            texts = texts.join(", "),
            table = table.sql,
            interval = self.walk.key.between(after.then_some(1), Some(2)),
            pending = self.walk.and_pending(3),
        )
    }
}

fn refused(why: String, key: &[String]) -> EngineError {
    let failure =
        Failure::new(ErrorCode::RowTransform, why, "mend the row or the transform, then apply it again");
    EngineError::Row(failure.at_key(shown(key)))
}

//! Claiming a range: the larger token wins, and who had it before is ended.
//!
//! The claim is one transaction that locks the shard's fence and the checkpoint row. A batch of a former owner that is
//! still under way holds the same row: either it commits first, and the claim reads what it did, or the claim commits
//! first, and the batch finds that it does not hold the range any more. So the claim also settles an unknown outcome.

use std::sync::Arc;
use std::time::Duration;

use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::fence::{Attempt, Epoch, Token};
use shardlift_domain::ids::{ShardId, TaskId};
use shardlift_domain::range::RangeState;
use sqlx::{Connection, PgConnection, Row};
use uuid::Uuid;

use super::batch_rows::RowsBatch;
use super::batch_sql::SqlBatch;
use super::checkpoint::{Claim, state};
use super::error::{OrTrouble, words};
use super::fence::{self, signed, unsigned};
use super::key::Bound;
use super::session::{Access, Purpose, QUICK, Session, task_name, within};
use super::walk::{Walk, assignments, misfit};
use super::window::Edges;
use super::writer::{Change, Writer};
use crate::engine::{DataJob, EngineError, EngineResult, RangeWriter, known_form};
use crate::lease::TaskLease;

/// A statement of a batch may take so many times the spec's target before the server ends it.
const PATIENCE: u32 = 50;
const SHORTEST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(60);

/// Claims the lease's range and returns its writer.
pub(super) async fn open_range(
    access: &Access,
    lease: &TaskLease,
    job: &DataJob,
) -> EngineResult<Box<dyn RangeWriter>> {
    lease.check()?;
    let index = lease.task().range.ok_or_else(|| no_such_range(&access.shard, lease.task()))?;
    let statement = (job.data.batch.target * PATIENCE).clamp(SHORTEST, LONGEST);
    let mut session = access.open(&task_name(lease.task()), Purpose::Batch(statement)).await?;
    let walk = Walk::resolve(&mut session, lease.task(), job).await?;
    let change = change(&session.shard, &walk, job)?;
    end_former(&mut session, lease, index).await?;
    let (claim, held) = claim(&mut session, lease, index).await?;
    Ok(Box::new(Writer {
        session,
        track: Arc::clone(&access.track),
        claim,
        lower: held.lower,
        upper: held.upper,
        state: held.state,
        edges: Edges::new(walk),
        change,
        statement,
        unsure: false,
    }))
}

/// How the rows of a window are to be changed.
pub(super) fn change(shard: &ShardId, walk: &Walk, job: &DataJob) -> EngineResult<Change> {
    if let Some(list) = assignments(shard, &job.data.transform)? {
        return Ok(Change::Sql(SqlBatch::new(walk, &list, job.data.undo)));
    }
    let Some(transformer) = &job.transformer else {
        return Err(misfit(shard, "the spec's transformer was not made".into()));
    };
    Ok(Change::Rows(Box::new(RowsBatch::new(walk.clone(), Arc::clone(transformer), job.data.undo))))
}

/// What the checkpoint row says.
struct Held {
    lower: Bound,
    upper: Bound,
    last: Bound,
    state: RangeState,
    token: Token,
    owner: Option<(i32, String)>,
}

const READ: &str = "\
    SELECT c.range_index, c.rows_changed, c.rows_seen, c.batches, c.done, c.lower_key, c.upper_key, c.last_key,
           c.epoch, c.attempt, c.pid, c.backend_start::text, c.form
    FROM shardlift.checkpoint c WHERE c.migration = $1 AND c.version = $2 AND c.range_index = $3";
const TAKE: &str = "\
    UPDATE shardlift.checkpoint SET epoch = $4, attempt = $5, claim = $6, pid = $7, backend_start = $8::timestamptz,
           at = now()
    WHERE migration = $1 AND version = $2 AND range_index = $3";

/// Ends the owner that the row names, if our token is not smaller: its locks would only be in the claim's way.
async fn end_former(session: &mut Session, lease: &TaskLease, index: u32) -> EngineResult<()> {
    let shard = session.shard.clone();
    fence::raise(&mut session.conn, &shard, lease.leader()).await?;
    let found = read(&mut session.conn, &shard, lease.task(), index, "").await?;
    if found.token > lease.token() {
        return Err(EngineError::LeaseLost);
    }
    if let Some(owner) = found.owner {
        end_backend(session, &owner).await;
    }
    Ok(())
}

async fn claim(session: &mut Session, lease: &TaskLease, index: u32) -> EngineResult<(Claim, Held)> {
    let shard = session.shard.clone();
    let task = lease.task();
    let id = Uuid::new_v4();
    let mut tx = within(QUICK, session.conn.begin()).await.or_trouble(&shard)?;
    fence::enter(&mut tx, &shard, lease.leader()).await?;
    let held = read(&mut tx, &shard, task, index, " FOR UPDATE").await?;
    if held.token > lease.token() {
        return Err(EngineError::LeaseLost);
    }
    let taken = sqlx::query(TAKE)
        .bind(task.migration.id.as_str())
        .bind(i64::from(task.migration.version.0))
        .bind(i64::from(index))
        .bind(signed(lease.token().epoch.0))
        .bind(i64::from(lease.token().attempt.0))
        .bind(id)
        .bind(session.pid)
        .bind(&session.backend_start)
        .execute(&mut *tx);
    within(QUICK, taken).await.or_trouble(&shard)?;
    within(QUICK, tx.commit()).await.or_trouble(&shard)?;
    // Somebody with a smaller token may have come between the first look and the lock.
    if let Some(owner) = &held.owner {
        end_backend(session, owner).await;
    }
    let claim = Claim {
        migration: task.migration.clone(),
        index,
        token: lease.token(),
        id,
        last_key: held.last.clone(),
    };
    Ok((claim, held))
}

async fn read(
    conn: &mut PgConnection,
    shard: &ShardId,
    task: &TaskId,
    index: u32,
    lock: &'static str,
) -> EngineResult<Held> {
    let row = sqlx::query(sqlx::AssertSqlSafe(format!("{READ}{lock}")))
        .bind(task.migration.id.as_str())
        .bind(i64::from(task.migration.version.0))
        .bind(i64::from(index))
        .fetch_optional(conn);
    let row = within(QUICK, row).await.or_trouble(shard)?;
    let row = row.ok_or_else(|| no_such_range(shard, task))?;
    known_form(row.try_get::<i32, _>(12).or_trouble(shard)?.into())?;
    held(&row).or_trouble(shard)
}

fn held(row: &sqlx::postgres::PgRow) -> Result<Held, sqlx::Error> {
    let attempt = u32::try_from(row.try_get::<i64, _>(9)?).unwrap_or(u32::MAX);
    let pid: Option<i32> = row.try_get(10)?;
    let started: Option<String> = row.try_get(11)?;
    Ok(Held {
        state: state(row, 0)?,
        lower: row.try_get(5)?,
        upper: row.try_get(6)?,
        last: row.try_get(7)?,
        token: Token { epoch: Epoch(unsigned(row.try_get(8)?)), attempt: Attempt(attempt) },
        owner: pid.zip(started),
    })
}

/// Ends a server process by its name for all time. That this may fail does no harm: what it could still commit is
/// refused by the token; only its locks would last until its own time limits.
pub(super) async fn end_backend(session: &mut Session, (pid, started): &(i32, String)) {
    let ended = sqlx::query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
         WHERE pid = $1 AND backend_start = $2::timestamptz AND pid <> pg_backend_pid()",
    )
    .bind(pid)
    .bind(started)
    .execute(&mut session.conn);
    match within(QUICK, ended).await {
        Ok(ended) if ended.rows_affected() > 0 => {
            tracing::info!(shard = %session.shard, pid, "ended the session of the former owner");
        }
        Ok(_) => {}
        Err(error) => {
            tracing::warn!(shard = %session.shard, pid, error = words(&error), "could not end the former owner");
        }
    }
}

fn no_such_range(shard: &ShardId, task: &TaskId) -> EngineError {
    EngineError::Failed(
        Failure::new(
            ErrorCode::ShardRefused,
            format!("shard {shard} has no checkpoint of {task}: its table shardlift.checkpoint was changed or restored"),
            "cancel the migration and look what was restored; it can be applied again as a new version",
        )
        .on_shard(shard),
    )
}

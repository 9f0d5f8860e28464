//! Statements that share one transaction with their proof: the ledger's line, or an intent that is done.
//!
//! Nobody waits behind our lock request longer than `lock_timeout`, and no lock is held longer than `hold_timeout`.

use std::time::Duration;

use shardlift_domain::sql::quote_literal;
use shardlift_runtime::retry::{Delays, Policy};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::time::Instant;

use super::Apply;
use super::alone::busy;
use crate::engine::postgres::atomic;
use crate::engine::postgres::blockers::Lookout;
use crate::engine::postgres::claim::end_backend;
use crate::engine::postgres::error::{OrTrouble, sqlstate, trouble};
use crate::engine::postgres::fence;
use crate::engine::postgres::ledger;
use crate::engine::postgres::session::{QUICK, Session, millis, within};
use crate::engine::{EngineError, EngineResult};

/// How locks are tried for: a few times within one task, then the coordinator gives the task out again.
const TRIES: Policy = Policy {
    first: Duration::from_millis(100),
    longest: Duration::from_secs(2),
    // Whoever asks for the status hears who is in the way when this is over.
    total: Some(Duration::from_secs(5)),
};

/// Why one try ended without a commit.
enum Miss {
    /// A lock was not to be had in time.
    Locked,
    /// The lock was held too long.
    TooLong { position: usize, statement: String, error: sqlx::Error },
    /// The statement itself failed.
    Failed { position: usize, statement: String, error: sqlx::Error },
    /// Everything else.
    Engine(EngineError),
}

impl From<EngineError> for Miss {
    fn from(error: EngineError) -> Self {
        Miss::Engine(error)
    }
}

/// Runs the group; `last`: with the ledger's line in the same transaction.
pub(super) async fn run(
    apply: &Apply<'_>,
    session: &mut Session,
    statements: &[String],
    position: usize,
    last: bool,
) -> EngineResult<()> {
    let mut lookout =
        Lookout::new(apply.access, session.pid).ending(apply.spec().on_block.as_deref(), apply.lease);
    let mut delays = Delays::new(&TRIES);
    let glance = (apply.spec().lock_timeout / 4).clamp(Duration::from_millis(20), Duration::from_millis(500));
    let outcome = loop {
        if let Err(over) = apply.lease.check() {
            break Err(over.into());
        }
        match lookout.during(glance, attempt(apply, session, statements, position, last)).await {
            Ok(()) => break Ok(()),
            Err(Miss::Locked) => match delays.next() {
                Some(pause) => tokio::time::sleep(pause).await,
                None => break Err(apply.locked(&lookout)),
            },
            Err(Miss::TooLong { position, statement, error }) => {
                let next = "it would hold its lock longer than hold_timeout: split it (NOT VALID, then VALIDATE; a \
                            nullable column, then a backfill), or raise hold_timeout";
                break Err(apply.failed(position, &statement, &error, next));
            }
            Err(Miss::Failed { position, statement, error }) => {
                let next =
                    "nothing of this transaction was kept: correct the statement or the shard, then retry";
                break Err(apply.failed(position, &statement, &error, next));
            }
            Err(Miss::Engine(error)) => break Err(error),
        }
    };
    lookout.close().await;
    outcome
}

async fn attempt(
    apply: &Apply<'_>,
    session: &mut Session,
    statements: &[String],
    position: usize,
    last: bool,
) -> Result<(), Miss> {
    let shard = apply.shard();
    let (pid, backend_start) = (session.pid, session.backend_start.clone());
    let mut tx = within(QUICK, session.conn.begin()).await.or_trouble(shard)?;
    let done = steps(apply, &mut tx, statements, position).await;
    let done = match done {
        Ok(false) => Ok(()),
        Ok(true) => match prove(apply, &mut tx, pid, &backend_start, position, last).await {
            Ok(()) => set_aside(apply, &mut tx, position).await,
            refused => refused,
        },
        Err(miss) => Err(miss),
    };
    if let Err(miss) = done {
        within(QUICK, tx.rollback()).await.or_trouble(shard)?;
        return Err(miss);
    }
    fail::fail_point!("pg-before-commit", |_| std::process::abort());
    // After PREPARE TRANSACTION there is nothing to commit here; the server only says so.
    let limit = apply.spec().hold_timeout + QUICK;
    match within(limit, tx.commit()).await {
        Ok(()) => {}
        // Deferred constraints are checked now.
        Err(error) if sqlstate(&error).is_some_and(|code| code.starts_with("23")) => {
            let statement = statements.last().cloned().unwrap_or_default();
            return Err(Miss::Failed { position, statement, error });
        }
        Err(error) => return Err(trouble(shard, error).into()),
    }
    fail::fail_point!("pg-after-commit", |_| std::process::abort());
    Ok(())
}

/// Where the intent stands that closes the way for `up`; no list of statements is so long.
const MARK: usize = i32::MAX as usize;

/// Writes that the migration is being taken back, under its lock: whoever still applies it has either committed by then,
/// or will find this.
pub(super) async fn mark(apply: &Apply<'_>, session: &mut Session) -> EngineResult<()> {
    let shard = apply.shard();
    let owners = ledger::appliers(&mut session.conn, apply.migration());
    for owner in within(QUICK, owners).await.or_trouble(shard)? {
        end_backend(session, &owner).await;
    }
    let mut delays = Delays::new(&TRIES);
    let (pid, backend_start) = (session.pid, session.backend_start.clone());
    loop {
        apply.lease.check()?;
        let mut tx = within(QUICK, session.conn.begin()).await.or_trouble(shard)?;
        fence::enter(&mut tx, shard, apply.lease.leader()).await?;
        if within(QUICK, alone(&mut tx, &apply.migration().to_string())).await.or_trouble(shard)? {
            let mark = apply.author(pid, &backend_start).write(&mut tx, MARK, false).await;
            mark.or_trouble(shard)?;
            return within(QUICK, tx.commit()).await.or_trouble(shard);
        }
        within(QUICK, tx.rollback()).await.or_trouble(shard)?;
        let Some(pause) = delays.next() else { return Err(busy(apply)) };
        tokio::time::sleep(pause).await;
    }
}

/// Prepares the transaction if the change is atomic: its outcome is somebody else's decision from here on.
async fn set_aside(apply: &Apply<'_>, tx: &mut PgConnection, position: usize) -> Result<(), Miss> {
    let Some(gid) = &apply.gid else { return Ok(()) };
    fail::fail_point!("pg-before-prepare", |_| std::process::abort());
    let statement = format!("PREPARE TRANSACTION {}", quote_literal(gid));
    let ran = sqlx::raw_sql(AssertSqlSafe(statement.as_str())).execute(tx);
    match within(apply.spec().hold_timeout + QUICK, ran).await.map(drop) {
        Err(error)
            if sqlstate(&error).is_some_and(|code| !code.starts_with("57") && !code.starts_with("08")) =>
        {
            Err(Miss::Failed { position, statement, error })
        }
        other => Ok(other.or_trouble(apply.shard())?),
    }
}

/// Runs the statements. `false`: somebody else has applied the migration meanwhile.
async fn steps(
    apply: &Apply<'_>,
    tx: &mut PgConnection,
    statements: &[String],
    position: usize,
) -> Result<bool, Miss> {
    let shard = apply.shard();
    let lock = apply.spec().lock_timeout;
    let budget = lock + apply.spec().hold_timeout;
    within(QUICK, limit(&mut *tx, "lock_timeout", lock)).await.or_trouble(shard)?;
    within(QUICK, limit(&mut *tx, "statement_timeout", budget)).await.or_trouble(shard)?;
    fence::enter(&mut *tx, shard, apply.lease.leader()).await?;
    if apply.gid.is_some() {
        atomic::enter(&mut *tx, shard, apply.lease).await?;
    }
    if !within(QUICK, alone(&mut *tx, &apply.migration().to_string())).await.or_trouble(shard)? {
        return Err(Miss::Locked);
    }
    let entry = ledger::entry(&mut *tx, apply.migration(), apply.direction);
    if within(QUICK, entry).await.or_trouble(shard)?.is_some() {
        return Ok(false);
    }
    apply.open(&mut *tx).await?;
    let started = Instant::now();
    for (n, statement) in statements.iter().enumerate() {
        // One budget for all: the first lock is held until the last statement is through.
        let left = budget.saturating_sub(started.elapsed()).max(Duration::from_millis(1));
        within(QUICK, limit(&mut *tx, "statement_timeout", left)).await.or_trouble(shard)?;
        let ran = sqlx::raw_sql(AssertSqlSafe(statement.as_str())).execute(&mut *tx);
        if let Err(error) = within(left + QUICK, ran).await {
            let (position, statement) = (position + n, statement.clone());
            return Err(match sqlstate(&error) {
                Some("55P03" | "40P01" | "40001") => Miss::Locked,
                Some("57014") => Miss::TooLong { position, statement, error },
                Some(code) if !code.starts_with("57") && !code.starts_with("08") => {
                    Miss::Failed { position, statement, error }
                }
                _ => trouble(shard, error).into(),
            });
        }
    }
    Ok(true)
}

async fn prove(
    apply: &Apply<'_>,
    tx: &mut PgConnection,
    pid: i32,
    backend_start: &str,
    position: usize,
    last: bool,
) -> Result<(), Miss> {
    let (migration, checksum) = (apply.migration(), &apply.job.spec.checksum);
    let epoch = apply.lease.token().epoch;
    if last {
        let record = ledger::record(tx, (migration, apply.direction), checksum, epoch);
        return Ok(within(QUICK, record).await.or_trouble(apply.shard())?);
    }
    let author = apply.author(pid, backend_start);
    Ok(within(QUICK, author.write(tx, position, true)).await.or_trouble(apply.shard())?)
}

async fn limit(tx: &mut PgConnection, setting: &'static str, limit: Duration) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT set_config($1, $2, true)")
        .bind(setting)
        .bind(millis(limit))
        .execute(tx)
        .await
        .map(drop)
}

/// Whether nobody else applies this migration now. Not waited for: a waiting session would hold a snapshot, and a
/// concurrent index build waits for those.
async fn alone(tx: &mut PgConnection, migration: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT pg_try_advisory_xact_lock(hashtextextended('shardlift apply ' || $1, 0))")
        .bind(migration)
        .fetch_one(tx)
        .await
}

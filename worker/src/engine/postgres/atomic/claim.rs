//! The claim: the larger token speaks for the migration on this shard, and what smaller ones left is ended.

use std::time::Duration;

use shardlift_domain::fence::{Attempt, Epoch, Token};
use shardlift_domain::ids::ShardId;
use shardlift_runtime::retry::{Delays, Policy};
use sqlx::{Connection, PgConnection, Row};

use super::{finish, list};
use crate::engine::postgres::claim::end_backend;
use crate::engine::postgres::error::{OrTrouble, sqlstate, trouble};
use crate::engine::postgres::fence::{self, signed, unsigned};
use crate::engine::postgres::session::{QUICK, Session, within};
use crate::engine::{EngineError, EngineResult};
use crate::lease::TaskLease;

/// How whoever holds the fence or the claim is waited for, after its session was ended and what it prepared rolled back.
const TRIES: Policy = Policy {
    first: Duration::from_millis(50),
    longest: Duration::from_secs(1),
    total: Some(Duration::from_secs(20)),
};

/// Who has claimed.
pub(super) struct Claimed {
    pub(super) token: Token,
    owner: Option<(i32, String)>,
}

/// Makes this hand-out the one that speaks. Afterwards nothing that an earlier one prepared is there or can come.
pub(super) async fn settle(session: &mut Session, lease: &TaskLease, prefix: &str) -> EngineResult<()> {
    let mut delays = Delays::new(&TRIES);
    loop {
        lease.check()?;
        end_former(session, lease).await?;
        roll_back(session, lease, prefix).await?;
        match take(session, lease).await {
            Ok(()) => break,
            // Prepared between the look and the claim, or about to be; or a batch shares the fence.
            Err(EngineError::Contended(failure)) => match delays.next() {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Err(EngineError::Contended(failure)),
            },
            Err(error) => return Err(error),
        }
    }
    roll_back(session, lease, prefix).await
}

async fn end_former(session: &mut Session, lease: &TaskLease) -> EngineResult<()> {
    let shard = session.shard.clone();
    let Some(former) = within(QUICK, read(&mut session.conn, lease, "")).await.or_trouble(&shard)? else {
        return Ok(());
    };
    if former.token > lease.token() {
        return Err(EngineError::LeaseLost);
    }
    if let Some(owner) = former.owner.filter(|owner| owner.0 != session.pid) {
        end_backend(session, &owner).await;
    }
    Ok(())
}

/// By their whole names, and only what an earlier hand-out has prepared.
async fn roll_back(session: &mut Session, lease: &TaskLease, prefix: &str) -> EngineResult<()> {
    let shard = session.shard.clone();
    let prepared = within(QUICK, list::of(&mut session.conn, prefix)).await.or_trouble(&shard)?;
    if prepared.iter().any(|(_, token)| *token > lease.token()) {
        return Err(EngineError::LeaseLost);
    }
    for (gid, token) in prepared {
        tracing::info!(%shard, gid, %token, "rolling back what an earlier hand-out has prepared");
        finish::roll_back(session, &gid).await?;
    }
    Ok(())
}

/// One transaction: the fence, raised to this leader's epoch, and the claim.
async fn take(session: &mut Session, lease: &TaskLease) -> EngineResult<()> {
    let shard = session.shard.clone();
    let (pid, backend_start) = (session.pid, session.backend_start.clone());
    let mut tx = within(QUICK, session.conn.begin()).await.or_trouble(&shard)?;
    let patience = sqlx::query("SET LOCAL lock_timeout = '500ms'").execute(&mut *tx);
    within(QUICK, patience).await.or_trouble(&shard)?;
    fence::raise(&mut tx, &shard, lease.leader()).await?;
    fence::enter(&mut tx, &shard, lease.leader()).await?;
    let taken = match within(QUICK, write(&mut tx, lease, pid, &backend_start)).await {
        // Somebody else has inserted it meanwhile: the next look sees who.
        Err(error) if sqlstate(&error) == Some("23505") => {
            return Err(EngineError::Contended(trouble(&shard, error).into_failure()));
        }
        other => other.or_trouble(&shard)?,
    };
    if !taken {
        return Err(EngineError::LeaseLost);
    }
    within(QUICK, tx.commit()).await.or_trouble(&shard)
}

/// `false`: a larger token has claimed.
async fn write(
    conn: &mut PgConnection,
    lease: &TaskLease,
    pid: i32,
    backend_start: &str,
) -> Result<bool, sqlx::Error> {
    let statement = match read(conn, lease, " FOR UPDATE").await? {
        Some(claimed) if claimed.token > lease.token() => return Ok(false),
        Some(_) => {
            "UPDATE shardlift.vote SET epoch = $3, attempt = $4, pid = $5, backend_start = $6::timestamptz, at = now() \
             WHERE migration = $1 AND version = $2"
        }
        None => {
            "INSERT INTO shardlift.vote (migration, version, epoch, attempt, pid, backend_start) \
             VALUES ($1, $2, $3, $4, $5, $6::timestamptz)"
        }
    };
    let migration = &lease.task().migration;
    let written = sqlx::query(statement)
        .bind(migration.id.as_str())
        .bind(i64::from(migration.version.0))
        .bind(signed(lease.token().epoch.0))
        .bind(i64::from(lease.token().attempt.0))
        .bind(pid)
        .bind(backend_start)
        .execute(conn)
        .await?;
    Ok(written.rows_affected() == 1)
}

/// Who has claimed; `lock`: how the row is locked.
pub(super) async fn read(
    conn: &mut PgConnection,
    lease: &TaskLease,
    lock: &'static str,
) -> Result<Option<Claimed>, sqlx::Error> {
    const READ: &str = "SELECT epoch, attempt, pid, backend_start::text FROM shardlift.vote \
                        WHERE migration = $1 AND version = $2";
    let migration = &lease.task().migration;
    let row = sqlx::query(sqlx::AssertSqlSafe(format!("{READ}{lock}")))
        .bind(migration.id.as_str())
        .bind(i64::from(migration.version.0))
        .fetch_optional(conn)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let attempt = u32::try_from(row.try_get::<i64, _>(1)?).unwrap_or(u32::MAX);
    let token = Token { epoch: Epoch(unsigned(row.try_get(0)?)), attempt: Attempt(attempt) };
    let (pid, started): (Option<i32>, Option<String>) = (row.try_get(2)?, row.try_get(3)?);
    Ok(Some(Claimed { token, owner: pid.zip(started) }))
}

/// Inside the transaction that is to be prepared: refuses a hand-out that does not speak any more, and keeps the next
/// claim waiting until what is prepared here is finished.
pub(in crate::engine::postgres) async fn enter(
    conn: &mut PgConnection,
    shard: &ShardId,
    lease: &TaskLease,
) -> EngineResult<()> {
    let claimed = within(QUICK, read(conn, lease, " FOR UPDATE")).await.or_trouble(shard)?;
    match claimed {
        Some(claimed) if claimed.token == lease.token() => Ok(()),
        _ => Err(EngineError::LeaseLost),
    }
}

//! One shard's part of a change that every shard makes or none: two-phase commit.
//!
//! [`claim`] makes a hand-out the only one that may prepare, and ends what earlier ones have left: prepared transactions of
//! this migration on this shard, by their whole names and no others. A prepared transaction shares the shard's fence and
//! holds the claim, so a later claim cannot be made before it is finished, and nothing of an older hand-out can be prepared
//! after one: after a claim there is nothing left in doubt (the order of Citus' recovery: prepared, active, decisions,
//! prepared again). [`list`] reads what is prepared, [`finish`] ends it.

mod claim;
mod finish;
mod list;

use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::prepared::{gid, gid_prefix};
use sqlx::PgConnection;

pub(super) use claim::enter;
pub(super) use list::told;

use super::apply;
use super::error::OrTrouble;
use super::session::{Access, QUICK, Session, within};
use super::{fence, ledger};
use crate::engine::{Direction, EngineError, EngineResult, SchemaJob};
use crate::lease::TaskLease;

/// Runs `up` with its ledger line and prepares it. What an earlier hand-out prepared is rolled back first: nobody counts on
/// it, since it was not reported under this one.
pub(super) async fn prepare(access: &Access, lease: &TaskLease, job: &SchemaJob) -> EngineResult<()> {
    lease.check()?;
    let mut session = access.unbounded(lease.task()).await?;
    let prefix = prefix(&mut session, lease).await?;
    claim::settle(&mut session, lease, &prefix).await?;
    ledger::still_open(&mut session, &lease.task().migration).await?;
    // A store that was restored from an old copy does not know that it is committed.
    if !committed(&mut session, lease, job).await? {
        apply::prepare(access, lease, job, &mut session, gid(&prefix, lease.token())).await?;
        fail::fail_point!("pg-after-prepare", |_| std::process::abort());
    }
    session.close().await;
    Ok(())
}

/// Commits what was prepared. It was decided, so it is done even if somebody has rolled it back by hand.
pub(super) async fn commit(access: &Access, lease: &TaskLease, job: &SchemaJob) -> EngineResult<()> {
    lease.check()?;
    let mut session = access.unbounded(lease.task()).await?;
    let shard = access.shard.clone();
    let prefix = prefix(&mut session, lease).await?;
    // A decision that a store has lost since speaks for nothing that a newer leader has prepared: all of that has a larger
    // token than this lease.
    fence::glance(&mut session.conn, &shard, lease.leader()).await?;
    let claimed = within(QUICK, claim::read(&mut session.conn, lease, "")).await.or_trouble(&shard)?;
    for (gid, token) in within(QUICK, list::of(&mut session.conn, &prefix)).await.or_trouble(&shard)? {
        if token > lease.token() {
            return Err(EngineError::LeaseLost);
        }
        if claimed.as_ref().is_some_and(|claimed| claimed.token == token) {
            fail::fail_point!("pg-before-commit-prepared", |_| std::process::abort());
            finish::commit(&mut session, &gid).await?;
            fail::fail_point!("pg-after-commit-prepared", |_| std::process::abort());
        }
    }
    let there = committed(&mut session, lease, job).await?;
    session.close().await;
    if !there {
        tracing::warn!(%shard, migration = %lease.task().migration, "what was prepared here is gone, though it was decided that it commits; it is applied now");
        apply::apply(access, lease, job).await?;
    }
    Ok(())
}

/// Rolls back what was prepared, and sees to it that nothing more can be.
pub(super) async fn abort(access: &Access, lease: &TaskLease, job: &SchemaJob) -> EngineResult<()> {
    lease.check()?;
    let mut session = access.unbounded(lease.task()).await?;
    let prefix = prefix(&mut session, lease).await?;
    claim::settle(&mut session, lease, &prefix).await?;
    let migration = &lease.task().migration;
    let there = committed(&mut session, lease, job).await?;
    session.close().await;
    if there {
        return Err(EngineError::Failed(
            Failure::new(
                ErrorCode::LedgerConflict,
                format!("shard {} has committed {migration} already, by a decision that this store does not hold", access.shard),
                "the store was restored from an old copy: mend what stopped the other shards and retry, so that all have it",
            )
            .on_shard(&access.shard),
        ));
    }
    Ok(())
}

/// Whether the ledger has it.
async fn committed(session: &mut Session, lease: &TaskLease, job: &SchemaJob) -> EngineResult<bool> {
    ledger::applied(session, &lease.task().migration, Direction::Up, &job.spec.checksum).await
}

async fn prefix(session: &mut Session, lease: &TaskLease) -> EngineResult<String> {
    let shard = session.shard.clone();
    let uuid = within(QUICK, cluster_uuid(&mut session.conn)).await.or_trouble(&shard)?;
    Ok(gid_prefix(&uuid, &lease.task().migration, &shard))
}

/// The installation's uuid of this cluster, as the shard was told when it was first seen.
async fn cluster_uuid(conn: &mut PgConnection) -> Result<String, sqlx::Error> {
    sqlx::query_scalar("SELECT cluster_uuid FROM shardlift.identity").fetch_one(conn).await
}

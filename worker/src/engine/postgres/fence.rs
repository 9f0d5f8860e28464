//! The shard's own fence: the newest leader it has seen, locked and checked by every claim and every schema step.

use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::fence::{Epoch, Fence, FenceVerdict, Nonce};
use shardlift_domain::ids::ShardId;
use sqlx::{PgConnection, Row};

use super::error::OrTrouble;
use super::session::{QUICK, within};
use crate::engine::{EngineError, EngineResult};

/// The newest leader that was seen; `None`: nobody yet. Locks nothing.
pub(super) async fn read(conn: &mut PgConnection) -> Result<Option<Fence>, sqlx::Error> {
    let row = sqlx::query("SELECT epoch, nonce FROM shardlift.fence").fetch_optional(conn).await?;
    row.map(fence).transpose().map(Option::flatten)
}

/// Lets the shard see this leader, in a transaction of its own, so that a long transaction that follows only shares
/// the row. Does nothing for a leader that is not newer.
pub(super) async fn raise(conn: &mut PgConnection, shard: &ShardId, leader: &Fence) -> EngineResult<()> {
    let raised =
        sqlx::query("UPDATE shardlift.fence SET epoch = $1, nonce = $2, at = now() WHERE epoch < $1")
            .bind(signed(leader.epoch.0))
            .bind(&leader.nonce.0)
            .execute(conn);
    within(QUICK, raised).await.or_trouble(shard).map(drop)
}

/// Inside a transaction: refuses a leader that is not the newest, and keeps newer ones waiting until it ends.
pub(super) async fn enter(conn: &mut PgConnection, shard: &ShardId, leader: &Fence) -> EngineResult<()> {
    let row = sqlx::query("SELECT epoch, nonce FROM shardlift.fence FOR SHARE").fetch_optional(conn);
    let row = within(QUICK, row).await.or_trouble(shard)?;
    admit(shard, row.map(fence).transpose().or_trouble(shard)?.flatten().as_ref(), leader)
}

/// Refuses a leader that is not the newest as of now. Keeps nobody waiting: only for what can name what it touches down to
/// the hand-out, so that a newer leader's work is out of its reach.
pub(super) async fn glance(conn: &mut PgConnection, shard: &ShardId, leader: &Fence) -> EngineResult<()> {
    let seen = within(QUICK, read(conn)).await.or_trouble(shard)?;
    admit(shard, seen.as_ref(), leader)
}

fn admit(shard: &ShardId, seen: Option<&Fence>, leader: &Fence) -> EngineResult<()> {
    let refuse = |code, message: String, next: &str| {
        Err(EngineError::Failed(Failure::new(code, message, next).on_shard(shard)))
    };
    let epoch = seen.map_or(Epoch::NONE, |fence| fence.epoch);
    match Fence::judge(seen, leader) {
        FenceVerdict::Admitted => Ok(()),
        FenceVerdict::Stale => refuse(
            ErrorCode::FenceStale,
            format!("shard {shard} has seen leader {epoch}; this work was given by leader {}", leader.epoch),
            "nothing: the newer leader gives the work out again",
        ),
        FenceVerdict::Forked => refuse(
            ErrorCode::FenceForked,
            format!("shard {shard} has seen another leader with the same epoch {epoch}"),
            "the metadata store was restored from an old copy: let a leader rise above this epoch",
        ),
    }
}

/// A number of ours in the type that PostgreSQL has for it.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The reverse; the tables hold no negative number.
pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

fn fence(row: sqlx::postgres::PgRow) -> Result<Option<Fence>, sqlx::Error> {
    let epoch = unsigned(row.try_get(0)?);
    let nonce = Nonce(row.try_get(1)?);
    Ok((epoch > 0).then_some(Fence { epoch: Epoch(epoch), nonce }))
}

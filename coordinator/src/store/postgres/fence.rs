//! The fence row: what a take-over moves, and what every commit locks.

use shardlift_domain::{Epoch, Fence, Nonce};
use shardlift_runtime::clock;
use sqlx::PgConnection;

use super::super::error::answered;
use super::super::permit::next_epoch;
use super::super::rows::{counted, stored_number, time_text};
use super::super::{Head, LeaderPermit, StoreError};

/// The row as it stands.
pub(super) async fn read(connection: &mut PgConnection) -> Result<Fence, StoreError> {
    fenced(connection, "SELECT epoch, nonce FROM shardlift_coordinator.fence WHERE one = 1").await
}

/// Locks the row until the transaction ends, and refuses whoever holds another fence.
///
/// `FOR SHARE` would conflict with a take-over as well. `FOR UPDATE` also makes this commit wait for one of the same
/// leader whose answer was lost: after it, nothing of the past is in flight.
pub(super) async fn hold(connection: &mut PgConnection, held: &Fence) -> Result<(), StoreError> {
    let lock = "SELECT epoch, nonce FROM shardlift_coordinator.fence WHERE one = 1 FOR UPDATE";
    let current = fenced(connection, lock).await?;
    if current == *held {
        return Ok(());
    }
    Err(StoreError::Fenced { held: held.epoch, current: current.epoch })
}

async fn fenced(connection: &mut PgConnection, select: &'static str) -> Result<Fence, StoreError> {
    let row = answered("read the fence", sqlx::query_as(select).fetch_one(connection)).await?;
    let (epoch, nonce): (i64, String) = row;
    Ok(Fence { epoch: Epoch(counted(epoch)), nonce: Nonce(nonce) })
}

/// How far the chain of the history is.
pub(super) async fn head(connection: &mut PgConnection) -> Result<Head, StoreError> {
    let select = "SELECT history_count, history_hash FROM shardlift_coordinator.fence WHERE one = 1";
    let read = sqlx::query_as(select).fetch_one(connection);
    let (count, hash): (i64, String) = answered("read the head of the history", read).await?;
    Ok(Head { count: counted(count), hash })
}

/// Raises the fence from `seen`, in one statement. It waits for commits that hold the row.
pub(super) async fn raise(
    connection: &mut PgConnection,
    seen: &Fence,
    above: Option<Epoch>,
    nonce: Nonce,
    holder: &str,
) -> Result<LeaderPermit, StoreError> {
    let next = Fence { epoch: next_epoch(seen.epoch, above)?, nonce };
    let raise = sqlx::query(
        "UPDATE shardlift_coordinator.fence SET epoch = $1, nonce = $2, holder = $3, taken_at = $4::timestamptz \
         WHERE one = 1 AND epoch = $5 AND nonce = $6",
    )
    .bind(stored_number(next.epoch.0))
    .bind(&next.nonce.0)
    .bind(holder)
    .bind(time_text(clock::now()))
    .bind(stored_number(seen.epoch.0))
    .bind(&seen.nonce.0)
    .execute(&mut *connection);
    if answered("raise the fence", raise).await?.rows_affected() == 1 {
        return Ok(LeaderPermit::new(next));
    }
    let current = read(connection).await?;
    Err(StoreError::Fenced { held: seen.epoch, current: current.epoch })
}

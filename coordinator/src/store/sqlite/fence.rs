//! The fence row, and the transaction that every write shares with it.

use shardlift_domain::{Epoch, Fence, Nonce};
use shardlift_runtime::clock;
use sqlx::{Sqlite, SqliteConnection, SqlitePool, Transaction};

use super::super::permit::next_epoch;
use super::super::rows::{counted, stored_number, time_text};
use super::super::{Head, LeaderPermit, StoreError};

/// Begins a write. From here on no other connection can begin one, so nobody takes over in between.
pub(super) async fn begin(writer: &SqlitePool) -> Result<Transaction<'static, Sqlite>, StoreError> {
    writer.begin_with("BEGIN IMMEDIATE").await.map_err(StoreError::unavailable("begin a write"))
}

/// Makes a write durable.
pub(super) async fn end(transaction: Transaction<'static, Sqlite>) -> Result<(), StoreError> {
    transaction.commit().await.map_err(StoreError::unavailable("commit"))
}

/// The row as it stands.
pub(super) async fn read(connection: &mut SqliteConnection) -> Result<Fence, StoreError> {
    let (epoch, nonce): (i64, String) = sqlx::query_as("SELECT epoch, nonce FROM fence WHERE one = 1")
        .fetch_one(connection)
        .await
        .map_err(StoreError::unavailable("read the fence"))?;
    Ok(Fence { epoch: Epoch(counted(epoch)), nonce: Nonce(nonce) })
}

/// How far the chain of the history is.
pub(super) async fn head(connection: &mut SqliteConnection) -> Result<Head, StoreError> {
    let (count, hash): (i64, String) =
        sqlx::query_as("SELECT history_count, history_hash FROM fence WHERE one = 1")
            .fetch_one(connection)
            .await
            .map_err(StoreError::unavailable("read the head of the history"))?;
    Ok(Head { count: counted(count), hash })
}

/// Entries were added.
pub(super) async fn move_head(connection: &mut SqliteConnection, head: &Head) -> Result<(), StoreError> {
    sqlx::query("UPDATE fence SET history_count = ?, history_hash = ? WHERE one = 1")
        .bind(stored_number(head.count))
        .bind(&head.hash)
        .execute(connection)
        .await
        .map(drop)
        .map_err(StoreError::unavailable("move the head of the history"))
}

/// Refuses a permit that is not the newest.
pub(super) async fn check(
    connection: &mut SqliteConnection,
    permit: &LeaderPermit,
) -> Result<(), StoreError> {
    expect(connection, permit.fence()).await
}

async fn expect(connection: &mut SqliteConnection, held: &Fence) -> Result<(), StoreError> {
    let current = read(connection).await?;
    if current == *held {
        return Ok(());
    }
    Err(StoreError::Fenced { held: held.epoch, current: current.epoch })
}

/// Raises the fence from `seen` to a higher epoch. Within a write, so nothing comes between the look and the change.
pub(super) async fn raise(
    connection: &mut SqliteConnection,
    seen: &Fence,
    above: Option<Epoch>,
    nonce: Nonce,
    holder: &str,
) -> Result<LeaderPermit, StoreError> {
    expect(connection, seen).await?;
    let next = Fence { epoch: next_epoch(seen.epoch, above)?, nonce };
    let raised = sqlx::query("UPDATE fence SET epoch = ?, nonce = ?, holder = ?, taken_at = ? WHERE one = 1")
        .bind(stored_number(next.epoch.0))
        .bind(&next.nonce.0)
        .bind(holder)
        .bind(time_text(clock::now()))
        .execute(connection)
        .await
        .map_err(StoreError::unavailable("raise the fence"))?;
    if raised.rows_affected() == 1 {
        return Ok(LeaderPermit::new(next));
    }
    Err(StoreError::Unreadable { what: "fence", why: "its only row is gone".to_owned() })
}

//! What running migrations hold. Commits come one after the other, so what was looked up still holds when it is written.

use shardlift_domain::MigrationKey;
use shardlift_domain::migration::Resource;
use sqlx::SqliteConnection;

use super::super::change::Locks;
use super::super::rows::json;
use super::super::tables::{LockRow, lock};
use super::super::{Change, StoreError};
use super::write::row_of;

/// Frees, then acquires.
pub(super) async fn write(
    connection: &mut SqliteConnection,
    change: &Change,
    now: &str,
) -> Result<(), StoreError> {
    for key in &change.freed {
        clear(connection, key).await?;
    }
    for (key, resources) in &change.locked {
        let id = row_of(connection, key).await?;
        clear(connection, key).await?;
        let rows: Vec<_> = resources.iter().map(row).collect();
        let rows = json("migration_locks", &rows)?;
        refuse_held(connection, &rows).await?;
        insert(connection, id, &rows, now).await?;
    }
    Ok(())
}

async fn clear(connection: &mut SqliteConnection, key: &MigrationKey) -> Result<(), StoreError> {
    let free = "DELETE FROM migration_locks WHERE migration_id = \
                (SELECT id FROM migrations WHERE name = ? AND version = ?)";
    sqlx::query(free)
        .bind(key.id.as_str())
        .bind(key.version.0)
        .execute(connection)
        .await
        .map_err(StoreError::unavailable("free locks"))?;
    Ok(())
}

/// A lock as a row of the JSON text that a statement reads.
fn row(resource: &Resource) -> (String, &str, &str, &str) {
    let Resource { cluster, shard, relation } = resource;
    (resource.to_string(), cluster.as_str(), shard.as_str(), relation)
}

/// The migration's own locks were cleared in the same transaction: whatever is found is another one's.
async fn refuse_held(connection: &mut SqliteConnection, rows: &str) -> Result<(), StoreError> {
    let held: Option<LockRow> = sqlx::query_as(
        "SELECT l.cluster, l.shard, l.relation, m.name, m.version FROM json_each(?) AS u \
         JOIN migration_locks l ON l.cluster = u.value ->> 1 AND l.shard = u.value ->> 2 \
         AND (l.relation = u.value ->> 3 OR '*' IN (l.relation, u.value ->> 3)) \
         JOIN migrations m ON m.id = l.migration_id ORDER BY l.resource LIMIT 1",
    )
    .bind(rows)
    .fetch_optional(connection)
    .await
    .map_err(StoreError::unavailable("look for locks"))?;
    let Some(row) = held else { return Ok(()) };
    let (holder, resource) = lock(&row)?;
    Err(StoreError::Locked { resource, holder })
}

async fn insert(connection: &mut SqliteConnection, id: i64, rows: &str, now: &str) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO migration_locks (resource, cluster, shard, relation, migration_id, acquired_at) \
         SELECT u.value ->> 0, u.value ->> 1, u.value ->> 2, u.value ->> 3, ?1, ?2 FROM json_each(?3) AS u",
    )
    .bind(id)
    .bind(now)
    .bind(rows)
    .execute(connection)
    .await
    .map_err(StoreError::unavailable("acquire locks"))?;
    Ok(())
}

/// Everything that is held.
pub(super) async fn read(connection: &mut SqliteConnection) -> Result<Locks, StoreError> {
    let rows: Vec<LockRow> = sqlx::query_as(
        "SELECT l.cluster, l.shard, l.relation, m.name, m.version FROM migration_locks l \
         JOIN migrations m ON m.id = l.migration_id",
    )
    .fetch_all(connection)
    .await
    .map_err(StoreError::unavailable("read the locks"))?;
    let mut locks = Locks::new();
    for row in rows {
        let (key, resource) = lock(&row)?;
        locks.entry(key).or_default().insert(resource);
    }
    Ok(locks)
}

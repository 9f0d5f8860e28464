//! What running migrations hold. Commits come one after the other, so what was looked up still holds when it is written.

use shardlift_domain::MigrationKey;
use shardlift_domain::migration::Resource;
use sqlx::PgConnection;

use super::super::change::Locks;
use super::super::error::answered;
use super::super::tables::{LockRow, lock};
use super::super::{Change, StoreError};

/// Frees, then acquires.
pub(super) async fn write(
    connection: &mut PgConnection,
    change: &Change,
    now: &str,
) -> Result<(), StoreError> {
    for key in &change.freed {
        clear(connection, key).await?;
    }
    for (key, resources) in &change.locked {
        let resources: Vec<&Resource> = resources.iter().collect();
        refuse_held(connection, key, &resources).await?;
        clear(connection, key).await?;
        insert(connection, key, &resources, now).await?;
    }
    Ok(())
}

async fn clear(connection: &mut PgConnection, key: &MigrationKey) -> Result<(), StoreError> {
    let free = sqlx::query(
        "DELETE FROM shardlift_coordinator.migration_locks l USING shardlift_coordinator.migrations m \
         WHERE m.id = l.migration_id AND m.name = $1 AND m.version = $2",
    )
    .bind(key.id.as_str())
    .bind(i64::from(key.version.0))
    .execute(connection);
    answered("free locks", free).await.map(drop)
}

async fn refuse_held(
    connection: &mut PgConnection,
    key: &MigrationKey,
    resources: &[&Resource],
) -> Result<(), StoreError> {
    let held = sqlx::query_as::<_, LockRow>(
        "SELECT l.cluster, l.shard, l.relation, m.name, m.version \
         FROM shardlift_coordinator.migration_locks l \
         JOIN shardlift_coordinator.migrations m ON m.id = l.migration_id \
         JOIN unnest($1::text[], $2::text[], $3::text[]) AS u (cluster, shard, relation) \
         ON l.cluster = u.cluster AND l.shard = u.shard AND (l.relation = u.relation OR '*' IN (l.relation, u.relation)) \
         WHERE NOT (m.name = $4 AND m.version = $5) ORDER BY l.resource LIMIT 1",
    )
    .bind(resources.iter().map(|resource| resource.cluster.as_str()).collect::<Vec<_>>())
    .bind(resources.iter().map(|resource| resource.shard.as_str()).collect::<Vec<_>>())
    .bind(resources.iter().map(|resource| resource.relation.as_str()).collect::<Vec<_>>())
    .bind(key.id.as_str())
    .bind(i64::from(key.version.0))
    .fetch_optional(connection);
    match answered("look for locks", held).await? {
        None => Ok(()),
        Some(row) => {
            let (holder, resource) = lock(&row)?;
            Err(StoreError::Locked { resource, holder })
        }
    }
}

async fn insert(
    connection: &mut PgConnection,
    key: &MigrationKey,
    resources: &[&Resource],
    now: &str,
) -> Result<(), StoreError> {
    let write = sqlx::query(
        "INSERT INTO shardlift_coordinator.migration_locks (resource, cluster, shard, relation, migration_id, acquired_at) \
         SELECT u.resource, u.cluster, u.shard, u.relation, m.id, $7::timestamptz \
         FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS u (resource, cluster, shard, relation) \
         JOIN shardlift_coordinator.migrations m ON m.name = $5 AND m.version = $6",
    )
    .bind(resources.iter().map(ToString::to_string).collect::<Vec<_>>())
    .bind(resources.iter().map(|resource| resource.cluster.as_str()).collect::<Vec<_>>())
    .bind(resources.iter().map(|resource| resource.shard.as_str()).collect::<Vec<_>>())
    .bind(resources.iter().map(|resource| resource.relation.as_str()).collect::<Vec<_>>())
    .bind(key.id.as_str())
    .bind(i64::from(key.version.0))
    .bind(now)
    .execute(connection);
    let written = answered("acquire locks", write).await?.rows_affected();
    if usize::try_from(written) == Ok(resources.len()) {
        Ok(())
    } else {
        Err(StoreError::Unknown(key.clone()))
    }
}

/// Everything that is held.
pub(super) async fn read(connection: &mut PgConnection) -> Result<Locks, StoreError> {
    let select = sqlx::query_as::<_, LockRow>(
        "SELECT l.cluster, l.shard, l.relation, m.name, m.version FROM shardlift_coordinator.migration_locks l \
         JOIN shardlift_coordinator.migrations m ON m.id = l.migration_id",
    );
    let mut rows = select.fetch(connection);
    let mut locks = Locks::new();
    while let Some(row) = super::read::next("read the locks", &mut rows).await? {
        let (key, resource) = lock(&row)?;
        locks.entry(key).or_default().insert(resource);
    }
    Ok(locks)
}

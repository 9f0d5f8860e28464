//! Reading: everything as of one moment, or the history of one id.

use futures::TryStreamExt;
use futures::stream::BoxStream;
use shardlift_domain::MigrationId;
use shardlift_domain::topology::Topology;
use sqlx::PgConnection;

use super::super::error::answered;
use super::super::rows::{from_json, with_decisions};
use super::super::tables::{self, HistoryRow, MigrationRow, ShardRow};
use super::super::{Recorded, Snapshot, StoreError, StoredMigration};
use super::{decisions, directory, locks};

/// Everything; the caller's transaction keeps it to one moment.
pub(super) async fn snapshot(connection: &mut PgConnection) -> Result<Snapshot, StoreError> {
    let decisions = decisions::read(connection).await?;
    Ok(Snapshot {
        topology: topology(connection).await?,
        directory: directory::read(connection).await?,
        migrations: with_decisions(migrations(connection).await?, decisions),
        locks: locks::read(connection).await?,
    })
}

async fn topology(connection: &mut PgConnection) -> Result<Topology, StoreError> {
    let select = "SELECT content::text FROM shardlift_coordinator.topology WHERE one = 1";
    let content = answered("read the topology", sqlx::query_scalar(select).fetch_one(connection)).await?;
    let content: Option<String> = content;
    content.map_or_else(|| Ok(Topology::default()), |text| from_json("topology.content", &text))
}

/// Row by row: a large store may take its time, but not between two rows.
pub(super) async fn next<T>(
    doing: &'static str,
    rows: &mut BoxStream<'_, Result<T, sqlx::Error>>,
) -> Result<Option<T>, StoreError> {
    answered(doing, rows.try_next()).await
}

async fn migrations(connection: &mut PgConnection) -> Result<Vec<StoredMigration>, StoreError> {
    let mut migrations = Vec::new();
    let mut ids = Vec::new();
    let mut rows = sqlx::query_as::<_, MigrationRow>(
        "SELECT id, name, version, type, database_type, cluster, checksum, status, phase, \
         to_char(created_at, 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') AS created_at, \
         to_char(started_at, 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') AS started_at, \
         to_char(completed_at, 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') AS completed_at, \
         metadata::text AS metadata, spec_name, spec_text FROM shardlift_coordinator.migrations ORDER BY id",
    )
    .fetch(&mut *connection);
    while let Some(row) = next("read the migrations", &mut rows).await? {
        ids.push(row.id);
        migrations.push(tables::migration(row)?);
    }
    drop(rows);
    let mut rows = sqlx::query_as::<_, ShardRow>(
        "SELECT migration_id, shard_id, step, verified, wave, error::text AS error, items_processed, items_seen, \
         total_items, batches, ranges, ranges_done, pass FROM shardlift_coordinator.shard_migrations ORDER BY migration_id",
    )
    .fetch(connection);
    while let Some(row) = next("read the shards' parts", &mut rows).await? {
        // A foreign key ties each part to a migration that is there, in the same snapshot.
        let Some(stored) = ids.binary_search(&row.migration_id).ok().and_then(|at| migrations.get_mut(at))
        else {
            continue;
        };
        let (shard, part, progress) = tables::part(&row)?;
        stored.progress.insert(shard.clone(), progress);
        stored.migration.shards.insert(shard, part);
    }
    drop(rows);
    Ok(migrations)
}

/// Entries of all versions of one id, oldest first: the first ones behind a sequence, or the newest ones.
pub(super) async fn events(
    connection: &mut PgConnection,
    id: &MigrationId,
    after: Option<u64>,
    limit: u32,
) -> Result<Vec<Recorded>, StoreError> {
    let rows = match after {
        Some(after) => sqlx::query_as::<_, HistoryRow>(
            "SELECT h.id, m.name, m.version, h.event_type, \
             to_char(h.created_at, 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') AS created_at, h.actor, h.details::text AS details \
             FROM shardlift_coordinator.migration_history h \
             JOIN shardlift_coordinator.migrations m ON m.id = h.migration_id \
             WHERE m.name = $1 AND h.id > $2 ORDER BY h.id LIMIT $3",
        )
        .bind(id.as_str())
        .bind(i64::try_from(after).unwrap_or(i64::MAX)),
        None => sqlx::query_as(
            "SELECT * FROM (SELECT h.id, m.name, m.version, h.event_type, \
             to_char(h.created_at, 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') AS created_at, h.actor, h.details::text AS details \
             FROM shardlift_coordinator.migration_history h \
             JOIN shardlift_coordinator.migrations m ON m.id = h.migration_id \
             WHERE m.name = $1 ORDER BY h.id DESC LIMIT $2) newest ORDER BY id",
        )
        .bind(id.as_str()),
    };
    let rows = answered("read the history", rows.bind(i64::from(limit)).fetch_all(connection)).await?;
    rows.into_iter().map(tables::entry).collect()
}

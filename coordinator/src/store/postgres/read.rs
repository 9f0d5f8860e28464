//! Reading: everything as of one moment, or the history of one id.

use futures::TryStreamExt;
use futures::stream::BoxStream;
use shardlift_domain::MigrationId;
use shardlift_domain::topology::Topology;
use sqlx::PgConnection;

use super::super::error::answered;
use super::super::rows::{from_json, time_text, with_decisions};
use super::super::tables::{self, HistoryRow, LinkRow, MigrationRow, ShardRow};
use super::super::{HistoryEvent, Link, Recorded, Snapshot, StoreError, StoredMigration, Wanted};
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
             to_char(h.created_at, 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') AS created_at, h.actor, h.request, \
             h.details::text AS details FROM shardlift_coordinator.migration_history h \
             JOIN shardlift_coordinator.migrations m ON m.id = h.migration_id \
             WHERE m.name = $1 AND h.id > $2 ORDER BY h.id LIMIT $3",
        )
        .bind(id.as_str())
        .bind(i64::try_from(after).unwrap_or(i64::MAX)),
        None => sqlx::query_as(
            "SELECT * FROM (SELECT h.id, m.name, m.version, h.event_type, \
             to_char(h.created_at, 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') AS created_at, h.actor, h.request, \
             h.details::text AS details \
             FROM shardlift_coordinator.migration_history h \
             JOIN shardlift_coordinator.migrations m ON m.id = h.migration_id \
             WHERE m.name = $1 ORDER BY h.id DESC LIMIT $2) newest ORDER BY id",
        )
        .bind(id.as_str()),
    };
    let rows = answered("read the history", rows.bind(i64::from(limit)).fetch_all(connection)).await?;
    rows.into_iter().map(tables::entry).collect()
}

/// Entries as they stand, of whichever migration.
pub(super) async fn links(connection: &mut PgConnection, wanted: &Wanted) -> Result<Vec<Link>, StoreError> {
    let select = if wanted.after.is_some() {
        "SELECT h.id, h.migration_id AS about, m.name, m.version, h.event_type, \
         to_char(h.created_at, 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') AS created_at, h.actor, h.request, \
         h.details::text AS details, h.hash FROM shardlift_coordinator.migration_history h \
         LEFT JOIN shardlift_coordinator.migrations m ON m.id = h.migration_id \
         WHERE h.id > $1 AND ($2::text IS NULL OR m.name = $2) AND ($3::text IS NULL OR h.actor = $3) \
         AND ($4::text IS NULL OR h.created_at >= $4::timestamptz) AND ($6::text IS NULL OR h.event_type = $6) \
         ORDER BY h.id LIMIT $5"
    } else {
        "SELECT * FROM (SELECT h.id, h.migration_id AS about, m.name, m.version, h.event_type, \
         to_char(h.created_at, 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') AS created_at, h.actor, h.request, \
         h.details::text AS details, h.hash FROM shardlift_coordinator.migration_history h \
         LEFT JOIN shardlift_coordinator.migrations m ON m.id = h.migration_id \
         WHERE $1::bigint IS NULL AND ($2::text IS NULL OR m.name = $2) AND ($3::text IS NULL OR h.actor = $3) \
         AND ($4::text IS NULL OR h.created_at >= $4::timestamptz) AND ($6::text IS NULL OR h.event_type = $6) \
         ORDER BY h.id DESC LIMIT $5) newest ORDER BY id"
    };
    let rows = sqlx::query_as::<_, LinkRow>(select)
        .bind(wanted.after.map(|after| i64::try_from(after).unwrap_or(i64::MAX)))
        .bind(wanted.id.as_ref().map(MigrationId::as_str))
        .bind(&wanted.actor)
        .bind(wanted.since.map(time_text))
        .bind(i64::from(wanted.limit))
        .bind(wanted.event.map(HistoryEvent::as_str))
        .fetch_all(connection);
    let rows = answered("read the history", rows).await?;
    Ok(rows.into_iter().map(tables::link).collect())
}

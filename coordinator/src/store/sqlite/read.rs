//! Reading: everything, or the history of one id.

use shardlift_domain::MigrationId;
use sqlx::SqliteConnection;

use super::super::rows::time_text;
use super::super::tables::{self, HistoryRow, LinkRow, MigrationRow, ShardRow};
use super::super::{HistoryEvent, Link, Recorded, StoreError, StoredMigration, Wanted};

/// All migrations, in the order of submission.
pub(super) async fn migrations(
    connection: &mut SqliteConnection,
) -> Result<Vec<StoredMigration>, StoreError> {
    let failed = StoreError::unavailable("read the migrations");
    let rows: Vec<MigrationRow> = sqlx::query_as(
        "SELECT id, name, version, type, database_type, cluster, checksum, status, phase, created_at, started_at, \
         completed_at, metadata, spec_name, spec_text FROM migrations ORDER BY id",
    )
    .fetch_all(&mut *connection)
    .await
    .map_err(&failed)?;
    let shards: Vec<ShardRow> = sqlx::query_as(
        "SELECT migration_id, shard_id, step, verified, wave, error, items_processed, items_seen, total_items, batches, \
         ranges, ranges_done, pass FROM shard_migrations ORDER BY migration_id",
    )
    .fetch_all(connection)
    .await
    .map_err(&failed)?;
    let mut shards = shards.into_iter().peekable();
    let mut migrations = Vec::with_capacity(rows.len());
    for row in rows {
        let id = row.id;
        let mut stored = tables::migration(row)?;
        while let Some(shard) = shards.next_if(|shard| shard.migration_id == id) {
            let (name, part, progress) = tables::part(&shard)?;
            stored.progress.insert(name.clone(), progress);
            stored.migration.shards.insert(name, part);
        }
        migrations.push(stored);
    }
    Ok(migrations)
}

/// Entries of all versions of one id, oldest first: the first ones behind a sequence, or the newest ones.
pub(super) async fn events(
    connection: &mut SqliteConnection,
    id: &MigrationId,
    after: Option<u64>,
    limit: u32,
) -> Result<Vec<Recorded>, StoreError> {
    let rows = match after {
        Some(after) => sqlx::query_as::<_, HistoryRow>(
            "SELECT h.id, m.name, m.version, h.event_type, h.created_at, h.actor, h.request, h.details \
             FROM migration_history h JOIN migrations m ON m.id = h.migration_id \
             WHERE m.name = ? AND h.id > ? ORDER BY h.id LIMIT ?",
        )
        .bind(id.as_str())
        .bind(i64::try_from(after).unwrap_or(i64::MAX)),
        None => sqlx::query_as(
            "SELECT * FROM (SELECT h.id, m.name, m.version, h.event_type, h.created_at, h.actor, h.request, h.details \
             FROM migration_history h JOIN migrations m ON m.id = h.migration_id \
             WHERE m.name = ? ORDER BY h.id DESC LIMIT ?) ORDER BY id",
        )
        .bind(id.as_str()),
    };
    let rows = rows.bind(limit).fetch_all(connection).await;
    rows.map_err(StoreError::unavailable("read the history"))?.into_iter().map(tables::entry).collect()
}

/// Entries as they stand, of whichever migration.
pub(super) async fn links(
    connection: &mut SqliteConnection,
    wanted: &Wanted,
) -> Result<Vec<Link>, StoreError> {
    let select = if wanted.after.is_some() {
        "SELECT h.id, h.migration_id AS about, m.name, m.version, h.event_type, h.created_at, h.actor, h.request, h.details, h.hash \
         FROM migration_history h LEFT JOIN migrations m ON m.id = h.migration_id \
         WHERE h.id > ?1 AND (?2 IS NULL OR m.name = ?2) AND (?3 IS NULL OR h.actor = ?3) \
         AND (?4 IS NULL OR h.created_at >= ?4) AND (?6 IS NULL OR h.event_type = ?6) ORDER BY h.id LIMIT ?5"
    } else {
        "SELECT * FROM (SELECT h.id, h.migration_id AS about, m.name, m.version, h.event_type, h.created_at, h.actor, h.request, h.details, h.hash \
         FROM migration_history h LEFT JOIN migrations m ON m.id = h.migration_id \
         WHERE ?1 IS NULL AND (?2 IS NULL OR m.name = ?2) AND (?3 IS NULL OR h.actor = ?3) \
         AND (?4 IS NULL OR h.created_at >= ?4) AND (?6 IS NULL OR h.event_type = ?6) \
         ORDER BY h.id DESC LIMIT ?5) ORDER BY id"
    };
    let rows = sqlx::query_as::<_, LinkRow>(select)
        .bind(wanted.after.map(|after| i64::try_from(after).unwrap_or(i64::MAX)))
        .bind(wanted.id.as_ref().map(MigrationId::as_str))
        .bind(&wanted.actor)
        .bind(wanted.since.map(time_text))
        .bind(wanted.limit)
        .bind(wanted.event.map(HistoryEvent::as_str))
        .fetch_all(connection)
        .await;
    let rows = rows.map_err(StoreError::unavailable("read the history"))?;
    Ok(rows.into_iter().map(tables::link).collect())
}

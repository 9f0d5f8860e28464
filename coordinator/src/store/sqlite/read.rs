//! Rows back into migrations and history.

use std::collections::BTreeMap;

use shardlift_domain::migration::{Migration, ShardMigration};
use shardlift_domain::progress::ShardProgress;
use shardlift_domain::spec::SpecFile;
use shardlift_domain::{Checksum, MigrationId, MigrationKey, ShardId, Version};
use sqlx::SqliteConnection;

use super::super::{HistoryEntry, StoreError, StoredMigration, Times};
use super::super::rows::{Rest, counted, from_json, from_time, from_word};

#[derive(sqlx::FromRow)]
struct MigrationRow {
    id: i64,
    name: String,
    version: u32,
    r#type: String,
    database_type: String,
    cluster: String,
    checksum: String,
    status: String,
    phase: String,
    created_at: String,
    started_at: Option<String>,
    completed_at: Option<String>,
    metadata: String,
    spec_name: String,
    spec_text: String,
}

#[derive(sqlx::FromRow)]
struct ShardRow {
    migration_id: i64,
    shard_id: String,
    step: Option<String>,
    verified: bool,
    error: Option<String>,
    items_processed: i64,
    items_seen: i64,
    total_items: i64,
    batches: i64,
    ranges: u32,
    ranges_done: u32,
    pass: u32,
}

#[derive(sqlx::FromRow)]
struct HistoryRow {
    name: String,
    version: u32,
    event_type: String,
    created_at: String,
    actor: String,
    details: String,
}

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
        "SELECT migration_id, shard_id, step, verified, error, items_processed, items_seen, total_items, batches, \
         ranges, ranges_done, pass FROM shard_migrations ORDER BY migration_id",
    )
    .fetch_all(connection)
    .await
    .map_err(&failed)?;
    let mut shards = shards.into_iter().peekable();
    let mut migrations = Vec::with_capacity(rows.len());
    for row in rows {
        let id = row.id;
        let mut stored = migration(row)?;
        while let Some(shard) = shards.next_if(|shard| shard.migration_id == id) {
            let (name, part, progress) = part(&shard)?;
            stored.progress.insert(name.clone(), progress);
            stored.migration.shards.insert(name, part);
        }
        migrations.push(stored);
    }
    Ok(migrations)
}

fn migration(row: MigrationRow) -> Result<StoredMigration, StoreError> {
    let rest: Rest = from_json("migrations.metadata", &row.metadata)?;
    let time = |what, text: &Option<String>| text.as_deref().map(|text| from_time(what, text)).transpose();
    let times = Times {
        created_at: from_time("migrations.created_at", &row.created_at)?,
        started_at: time("migrations.started_at", &row.started_at)?,
        completed_at: time("migrations.completed_at", &row.completed_at)?,
    };
    let migration = Migration {
        key: MigrationKey { id: from_word("migrations.name", &row.name)?, version: Version(row.version) },
        kind: from_word("migrations.type", &row.r#type)?,
        engine: from_word("migrations.database_type", &row.database_type)?,
        cluster: from_word("migrations.cluster", &row.cluster)?,
        checksum: Checksum::from_stored(row.checksum),
        relation: rest.relation,
        has_where: rest.has_where,
        waits_for: rest.waits_for,
        status: from_word("migrations.status", &row.status)?,
        released: rest.released,
        phase: from_word("migrations.phase", &row.phase)?,
        touched: rest.touched,
        stop: rest.stop,
        traceparent: rest.traceparent,
        shards: BTreeMap::new(),
    };
    let spec = SpecFile { name: row.spec_name, text: row.spec_text };
    Ok(StoredMigration { migration, spec, progress: BTreeMap::new(), times })
}

fn part(row: &ShardRow) -> Result<(ShardId, ShardMigration, ShardProgress), StoreError> {
    let todo = row.step.as_deref().map(|word| from_word("shard_migrations.step", word)).transpose()?;
    let failure = row.error.as_deref().map(|text| from_json("shard_migrations.error", text)).transpose()?;
    let progress = ShardProgress {
        rows_done: counted(row.items_processed),
        rows_seen: counted(row.items_seen),
        rows_total: counted(row.total_items),
        batches: counted(row.batches),
        ranges: row.ranges,
        ranges_done: row.ranges_done,
        pass: row.pass,
        ..ShardProgress::default()
    };
    let name = from_word("shard_migrations.shard_id", &row.shard_id)?;
    Ok((name, ShardMigration { todo, failure, verified: row.verified }, progress))
}

/// The newest entries of all versions of one id, oldest first.
pub(super) async fn history(
    connection: &mut SqliteConnection,
    id: &MigrationId,
    limit: u32,
) -> Result<Vec<HistoryEntry>, StoreError> {
    let rows: Vec<HistoryRow> = sqlx::query_as(
        "SELECT m.name, m.version, h.event_type, h.created_at, h.actor, h.details \
         FROM migration_history h JOIN migrations m ON m.id = h.migration_id \
         WHERE m.name = ? ORDER BY h.id DESC LIMIT ?",
    )
    .bind(id.as_str())
    .bind(limit)
    .fetch_all(connection)
    .await
    .map_err(StoreError::unavailable("read the history"))?;
    rows.into_iter().rev().map(entry).collect()
}

fn entry(row: HistoryRow) -> Result<HistoryEntry, StoreError> {
    Ok(HistoryEntry {
        migration: MigrationKey {
            id: from_word("migrations.name", &row.name)?,
            version: Version(row.version),
        },
        event: from_word("migration_history.event_type", &row.event_type)?,
        at: from_time("migration_history.created_at", &row.created_at)?,
        actor: row.actor,
        detail: from_json("migration_history.details", &row.details)?,
    })
}

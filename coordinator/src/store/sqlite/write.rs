//! One change, written as rows inside the caller's transaction: a few statements, whatever the number of shards. Rows go
//! in as one JSON text each time, since a statement costs more than a row.

use std::collections::BTreeMap;

use shardlift_domain::migration::{Migration, ShardMigration, Step};
use shardlift_domain::progress::ShardProgress;
use shardlift_domain::{Epoch, MigrationKey, ShardId};
use shardlift_runtime::clock;
use sqlx::SqliteConnection;

use super::super::rows::{Rest, json, reason, stored_number, time_text};
use super::super::steps;
use super::super::{Change, HistoryEntry, Moved, StoreError, StoredMigration, Times};
use super::{decisions, fence, locks, outbox, topology};

/// Writes everything; the caller commits, or drops the transaction and with it everything.
pub(super) async fn apply(
    connection: &mut SqliteConnection,
    change: &Change,
    epoch: Epoch,
) -> Result<(), StoreError> {
    let now = time_text(clock::now());
    if let Some(new) = &change.topology {
        topology::write(connection, new).await?;
    }
    topology::write_directory(connection, &change.directory).await?;
    for new in &change.new {
        insert(connection, new, epoch, &now).await?;
    }
    for moved in &change.moved {
        write_moved(connection, moved, epoch, &now).await?;
    }
    progress(connection, &change.progress).await?;
    locks::write(connection, change, &now).await?;
    append(connection, &change.history).await?;
    outbox::write(connection, change, &now).await
}

/// The number of a migration.
pub(super) async fn row_of(connection: &mut SqliteConnection, key: &MigrationKey) -> Result<i64, StoreError> {
    let row: Option<(i64,)> = sqlx::query_as("SELECT id FROM migrations WHERE name = ? AND version = ?")
        .bind(key.id.as_str())
        .bind(key.version.0)
        .fetch_optional(connection)
        .await
        .map_err(StoreError::unavailable("find a migration"))?;
    row.map(|(id,)| id).ok_or_else(|| StoreError::Unknown(key.clone()))
}

async fn insert(
    connection: &mut SqliteConnection,
    new: &StoredMigration,
    epoch: Epoch,
    now: &str,
) -> Result<(), StoreError> {
    let migration = &new.migration;
    let inserted = sqlx::query(
        "INSERT INTO migrations (name, version, type, database_type, cluster, checksum, status, phase, created_at, \
         metadata, spec_name, spec_text) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, '', ?, ?)",
    )
    .bind(migration.key.id.as_str())
    .bind(migration.key.version.0)
    .bind(migration.kind.as_str())
    .bind(migration.engine.as_str())
    .bind(migration.cluster.as_str())
    .bind(migration.checksum.as_str())
    .bind(migration.status.as_str())
    .bind(migration.phase.as_str())
    .bind(time_text(new.times.created_at))
    .bind(&new.spec.name)
    .bind(&new.spec.text)
    .execute(&mut *connection)
    .await
    .map_err(|source| match source.as_database_error() {
        Some(error) if error.is_unique_violation() => StoreError::AlreadyStored(migration.key.clone()),
        _ => StoreError::unavailable("add a migration")(source),
    })?;
    let id = inserted.last_insert_rowid();
    write_parts(connection, id, migration, migration.shards.iter(), now).await?;
    let known = new.progress.iter().filter(|(shard, _)| migration.shards.contains_key(*shard));
    let figures = known.map(|(shard, figures)| (migration.key.clone(), shard.clone(), figures.clone()));
    progress(connection, &figures.collect::<Vec<_>>()).await?;
    write_head(connection, id, migration, &new.times).await?;
    decisions::write(connection, id, migration, epoch, now).await?;
    write_steps(connection, id, migration, now).await
}

async fn write_moved(
    connection: &mut SqliteConnection,
    moved: &Moved,
    epoch: Epoch,
    now: &str,
) -> Result<(), StoreError> {
    let migration = &moved.migration;
    let id = row_of(connection, &migration.key).await?;
    let (known,): (i64,) = sqlx::query_as("SELECT count(*) FROM shard_migrations WHERE migration_id = ?")
        .bind(id)
        .fetch_one(&mut *connection)
        .await
        .map_err(StoreError::unavailable("count the shards' parts"))?;
    if usize::try_from(known) != Ok(migration.shards.len()) {
        return Err(StoreError::Unknown(migration.key.clone()));
    }
    write_parts(connection, id, migration, moved.parts(), now).await?;
    write_head(connection, id, migration, &moved.times).await?;
    decisions::write(connection, id, migration, epoch, now).await?;
    write_steps(connection, id, migration, now).await
}

async fn write_head(
    connection: &mut SqliteConnection,
    id: i64,
    migration: &Migration,
    times: &Times,
) -> Result<(), StoreError> {
    let error = reason(migration).map(|failure| json("migrations.error", failure)).transpose()?;
    sqlx::query(
        "UPDATE migrations SET status = ?, phase = ?, created_at = ?, started_at = ?, completed_at = ?, error = ?, \
         metadata = ?, type = ?, database_type = ?, cluster = ?, checksum = ? WHERE id = ?",
    )
    .bind(migration.status.as_str())
    .bind(migration.phase.as_str())
    .bind(time_text(times.created_at))
    .bind(times.started_at.map(time_text))
    .bind(times.completed_at.map(time_text))
    .bind(error)
    .bind(json("migrations.metadata", &Rest::of(migration))?)
    .bind(migration.kind.as_str())
    .bind(migration.engine.as_str())
    .bind(migration.cluster.as_str())
    .bind(migration.checksum.as_str())
    .bind(id)
    .execute(connection)
    .await
    .map_err(StoreError::unavailable("write a migration"))?;
    Ok(())
}

async fn write_parts<'a>(
    connection: &mut SqliteConnection,
    id: i64,
    migration: &Migration,
    parts: impl Iterator<Item = (&'a ShardId, &'a ShardMigration)>,
    now: &str,
) -> Result<(), StoreError> {
    let mut rows = Vec::new();
    for (shard, part) in parts {
        let error =
            part.failure.as_ref().map(|failure| json("shard_migrations.error", failure)).transpose()?;
        let status = steps::shard_status(migration, part);
        rows.push((status, part.todo.map(Step::as_str), part.verified, error, shard.as_str(), part.wave));
    }
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO shard_migrations (status, step, verified, error, started_at, completed_at, migration_id, shard_id, \
         wave) \
         SELECT u.value ->> 0, u.value ->> 1, u.value ->> 2, u.value ->> 3, \
         CASE WHEN u.value ->> 0 = 'pending' THEN NULL ELSE ?1 END, \
         CASE WHEN u.value ->> 0 = 'completed' THEN ?1 END, ?2, u.value ->> 4, u.value ->> 5 \
         FROM json_each(?3) AS u WHERE true \
         ON CONFLICT (migration_id, shard_id) DO UPDATE SET status = excluded.status, step = excluded.step, \
         verified = excluded.verified, error = excluded.error, wave = excluded.wave, \
         started_at = coalesce(started_at, excluded.started_at), \
         completed_at = CASE WHEN excluded.status = 'completed' THEN coalesce(completed_at, ?1) END",
    )
    .bind(now)
    .bind(id)
    .bind(json("shard_migrations", &rows)?)
    .execute(connection)
    .await
    .map_err(StoreError::unavailable("write the shards' parts"))?;
    Ok(())
}

async fn write_steps(
    connection: &mut SqliteConnection,
    id: i64,
    migration: &Migration,
    now: &str,
) -> Result<(), StoreError> {
    for (number, steps::StepStatus { step, status, failure }) in (1_i64..).zip(steps::statuses(migration)) {
        let error = failure.map(|failure| json("migration_steps.error", failure)).transpose()?;
        write_step(connection, id, number, step, (status, error), now).await?;
    }
    Ok(())
}

async fn write_step(
    connection: &mut SqliteConnection,
    id: i64,
    number: i64,
    step: Step,
    (status, error): (&str, Option<String>),
    now: &str,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO migration_steps (migration_id, step_number, description, status, started_at, completed_at, error) \
         VALUES (?1, ?2, ?3, ?4, CASE WHEN ?4 = 'pending' THEN NULL ELSE ?5 END, \
         CASE WHEN ?4 = 'completed' THEN ?5 END, ?6) \
         ON CONFLICT (migration_id, step_number) DO UPDATE SET status = excluded.status, error = excluded.error, \
         started_at = coalesce(started_at, excluded.started_at), \
         completed_at = CASE WHEN excluded.status = 'completed' THEN coalesce(completed_at, ?5) END",
    )
    .bind(id)
    .bind(number)
    .bind(step.as_str())
    .bind(status)
    .bind(now)
    .bind(error)
    .execute(connection)
    .await
    .map_err(StoreError::unavailable("write a step"))?;
    Ok(())
}

/// Writes figures of shards, the last word for each.
async fn progress(
    connection: &mut SqliteConnection,
    figures: &[(MigrationKey, ShardId, ShardProgress)],
) -> Result<(), StoreError> {
    let words: BTreeMap<_, _> = figures.iter().map(|(key, shard, figures)| ((key, shard), figures)).collect();
    let Some(((first, _), _)) = words.first_key_value() else { return Ok(()) };
    let row = |((key, shard), figures): (&(&MigrationKey, &ShardId), &&ShardProgress)| {
        let counts = [figures.rows_done, figures.rows_seen, figures.rows_total, figures.batches];
        let ranges = (figures.ranges, figures.ranges_done, figures.pass);
        (key.id.to_string(), key.version.0, shard.to_string(), counts.map(stored_number), ranges)
    };
    let rows: Vec<_> = words.iter().map(row).collect();
    let written = sqlx::query(
        "UPDATE shard_migrations AS s SET items_processed = u.value ->> '$[3][0]', items_seen = u.value ->> '$[3][1]', \
         total_items = u.value ->> '$[3][2]', batches = u.value ->> '$[3][3]', ranges = u.value ->> '$[4][0]', \
         ranges_done = u.value ->> '$[4][1]', pass = u.value ->> '$[4][2]' FROM json_each(?) AS u \
         JOIN migrations m ON m.name = u.value ->> 0 AND m.version = u.value ->> 1 \
         WHERE s.migration_id = m.id AND s.shard_id = u.value ->> 2",
    )
    .bind(json("shard_migrations", &rows)?)
    .execute(connection)
    .await
    .map_err(StoreError::unavailable("write progress"))?;
    all_known(written.rows_affected(), words.len(), first)
}

/// Adds to the history, in order.
async fn append(connection: &mut SqliteConnection, entries: &[HistoryEntry]) -> Result<(), StoreError> {
    if entries.is_empty() {
        return Ok(());
    }
    let mut head = fence::head(connection).await?;
    let hashes = head.extend(entries);
    let mut rows = Vec::with_capacity(entries.len());
    for (HistoryEntry { migration, event, at, actor, request, detail }, hash) in entries.iter().zip(hashes) {
        let detail = json("migration_history.details", detail)?;
        let (id, version) = migration.as_ref().map(|key| (key.id.as_str(), key.version.0)).unzip();
        rows.push((id, version, event.as_str(), time_text(*at), actor, detail, request, hash));
    }
    let written = sqlx::query(
        "INSERT INTO migration_history (migration_id, event_type, created_at, actor, details, request, hash) \
         SELECT m.id, u.value ->> 2, u.value ->> 3, u.value ->> 4, u.value ->> 5, u.value ->> 6, u.value ->> 7 \
         FROM json_each(?) AS u \
         LEFT JOIN migrations m ON m.name = u.value ->> 0 AND m.version = u.value ->> 1 \
         WHERE u.value ->> 0 IS NULL OR m.id IS NOT NULL ORDER BY u.key",
    )
    .bind(json("migration_history", &rows)?)
    .execute(&mut *connection)
    .await
    .map_err(StoreError::unavailable("add to the history"))?;
    if let Some(first) = entries.iter().find_map(|entry| entry.migration.as_ref()) {
        all_known(written.rows_affected(), entries.len(), first)?;
    }
    fence::move_head(connection, &head).await
}

/// Refuses what speaks of a migration or a shard that was never stored.
fn all_known(written: u64, wanted: usize, first: &MigrationKey) -> Result<(), StoreError> {
    if usize::try_from(written) == Ok(wanted) { Ok(()) } else { Err(StoreError::Unknown(first.clone())) }
}

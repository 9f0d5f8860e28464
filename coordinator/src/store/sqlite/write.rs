//! One change, written as rows inside the caller's transaction.

use shardlift_domain::migration::{Migration, ShardMigration, Step};
use shardlift_domain::progress::ShardProgress;
use shardlift_domain::{MigrationKey, ShardId};
use shardlift_runtime::clock;
use sqlx::SqliteConnection;

use super::super::rows::{Rest, json, reason, stored_number, time_text};
use super::super::steps;
use super::super::{Change, HistoryEntry, Moved, StoreError, StoredMigration, Times};
use super::{locks, topology};

/// Writes everything; the caller commits, or drops the transaction and with it everything.
pub(super) async fn apply(connection: &mut SqliteConnection, change: &Change) -> Result<(), StoreError> {
    let now = time_text(clock::now());
    if let Some(new) = &change.topology {
        topology::write(connection, new).await?;
    }
    topology::write_directory(connection, &change.directory).await?;
    for new in &change.new {
        insert(connection, new, &now).await?;
    }
    for moved in &change.moved {
        write_moved(connection, moved, &now).await?;
    }
    let mut known: Option<(&MigrationKey, i64)> = None;
    for (key, shard, figures) in &change.progress {
        // Figures of many shards of one migration come together.
        let id = match known {
            Some((same, id)) if same == key => id,
            _ => row_of(connection, key).await?,
        };
        known = Some((key, id));
        if !progress(connection, id, shard, figures).await? {
            return Err(StoreError::Unknown(key.clone()));
        }
    }
    locks::write(connection, change, &now).await?;
    for entry in &change.history {
        append(connection, entry).await?;
    }
    Ok(())
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
    for (shard, part) in &migration.shards {
        write_part(connection, id, migration, shard, part, now).await?;
        if let Some(figures) = new.progress.get(shard) {
            progress(connection, id, shard, figures).await?;
        }
    }
    write_head(connection, id, migration, &new.times).await?;
    write_steps(connection, id, migration, now).await
}

async fn write_moved(connection: &mut SqliteConnection, moved: &Moved, now: &str) -> Result<(), StoreError> {
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
    for (shard, part) in moved.parts() {
        write_part(connection, id, migration, shard, part, now).await?;
    }
    write_head(connection, id, migration, &moved.times).await?;
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

async fn write_part(
    connection: &mut SqliteConnection,
    id: i64,
    migration: &Migration,
    shard: &ShardId,
    part: &ShardMigration,
    now: &str,
) -> Result<(), StoreError> {
    let error = part.failure.as_ref().map(|failure| json("shard_migrations.error", failure)).transpose()?;
    sqlx::query(
        "INSERT INTO shard_migrations (status, step, verified, error, started_at, completed_at, migration_id, shard_id) \
         VALUES (?1, ?2, ?3, ?4, CASE WHEN ?1 = 'pending' THEN NULL ELSE ?5 END, \
         CASE WHEN ?1 = 'completed' THEN ?5 END, ?6, ?7) \
         ON CONFLICT (migration_id, shard_id) DO UPDATE SET status = excluded.status, step = excluded.step, \
         verified = excluded.verified, error = excluded.error, \
         started_at = coalesce(started_at, excluded.started_at), \
         completed_at = CASE WHEN excluded.status = 'completed' THEN coalesce(completed_at, ?5) END",
    )
    .bind(steps::shard_status(migration, part))
    .bind(part.todo.map(Step::as_str))
    .bind(part.verified)
    .bind(error)
    .bind(now)
    .bind(id)
    .bind(shard.as_str())
    .execute(connection)
    .await
    .map_err(StoreError::unavailable("write a shard's part"))?;
    Ok(())
}

async fn write_steps(
    connection: &mut SqliteConnection,
    id: i64,
    migration: &Migration,
    now: &str,
) -> Result<(), StoreError> {
    for (number, step) in (1_i64..).zip(migration.steps()) {
        let (status, failure) = steps::step_status(migration, step);
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

/// Whether the shard has a part in the migration, whose figures were replaced.
async fn progress(
    connection: &mut SqliteConnection,
    id: i64,
    shard: &ShardId,
    figures: &ShardProgress,
) -> Result<bool, StoreError> {
    let written = sqlx::query(
        "UPDATE shard_migrations SET items_processed = ?, items_seen = ?, total_items = ?, batches = ?, ranges = ?, \
         ranges_done = ?, pass = ? WHERE migration_id = ? AND shard_id = ?",
    )
    .bind(stored_number(figures.rows_done))
    .bind(stored_number(figures.rows_seen))
    .bind(stored_number(figures.rows_total))
    .bind(stored_number(figures.batches))
    .bind(figures.ranges)
    .bind(figures.ranges_done)
    .bind(figures.pass)
    .bind(id)
    .bind(shard.as_str())
    .execute(connection)
    .await
    .map_err(StoreError::unavailable("write progress"))?;
    Ok(written.rows_affected() == 1)
}

async fn append(connection: &mut SqliteConnection, entry: &HistoryEntry) -> Result<(), StoreError> {
    let id = row_of(connection, &entry.migration).await?;
    sqlx::query(
        "INSERT INTO migration_history (migration_id, event_type, created_at, actor, details) VALUES (?, ?, ?, ?, ?)",
    )
    .bind(id)
    .bind(entry.event.as_str())
    .bind(time_text(entry.at))
    .bind(&entry.actor)
    .bind(json("migration_history.details", &entry.detail)?)
    .execute(connection)
    .await
    .map_err(StoreError::unavailable("add to the history"))?;
    Ok(())
}

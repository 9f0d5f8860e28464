//! One change, written as rows inside the caller's transaction: a few statements, whatever the number of shards.

use shardlift_domain::migration::{Migration, ShardMigration, Step};
use shardlift_domain::topology::Topology;
use shardlift_domain::{Epoch, ShardId};
use shardlift_runtime::clock;
use sqlx::PgConnection;

use super::super::error::answered;
use super::super::rows::{Rest, json, reason, stored_number, time_text};
use super::super::{Change, HistoryEntry, Moved, StoreError, StoredMigration, Times, steps};
use super::{decisions, directory, fence, locks, outbox, progress};

/// Writes everything; the caller commits or rolls back.
pub(super) async fn apply(
    connection: &mut PgConnection,
    change: &Change,
    epoch: Epoch,
) -> Result<(), StoreError> {
    let now = time_text(clock::now());
    if let Some(new) = &change.topology {
        topology(connection, new).await?;
    }
    directory::write(connection, &change.directory).await?;
    for new in &change.new {
        insert(connection, new, epoch, &now).await?;
    }
    for moved in &change.moved {
        write_moved(connection, moved, epoch, &now).await?;
    }
    progress::write(connection, change).await?;
    locks::write(connection, change, &now).await?;
    append(connection, &change.history).await?;
    outbox::write(connection, change, &now).await
}

async fn topology(connection: &mut PgConnection, topology: &Topology) -> Result<(), StoreError> {
    let write = sqlx::query(
        "UPDATE shardlift_coordinator.topology SET revision = $1, content = $2::json WHERE one = 1",
    )
    .bind(stored_number(topology.revision))
    .bind(json("topology.content", topology)?)
    .execute(connection);
    answered("write the topology", write).await.map(drop)
}

async fn insert(
    connection: &mut PgConnection,
    new: &StoredMigration,
    epoch: Epoch,
    now: &str,
) -> Result<(), StoreError> {
    let migration = &new.migration;
    let key = &migration.key;
    let inserted = sqlx::query_scalar(
        "INSERT INTO shardlift_coordinator.migrations (name, version, type, database_type, cluster, checksum, status, \
         phase, created_at, metadata, spec_name, spec_text) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9::timestamptz, '{}', $10, $11) \
         ON CONFLICT (name, version) DO NOTHING RETURNING id",
    )
    .bind(key.id.as_str())
    .bind(i64::from(key.version.0))
    .bind(migration.kind.as_str())
    .bind(migration.engine.as_str())
    .bind(migration.cluster.as_str())
    .bind(migration.checksum.as_str())
    .bind(migration.status.as_str())
    .bind(migration.phase.as_str())
    .bind(time_text(new.times.created_at))
    .bind(&new.spec.name)
    .bind(&new.spec.text)
    .fetch_optional(&mut *connection);
    let id: Option<i64> = answered("add a migration", inserted).await?;
    let id = id.ok_or_else(|| StoreError::AlreadyStored(key.clone()))?;
    let parts = Parts::of(migration, migration.shards.iter())?;
    let insert = "INSERT INTO shardlift_coordinator.shard_migrations \
         (migration_id, shard_id, status, step, verified, error, started_at, completed_at, wave) \
         SELECT $1, u.shard, u.status, u.step, u.verified, u.error::json, \
         CASE WHEN u.status <> 'pending' THEN $7::timestamptz END, \
         CASE WHEN u.status = 'completed' THEN $7::timestamptz END, u.wave \
         FROM unnest($2::text[], $3::text[], $4::text[], $5::boolean[], $6::text[], $8::bigint[]) \
         AS u (shard, status, step, verified, error, wave)";
    parts.write(connection, insert, id, now).await?;
    write_head(connection, migration, &new.times).await?;
    decisions::write(connection, id, migration, epoch, now).await?;
    write_steps(connection, id, migration, now).await
}

async fn write_moved(
    connection: &mut PgConnection,
    moved: &Moved,
    epoch: Epoch,
    now: &str,
) -> Result<(), StoreError> {
    let migration = &moved.migration;
    let (id, shards) = write_head(connection, migration, &moved.times).await?;
    let parts = Parts::of(migration, moved.parts())?;
    let update = "UPDATE shardlift_coordinator.shard_migrations s SET status = u.status, step = u.step, \
         verified = u.verified, error = u.error::json, wave = u.wave, \
         started_at = CASE WHEN u.status <> 'pending' THEN coalesce(s.started_at, $7::timestamptz) ELSE s.started_at END, \
         completed_at = CASE WHEN u.status = 'completed' THEN coalesce(s.completed_at, $7::timestamptz) END \
         FROM unnest($2::text[], $3::text[], $4::text[], $5::boolean[], $6::text[], $8::bigint[]) \
         AS u (shard, status, step, verified, error, wave) \
         WHERE s.migration_id = $1 AND s.shard_id = u.shard";
    let known = parts.write(connection, update, id, now).await? == parts.shards.len();
    if !known || shards != migration.shards.len() {
        return Err(StoreError::Unknown(migration.key.clone()));
    }
    decisions::write(connection, id, migration, epoch, now).await?;
    write_steps(connection, id, migration, now).await
}

/// Parts of a migration, column by column.
struct Parts<'a> {
    shards: Vec<&'a str>,
    statuses: Vec<&'static str>,
    steps: Vec<Option<&'static str>>,
    verified: Vec<bool>,
    errors: Vec<Option<String>>,
    waves: Vec<i64>,
}

impl<'a> Parts<'a> {
    fn of(
        migration: &Migration,
        parts: impl Iterator<Item = (&'a ShardId, &'a ShardMigration)>,
    ) -> Result<Self, StoreError> {
        let mut columns = Self {
            shards: vec![],
            statuses: vec![],
            steps: vec![],
            verified: vec![],
            errors: vec![],
            waves: vec![],
        };
        for (shard, part) in parts {
            let error = part.failure.as_ref();
            columns.shards.push(shard.as_str());
            columns.statuses.push(steps::shard_status(migration, part));
            columns.steps.push(part.todo.map(Step::as_str));
            columns.verified.push(part.verified);
            columns.waves.push(part.wave.into());
            columns.errors.push(error.map(|failure| json("shard_migrations.error", failure)).transpose()?);
        }
        Ok(columns)
    }

    /// How many rows were written.
    async fn write(
        &self,
        connection: &mut PgConnection,
        statement: &'static str,
        id: i64,
        now: &str,
    ) -> Result<usize, StoreError> {
        if self.shards.is_empty() {
            return Ok(0);
        }
        let write = sqlx::query(statement)
            .bind(id)
            .bind(&self.shards)
            .bind(&self.statuses)
            .bind(&self.steps)
            .bind(&self.verified)
            .bind(&self.errors)
            .bind(now)
            .bind(&self.waves)
            .execute(connection);
        let written = answered("write the shards' parts", write).await?.rows_affected();
        Ok(usize::try_from(written).unwrap_or(usize::MAX))
    }
}

/// Answers the row's number and how many shards the migration has.
async fn write_head(
    connection: &mut PgConnection,
    migration: &Migration,
    times: &Times,
) -> Result<(i64, usize), StoreError> {
    let error = reason(migration).map(|failure| json("migrations.error", failure)).transpose()?;
    let write = sqlx::query_as(
        "UPDATE shardlift_coordinator.migrations m SET status = $1, phase = $2, created_at = $3::timestamptz, \
         started_at = $4::timestamptz, completed_at = $5::timestamptz, error = $6::json, metadata = $7::json, \
         type = $8, database_type = $9, cluster = $10, checksum = $11 WHERE name = $12 AND version = $13 \
         RETURNING id, (SELECT count(*) FROM shardlift_coordinator.shard_migrations s WHERE s.migration_id = m.id)",
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
    .bind(migration.key.id.as_str())
    .bind(i64::from(migration.key.version.0))
    .fetch_optional(connection);
    let row: Option<(i64, i64)> = answered("write a migration", write).await?;
    let (id, shards) = row.ok_or_else(|| StoreError::Unknown(migration.key.clone()))?;
    Ok((id, usize::try_from(shards).unwrap_or_default()))
}

async fn write_steps(
    connection: &mut PgConnection,
    id: i64,
    migration: &Migration,
    now: &str,
) -> Result<(), StoreError> {
    let (mut numbers, mut names, mut statuses, mut errors) = (vec![], vec![], vec![], vec![]);
    for (number, steps::StepStatus { step, status, failure }) in (1_i64..).zip(steps::statuses(migration)) {
        numbers.push(number);
        names.push(step.as_str());
        statuses.push(status);
        errors.push(failure.map(|failure| json("migration_steps.error", failure)).transpose()?);
    }
    let write = sqlx::query(
        "INSERT INTO shardlift_coordinator.migration_steps AS s \
         (migration_id, step_number, description, status, started_at, completed_at, error) \
         SELECT $1, u.number, u.name, u.status, CASE WHEN u.status <> 'pending' THEN $6::timestamptz END, \
         CASE WHEN u.status = 'completed' THEN $6::timestamptz END, u.error::json \
         FROM unnest($2::bigint[], $3::text[], $4::text[], $5::text[]) AS u (number, name, status, error) \
         ON CONFLICT (migration_id, step_number) DO UPDATE SET status = excluded.status, error = excluded.error, \
         started_at = coalesce(s.started_at, excluded.started_at), \
         completed_at = CASE WHEN excluded.status = 'completed' THEN coalesce(s.completed_at, excluded.completed_at) END",
    )
    .bind(id)
    .bind(numbers)
    .bind(names)
    .bind(statuses)
    .bind(errors)
    .bind(now)
    .execute(connection);
    answered("write the steps", write).await.map(drop)
}

/// Adds to the history, in order.
async fn append(connection: &mut PgConnection, entries: &[HistoryEntry]) -> Result<(), StoreError> {
    if entries.is_empty() {
        return Ok(());
    }
    // This transaction holds the fence row, so nobody moves the head meanwhile.
    let mut head = fence::head(connection).await?;
    let hashes = head.extend(entries);
    let keys = || entries.iter().map(|entry| entry.migration.as_ref());
    let details: Result<Vec<_>, _> =
        entries.iter().map(|entry| json("migration_history.details", &entry.detail)).collect();
    let write = sqlx::query(
        "WITH head AS (UPDATE shardlift_coordinator.fence SET history_count = $9, history_hash = $10 WHERE one = 1) \
         INSERT INTO shardlift_coordinator.migration_history \
         (migration_id, event_type, created_at, actor, details, request, hash) \
         SELECT m.id, u.event, u.at::timestamptz, u.actor, u.details::json, u.request, u.hash \
         FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[]) \
         WITH ORDINALITY AS u (name, version, event, at, actor, details, request, hash, place) \
         LEFT JOIN shardlift_coordinator.migrations m ON m.name = u.name AND m.version = u.version \
         WHERE u.name IS NULL OR m.id IS NOT NULL ORDER BY u.place",
    )
    .bind(keys().map(|key| Some(key?.id.as_str())).collect::<Vec<_>>())
    .bind(keys().map(|key| Some(i64::from(key?.version.0))).collect::<Vec<_>>())
    .bind(entries.iter().map(|entry| entry.event.as_str()).collect::<Vec<_>>())
    .bind(entries.iter().map(|entry| time_text(entry.at)).collect::<Vec<_>>())
    .bind(entries.iter().map(|entry| entry.actor.as_str()).collect::<Vec<_>>())
    .bind(details?)
    .bind(entries.iter().map(|entry| entry.request.as_deref()).collect::<Vec<_>>())
    .bind(hashes)
    .bind(stored_number(head.count))
    .bind(&head.hash)
    .execute(connection);
    let written = answered("add to the history", write).await?.rows_affected();
    match keys().flatten().next() {
        Some(first) if usize::try_from(written) != Ok(entries.len()) => {
            Err(StoreError::Unknown(first.clone()))
        }
        _ => Ok(()),
    }
}

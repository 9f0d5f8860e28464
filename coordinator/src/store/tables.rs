//! Rows of the relational backends back into migrations and history. Times come as text, numbers as 64 bits.

use std::collections::BTreeMap;

use shardlift_domain::migration::{Decision, Resource, ShardMigration};
use shardlift_domain::progress::ShardProgress;
use shardlift_domain::spec::SpecFile;
use shardlift_domain::{Checksum, MigrationKey, ShardId, Version};

use super::rows::{Head, Rest, counted, from_json, from_time, from_word};
use super::{HistoryEntry, Link, Recorded, StoreError, StoredMigration, Times};

/// A row of `migrations`.
#[derive(sqlx::FromRow)]
pub(in crate::store) struct MigrationRow {
    pub(in crate::store) id: i64,
    name: String,
    version: i64,
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

/// A row of `shard_migrations`.
#[derive(sqlx::FromRow)]
pub(in crate::store) struct ShardRow {
    pub(in crate::store) migration_id: i64,
    shard_id: String,
    step: Option<String>,
    verified: bool,
    wave: i64,
    error: Option<String>,
    items_processed: i64,
    items_seen: i64,
    total_items: i64,
    batches: i64,
    ranges: i64,
    ranges_done: i64,
    pass: i64,
}

/// A row of `migration_history` with the migration that it speaks of.
#[derive(sqlx::FromRow)]
pub(in crate::store) struct HistoryRow {
    id: i64,
    name: Option<String>,
    version: Option<i64>,
    event_type: String,
    created_at: String,
    actor: String,
    request: Option<String>,
    details: String,
}

/// The same with its hash. Each column may have been changed behind our back.
#[derive(sqlx::FromRow)]
pub(in crate::store) struct LinkRow {
    id: i64,
    about: Option<i64>,
    name: Option<String>,
    version: Option<i64>,
    event_type: String,
    created_at: String,
    actor: String,
    request: Option<String>,
    details: String,
    hash: Option<String>,
}

/// The migration without its shards.
pub(in crate::store) fn migration(row: MigrationRow) -> Result<StoredMigration, StoreError> {
    let rest: Rest = from_json("migrations.metadata", &row.metadata)?;
    let time = |what, text: &Option<String>| text.as_deref().map(|text| from_time(what, text)).transpose();
    let times = Times {
        created_at: from_time("migrations.created_at", &row.created_at)?,
        started_at: time("migrations.started_at", &row.started_at)?,
        completed_at: time("migrations.completed_at", &row.completed_at)?,
    };
    let head = Head {
        key: MigrationKey { id: from_word("migrations.name", &row.name)?, version: version(row.version) },
        kind: from_word("migrations.type", &row.r#type)?,
        engine: from_word("migrations.database_type", &row.database_type)?,
        cluster: from_word("migrations.cluster", &row.cluster)?,
        checksum: Checksum::from_stored(row.checksum),
        status: from_word("migrations.status", &row.status)?,
        phase: from_word("migrations.phase", &row.phase)?,
    };
    let spec = SpecFile { name: row.spec_name, text: row.spec_text };
    Ok(StoredMigration { migration: head.with(rest), spec, progress: BTreeMap::new(), times })
}

/// One shard's part and figures.
pub(in crate::store) fn part(row: &ShardRow) -> Result<(ShardId, ShardMigration, ShardProgress), StoreError> {
    let todo = row.step.as_deref().map(|word| from_word("shard_migrations.step", word)).transpose()?;
    let failure = row.error.as_deref().map(|text| from_json("shard_migrations.error", text)).transpose()?;
    let progress = ShardProgress {
        rows_done: counted(row.items_processed),
        rows_seen: counted(row.items_seen),
        rows_total: counted(row.total_items),
        batches: counted(row.batches),
        ranges: small(row.ranges),
        ranges_done: small(row.ranges_done),
        pass: small(row.pass),
        ..ShardProgress::default()
    };
    let name = from_word("shard_migrations.shard_id", &row.shard_id)?;
    Ok((name, ShardMigration { todo, failure, verified: row.verified, wave: small(row.wave) }, progress))
}

/// One entry of the history.
pub(in crate::store) fn entry(row: HistoryRow) -> Result<Recorded, StoreError> {
    let key = |(name, number): (String, i64)| {
        Ok(MigrationKey { id: from_word("migrations.name", &name)?, version: version(number) })
    };
    let entry = HistoryEntry {
        migration: row.name.zip(row.version).map(key).transpose()?,
        event: from_word("migration_history.event_type", &row.event_type)?,
        at: from_time("migration_history.created_at", &row.created_at)?,
        actor: row.actor,
        request: row.request,
        detail: from_json("migration_history.details", &row.details)?,
    };
    Ok(Recorded { sequence: counted(row.id), entry })
}

/// One entry with its hash.
pub(in crate::store) fn link(row: LinkRow) -> Link {
    let LinkRow { id, about, name, version, event_type, created_at, actor, request, details, hash } = row;
    let entry = if about.is_some() && name.is_none() {
        Err("the migration that it is about is not there".to_owned())
    } else {
        let row = HistoryRow { id, name, version, event_type, created_at, actor, request, details };
        entry(row).map(|recorded| recorded.entry).map_err(|error| error.to_string())
    };
    Link { sequence: counted(id), entry, hash }
}

fn version(number: i64) -> Version {
    Version(small(number))
}

/// A number that was stored from 32 bits.
fn small(number: i64) -> u32 {
    u32::try_from(number).unwrap_or_default()
}

/// A row of `decisions` with the migration that it is about.
#[derive(sqlx::FromRow)]
pub(in crate::store) struct DecisionRow {
    name: String,
    version: i64,
    content: String,
}

/// What was decided about which migration.
pub(in crate::store) fn decision(row: &DecisionRow) -> Result<(MigrationKey, Decision), StoreError> {
    let id = from_word("migrations.name", &row.name)?;
    Ok((MigrationKey { id, version: version(row.version) }, from_json("decisions.content", &row.content)?))
}

/// A row of `migration_locks` with the migration that holds it.
#[derive(sqlx::FromRow)]
pub(in crate::store) struct LockRow {
    cluster: String,
    shard: String,
    relation: String,
    name: String,
    version: i64,
}

/// Who holds what.
pub(in crate::store) fn lock(row: &LockRow) -> Result<(MigrationKey, Resource), StoreError> {
    let resource = Resource {
        cluster: from_word("migration_locks.cluster", &row.cluster)?,
        shard: from_word("migration_locks.shard", &row.shard)?,
        relation: row.relation.clone(),
    };
    let id = from_word("migrations.name", &row.name)?;
    Ok((MigrationKey { id, version: version(row.version) }, resource))
}

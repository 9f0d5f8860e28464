//! The documents of a migration and of its history, and back.

use std::collections::BTreeMap;

use bson::{Bson, Document, doc};
use serde::Serialize;
use serde::de::DeserializeOwned;
use shardlift_domain::migration::{Migration, Resource, ShardMigration, Step};
use shardlift_domain::progress::ShardProgress;
use shardlift_domain::spec::SpecFile;
use shardlift_domain::{Checksum, MigrationKey, ShardId, Version};

use super::super::rows::{Head, Rest, counted, from_time, from_word, reason, stored_number, time_text};
use super::super::{HistoryEntry, Link, Recorded, StoreError, StoredMigration, Times, steps};

/// The `_id` of a version of a migration.
pub(super) fn name_of(key: &MigrationKey) -> String {
    key.to_string()
}

/// The name of a shard as a key of a document, where a dot would be a path. No name holds a `%`.
pub(super) fn key_of(shard: &ShardId) -> String {
    shard.as_str().replace('.', "%2E")
}

fn shard_of(key: &str) -> Result<ShardId, StoreError> {
    from_word("migration_state.shard_status", &key.replace("%2E", "."))
}

/// A value of the domain as a value of a document.
pub(super) fn bson<T: Serialize>(what: &'static str, value: &T) -> Result<Bson, StoreError> {
    bson::serialize_to_bson(value).map_err(|error| StoreError::Unreadable { what, why: error.to_string() })
}

/// And back.
pub(super) fn from_bson<T: DeserializeOwned>(what: &'static str, value: Bson) -> Result<T, StoreError> {
    bson::deserialize_from_bson(value)
        .map_err(|error| StoreError::Unreadable { what, why: error.to_string() })
}

/// What changes when a migration moves, but for its shards. `error` and `steps` are for readers only.
pub(super) fn head(migration: &Migration, times: &Times) -> Result<Document, StoreError> {
    let error = reason(migration).map(|failure| bson("migration_state.error", failure)).transpose()?;
    let steps = steps::statuses(migration)
        .into_iter()
        .map(|steps::StepStatus { step, status, .. }| doc! { "step": step.as_str(), "status": status });
    Ok(doc! {
        "type": migration.kind.as_str(),
        "database_type": migration.engine.as_str(),
        "cluster": migration.cluster.as_str(),
        "checksum": migration.checksum.as_str(),
        "status": migration.status.as_str(),
        "phase": migration.phase.as_str(),
        "created_at": time_text(times.created_at),
        "started_at": times.started_at.map(time_text),
        "completed_at": times.completed_at.map(time_text),
        "error": error,
        "metadata": bson("migration_state.metadata", &Rest::of(migration))?,
        "affected_collections": [migration.relation.as_deref().unwrap_or("*")],
        "steps": steps.collect::<Vec<_>>(),
    })
}

/// A shard's part. `status` is for readers only; a failure has a document of its own.
pub(super) fn part(migration: &Migration, part: &ShardMigration) -> Document {
    let mut document = doc! {
        "status": steps::shard_status(migration, part),
        "step": part.todo.map(Step::as_str),
        "verified": part.verified,
    };
    // Left out where it says nothing: all shards of a migration share one document.
    if part.wave > 0 {
        document.insert("wave", i64::from(part.wave));
    }
    document
}

/// A shard's figures.
pub(super) fn figures(progress: &ShardProgress) -> Document {
    doc! {
        "items_processed": stored_number(progress.rows_done),
        "items_seen": stored_number(progress.rows_seen),
        "total_items": stored_number(progress.rows_total),
        "batches": stored_number(progress.batches),
        "ranges": i64::from(progress.ranges),
        "ranges_done": i64::from(progress.ranges_done),
        "pass": i64::from(progress.pass),
    }
}

/// A new migration. `commit` and `place` are the order of submission.
pub(super) fn state(new: &StoredMigration, (commit, place): (i64, i64)) -> Result<Document, StoreError> {
    let migration = &new.migration;
    let mut shards = Document::new();
    for (shard, mine) in &migration.shards {
        let mut entry = part(migration, mine);
        entry.extend(figures(&new.progress.get(shard).cloned().unwrap_or_default()));
        shards.insert(key_of(shard), entry);
    }
    let mut state = doc! {
        "_id": name_of(&migration.key),
        "seq": { "commit": commit, "place": place },
        "name": migration.key.id.as_str(),
        "version": i64::from(migration.key.version.0),
        "shards": number(migration.shards.len()),
        "spec": { "name": &new.spec.name, "text": &new.spec.text },
    };
    state.extend(head(migration, &new.times)?);
    state.insert("shard_status", shards);
    Ok(state)
}

/// A count of things in memory.
pub(super) fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Fields of a document, by type.
struct Fields<'a>(&'static str, &'a Document);

impl Fields<'_> {
    fn unreadable(&self, field: &str, why: &dyn std::fmt::Display) -> StoreError {
        StoreError::Unreadable { what: self.0, why: format!("{field}: {why}") }
    }

    fn text(&self, field: &str) -> Result<&str, StoreError> {
        self.1.get_str(field).map_err(|error| self.unreadable(field, &error))
    }

    fn word<T: DeserializeOwned>(&self, field: &str) -> Result<T, StoreError> {
        from_word(self.0, self.text(field)?)
    }

    fn integer(&self, field: &str) -> Result<i64, StoreError> {
        self.1.get_i64(field).map_err(|error| self.unreadable(field, &error))
    }

    fn count(&self, field: &str) -> Result<u64, StoreError> {
        self.integer(field).map(counted)
    }

    fn small(&self, field: &str) -> Result<u32, StoreError> {
        u32::try_from(self.integer(field)?).map_err(|error| self.unreadable(field, &error))
    }

    fn given(&self, field: &str) -> bool {
        !matches!(self.1.get(field), None | Some(Bson::Null))
    }

    fn time(&self, field: &str) -> Result<Option<chrono::DateTime<chrono::Utc>>, StoreError> {
        if self.given(field) { from_time(self.0, self.text(field)?).map(Some) } else { Ok(None) }
    }
}

/// A document of `migration_state` back into a migration, but for its failures.
pub(super) fn stored(mut state: Document) -> Result<StoredMigration, StoreError> {
    let shards = state.remove("shard_status");
    let rest: Rest = from_bson("migration_state.metadata", state.remove("metadata").unwrap_or(Bson::Null))?;
    let fields = Fields("migration_state", &state);
    let created_at = from_time("migration_state", fields.text("created_at")?)?;
    let times = Times {
        created_at,
        started_at: fields.time("started_at")?,
        completed_at: fields.time("completed_at")?,
    };
    let head = Head {
        key: MigrationKey { id: fields.word("name")?, version: Version(fields.small("version")?) },
        kind: fields.word("type")?,
        engine: fields.word("database_type")?,
        cluster: fields.word("cluster")?,
        checksum: Checksum::from_stored(fields.text("checksum")?.to_owned()),
        status: fields.word("status")?,
        phase: fields.word("phase")?,
    };
    let spec = state.get_document("spec").map_err(|error| fields.unreadable("spec", &error))?;
    let spec = Fields("migration_state.spec", spec);
    let spec = SpecFile { name: spec.text("name")?.to_owned(), text: spec.text("text")?.to_owned() };
    let mut stored = StoredMigration { migration: head.with(rest), spec, progress: BTreeMap::new(), times };
    if let Some(Bson::Document(shards)) = shards {
        for (key, entry) in &shards {
            add_shard(&mut stored, key, entry)?;
        }
    }
    Ok(stored)
}

fn add_shard(stored: &mut StoredMigration, key: &str, entry: &Bson) -> Result<(), StoreError> {
    let what = "migration_state.shard_status";
    let Bson::Document(entry) = entry else {
        return Err(StoreError::Unreadable { what, why: format!("{key} is no document") });
    };
    let fields = Fields(what, entry);
    let todo = if fields.given("step") { Some(fields.word("step")?) } else { None };
    let wave = if fields.given("wave") { fields.small("wave")? } else { 0 };
    let verified = entry.get_bool("verified").map_err(|error| fields.unreadable("verified", &error))?;
    let progress = ShardProgress {
        rows_done: fields.count("items_processed")?,
        rows_seen: fields.count("items_seen")?,
        rows_total: fields.count("total_items")?,
        batches: fields.count("batches")?,
        ranges: fields.small("ranges")?,
        ranges_done: fields.small("ranges_done")?,
        pass: fields.small("pass")?,
        ..ShardProgress::default()
    };
    let shard = shard_of(key)?;
    stored.progress.insert(shard.clone(), progress);
    stored.migration.shards.insert(shard, ShardMigration { todo, failure: None, verified, wave });
    Ok(())
}

/// An entry of the history; its `_id` is the order.
pub(super) fn event(
    entry: &HistoryEntry,
    hash: &str,
    (commit, place): (i64, i64),
) -> Result<Document, StoreError> {
    let mut event = doc! { "_id": { "commit": commit, "place": place } };
    // What is about the installation has none.
    if let Some(key) = &entry.migration {
        let version = i64::from(key.version.0);
        event.extend(doc! { "migration_id": name_of(key), "name": key.id.as_str(), "version": version });
    }
    event.extend(doc! {
        "event_type": entry.event.as_str(),
        "created_at": time_text(entry.at),
        "actor": &entry.actor,
        "request": &entry.request,
        "details": bson("migration_events.details", &entry.detail)?,
        "hash": hash,
    });
    Ok(event)
}

/// Bits of a sequence for the place within a commit: more entries than a commit can have.
const PLACE_BITS: u32 = 20;

/// The `_id` of the entry with this sequence.
pub(super) fn place_of(sequence: u64) -> Document {
    let number = |part: u64| i64::try_from(part).unwrap_or(i64::MAX);
    doc! { "commit": number(sequence >> PLACE_BITS), "place": number(sequence & ((1 << PLACE_BITS) - 1)) }
}

fn sequence_of(place: &Document) -> Result<u64, StoreError> {
    let fields = Fields("migration_events._id", place);
    Ok((fields.count("commit")? << PLACE_BITS) | fields.count("place")?)
}

/// And back.
pub(super) fn entry(mut event: Document) -> Result<Recorded, StoreError> {
    let detail = from_bson("migration_events.details", event.remove("details").unwrap_or(Bson::Null))?;
    let place = match event.remove("_id") {
        Some(Bson::Document(place)) => sequence_of(&place)?,
        _ => return Err(StoreError::Unreadable { what: "migration_events._id", why: "no document".into() }),
    };
    let fields = Fields("migration_events", &event);
    let key = fields
        .given("name")
        .then(|| Ok(MigrationKey { id: fields.word("name")?, version: Version(fields.small("version")?) }));
    let entry = HistoryEntry {
        migration: key.transpose()?,
        event: fields.word("event_type")?,
        at: from_time("migration_events", fields.text("created_at")?)?,
        actor: fields.text("actor")?.to_owned(),
        // An entry of an earlier release has none.
        request: fields.given("request").then(|| fields.text("request").map(str::to_owned)).transpose()?,
        detail,
    };
    Ok(Recorded { sequence: place, entry })
}

/// An entry as it stands, believed or not.
pub(super) fn link(event: Document) -> Result<Link, StoreError> {
    let sequence = match event.get_document("_id") {
        Ok(place) => sequence_of(place)?,
        Err(error) => {
            return Err(StoreError::Unreadable { what: "migration_events._id", why: error.to_string() });
        }
    };
    let hash = event.get_str("hash").ok().map(str::to_owned);
    let entry = entry(event).map(|recorded| recorded.entry).map_err(|error| error.to_string());
    Ok(Link { sequence, entry, hash })
}

/// The shard that a lock is about: what is looked up when another one is to be acquired.
pub(super) fn scope(resource: &Resource) -> String {
    format!("{}/{}", resource.cluster, resource.shard)
}

/// A lock. `expires_at` is for readers: only a commit frees it.
pub(super) fn lock_of(key: &MigrationKey, resource: &Resource, now: &str) -> Document {
    doc! {
        "_id": resource.to_string(),
        "resource": resource.to_string(),
        "scope": scope(resource),
        "cluster": resource.cluster.as_str(),
        "shard": resource.shard.as_str(),
        "relation": &resource.relation,
        "migration_id": name_of(key),
        "name": key.id.as_str(),
        "version": i64::from(key.version.0),
        "acquired_at": now,
        "expires_at": Bson::Null,
    }
}

/// And back.
pub(super) fn lock(document: &Document) -> Result<(MigrationKey, Resource), StoreError> {
    let fields = Fields("migration_locks", document);
    let key = MigrationKey { id: fields.word("name")?, version: Version(fields.small("version")?) };
    let relation = fields.text("relation")?.to_owned();
    Ok((key, Resource { cluster: fields.word("cluster")?, shard: fields.word("shard")?, relation }))
}

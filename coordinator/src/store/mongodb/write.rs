//! One change, written as documents inside the caller's transaction: a few commands, whatever the number of shards.

use std::collections::{BTreeMap, BTreeSet};

use bson::{Bson, Document, doc};
use mongodb::options::ReturnDocument;
use mongodb::{ClientSession, Collection, Database};
use shardlift_domain::migration::{Migration, Resource};
use shardlift_domain::topology::Topology;
use shardlift_domain::{Epoch, MigrationKey, ShardId};

use shardlift_runtime::clock;

use super::super::error::answered;
use super::super::rows::{stored_number, time_text};
use super::super::{Change, Head, HistoryEntry, Moved, StoreError, StoredMigration};
use super::client::{COMMAND, code};
use super::documents::{self, bson, key_of, name_of};
use super::{decisions, directory, fence, outbox};

/// DuplicateKey.
const DUPLICATE: i32 = 11000;

/// Writes everything; the caller commits or aborts. `commit` is the number of this one, `epoch` its leader's, `head` that of
/// the history.
pub(super) async fn apply(
    database: &Database,
    session: &mut ClientSession,
    (commit, epoch, head): (i64, Epoch, Head),
    change: &Change,
) -> Result<(), StoreError> {
    let mut writing = Writing { database, session: &mut *session, epoch };
    if let Some(new) = &change.topology {
        writing.topology(new).await?;
    }
    directory::write(database, &mut *writing.session, &change.directory).await?;
    for (place, new) in (0..).zip(&change.new) {
        writing.insert(new, (commit, place)).await?;
    }
    for moved in &change.moved {
        writing.write_moved(moved).await?;
    }
    writing.progress(change).await?;
    writing.locks(change).await?;
    writing.append(&change.history, commit, head).await?;
    outbox::write(database, session, change).await
}

struct Writing<'a> {
    database: &'a Database,
    session: &'a mut ClientSession,
    epoch: Epoch,
}

impl Writing<'_> {
    fn collection(&self, name: &str) -> Collection<Document> {
        self.database.collection(name)
    }

    async fn topology(&mut self, topology: &Topology) -> Result<(), StoreError> {
        let content = bson("topology", topology)?;
        let whole = doc! { "revision": stored_number(topology.revision), "content": content };
        let all = self.collection("topology");
        let write =
            all.replace_one(doc! { "_id": "topology" }, whole).upsert(true).session(&mut *self.session);
        answered("write the topology", write).await.map(drop)
    }

    async fn insert(&mut self, new: &StoredMigration, order: (i64, i64)) -> Result<(), StoreError> {
        let migration = &new.migration;
        let states = self.collection("migration_state");
        let write = states.insert_one(documents::state(new, order)?).session(&mut *self.session);
        match answered("add a migration", write).await {
            Err(StoreError::Unavailable { source, .. })
                if source.downcast_ref().and_then(code) == Some(DUPLICATE) =>
            {
                return Err(StoreError::AlreadyStored(migration.key.clone()));
            }
            written => written?,
        };
        let failed = migration.shards.iter().filter(|(_, part)| part.failure.is_some());
        self.failures(migration, failed.map(|(shard, _)| shard).collect(), true).await?;
        self.decision(migration).await
    }

    async fn write_moved(&mut self, moved: &Moved) -> Result<(), StoreError> {
        let migration = &moved.migration;
        let mut set = documents::head(migration, &moved.times)?;
        for (shard, part) in moved.parts() {
            let path = format!("shard_status.{}", key_of(shard));
            for (field, value) in documents::part(migration, part) {
                set.insert(format!("{path}.{field}"), value);
            }
        }
        self.set(&migration.key, set, Some(migration.shards.len())).await?;
        self.failures(migration, moved.parts().map(|(shard, _)| shard).collect(), false).await?;
        self.decision(migration).await
    }

    async fn decision(&mut self, migration: &Migration) -> Result<(), StoreError> {
        let now = time_text(clock::now());
        decisions::write(self.database, &mut *self.session, migration, self.epoch, &now).await
    }

    /// Sets fields of a migration. A path that names an unknown shard would add it: so the shards are counted.
    async fn set(
        &mut self,
        key: &MigrationKey,
        set: Document,
        expected: Option<usize>,
    ) -> Result<(), StoreError> {
        let unknown = || StoreError::Unknown(key.clone());
        let states = self.collection("migration_state");
        let count = doc! { "shards": 1, "found": { "$size": { "$objectToArray": "$shard_status" } } };
        let write = states
            .find_one_and_update(doc! { "_id": name_of(key) }, doc! { "$set": set })
            .return_document(ReturnDocument::After)
            .projection(count)
            .max_time(COMMAND)
            .session(&mut *self.session);
        let after = answered("write a migration", write).await?.ok_or_else(unknown)?;
        let shards = after.get_i64("shards").map_err(|_| unknown())?;
        let found = after.get_i32("found").map_err(|_| unknown())?;
        let same =
            i64::from(found) == shards && expected.is_none_or(|count| documents::number(count) == shards);
        if same { Ok(()) } else { Err(unknown()) }
    }

    /// Failures may be long, and all shards may fail: each has a document, so that the migration's stays small.
    async fn failures(
        &mut self,
        migration: &Migration,
        shards: Vec<&ShardId>,
        new: bool,
    ) -> Result<(), StoreError> {
        if shards.is_empty() {
            return Ok(());
        }
        let name = name_of(&migration.key);
        let failures = self.collection("migration_failures");
        if !new {
            let ids: Vec<_> = shards.iter().map(|shard| failure_id(&name, shard)).collect();
            let clear = failures.delete_many(doc! { "_id": { "$in": ids } }).session(&mut *self.session);
            answered("clear failures", clear).await?;
        }
        let mut documents = Vec::new();
        for shard in shards {
            let part = migration.shards.get(shard);
            let Some(failure) = part.and_then(|part| part.failure.as_ref()) else { continue };
            let failure = bson("migration_failures", failure)?;
            let id = failure_id(&name, shard);
            documents
                .push(doc! { "_id": id, "migration": &name, "shard": shard.as_str(), "failure": failure });
        }
        if documents.is_empty() {
            return Ok(());
        }
        let write = failures.insert_many(documents).session(&mut *self.session);
        answered("write failures", write).await.map(drop)
    }

    /// One update for each migration that has news.
    async fn progress(&mut self, change: &Change) -> Result<(), StoreError> {
        let mut news: BTreeMap<&MigrationKey, Document> = BTreeMap::new();
        for (key, shard, figures) in &change.progress {
            let set = news.entry(key).or_default();
            for (field, value) in documents::figures(figures) {
                set.insert(format!("shard_status.{}.{field}", key_of(shard)), value);
            }
        }
        for (key, set) in news {
            self.set(key, set, None).await?;
        }
        Ok(())
    }

    /// Frees, then acquires. Commits come one after the other, so what was looked up still holds when it is written.
    async fn locks(&mut self, change: &Change) -> Result<(), StoreError> {
        let now = time_text(clock::now());
        for key in &change.freed {
            self.clear(key).await?;
        }
        for (key, resources) in &change.locked {
            self.known(BTreeSet::from([key])).await?;
            self.clear(key).await?;
            self.refuse_held(resources).await?;
            let documents: Vec<_> =
                resources.iter().map(|resource| documents::lock_of(key, resource, &now)).collect();
            if !documents.is_empty() {
                let locks = self.collection("migration_locks");
                let write = locks.insert_many(documents).session(&mut *self.session);
                answered("acquire locks", write).await?;
            }
        }
        Ok(())
    }

    async fn clear(&mut self, key: &MigrationKey) -> Result<(), StoreError> {
        let locks = self.collection("migration_locks");
        let free = locks.delete_many(doc! { "migration_id": name_of(key) }).session(&mut *self.session);
        answered("free locks", free).await.map(drop)
    }

    /// The migration's own locks were cleared in the same transaction: whatever is found is another one's.
    async fn refuse_held(&mut self, wanted: &BTreeSet<Resource>) -> Result<(), StoreError> {
        let scopes: BTreeSet<String> = wanted.iter().map(documents::scope).collect();
        let scopes: Vec<String> = scopes.into_iter().collect();
        let locks = self.collection("migration_locks");
        let doing = "look for locks";
        let find = locks.find(doc! { "scope": { "$in": scopes } }).session(&mut *self.session);
        let mut cursor = answered(doing, find.into_future()).await?;
        while answered(doing, cursor.advance(&mut *self.session)).await? {
            let document = cursor.deserialize_current().map_err(StoreError::unavailable(doing))?;
            let (holder, resource) = documents::lock(&document)?;
            if resource.collides_with_any(wanted) {
                return Err(StoreError::Locked { resource, holder });
            }
        }
        Ok(())
    }

    /// Refuses a change that speaks of migrations that were never stored.
    async fn known(&mut self, keys: BTreeSet<&MigrationKey>) -> Result<(), StoreError> {
        let names: Vec<String> = keys.iter().map(|key| name_of(key)).collect();
        let states = self.collection("migration_state");
        let known = states.count_documents(doc! { "_id": { "$in": names } }).session(&mut *self.session);
        let known = answered("find migrations", known).await?;
        match keys.first() {
            Some(first) if usize::try_from(known) != Ok(keys.len()) => {
                Err(StoreError::Unknown((*first).clone()))
            }
            _ => Ok(()),
        }
    }

    async fn append(
        &mut self,
        entries: &[HistoryEntry],
        commit: i64,
        mut head: Head,
    ) -> Result<(), StoreError> {
        if entries.is_empty() {
            return Ok(());
        }
        self.known(entries.iter().filter_map(|entry| entry.migration.as_ref()).collect()).await?;
        let hashes = head.extend(entries);
        let events: Result<Vec<_>, _> = (0..)
            .zip(entries.iter().zip(&hashes))
            .map(|(place, (entry, hash))| documents::event(entry, hash, (commit, place)))
            .collect();
        let write = self.collection("migration_events");
        let write = write.insert_many(events?).session(&mut *self.session);
        answered("add to the history", write).await?;
        fence::move_head(self.database, &mut *self.session, &head).await
    }
}

fn failure_id(migration: &str, shard: &ShardId) -> Bson {
    Bson::Document(doc! { "migration": migration, "shard": shard.as_str() })
}

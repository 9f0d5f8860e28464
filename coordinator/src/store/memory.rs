//! A store that forgets everything with the process: the same promises but for durability, for fast tests.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use shardlift_domain::migration::{Migration, Resource};
use shardlift_domain::progress::ShardProgress;
use shardlift_domain::{Epoch, Fence, MigrationId, MigrationKey, Nonce, ShardId};

use super::permit::next_epoch;
use super::{
    Change, Head, Heard, HistoryEntry, HistoryEvent, LeaderPermit, Link, Position, Recorded, Snapshot, Store,
    StoreError, StoredMigration, Wanted,
};

/// Clones are handles to the same content, as several coordinators have on one database.
#[derive(Debug, Clone)]
pub struct MemoryStore {
    content: Arc<Mutex<Content>>,
}

#[derive(Debug, Clone)]
struct Content {
    fence: Fence,
    snapshot: Snapshot,
    history: Vec<HistoryEntry>,
    hashes: Vec<String>,
    head: Head,
    outbox: BTreeMap<String, u64>,
    heard: HashMap<(String, String), DateTime<Utc>>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        let fence = Fence { epoch: Epoch::NONE, nonce: Nonce(String::new()) };
        let content = Content {
            fence,
            snapshot: Snapshot::default(),
            history: Vec::new(),
            hashes: Vec::new(),
            head: Head::default(),
            outbox: BTreeMap::new(),
            heard: HashMap::new(),
        };
        Self { content: Arc::new(Mutex::new(content)) }
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        // The content is replaced as a whole, so a panic elsewhere leaves it as it was.
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn fence(&self) -> Result<Fence, StoreError> {
        Ok(self.content().fence.clone())
    }

    async fn take_over(
        &self,
        seen: &Fence,
        above: Option<Epoch>,
        nonce: Nonce,
        _holder: &str,
    ) -> Result<LeaderPermit, StoreError> {
        let mut content = self.content();
        content.check(seen)?;
        let fence = Fence { epoch: next_epoch(seen.epoch, above)?, nonce };
        content.fence = fence.clone();
        Ok(LeaderPermit::new(fence))
    }

    async fn load(&self) -> Result<Snapshot, StoreError> {
        Ok(self.content().snapshot.clone())
    }

    async fn commit(&self, permit: &LeaderPermit, change: Change) -> Result<(), StoreError> {
        let mut content = self.content();
        content.check(permit.fence())?;
        let mut next = content.clone();
        next.apply(change)?;
        *content = next;
        Ok(())
    }

    async fn events(
        &self,
        id: &MigrationId,
        after: Option<u64>,
        limit: u32,
    ) -> Result<Vec<Recorded>, StoreError> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let content = self.content();
        let mut events: Vec<_> = (1..)
            .zip(&content.history)
            .filter(|(sequence, entry)| entry.is_about(id) && after.is_none_or(|after| *sequence > after))
            .map(|(sequence, entry)| Recorded { sequence, entry: entry.clone() })
            .collect();
        match after {
            Some(_) => events.truncate(limit),
            None => drop(events.drain(..events.len().saturating_sub(limit))),
        }
        Ok(events)
    }

    async fn head(&self) -> Result<Head, StoreError> {
        Ok(self.content().head.clone())
    }

    async fn links(&self, wanted: &Wanted) -> Result<Vec<Link>, StoreError> {
        let limit = usize::try_from(wanted.limit).unwrap_or(usize::MAX);
        let content = self.content();
        let all = (1..).zip(content.history.iter().zip(&content.hashes));
        let fits = all.filter(|(sequence, (entry, _))| {
            wanted.fits(entry) && wanted.after.is_none_or(|after| *sequence > after)
        });
        let link = |(sequence, (entry, hash)): (u64, (&HistoryEntry, &String))| Link {
            sequence,
            entry: Ok(entry.clone()),
            hash: Some(hash.clone()),
        };
        let mut links: Vec<Link> = fits.map(link).collect();
        match wanted.after {
            Some(_) => links.truncate(limit),
            None => drop(links.drain(..links.len().saturating_sub(limit))),
        }
        Ok(links)
    }

    async fn position(&self, sink: &str) -> Result<Position, StoreError> {
        let content = self.content();
        let newest = content.history.len().try_into().unwrap_or(u64::MAX);
        Ok(Position { told: content.outbox.get(sink).copied(), newest })
    }

    async fn told(
        &self,
        kinds: &[HistoryEvent],
        after: u64,
        limit: u32,
    ) -> Result<Vec<Recorded>, StoreError> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let content = self.content();
        let behind = (1..).zip(&content.history).filter(|(sequence, _)| *sequence > after);
        let wanted = behind.filter(|(_, entry)| kinds.contains(&entry.event)).take(limit);
        Ok(wanted.map(|(sequence, entry)| Recorded { sequence, entry: entry.clone() }).collect())
    }

    async fn count(&self, id: &MigrationId, kinds: &[HistoryEvent], up_to: u64) -> Result<u64, StoreError> {
        let content = self.content();
        let mine = (1..).zip(&content.history).filter(|(sequence, entry)| {
            *sequence <= up_to && entry.is_about(id) && kinds.contains(&entry.event)
        });
        Ok(mine.count().try_into().unwrap_or(u64::MAX))
    }

    async fn has_heard(&self, source: &str, id: &str) -> Result<bool, StoreError> {
        Ok(self.content().heard.contains_key(&(source.to_owned(), id.to_owned())))
    }
}

impl Content {
    fn check(&self, held: &Fence) -> Result<(), StoreError> {
        if *held == self.fence {
            return Ok(());
        }
        Err(StoreError::Fenced { held: held.epoch, current: self.fence.epoch })
    }

    fn apply(&mut self, change: Change) -> Result<(), StoreError> {
        if let Some(topology) = change.topology {
            self.snapshot.topology = topology;
        }
        change.directory.iter().for_each(|entry| self.snapshot.directory.apply(entry));
        for new in change.new {
            if self.find(&new.migration.key).is_ok() {
                return Err(StoreError::AlreadyStored(new.migration.key));
            }
            let progress = complete(&new.migration, new.progress);
            self.snapshot.migrations.push(StoredMigration { progress, ..new });
        }
        for moved in change.moved {
            let stored = self.find(&moved.migration.key)?;
            if !stored.migration.shards.keys().eq(moved.migration.shards.keys()) {
                return Err(StoreError::Unknown(moved.migration.key.clone()));
            }
            // As the databases do it: only the parts that are said to differ are written.
            let mut shards = std::mem::take(&mut stored.migration.shards);
            for (shard, part) in moved.parts() {
                shards.insert(shard.clone(), part.clone());
            }
            stored.migration = Migration { shards, ..Arc::unwrap_or_clone(moved.migration) };
            stored.times = moved.times;
        }
        for (key, shard, progress) in change.progress {
            let known = self.find(&key)?.progress.get_mut(&shard);
            // The volatile figures are not stored anywhere.
            *known.ok_or(StoreError::Unknown(key))? = durable(progress);
        }
        for key in change.freed {
            self.snapshot.locks.remove(&key);
        }
        for (key, resources) in change.locked {
            self.find(&key)?;
            self.refuse_held(&key, &resources)?;
            self.snapshot.locks.insert(key, resources);
        }
        for entry in change.history {
            if let Some(key) = &entry.migration {
                self.find(key)?;
            }
            self.hashes.extend(self.head.extend(std::slice::from_ref(&entry)));
            self.history.push(entry);
        }
        if let Some(relayed) = change.relayed {
            let told = self.outbox.entry(relayed.sink).or_default();
            *told = relayed.position.max(*told);
        }
        change.heard.as_ref().map_or(Ok(()), |heard| self.hear(heard))
    }

    fn hear(&mut self, heard: &Heard) -> Result<(), StoreError> {
        let horizon = heard.horizon();
        self.heard.retain(|_, at| *at >= horizon);
        match self.heard.insert((heard.source.clone(), heard.id.clone()), heard.at) {
            None => Ok(()),
            Some(_) => Err(StoreError::already_heard(heard)),
        }
    }

    fn refuse_held(&self, key: &MigrationKey, wanted: &BTreeSet<Resource>) -> Result<(), StoreError> {
        for (holder, held) in self.snapshot.locks.iter().filter(|(holder, _)| *holder != key) {
            let collision = held.iter().find(|held| held.collides_with_any(wanted));
            if let Some(resource) = collision {
                return Err(StoreError::Locked { resource: resource.clone(), holder: holder.clone() });
            }
        }
        Ok(())
    }

    fn find(&mut self, key: &MigrationKey) -> Result<&mut StoredMigration, StoreError> {
        let mut all = self.snapshot.migrations.iter_mut();
        all.find(|stored| stored.migration.key == *key).ok_or_else(|| StoreError::Unknown(key.clone()))
    }
}

/// An entry for each shard of the migration, and no other.
fn complete(
    migration: &Migration,
    mut given: BTreeMap<ShardId, ShardProgress>,
) -> BTreeMap<ShardId, ShardProgress> {
    let entry = |shard: &ShardId| (shard.clone(), durable(given.remove(shard).unwrap_or_default()));
    migration.shards.keys().map(entry).collect()
}

fn durable(progress: ShardProgress) -> ShardProgress {
    ShardProgress { rows_per_second: 0.0, batch_size: 0, ..progress }
}

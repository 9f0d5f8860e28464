//! What is read from a store, and what is written to it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use shardlift_domain::migration::{Migration, Resource, ShardMigration};
use shardlift_domain::progress::ShardProgress;
use shardlift_domain::routing::{Directory, DirectoryEntry};
use shardlift_domain::spec::SpecFile;
use shardlift_domain::topology::Topology;
use shardlift_domain::{MigrationKey, ShardId};

use super::history::HistoryEntry;
use super::outbox::{Heard, Relayed};

/// Everything that the store holds, but for the history.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Snapshot {
    /// The clusters and shards.
    pub topology: Topology,
    /// The entries of directories.
    pub directory: Directory,
    /// All versions of all migrations, in the order in which they were submitted.
    pub migrations: Vec<StoredMigration>,
    /// What migrations hold.
    pub locks: Locks,
}

/// What each migration holds: no two of them hold what collides.
pub type Locks = BTreeMap<MigrationKey, BTreeSet<Resource>>;

/// One version of one migration.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredMigration {
    /// Its state.
    pub migration: Migration,
    /// The file that it came from.
    pub spec: SpecFile,
    /// How far each of its shards is. A store holds an entry for each shard of the migration and no other; one that
    /// is missing here is stored as zero. A cache: the checkpoints in the shards are the truth.
    pub progress: BTreeMap<ShardId, ShardProgress>,
    /// When things happened, for people.
    pub times: Times,
}

/// When a migration reached its milestones. Wall time, whole microseconds; nothing is decided by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// When it was submitted.
    pub created_at: DateTime<Utc>,
    /// When its first step was handed out.
    pub started_at: Option<DateTime<Utc>>,
    /// When nothing was left to do, or it was given up.
    pub completed_at: Option<DateTime<Utc>>,
}

impl Times {
    /// Of a migration that was submitted at this moment.
    pub fn created(at: DateTime<Utc>) -> Self {
        Self { created_at: at, started_at: None, completed_at: None }
    }
}

/// A known migration in its new state. Most moves concern one shard of thousands: only the parts that differ are written.
#[derive(Debug, Clone)]
pub struct Moved {
    /// The new state; shared, since a copy costs as much as there are shards.
    pub migration: Arc<Migration>,
    /// When things happened.
    pub times: Times,
    differ: Vec<ShardId>,
}

impl Moved {
    /// A new state whose parts of these shards differ from what is stored, and no others.
    pub fn new(migration: Arc<Migration>, differ: Vec<ShardId>, times: Times) -> Self {
        Self { migration, times, differ }
    }

    /// From the state that is stored to another one.
    pub fn between(stored: &Migration, migration: Migration, times: Times) -> Self {
        let differs = |(shard, part): &(&ShardId, &ShardMigration)| stored.shards.get(*shard) != Some(*part);
        let differ = migration.shards.iter().filter(differs).map(|(shard, _)| shard.clone()).collect();
        Self::new(Arc::new(migration), differ, times)
    }

    /// The parts that differ from what is stored.
    pub(in crate::store) fn parts(&self) -> impl Iterator<Item = (&ShardId, &ShardMigration)> {
        self.differ.iter().filter_map(|shard| self.migration.shards.get_key_value(shard))
    }
}

/// One write: all of it or nothing. Applied in the order of the fields.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// Replaces the topology.
    pub topology: Option<Topology>,
    /// Sets or removes entries of directories, in this order.
    pub directory: Vec<DirectoryEntry>,
    /// Migrations that were just submitted; each key is new.
    pub new: Vec<StoredMigration>,
    /// New states of known migrations. Their shards are those that they were submitted with.
    pub moved: Vec<Moved>,
    /// New figures of known shards of known migrations.
    pub progress: Vec<(MigrationKey, ShardId, ShardProgress)>,
    /// Migrations that hold nothing any more.
    pub freed: Vec<MigrationKey>,
    /// What known migrations hold from here on. Refused with [`StoreError::Locked`](super::StoreError::Locked) when
    /// another one holds what collides with it.
    pub locked: Vec<(MigrationKey, BTreeSet<Resource>)>,
    /// Added to the history, in this order.
    pub history: Vec<HistoryEntry>,
    /// A sink was told the history up to here.
    pub relayed: Option<Relayed>,
    /// The request that is carried out with this. Refused with [`StoreError::AlreadyHeard`](super::StoreError::AlreadyHeard)
    /// when it was carried out before.
    pub heard: Option<Heard>,
}

impl Change {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.topology.is_none()
            && self.directory.is_empty()
            && self.new.is_empty()
            && self.moved.is_empty()
            && self.progress.is_empty()
            && self.freed.is_empty()
            && self.locked.is_empty()
            && self.history.is_empty()
            && self.relayed.is_none()
            && self.heard.is_none()
    }
}

//! Backups: what was saved of a table or collection before it was changed, and what may be asked about it. No rows.

use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::fence::Token;
use crate::ids::{MigrationId, MigrationKey, ShardId, Version};
use crate::spec::Engine;

/// One complete backup of one shard, as its manifest tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backup {
    /// Of which engine the shard is.
    pub engine: Engine,
    /// The table or collection.
    pub relation: String,
    /// When it was begun, RFC 3339.
    pub began: String,
    /// When its manifest was written, RFC 3339.
    pub ended: String,
    /// Which hand-out made it.
    pub token: Token,
    /// Rows or documents.
    pub rows: u64,
    /// Their bytes, before compression.
    pub bytes: u64,
    /// Their bytes as they lie in the object store.
    pub stored: u64,
    /// In how many parts.
    pub parts: u32,
    /// Which moment it shows: `snapshot`, or `majority` for each document by itself.
    pub consistency: String,
    /// Where it lies, as a person finds it: a directory, or a bucket and a prefix.
    pub place: String,
}

/// What one shard has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Of which migration.
    pub migration: MigrationKey,
    /// Which shard.
    pub shard: ShardId,
    /// Its backup, if there is a complete one, or why the shard could not be asked.
    pub backup: Result<Option<Backup>, Failure>,
}

/// What is to be restored, and where.
#[derive(Debug, Clone)]
pub struct Restoring {
    /// Of which migration.
    pub id: MigrationId,
    /// Which version; `None`: the newest.
    pub version: Option<Version>,
    /// Only this shard.
    pub shard: Option<ShardId>,
    /// The schema or database.
    pub into: Option<String>,
    /// Only read and compare digests.
    pub dry_run: bool,
}

/// A question to a worker about the backup of one shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupRequest {
    /// Of which migration.
    pub migration: MigrationKey,
    /// What.
    pub ask: BackupAsk,
}

/// What may be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackupAsk {
    /// Tell what there is.
    Look,
    /// Restore one part.
    Restore(RestorePart),
    /// Remove it.
    Purge,
}

/// The next part of a restore. Asked one after another, each in a transaction of its own that knows how far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestorePart {
    /// The schema or database that it goes to; `None`: one with a name of its own beside the original.
    pub into: Option<String>,
    /// Which part, from 0.
    pub part: u32,
    /// Only read and compare digests; write nothing.
    pub dry_run: bool,
}

/// What a worker answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackupAnswer {
    /// What there is; `None`: no complete backup.
    Found(Option<Backup>),
    /// How far a restore is.
    Restored(Restored),
    /// So many objects were removed.
    Purged(u64),
}

/// How far the restore of one shard is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// The table or collection that it goes to, with its schema or database.
    pub into: String,
    /// Parts that are there, or were read.
    pub done: u32,
    /// Of so many.
    pub parts: u32,
    /// Rows or documents in the parts that are there.
    pub rows: u64,
}

impl Restored {
    /// Whether nothing is left to do.
    pub fn is_whole(&self) -> bool {
        self.done >= self.parts
    }
}

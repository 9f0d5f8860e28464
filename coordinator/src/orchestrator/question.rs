//! What workers are asked about shards, and what they answer.

use shardlift_domain::backup::{BackupAnswer, BackupRequest};
use shardlift_domain::facts::{
    ConflictsPage, ConflictsRequest, FactsRequest, PlacementPage, PlacementRequest, Purged, ShardFacts,
};
use shardlift_domain::ids::MigrationKey;
use shardlift_domain::mismatch::{MismatchesPage, MismatchesRequest};
use shardlift_domain::prepared::PreparedTransaction;
use shardlift_domain::quarantine::{QuarantineAnswer, QuarantineRequest};
use shardlift_domain::rehearsal::{RehearsalRequest, ShardRehearsal};
use shardlift_domain::repair::{RepairPage, RepairRequest};
use shardlift_domain::unique::{UniqueAnswer, UniqueRequest};

/// A question about a shard.
#[derive(Debug, Clone)]
pub enum Question {
    /// What it is like.
    Facts(FactsRequest),
    /// What is prepared there; `true`: also what is not ours.
    Prepared(bool),
    /// Which rows are misplaced.
    Placement(PlacementRequest),
    /// What rows were set aside, or a decision about them.
    Quarantine(QuarantineRequest),
    /// What undoing has left alone.
    Conflicts(ConflictsRequest),
    /// Which rows are not what their transform gives.
    Mismatches(MismatchesRequest),
    /// Tell of its backup, or do the next piece of work with it.
    Backup(BackupRequest),
    /// Remove some before-images of this migration.
    Purge(MigrationKey),
    /// Try a transform on a sample, and roll back.
    Rehearsal(RehearsalRequest),
    /// Repair rows that verification has found different.
    Repair(RepairRequest),
    /// Tell of the digests that it has collected, or remove some.
    Unique(UniqueRequest),
}

/// The answer to the question of the same name.
#[derive(Debug)]
pub enum Answer {
    /// Facts.
    Facts(ShardFacts),
    /// What is prepared.
    Prepared(Vec<PreparedTransaction>),
    /// A page of misplaced rows.
    Placement(PlacementPage),
    /// About rows that were set aside.
    Quarantine(QuarantineAnswer),
    /// A page of conflicts.
    Conflicts(ConflictsPage),
    /// A page of rows that are not what their transform gives.
    Mismatches(MismatchesPage),
    /// About the backup of a shard.
    Backup(BackupAnswer),
    /// Before-images were removed.
    Purge(Purged),
    /// What a sample did.
    Rehearsal(ShardRehearsal),
    /// A page of what became of rows that were to be repaired.
    Repair(RepairPage),
    /// About digests.
    Unique(UniqueAnswer),
}

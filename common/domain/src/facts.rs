//! What a worker tells of a shard. Facts are read, never decided.

use serde::{Deserialize, Serialize};

use crate::fence::Fence;
use crate::ids::{Checksum, ClusterName, MigrationKey, ShardId};
use crate::routing::Residence;
use crate::spec::{Engine, SpecFile};
use crate::verdict::Finding;

/// What planning asks of a shard.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FactsRequest {
    /// Tables or collections of interest, as the specs name them.
    pub relations: Vec<String>,
    /// How much of the schema.
    pub schema: SchemaDepth,
    /// Migrations for which the shard is to be looked over as before a change.
    pub checks: Vec<Check>,
}

/// A migration that a shard is looked over for, before it is submitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// As which it would run.
    pub migration: MigrationKey,
    /// Its spec.
    pub file: SpecFile,
}

/// How much is asked of a shard's schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SchemaDepth {
    /// Nothing.
    #[default]
    None,
    /// Its digest: enough to see whether shards agree.
    Digest,
    /// Its lines, too: enough to see where they do not.
    Lines,
}

/// The schema of a shard, without Shardlift's own part of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SchemaFacts {
    /// SHA-256 of all lines in order.
    pub digest: String,
    /// `OBJECT: DEFINITION`, in order; empty unless they were asked for.
    pub lines: Vec<String>,
    /// There are more lines than could be sent.
    pub truncated: bool,
}

/// Most bytes of lines that one shard tells.
pub const MAX_SCHEMA_BYTES: usize = 4 * 1024 * 1024;

impl SchemaFacts {
    /// Of lines in any order.
    pub fn of(mut lines: Vec<String>, depth: SchemaDepth) -> Option<Self> {
        if depth == SchemaDepth::None {
            return None;
        }
        lines.sort_unstable();
        let digest = Checksum::of(lines.join("\n").as_bytes()).as_str().to_owned();
        let mut room = if depth == SchemaDepth::Lines { MAX_SCHEMA_BYTES } else { 0 };
        let all = lines.len();
        lines.retain(|line| {
            let fits = line.len() <= room;
            room = if fits { room - line.len() } else { 0 };
            fits
        });
        let truncated = depth == SchemaDepth::Lines && lines.len() < all;
        Some(Self { digest, lines, truncated })
    }
}

/// A look for rows that lie on the wrong shard: one page of a walk by key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacementRequest {
    /// Table or collection.
    pub relation: String,
    /// The column or field that holds the routing key.
    pub column: String,
    /// Which keys live on the shard.
    pub residence: Residence,
    /// Where the page before ended, as it said.
    pub after: Option<Vec<String>>,
    /// At most so many misplaced rows.
    pub limit: u32,
}

/// What one page found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PlacementPage {
    /// Rows that were looked at.
    pub walked: u64,
    /// Rows that lie wrongly.
    pub misplaced: Vec<Misplaced>,
    /// Where to go on; `None`: this was the last page.
    pub next: Option<Vec<String>>,
}

/// A row on the wrong shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misplaced {
    /// The row's key, for people.
    pub row: String,
    /// Its routing key; `None`: it has none.
    pub key: Option<String>,
}

/// The state of one shard when it was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardFacts {
    /// Which shard.
    pub shard: ShardId,
    /// Its engine.
    pub engine: Engine,
    /// What the server calls its version.
    pub server_version: String,
    /// The relations that were asked for, in that order.
    pub relations: Vec<RelationFacts>,
    /// What the ledger holds.
    pub applied: Vec<AppliedEntry>,
    /// Its schema, as far as it was asked for.
    pub schema: Option<SchemaFacts>,
    /// What is in the way of the migrations that it was looked over for. Those that concern the shard as a whole name no
    /// migration.
    pub findings: Vec<Finding>,
}

/// One table or collection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelationFacts {
    /// The name as it was asked.
    pub name: String,
    /// Whether it is there.
    pub exists: bool,
    /// Estimated rows or documents.
    pub rows: u64,
    /// Bytes on disk, without indexes.
    pub bytes: u64,
    /// Columns of the primary key, in order; `_id` for MongoDB.
    pub key: Vec<String>,
}

/// One line of a shard's ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppliedEntry {
    /// Which migration.
    pub migration: MigrationKey,
    /// With which content.
    pub checksum: Checksum,
}

/// What a worker says of a shard when it connects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardHello {
    /// Which shard.
    pub shard: ShardId,
    /// Of which cluster.
    pub cluster: ClusterName,
    /// Of which engine.
    pub engine: Engine,
    /// The newest leader that the shard has seen, if the shard could be asked.
    pub fence: Option<Fence>,
    /// What the server calls its version, if it could be asked.
    pub server_version: Option<String>,
    /// Why the shard cannot be used now.
    pub problem: Option<crate::Failure>,
    /// What is wrong with its health, though it can be used: gates between waves stay closed. Without figures that change, since
    /// it is told anew whenever it differs.
    pub alarm: Option<crate::Failure>,
}

/// A question for what undoing has left alone on one shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConflictsRequest {
    /// Of this version of this migration.
    pub migration: MigrationKey,
    /// Where the page before ended.
    pub after: Option<u64>,
    /// How many at most.
    pub limit: u32,
}

/// A row or document that undoing has left alone. Its key, and no value of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// As text.
    pub key: String,
    /// Why it was left alone, without values.
    pub reason: String,
}

/// Before-images that were removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Purged {
    /// Of so many rows.
    pub rows: u64,
    /// There may be more.
    pub more: bool,
}

/// One page of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConflictsPage {
    /// In the order in which they were met.
    pub conflicts: Vec<Conflict>,
    /// Where this page ends; `None`: it was the last one.
    pub next: Option<u64>,
}

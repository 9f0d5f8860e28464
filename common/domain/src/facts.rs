//! What a worker tells of a shard. Facts are read, never decided.

use serde::{Deserialize, Serialize};

use crate::fence::Fence;
use crate::ids::{Checksum, ClusterName, MigrationKey, ShardId};
use crate::spec::Engine;

/// What planning asks of a shard.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FactsRequest {
    /// Tables or collections of interest, as the specs name them.
    pub relations: Vec<String>,
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
}

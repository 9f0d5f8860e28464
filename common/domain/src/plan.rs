//! The immutable result of planning: what will happen, in which order, where, and what is wrong with it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::{Checksum, ClusterName, MigrationId, ShardId, Version};
use crate::migration::{Status, Step};
use crate::rehearsal::Rehearsal;
use crate::spec::{Engine, Kind};
use crate::verdict::{Finding, Severity};

/// The plan for a set of specs, in the order in which they may begin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The topology revision it was made for.
    pub topology_revision: u64,
    /// The migrations in order.
    pub migrations: Vec<PlannedMigration>,
    /// What is wrong or noteworthy. With an error among them the plan cannot be submitted.
    pub findings: Vec<Finding>,
    /// What a sample foretells, if a rehearsal was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rehearsals: Vec<Rehearsal>,
}

impl Plan {
    /// Whether it may be submitted.
    pub fn submittable(&self) -> bool {
        self.findings.iter().all(|finding| finding.severity < Severity::Error)
    }
}

/// What becomes of a spec when the plan is submitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Disposition {
    /// A new migration.
    New,
    /// The same content was submitted before: nothing is added.
    Known {
        /// Where that one stands.
        status: Status,
    },
    /// The id was rolled back or cancelled before any change: a new version of it.
    NextVersion,
}

/// One migration of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedMigration {
    /// Its id.
    pub id: MigrationId,
    /// The version it will have, or has.
    pub version: Version,
    /// Schema or data.
    pub kind: Kind,
    /// Its engine.
    pub engine: Engine,
    /// Its cluster.
    pub cluster: ClusterName,
    /// The content.
    pub checksum: Checksum,
    /// What submitting does.
    pub disposition: Disposition,
    /// Which migrations must be completed before it begins: `depends_on`, schema before data, same table.
    pub waits_for: Vec<MigrationId>,
    /// The steps on each shard, in order.
    pub steps: Vec<Step>,
    /// The shards that go together, in order.
    pub waves: Vec<Wave>,
    /// Per shard.
    pub estimates: Vec<ShardEstimate>,
    /// What a reader should know, such as the narrower promise of a spec without `where`.
    pub notes: Vec<String>,
}

impl PlannedMigration {
    /// All shards of all waves.
    pub fn shards(&self) -> impl Iterator<Item = &ShardId> {
        self.waves.iter().flat_map(|wave| &wave.shards)
    }
}

/// Shards that go together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wave {
    /// Which.
    pub shards: Vec<ShardId>,
    /// How long it is looked at, once it is done and verified, before the next wave begins or the migration is completed.
    pub soak: Duration,
}

/// How much there is to do on one shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardEstimate {
    /// Which shard.
    pub shard: ShardId,
    /// Estimated rows or documents of the table; `None` for schema changes and tables that are not there yet.
    pub rows: Option<u64>,
    /// Bytes on disk.
    pub bytes: Option<u64>,
}

//! What doors may see: copies, made by the leader, of stored and volatile state together.

use std::collections::BTreeMap;
use std::sync::Arc;

use shardlift_domain::failure::Failure;
use shardlift_domain::fence::Epoch;
use shardlift_domain::ids::{ClusterName, MigrationId, ShardId, WorkerId};
use shardlift_domain::migration::{InForce, Migration};
use shardlift_domain::progress::ShardProgress;
use shardlift_domain::routing::Directory;
use shardlift_domain::spec::Engine;
use shardlift_domain::task::Millis;
use shardlift_domain::topology::Topology;
use shardlift_domain::verdict::Undone;

use crate::store::Times;

/// One migration with everything that is known of it now.
#[derive(Debug, Clone)]
pub struct MigrationView {
    /// The stored state.
    pub migration: Arc<Migration>,
    /// When.
    pub times: Times,
    /// While pending: what it still waits for.
    pub waiting_for: Vec<MigrationId>,
    /// While pending: the approval that it needs and has not.
    pub approval_needed: Option<Failure>,
    /// How its walk is throttled; `None`: nothing is walked.
    pub throttle: Option<InForce>,
    /// Whether its spec keeps what a rollback needs.
    pub undoable: bool,
    /// The present wave is done: what its gate waits for.
    pub gate: Option<GateView>,
    /// Shards of its cluster that it does not cover, since they joined later.
    pub uncovered: Vec<ShardId>,
    /// Rows that are done, over all shards.
    pub rows_done: u64,
    /// Rows that there seem to be, over all shards.
    pub rows_total: u64,
    /// What is taken back by undos that still run.
    pub undone: Undone,
    /// Per shard; none in a list of migrations.
    pub shards: BTreeMap<ShardId, ShardStatus>,
}

/// What a gate between waves waits for.
#[derive(Debug, Clone)]
pub struct GateView {
    /// How long the wave still soaks.
    pub soak_left: Millis,
    /// It has soaked, and this keeps the gate closed.
    pub closed: Option<Failure>,
}

/// One shard's part, with the volatile facts.
#[derive(Debug, Clone, Default)]
pub struct ShardStatus {
    /// How far it is.
    pub progress: ShardProgress,
    /// A passing trouble; the work is tried again by itself.
    pub trouble: Option<Failure>,
    /// Who is busy with it.
    pub workers: Vec<WorkerId>,
}

/// One declared shard.
#[derive(Debug, Clone)]
pub struct ShardView {
    /// Which.
    pub shard: ShardId,
    /// Of which cluster.
    pub cluster: ClusterName,
    /// Of which engine.
    pub engine: Engine,
    /// Who serves it.
    pub workers: Vec<WorkerId>,
    /// What its server calls its version.
    pub server_version: Option<String>,
    /// Whether some worker reaches it.
    pub reachable: bool,
    /// What is wrong with it.
    pub problem: Option<Failure>,
}

/// One connected worker.
#[derive(Debug, Clone)]
pub struct WorkerView {
    /// Who.
    pub worker: WorkerId,
    /// Version of its program.
    pub version: String,
    /// What it serves.
    pub shards: Vec<ShardId>,
    /// Tasks at once.
    pub slots: u32,
    /// Tasks now.
    pub busy: u32,
    /// It is given nothing new.
    pub draining: bool,
}

/// What became of a wish to drain a worker.
#[derive(Debug, Clone)]
pub struct Drained {
    /// The worker now.
    pub worker: WorkerView,
    /// Whether it was otherwise before.
    pub changed: bool,
    /// Shards that nobody else can work on.
    pub alone: Vec<ShardId>,
}

/// Who leads.
#[derive(Debug, Clone)]
pub struct LeaderView {
    /// The coordinator's name.
    pub name: String,
    /// Its epoch.
    pub epoch: Epoch,
}

/// What planning needs to know of the present state.
#[derive(Debug, Clone)]
pub struct PlanningView {
    /// The declared clusters.
    pub topology: Arc<Topology>,
    /// The entries of directories.
    pub directory: Arc<Directory>,
    /// The newest version of every id.
    pub known: BTreeMap<MigrationId, Migration>,
}

//! Who is there.

use shardlift_domain::failure::Failure;
use shardlift_domain::ids::{ClusterName, ShardId, WorkerId};
use shardlift_domain::spec::Engine;
use shardlift_proto::convert::{WireError, failure_from_wire};
use shardlift_proto::v1;

/// One declared shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardPresence {
    /// Its id.
    pub shard: ShardId,
    /// Its cluster.
    pub cluster: ClusterName,
    /// Its engine.
    pub engine: Engine,
    /// A worker serves it and reaches it.
    pub reachable: bool,
    /// Who serves it.
    pub workers: Vec<WorkerId>,
    /// What the server calls its version. Free text of a server: make it harmless before showing it.
    pub server_version: Option<String>,
    /// Why it cannot be used now.
    pub problem: Option<Failure>,
}

impl ShardPresence {
    pub(crate) fn from_wire(shard: v1::Shard) -> Result<Self, WireError> {
        Ok(Self {
            engine: shard.engine().try_into()?,
            shard: ShardId::new(shard.shard)?,
            cluster: ClusterName::new(shard.cluster)?,
            reachable: shard.reachable,
            workers: shard.workers.into_iter().map(WorkerId::new).collect::<Result<_, _>>()?,
            server_version: shard.server_version,
            problem: shard.problem.map(failure_from_wire),
        })
    }
}

/// One connected worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerPresence {
    /// Its name.
    pub worker: WorkerId,
    /// Its release. Free text of a peer: make it harmless before showing it.
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

impl WorkerPresence {
    pub(crate) fn from_wire(worker: v1::Worker) -> Result<Self, WireError> {
        Ok(Self {
            worker: WorkerId::new(worker.worker)?,
            version: worker.version,
            shards: worker.shards.into_iter().map(ShardId::new).collect::<Result<_, _>>()?,
            slots: worker.slots,
            busy: worker.busy,
            draining: worker.draining,
        })
    }
}

/// What became of a wish to drain a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drained {
    /// The worker now.
    pub worker: WorkerPresence,
    /// Whether it was otherwise before.
    pub changed: bool,
    /// Shards that nobody else can work on.
    pub alone: Vec<ShardId>,
}

impl Drained {
    pub(crate) fn from_wire(answer: v1::DrainResponse) -> Result<Self, WireError> {
        Ok(Self {
            worker: WorkerPresence::from_wire(answer.worker.ok_or(WireError::Missing("worker"))?)?,
            changed: answer.changed,
            alone: answer.alone.into_iter().map(ShardId::new).collect::<Result<_, _>>()?,
        })
    }
}

/// Who leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leader {
    /// The coordinator's name; empty while nobody leads. Free text of a peer.
    pub name: String,
    /// Its fencing number.
    pub epoch: u64,
    /// Whether it is the coordinator that answered.
    pub here: bool,
    /// Every coordinator that the election knows; none are known to one of a former release.
    pub coordinators: Vec<Coordinator>,
    /// Nobody is asked who they are.
    pub open: bool,
}

/// One coordinator. Free text of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coordinator {
    /// Its name.
    pub name: String,
    /// Where it is reached.
    pub address: String,
    /// Whether it is said to lead.
    pub leads: bool,
}

impl Leader {
    pub(crate) fn from_wire(leader: v1::LeaderResponse) -> Self {
        let coordinator = |v1::Coordinator { name, address, leads }| Coordinator { name, address, leads };
        Self {
            name: leader.name,
            epoch: leader.epoch,
            here: leader.here,
            coordinators: leader.coordinators.into_iter().map(coordinator).collect(),
            open: leader.open,
        }
    }
}

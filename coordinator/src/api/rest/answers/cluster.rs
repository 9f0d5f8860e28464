//! Shards, workers, the leader, the topology.

use serde::Serialize;
use shardlift_proto::{convert, v1};
use utoipa::ToSchema;

use super::super::words::Engine;
use super::FailureBody;

/// The declared shards.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Shards)]
pub(in super::super) struct ShardsBody {
    topology_revision: u64,
    shards: Vec<ShardBody>,
}

/// One declared shard.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Shard)]
struct ShardBody {
    shard: String,
    cluster: String,
    engine: Option<Engine>,
    /// A worker serves it and reaches it.
    reachable: bool,
    workers: Vec<String>,
    /// Free text of its server.
    server_version: Option<String>,
    /// Why it cannot be used now; of a reachable one, what is wrong with its health.
    problem: Option<FailureBody>,
}

impl From<v1::ShardsResponse> for ShardsBody {
    fn from(answer: v1::ShardsResponse) -> Self {
        let shard = |shard: v1::Shard| ShardBody {
            engine: Engine::of(shard.engine()),
            shard: shard.shard,
            cluster: shard.cluster,
            reachable: shard.reachable,
            workers: shard.workers,
            server_version: shard.server_version,
            problem: shard.problem.map(Into::into),
        };
        Self {
            topology_revision: answer.topology_revision,
            shards: answer.shards.into_iter().map(shard).collect(),
        }
    }
}

/// The connected workers.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Workers)]
pub(in super::super) struct WorkersBody {
    workers: Vec<WorkerBody>,
}

/// One connected worker.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Worker)]
struct WorkerBody {
    worker: String,
    /// Of its program.
    version: String,
    shards: Vec<String>,
    /// Tasks at once.
    slots: u32,
    /// Tasks now.
    busy: u32,
    /// It is given nothing new.
    draining: bool,
}

impl From<v1::Worker> for WorkerBody {
    fn from(worker: v1::Worker) -> Self {
        let v1::Worker { worker, version, shards, slots, busy, draining } = worker;
        Self { worker, version, shards, slots, busy, draining }
    }
}

impl From<v1::WorkersResponse> for WorkersBody {
    fn from(answer: v1::WorkersResponse) -> Self {
        Self { workers: answer.workers.into_iter().map(Into::into).collect() }
    }
}

/// What became of a wish to drain a worker.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Drained)]
pub(in super::super) struct DrainBody {
    worker: WorkerBody,
    /// False: it was so already.
    changed: bool,
    /// Shards that nobody else serves: what runs there is finished there, and nothing new is begun.
    alone: Vec<String>,
}

impl From<v1::DrainResponse> for DrainBody {
    fn from(answer: v1::DrainResponse) -> Self {
        Self {
            worker: answer.worker.unwrap_or_default().into(),
            changed: answer.changed,
            alone: answer.alone,
        }
    }
}

/// Who leads.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Leader)]
pub(in super::super) struct LeaderBody {
    name: String,
    /// Its fencing number.
    epoch: u64,
    /// Whether it is the coordinator that was asked.
    here: bool,
    /// Every coordinator that the election knows.
    coordinators: Vec<CoordinatorBody>,
    /// Nobody is asked who they are: the leader knows no principals.
    open: bool,
}

/// One coordinator.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Coordinator)]
struct CoordinatorBody {
    name: String,
    /// Where the command line and workers reach it: gRPC.
    address: String,
    /// Whether it is said to lead.
    leads: bool,
}

impl From<v1::LeaderResponse> for LeaderBody {
    fn from(answer: v1::LeaderResponse) -> Self {
        let coordinator = |v1::Coordinator { name, address, leads }| CoordinatorBody { name, address, leads };
        Self {
            name: answer.name,
            epoch: answer.epoch,
            here: answer.here,
            coordinators: answer.coordinators.into_iter().map(coordinator).collect(),
            open: answer.open,
        }
    }
}

/// Clusters, shards, rules and the newest changes.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Topology)]
pub(in super::super) struct TopologyBody {
    /// Grows with every change.
    revision: u64,
    clusters: Vec<ClusterBody>,
    /// Oldest first.
    changes: Vec<ChangeBody>,
}

/// One cluster.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Cluster)]
struct ClusterBody {
    cluster: String,
    engine: Option<Engine>,
    shards: Vec<MemberBody>,
    /// Which shard holds which key, as specs and files write it.
    #[schema(value_type = Option<Object>)]
    routing: Option<serde_json::Value>,
    /// The file declares the routing.
    routing_declared: bool,
    /// Announced shards join by themselves.
    discover: bool,
    /// Entries of its directory.
    entries: u64,
}

/// A shard of a cluster.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Member)]
struct MemberBody {
    shard: String,
    origin: Origin,
}

/// How a shard came to be of its cluster.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Origin {
    /// The coordinator's file declares it.
    File,
    /// A person added it.
    Person,
    /// A worker announced it.
    Worker,
}

/// A change of the topology.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TopologyChange)]
struct ChangeBody {
    /// The revision that it made.
    revision: u64,
    what: String,
}

impl From<v1::TopologyResponse> for TopologyBody {
    fn from(answer: v1::TopologyResponse) -> Self {
        let change = |v1::TopologyChange { revision, what }| ChangeBody { revision, what };
        Self {
            revision: answer.revision,
            clusters: answer.clusters.into_iter().map(Into::into).collect(),
            changes: answer.changes.into_iter().map(change).collect(),
        }
    }
}

impl From<v1::Cluster> for ClusterBody {
    fn from(cluster: v1::Cluster) -> Self {
        use v1::member::Origin as Wire;
        let member = |member: v1::Member| MemberBody {
            origin: match member.origin() {
                Wire::File | Wire::Unspecified => Origin::File,
                Wire::Person => Origin::Person,
                Wire::Worker => Origin::Worker,
            },
            shard: member.shard,
        };
        // A rule of a later release cannot be told: better none than a wrong one.
        let routing = cluster.routing.and_then(|routing| convert::routing_from_wire(routing).ok());
        Self {
            engine: v1::Engine::try_from(cluster.engine).ok().and_then(Engine::of),
            cluster: cluster.name,
            shards: cluster.shards.into_iter().map(member).collect(),
            routing: routing.map(|routing| serde_json::json!(routing)),
            routing_declared: cluster.routing_declared,
            discover: cluster.discover,
            entries: cluster.entries,
        }
    }
}

/// Where a key is.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Route)]
pub(in super::super) struct RouteBody {
    shard: String,
    /// In its one text form.
    key: String,
    /// `hash`, `range` or `directory`.
    rule: String,
    /// Where the rule knows buckets.
    bucket: Option<u32>,
    topology_revision: u64,
}

impl From<v1::RouteResponse> for RouteBody {
    fn from(routed: v1::RouteResponse) -> Self {
        let v1::RouteResponse { key, shard, rule, bucket, topology_revision } = routed;
        Self { shard, key, rule, bucket, topology_revision }
    }
}

//! The door to who is there: ClusterService.

use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::ids::WorkerId;
use shardlift_proto::status::refuse;
use shardlift_proto::v1::{self, cluster_service_server::ClusterService};
use tonic::{Request, Response, Status};

use crate::orchestrator::{Handle, ShardView, WorkerView};

/// ClusterService over the orchestrator.
pub(super) struct ClusterDoor {
    orchestrator: Handle,
}

impl ClusterDoor {
    pub(super) fn new(orchestrator: Handle) -> Self {
        Self { orchestrator }
    }
}

#[tonic::async_trait]
impl ClusterService for ClusterDoor {
    async fn shards(&self, _: Request<v1::ShardsRequest>) -> Result<Response<v1::ShardsResponse>, Status> {
        let view = self.orchestrator.planning().await.map_err(|failure| refuse(vec![failure]))?;
        let shards = self.orchestrator.shards().await.map_err(|failure| refuse(vec![failure]))?;
        Ok(Response::new(v1::ShardsResponse {
            topology_revision: view.topology.revision,
            shards: shards.into_iter().map(shard_to_wire).collect(),
        }))
    }

    async fn workers(&self, _: Request<v1::WorkersRequest>) -> Result<Response<v1::WorkersResponse>, Status> {
        let workers = self.orchestrator.workers().await.map_err(|failure| refuse(vec![failure]))?;
        Ok(Response::new(v1::WorkersResponse { workers: workers.into_iter().map(worker_to_wire).collect() }))
    }

    async fn leader(&self, _: Request<v1::LeaderRequest>) -> Result<Response<v1::LeaderResponse>, Status> {
        let leader = self.orchestrator.leader().await.map_err(|failure| refuse(vec![failure]))?;
        Ok(Response::new(v1::LeaderResponse { name: leader.name, epoch: leader.epoch.0, here: true }))
    }

    async fn drain(&self, request: Request<v1::DrainRequest>) -> Result<Response<v1::DrainResponse>, Status> {
        let v1::DrainRequest { worker, draining } = request.into_inner();
        let worker = worker_id(worker).map_err(|failure| refuse(vec![failure]))?;
        let drained = self.orchestrator.drain(worker, draining).await;
        let drained = drained.map_err(|failure| refuse(vec![failure]))?;
        Ok(Response::new(v1::DrainResponse {
            worker: Some(worker_to_wire(drained.worker)),
            changed: drained.changed,
            alone: drained.alone.into_iter().map(Into::into).collect(),
        }))
    }
}

fn worker_id(text: String) -> Result<WorkerId, Failure> {
    let next = "use a name as `shardlift workers` shows it";
    WorkerId::new(text).map_err(|error| Failure::new(ErrorCode::RequestInvalid, error.to_string(), next))
}

fn shard_to_wire(shard: ShardView) -> v1::Shard {
    v1::Shard {
        shard: shard.shard.into(),
        cluster: shard.cluster.into(),
        engine: v1::Engine::from(shard.engine).into(),
        reachable: shard.reachable,
        workers: shard.workers.into_iter().map(Into::into).collect(),
        server_version: shard.server_version,
        problem: shard.problem.map(Into::into),
    }
}

fn worker_to_wire(worker: WorkerView) -> v1::Worker {
    v1::Worker {
        worker: worker.worker.into(),
        version: worker.version,
        shards: worker.shards.into_iter().map(Into::into).collect(),
        slots: worker.slots,
        busy: worker.busy,
        draining: worker.draining,
    }
}

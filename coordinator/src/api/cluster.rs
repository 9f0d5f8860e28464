//! The door to who is there: ClusterService.

use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::ids::WorkerId;
use shardlift_proto::status::refuse;
use shardlift_proto::v1::{self, cluster_service_server::ClusterService};
use tonic::{Request, Response, Status};

use super::access::Access;
use super::asker::asker;
use super::forward::FORWARDED;
use super::pieces::Pieces;
use super::{audit, indoubt, placement, refusals, topology};
use crate::election::Peer;
use crate::orchestrator::{ShardView, WorkerView};
use crate::service::{Services, cluster_name};

/// ClusterService over the services.
pub(super) struct ClusterDoor {
    services: Services,
    access: Access,
}

impl ClusterDoor {
    pub(super) fn new(services: Services, access: Access) -> Self {
        Self { services, access }
    }
}

fn one(failure: Failure) -> Status {
    refuse(vec![failure])
}

#[tonic::async_trait]
impl ClusterService for ClusterDoor {
    async fn shards(&self, _: Request<v1::ShardsRequest>) -> Result<Response<v1::ShardsResponse>, Status> {
        let view = self.services.orchestrator().planning().await.map_err(|failure| refuse(vec![failure]))?;
        let shards = self.services.orchestrator().shards().await.map_err(|failure| refuse(vec![failure]))?;
        Ok(Response::new(v1::ShardsResponse {
            topology_revision: view.topology.revision,
            shards: shards.into_iter().map(shard_to_wire).collect(),
        }))
    }

    async fn workers(&self, _: Request<v1::WorkersRequest>) -> Result<Response<v1::WorkersResponse>, Status> {
        let workers =
            self.services.orchestrator().workers().await.map_err(|failure| refuse(vec![failure]))?;
        Ok(Response::new(v1::WorkersResponse { workers: workers.into_iter().map(worker_to_wire).collect() }))
    }

    async fn leader(
        &self,
        request: Request<v1::LeaderRequest>,
    ) -> Result<Response<v1::LeaderResponse>, Status> {
        let leader = self.services.orchestrator().leader().await.map_err(|failure| refuse(vec![failure]))?;
        // Passed on by a follower: whoever asked that one must not take it for the leader.
        let here = !request.metadata().contains_key(FORWARDED.as_str());
        let coordinators = self.services.orchestrator().standing().coordinators().into_iter();
        let coordinators =
            coordinators.map(|(Peer { name, address }, leads)| v1::Coordinator { name, address, leads });
        Ok(Response::new(v1::LeaderResponse {
            name: leader.name,
            epoch: leader.epoch.0,
            here,
            coordinators: coordinators.collect(),
            open: self.access.is_open(),
        }))
    }

    async fn topology(
        &self,
        _: Request<v1::TopologyRequest>,
    ) -> Result<Response<v1::TopologyResponse>, Status> {
        let view = self.services.orchestrator().planning().await.map_err(one)?;
        Ok(Response::new(topology::topology_to_wire(&view)))
    }

    async fn change_topology(
        &self,
        request: Request<v1::ChangeTopologyRequest>,
    ) -> Result<Response<v1::ChangeTopologyResponse>, Status> {
        let by = asker(&request)?;
        let change = topology::change_from_wire(request.into_inner()).map_err(one)?;
        let (changed, revision) = match change {
            Some(edit) => self.services.change(edit, by).await,
            None => self.services.reload(by).await,
        }
        .map_err(one)?;
        Ok(Response::new(v1::ChangeTopologyResponse { changed, revision }))
    }

    async fn audit(&self, request: Request<v1::AuditRequest>) -> Result<Response<v1::AuditResponse>, Status> {
        audit::page(&self.services, request.into_inner()).await.map(Response::new).map_err(one)
    }

    async fn verify_audit(
        &self,
        request: Request<v1::VerifyAuditRequest>,
    ) -> Result<Response<v1::VerifyAuditResponse>, Status> {
        audit::verify(&self.services, request.into_inner()).await.map(Response::new).map_err(one)
    }

    async fn note_refusal(
        &self,
        request: Request<v1::NoteRefusalRequest>,
    ) -> Result<Response<v1::NoteRefusalResponse>, Status> {
        refusals::noted(&self.services, request).await
    }

    async fn route(&self, request: Request<v1::RouteRequest>) -> Result<Response<v1::RouteResponse>, Status> {
        let request = request.into_inner();
        let routed = self.services.route(&request.cluster, &request.key).await.map_err(one)?;
        Ok(Response::new(v1::RouteResponse {
            key: routed.key,
            shard: routed.shard.into(),
            rule: routed.rule.to_owned(),
            bucket: routed.bucket,
            topology_revision: routed.revision,
        }))
    }

    async fn drift(&self, request: Request<v1::DriftRequest>) -> Result<Response<v1::DriftResponse>, Status> {
        let cluster = request.into_inner().cluster.as_deref().map(cluster_name).transpose().map_err(one)?;
        let clusters = self.services.drift(cluster).await.map_err(one)?;
        Ok(Response::new(v1::DriftResponse {
            clusters: clusters.into_iter().map(topology::drift_to_wire).collect(),
        }))
    }

    async fn indoubt(
        &self,
        request: Request<v1::IndoubtRequest>,
    ) -> Result<Response<v1::IndoubtResponse>, Status> {
        let found = self.services.in_doubt(request.into_inner().all).await.map_err(one)?;
        Ok(Response::new(indoubt::in_doubt_to_wire(found)))
    }

    type PlacementStream = Pieces<v1::PlacementResponse>;

    async fn placement(
        &self,
        request: Request<v1::PlacementRequest>,
    ) -> Result<Response<Self::PlacementStream>, Status> {
        let request = request.into_inner();
        let cluster = cluster_name(&request.cluster).map_err(one)?;
        Ok(Response::new(placement::looking(self.services.clone(), cluster, request)))
    }

    async fn drain(&self, request: Request<v1::DrainRequest>) -> Result<Response<v1::DrainResponse>, Status> {
        let by = asker(&request)?;
        let v1::DrainRequest { worker, draining } = request.into_inner();
        let worker = worker_id(worker).map_err(|failure| refuse(vec![failure]))?;
        let drained = self.services.orchestrator().drain(worker, draining, by).await;
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

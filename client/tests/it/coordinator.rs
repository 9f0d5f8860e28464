//! A coordinator with canned answers. It can be stopped and started again on the same port.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::{self, BoxStream, Stream};
use shardlift_domain::ended::EndedSession;
use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_proto::status::{refuse, refuse_not_leader};
use shardlift_proto::v1;
use shardlift_proto::v1::cluster_service_server::{ClusterService, ClusterServiceServer};
use shardlift_proto::v1::migration_service_server::{MigrationService, MigrationServiceServer};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

type Answer<T> = Result<Response<T>, Status>;

/// The id of a migration whose history cannot be read.
pub(crate) const UNREADABLE: &str = "unreadable";

/// What the coordinator says; shared by all its lives.
#[derive(Clone)]
pub(crate) struct Script {
    /// The answer to plan and submit.
    plan: Arc<Mutex<Result<v1::Plan, Vec<Failure>>>>,
    /// So many submissions find that the topology has moved.
    stale: Arc<Mutex<u32>>,
    /// The migrations, as watchers see them.
    migrations: Arc<watch::Sender<Vec<v1::Migration>>>,
    /// Names of the calls, in order.
    calls: Arc<Mutex<Vec<&'static str>>>,
    /// What it refuses everything with, if it does not lead.
    follows: Arc<watch::Sender<Option<Status>>>,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            plan: Arc::new(Mutex::new(Ok(v1::Plan::default()))),
            stale: Arc::default(),
            migrations: Arc::new(watch::channel(Vec::new()).0),
            calls: Arc::default(),
            follows: Arc::new(watch::channel(None).0),
        }
    }
}

impl Script {
    pub(crate) fn plans(&self, plan: Result<v1::Plan, Vec<Failure>>) {
        *self.plan.lock().expect("not poisoned") = plan;
    }

    /// The topology moves under the next submissions.
    pub(crate) fn moves_under(&self, submissions: u32) {
        *self.stale.lock().expect("not poisoned") = submissions;
    }

    pub(crate) fn has(&self, migrations: Vec<v1::Migration>) {
        self.migrations.send_replace(migrations);
    }

    pub(crate) fn calls(&self) -> Vec<&'static str> {
        self.calls.lock().expect("not poisoned").clone()
    }

    /// It does not lead, and says who does; what is open ends with these words.
    pub(crate) fn follows(&self, leader: Option<v1::Peer>) {
        let failure = Failure::new(ErrorCode::CoordinatorNotLeader, "does not lead", "ask the leader");
        self.follows.send_replace(Some(refuse_not_leader(failure, leader)));
    }

    pub(crate) fn leads(&self) {
        self.follows.send_replace(None);
    }

    fn called(&self, call: &'static str) -> Result<(), Status> {
        self.calls.lock().expect("not poisoned").push(call);
        self.follows.borrow().clone().map_or(Ok(()), Err)
    }

    fn find(&self, id: &str) -> Result<v1::Migration, Status> {
        let found = self.migrations.borrow().iter().find(|migration| migration.id == id).cloned();
        found.ok_or_else(|| {
            refuse(vec![Failure::new(ErrorCode::RequestNotFound, "no such migration", "list them")])
        })
    }

    fn verb(&self, call: &'static str, request: Request<v1::VerbRequest>) -> Answer<v1::VerbResponse> {
        self.called(call)?;
        let migration = Some(self.find(&request.into_inner().id)?);
        if call == "cancel" {
            let failure = Failure::new(ErrorCode::RequestIllegal, "it is finished", "nothing");
            return Err(refuse(vec![failure]));
        }
        Ok(Response::new(v1::VerbResponse { migration, changed: call != "pause" }))
    }

    fn planned(&self, call: &'static str) -> Result<Option<v1::Plan>, Status> {
        self.called(call)?;
        self.plan.lock().expect("not poisoned").clone().map(Some).map_err(refuse)
    }
}

/// One life of the coordinator; stopped when dropped.
pub(crate) struct Coordinator {
    pub(crate) address: SocketAddr,
    task: JoinHandle<()>,
}

impl Coordinator {
    /// On a free port.
    pub(crate) async fn start(script: &Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        Self::serve(listener, script)
    }

    /// Breaks every connection, as a kill would, and waits until the port is free.
    pub(crate) async fn kill(mut self) -> SocketAddr {
        self.task.abort();
        let _ = (&mut self.task).await;
        self.address
    }

    /// Again on the port of an earlier life.
    pub(crate) async fn start_at(address: SocketAddr, script: &Script) -> Self {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        loop {
            match TcpListener::bind(address).await {
                Ok(listener) => return Self::serve(listener, script),
                Err(error) => {
                    assert!(tokio::time::Instant::now() < deadline, "{address} is not free again: {error}");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn serve(listener: TcpListener, script: &Script) -> Self {
        let address = listener.local_addr().expect("an address");
        let server = Server::builder()
            .add_service(MigrationServiceServer::new(script.clone()))
            .add_service(ClusterServiceServer::new(script.clone()));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        // Connections are tasks of their own: only the end of their runtime ends them at once.
        let task = tokio::spawn(async move {
            let life = Life(Some(runtime));
            let served = life
                .0
                .as_ref()
                .expect("alive")
                .spawn(async move { server.serve_with_incoming(TcpListenerStream::new(listener)).await });
            let _ = served.await;
        });
        Self { address, task }
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A runtime that may be dropped by a task.
struct Life(Option<tokio::runtime::Runtime>);

impl Drop for Life {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

#[tonic::async_trait]
impl MigrationService for Script {
    type WatchStream = BoxStream<'static, Result<v1::WatchResponse, Status>>;

    async fn plan(&self, _request: Request<v1::PlanRequest>) -> Answer<v1::PlanResponse> {
        Ok(Response::new(v1::PlanResponse { plan: self.planned("plan")?, samples: vec![] }))
    }

    async fn submit(&self, request: Request<v1::SubmitRequest>) -> Answer<v1::SubmitResponse> {
        let plan = self.planned("submit")?;
        assert_eq!(request.into_inner().topology_revision, Some(1), "the plan that was read is named");
        let mut stale = self.stale.lock().expect("not poisoned");
        if *stale > 0 {
            *stale -= 1;
            let message = "the plan was made for revision 1; shard chat-pg-09 joined cluster chat";
            return Err(refuse(vec![Failure::new(ErrorCode::PlanStale, message, "plan again")]));
        }
        Ok(Response::new(v1::SubmitResponse { plan }))
    }

    async fn start(&self, request: Request<v1::VerbRequest>) -> Answer<v1::VerbResponse> {
        self.verb("start", request)
    }

    async fn pause(&self, request: Request<v1::VerbRequest>) -> Answer<v1::VerbResponse> {
        self.verb("pause", request)
    }

    async fn resume(&self, request: Request<v1::VerbRequest>) -> Answer<v1::VerbResponse> {
        self.verb("resume", request)
    }

    async fn cancel(&self, request: Request<v1::VerbRequest>) -> Answer<v1::VerbResponse> {
        self.verb("cancel", request)
    }

    async fn retry(&self, request: Request<v1::VerbRequest>) -> Answer<v1::VerbResponse> {
        self.verb("retry", request)
    }

    async fn rollback(&self, request: Request<v1::RollbackRequest>) -> Answer<v1::VerbResponse> {
        let v1::RollbackRequest { id, drop_data } = request.into_inner();
        let verb = if drop_data { "rollback, data dropped" } else { "rollback" };
        self.verb(verb, Request::new(v1::VerbRequest { id }))
    }

    async fn purge(&self, request: Request<v1::VerbRequest>) -> Answer<v1::VerbResponse> {
        self.verb("purge", request)
    }

    async fn throttle(&self, request: Request<v1::ThrottleRequest>) -> Answer<v1::VerbResponse> {
        let request = request.map(|v1::ThrottleRequest { id, .. }| v1::VerbRequest { id });
        self.verb("throttle", request)
    }

    async fn approve(&self, request: Request<v1::ApproveRequest>) -> Answer<v1::VerbResponse> {
        let request = request.map(|v1::ApproveRequest { id, .. }| v1::VerbRequest { id });
        self.verb("approve", request)
    }

    async fn conflicts(&self, _: Request<v1::ConflictsRequest>) -> Answer<v1::ConflictsResponse> {
        self.called("conflicts")?;
        Ok(Response::new(v1::ConflictsResponse::default()))
    }

    type MismatchesStream = BoxStream<'static, Result<v1::MismatchesResponse, Status>>;

    async fn mismatches(&self, _: Request<v1::MismatchesRequest>) -> Answer<Self::MismatchesStream> {
        Err(Status::unimplemented("not part of this test"))
    }

    type ListBackupsStream = BoxStream<'static, Result<v1::ListBackupsResponse, Status>>;

    async fn list_backups(&self, _: Request<v1::ListBackupsRequest>) -> Answer<Self::ListBackupsStream> {
        Err(Status::unimplemented("not part of this test"))
    }

    type RestoreBackupStream = BoxStream<'static, Result<v1::RestoreBackupResponse, Status>>;

    async fn restore_backup(
        &self,
        _: Request<v1::RestoreBackupRequest>,
    ) -> Answer<Self::RestoreBackupStream> {
        Err(Status::unimplemented("not part of this test"))
    }

    type PurgeBackupsStream = BoxStream<'static, Result<v1::PurgeBackupsResponse, Status>>;

    async fn purge_backups(&self, _: Request<v1::PurgeBackupsRequest>) -> Answer<Self::PurgeBackupsStream> {
        Err(Status::unimplemented("not part of this test"))
    }

    type RepairStream = BoxStream<'static, Result<v1::RepairResponse, Status>>;

    async fn repair(&self, _: Request<v1::RepairRequest>) -> Answer<Self::RepairStream> {
        Err(Status::unimplemented("not part of this test"))
    }

    async fn get(&self, request: Request<v1::GetRequest>) -> Answer<v1::GetResponse> {
        self.called("get")?;
        Ok(Response::new(v1::GetResponse { migration: Some(self.find(&request.into_inner().id)?) }))
    }

    async fn events(&self, _: Request<v1::EventsRequest>) -> Answer<v1::EventsResponse> {
        self.called("events")?;
        Ok(Response::new(v1::EventsResponse::default()))
    }

    async fn list(&self, _request: Request<v1::ListRequest>) -> Answer<v1::ListResponse> {
        self.called("list")?;
        Ok(Response::new(v1::ListResponse { migrations: self.migrations.borrow().clone() }))
    }

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Answer<Self::WatchStream> {
        self.called("watch")?;
        let id = request.into_inner().id;
        self.find(&id)?;
        let mut follows = self.follows.subscribe();
        let over =
            async move { follows.wait_for(Option::is_some).await.ok().and_then(|status| status.clone()) };
        let views = views(id, self.migrations.subscribe()).map(Some);
        let last = stream::once(over).map(|status| status.map(Err));
        let all = stream::select(views, last).scan(false, |over, each| {
            let goes_on = !std::mem::replace(over, !matches!(each, Some(Ok(_))));
            std::future::ready(each.filter(|_| goes_on))
        });
        Ok(Response::new(Box::pin(all)))
    }

    type ListQuarantineStream = BoxStream<'static, Result<v1::ListQuarantineResponse, Status>>;

    async fn list_quarantine(
        &self,
        _request: Request<v1::ListQuarantineRequest>,
    ) -> Result<Response<Self::ListQuarantineStream>, Status> {
        Err(Status::unimplemented("not part of this test"))
    }

    type ShowQuarantineStream = BoxStream<'static, Result<v1::ShowQuarantineResponse, Status>>;

    async fn show_quarantine(
        &self,
        _request: Request<v1::ShowQuarantineRequest>,
    ) -> Result<Response<Self::ShowQuarantineStream>, Status> {
        Err(Status::unimplemented("not part of this test"))
    }

    async fn retry_quarantine(
        &self,
        _request: Request<v1::DecideQuarantineRequest>,
    ) -> Result<Response<v1::DecideQuarantineResponse>, Status> {
        Err(Status::unimplemented("not part of this test"))
    }

    async fn discard_quarantine(
        &self,
        _request: Request<v1::DecideQuarantineRequest>,
    ) -> Result<Response<v1::DecideQuarantineResponse>, Status> {
        Err(Status::unimplemented("not part of this test"))
    }
}

/// The migration now, and again after every change.
fn views(
    id: String,
    mut news: watch::Receiver<Vec<v1::Migration>>,
) -> impl Stream<Item = Result<v1::WatchResponse, Status>> {
    news.mark_changed();
    stream::unfold((id, news), async |(id, mut news)| {
        loop {
            news.changed().await.ok()?;
            let found = news.borrow_and_update().iter().find(|migration| migration.id == id).cloned();
            if found.is_some() {
                return Some((Ok(v1::WatchResponse { migration: found }), (id, news)));
            }
        }
    })
}

#[tonic::async_trait]
impl ClusterService for Script {
    async fn shards(&self, _request: Request<v1::ShardsRequest>) -> Answer<v1::ShardsResponse> {
        let shard = v1::Shard {
            shard: "chat-pg-01".into(),
            cluster: "chat".into(),
            engine: v1::Engine::Postgres.into(),
            reachable: true,
            workers: vec!["worker-a".into()],
            server_version: Some("15.18\u{1b}[31m".into()),
            problem: None,
        };
        Ok(Response::new(v1::ShardsResponse { topology_revision: 1, shards: vec![shard] }))
    }

    async fn workers(&self, _request: Request<v1::WorkersRequest>) -> Answer<v1::WorkersResponse> {
        Ok(Response::new(v1::WorkersResponse { workers: vec![] }))
    }

    async fn drain(&self, request: Request<v1::DrainRequest>) -> Answer<v1::DrainResponse> {
        let v1::DrainRequest { worker, draining } = request.into_inner();
        let worker = v1::Worker { worker, draining, version: "0.1.0".into(), ..v1::Worker::default() };
        Ok(Response::new(v1::DrainResponse {
            worker: Some(worker),
            changed: true,
            alone: vec!["chat-pg-01".into()],
        }))
    }

    async fn leader(&self, _request: Request<v1::LeaderRequest>) -> Answer<v1::LeaderResponse> {
        let coordinator = |number, leads| v1::Coordinator {
            name: format!("coordinator-{number}"),
            address: format!("c{number}:7400"),
            leads,
        };
        Ok(Response::new(v1::LeaderResponse {
            name: "coordinator-1".into(),
            epoch: 3,
            here: true,
            coordinators: vec![coordinator(1, true), coordinator(2, false)],
            open: false,
        }))
    }

    type PlacementStream = BoxStream<'static, Result<v1::PlacementResponse, Status>>;

    async fn topology(&self, _request: Request<v1::TopologyRequest>) -> Answer<v1::TopologyResponse> {
        Ok(Response::new(v1::TopologyResponse { revision: 1, ..Default::default() }))
    }

    async fn change_topology(
        &self,
        _: Request<v1::ChangeTopologyRequest>,
    ) -> Answer<v1::ChangeTopologyResponse> {
        Ok(Response::new(v1::ChangeTopologyResponse { changed: true, revision: 2 }))
    }

    async fn route(&self, request: Request<v1::RouteRequest>) -> Answer<v1::RouteResponse> {
        let key = request.into_inner().key;
        let (shard, rule) = ("chat-pg-01".into(), "hash".into());
        Ok(Response::new(v1::RouteResponse { key, shard, rule, bucket: Some(7), topology_revision: 1 }))
    }

    async fn drift(&self, _request: Request<v1::DriftRequest>) -> Answer<v1::DriftResponse> {
        Ok(Response::new(v1::DriftResponse { clusters: vec![] }))
    }

    async fn indoubt(&self, _request: Request<v1::IndoubtRequest>) -> Answer<v1::IndoubtResponse> {
        Ok(Response::new(v1::IndoubtResponse::default()))
    }

    async fn audit(&self, request: Request<v1::AuditRequest>) -> Answer<v1::AuditResponse> {
        let v1::AuditRequest { id, event, .. } = request.into_inner();
        if id.as_deref() == Some(UNREADABLE) {
            return Err(refuse(vec![Failure::new(ErrorCode::Internal, "a torn page", "mend the store")]));
        }
        let sessions = [EndedSession { pid: 7, ..EndedSession::default() }];
        let detail = serde_json::json!({ "shard": "chat-pg-01", "sessions": sessions });
        let (event, detail) = match event {
            Some(event) => (event, detail.to_string()),
            None => ("started".to_owned(), String::new()),
        };
        let fact = v1::AuditFact { event, actor: "olaf".into(), detail, ..Default::default() };
        let hash = Some("c0ffee".to_owned());
        let entry = v1::AuditEntry { sequence: 7, fact: Some(fact), unreadable: String::new(), hash };
        Ok(Response::new(v1::AuditResponse { entries: vec![entry], more: false }))
    }

    async fn note_refusal(&self, _: Request<v1::NoteRefusalRequest>) -> Answer<v1::NoteRefusalResponse> {
        Ok(Response::new(v1::NoteRefusalResponse {}))
    }

    async fn verify_audit(
        &self,
        request: Request<v1::VerifyAuditRequest>,
    ) -> Answer<v1::VerifyAuditResponse> {
        // Whoever names a hash is told that it is not in the chain.
        let broken =
            request.into_inner().known.map(|_| v1::AuditBroken { sequence: None, why: "lost".into() });
        Ok(Response::new(v1::VerifyAuditResponse { entries: 7, broken, ..Default::default() }))
    }

    async fn placement(&self, _request: Request<v1::PlacementRequest>) -> Answer<Self::PlacementStream> {
        Ok(Response::new(Box::pin(stream::empty())))
    }
}

/// A migration of one shard.
pub(crate) fn migration(id: &str, status: v1::Status) -> v1::Migration {
    let shard = v1::ShardMigration {
        shard: "chat-pg-01".into(),
        step: v1::Step::Backfill.into(),
        rows_done: 10,
        rows_seen: 50,
        rows_total: 100,
        ..v1::ShardMigration::default()
    };
    v1::Migration {
        id: id.into(),
        version: 1,
        kind: v1::Kind::Data.into(),
        engine: v1::Engine::Postgres.into(),
        cluster: "chat".into(),
        checksum: "c0ffee".into(),
        status: status.into(),
        phase: v1::Phase::Data.into(),
        released: true,
        created_at: Some(prost_types::Timestamp { seconds: 1_790_000_000, nanos: 0 }),
        shards: vec![shard],
        rows_done: 10,
        rows_total: 100,
        ..v1::Migration::default()
    }
}

/// A plan of migrations that wait for each other in a row.
pub(crate) fn plan(ids: &[&str], known: Option<v1::Status>) -> v1::Plan {
    use v1::planned_migration::Disposition;
    let disposition = if known.is_some() { Disposition::Known } else { Disposition::New };
    let planned = |(place, id): (usize, &&str)| v1::PlannedMigration {
        id: (*id).into(),
        version: 1,
        kind: v1::Kind::Data.into(),
        engine: v1::Engine::Postgres.into(),
        cluster: "chat".into(),
        checksum: "c0ffee".into(),
        disposition: disposition.into(),
        known_status: known.unwrap_or(v1::Status::Unspecified).into(),
        waits_for: ids[..place].last().into_iter().map(|id| (*id).to_owned()).collect(),
        steps: vec![v1::Step::Precheck.into(), v1::Step::Backfill.into(), v1::Step::Verify.into()],
        waves: vec![v1::Wave { shards: vec!["chat-pg-01".into()], soak_ms: 0 }],
        ..v1::PlannedMigration::default()
    };
    v1::Plan {
        topology_revision: 1,
        migrations: ids.iter().enumerate().map(planned).collect(),
        findings: vec![],
        rehearsals: vec![],
    }
}

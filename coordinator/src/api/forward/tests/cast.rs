//! Who plays: coordinators, the election that the test decides, a leader that only listens, a worker.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use shardlift_domain::capability::Capabilities;
use shardlift_domain::facts::{RelationFacts, ShardFacts, ShardHello};
use shardlift_domain::spec::{Engine, SpecFile};
use shardlift_domain::topology::{Cluster, ClusterRules, Topology};
use shardlift_proto::v1::cluster_service_client::ClusterServiceClient;
use shardlift_proto::v1::cluster_service_server::{ClusterService, ClusterServiceServer};
use shardlift_proto::v1::fleet_service_client::FleetServiceClient;
use shardlift_proto::v1::migration_service_client::MigrationServiceClient;
use shardlift_proto::v1::{self, from_worker};
use shardlift_runtime::tls::Door;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};

use super::{FORWARDED, WITHIN};
use crate::api::Listening;
use crate::api::access::Access;
use crate::config::AccessConfig;
use crate::election::{Election, ElectionError, Expiry, Leadership, Peer, Registered, Seat};
use crate::orchestrator::{Answer, Joining, Order, Parts, Question, Report, Standing};
use crate::service::Services;
use crate::store::{MemoryStore, Store};

/// An election that the test decides, over one store.
#[derive(Clone)]
pub(super) struct Ballot {
    elected: watch::Sender<Option<Peer>>,
    said: watch::Sender<Option<Peer>>,
    successor: Arc<Mutex<Option<Peer>>>,
    store: Arc<dyn Store>,
}

struct Candidate {
    ballot: Ballot,
    address: String,
}

impl Ballot {
    pub(super) fn new() -> Self {
        Self {
            elected: watch::Sender::new(None),
            said: watch::Sender::new(None),
            successor: Arc::default(),
            store: Arc::new(MemoryStore::default()),
        }
    }

    /// A coordinator that stands in this election.
    pub(super) async fn coordinator(&self, name: &str) -> Coordinator {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        let shutdown = CancellationToken::new();
        let parts = Parts {
            quiet_within: None,
            name: name.to_owned(),
            address: address.clone(),
            ttl: Duration::from_secs(5),
            declare: Arc::new(|| Ok(topology())),
            store: Arc::clone(&self.store),
            metrics: Arc::default(),
            approval: shardlift_domain::migration::ApprovalRule::None,
            sink: None,
            election: Arc::new(Candidate { ballot: self.clone(), address: address.clone() }),
        };
        let (handle, heart) = crate::orchestrator::run(parts, shutdown.clone());
        let services = Services::new(handle, Arc::new(|| Ok(topology())));
        let access = Access::new(AccessConfig::default(), Arc::default());
        let grpc = Door::grpc(listener, None).expect("a door");
        let listening = Listening { grpc, rest: None, dial: None, reflection: false, access };
        let running = tokio::spawn(crate::serve(services.clone(), heart, listening, shutdown.clone()));
        Coordinator { name: name.to_owned(), address, services, shutdown, running }
    }

    /// This one is elected, and everybody hears of it; waits until it leads.
    pub(super) async fn elect(&self, winner: &Coordinator) {
        self.elected.send_replace(Some(winner.peer()));
        self.said.send_replace(Some(winner.peer()));
        winner.led().await;
    }

    /// Everybody hears that this one leads.
    pub(super) fn say(&self, name: &str, address: &str) {
        self.said.send_replace(Some(Peer { name: name.to_owned(), address: address.to_owned() }));
    }

    /// This one is elected when the present leader resigns.
    pub(super) fn succeed(&self, next: &Coordinator) {
        *self.successor.lock().unwrap_or_else(PoisonError::into_inner) = Some(next.peer());
    }
}

#[async_trait]
impl Election for Candidate {
    async fn campaign(&self) -> Result<Leadership, ElectionError> {
        let mine = |elected: &Option<Peer>| elected.as_ref().is_some_and(|peer| peer.address == self.address);
        let mut elected = self.ballot.elected.subscribe();
        elected.wait_for(mine).await.map_err(|_| ElectionError::Lost)?;
        let (lost, address) = (CancellationToken::new(), self.address.clone());
        let taken = lost.clone();
        tokio::spawn(async move {
            let other = |now: &Option<Peer>| now.as_ref().is_none_or(|peer| peer.address != address);
            let _ = elected.wait_for(other).await;
            taken.cancel();
        });
        Ok(Leadership::new(Box::new(Taken(self.ballot.clone(), self.address.clone())), lost))
    }

    fn leader(&self) -> watch::Receiver<Option<Peer>> {
        self.ballot.said.subscribe()
    }

    fn coordinators(&self) -> watch::Receiver<Vec<Peer>> {
        watch::Sender::new(Vec::new()).subscribe()
    }

    async fn leave(&self) {}
}

struct Taken(Ballot, String);

#[async_trait]
impl Seat for Taken {
    async fn confirm(&self) -> Result<(), ElectionError> {
        let held = self.0.elected.borrow().as_ref().is_some_and(|peer| peer.address == self.1);
        if held { Ok(()) } else { Err(ElectionError::Lost) }
    }

    fn expiry(&self) -> Expiry {
        Arc::new(|| false)
    }

    fn registry(&self) -> Option<&watch::Sender<Vec<Registered>>> {
        None
    }

    async fn resign(self: Box<Self>) {
        if self.confirm().await.is_ok() {
            let next = self.0.successor.lock().unwrap_or_else(PoisonError::into_inner).take();
            self.0.elected.send_replace(next.clone());
            self.0.said.send_replace(None);
            // News of an election takes its way.
            let said = self.0.said.clone();
            tokio::spawn(async move {
                sleep(Duration::from_millis(50)).await;
                said.send_replace(next);
            });
        }
    }
}

/// A coordinator that serves.
pub(super) struct Coordinator {
    pub(super) name: String,
    pub(super) address: String,
    services: Services,
    shutdown: CancellationToken,
    running: JoinHandle<anyhow::Result<()>>,
}

impl Coordinator {
    fn peer(&self) -> Peer {
        Peer { name: self.name.clone(), address: self.address.clone() }
    }

    pub(super) fn standing(&self) -> &Standing {
        self.services.orchestrator().standing()
    }

    /// Waits until it leads.
    pub(super) async fn led(&self) {
        let mut standing = self.standing().clone();
        let leads = async {
            while !standing.leads() {
                standing.changed().await;
            }
        };
        timeout(WITHIN, leads).await.expect("it leads in time");
    }

    /// SIGTERM.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        self.shutdown.cancel();
        timeout(WITHIN, self.running).await.expect("it ended in time").expect("no panic")
    }

    async fn channel(&self) -> Channel {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).expect("an address");
        endpoint.connect().await.expect("connected")
    }

    pub(super) async fn migrations(&self) -> MigrationServiceClient<Channel> {
        MigrationServiceClient::new(self.channel().await)
    }

    pub(super) async fn cluster(&self) -> ClusterServiceClient<Channel> {
        ClusterServiceClient::new(self.channel().await)
    }

    /// A worker's session, with its hello said.
    pub(super) async fn session(
        &self,
    ) -> Result<(mpsc::Sender<v1::FromWorker>, Streaming<v1::ToWorker>), Status> {
        let (reports, queue) = mpsc::channel(8);
        let hello = v1::Hello {
            worker: "w9".into(),
            version: "0".into(),
            protocol: shardlift_proto::PROTOCOL,
            slots: 1,
            shards: Vec::new(),
            ..v1::Hello::default()
        };
        let hello = v1::FromWorker { message: Some(from_worker::Message::Hello(hello)) };
        reports.send(hello).await.expect("there is room");
        let answer =
            FleetServiceClient::new(self.channel().await).session(ReceiverStream::new(queue)).await?;
        Ok((reports, answer.into_inner()))
    }

    /// Stores a schema migration that nobody has started.
    pub(super) async fn submit(&self, id: &str) {
        let text = format!(
            "id: {id}\nkind: schema\nengine: postgres\ncluster: chat\nup: [\"ALTER TABLE items ADD COLUMN x int\"]\n"
        );
        let file = SpecFile { name: "spec.yaml".into(), text };
        self.services.submit(vec![file], false, None, "person").await.expect("submitted");
    }
}

fn topology() -> Topology {
    let cluster = Cluster {
        name: "chat".parse().expect("a name"),
        uuid: String::new(),
        engine: Engine::Postgres,
        shards: vec!["s1".parse().expect("a name")],
        rules: ClusterRules::default(),
    };
    Topology { clusters: BTreeMap::from([(cluster.name.clone(), cluster)]), ..Topology::default() }
}

pub(super) fn get(id: &str) -> v1::GetRequest {
    v1::GetRequest { id: id.into(), version: 0 }
}

pub(super) fn watch(id: &str) -> v1::WatchRequest {
    v1::WatchRequest { id: id.into() }
}

/// A worker that answers what planning asks; it leaves when dropped.
pub(super) struct Player(JoinHandle<()>);

impl Player {
    pub(super) async fn join(leader: &Coordinator) -> Self {
        let (orders, mut queue) = mpsc::channel(100);
        let hello = ShardHello {
            shard: "s1".parse().expect("a name"),
            cluster: "chat".parse().expect("a name"),
            engine: Engine::Postgres,
            fence: None,
            server_version: None,
            problem: None,
            alarm: None,
        };
        let joining = Joining {
            worker: "w1".parse().expect("a name"),
            version: "0".into(),
            slots: 1,
            shards: vec![hello],
            knows: Capabilities::default(),
            draining: false,
            principal: "person".into(),
            orders,
        };
        let handle = leader.services.orchestrator().clone();
        let welcome = handle.join(joining).await.expect("it leads");
        Self(tokio::spawn(async move {
            loop {
                let report = tokio::select! {
                    order = queue.recv() => match order {
                        None => return,
                        Some(Order::Ask { query, question: Question::Facts(request), .. }) => facts(query, request.relations),
                        Some(_) => continue,
                    },
                    () = sleep(Duration::from_millis(200)) => {
                        welcome.pulse.beat();
                        continue;
                    }
                };
                match handle.room().await {
                    Ok(room) => room.report(welcome.session, report),
                    Err(_) => return,
                }
            }
        }))
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn facts(query: u64, relations: Vec<String>) -> Report {
    let relation = |name| RelationFacts { name, exists: true, rows: 1, bytes: 1, key: vec!["id".into()] };
    let facts = ShardFacts {
        shard: "s1".parse().expect("a name"),
        engine: Engine::Postgres,
        server_version: "15".into(),
        relations: relations.into_iter().map(relation).collect(),
        applied: Vec::new(),
        schema: None,
        findings: Vec::new(),
    };
    Report::Answered(query, Ok(Answer::Facts(facts)))
}

/// The deadline as the header said it, and whether the call came from another coordinator.
type Heard = (Option<String>, bool);

/// A leader that answers one call, and keeps what came with it.
#[derive(Clone)]
pub(super) struct Echo {
    pub(super) address: String,
    heard: Arc<Mutex<Option<Heard>>>,
}

impl Echo {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        let echo = Self { address, heard: Arc::default() };
        let server = Server::builder().add_service(ClusterServiceServer::new(echo.clone()));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        echo
    }

    /// What came with the newest call.
    pub(super) fn heard(&self) -> Heard {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).take().expect("it was asked")
    }
}

#[tonic::async_trait]
impl ClusterService for Echo {
    async fn shards(&self, _: Request<v1::ShardsRequest>) -> Result<Response<v1::ShardsResponse>, Status> {
        Err(Status::unimplemented("not asked for"))
    }

    async fn workers(&self, _: Request<v1::WorkersRequest>) -> Result<Response<v1::WorkersResponse>, Status> {
        Err(Status::unimplemented("not asked for"))
    }

    async fn drain(&self, _: Request<v1::DrainRequest>) -> Result<Response<v1::DrainResponse>, Status> {
        Err(Status::unimplemented("not asked for"))
    }

    async fn topology(
        &self,
        _: Request<v1::TopologyRequest>,
    ) -> Result<Response<v1::TopologyResponse>, Status> {
        Err(Status::unimplemented("not asked for"))
    }

    async fn change_topology(
        &self,
        _: Request<v1::ChangeTopologyRequest>,
    ) -> Result<Response<v1::ChangeTopologyResponse>, Status> {
        Err(Status::unimplemented("not asked for"))
    }

    async fn note_refusal(
        &self,
        _: Request<v1::NoteRefusalRequest>,
    ) -> Result<Response<v1::NoteRefusalResponse>, Status> {
        Err(Status::unimplemented("not asked for"))
    }

    async fn route(&self, _: Request<v1::RouteRequest>) -> Result<Response<v1::RouteResponse>, Status> {
        Err(Status::unimplemented("not asked for"))
    }

    async fn drift(&self, _: Request<v1::DriftRequest>) -> Result<Response<v1::DriftResponse>, Status> {
        Err(Status::unimplemented("not asked for"))
    }

    async fn indoubt(&self, _: Request<v1::IndoubtRequest>) -> Result<Response<v1::IndoubtResponse>, Status> {
        Err(Status::unimplemented("not asked for"))
    }

    async fn audit(&self, _: Request<v1::AuditRequest>) -> Result<Response<v1::AuditResponse>, Status> {
        Err(Status::unimplemented("not asked for"))
    }

    async fn verify_audit(
        &self,
        _: Request<v1::VerifyAuditRequest>,
    ) -> Result<Response<v1::VerifyAuditResponse>, Status> {
        Err(Status::unimplemented("not asked for"))
    }

    type PlacementStream = BoxStream<'static, Result<v1::PlacementResponse, Status>>;

    async fn placement(
        &self,
        _: Request<v1::PlacementRequest>,
    ) -> Result<Response<Self::PlacementStream>, Status> {
        Err(Status::unimplemented("not asked for"))
    }

    async fn leader(
        &self,
        request: Request<v1::LeaderRequest>,
    ) -> Result<Response<v1::LeaderResponse>, Status> {
        let text =
            |key: &str| request.metadata().get(key).and_then(|value| Some(value.to_str().ok()?.to_owned()));
        let heard = (text("grpc-timeout"), text(FORWARDED.as_str()).is_some());
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Some(heard);
        Ok(Response::new(v1::LeaderResponse {
            name: "echo".into(),
            epoch: 1,
            here: true,
            coordinators: Vec::new(),
            open: true,
        }))
    }
}

//! A coordinator that says what the test wants, behind a real listener.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::ids::{ShardId, TaskId};
use shardlift_domain::migration::Step;
use shardlift_proto::convert::{task_to_wire, token_to_wire};
use shardlift_proto::status::{refuse, refuse_not_leader};
use shardlift_proto::v1::fleet_service_server::{FleetService, FleetServiceServer};
use shardlift_proto::v1::from_worker::Message;
use shardlift_proto::v1::{self, to_worker};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

use super::WITHIN;
use crate::engine::testing::{file, task, token};

type Orders = mpsc::Sender<Result<v1::ToWorker, Status>>;

struct Door {
    refusals: Arc<Mutex<VecDeque<Status>>>,
    arrivals: mpsc::UnboundedSender<Session>,
}

#[tonic::async_trait]
impl FleetService for Door {
    type SessionStream = ReceiverStream<Result<v1::ToWorker, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<v1::FromWorker>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let mut reports = request.into_inner();
        let first = reports.message().await?.and_then(|first| first.message);
        let Some(Message::Hello(hello)) = first else { return Err(Status::invalid_argument("no hello")) };
        let refusal = self.refusals.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        if let Some(refusal) = refusal {
            return Err(refusal);
        }
        let (orders, queue) = mpsc::channel(100);
        let arrived = self.arrivals.send(Session { hello, orders, reports });
        arrived.map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(ReceiverStream::new(queue)))
    }
}

/// A coordinator behind a free port; it ends with the test's runtime.
pub(super) struct Coordinator {
    pub(super) address: String,
    refusals: Arc<Mutex<VecDeque<Status>>>,
    arrivals: mpsc::UnboundedReceiver<Session>,
}

impl Coordinator {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = format!("http://{}", listener.local_addr().expect("bound"));
        let (sender, arrivals) = mpsc::unbounded_channel();
        let refusals = Arc::new(Mutex::new(VecDeque::new()));
        let door = FleetServiceServer::new(Door { refusals: Arc::clone(&refusals), arrivals: sender });
        let server = Server::builder().add_service(door);
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        Self { address, refusals, arrivals }
    }

    /// The next worker that says hello hears that this one does not lead, and who does.
    pub(super) fn points_to(&self, leader: Option<&str>) {
        let refusal = not_leader(leader);
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner).push_back(refusal);
    }

    /// The next worker that says hello hears this instead of a welcome.
    pub(super) fn refuse_next(&self, failure: Failure) {
        let refusal = refuse(vec![failure]);
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner).push_back(refusal);
    }

    /// The next worker that has said hello.
    pub(super) async fn arrival(&mut self) -> Session {
        timeout(WITHIN, self.arrivals.recv()).await.expect("a worker came in time").expect("the door is open")
    }

    /// The same, and it is welcome.
    pub(super) async fn welcome(&mut self, ttl: Duration) -> Session {
        self.welcome_in(1, ttl).await
    }

    /// The same, in this epoch.
    pub(super) async fn welcome_in(&mut self, epoch: u64, ttl: Duration) -> Session {
        let session = self.arrival().await;
        let welcome = v1::Welcome {
            fence: Some(v1::Fence { epoch, nonce: "n".into() }),
            lease_ttl_ms: u64::try_from(ttl.as_millis()).expect("short"),
            cluster_uuids: HashMap::from([("c".to_owned(), "uuid".to_owned())]),
            protocol: shardlift_proto::PROTOCOL,
        };
        session.say(to_worker::Message::Welcome(welcome)).await;
        session
    }
}

fn not_leader(leader: Option<&str>) -> Status {
    let failure = Failure::new(ErrorCode::CoordinatorNotLeader, "does not lead", "ask the leader");
    let address = |url: &str| url.trim_start_matches("http://").to_owned();
    let leader = leader.map(|url| v1::Peer { name: "leader".into(), address: address(url) });
    refuse_not_leader(failure, leader)
}

/// The coordinator's side of one session. It echoes no heartbeat.
pub(super) struct Session {
    pub(super) hello: v1::Hello,
    orders: Orders,
    reports: Streaming<v1::FromWorker>,
}

impl Session {
    /// The lead has passed on: the last word is who leads now.
    pub(super) async fn hand_over(self, leader: &Coordinator) {
        self.orders.send(Err(not_leader(Some(&leader.address)))).await.expect("the session goes on");
    }

    pub(super) async fn say(&self, message: to_worker::Message) {
        self.orders.send(Ok(v1::ToWorker { message: Some(message) })).await.expect("the session goes on");
    }

    pub(super) async fn assign(&self, step: Step, attempt: u32) {
        self.hand_out(task(step), attempt).await;
    }

    pub(super) async fn assign_on(&self, shard: &str, step: Step, attempt: u32) {
        self.hand_out(TaskId { shard: ShardId::new(shard).expect("a name"), ..task(step) }, attempt).await;
    }

    async fn hand_out(&self, task: TaskId, attempt: u32) {
        let assign = v1::Assign {
            task: Some(task_to_wire(&task)),
            token: Some(token_to_wire(token(attempt))),
            spec: Some(file("").into()),
            shard_slots: 4,
            drop_data: false,
            sharers: 1,
            throttle: None,
            traceparent: None,
        };
        self.say(to_worker::Message::Assign(assign)).await;
    }

    pub(super) async fn withdraw(&self, step: Step, attempt: u32) {
        let withdraw = v1::Withdraw {
            task: Some(task_to_wire(&task(step))),
            token: Some(token_to_wire(token(attempt))),
        };
        self.say(to_worker::Message::Withdraw(withdraw)).await;
    }

    pub(super) async fn adjust(&self, attempt: u32, sharers: u32, share: bool) {
        let adjust = v1::Adjust {
            task: Some(task_to_wire(&task(Step::Backfill))),
            token: Some(token_to_wire(token(attempt))),
            sharers,
            share,
            throttle: None,
        };
        self.say(to_worker::Message::Adjust(adjust)).await;
    }

    async fn ask_facts(&self, query: u64) {
        let query = v1::FactsQuery {
            query,
            shard: "s1".into(),
            relations: Vec::new(),
            schema: 0,
            checks: Vec::new(),
        };
        self.say(to_worker::Message::Facts(query)).await;
    }

    /// The next thing that is said, but for heartbeats and news of shards.
    pub(super) async fn hear(&mut self) -> Message {
        timeout(WITHIN, async {
            loop {
                let said =
                    self.reports.message().await.expect("the session goes on").expect("it is not over");
                match said.message.expect("a message") {
                    Message::Heartbeat(_) | Message::Hello(_) | Message::Leaving(_) => {}
                    other => return other,
                }
            }
        })
        .await
        .expect("something was said in time")
    }

    /// Waits until all orders so far were obeyed: they are read one after the other. Fails if a task ends meanwhile.
    pub(super) async fn answered(&mut self) {
        self.ask_facts(99).await;
        loop {
            match self.hear().await {
                Message::Facts(answer) if answer.query == 99 => return,
                Message::Progress(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// The attempt that finished.
    pub(super) async fn finished(&mut self) -> u32 {
        loop {
            match self.hear().await {
                Message::Finished(finished) => return finished.token.expect("named").attempt,
                Message::Progress(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// The attempt that was given back.
    pub(super) async fn released(&mut self) -> u32 {
        loop {
            match self.hear().await {
                Message::Released(released) => return released.token.expect("named").attempt,
                Message::Progress(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

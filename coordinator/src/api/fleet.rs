//! The door for workers: FleetService. One stream each way; hello first. Sessions are the leader's alone: whoever
//! comes to a follower, or stays while the lead passes on, is told where to go.

use std::time::Duration;

use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use shardlift_domain::capability::Capabilities;
use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::ids::{ShardId, WorkerId};
use shardlift_domain::range::Rest;
use shardlift_proto::convert::{
    WireError, backup_answer_from_wire, backup_query_to_wire, check_request_to_wire,
    conflicts_page_from_wire, conflicts_to_wire, depth_to_wire, ended_from_wire, facts_from_wire,
    failure_from_wire, held_from_wire, hello_from_wire, mismatches_page_from_wire, mismatches_to_wire,
    outcome_from_wire, page_from_wire, placement_to_wire, prepared_from_wire, purged_from_wire,
    quarantine_to_wire, quarantined_from_wire, range_from_wire, receipt_from_wire, rehearsal_query_to_wire,
    repair_page_from_wire, repair_to_wire, saved_from_wire, shard_rehearsal_from_wire, task_from_wire,
    task_to_wire, throttle_to_wire, token_from_wire, token_to_wire, unique_answer_from_wire, unique_to_wire,
};
use shardlift_proto::status::refuse;
use shardlift_proto::v1::{self, fleet_service_server::FleetService, from_worker, to_worker};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::access::{Access, Stay, caller, stay};
use super::forward::refusal;
use super::hearing::Hearing;
use crate::orchestrator::{Answer, Handle, Joining, Order, Question, Report, Standing, Welcome};

/// Orders that may wait for one worker.
const QUEUE: usize = 1024;

/// How long a worker that comes while nobody leads waits at the door: it hears of the next leader at once.
const PATIENCE: Duration = Duration::from_secs(2);

/// FleetService over the orchestrator.
pub(super) struct FleetDoor {
    orchestrator: Handle,
    access: Access,
    shutdown: CancellationToken,
}

impl FleetDoor {
    pub(super) fn new(orchestrator: Handle, access: Access, shutdown: CancellationToken) -> Self {
        Self { orchestrator, access, shutdown }
    }

    /// Only a leader has sessions.
    async fn admits(&self) -> Result<(), Status> {
        let standing = self.orchestrator.standing();
        tokio::select! {
            () = standing.settled(PATIENCE) => {}
            () = self.shutdown.cancelled() => {}
        }
        if standing.leads() { Ok(()) } else { Err(refusal(standing)) }
    }
}

#[tonic::async_trait]
impl FleetService for FleetDoor {
    type SessionStream = BoxStream<'static, Result<v1::ToWorker, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<v1::FromWorker>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (principal, stay) = (caller(&request)?, stay(&request)?);
        self.admits().await?;
        let mut reports = request.into_inner();
        let first = reports.message().await?.and_then(|first| first.message);
        let Some(from_worker::Message::Hello(hello)) = first else {
            return Err(refuse(vec![WireError::Missing("hello as the first message").into()]));
        };
        let (orders, queue) = mpsc::channel(QUEUE);
        let joining = joining(hello, principal.name().to_owned(), orders).and_then(|joining| {
            let shards = joining.shards.iter().map(|hello| &hello.shard);
            self.access.may_serve(&principal, shards).map(|()| joining)
        });
        let joining = joining.map_err(|failure| refuse(vec![failure]))?;
        let standing = self.orchestrator.standing().clone();
        let welcome = match self.orchestrator.join(joining).await {
            Ok(welcome) => welcome,
            Err(failure) if failure.code == ErrorCode::CoordinatorNotLeader => {
                return Err(refusal(&standing));
            }
            Err(failure) => return Err(refuse(vec![failure])),
        };
        let hearing = Hearing {
            orchestrator: self.orchestrator.clone(),
            access: self.access.clone(),
            principal,
            stay: stay.clone(),
            session: welcome.session,
            pulse: welcome.pulse.clone(),
            reports,
            shutdown: self.shutdown.clone(),
        };
        tokio::spawn(hearing.listen());
        Ok(Response::new(Box::pin(speak(welcome, queue, standing, stay, self.shutdown.clone()))))
    }
}

fn joining(hello: v1::Hello, principal: String, orders: mpsc::Sender<Order>) -> Result<Joining, Failure> {
    let Some(protocol) = shardlift_proto::common_protocol(hello.oldest_protocol, hello.protocol) else {
        return Err(stranger(&hello));
    };
    let wrong = |error: shardlift_domain::IdError| Failure::from(WireError::from(error));
    // The first protocol had no words for what a worker can do.
    let knows = match protocol {
        1 => Capabilities::of_the_first_protocol(),
        _ => hello.knows.into_iter().collect(),
    };
    Ok(Joining {
        worker: WorkerId::new(hello.worker).map_err(wrong)?,
        version: hello.version,
        slots: hello.slots,
        shards: hello.shards.into_iter().map(hello_from_wire).collect::<Result<_, _>>()?,
        knows,
        draining: hello.draining,
        principal,
        orders,
    })
}

/// There is no version of the protocol that both speak.
fn stranger(hello: &v1::Hello) -> Failure {
    let next = if hello.protocol < shardlift_proto::OLDEST_PROTOCOL {
        "upgrade the worker"
    } else {
        "upgrade the coordinator first, then the workers"
    };
    Failure::new(
        ErrorCode::WorkerRefused,
        format!(
            "worker {} ({}) speaks protocol {}, this coordinator {} to {}",
            hello.worker,
            hello.version,
            hello.protocol,
            shardlift_proto::OLDEST_PROTOCOL,
            shardlift_proto::PROTOCOL
        ),
        next,
    )
}

/// A message as the heart knows it. `None`: a sign of life, which is none of its business.
pub(super) fn report(message: from_worker::Message) -> Result<Option<Report>, WireError> {
    use from_worker::Message;
    Ok(Some(match message {
        Message::Hello(hello) => {
            Report::Shards(hello.shards.into_iter().map(hello_from_wire).collect::<Result<_, _>>()?)
        }
        Message::Heartbeat(_) => return Ok(None),
        Message::Progress(progress) => {
            let receipt = receipt_from_wire(&progress)?;
            Report::Progress(task_from_wire(progress.task)?, token_from_wire(progress.token)?, receipt)
        }
        Message::Finished(done) => Report::Finished(
            task_from_wire(done.task)?,
            token_from_wire(done.token)?,
            outcome_from_wire(done.outcome)?,
        ),
        Message::Broke(broke) => {
            let failure = failure_from_wire(broke.failure.ok_or(WireError::Missing("failure"))?);
            Report::Broke(task_from_wire(broke.task)?, token_from_wire(broke.token)?, failure)
        }
        Message::Released(released) => {
            Report::Released(task_from_wire(released.task)?, token_from_wire(released.token)?)
        }
        Message::Ended(told) => {
            let sessions = told.sessions.into_iter().map(ended_from_wire).collect();
            Report::Ended(task_from_wire(told.task)?, sessions)
        }
        Message::Shared(shared) => {
            let (pass, rest) = (shared.pass, shared.rest);
            let rest = rest.map(|range| Rest { pass, range: range_from_wire(&range) });
            Report::Shared(task_from_wire(shared.task)?, token_from_wire(shared.token)?, rest)
        }
        Message::Leaving(_) => Report::Leaving,
        Message::Facts(v1::FactsAnswer { query, answer }) => {
            let answer = match answer.ok_or(WireError::Missing("answer"))? {
                v1::facts_answer::Answer::Facts(facts) => Ok(facts_from_wire(facts)?),
                v1::facts_answer::Answer::Failure(failure) => Err(failure_from_wire(failure)),
            };
            Report::Answered(query, answer.map(Answer::Facts))
        }
        Message::Placement(v1::PlacementAnswer { query, answer }) => {
            let answer = match answer.ok_or(WireError::Missing("answer"))? {
                v1::placement_answer::Answer::Page(page) => Ok(page_from_wire(page)),
                v1::placement_answer::Answer::Failure(failure) => Err(failure_from_wire(failure)),
            };
            Report::Answered(query, answer.map(Answer::Placement))
        }
        Message::Quarantined(told) => {
            let held = held_from_wire(told.held.ok_or(WireError::Missing("held"))?);
            Report::Quarantined(task_from_wire(told.task)?, token_from_wire(told.token)?, held)
        }
        Message::Saved(told) => {
            let saved = saved_from_wire(told.saved.ok_or(WireError::Missing("saved"))?);
            Report::Saved(task_from_wire(told.task)?, token_from_wire(told.token)?, saved)
        }
        Message::Quarantine(v1::QuarantineAnswer { query, answer }) => {
            let answer = quarantined_from_wire(answer.ok_or(WireError::Missing("answer"))?);
            Report::Answered(query, answer.map(Answer::Quarantine).map_err(failure_from_wire))
        }
        Message::Conflicts(v1::ConflictsAnswer { query, answer }) => {
            let answer = match answer.ok_or(WireError::Missing("answer"))? {
                v1::conflicts_answer::Answer::Page(page) => Ok(conflicts_page_from_wire(page)),
                v1::conflicts_answer::Answer::Failure(failure) => Err(failure_from_wire(failure)),
            };
            Report::Answered(query, answer.map(Answer::Conflicts))
        }
        Message::Prepared(v1::PreparedAnswer { query, answer }) => {
            let answer = match answer.ok_or(WireError::Missing("answer"))? {
                v1::prepared_answer::Answer::Page(page) => {
                    Ok(page.transactions.into_iter().map(prepared_from_wire).collect())
                }
                v1::prepared_answer::Answer::Failure(failure) => Err(failure_from_wire(failure)),
            };
            Report::Answered(query, answer.map(Answer::Prepared))
        }
        Message::Mismatches(v1::MismatchesAnswer { query, answer }) => {
            let answer = match answer.ok_or(WireError::Missing("answer"))? {
                v1::mismatches_answer::Answer::Page(page) => Ok(mismatches_page_from_wire(page)?),
                v1::mismatches_answer::Answer::Failure(failure) => Err(failure_from_wire(failure)),
            };
            Report::Answered(query, answer.map(Answer::Mismatches))
        }
        Message::Backup(v1::BackupAnswer { query, answer }) => {
            let answer = backup_answer_from_wire(answer.ok_or(WireError::Missing("answer"))?)?;
            Report::Answered(query, answer.map(Answer::Backup).map_err(failure_from_wire))
        }
        Message::Purge(v1::PurgeAnswer { query, answer }) => {
            let answer = match answer.ok_or(WireError::Missing("answer"))? {
                v1::purge_answer::Answer::Purged(purged) => Ok(purged_from_wire(purged)),
                v1::purge_answer::Answer::Failure(failure) => Err(failure_from_wire(failure)),
            };
            Report::Answered(query, answer.map(Answer::Purge))
        }
        Message::Rehearsal(answer) => rehearsed(answer)?,
        Message::Repair(answer) => repaired(answer)?,
        Message::Unique(answer) => told_of_digests(answer)?,
    }))
}

fn rehearsed(v1::RehearsalAnswer { query, answer }: v1::RehearsalAnswer) -> Result<Report, WireError> {
    let answer = match answer.ok_or(WireError::Missing("answer"))? {
        v1::rehearsal_answer::Answer::Rehearsal(found) => Ok(shard_rehearsal_from_wire(found)?),
        v1::rehearsal_answer::Answer::Failure(failure) => Err(failure_from_wire(failure)),
    };
    Ok(Report::Answered(query, answer.map(Answer::Rehearsal)))
}

fn told_of_digests(v1::UniqueAnswer { query, answer }: v1::UniqueAnswer) -> Result<Report, WireError> {
    let answer = unique_answer_from_wire(answer.ok_or(WireError::Missing("answer"))?)?;
    Ok(Report::Answered(query, answer.map(Answer::Unique).map_err(failure_from_wire)))
}

fn repaired(v1::RepairAnswer { query, answer }: v1::RepairAnswer) -> Result<Report, WireError> {
    let answer = match answer.ok_or(WireError::Missing("answer"))? {
        v1::repair_answer::Answer::Page(page) => Ok(repair_page_from_wire(page)?),
        v1::repair_answer::Answer::Failure(failure) => Err(failure_from_wire(failure)),
    };
    Ok(Report::Answered(query, answer.map(Answer::Repair)))
}

/// Welcome first, then orders, until the leader drops the queue or the coordinator ends. If that is because the worker's token
/// has ended or was withdrawn, the last word says so; if the lead has passed on, it is who leads now.
fn speak(
    welcome: Welcome,
    queue: mpsc::Receiver<Order>,
    standing: Standing,
    stay: Stay,
    shutdown: CancellationToken,
) -> impl Stream<Item = Result<v1::ToWorker, Status>> {
    let first = to_worker::Message::Welcome(v1::Welcome {
        fence: Some(welcome.fence.into()),
        lease_ttl_ms: u64::try_from(welcome.ttl.as_millis()).unwrap_or(u64::MAX),
        cluster_uuids: welcome
            .topology
            .clusters
            .values()
            .map(|cluster| (cluster.name.to_string(), cluster.uuid.clone()))
            .collect(),
        protocol: shardlift_proto::PROTOCOL,
    });
    futures::stream::once(async { first })
        .chain(ReceiverStream::new(queue).map(order))
        .map(|message| Ok(v1::ToWorker { message: Some(message) }))
        .take_until(shutdown.cancelled_owned())
        .chain(
            futures::stream::once(async move { last_word(&stay, &standing) }).filter_map(async |last| last),
        )
}

/// The last word of a session, when it ends because the worker is not known any more, or this coordinator does not lead.
fn last_word(stay: &Stay, standing: &Standing) -> Option<Result<v1::ToWorker, Status>> {
    let over = stay.is_over().map(|failure| refuse(vec![failure]));
    over.or_else(|| (!standing.leads()).then(|| refusal(standing))).map(Err)
}

fn order(order: Order) -> to_worker::Message {
    use to_worker::Message;
    match order {
        Order::Heartbeat => Message::Heartbeat(v1::Heartbeat {}),
        Order::Assign { task, token, spec, shard_slots, pace, drop_data, traceparent } => {
            Message::Assign(v1::Assign {
                task: Some(task_to_wire(&task)),
                token: Some(token_to_wire(token)),
                spec: Some(spec.into()),
                shard_slots,
                sharers: pace.sharers,
                throttle: pace.throttle.map(throttle_to_wire),
                drop_data,
                traceparent,
            })
        }
        Order::Withdraw { task, token } => Message::Withdraw(v1::Withdraw {
            task: Some(task_to_wire(&task)),
            token: Some(token_to_wire(token)),
        }),
        Order::Adjust { task, token, pace, share } => Message::Adjust(v1::Adjust {
            task: Some(task_to_wire(&task)),
            token: Some(token_to_wire(token)),
            sharers: pace.sharers,
            throttle: pace.throttle.map(throttle_to_wire),
            share,
        }),
        Order::Drain(draining) => Message::Drain(v1::Drain { draining }),
        Order::Ask { query, shard, question } => ask(query, shard, question),
    }
}

fn ask(query: u64, shard: ShardId, question: Question) -> to_worker::Message {
    use to_worker::Message;
    match question {
        Question::Facts(request) => Message::Facts(v1::FactsQuery {
            query,
            shard: shard.into(),
            relations: request.relations,
            schema: depth_to_wire(request.schema).into(),
            checks: request.checks.into_iter().map(check_request_to_wire).collect(),
        }),
        Question::Quarantine(request) => Message::Quarantine(quarantine_to_wire(query, shard, request)),
        Question::Placement(request) => Message::Placement(placement_to_wire(query, shard, request)),
        Question::Mismatches(request) => Message::Mismatches(mismatches_to_wire(query, shard, request)),
        Question::Backup(request) => Message::Backup(backup_query_to_wire(query, shard, request)),
        Question::Repair(request) => Message::Repair(repair_to_wire(query, shard, request)),
        Question::Unique(request) => Message::Unique(unique_to_wire(query, shard, request)),
        Question::Purge(migration) => {
            Message::Purge(v1::PurgeQuery { query, shard: shard.into(), migration: Some(migration.into()) })
        }
        Question::Rehearsal(request) => Message::Rehearsal(rehearsal_query_to_wire(query, shard, request)),
        Question::Conflicts(request) => Message::Conflicts(conflicts_to_wire(query, shard, request)),
        Question::Prepared(all) => Message::Prepared(v1::PreparedQuery { query, shard: shard.into(), all }),
    }
}

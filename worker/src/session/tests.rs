//! A worker's sessions with a coordinator that is played by the test, over a real connection.

mod coordinator;
mod leaders;
mod log;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::ids::ShardId;
use shardlift_domain::migration::Step;
use shardlift_proto::v1::{from_worker::Message, to_worker};
use shardlift_runtime::route::Route;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{Shards, run};
use crate::backup::Vault;
use crate::config::{BackupConfig, Config};
use crate::engine::ShardEngine;
use crate::engine::testing::{Call, Fault, Memory, SHARD};
use coordinator::{Coordinator, Session};

/// Everything that is waited for comes within this time.
const WITHIN: Duration = Duration::from_secs(20);
const ROW: Duration = Duration::from_micros(100);
/// A lease that outlives the test.
const LONG: Duration = Duration::from_secs(60);

struct Worker {
    shutdown: CancellationToken,
    running: JoinHandle<()>,
}

impl Worker {
    fn start(coordinator: &Coordinator, memory: &Memory) -> Self {
        Self::of(vec![coordinator.address.clone()], memory)
    }

    fn of(coordinators: Vec<String>, memory: &Memory) -> Self {
        let shutdown = CancellationToken::new();
        let config = Config {
            name: "w1".parse().expect("a name"),
            coordinators: Route::new(coordinators).expect("at least one"),
            token: crate::token::Token::None,
            tls: shardlift_runtime::tls::Dial::default(),
            slots: 4,
            metrics_listen: None,
            telemetry: shardlift_runtime::telemetry::Settings::default(),
            backup: BackupConfig::default(),
            health: crate::config::HealthConfig::default(),
            shards: Vec::new(),
        };
        let engine: Arc<dyn ShardEngine> = Arc::new(memory.clone());
        let engines = BTreeMap::from([(ShardId::new(SHARD).expect("a name"), engine)]);
        let shards = Shards::new(engines, Vault::new(BackupConfig::default()));
        let token = shutdown.clone();
        let running = tokio::spawn(async move { run(&config, shards, token).await });
        Self { shutdown, running }
    }

    async fn stop(self) {
        self.shutdown.cancel();
        timeout(WITHIN, self.running).await.expect("the worker stopped in time").expect("no panic");
    }
}

/// A worker in its first session.
async fn connected(memory: &Memory, ttl: Duration) -> (Coordinator, Worker, Session) {
    let mut coordinator = Coordinator::start().await;
    let worker = Worker::start(&coordinator, memory);
    let session = coordinator.welcome(ttl).await;
    (coordinator, worker, session)
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + WITHIN;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

fn begun(memory: &Memory, step: &'static str) -> u32 {
    memory.table().begun.get(step).copied().unwrap_or_default()
}

#[tokio::test]
async fn a_worker_says_who_it_is_and_does_what_it_is_given() {
    let memory = Memory::new(20_000, ROW);
    let (_coordinator, worker, mut session) = connected(&memory, LONG).await;
    assert_eq!((session.hello.worker.as_str(), session.hello.slots), ("w1", 4));
    assert_eq!(session.hello.protocol, shardlift_proto::PROTOCOL);
    assert_eq!(session.hello.shards[0].shard, SHARD);
    session.assign(Step::Backfill, 1).await;
    let mut receipts = 0;
    loop {
        match session.hear().await {
            Message::Progress(progress) => {
                assert_eq!(progress.token.expect("named").attempt, 1);
                receipts += 1;
            }
            Message::Finished(_) => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(receipts > 0, "two seconds of work without a receipt");
    memory.assert_exactly_once();
    // Facts are told as well; a receipt may still be on its way.
    session.answered().await;
    worker.stop().await;
}

#[tokio::test]
async fn a_hand_out_that_is_said_twice_runs_once() {
    let memory = Memory::new(0, ROW).closed();
    let (_coordinator, worker, mut session) = connected(&memory, LONG).await;
    for _ in 0..3 {
        session.assign(Step::Precheck, 5).await;
    }
    session.assign(Step::Precheck, 4).await;
    session.answered().await;
    memory.gate.add_permits(10);
    assert_eq!(session.finished().await, 5);
    session.answered().await;
    assert_eq!(begun(&memory, "precheck"), 1);
    worker.stop().await;
}

#[tokio::test]
async fn a_newer_hand_out_takes_the_place_of_the_running_one() {
    let memory = Memory::new(0, ROW).closed();
    let (_coordinator, worker, mut session) = connected(&memory, LONG).await;
    session.assign(Step::Precheck, 1).await;
    until("the first one runs", || begun(&memory, "precheck") == 1).await;
    session.assign(Step::Precheck, 2).await;
    assert_eq!(session.released().await, 1);
    memory.gate.add_permits(1);
    assert_eq!(session.finished().await, 2);
    worker.stop().await;
}

#[tokio::test]
async fn what_is_withdrawn_is_given_back_and_only_that() {
    let memory = Memory::new(1_000_000, ROW);
    let (_coordinator, worker, mut session) = connected(&memory, LONG).await;
    session.assign(Step::Backfill, 3).await;
    until("some batches are done", || memory.table().asked.len() > 2).await;
    // An old withdrawal says nothing about the present right.
    session.withdraw(Step::Backfill, 2).await;
    session.answered().await;
    let before = memory.table().asked.len();
    until("it goes on", || memory.table().asked.len() > before + 1).await;
    session.withdraw(Step::Backfill, 3).await;
    assert_eq!(session.released().await, 3);
    let stopped = memory.table().asked.len();
    session.answered().await;
    assert_eq!(memory.table().asked.len(), stopped, "a batch after it was given back");
    assert!(memory.table().asked.iter().all(|batch| batch.done), "a batch was torn");
    worker.stop().await;
}

#[tokio::test]
async fn a_coordinator_that_falls_silent_loses_the_worker_which_dials_again() {
    let memory = Memory::new(1_000_000, ROW);
    let ttl = Duration::from_millis(400);
    let (mut coordinator, worker, session) = connected(&memory, ttl).await;
    session.assign(Step::Backfill, 1).await;
    until("a batch is under way", || !memory.table().asked.is_empty()).await;
    let silent = Instant::now();
    // Nothing more is said on the first session, though it stays open.
    let mut second = coordinator.welcome(LONG).await;
    assert!(silent.elapsed() >= ttl / 2, "it did not wait for the lease to run out");
    let last = memory.table().asked.last().expect("some").at;
    assert!(
        last.saturating_duration_since(silent) <= ttl + Duration::from_millis(200),
        "a batch after the lease"
    );
    second.assign(Step::Precheck, 2).await;
    assert_eq!(second.finished().await, 2);
    worker.stop().await;
}

#[tokio::test]
async fn a_refusal_is_logged_with_its_code_and_the_worker_tries_again() {
    let heard = log::Heard::default();
    let _guard = tracing::subscriber::set_default(heard.clone());
    let mut coordinator = Coordinator::start().await;
    let next = "use a worker and a coordinator of the same release";
    coordinator.refuse_next(Failure::new(ErrorCode::WorkerRefused, "speaks protocol 0", next));
    let memory = Memory::new(0, ROW);
    let worker = Worker::start(&coordinator, &memory);
    let session = coordinator.welcome(LONG).await;
    let warnings = heard.warnings();
    let told = warnings.iter().any(|line| {
        line.contains("code=worker.refused") && line.contains("speaks protocol 0") && line.contains(next)
    });
    assert!(told, "{warnings:?}");
    drop(session);
    worker.stop().await;
}

#[tokio::test]
async fn a_coordinator_that_does_not_say_welcome_is_left() {
    let mut coordinator = Coordinator::start().await;
    let memory = Memory::new(0, ROW);
    let worker = Worker::start(&coordinator, &memory);
    let rude = coordinator.arrival().await;
    rude.say(to_worker::Message::Heartbeat(shardlift_proto::v1::Heartbeat {})).await;
    let _session = coordinator.welcome(LONG).await;
    worker.stop().await;
}

#[tokio::test]
async fn a_task_that_cannot_be_understood_ends_the_session() {
    let memory = Memory::new(0, ROW);
    let (mut coordinator, worker, session) = connected(&memory, LONG).await;
    session.say(to_worker::Message::Assign(shardlift_proto::v1::Assign::default())).await;
    let mut again = coordinator.welcome(LONG).await;
    again.assign(Step::Precheck, 1).await;
    assert_eq!(again.finished().await, 1);
    worker.stop().await;
}

#[tokio::test]
async fn a_defect_of_one_task_is_told_and_the_others_go_on() {
    let memory = Memory::new(1_000, ROW).fails(|call| (call == Call::Claim(1)).then_some(Fault::Panic));
    let (_coordinator, worker, mut session) = connected(&memory, LONG).await;
    session.assign(Step::Backfill, 1).await;
    let Message::Broke(broke) = session.hear().await else { panic!("it was not told") };
    let failure = shardlift_proto::convert::failure_from_wire(broke.failure.expect("told"));
    assert_eq!((failure.code, failure.place.step), (ErrorCode::Internal, Some(Step::Backfill)));
    assert!(!failure.message.contains("as the test wanted"), "what a panic says may hold values: {failure}");
    session.assign(Step::Backfill, 2).await;
    assert_eq!(session.finished().await, 2);
    memory.assert_exactly_once();
    worker.stop().await;
}

#[tokio::test]
async fn a_scan_ends_with_its_session() {
    let memory = Memory::new(0, ROW).closed();
    let (mut coordinator, worker, session) = connected(&memory, LONG).await;
    session.assign(Step::Verify, 1).await;
    until("it runs", || begun(&memory, "verify") == 1).await;
    drop(session);
    let mut again = coordinator.welcome(LONG).await;
    again.answered().await;
    // Were the first scan still waiting, it would be first at the gate.
    memory.gate.add_permits(1);
    again.assign(Step::Verify, 2).await;
    assert_eq!(again.finished().await, 2);
    worker.stop().await;
}

#[tokio::test]
async fn a_worker_that_stops_finishes_its_open_batch_and_gives_the_range_back() {
    let memory = Memory::new(1_000_000, ROW).closed();
    let (_coordinator, worker, mut session) = connected(&memory, LONG).await;
    session.assign(Step::Backfill, 1).await;
    until("a batch is open", || begun(&memory, "batch") == 1).await;
    worker.shutdown.cancel();
    sleep(Duration::from_millis(100)).await;
    assert!(!worker.running.is_finished(), "it left an open batch behind");
    memory.gate.add_permits(100);
    assert_eq!(session.released().await, 1);
    worker.stop().await;
    let table = memory.table();
    assert_eq!((table.asked.len(), table.asked[0].done), (1, true));
}

#[tokio::test]
async fn a_range_splits_when_it_is_told_to_and_says_what_it_split_off() {
    let memory = Memory::new(1_000_000, ROW).closed();
    let (_coordinator, worker, mut session) = connected(&memory, LONG).await;
    session.assign(Step::Backfill, 1).await;
    until("a batch is open", || begun(&memory, "batch") == 1).await;
    session.adjust(1, 2, true).await;
    session.answered().await;
    memory.gate.add_permits(2);
    let rest = loop {
        match session.hear().await {
            Message::Shared(shared) => break shared,
            Message::Progress(_) => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((rest.pass, rest.rest.map(|range| range.index)), (1, Some(1)));
    memory.gate.add_permits(10);
    worker.stop().await;
}

#[tokio::test]
async fn a_worker_that_is_drained_says_so_to_every_coordinator_that_it_meets() {
    let memory = Memory::new(0, ROW);
    let (mut coordinator, worker, session) = connected(&memory, LONG).await;
    assert!(!session.hello.draining);
    session.say(to_worker::Message::Drain(shardlift_proto::v1::Drain { draining: true })).await;
    drop(session);
    let again = coordinator.welcome(LONG).await;
    assert!(again.hello.draining, "the next leader would give it work");
    worker.stop().await;
}

#[tokio::test]
async fn a_task_of_a_shard_that_it_does_not_serve_is_given_back_as_broken() {
    let memory = Memory::new(0, ROW);
    let (_coordinator, worker, mut session) = connected(&memory, LONG).await;
    session.assign_on("elsewhere", Step::Precheck, 1).await;
    let Message::Broke(broke) = session.hear().await else { panic!("it was not told") };
    let failure = shardlift_proto::convert::failure_from_wire(broke.failure.expect("told"));
    assert!(failure.retryable(), "another worker may serve it: {failure}");
    worker.stop().await;
}

//! The heart over a store in memory, with workers that are played by the test.

mod elections;
mod scale;
mod together;
mod trouble;
mod unique;
mod votes;
mod waves;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use shardlift_domain::capability::Capabilities;
use shardlift_domain::facts::ShardHello;
use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::fence::{Epoch, Fence, Nonce, Token};
use shardlift_domain::ids::{ClusterName, MigrationId, ShardId, TaskId, WorkerId};
use shardlift_domain::migration::{Status, Step, Stop, Verb};
use shardlift_domain::range::{Pass, RangeState, RangeTotals};
use shardlift_domain::spec::{Engine, SpecFile};
use shardlift_domain::topology::{Cluster, ClusterRules, Topology};
use shardlift_domain::verdict::{CheckResult, Saved, Sweep, TaskOutcome, Undone, VerifyReport};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{Answer, Handle, Joining, MigrationView, Order, Parts, Pulse, Question, Report, SessionId, run};
use crate::election::{Election, Peer, Standalone};
use crate::service::Services;
use crate::store::{MemoryStore, Store};

const WITHIN: Duration = Duration::from_secs(20);

const SCHEMA: &str = "id: m1_schema\nkind: schema\nengine: postgres\ncluster: chat\nup: [\"ALTER TABLE items ADD COLUMN migrated boolean\"]\n";
const DATA: &str = "id: m2_data\nkind: data\nengine: postgres\ncluster: chat\nsource: { table: items, where: not migrated }\ntransform: { sql: { migrated: \"true\" } }\n";

fn file(text: &str) -> SpecFile {
    SpecFile { name: "spec.yaml".into(), text: text.into() }
}

fn name<T: std::str::FromStr<Err = shardlift_domain::IdError>>(text: &str) -> T {
    text.parse().expect("a name")
}

fn topology() -> Topology {
    let cluster = Cluster {
        name: name("chat"),
        uuid: String::new(),
        engine: Engine::Postgres,
        shards: vec![name("s1"), name("s2")],
        rules: ClusterRules::default(),
    };
    Topology { clusters: BTreeMap::from([(cluster.name.clone(), cluster)]), ..Topology::default() }
}

struct Coordinator {
    services: Services,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Coordinator {
    fn start(store: &Arc<dyn Store>) -> Self {
        Self::of(store, topology())
    }

    fn of(store: &Arc<dyn Store>, declared: Topology) -> Self {
        let me = Peer { name: "c1".into(), address: "127.0.0.1:7400".into() };
        Self::elected_by(store, Arc::new(Standalone::new(me)), declared)
    }

    fn elected_by(store: &Arc<dyn Store>, election: Arc<dyn Election>, declared: Topology) -> Self {
        let shutdown = CancellationToken::new();
        let parts = Parts {
            quiet_within: None,
            name: "c1".into(),
            address: "127.0.0.1:7400".into(),
            ttl: Duration::from_secs(2),
            declare: Arc::new(move || Ok(declared.clone())),
            store: Arc::clone(store),
            election,
            metrics: Arc::default(),
            approval: shardlift_domain::migration::ApprovalRule::None,
            sink: None,
        };
        let (handle, task) = run(parts, shutdown.clone());
        Self { services: Services::new(handle, Arc::new(|| Ok(topology()))), shutdown, task }
    }

    fn handle(&self) -> &Handle {
        self.services.orchestrator()
    }

    async fn crash(self) {
        self.task.abort();
        let _ = self.task.await;
        self.shutdown.cancel();
    }

    async fn status(&self, id: &str) -> MigrationView {
        self.handle().get(name(id), None).await.expect("known")
    }

    async fn until(&self, id: &str, wanted: Status) -> MigrationView {
        let poll = async {
            loop {
                if let Ok(view) = self.handle().get(name(id), None).await
                    && view.migration.status == wanted
                {
                    return view;
                }
                sleep(Duration::from_millis(10)).await;
            }
        };
        match timeout(WITHIN, poll).await {
            Ok(view) => view,
            Err(_) => panic!("{id} did not become {wanted}: {:?}", self.status(id).await),
        }
    }

    async fn until_view(&self, id: &str, holds: impl Fn(&MigrationView) -> bool) -> MigrationView {
        let poll = async {
            loop {
                if let Ok(view) = self.handle().get(name(id), None).await
                    && holds(&view)
                {
                    return view;
                }
                sleep(Duration::from_millis(10)).await;
            }
        };
        match timeout(WITHIN, poll).await {
            Ok(view) => view,
            Err(_) => panic!("{id} did not come so far: {:?}", self.status(id).await),
        }
    }

    /// Waits until the coordinator leads and a worker serves the shards, then submits and starts.
    async fn apply(&self, specs: &[&str]) {
        let files: Vec<_> = specs.iter().map(|text| file(text)).collect();
        let submitted = timeout(WITHIN, async {
            loop {
                match self.services.submit(files.clone(), true, None, "person").await {
                    Ok(_) => return,
                    Err(failures) if failures.iter().all(Failure::retryable) => {
                        sleep(Duration::from_millis(10)).await
                    }
                    Err(failures) => panic!("refused: {failures:?}"),
                }
            }
        });
        submitted.await.expect("submitted in time");
    }
}

/// A worker played by the test.
struct Player {
    session: SessionId,
    pulse: Pulse,
    orders: mpsc::Receiver<Order>,
    handle: Handle,
}

impl Player {
    async fn join(handle: &Handle, worker: &str, fence: Option<Fence>) -> Result<Self, Failure> {
        Self::joining(handle, worker, &["s1", "s2"], fence, Capabilities::of_this_release([])).await
    }

    async fn joining(
        handle: &Handle,
        worker: &str,
        shards: &[&str],
        fence: Option<Fence>,
        knows: Capabilities,
    ) -> Result<Self, Failure> {
        Self::joining_with(handle, worker, 4, shards, fence, knows).await
    }

    async fn joining_with(
        handle: &Handle,
        worker: &str,
        slots: u32,
        shards: &[&str],
        fence: Option<Fence>,
        knows: Capabilities,
    ) -> Result<Self, Failure> {
        let (sender, orders) = mpsc::channel(100);
        let joining = Joining {
            worker: name(worker),
            version: "0".into(),
            slots,
            shards: shards.iter().map(|shard| ShardHello { fence: fence.clone(), ..hello(shard) }).collect(),
            knows,
            draining: false,
            principal: "person".into(),
            orders: sender,
        };
        let welcome = handle.join(joining).await?;
        Ok(Self { session: welcome.session, pulse: welcome.pulse, orders, handle: handle.clone() })
    }

    async fn joined(handle: &Handle, worker: &str) -> Self {
        Self::joined_with(handle, worker, &["s1", "s2"]).await
    }

    async fn joined_with(handle: &Handle, worker: &str, shards: &[&str]) -> Self {
        timeout(WITHIN, async {
            loop {
                let knows = Capabilities::of_this_release([]);
                match Self::joining(handle, worker, shards, None, knows).await {
                    Ok(player) => return player,
                    Err(_) => sleep(Duration::from_millis(10)).await,
                }
            }
        })
        .await
        .expect("joined in time")
    }

    async fn say(&self, report: Report) {
        self.beat();
        // A coordinator that has crashed hears nothing.
        if let Ok(room) = self.handle.room().await {
            room.report(self.session, report);
        }
    }

    /// A sign of life.
    fn beat(&self) {
        self.pulse.beat();
    }

    /// The next hand-out; facts are answered on the way.
    async fn assigned(&mut self) -> (TaskId, Token) {
        timeout(WITHIN, async {
            loop {
                match self.orders.recv().await.expect("the session goes on") {
                    Order::Assign { task, token, .. } => return (task, token),
                    Order::Ask { query, shard, question: Question::Facts(request) } => {
                        self.say(facts(query, shard, &request.relations)).await
                    }
                    Order::Heartbeat
                    | Order::Withdraw { .. }
                    | Order::Adjust { .. }
                    | Order::Drain(_)
                    | Order::Ask { .. } => {}
                }
            }
        })
        .await
        .expect("a task was handed out in time")
    }

    async fn finish(&self, task: TaskId, token: Token) {
        let outcome = outcome(&task);
        self.say(Report::Finished(task, token, outcome)).await;
    }

    /// Does everything it is given, well; answers the order of tasks.
    fn work(mut self) -> tokio::task::JoinHandle<Vec<TaskId>> {
        tokio::spawn(async move {
            let mut done = Vec::new();
            loop {
                tokio::select! {
                    order = self.orders.recv() => match order {
                        None => return done,
                        Some(Order::Assign { task, token, .. }) => {
                            done.push(task.clone());
                            self.finish(task.clone(), token).await;
                            // Every message is said twice: a repeat must change nothing.
                            self.finish(task, token).await;
                        }
                        Some(Order::Ask { query, shard, question: Question::Facts(request) }) => self.say(facts(query, shard, &request.relations)).await,
                        Some(Order::Withdraw { task, token }) => self.say(Report::Released(task, token)).await,
                        Some(Order::Heartbeat | Order::Adjust { .. } | Order::Drain(_) | Order::Ask { .. }) => {}
                    },
                    () = sleep(Duration::from_millis(200)) => self.beat(),
                }
            }
        })
    }
}

/// What a worker says of a shard that is well.
fn hello(shard: &str) -> ShardHello {
    ShardHello {
        shard: name(shard),
        cluster: name(if shard == "s3" { "billing" } else { "chat" }),
        engine: Engine::Postgres,
        fence: None,
        server_version: Some("15".into()),
        problem: None,
        alarm: None,
    }
}

fn facts(query: u64, shard: ShardId, relations: &[String]) -> Report {
    use shardlift_domain::facts::{RelationFacts, ShardFacts};
    let relation = |name: &String| RelationFacts {
        name: name.clone(),
        exists: true,
        rows: 100,
        bytes: 1000,
        key: vec!["id".into()],
    };
    let relations = relations.iter().map(relation).collect();
    let facts = ShardFacts {
        shard,
        engine: Engine::Postgres,
        server_version: "15".into(),
        relations,
        applied: Vec::new(),
        schema: None,
        findings: Vec::new(),
    };
    Report::Answered(query, Ok(Answer::Facts(facts)))
}

fn range(index: u32, done: bool) -> RangeState {
    RangeState {
        index,
        rows: if done { 10 } else { 0 },
        seen: if done { 10 } else { 0 },
        batches: u64::from(done),
        done,
    }
}

fn outcome(task: &TaskId) -> TaskOutcome {
    match (task.step, task.range) {
        (Step::Precheck, _) => TaskOutcome::Prechecked,
        (Step::Backup, _) => TaskOutcome::Saved(Saved { rows: 100, bytes: 4096 }),
        (Step::Apply, _) => TaskOutcome::Applied { already: false },
        (Step::Prepare, _) => TaskOutcome::Prepared,
        (Step::Commit, _) => TaskOutcome::Committed,
        (Step::Abort, _) => TaskOutcome::Aborted,
        (Step::Split, _) => TaskOutcome::Split(Pass {
            number: 1,
            ranges: (0..3).map(|index| range(index, false)).collect(),
            before: RangeTotals::default(),
        }),
        (Step::Backfill, Some(index)) => TaskOutcome::RangeDone(range(index, true)),
        (Step::Backfill, None) => panic!("a backfill without a range"),
        (Step::Sweep, _) => TaskOutcome::Swept(Sweep::Clean),
        (Step::Verify, _) => TaskOutcome::Verified(VerifyReport {
            checks: vec![CheckResult { check: "remaining".into(), passed: true, detail: "0".into() }],
            held: None,
        }),
        (Step::Collect, _) => TaskOutcome::Collected,
        (Step::Undo, _) => TaskOutcome::Undone(Undone { restored: 30, conflicts: 1 }),
    }
}

fn memory() -> Arc<dyn Store> {
    Arc::new(MemoryStore::new())
}

#[tokio::test]
async fn a_plan_runs_to_its_end_schema_on_all_shards_before_data() {
    let store = memory();
    let coordinator = Coordinator::start(&store);
    let worker = Player::joined(coordinator.handle(), "w1").await.work();
    coordinator.apply(&[DATA, SCHEMA]).await;
    let view = coordinator.until("m2_data", Status::Completed).await;
    assert!(view.migration.shards.values().all(|part| part.verified));
    assert_eq!(view.shards.values().map(|shard| shard.progress.rows_done).sum::<u64>(), 60);
    coordinator.crash().await;
    let done = worker.await.expect("the worker played on");
    let last_schema = done.iter().rposition(|task| task.migration.id.as_str() == "m1_schema");
    let first_data = done.iter().position(|task| task.migration.id.as_str() == "m2_data");
    assert!(last_schema < first_data, "data began before schema had ended: {done:?}");
    assert_eq!(
        done.iter().filter(|task| task.step == Step::Backfill).count(),
        6,
        "a repeat handed a range out again"
    );
}

#[tokio::test]
async fn after_a_crash_a_new_leader_goes_on_from_what_is_stored() {
    let store = memory();
    let first = Coordinator::start(&store);
    let mut worker = Player::joined(first.handle(), "w1").await;
    let submitting = first.services.clone();
    let submitted =
        tokio::spawn(async move { submitting.submit(vec![file(DATA)], true, None, "person").await });
    let mut seen = Vec::new();
    for _ in 0..5 {
        let (task, token) = worker.assigned().await;
        seen.push(task.step);
        worker.finish(task, token).await;
    }
    submitted.await.expect("not cancelled").expect("submitted");
    assert!(seen.contains(&Step::Split));
    first.crash().await;

    let second = Coordinator::start(&store);
    let worker = Player::joined(second.handle(), "w1").await.work();
    second.until("m2_data", Status::Completed).await;
    second.crash().await;
    let done = worker.await.expect("the worker played on");
    assert!(done.iter().all(|task| task.step != Step::Precheck), "a finished step ran again: {done:?}");
}

#[tokio::test]
async fn a_silent_worker_loses_its_task_and_its_late_report_is_stale() {
    let store = memory();
    let coordinator = Coordinator::start(&store);
    let mut silent = Player::joined(coordinator.handle(), "w1").await;
    let services = coordinator.services.clone();
    let submitted =
        tokio::spawn(async move { services.submit(vec![file(DATA)], true, None, "person").await });
    let (task, token) = silent.assigned().await;
    submitted.await.expect("not cancelled").expect("submitted");
    let worker = Player::joined(coordinator.handle(), "w2").await.work();
    coordinator.until("m2_data", Status::Completed).await;
    silent.finish(task, token).await;
    assert_eq!(coordinator.status("m2_data").await.migration.status, Status::Completed);
    coordinator.crash().await;
    worker.await.expect("the worker played on");
}

#[tokio::test]
async fn a_pause_withdraws_work_and_a_resume_hands_it_out_again() {
    let store = memory();
    let coordinator = Coordinator::start(&store);
    let mut worker = Player::joined(coordinator.handle(), "w1").await;
    let services = coordinator.services.clone();
    let submitted =
        tokio::spawn(async move { services.submit(vec![file(DATA)], true, None, "person").await });
    let (task, token) = worker.assigned().await;
    submitted.await.expect("not cancelled").expect("submitted");
    let id: MigrationId = name("m2_data");
    assert!(coordinator.handle().asked(id.clone(), Verb::Pause, "person".into()).await.expect("legal").1);
    assert!(
        !coordinator
            .handle()
            .asked(id.clone(), Verb::Pause, "person".into())
            .await
            .expect("a repeat is welcome")
            .1
    );
    let withdrawn = timeout(WITHIN, async {
        loop {
            if let Some(Order::Withdraw { task: which, .. }) = worker.orders.recv().await
                && which == task
            {
                return;
            }
        }
    });
    withdrawn.await.expect("the task was withdrawn");
    worker.say(Report::Released(task.clone(), token)).await;
    coordinator.handle().asked(id, Verb::Resume, "person".into()).await.expect("legal");
    let mut again = worker.assigned().await;
    while again.0 != task {
        again = worker.assigned().await;
    }
    assert!(again.1 > token, "the right was given again under an old token");
    coordinator.crash().await;
}

#[tokio::test]
async fn a_failure_for_good_fails_and_a_retry_goes_on() {
    let store = memory();
    let coordinator = Coordinator::start(&store);
    let mut worker = Player::joined(coordinator.handle(), "w1").await;
    let services = coordinator.services.clone();
    let submitted =
        tokio::spawn(async move { services.submit(vec![file(DATA)], true, None, "person").await });
    let (task, token) = worker.assigned().await;
    submitted.await.expect("not cancelled").expect("submitted");
    let failure = Failure::new(ErrorCode::PrecheckRefused, "no such column", "add it");
    worker.say(Report::Broke(task.clone(), token, failure)).await;
    let failed = coordinator.until("m2_data", Status::Failed).await;
    let told = failed.migration.failure().expect("told");
    assert_eq!((told.place.shard.as_ref(), told.place.step), (Some(&task.shard), Some(Step::Precheck)));
    let refused = coordinator
        .handle()
        .asked(name("m2_data"), Verb::Resume, "person".into())
        .await
        .expect_err("illegal");
    assert_eq!(refused.code, ErrorCode::RequestIllegal);
    let helper = Player::joined(coordinator.handle(), "w2").await.work();
    drop(worker);
    coordinator.handle().asked(name("m2_data"), Verb::Retry, "person".into()).await.expect("legal");
    coordinator.until("m2_data", Status::Completed).await;
    coordinator.crash().await;
    helper.await.expect("the worker played on");
}

#[tokio::test]
async fn a_leader_rises_above_what_a_shard_has_seen() {
    let store = memory();
    let coordinator = Coordinator::start(&store);
    drop(Player::joined(coordinator.handle(), "w1").await);
    let seen = Fence { epoch: Epoch(41), nonce: Nonce("another".into()) };
    assert!(
        Player::join(coordinator.handle(), "w1", Some(seen)).await.is_err(),
        "admitted under a stale epoch"
    );
    let leader = timeout(WITHIN, async {
        loop {
            match coordinator.handle().leader().await {
                Ok(leader) => return leader,
                Err(_) => sleep(Duration::from_millis(10)).await,
            }
        }
    });
    assert!(leader.await.expect("leads again").epoch > Epoch(41));
    coordinator.crash().await;
}

#[tokio::test]
async fn the_same_id_with_another_content_is_a_conflict_until_it_was_cancelled_untouched() {
    let store = memory();
    let coordinator = Coordinator::start(&store);
    let mut worker = Player::joined(coordinator.handle(), "w1").await;
    let services = coordinator.services.clone();
    let submitted =
        tokio::spawn(async move { services.submit(vec![file(DATA)], true, None, "person").await });
    worker.assigned().await;
    submitted.await.expect("not cancelled").expect("submitted");
    coordinator.handle().asked(name("m2_data"), Verb::Pause, "person".into()).await.expect("legal");
    let changed = DATA.replace("\"true\"", "\"1 = 1\"");
    let refused = coordinator
        .services
        .submit(vec![file(&changed)], true, None, "person")
        .await
        .expect_err("a conflict");
    assert_eq!(refused[0].code, ErrorCode::SpecConflict);
    coordinator.handle().asked(name("m2_data"), Verb::Cancel, "person".into()).await.expect("legal");
    let worker = worker.work();
    coordinator.apply(&[&changed]).await;
    let view = coordinator.until("m2_data", Status::Completed).await;
    assert_eq!(view.migration.key.version.0, 2);
    coordinator.crash().await;
    worker.await.expect("the worker played on");
}

#[tokio::test]
async fn a_worker_with_a_shard_that_nobody_declared_is_refused() {
    let store = memory();
    let coordinator = Coordinator::start(&store);
    drop(Player::joined(coordinator.handle(), "w1").await);
    let (orders, _queue) = mpsc::channel(1);
    let stranger = ShardHello {
        shard: name("s9"),
        cluster: name::<ClusterName>("chat"),
        engine: Engine::Postgres,
        fence: None,
        server_version: None,
        problem: None,
        alarm: None,
    };
    let worker: WorkerId = name("w2");
    let (knows, version) = (Capabilities::default(), "0".into());
    let joining = Joining {
        worker,
        version,
        slots: 1,
        shards: vec![stranger],
        knows,
        draining: false,
        principal: "person".into(),
        orders,
    };
    let refused = coordinator.handle().join(joining).await.expect_err("refused");
    assert_eq!(refused.code, ErrorCode::WorkerRefused);
    coordinator.crash().await;
}

//! What goes wrong between the heart, its store and its workers, one fault at a time, and all that a person asks meanwhile.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use futures::future::join_all;
use shardlift_domain::facts::FactsRequest;
use shardlift_domain::progress::Receipt;
use tokio::time::Instant;

use super::*;
use crate::store::{
    Change, Head, HistoryEvent, LeaderPermit, Link, Position, Recorded, Snapshot, StoreError, Wanted,
};

/// A store whose commit of this number is answered with an error, made or not.
struct Faulty {
    inner: MemoryStore,
    commits: AtomicU32,
    fails: u32,
    made: bool,
}

impl Faulty {
    fn new(fails: u32, made: bool) -> Self {
        Self { inner: MemoryStore::new(), commits: AtomicU32::new(0), fails, made }
    }
}

#[async_trait]
impl Store for Faulty {
    async fn fence(&self) -> Result<Fence, StoreError> {
        self.inner.fence().await
    }

    async fn take_over(
        &self,
        seen: &Fence,
        above: Option<Epoch>,
        nonce: Nonce,
        holder: &str,
    ) -> Result<LeaderPermit, StoreError> {
        self.inner.take_over(seen, above, nonce, holder).await
    }

    async fn load(&self) -> Result<Snapshot, StoreError> {
        self.inner.load().await
    }

    async fn commit(&self, permit: &LeaderPermit, change: Change) -> Result<(), StoreError> {
        if self.commits.fetch_add(1, Ordering::Relaxed) != self.fails {
            return self.inner.commit(permit, change).await;
        }
        if self.made {
            self.inner.commit(permit, change).await?;
        }
        Err(StoreError::Unavailable { doing: "commit", source: "it was made to fail".into() })
    }

    async fn events(
        &self,
        id: &MigrationId,
        after: Option<u64>,
        limit: u32,
    ) -> Result<Vec<Recorded>, StoreError> {
        self.inner.events(id, after, limit).await
    }

    async fn head(&self) -> Result<Head, StoreError> {
        self.inner.head().await
    }

    async fn links(&self, wanted: &Wanted) -> Result<Vec<Link>, StoreError> {
        self.inner.links(wanted).await
    }

    async fn position(&self, sink: &str) -> Result<Position, StoreError> {
        self.inner.position(sink).await
    }

    async fn told(
        &self,
        kinds: &[HistoryEvent],
        after: u64,
        limit: u32,
    ) -> Result<Vec<Recorded>, StoreError> {
        self.inner.told(kinds, after, limit).await
    }

    async fn count(&self, id: &MigrationId, kinds: &[HistoryEvent], up_to: u64) -> Result<u64, StoreError> {
        self.inner.count(id, kinds, up_to).await
    }

    async fn has_heard(&self, source: &str, id: &str) -> Result<bool, StoreError> {
        self.inner.has_heard(source, id).await
    }
}

/// What the shards hold: which ranges are done, whoever asks.
#[derive(Default)]
struct Shards {
    done: Mutex<BTreeSet<(ShardId, u32)>>,
}

impl Shards {
    fn outcome(&self, task: &TaskId) -> TaskOutcome {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        match (task.step, task.range) {
            (Step::Backfill, Some(index)) => {
                done.insert((task.shard.clone(), index));
                TaskOutcome::RangeDone(range(index, true))
            }
            (Step::Split, _) => {
                let ranges =
                    (0..3).map(|index| range(index, done.contains(&(task.shard.clone(), index)))).collect();
                TaskOutcome::Split(Pass { number: 1, ranges, before: RangeTotals::default() })
            }
            _ => outcome(task),
        }
    }
}

/// A worker that joins again whenever its session ends, and does everything well.
async fn works_for_ever(handle: Handle) {
    let shards = Shards::default();
    loop {
        let mut player = Player::joined(&handle, "w1").await;
        let mut beats = tokio::time::interval(Duration::from_millis(200));
        loop {
            tokio::select! {
                order = player.orders.recv() => match order {
                    None => break,
                    Some(Order::Assign { task, token, .. }) => {
                        let outcome = shards.outcome(&task);
                        player.say(Report::Finished(task, token, outcome)).await;
                    }
                    Some(Order::Ask { query, shard, question: Question::Facts(request) }) => {
                        player.say(facts(query, shard, &request.relations)).await;
                    }
                    Some(_) => {}
                },
                _ = beats.tick() => player.beat(),
            }
        }
    }
}

async fn ends_well_when_a_commit_fails(fails: u32, made: bool) -> bool {
    let faulty = Arc::new(Faulty::new(fails, made));
    let store: Arc<dyn Store> = Arc::clone(&faulty) as Arc<dyn Store>;
    let coordinator = Coordinator::start(&store);
    let worker = tokio::spawn(works_for_ever(coordinator.handle().clone()));
    coordinator.apply(&[SCHEMA, DATA]).await;
    for id in ["m1_schema", "m2_data"] {
        let view = coordinator.until(id, Status::Completed).await;
        assert!(view.migration.shards.values().all(|part| part.verified), "commit {fails}, made: {made}");
        let history = store.history(&name(id), 1000).await.expect("readable");
        let times = |event: &HistoryEvent| history.iter().filter(|entry| entry.event == *event).count();
        for once in
            [HistoryEvent::Submitted, HistoryEvent::Started, HistoryEvent::Ready, HistoryEvent::Completed]
        {
            assert_eq!(times(&once), 1, "{once:?} of {id}, commit {fails}, made: {made}");
        }
    }
    worker.abort();
    coordinator.crash().await;
    faulty.commits.load(Ordering::Relaxed) > fails
}

#[tokio::test]
async fn whichever_commit_fails_made_or_not_the_work_ends_and_nothing_is_recorded_twice() {
    let cases = (0..40).flat_map(|fails| [(fails, false), (fails, true)]);
    let failed = join_all(cases.map(|(fails, made)| ends_well_when_a_commit_fails(fails, made))).await;
    let failed = failed.into_iter().filter(|failed| *failed).count();
    assert!((16..80).contains(&failed), "{failed} of the commits did fail: choose the cases anew");
}

/// Keeps a player answering facts until the other thing is done.
async fn meanwhile<T>(player: &mut Player, other: impl Future<Output = T>) -> T {
    tokio::pin!(other);
    loop {
        tokio::select! {
            done = &mut other => return done,
            Some(order) = player.orders.recv() => if let Order::Ask { query, shard, question: Question::Facts(request) } = order {
                player.say(facts(query, shard, &request.relations)).await;
            },
        }
    }
}

async fn submitted(coordinator: &Coordinator, player: &mut Player, text: &str) {
    let submit = coordinator.services.submit(vec![file(text)], true, None, "person");
    meanwhile(player, submit).await.expect("submitted");
}

#[tokio::test]
async fn a_cancelled_migration_keeps_its_table_until_its_worker_lets_go() {
    let coordinator = Coordinator::start(&memory());
    let mut worker = Player::joined(coordinator.handle(), "w1").await;
    let services = coordinator.services.clone();
    let submitting =
        tokio::spawn(async move { services.submit(vec![file(DATA)], true, None, "person").await });
    let held = [worker.assigned().await, worker.assigned().await];
    submitting.await.expect("not cancelled").expect("submitted");
    coordinator.handle().asked(name("m2_data"), Verb::Cancel, "person".into()).await.expect("legal");
    submitted(&coordinator, &mut worker, &DATA.replace("m2_data", "m3_data")).await;
    for (task, token) in held {
        let waits = coordinator.status("m3_data").await;
        assert_eq!(waits.waiting_for, [name("m2_data")], "{:?}", waits.migration.status);
        worker.say(Report::Released(task, token)).await;
    }
    coordinator.until("m3_data", Status::Running).await;
    coordinator.crash().await;
}

#[tokio::test]
async fn what_a_former_leader_left_held_stays_held_until_its_leases_are_over() {
    let store = memory();
    let held = async || -> Vec<String> {
        store.load().await.expect("loads").locks.keys().map(ToString::to_string).collect()
    };
    let coordinator = Coordinator::start(&store);
    let mut worker = Player::joined(coordinator.handle(), "w1").await;
    let services = coordinator.services.clone();
    let submitting =
        tokio::spawn(async move { services.submit(vec![file(DATA)], true, None, "person").await });
    worker.assigned().await;
    submitting.await.expect("not cancelled").expect("submitted");
    coordinator.handle().asked(name("m2_data"), Verb::Cancel, "person".into()).await.expect("legal");
    assert_eq!(held().await, ["m2_data@1"], "the worker is still at it");
    coordinator.crash().await;

    let began = Instant::now();
    let coordinator = Coordinator::start(&store);
    let mut worker = Player::joined(coordinator.handle(), "w1").await;
    submitted(&coordinator, &mut worker, &DATA.replace("m2_data", "m3_data")).await;
    assert_eq!(coordinator.status("m3_data").await.waiting_for, [name("m2_data")]);
    let finished = worker.work();
    coordinator.until("m3_data", Status::Completed).await;
    assert!(began.elapsed() >= Duration::from_secs(2), "it began after {:?}", began.elapsed());
    assert_eq!(held().await, [""; 0], "freed with the commit that ended it");
    coordinator.crash().await;
    finished.abort();
}

#[tokio::test]
async fn a_failure_of_a_task_that_was_withdrawn_is_not_lost() {
    let coordinator = Coordinator::start(&memory());
    let mut worker = Player::joined(coordinator.handle(), "w1").await;
    let services = coordinator.services.clone();
    let submitting =
        tokio::spawn(async move { services.submit(vec![file(DATA)], true, None, "person").await });
    let (task, token) = worker.assigned().await;
    submitting.await.expect("not cancelled").expect("submitted");
    coordinator.handle().asked(name("m2_data"), Verb::Pause, "person".into()).await.expect("legal");
    let failure = Failure::new(ErrorCode::PrecheckRefused, "no such column", "add it");
    worker.say(Report::Broke(task, token, failure)).await;
    let failed = coordinator.until("m2_data", Status::Failed).await;
    assert_eq!(failed.migration.failure().expect("told").code, ErrorCode::PrecheckRefused);
    coordinator.crash().await;
}

#[tokio::test]
async fn an_outcome_of_another_step_fails_and_is_not_waited_for() {
    let coordinator = Coordinator::start(&memory());
    let mut worker = Player::joined(coordinator.handle(), "w1").await;
    let services = coordinator.services.clone();
    let submitting =
        tokio::spawn(async move { services.submit(vec![file(DATA)], true, None, "person").await });
    let (task, token) = worker.assigned().await;
    submitting.await.expect("not cancelled").expect("submitted");
    worker.say(Report::Finished(task, token, TaskOutcome::Swept(Sweep::Clean))).await;
    let failed = coordinator.until("m2_data", Status::Failed).await;
    assert_eq!(failed.migration.failure().expect("told").code, ErrorCode::Internal);
    coordinator.crash().await;
}

#[tokio::test]
async fn a_pass_without_ranges_is_over_at_once() {
    let coordinator = Coordinator::start(&memory());
    let mut worker = Player::joined(coordinator.handle(), "w1").await;
    let services = coordinator.services.clone();
    let submitting =
        tokio::spawn(async move { services.submit(vec![file(DATA)], true, None, "person").await });
    let mut swept = BTreeSet::new();
    let mut verified = 0;
    while verified < 2 {
        let (task, token) = worker.assigned().await;
        let empty = |number| Pass { number, ranges: Vec::new(), before: RangeTotals::default() };
        let outcome = match task.step {
            Step::Split => TaskOutcome::Split(empty(1)),
            Step::Sweep if swept.insert(task.shard.clone()) => {
                TaskOutcome::Swept(Sweep::Found { pending: 1, pass: empty(2) })
            }
            Step::Backfill => panic!("{task} was handed out, but there is no range"),
            _ => outcome(&task),
        };
        verified += u32::from(task.step == Step::Verify);
        worker.say(Report::Finished(task, token, outcome)).await;
    }
    submitting.await.expect("not cancelled").expect("submitted");
    coordinator.until("m2_data", Status::Completed).await;
    coordinator.crash().await;
}

/// The next question for facts.
async fn asked(worker: &mut Player) -> (u64, ShardId) {
    match timeout(WITHIN, worker.orders.recv()).await.expect("asked in time") {
        Some(Order::Ask { query, shard, question: Question::Facts(_) }) => (query, shard),
        other => panic!("not a question for facts: {other:?}"),
    }
}

#[tokio::test]
async fn who_asked_a_worker_that_joined_again_is_told_at_once() {
    let coordinator = Coordinator::start(&memory());
    let mut worker = Player::joined(coordinator.handle(), "w1").await;
    let handle = coordinator.handle().clone();
    let telling = tokio::spawn(async move { handle.prepared(name("s1"), true).await });
    let question = timeout(WITHIN, worker.orders.recv()).await.expect("asked in time");
    assert!(matches!(question, Some(Order::Ask { question: Question::Prepared(true), .. })), "{question:?}");
    let _again = Player::joined(coordinator.handle(), "w1").await;
    let told = timeout(WITHIN, telling).await.expect("told in time").expect("not cancelled");
    assert_eq!(told.expect_err("nobody answered").code, ErrorCode::ShardNoWorker);
    coordinator.crash().await;
}

#[tokio::test]
async fn an_answer_to_another_question_is_none() {
    let coordinator = Coordinator::start(&memory());
    let mut worker = Player::joined(coordinator.handle(), "w1").await;
    let handle = coordinator.handle().clone();
    let telling = tokio::spawn(async move { handle.prepared(name("s1"), true).await });
    match timeout(WITHIN, worker.orders.recv()).await.expect("asked in time") {
        Some(Order::Ask { query, shard, question: Question::Prepared(true) }) => {
            worker.say(facts(query, shard, &[])).await;
        }
        other => panic!("not the question: {other:?}"),
    }
    let told = timeout(WITHIN, telling).await.expect("told in time").expect("not cancelled");
    assert_eq!(told.expect_err("these are facts").code, ErrorCode::Internal);
    coordinator.crash().await;
}

#[tokio::test]
async fn facts_are_asked_of_whoever_serves_the_shard_next_when_its_worker_goes_away() {
    let coordinator = Coordinator::start(&memory());
    let mut worker = Player::joined(coordinator.handle(), "w1").await;
    let handle = coordinator.handle().clone();
    let telling = tokio::spawn(async move { handle.facts(name("s1"), FactsRequest::default()).await });
    let (first, _) = asked(&mut worker).await;
    // It joins again under the question, and then goes away under it, for longer than until the next tick.
    let mut again = Player::joined(coordinator.handle(), "w1").await;
    let (second, _) = asked(&mut again).await;
    worker.say(facts(first, name("s1"), &[])).await;
    let (session, handle) = (again.session, coordinator.handle().clone());
    handle.leave(session).await.expect("heard");
    let elsewhere = Player::joined_with(&handle, "w2", &["s2"]).await;
    sleep(super::super::role::TICK * 2).await;
    let mut other = Player::joined_with(&handle, "w3", &["s1"]).await;
    let (third, shard) = asked(&mut other).await;
    assert!(first < second && second < third, "{first} {second} {third}");
    other.say(facts(third, shard, &["items".into()])).await;
    let told = timeout(WITHIN, telling).await.expect("told in time").expect("not cancelled");
    assert_eq!(
        told.expect("facts").relations.len(),
        1,
        "the answer of a session that was over counts no more"
    );
    drop(elsewhere);
    coordinator.crash().await;
}

#[tokio::test]
async fn facts_of_a_shard_that_nobody_serves_are_refused_after_a_while() {
    let coordinator = Coordinator::start(&memory());
    let worker = Player::joined_with(coordinator.handle(), "w1", &["s2"]).await;
    let living = tokio::spawn(async move {
        loop {
            worker.beat();
            sleep(Duration::from_millis(100)).await;
        }
    });
    let asked = Instant::now();
    let telling = coordinator.handle().facts(name("s1"), FactsRequest::default());
    let told = timeout(WITHIN, telling).await.expect("told in time");
    assert_eq!(told.expect_err("nobody serves it").code, ErrorCode::ShardNoWorker);
    assert!(asked.elapsed() > Duration::from_secs(4), "it did not wait for a worker: {:?}", asked.elapsed());
    living.abort();
    coordinator.crash().await;
}

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// A worker that answers late, in any order, says things twice, ignores some withdrawals and breaks now and then.
async fn works_badly(mut player: Player, mut dice: Dice) {
    let shards = Shards::default();
    let mut held: Vec<(Instant, TaskId, Token)> = Vec::new();
    let mut beats = tokio::time::interval(Duration::from_millis(5));
    loop {
        tokio::select! {
            order = player.orders.recv() => match order {
                None => return,
                Some(Order::Assign { task, token, .. }) => {
                    let due = Instant::now() + Duration::from_millis(dice.roll(30));
                    held.push((due, task, token));
                }
                Some(Order::Withdraw { task, token }) if dice.roll(2) == 0 => {
                    held.retain(|(_, _, other)| *other != token);
                    player.say(Report::Released(task, token)).await;
                }
                Some(Order::Ask { query, shard, question: Question::Facts(request) }) => {
                    player.say(facts(query, shard, &request.relations)).await;
                }
                Some(_) => {}
            },
            _ = beats.tick() => {
                player.beat();
                let now = Instant::now();
                let (due, later) = held.into_iter().partition(|(due, ..)| *due <= now);
                held = later;
                let due: Vec<(Instant, TaskId, Token)> = due;
                for (_, task, token) in due {
                    if dice.roll(8) == 0 {
                        let code = [ErrorCode::ShardUnreachable, ErrorCode::LeaseLost, ErrorCode::RowRejected]
                            [usize::try_from(dice.roll(3)).expect("small")];
                        player.say(Report::Broke(task, token, Failure::new(code, "broke", "mend"))).await;
                        continue;
                    }
                    if let Some(index) = task.range {
                        let receipt =
                            Receipt { range: range(index, false), batch_size: 1, rows_per_second: 1.0, batch_ms: 1.0, waits: None };
                        player.say(Report::Progress(task.clone(), token, receipt)).await;
                    }
                    for _ in 0..=dice.roll(2) {
                        player.say(Report::Finished(task.clone(), token, shards.outcome(&task))).await;
                    }
                }
            },
        }
    }
}

async fn ends_whatever_a_person_asks(seed: u64) {
    let coordinator = Coordinator::start(&memory());
    let player = Player::joined(coordinator.handle(), "w1").await;
    let worker = tokio::spawn(works_badly(player, Dice(seed)));
    coordinator.apply(&[DATA]).await;
    let mut dice = Dice(seed ^ 0x5eed);
    let verbs = [Verb::Start, Verb::Pause, Verb::Resume, Verb::Retry];
    for _ in 0..60 {
        let verb = verbs[usize::try_from(dice.roll(4)).expect("small")];
        // Illegal ones are refused; whatever is refused must change nothing.
        let _ = coordinator.handle().asked(name("m2_data"), verb, "person".into()).await;
        sleep(Duration::from_millis(dice.roll(8))).await;
    }
    let ended = timeout(WITHIN, async {
        loop {
            let status = coordinator.status("m2_data").await.migration.status;
            let verb = match status {
                Status::Completed => return,
                Status::Paused => Verb::Resume,
                Status::Failed => Verb::Retry,
                _ => Verb::Start,
            };
            let _ = coordinator.handle().asked(name("m2_data"), verb, "person".into()).await;
            sleep(Duration::from_millis(20)).await;
        }
    });
    if ended.await.is_err() {
        panic!("seed {seed}: a task was waited for for ever: {:?}", coordinator.status("m2_data").await);
    }
    worker.abort();
    coordinator.crash().await;
}

#[tokio::test]
async fn no_task_is_lost_whatever_a_person_asks_and_however_badly_a_worker_answers() {
    join_all((1..=24).map(ends_whatever_a_person_asks)).await;
}

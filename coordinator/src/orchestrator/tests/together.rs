//! Many reports, one commit; and a commit that takes long, or fails: nothing leaves the heart before it.

use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use tokio::sync::{mpsc::error::TryRecvError, watch};
use tokio::time::Instant;

use super::*;
use crate::store::{
    Change, Head, HistoryEvent, LeaderPermit, Link, Position, Recorded, Snapshot, StoreError, Wanted,
};

/// How many shards report at once.
const MANY: u32 = 40;

/// A store whose commits wait at a gate, are counted, and fail from one on.
struct Gated {
    inner: MemoryStore,
    /// How many commits may pass in all.
    passes: watch::Sender<u32>,
    /// How many have come to the gate.
    came: watch::Sender<u32>,
    /// The number of the one that fails.
    fails: AtomicU32,
}

impl Gated {
    fn open() -> Arc<Self> {
        let never = AtomicU32::new(u32::MAX);
        let (passes, came) = (watch::Sender::new(u32::MAX), watch::Sender::new(0));
        Arc::new(Self { inner: MemoryStore::new(), passes, came, fails: never })
    }

    /// From here on so many more commits pass.
    fn shut_after(&self, more: u32) -> u32 {
        let came = *self.came.borrow();
        self.passes.send_replace(came + more);
        came
    }

    async fn until_came(&self, count: u32) {
        let mut came = self.came.subscribe();
        let waited = timeout(WITHIN, came.wait_for(|came| *came >= count)).await;
        waited.expect("a commit comes in time").expect("the store lives");
    }
}

#[async_trait]
impl Store for Gated {
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
        self.came.send_modify(|came| *came += 1);
        let number = *self.came.borrow();
        let mut passes = self.passes.subscribe();
        passes.wait_for(|passes| number <= *passes).await.expect("the store lives");
        if number == self.fails.load(Ordering::Relaxed) {
            return Err(StoreError::Unavailable { doing: "commit", source: "it was made to fail".into() });
        }
        self.inner.commit(permit, change).await
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

fn shard_names() -> Vec<String> {
    (0..MANY).map(|number| format!("s{number:02}")).collect()
}

async fn joined(coordinator: &Coordinator) -> Player {
    let names = shard_names();
    let shards: Vec<&str> = names.iter().map(String::as_str).collect();
    let knows = Capabilities::of_this_release([]);
    Player::joining_with(coordinator.handle(), "w1", MANY, &shards, None, knows).await.expect("welcome")
}

/// A schema change of many shards, each of which a worker is prechecking.
async fn prechecking(gated: &Arc<Gated>) -> (Coordinator, Player, Vec<(TaskId, Token)>) {
    let store: Arc<dyn Store> = Arc::clone(gated) as Arc<dyn Store>;
    let mut wide = topology();
    wide.clusters.values_mut().for_each(|cluster| {
        cluster.shards = shard_names().iter().map(|shard| name(shard)).collect();
    });
    let coordinator = Coordinator::of(&store, wide);
    timeout(WITHIN, async {
        while coordinator.handle().leader().await.is_err() {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("it leads in time");
    let mut worker = joined(&coordinator).await;
    let services = coordinator.services.clone();
    let submitting =
        tokio::spawn(async move { services.submit(vec![file(SCHEMA)], true, None, "person").await });
    let mut tasks = Vec::new();
    while tasks.len() < usize::try_from(MANY).expect("small") {
        tasks.push(worker.assigned().await);
    }
    submitting.await.expect("not cancelled").expect("submitted");
    (coordinator, worker, tasks)
}

/// Finishes the first task, and, when the heart waits for its commit, all the others.
async fn finish_all(gated: &Gated, worker: &Player, tasks: Vec<(TaskId, Token)>, before: u32) {
    let mut tasks = tasks.into_iter();
    let (task, token) = tasks.next().expect("there are many");
    worker.finish(task, token).await;
    gated.until_came(before + 1).await;
    for (task, token) in tasks {
        worker.finish(task, token).await;
    }
}

#[tokio::test]
async fn many_reports_share_one_commit_and_nothing_is_handed_out_before_it() {
    let gated = Gated::open();
    let (coordinator, mut worker, tasks) = prechecking(&gated).await;
    let before = gated.shut_after(0);
    finish_all(&gated, &worker, tasks, before).await;
    let asked = tokio::spawn({
        let handle = coordinator.handle().clone();
        async move { handle.get(name("m1_schema"), None).await }
    });
    // The first commit passes; the second one is of all the others and stands at the gate.
    gated.passes.send_replace(before + 1);
    gated.until_came(before + 2).await;
    assert!(matches!(worker.orders.try_recv(), Err(TryRecvError::Empty)), "an order before its commit");
    assert!(!asked.is_finished(), "an answer before the commit of what it tells");
    gated.passes.send_replace(u32::MAX);
    for _ in 0..MANY {
        assert_eq!(worker.assigned().await.0.step, Step::Apply);
    }
    let commits = *gated.came.borrow() - before;
    assert!(commits <= 3, "{commits} commits for {MANY} reports");
    let seen = asked.await.expect("not cancelled").expect("answered");
    assert!(seen.migration.shards.values().all(|part| part.todo == Some(Step::Apply)));
    coordinator.crash().await;
}

#[tokio::test]
async fn a_commit_of_many_reports_that_fails_sends_nothing_and_answers_nobody_with_success() {
    let gated = Gated::open();
    let (coordinator, mut worker, tasks) = prechecking(&gated).await;
    let before = gated.shut_after(0);
    gated.fails.store(before + 2, Ordering::Relaxed);
    finish_all(&gated, &worker, tasks, before).await;
    let ask = |handle: Handle| tokio::spawn(async move { handle.get(name("m1_schema"), None).await });
    let asked = ask(coordinator.handle().clone());
    let verb = tokio::spawn({
        let handle = coordinator.handle().clone();
        async move { handle.asked(name("m1_schema"), Verb::Pause, "person".into()).await }
    });
    tokio::task::yield_now().await;
    gated.passes.send_replace(u32::MAX);
    let ended = timeout(WITHIN, async {
        while let Some(order) = worker.orders.recv().await {
            assert!(!matches!(order, Order::Assign { .. } | Order::Withdraw { .. }), "{order:?}");
        }
    });
    ended.await.expect("the session ends with the leader");
    asked.await.expect("not cancelled").expect_err("what it would tell is not stored");
    verb.await.expect("not cancelled").expect_err("what it was asked for is not stored");
    let view = coordinator.until_view("m1_schema", |_| true).await;
    let past = view.migration.shards.values().filter(|part| part.todo == Some(Step::Apply)).count();
    assert_eq!((view.migration.status, past), (Status::Running, 1), "only the first commit was made");
    let _again = joined(&coordinator).await.work();
    coordinator.until("m1_schema", Status::Completed).await;
    coordinator.crash().await;
}

#[tokio::test]
async fn a_slow_store_costs_no_living_worker_its_session() {
    let gated = Gated::open();
    let (coordinator, mut worker, tasks) = prechecking(&gated).await;
    let before = gated.shut_after(0);
    finish_all(&gated, &worker, tasks, before).await;
    // Longer than a worker may be silent.
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(2_500) {
        worker.beat();
        sleep(Duration::from_millis(20)).await;
        assert!(matches!(worker.orders.try_recv(), Err(TryRecvError::Empty)), "an order before its commit");
    }
    gated.passes.send_replace(u32::MAX);
    for _ in 0..MANY {
        assert_eq!(worker.assigned().await.0.step, Step::Apply);
    }
    coordinator.crash().await;
}

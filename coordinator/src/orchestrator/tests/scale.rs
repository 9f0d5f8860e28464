//! Workers that join, share, are drained, die, or are of another release; played by the test.

mod throttle;

use super::*;
use crate::store::Wanted;
use shardlift_domain::range::Rest;

/// One worker that serves `s1` only, so that each order can be awaited.
struct Only {
    player: Player,
}

impl Only {
    async fn join(handle: &Handle, worker: &str, knows: Capabilities) -> Self {
        Self { player: Player::joining(handle, worker, &["s1"], None, knows).await.expect("welcome") }
    }

    async fn next(&mut self) -> Order {
        let order = timeout(WITHIN, async {
            loop {
                let order = timeout(Duration::from_millis(200), self.player.orders.recv()).await;
                let Ok(order) = order else {
                    self.player.beat();
                    continue;
                };
                match order.expect("the session goes on") {
                    Order::Heartbeat => {}
                    Order::Ask { query, shard, question: Question::Facts(request) } => {
                        self.player.say(facts(query, shard, &request.relations)).await;
                    }
                    other => return other,
                }
            }
        });
        order.await.expect("an order in time")
    }

    async fn task(&mut self) -> (TaskId, Token) {
        match self.next().await {
            Order::Assign { task, token, .. } => (task, token),
            other => panic!("{other:?} instead of a task"),
        }
    }

    /// Finishes what is given until a range is: that one is answered with a first receipt.
    async fn walking(&mut self) -> (TaskId, Token) {
        loop {
            let (task, token) = self.task().await;
            if task.step == Step::Backfill {
                self.progress(&task, token).await;
                return (task, token);
            }
            let outcome = match task.step {
                Step::Split => TaskOutcome::Split(pass(&[false])),
                _ => outcome(&task),
            };
            self.player.say(Report::Finished(task, token, outcome)).await;
        }
    }

    async fn progress(&self, task: &TaskId, token: Token) {
        let range = RangeState { batches: 1, seen: 1, ..range(task.range.expect("a range"), false) };
        let receipt = shardlift_domain::progress::Receipt {
            range,
            batch_size: 1,
            rows_per_second: 1.0,
            batch_ms: 1.0,
            waits: None,
        };
        self.player.say(Report::Progress(task.clone(), token, receipt)).await;
    }
}

async fn leads(coordinator: &Coordinator) {
    let leading = timeout(WITHIN, async {
        while coordinator.handle().leader().await.is_err() {
            sleep(Duration::from_millis(10)).await;
        }
    });
    leading.await.expect("it leads in time");
}

fn pass(done: &[bool]) -> Pass {
    let ranges = (0..).zip(done).map(|(index, done)| range(index, *done)).collect();
    Pass { number: 1, ranges, before: RangeTotals::default() }
}

fn all() -> Capabilities {
    Capabilities::of_this_release([])
}

fn one_shard() -> Topology {
    let mut topology = topology();
    topology.clusters.values_mut().for_each(|cluster| cluster.shards.truncate(1));
    topology
}

/// A coordinator of one shard, a worker that walks its only range, and a second worker.
async fn walking(store: &Arc<dyn Store>) -> (Coordinator, Only, (TaskId, Token)) {
    let coordinator = Coordinator::of(store, one_shard());
    leads(&coordinator).await;
    let mut owner = Only::join(coordinator.handle(), "w1", all()).await;
    let services = coordinator.services.clone();
    let submitted =
        tokio::spawn(async move { services.submit(vec![file(DATA)], true, None, "person").await });
    let walked = owner.walking().await;
    submitted.await.expect("not cancelled").expect("submitted");
    (coordinator, owner, walked)
}

async fn asked_to_share(owner: &mut Only) {
    match owner.next().await {
        Order::Adjust { share: true, .. } => {}
        other => panic!("{other:?} instead of a wish to share"),
    }
}

#[tokio::test]
async fn a_worker_that_joins_gets_a_part_of_the_last_range() {
    let store = memory();
    let (coordinator, mut owner, (task, token)) = walking(&store).await;
    let mut helper = Only::join(coordinator.handle(), "w2", all()).await;
    asked_to_share(&mut owner).await;
    let rest = Rest { pass: 1, range: range(1, false) };
    owner.player.say(Report::Shared(task.clone(), token, Some(rest))).await;
    let (part, part_token) = helper.task().await;
    assert_eq!(part.range, Some(1));
    owner.player.say(Report::Finished(task, token, TaskOutcome::RangeDone(range(0, true)))).await;
    helper.player.say(Report::Finished(part, part_token, TaskOutcome::RangeDone(range(1, true)))).await;
    // The ranges are read once more: another answer might have been lost.
    let (read, _) = tokio::select! { task = owner.task() => task, task = helper.task() => task };
    assert_eq!(read.step, Step::Split);
    coordinator.crash().await;
}

#[tokio::test]
async fn a_part_whose_report_was_lost_is_found_before_the_pass_ends() {
    let store = memory();
    let (coordinator, mut owner, (task, token)) = walking(&store).await;
    let helper = Only::join(coordinator.handle(), "w2", all()).await;
    asked_to_share(&mut owner).await;
    coordinator.handle().leave(helper.player.session).await.expect("it hears");
    // It has split, but nobody heard of it; the range ends.
    owner.player.say(Report::Finished(task, token, TaskOutcome::RangeDone(range(0, true)))).await;
    let (read, read_token) = owner.task().await;
    assert_eq!(read.step, Step::Split);
    let there = TaskOutcome::Split(pass(&[true, false]));
    owner.player.say(Report::Finished(read, read_token, there)).await;
    let (part, part_token) = owner.task().await;
    assert_eq!((part.step, part.range), (Step::Backfill, Some(1)));
    owner.player.say(Report::Finished(part, part_token, TaskOutcome::RangeDone(range(1, true)))).await;
    assert_eq!(owner.task().await.0.step, Step::Sweep, "nobody was asked since");
    coordinator.crash().await;
}

#[tokio::test]
async fn a_range_that_cannot_be_read_again_fails_the_backfill() {
    let store = memory();
    let (coordinator, mut owner, (task, token)) = walking(&store).await;
    let helper = Only::join(coordinator.handle(), "w2", all()).await;
    asked_to_share(&mut owner).await;
    coordinator.handle().leave(helper.player.session).await.expect("it hears");
    owner.player.say(Report::Finished(task, token, TaskOutcome::RangeDone(range(0, true)))).await;
    let (read, read_token) = owner.task().await;
    let failure = Failure::new(ErrorCode::LedgerConflict, "another content", "look");
    owner.player.say(Report::Broke(read, read_token, failure)).await;
    let view = coordinator.until("m2_data", Status::Failed).await;
    let told = view.migration.failure().expect("told");
    assert_eq!((told.code, told.place.step), (ErrorCode::LedgerConflict, Some(Step::Split)));
    coordinator.crash().await;
}

#[tokio::test]
async fn a_worker_of_the_first_protocol_is_never_asked_to_share() {
    let store = memory();
    let coordinator = Coordinator::of(&store, one_shard());
    leads(&coordinator).await;
    let mut old = Only::join(coordinator.handle(), "old", Capabilities::of_the_first_protocol()).await;
    let services = coordinator.services.clone();
    let submitted =
        tokio::spawn(async move { services.submit(vec![file(DATA)], true, None, "person").await });
    let (task, token) = old.walking().await;
    submitted.await.expect("not cancelled").expect("submitted");
    let helper = Only::join(coordinator.handle(), "new", all()).await;
    // Longer than a range of a newer worker would be left alone.
    let quiet = timeout(Duration::from_millis(1500), async {
        loop {
            old.progress(&task, token).await;
            let beat = timeout(Duration::from_millis(100), old.player.orders.recv()).await;
            assert!(!matches!(beat, Ok(Some(Order::Adjust { .. }))), "it would not understand");
            helper.player.beat();
        }
    });
    quiet.await.expect_err("it is left alone for as long as it is watched");
    coordinator.crash().await;
}

#[tokio::test]
async fn a_drained_worker_gives_its_range_to_another_one_and_gets_nothing_new() {
    let store = memory();
    let (coordinator, mut owner, (task, token)) = walking(&store).await;
    let drained = coordinator.handle().drain(name("w1"), true, "olaf".into()).await.expect("it is connected");
    assert!(drained.changed && drained.worker.draining);
    assert_eq!(drained.alone, [name::<ShardId>("s1")], "nobody else could go on");
    assert!(matches!(owner.next().await, Order::Drain(true)), "it keeps that for the next leader");
    let mut heir = Only::join(coordinator.handle(), "w2", all()).await;
    match owner.next().await {
        Order::Withdraw { task: which, .. } => assert_eq!(which, task),
        other => panic!("{other:?} instead of a withdrawal"),
    }
    owner.player.say(Report::Released(task.clone(), token)).await;
    let (again, newer) = heir.task().await;
    assert!(again == task && newer > token);
    assert!(!coordinator.handle().drain(name("w1"), true, "olaf".into()).await.expect("connected").changed);
    let unknown =
        coordinator.handle().drain(name("w9"), true, "olaf".into()).await.expect_err("nobody of that name");
    assert_eq!(unknown.code, ErrorCode::RequestNotFound);
    assert!(coordinator.handle().drain(name("w1"), false, "mira".into()).await.expect("connected").changed);
    let all = Wanted { after: Some(0), limit: 1000, ..Wanted::default() };
    let links = coordinator.handle().links(all).await.expect("a history");
    let entries = links.into_iter().map(|link| link.entry.expect("readable"));
    let told: Vec<_> = entries
        .filter(|entry| entry.event.as_str().starts_with("worker_"))
        .map(|entry| {
            (entry.migration, entry.event.as_str(), entry.actor, entry.detail["before"]["draining"].clone())
        })
        .collect();
    let expected = |event, actor: &str, before: bool| (None, event, actor.to_owned(), before.into());
    assert_eq!(told, [expected("worker_drained", "olaf", false), expected("worker_undrained", "mira", true)]);
    coordinator.crash().await;
}

#[tokio::test]
async fn a_shard_that_only_drained_workers_serve_says_so_and_goes_on_when_one_is_taken_back() {
    let store = memory();
    let (coordinator, mut owner, (task, token)) = walking(&store).await;
    coordinator.handle().drain(name("w1"), true, "olaf".into()).await.expect("it is connected");
    assert!(matches!(owner.next().await, Order::Drain(true)));
    owner.player.say(Report::Finished(task, token, TaskOutcome::RangeDone(range(0, true)))).await;
    let view = coordinator.until_view("m2_data", |view| view.shards[&name("s1")].trouble.is_some()).await;
    let trouble = view.shards[&name("s1")].trouble.clone().expect("told");
    assert!(trouble.code == ErrorCode::WorkerUnfit && trouble.message.contains("w1"), "{trouble:?}");
    coordinator.handle().drain(name("w1"), false, "olaf".into()).await.expect("it is connected");
    assert!(matches!(owner.next().await, Order::Drain(false)));
    assert_eq!(owner.task().await.0.step, Step::Sweep);
    coordinator.crash().await;
}

#[tokio::test]
async fn a_task_that_nobody_can_do_waits_and_says_what_is_lacking() {
    let store = memory();
    let coordinator = Coordinator::of(&store, one_shard());
    let simple: Capabilities = ["data".to_owned()].into_iter().collect();
    leads(&coordinator).await;
    let _simple =
        Player::joining(coordinator.handle(), "w1", &["s1"], None, simple).await.expect("welcome").work();
    coordinator.apply(&[DATA]).await;
    let view = coordinator.until_view("m2_data", |view| view.shards[&name("s1")].trouble.is_some()).await;
    let trouble = view.shards[&name("s1")].trouble.clone().expect("told");
    assert!(
        trouble.code == ErrorCode::WorkerUnfit && trouble.message.contains("transform.sql"),
        "{trouble:?}"
    );
    let _able = Player::joined_with(coordinator.handle(), "w2", &["s1"]).await.work();
    coordinator.until("m2_data", Status::Completed).await;
    coordinator.crash().await;
}

#[tokio::test]
async fn a_worker_that_is_too_old_for_a_checkpoint_leaves_the_shard_to_another_one() {
    let store = memory();
    let (coordinator, owner, (task, token)) = walking(&store).await;
    let mut newer = Only::join(coordinator.handle(), "w2", all()).await;
    let failure = Failure::new(ErrorCode::WorkerOutdated, "form 2", "upgrade");
    owner.player.say(Report::Broke(task.clone(), token, failure)).await;
    assert_eq!(newer.task().await.0, task);
    assert_eq!(coordinator.status("m2_data").await.migration.status, Status::Running);
    coordinator.crash().await;
}

#[tokio::test]
async fn a_shard_with_a_damaged_epoch_is_set_aside_and_the_rest_goes_on() {
    for epoch in [Epoch::LARGEST.0, u64::MAX] {
        let store = memory();
        let coordinator = Coordinator::start(&store);
        leads(&coordinator).await;
        let before = coordinator.handle().leader().await.expect("it leads").epoch;
        let damaged = Some(Fence { epoch: Epoch(epoch), nonce: Nonce("x".into()) });
        let bad =
            Player::joining(coordinator.handle(), "w1", &["s1"], damaged, all()).await.expect("welcome");
        let _good = Player::joined_with(coordinator.handle(), "w2", &["s2"]).await.work();
        let shards = coordinator.handle().shards().await.expect("it leads");
        let problem = shards.iter().find_map(|view| view.problem.clone()).expect("it is told");
        assert_eq!(
            (problem.code, problem.place.shard),
            (ErrorCode::FenceDamaged, Some(name::<ShardId>("s1"))),
            "{epoch}"
        );
        assert!(shards.iter().any(|view| view.reachable), "the other shard is not concerned");
        assert_eq!(coordinator.handle().leader().await.expect("it leads").epoch, before, "it rose");
        drop(bad);
        coordinator.crash().await;
    }
}

#[tokio::test]
async fn a_task_whose_workers_are_lost_says_so() {
    let store = memory();
    let coordinator = Coordinator::of(&store, one_shard());
    leads(&coordinator).await;
    let mut mortal = Only::join(coordinator.handle(), "w1", all()).await;
    let services = coordinator.services.clone();
    let submitted =
        tokio::spawn(async move { services.submit(vec![file(DATA)], true, None, "person").await });
    for life in 0..3 {
        let (task, _) = mortal.task().await;
        assert_eq!(task.step, Step::Precheck);
        if life == 0 {
            // Its plan was answered: from now on it may die.
            timeout(WITHIN, async {
                while coordinator.handle().get(name("m2_data"), None).await.is_err() {
                    sleep(Duration::from_millis(10)).await;
                }
            })
            .await
            .expect("submitted in time");
        }
        // The process was started again: its former session is over.
        mortal = Only::join(coordinator.handle(), "w1", all()).await;
    }
    submitted.await.expect("not cancelled").expect("submitted");
    let view = coordinator.until_view("m2_data", |view| view.shards[&name("s1")].trouble.is_some()).await;
    let trouble = view.shards[&name("s1")].trouble.clone().expect("told");
    assert!(trouble.code == ErrorCode::WorkerLost && trouble.message.contains("3 times"), "{trouble:?}");
    coordinator.crash().await;
}

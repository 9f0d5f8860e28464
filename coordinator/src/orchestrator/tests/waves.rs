//! Rollouts: nothing of a wave is handed out before the gate of the one before it has opened.

use super::*;

fn with_rollout(spec: &str, rollout: &str) -> String {
    format!("{spec}rollout: {rollout}\n")
}

/// The shards in the order in which a step was handed out.
fn shards_of(done: &[TaskId], step: Step) -> Vec<&str> {
    done.iter().filter(|task| task.step == step).map(|task| task.shard.as_str()).collect()
}

#[tokio::test]
async fn waves_go_one_by_one_after_the_precheck_of_all() {
    let store = memory();
    let coordinator = Coordinator::start(&store);
    let worker = Player::joined(coordinator.handle(), "w1").await.work();
    coordinator.apply(&[&with_rollout(DATA, "[ { shards: 1, soak: 300ms } ]")]).await;
    let soaking = coordinator.until_view("m2_data", |view| view.gate.is_some()).await;
    let gate = soaking.gate.expect("it is at its gate");
    assert!(gate.soak_left <= 300 && gate.closed.is_none(), "{gate:?}");
    let todo = |shard: &str| soaking.migration.shards[&name::<ShardId>(shard)].todo;
    assert_eq!(
        (todo("s1"), todo("s2")),
        (None, Some(Step::Split)),
        "the canary is done, the other untouched"
    );
    let view = coordinator.until("m2_data", Status::Completed).await;
    assert_eq!((view.migration.rollout.wave, view.migration.rollout.waves()), (1, 2));
    coordinator.crash().await;
    let done = worker.await.expect("the worker played on");
    let at =
        |step, shard: &str| done.iter().position(|task| task.step == step && task.shard.as_str() == shard);
    assert!(at(Step::Precheck, "s2") < at(Step::Split, "s1"), "{done:?}");
    assert!(at(Step::Verify, "s1") < at(Step::Split, "s2"), "{done:?}");
    assert_eq!(shards_of(&done, Step::Backfill).len(), 6, "nothing was done twice");
}

#[tokio::test]
async fn a_new_leader_begins_the_soak_anew_and_repeats_nothing() {
    let store = memory();
    let first = Coordinator::start(&store);
    let worker = Player::joined(first.handle(), "w1").await.work();
    first.apply(&[&with_rollout(SCHEMA, "[ { shards: 1, soak: 1h } ]")]).await;
    first.until_view("m1_schema", |view| view.gate.is_some()).await;
    first.crash().await;
    let mut done = worker.await.expect("the worker played on");

    let second = Coordinator::start(&store);
    let worker = Player::joined(second.handle(), "w1").await.work();
    let view = second.until_view("m1_schema", |view| view.gate.is_some()).await;
    let gate = view.gate.expect("it is at its gate");
    assert!(gate.soak_left > 3_500_000, "the soak begins anew: {gate:?}");
    second.handle().asked(name("m1_schema"), Verb::Cancel, "person".into()).await.expect("legal");
    second.crash().await;
    done.extend(worker.await.expect("the worker played on"));
    assert_eq!(shards_of(&done, Step::Apply), ["s1"]);
    assert_eq!(shards_of(&done, Step::Precheck).len(), 2);
}

#[tokio::test]
async fn a_soak_begins_anew_however_soon_a_migration_is_resumed() {
    let store = memory();
    let coordinator = Coordinator::start(&store);
    let worker = Player::joined(coordinator.handle(), "w1").await.work();
    coordinator.apply(&[&with_rollout(SCHEMA, "[ { shards: 1, soak: 1h } ]")]).await;
    let left = |view: &MigrationView| view.gate.as_ref().map_or(u64::MAX, |gate| gate.soak_left);
    let before = coordinator.until_view("m1_schema", |view| left(view) < 3_598_500).await;
    let (pause, resume) = (
        coordinator.handle().asked(name("m1_schema"), Verb::Pause, "person".into()),
        coordinator.handle().asked(name("m1_schema"), Verb::Resume, "person".into()),
    );
    // Both are heard between two looks at the gates.
    let (paused, resumed) = tokio::join!(biased; pause, resume);
    assert!(paused.is_ok() && resumed.is_ok(), "{paused:?} {resumed:?}");
    let after = coordinator.until_view("m1_schema", |view| view.gate.is_some()).await;
    assert!(left(&after) > left(&before), "{:?} {:?}", before.gate, after.gate);
    coordinator.crash().await;
    worker.await.expect("the worker played on");
}

#[tokio::test]
async fn a_shard_that_nobody_reaches_keeps_the_gate_closed_until_it_is_back() {
    let store = memory();
    let coordinator = Coordinator::start(&store);
    let canary = Player::joined_with(coordinator.handle(), "w1", &["s1"]).await.work();
    let other = Player::joined_with(coordinator.handle(), "w2", &["s2"]).await.work();
    coordinator.apply(&[&with_rollout(SCHEMA, "[ { shards: 1, soak: 2s } ]")]).await;
    coordinator.until_view("m1_schema", |view| view.gate.is_some()).await;
    canary.abort();
    let closed = |view: &MigrationView| view.gate.as_ref().is_some_and(|gate| gate.closed.is_some());
    let view = coordinator.until_view("m1_schema", closed).await;
    let why = view.gate.and_then(|gate| gate.closed).expect("it says why");
    assert_eq!((why.code, why.place.shard), (ErrorCode::GateClosed, Some(name("s1"))));
    assert_eq!(view.migration.status, Status::Running, "it waits");
    let back = Player::joined_with(coordinator.handle(), "w1", &["s1"]).await.work();
    coordinator.until("m1_schema", Status::Completed).await;
    coordinator.crash().await;
    for worker in [other, back] {
        worker.await.expect("the worker played on");
    }
}

#[tokio::test]
async fn a_shard_that_is_ill_keeps_the_gate_closed_until_its_worker_tells_that_it_is_well() {
    let store = memory();
    let coordinator = Coordinator::start(&store);
    let worker = Player::joined(coordinator.handle(), "w1").await;
    let lagging = Failure::new(ErrorCode::ShardLagging, "replica r1 is more than 60s behind", "wait");
    let ill = ShardHello { alarm: Some(lagging.clone()), ..hello("s1") };
    worker.say(Report::Shards(vec![ill, hello("s2")])).await;
    let (handle, session) = (coordinator.handle().clone(), worker.session);
    let worker = worker.work();
    coordinator.apply(&[&with_rollout(SCHEMA, "[ { shards: 1 } ]")]).await;
    let closed = |view: &MigrationView| view.gate.as_ref().is_some_and(|gate| gate.closed.is_some());
    let view = coordinator.until_view("m1_schema", closed).await;
    let why = view.gate.and_then(|gate| gate.closed).expect("it says why");
    assert_eq!((why.code, why.place.shard), (ErrorCode::GateClosed, Some(name("s1"))));
    assert!(why.message.contains("r1 is more than 60s behind"), "{}", why.message);
    let shards = handle.shards().await.expect("the leader answers");
    let of = |shard: &str| shards.iter().find(|view| view.shard == name(shard)).expect("declared");
    assert!(of("s1").reachable && of("s1").problem == Some(lagging) && of("s2").problem.is_none());
    let well = Report::Shards(["s1", "s2"].map(hello).to_vec());
    handle.room().await.expect("it leads").report(session, well);
    coordinator.until("m1_schema", Status::Completed).await;
    coordinator.crash().await;
    worker.await.expect("the worker played on");
}

#[tokio::test]
async fn a_canary_that_fails_halts_the_rollout_and_a_resume_goes_on() {
    let store = memory();
    let coordinator = Coordinator::start(&store);
    let mut worker = Player::joined(coordinator.handle(), "w1").await;
    let services = coordinator.services.clone();
    let spec = with_rollout(SCHEMA, "[ { shards: 1 } ]");
    let submitted =
        tokio::spawn(async move { services.submit(vec![file(&spec)], true, None, "person").await });
    let (task, token) = loop {
        let (task, token) = worker.assigned().await;
        if task.step == Step::Apply {
            break (task, token);
        }
        worker.finish(task, token).await;
    };
    submitted.await.expect("not cancelled").expect("submitted");
    assert_eq!(task.shard.as_str(), "s1");
    let failure = Failure::new(ErrorCode::SchemaFailed, "no such table", "create it");
    worker.say(Report::Broke(task, token, failure)).await;
    let halted = coordinator.until("m1_schema", Status::Paused).await;
    let Some(Stop::System { reason }) = &halted.migration.stop else { panic!("halted without a reason") };
    assert_eq!((reason.code, reason.place.shard.clone()), (ErrorCode::SchemaFailed, Some(name("s1"))));
    let worker = worker.work();
    coordinator.handle().asked(name("m1_schema"), Verb::Resume, "person".into()).await.expect("legal");
    coordinator.until("m1_schema", Status::Completed).await;
    coordinator.crash().await;
    let done = worker.await.expect("the worker played on");
    assert_eq!(shards_of(&done, Step::Apply), ["s1", "s2"]);
}

#[tokio::test]
async fn independent_migrations_run_side_by_side_and_a_soak_holds_up_only_its_own() {
    let store = memory();
    let coordinator = Coordinator::start(&store);
    let worker = Player::joined(coordinator.handle(), "w1").await.work();
    let soaks = with_rollout(DATA, "[ { shards: 1, soak: 1h } ]");
    let other = DATA.replace("m2_data", "m3_other").replace("items", "drafts");
    let waits = DATA.replace("m2_data", "m4_waits").replace("items", "orders") + "depends_on: [m2_data]\n";
    coordinator.apply(&[&soaks, &other, &waits]).await;
    coordinator.until("m3_other", Status::Completed).await;
    coordinator.until_view("m2_data", |view| view.gate.is_some()).await;
    let view = coordinator.status("m4_waits").await;
    assert_eq!((view.migration.status, view.waiting_for), (Status::Pending, vec![name("m2_data")]));
    coordinator.crash().await;
    worker.await.expect("the worker played on");
}

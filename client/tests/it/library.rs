//! The library: typed refusals, and a watch that outlives the coordinator.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use shardlift_client::{Client, Coordinators, Watch, Watched};
use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::ids::MigrationId;
use shardlift_domain::migration::{Status, Verb};
use shardlift_proto::v1;

use crate::coordinator::{Coordinator, Script, migration, plan};

fn id(text: &str) -> MigrationId {
    MigrationId::new(text).expect("an id")
}

fn client(addresses: &[String], patience: Duration) -> Client {
    Client::new(Coordinators::parse(addresses).expect("addresses"), patience)
}

fn connected(coordinator: &Coordinator) -> Client {
    client(&[coordinator.url()], Duration::from_secs(10))
}

async fn news(watch: &mut Watch) -> Option<Result<Watched, Vec<Failure>>> {
    tokio::time::timeout(Duration::from_secs(20), watch.next()).await.expect("news within 20 s")
}

async fn status(watch: &mut Watch) -> Status {
    match news(watch).await {
        Some(Ok(Watched::Now(view))) => view.status,
        other => panic!("no view: {other:?}"),
    }
}

#[tokio::test]
async fn a_refusal_keeps_all_its_failures() {
    let script = Script::default();
    let told = vec![
        Failure::new(ErrorCode::SpecInvalid, "unknown key", "remove it").in_file("a.yaml:1:2"),
        Failure::new(ErrorCode::PlanCycle, "a circle", "cut it"),
    ];
    script.plans(Err(told.clone()));
    let coordinator = Coordinator::start(&script).await;
    let client = connected(&coordinator);
    assert_eq!(client.plan(vec![]).await, Err(told.clone()));
    assert_eq!(client.submit(vec![], true, Some(1)).await, Err(told));
    let failures = client.get(&id("absent"), None).await.expect_err("not there");
    assert_eq!(failures[0].code, ErrorCode::RequestNotFound);
}

#[tokio::test]
async fn answers_are_typed() {
    let script = Script::default();
    script.plans(Ok(plan(&["a", "b"], None)));
    script.has(vec![migration("a", v1::Status::Running)]);
    let coordinator = Coordinator::start(&script).await;
    let client = connected(&coordinator);
    let planned = client.plan(vec![]).await.expect("a plan");
    assert_eq!(planned.migrations[1].waits_for, [id("a")]);
    let answer = client.ask(Verb::Pause, &id("a")).await.expect("an answer");
    assert!(!answer.changed);
    let view = client.get(&id("a"), None).await.expect("a view");
    assert_eq!(view.created_at.as_deref(), Some("2026-09-21T14:13:20Z"));
    assert_eq!(client.list(&[Status::Running]).await.expect("a list").len(), 1);
    assert_eq!(client.shards().await.expect("shards").len(), 1);
    assert!(client.leader().await.expect("a leader").here);
}

#[tokio::test]
async fn nobody_there_is_told_with_the_address() {
    let address = Coordinator::start(&Script::default()).await.kill().await;
    let mut failures =
        client(&[address.to_string()], Duration::ZERO).list(&[]).await.expect_err("nobody listens");
    let failure = failures.remove(0);
    assert_eq!(failure.code, ErrorCode::CoordinatorUnreachable);
    assert!(
        failure.message.contains(&format!("http://{address}: Connection refused")),
        "{}",
        failure.message
    );
}

#[tokio::test]
async fn a_watch_outlives_the_coordinator_and_ends_when_the_migration_rests() {
    let script = Script::default();
    script.has(vec![migration("a", v1::Status::Running)]);
    let coordinator = Coordinator::start(&script).await;
    let mut watch = connected(&coordinator).watch(&id("a"));
    assert_eq!(status(&mut watch).await, Status::Running);

    let address = coordinator.kill().await;
    match news(&mut watch).await {
        Some(Ok(Watched::Lost(failure))) => assert_eq!(failure.code, ErrorCode::CoordinatorUnreachable),
        other => panic!("the loss was not told: {other:?}"),
    }
    script.has(vec![migration("a", v1::Status::Completed)]);
    let (last, _coordinator) = tokio::join!(status(&mut watch), async {
        // Long enough for some vain tries; the loss is told once, so the next news is the view.
        tokio::time::sleep(Duration::from_millis(700)).await;
        Coordinator::start_at(address, &script).await
    });
    assert_eq!(last, Status::Completed);
    assert_eq!(news(&mut watch).await, None);
}

#[tokio::test]
async fn whoever_answers_is_asked_and_whoever_leads_is_followed() {
    let gone = Coordinator::start(&Script::default()).await.kill().await.to_string();
    let (follower, leader) = (Script::default(), Script::default());
    leader.has(vec![migration("a", v1::Status::Completed)]);
    let (first, second) = (Coordinator::start(&follower).await, Coordinator::start(&leader).await);
    let named = v1::Peer { name: "c2".into(), address: second.address.to_string() };
    follower.follows(Some(named));
    let client = client(&[gone, first.url()], Duration::from_secs(10));
    assert_eq!(client.get(&id("a"), None).await.expect("an answer").status, Status::Completed);
    assert!(client.ask(Verb::Start, &id("a")).await.expect("an answer").changed);
    assert_eq!(
        (follower.calls(), leader.calls()),
        (vec!["get"], vec!["get", "start"]),
        "it goes to the leader at once"
    );
    follower.follows(None);
    let mut watch = client.watch(&id("a"));
    assert_eq!(status(&mut watch).await, Status::Completed);
}

#[tokio::test]
async fn a_question_waits_for_a_leader_and_says_so_once() {
    let script = Script::default();
    script.follows(None);
    let coordinator = Coordinator::start(&script).await;
    let told = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&told);
    let client = connected(&coordinator).on_wait(move |failure| {
        assert_eq!(failure.code, ErrorCode::CoordinatorNotLeader);
        count.fetch_add(1, Ordering::SeqCst);
    });
    let (answer, ()) = tokio::join!(client.list(&[]), async {
        let deadline = Instant::now() + Duration::from_secs(8);
        while told.load(Ordering::SeqCst) == 0 {
            assert!(Instant::now() < deadline, "nobody was told that it waits");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        script.leads();
    });
    assert_eq!(answer.expect("answered once somebody leads"), vec![]);
    assert_eq!(told.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn patience_has_an_end_and_then_the_reason_is_told() {
    let script = Script::default();
    script.follows(None);
    let coordinator = Coordinator::start(&script).await;
    let patience = Duration::from_millis(600);
    let began = Instant::now();
    let failures = client(&[coordinator.url()], patience).list(&[]).await.expect_err("nobody leads");
    assert_eq!(failures[0].code, ErrorCode::CoordinatorNotLeader);
    assert!(script.calls().len() > 1, "it was tried once only");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_watch_goes_on_over_a_change_of_the_leader_without_a_word() {
    let (old, new) = (Script::default(), Script::default());
    old.has(vec![migration("a", v1::Status::Running)]);
    new.has(vec![migration("a", v1::Status::Completed)]);
    let (first, second) = (Coordinator::start(&old).await, Coordinator::start(&new).await);
    let mut watch = connected(&first).watch(&id("a"));
    assert_eq!(status(&mut watch).await, Status::Running);
    old.follows(Some(v1::Peer { name: "c2".into(), address: second.address.to_string() }));
    assert_eq!(status(&mut watch).await, Status::Completed);
    assert_eq!(news(&mut watch).await, None);
}

#[tokio::test]
async fn a_watch_of_nothing_is_refused_for_good() {
    let coordinator = Coordinator::start(&Script::default()).await;
    let mut watch = connected(&coordinator).watch(&id("absent"));
    let failures = news(&mut watch).await.expect("an answer").expect_err("not there");
    assert_eq!(failures[0].code, ErrorCode::RequestNotFound);
    assert_eq!(news(&mut watch).await, None);
}

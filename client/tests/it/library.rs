//! The library: typed refusals, and a watch that outlives the coordinator.

use std::time::Duration;

use shardlift_client::{Client, Watch, Watched};
use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::ids::MigrationId;
use shardlift_domain::migration::{Status, Verb};
use shardlift_proto::v1;

use crate::coordinator::{Coordinator, Script, migration, plan};

fn id(text: &str) -> MigrationId {
    MigrationId::new(text).expect("an id")
}

async fn connected(coordinator: &Coordinator) -> Client {
    Client::connect(&coordinator.url().parse().expect("an address")).await.expect("connected")
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
    let client = connected(&coordinator).await;
    assert_eq!(client.plan(vec![]).await, Err(told.clone()));
    assert_eq!(client.submit(vec![], true).await, Err(told));
    let failures = client.get(&id("absent"), None).await.expect_err("not there");
    assert_eq!(failures[0].code, ErrorCode::RequestNotFound);
}

#[tokio::test]
async fn answers_are_typed() {
    let script = Script::default();
    script.plans(Ok(plan(&["a", "b"], None)));
    script.has(vec![migration("a", v1::Status::Running)]);
    let coordinator = Coordinator::start(&script).await;
    let client = connected(&coordinator).await;
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
    let failure =
        Client::connect(&address.to_string().parse().expect("an address")).await.expect_err("nobody listens");
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
    let mut watch = connected(&coordinator).await.watch(&id("a"));
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
async fn a_watch_of_nothing_is_refused_for_good() {
    let coordinator = Coordinator::start(&Script::default()).await;
    let mut watch = connected(&coordinator).await.watch(&id("absent"));
    let failures = news(&mut watch).await.expect("an answer").expect_err("not there");
    assert_eq!(failures[0].code, ErrorCode::RequestNotFound);
    assert_eq!(news(&mut watch).await, None);
}

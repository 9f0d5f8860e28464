//! Which servers and leaders are let in.

use shardlift_domain::ErrorCode;
use shardlift_domain::facts::FactsRequest;
use shardlift_domain::fence::{Epoch, Nonce};
use shardlift_domain::migration::Step;
use shardlift_harness::servers::Mongod;
use shardlift_worker::engine::{EngineError, ShardEngine};

use super::{CLUSTER_UUID, Stage, data, engine, job, lease, marked, numbered};

fn failure(error: EngineError) -> shardlift_domain::Failure {
    error.into_failure()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standalone_server_is_refused_with_the_reason() {
    let server = Mongod::start(false).await.expect("a mongod");
    let of_a_set = format!("{}?replicaSet=rs0", server.dsn("chat"));
    let refusals = [server.dsn("chat"), of_a_set].map(async |dsn: String| {
        let (engine, lease, job) = (engine(&dsn), lease(1, 1, Step::Precheck, None), data(&marked()));
        let (greeted, refused) = tokio::join!(engine.hello(), engine.precheck(&lease, &job));
        let problem = greeted.problem.expect("a problem");
        assert_eq!(problem.code, ErrorCode::ShardStandalone);
        assert!(
            problem.message.contains("no transactions") && problem.next.contains("replSet"),
            "{problem:?}"
        );
        assert_eq!(failure(refused.expect_err("refused")).code, ErrorCode::ShardStandalone);
    });
    futures::future::join_all(refusals).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_is_told_without_the_password() {
    let engine = engine("mongodb://app:canary-secret@127.0.0.1:1/chat?serverSelectionTimeoutMS=300");
    let problem = engine.hello().await.problem.expect("a problem");
    assert_eq!(problem.code, ErrorCode::ShardUnreachable);
    assert!(!format!("{problem:?}").contains("canary"), "{problem:?}");
    for bad in
        ["mongodb://app:canary-secret@h:99999999/x", "mongodb://app:canary-secret@h", "mongodb://h/admin"]
    {
        let (shard, cluster) = ("s".parse().expect("a name"), "c".parse().expect("a name"));
        let refused = shardlift_worker::engine::mongodb::MongodbEngine::new(shard, cluster, bad);
        let refused = refused.err().expect("it is refused");
        assert_eq!(refused.code, ErrorCode::ConfigInvalid);
        assert!(!format!("{refused:?}").contains("canary"), "{refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_another_shard_is_refused() {
    let stage = Stage::set().await;
    stage.engine.identify(CLUSTER_UUID).await.expect("the same again");
    let other = stage.engine.identify("another").await.expect_err("another installation");
    assert_eq!(failure(other).code, ErrorCode::ShardWrongIdentity);
    let elsewhere = engine(&stage.server.dsn("elsewhere"));
    elsewhere.identify("another").await.expect("another database of the set is another shard");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_or_forked_leader_is_refused_by_every_step() {
    let stage = Stage::set().await;
    stage.load(numbered(10)).await;
    let job = marked();
    assert_eq!(stage.engine.hello().await.fence, None);
    stage.engine.split(&lease(5, 1, Step::Split, None), &job, 1).await.expect("ranges");
    let seen = stage.engine.hello().await.fence.expect("a fence");
    assert_eq!((seen.epoch, seen.nonce), (Epoch(5), Nonce("nonce-5".into())));
    let stale = lease(4, 9, Step::Backfill, Some(0));
    let claimed = stage.engine.open_range(&stale, job.clone()).await.err().expect("refused");
    assert_eq!(failure(claimed).code, ErrorCode::FenceStale);
    let checked = stage.engine.precheck(&stale, &data(&job)).await.expect_err("refused");
    assert_eq!(failure(checked).code, ErrorCode::FenceStale);
    let fence = shardlift_domain::Fence { epoch: Epoch(5), nonce: Nonce("other".into()) };
    let token = shardlift_domain::Token { epoch: Epoch(5), attempt: shardlift_domain::Attempt(1) };
    let pulse = shardlift_worker::lease::Pulse::begin(fence, std::time::Duration::from_secs(60));
    let forked = pulse.grant(stale.task().clone(), token);
    let swept = stage.engine.sweep(&forked, &job).await.expect_err("refused");
    assert_eq!(failure(swept).code, ErrorCode::FenceForked);
}

#[tokio::test(flavor = "multi_thread")]
async fn facts_tell_sizes_and_what_is_missing() {
    let stage = Stage::set().await;
    stage.load(numbered(500)).await;
    let request =
        FactsRequest { relations: vec!["messages".into(), "nothing".into()], ..FactsRequest::default() };
    let facts = stage.engine.inspect(&request).await.expect("facts");
    assert_eq!((facts.relations[0].exists, facts.relations[0].rows), (true, 500));
    assert!(facts.relations[0].bytes > 0);
    assert_eq!((facts.relations[1].exists, facts.relations[1].rows), (false, 0));
    assert!(facts.server_version.starts_with(|c: char| c.is_ascii_digit()), "{}", facts.server_version);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_precheck_tells_everything_at_once() {
    let stage = Stage::set().await;
    let precheck = lease(1, 1, Step::Precheck, None);
    let missing = stage.engine.precheck(&precheck, &data(&marked())).await.expect_err("no collection");
    assert_eq!(failure(missing).code, ErrorCode::PrecheckRefused);
    stage.load(numbered(1)).await;
    stage.engine.precheck(&precheck, &data(&marked())).await.expect("all is well");
    let bad = job(
        "  where: { a: { $near: 1, $frobnicate: 2 } }\ntransform:\n  pipeline: [{ $set: { _id: 1 } }, { $set: { a: { $nonsense: 1 } } }]\nverify: [remaining]",
    );
    let told = failure(stage.engine.precheck(&precheck, &data(&bad)).await.expect_err("refused"));
    for part in ["where", "pipeline is refused", "_id", "nonsense"] {
        assert!(told.message.contains(part), "{part} is not in {told:?}");
    }
    let before = stage.engine.hello().await.fence;
    assert_eq!(before, None, "a precheck changes nothing");
}

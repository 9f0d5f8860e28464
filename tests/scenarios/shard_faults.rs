//! Shards that die, refuse, or are not what they are said to be (faults 16, 17).

use std::time::Duration;

use bson::doc;
use serde_json::Value;
use shardlift_harness::dataset::items::{IdKind, KeyKind};
use shardlift_harness::installation::{Installation, WorkerSpec};
use shardlift_harness::proxy::{Cut, Proxy};
use shardlift_harness::servers::{Mongod, shared_postgres};
use shardlift_harness::wait::wait_for;

use crate::stage::{
    DEADLINE, Engine, Form, Items, ItemsSpec, MONGODB, POSTGRES, Play, Specs, VRL, Witness,
    assert_exactly_once, curtain, execute, learns, refused,
};

const ID: &str = "0001_items";
const NONE: Vec<String> = Vec::new();

/// Open files of a process.
fn open_files(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

async fn killed_and_restarted(engine: Engine, form: Form) {
    let items = Items::alone(engine, 6_000).await;
    let play = Play::start(&[&items]).await;
    let witness = Witness::of(&items).await;
    let writer = items.writer(form);
    let worker = play.installation.worker(0);
    play.apply(&[ItemsSpec::new(ID, engine, form).rows_per_second(1_500).text()]).await;
    let mut rows = play.until_rows(ID, 200).await;
    let before = open_files(worker.process().pid());
    items.kill9();
    let troubled = |status: &Value| status["shards"][0]["trouble"]["code"] == "shard.unreachable";
    play.until_status(ID, "its shard's trouble to be told", troubled).await;
    items.restart().await;
    rows = play.until_rows(ID, rows + 200).await;
    items.kill9();
    items.restart().await;
    play.until_rows(ID, rows + 200).await;
    learns(&writer, form);
    play.completed(ID).await;
    play.until("the worker's open files to be what they were", async || {
        let now = open_files(worker.process().pid());
        anyhow::ensure!(now <= before + 4, "{now} after {before}");
        Ok(())
    })
    .await;
    assert_eq!(witness.complaints().await, NONE);
    curtain(&play, ID, &items, form, Some(writer)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_server_killed_twice_ends_with_every_row_changed_once() {
    killed_and_restarted(Engine::Postgres, Form::WithWhere).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_server_killed_twice_ends_with_every_row_changed_once_without_where() {
    killed_and_restarted(Engine::Postgres, Form::WithoutWhere).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mongod_killed_twice_ends_with_every_document_changed_once() {
    killed_and_restarted(Engine::Mongodb, Form::WithWhere).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mongod_killed_twice_ends_with_every_document_changed_once_without_where() {
    killed_and_restarted(Engine::Mongodb, Form::WithoutWhere).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_postgres_is_told_and_waited_for() {
    let items = Items::alone(Engine::Postgres, 4_000).await;
    let play = Play::start(&[&items]).await;
    let spec = ItemsSpec::new(ID, Engine::Postgres, Form::WithoutWhere).rows_per_second(1_500);
    play.apply(&[spec.text()]).await;
    play.until_rows(ID, 300).await;
    items.server().set_read_only(true).await.unwrap();
    let told = |status: &Value| status["shards"][0]["trouble"]["code"] == "shard.read-only";
    let status = play.until_status(ID, "to tell that its shard takes no writes", told).await;
    assert_eq!(status["status"], "running", "it waits, and does not fail: {status:#}");
    items.server().set_read_only(false).await.unwrap();
    play.completed(ID).await;
    curtain(&play, ID, &items, Form::WithoutWhere, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_ended_by_an_administrator_of_postgres_repeat_no_batch() {
    let items = Items::of(Engine::Postgres, 4_000).await;
    let play = Play::start(&[&items]).await;
    let witness = Witness::of(&items).await;
    let spec = ItemsSpec::new(ID, Engine::Postgres, Form::WithoutWhere).transform(VRL).rows_per_second(1_500);
    play.apply(&[spec.text()]).await;
    let mut rows = 0;
    for _ in 0..6 {
        rows = play.until_rows(ID, rows + 50).await;
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                   WHERE datname = current_database() AND application_name LIKE 'shardlift/%'";
        execute(&items.dsn, end).await;
    }
    play.completed(ID).await;
    assert_eq!(witness.complaints().await, NONE);
    curtain(&play, ID, &items, Form::WithoutWhere, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_set_that_elects_anew_repeats_no_batch() {
    let items = Items::of(Engine::Mongodb, 4_000).await;
    let play = Play::start(&[&items]).await;
    let witness = Witness::of(&items).await;
    let spec = ItemsSpec::new(ID, Engine::Mongodb, Form::WithoutWhere).rows_per_second(1_500);
    play.apply(&[spec.text()]).await;
    let mut rows = 0;
    for _ in 0..2 {
        rows = play.until_rows(ID, rows + 200).await;
        play.until("the primary to step down", async || items.mongod().step_down().await).await;
    }
    play.completed(ID).await;
    assert_eq!(witness.complaints().await, NONE);
    curtain(&play, ID, &items, Form::WithoutWhere, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mongod_that_closes_the_connection_at_commits_repeats_no_batch() {
    let items = Items::of(Engine::Mongodb, 3_000).await;
    let play = Play::start(&[&items]).await;
    let witness = Witness::of(&items).await;
    let spec = ItemsSpec::new(ID, Engine::Mongodb, Form::WithoutWhere).rows_per_second(1_500);
    play.apply(&[spec.text()]).await;
    play.until_rows(ID, 100).await;
    let close = doc! { "failCommands": ["commitTransaction"], "closeConnection": true };
    items.mongod().fail_command(doc! { "times": 5 }, close).await.unwrap();
    play.until_rows(ID, 1_000).await;
    // Committed on this member, but the majority was not heard: whether it stays is not known.
    let concern =
        doc! { "code": 64, "errmsg": "waiting for replication timed out", "errInfo": { "wtimeout": true } };
    let unsure = doc! { "failCommands": ["commitTransaction"], "writeConcernError": concern };
    items.mongod().fail_command(doc! { "times": 5 }, unsure).await.unwrap();
    play.completed(ID).await;
    assert_eq!(witness.complaints().await, NONE);
    curtain(&play, ID, &items, Form::WithoutWhere, None).await;
}

/// A reply to a commit is lost between server and worker; what was committed is found out, and never guessed.
async fn replies_are_lost(items: Items, server: String, direct: String, spec: ItemsSpec, pattern: &str) {
    let form = Form::WithoutWhere;
    let proxy = Proxy::start(server.clone()).await.unwrap();
    let worker = items.worker("behind-the-proxy").dsn(&items.shard, &proxy.instead_of(&server, &direct));
    let play = Play::of(Play::builder(&[&items]).worker(worker)).await;
    let witness = Witness::of(&items).await;
    play.apply(&[spec.rows_per_second(1_500).text()]).await;
    for (cuts, cut) in (1..).zip([Cut::after(pattern), Cut::before(pattern)]) {
        proxy.cut(cut);
        let done = async || (proxy.cuts() >= cuts).then_some(());
        wait_for("a commit to be cut", DEADLINE, done).await.unwrap();
    }
    proxy.latency(Duration::from_millis(20));
    play.completed(ID).await;
    proxy.heal();
    assert_eq!(witness.complaints().await, NONE);
    curtain(&play, ID, &items, form, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_of_postgres_that_is_lost_after_the_commit_repeats_no_batch() {
    let items = Items::alone(Engine::Postgres, 3_000).await;
    let server = format!("127.0.0.1:{}", items.server().port());
    let spec = ItemsSpec::new(ID, Engine::Postgres, Form::WithoutWhere).transform(VRL);
    let dsn = items.dsn.clone();
    replies_are_lost(items, server, dsn, spec, "COMMIT").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_of_mongod_that_is_lost_after_the_commit_repeats_no_batch() {
    let items = Items::of(Engine::Mongodb, 3_000).await;
    let server = format!("127.0.0.1:{}", items.mongod().port());
    let spec = ItemsSpec::new(ID, Engine::Mongodb, Form::WithoutWhere);
    let dsn = items.mongod().direct_dsn("items");
    replies_are_lost(items, server, dsn, spec, "commitTransaction").await;
}

/// What `shardlift shards` says of the trouble of a shard, as soon as it says something.
async fn problem(installation: &Installation, shard: &str, code: &str) -> Value {
    let what = format!("{code} to be told of {shard}");
    let asked = wait_for(&what, DEADLINE, async || {
        let shards = installation.cli_json(&["shards"]).await.ok()?;
        let all = shards["shards"].as_array()?.clone();
        all.into_iter().find(|each| each["shard"] == shard && each["problem"]["code"] == code)
    });
    asked.await.unwrap_or_else(|error| panic!("{error:#}\n{}", installation.log_tails(20)))
}

/// The connection strings of two shards are mixed up in the middle of a run, by somebody who edits a worker's file.
async fn mixed_up(one: Items, two: Items) {
    let (engine, form) = (one.engine(), Form::WithoutWhere);
    let right = WorkerSpec::new("right", &[&one.shard, &two.shard]);
    let wrong = WorkerSpec::new("wrong", &[&one.shard, &two.shard])
        .dsn(&one.shard, &two.dsn)
        .dsn(&two.shard, &one.dsn);
    let play = Play::of(Play::builder(&[&one, &two]).worker(right)).await;
    play.apply(&[ItemsSpec::new(ID, engine, form).rows_per_second(1_000).text()]).await;
    let rows = play.until_rows(ID, 200).await;
    let right = play.installation.worker(0);
    right.kill9();
    let wrong = play.installation.add_worker(&wrong).unwrap();
    for items in [&one, &two] {
        let told = problem(&play.installation, &items.shard, "shard.wrong-identity").await;
        assert_eq!(told["reachable"], false, "{told:#}");
    }
    let other = ItemsSpec::new("0002_items", engine, form);
    let complaint = refused(&play.installation, &["plan", Specs::of(&[other.text()]).as_str()], 5).await;
    assert!(complaint.contains("shard.wrong-identity"), "{complaint}");
    let status = play.status(ID).await;
    assert_eq!(status["status"], "running", "{status:#}");
    wrong.kill9();
    right.restart().await.unwrap();
    play.until_rows(ID, rows + 1).await;
    play.completed(ID).await;
    for items in [&one, &two] {
        assert_exactly_once(items, form, None).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_with_the_wrong_postgres_behind_a_shard_is_refused_and_changes_nothing() {
    let one = Items::postgres("pg-01", 2_000, KeyKind::Bigint).await;
    let two = Items::postgres("pg-02", 2_000, KeyKind::Bigint).await;
    mixed_up(one, two).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_with_the_wrong_replica_set_behind_a_shard_is_refused_and_changes_nothing() {
    let one = Items::mongodb("mg-01", 2_000, IdKind::ObjectId).await;
    let two = Items::mongodb("mg-02", 2_000, IdKind::ObjectId).await;
    mixed_up(one, two).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_another_installation_is_refused() {
    let items = Items::of(Engine::Postgres, 100).await;
    let _first = Play::start(&[&items]).await;
    let second = Play::builder(&[&items]).launch().await.unwrap();
    let told = problem(&second, &items.shard, "shard.wrong-identity").await;
    assert!(told["problem"]["message"].as_str().unwrap().contains("another installation"), "{told:#}");
    let spec = ItemsSpec::new(ID, Engine::Postgres, Form::WithWhere).text();
    let complaint = refused(&second, &["apply", Specs::of(&[spec]).as_str(), "--yes"], 5).await;
    assert!(complaint.contains("shard.wrong-identity"), "{complaint}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standalone_mongod_is_refused_with_its_reason() {
    let server = Mongod::start(false).await.unwrap();
    let builder = Installation::builder().shard("mg-01", MONGODB, Engine::Mongodb, &server.dsn("items"));
    let installation = builder.launch().await.unwrap();
    let told = problem(&installation, "mg-01", "shard.standalone").await;
    let reason = told["problem"]["message"].as_str().unwrap();
    assert!(reason.contains("transaction"), "{told:#}");
    assert!(told["problem"]["next"].as_str().unwrap().contains("replicaSet"), "{told:#}");
    let spec = ItemsSpec::new(ID, Engine::Mongodb, Form::WithWhere).text();
    let complaint = refused(&installation, &["apply", Specs::of(&[spec]).as_str(), "--yes"], 5).await;
    assert!(complaint.contains("shard.standalone"), "{complaint}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_that_no_worker_serves_keeps_a_plan_from_being_made() {
    let dsn = shared_postgres().await.unwrap();
    let builder = Installation::builder().shard("pg-01", POSTGRES, Engine::Postgres, &dsn).no_workers();
    let installation = builder.launch().await.unwrap();
    problem(&installation, "pg-01", "shard.no-worker").await;
    let spec = ItemsSpec::new(ID, Engine::Postgres, Form::WithWhere).text();
    let complaint = refused(&installation, &["plan", Specs::of(&[spec]).as_str()], 5).await;
    assert!(complaint.contains("shard.no-worker") && complaint.contains("start a worker"), "{complaint}");
}

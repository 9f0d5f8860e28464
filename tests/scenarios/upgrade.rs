//! An upgrade in mid-run (fault 32): what an earlier release left is continued, what a later one left is refused clearly.
//!
//! `upgrade/*.sql` is what the first release left in its store and in a shard in the middle of a backfill.

use std::path::PathBuf;

use bson::{Document, doc};
use mongodb::{Client, Collection};
use serde_json::Value;
use shardlift_harness::installation::Installation;
use shardlift_harness::wait::wait_for_ok;
use shardlift_proto::v1::fleet_service_client::FleetServiceClient;
use shardlift_proto::v1::{FromWorker, Hello, from_worker, to_worker};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection, Executor};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::stage::{
    DEADLINE, Engine, Form, Items, ItemsSpec, Play, Witness, curtain, execute, scalar, store,
};

const ID: &str = "0001_items";
const NONE: Vec<String> = Vec::new();
const FIRST_STORE: [&str; 2] = [
    include_str!("../../migrations/metadata/sqlite/0001_metadata.sql"),
    include_str!("upgrade/store_0001.sql"),
];
const FIRST_SHARD: [&str; 2] = [
    include_str!("../../worker/src/engine/postgres/bookkeeping/0001.sql"),
    include_str!("upgrade/shard_0001.sql"),
];

/// The file of the coordinator's store.
fn file(installation: &Installation) -> PathBuf {
    installation.directory().join("coordinator.db")
}

/// Replaces the store of a coordinator that was killed by that of the first release.
async fn put_first_store(installation: &Installation) {
    for ending in ["", "-wal", "-shm"] {
        let mut path = file(installation).into_os_string();
        path.push(ending);
        // Not all of them need be there.
        let _ = std::fs::remove_file(path);
    }
    let options = SqliteConnectOptions::new().filename(file(installation)).create_if_missing(true);
    let mut session: SqliteConnection = options.connect().await.unwrap();
    for statements in FIRST_STORE {
        session.execute(sqlx::raw_sql(statements)).await.unwrap();
    }
    session.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_that_the_first_release_began_is_ended_by_this_one() {
    let items = Items::of(Engine::Postgres, 2_000).await;
    for statements in FIRST_SHARD {
        execute(&items.dsn, statements).await;
    }
    let play = Play { installation: Play::builder(&[&items]).no_workers().launch().await.unwrap() };
    let coordinator = play.installation.coordinator();
    coordinator.kill9();
    put_first_store(&play.installation).await;
    coordinator.restart().await.unwrap();
    let status = play.until_status(ID, "to be known", |status| status["status"] == "running").await;
    assert_eq!(
        (&status["phase"], &status["created_at"]),
        (&"data".into(), &"2026-01-05T10:00:01Z".into()),
        "{status:#}"
    );
    let other = ItemsSpec::new("0002_items", Engine::Postgres, Form::WithoutWhere).text();
    play.installation.add_worker(&items.worker("today")).unwrap();
    play.installation.wait_connected().await.unwrap();
    let witness = Witness::of(&items).await;
    play.until("the table to be locked by the migration that runs", async || {
        let held = "SELECT count(*) FROM migration_locks WHERE migration_id = 1";
        let held: i64 = sqlx::query_scalar(held).fetch_one(&mut store(&play).await).await?;
        anyhow::ensure!(held == 1, "{held} locks");
        Ok(())
    })
    .await;
    play.apply(&[other]).await;
    play.completed(ID).await;
    play.completed("0002_items").await;
    assert_eq!(witness.complaints().await, NONE);
    let rows = "SELECT count(*)::text FROM items WHERE applied = 2 AND migrated";
    assert_eq!(scalar(&items.dsn, rows).await, "2000", "each of the two migrations once");
    let epoch =
        "SELECT min(epoch) >= 3 AND max(epoch) > 3 FROM shardlift.checkpoint WHERE migration = '0001_items'";
    assert_eq!(
        scalar(&items.dsn, &format!("SELECT ({epoch})::text")).await,
        "true",
        "epochs go on from the store's"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_a_newer_release_has_used_is_refused() {
    let items = Items::of(Engine::Postgres, 10).await;
    let play = Play { installation: Play::builder(&[&items]).no_workers().launch().await.unwrap() };
    let coordinator = play.installation.coordinator();
    coordinator.stop().await.unwrap();
    let newer = "INSERT INTO _sqlx_migrations VALUES (99, 'future', '2030-01-01 00:00:00', 1, X'00', 1)";
    store(&play).await.execute(newer).await.unwrap();
    coordinator.process().start_again().unwrap();
    let ended = coordinator.process().wait_exit(DEADLINE).await.unwrap();
    let said = coordinator.process().log_tail(10);
    assert!(!ended.success(), "{said}");
    assert!(said.contains("a newer release has used it (its tables are at number 99)"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_that_a_newer_release_has_used_is_refused() {
    let items = Items::of(Engine::Postgres, 10).await;
    let play = Play::start(&[&items]).await;
    play.until("the worker to have made its tables", async || {
        let there =
            scalar(&items.dsn, "SELECT (to_regclass('shardlift.bookkeeping') IS NOT NULL)::text").await;
        anyhow::ensure!(there == "true", "they are not there yet");
        Ok(())
    })
    .await;
    execute(&items.dsn, "INSERT INTO shardlift.bookkeeping (version) VALUES (99)").await;
    let worker = play.installation.worker(0);
    worker.restart().await.unwrap();
    let told = wait_for_ok("the shard to be refused", DEADLINE, async || {
        let shards = play.installation.cli_json(&["shards"]).await?;
        let problem = shards["shards"][0]["problem"].clone();
        anyhow::ensure!(problem["code"] == "shard.refused", "{shards:#}");
        Ok(problem)
    });
    let told: Value = told.await.unwrap();
    assert!(told["message"].as_str().unwrap().contains("of a newer release (edition 99)"), "{told:#}");
    assert_eq!(told["next"], "upgrade this worker", "{told:#}");
}

async fn mongodb_checkpoints(items: &Items) -> Collection<Document> {
    Client::with_uri_str(&items.dsn).await.unwrap().database("shardlift").collection("checkpoint")
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_of_mongodb_from_before_they_had_a_form_are_continued_and_newer_ones_left_alone() {
    let (items, form) = (Items::of(Engine::Mongodb, 3_000).await, Form::WithoutWhere);
    let play = Play::start(&[&items]).await;
    let witness = Witness::of(&items).await;
    play.apply(&[ItemsSpec::new(ID, Engine::Mongodb, form).rows_per_second(1_000).text()]).await;
    let rows = play.until_rows(ID, 300).await;
    let worker = play.installation.worker(0);
    worker.kill9();
    let checkpoints = mongodb_checkpoints(&items).await;
    let all = async |change: Document| checkpoints.update_many(doc! {}, change).await.unwrap();
    all(doc! { "$unset": { "form": "" } }).await;
    worker.restart().await.unwrap();
    play.until_rows(ID, rows + 300).await;
    worker.kill9();
    all(doc! { "$set": { "form": 2_i64 } }).await;
    worker.restart().await.unwrap();
    let told = |status: &Value| status["shards"][0]["trouble"]["code"] == "worker.outdated";
    play.until_status(ID, "the shard to say that its worker is outdated", told).await;
    all(doc! { "$set": { "form": 1_i64 } }).await;
    play.completed(ID).await;
    assert_eq!(witness.complaints().await, NONE);
    curtain(&play, ID, &items, form, None).await;
}

/// What the coordinator answers to a worker of another release.
async fn greeted(play: &Play, name: &str, oldest: u32, newest: u32) -> Result<to_worker::Message, String> {
    let mut client = FleetServiceClient::connect(play.installation.url()).await.unwrap();
    let hello = Hello { worker: name.into(), version: "9.9.9".into(), slots: 1, ..Hello::default() };
    let hello = Hello { protocol: newest, oldest_protocol: oldest, ..hello };
    let (out, queue) = mpsc::channel(1);
    out.send(FromWorker { message: Some(from_worker::Message::Hello(hello)) }).await.unwrap();
    let orders = client.session(ReceiverStream::new(queue)).await;
    let first = orders.map_err(|status| status.message().to_owned())?.into_inner().message().await.unwrap();
    Ok(first.and_then(|first| first.message).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_of_the_first_protocol_is_welcome_and_one_without_a_common_version_is_told_what_to_do() {
    let items = Items::of(Engine::Postgres, 10).await;
    let play = Play::start(&[&items]).await;
    let old = greeted(&play, "old", 0, 1).await;
    assert!(matches!(old, Ok(to_worker::Message::Welcome(_))), "{old:?}");
    let both = greeted(&play, "newer", 1, 77).await;
    assert!(matches!(both, Ok(to_worker::Message::Welcome(_))), "{both:?}");
    let ancient = greeted(&play, "ancient", 0, 0).await.unwrap_err();
    assert!(ancient.contains("speaks protocol 0"), "{ancient}");
    let future = greeted(&play, "future", 77, 77).await.unwrap_err();
    assert!(future.contains("speaks protocol 77"), "{future}");
}

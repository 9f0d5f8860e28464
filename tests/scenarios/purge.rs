//! Before-images are given up (promise P8): by a person or by time, never while they may be needed, and removed to the last one
//! whoever dies meanwhile.

use std::os::unix::process::ExitStatusExt;

use bson::doc;
use shardlift_harness::installation::Output;

use crate::stage::{DEADLINE, Engine, Form, Items, ItemsSpec, Play, assert_nothing_left, collection, scalar};

const ID: &str = "0001_items";
const ROWS: u64 = 1_500;
const SIGABRT: i32 = 6;

fn kept(engine: Engine) -> ItemsSpec {
    ItemsSpec::new(ID, engine, Form::WithWhere).batch("{ target: 50ms, min: 40, max: 60 }")
}

async fn apply(play: &Play, spec: &ItemsSpec) {
    play.apply(&[format!("{}undo: capture\n", spec.text())]).await;
}

async fn cli(play: &Play, args: &[&str]) -> Output {
    play.installation.cli(args).await.unwrap()
}

/// Entries of the undo log.
async fn images(items: &Items) -> u64 {
    match items.engine() {
        Engine::Postgres => {
            scalar(&items.dsn, "SELECT count(*)::text FROM shardlift.undo").await.parse().unwrap()
        }
        Engine::Mongodb => {
            let own = collection(&items.dsn)
                .await
                .client()
                .database("shardlift")
                .collection::<bson::Document>("undo");
            own.count_documents(doc! {}).await.unwrap()
        }
    }
}

async fn gone(play: &Play, items: &Items) {
    play.until_status(ID, "to be purged", |status| status["before_images"] == "purged").await;
    assert_eq!(images(items).await, 0);
}

/// A person purges; worker and coordinator die while that lasts.
async fn purged_whoever_dies(engine: Engine, point: &str) {
    let items = Items::of(engine, ROWS).await;
    let play = Play::start(&[&items]).await;
    apply(&play, &kept(engine).rows_per_second(1_000)).await;
    play.until_rows(ID, 200).await;
    let early = play.refused(&["purge", ID, "--yes"], 7).await;
    assert!(early.contains("it has not ended"), "{early}");
    play.completed(ID).await;
    assert!(images(&items).await > 0);
    assert_eq!(play.status(ID).await["before_images"], serde_json::Value::Null);

    let worker = play.installation.worker(0);
    worker.set_failpoints(&format!("{point}=return"));
    worker.restart().await.unwrap();
    let purge = cli(&play, &["purge", ID, "--yes"]).await;
    assert_eq!(purge.code, Some(0), "{purge:#?}");
    let status = worker.process().wait_exit(DEADLINE).await.unwrap();
    assert_eq!(status.signal(), Some(SIGABRT), "{}", worker.process().log_tail(20));
    // What was asked for is stored: there is no way back although nothing is gone yet.
    let refused = play.refused(&["rollback", ID, "--yes"], 7).await;
    assert!(refused.contains("before-images were purged"), "{refused}");
    let coordinator = play.installation.coordinator();
    coordinator.kill9();
    coordinator.restart().await.unwrap();
    let refused = play.refused(&["rollback", ID, "--yes"], 7).await;
    assert!(refused.contains("before-images were purged"), "{refused}");
    worker.set_failpoints("");
    worker.restart().await.unwrap();
    gone(&play, &items).await;
    let again = cli(&play, &["purge", ID, "--yes"]).await;
    assert!(again.code == Some(0) && again.stdout.contains("nothing changed"), "{again:#?}");
    let refused = play.refused(&["mismatches", ID], 7).await;
    assert!(refused.contains("purged"), "{refused}");
    assert_nothing_left(&items).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn before_images_of_postgres_are_purged_to_the_last_one_whoever_dies() {
    purged_whoever_dies(Engine::Postgres, "pg-purge-before-commit").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn before_images_of_mongodb_are_purged_to_the_last_one_whoever_dies() {
    purged_whoever_dies(Engine::Mongodb, "mg-purge-before-commit").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn before_images_of_a_completed_migration_are_purged_when_their_time_is_over() {
    let items = Items::of(Engine::Postgres, ROWS).await;
    let play = Play::of(Play::builder(&[&items]).coordinator_env("SHARDLIFT__UNDO__PURGE_AFTER", "0s")).await;
    apply(&play, &kept(Engine::Postgres)).await;
    play.completed(ID).await;
    gone(&play, &items).await;
    let refused = play.refused(&["rollback", ID, "--yes"], 7).await;
    assert!(refused.contains("before-images were purged"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_keeps_nothing_or_is_given_up_is_purged_or_says_why_not() {
    let items = Items::of(Engine::Postgres, ROWS).await;
    let play = Play::start(&[&items]).await;
    apply(&play, &kept(Engine::Postgres).rows_per_second(400)).await;
    play.until_rows(ID, 200).await;
    let cancelled = cli(&play, &["cancel", ID]).await;
    assert_eq!(cancelled.code, Some(0), "{cancelled:#?}");
    assert!(images(&items).await > 0);
    let purge = cli(&play, &["purge", ID, "--yes"]).await;
    assert_eq!(purge.code, Some(0), "{purge:#?}");
    gone(&play, &items).await;
    play.apply(&[ItemsSpec::new("0002_rest", Engine::Postgres, Form::WithWhere).text()]).await;
    play.completed("0002_rest").await;
    let refused = play.refused(&["purge", "0002_rest", "--yes"], 7).await;
    assert!(refused.contains("keeps no before-images"), "{refused}");
}

//! Uniqueness over all shards: nothing is completed while two rows are the same, wherever they are, whoever dies meanwhile.

use std::os::unix::process::ExitStatusExt;

use bson::doc;

use crate::stage::{
    DEADLINE, Engine, Form, Items, ItemsSpec, Play, assert_exactly_once, assert_nothing_left, collection,
    execute, scalar,
};
use shardlift_harness::dataset::items::KeyKind;

const ID: &str = "0001_items";
const ROWS: u64 = 300;
const SIGABRT: i32 = 6;

fn asking(engine: Engine) -> String {
    let spec = ItemsSpec::new(ID, engine, Form::WithWhere).batch("{ target: 50ms, min: 40, max: 60 }");
    spec.verify("[remaining, { unique: { fields: [tenant, external] } }]").text()
}

/// Every row has fields of its own, on this shard and on all others.
async fn numbered(items: &Items) {
    let add = "ALTER TABLE items ADD COLUMN tenant integer, ADD COLUMN external text";
    execute(&items.dsn, add).await;
    let fill = format!("UPDATE items SET tenant = 1, external = '{}-' || id", items.shard);
    execute(&items.dsn, &fill).await;
}

/// What of digests stands in a shard.
async fn kept(items: &Items) -> (u64, u64) {
    match items.engine() {
        Engine::Postgres => {
            let count = async |of: &str| {
                scalar(&items.dsn, &format!("SELECT count(*)::text FROM shardlift.{of}"))
                    .await
                    .parse()
                    .unwrap()
            };
            (count("collected").await, count("collecting").await)
        }
        Engine::Mongodb => {
            let own = collection(&items.dsn).await.client().database("shardlift");
            let count =
                async |of: &str| own.collection::<bson::Document>(of).count_documents(doc! {}).await.unwrap();
            (count("collected").await, count("collecting").await)
        }
    }
}

async fn nothing_kept(play: &Play, items: &Items) {
    play.until("digests to be removed", async || {
        let kept = kept(items).await;
        anyhow::ensure!(kept == (0, 0), "{kept:?}");
        Ok(())
    })
    .await;
    assert_nothing_left(items).await;
}

/// The reason of a halt, as a person reads it.
async fn halted(play: &Play) -> String {
    let status = play.reached(ID, "paused").await;
    assert_eq!(status["halted"]["code"], "verify.mismatch", "{status:#}");
    status["halted"]["message"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_the_same_on_two_shards_of_postgres_halt_it_with_their_keys_whoever_dies() {
    let one = Items::postgres("pg-01", ROWS, KeyKind::Bigint).await;
    let two = Items::postgres("pg-02", ROWS, KeyKind::Bigint).await;
    for items in [&one, &two] {
        numbered(items).await;
    }
    let key = async |items: &Items, of: &str| {
        scalar(&items.dsn, &format!("SELECT {of}(id)::text FROM items")).await
    };
    let (first, last) = (key(&one, "min").await, key(&two, "max").await);
    for (items, key) in [(&one, &first), (&two, &last)] {
        execute(&items.dsn, &format!("UPDATE items SET external = 'same' WHERE id = {key}")).await;
    }
    let dying = two.worker("worker-02").failpoints("pg-collect-before-commit=2*off->return");
    let builder = Play::builder(&[&one, &two]).worker(one.worker("worker-01")).worker(dying);
    let builder = builder.coordinator_failpoints("before-compared=return");
    let play = Play::of(builder).await;
    let coordinator = play.installation.coordinator();
    play.apply(&[asking(Engine::Postgres)]).await;

    let worker = play.installation.worker(1);
    let ended = worker.process().wait_exit(DEADLINE).await.unwrap();
    assert_eq!(ended.signal(), Some(SIGABRT), "{}", worker.process().log_tail(20));
    worker.set_failpoints("");
    worker.restart().await.unwrap();
    let ended = coordinator.process().wait_exit(DEADLINE).await.unwrap();
    assert_eq!(ended.signal(), Some(SIGABRT), "{}", coordinator.process().log_tail(20));
    // Whoever compares next waits for a shard that is out of reach, and says so.
    worker.kill9();
    coordinator.set_failpoints("");
    coordinator.restart().await.unwrap();
    play.until_status(ID, "to wait for pg-02", |status| {
        let shards = status["shards"].as_array().into_iter().flatten();
        let waits = |shard: &serde_json::Value| {
            shard["shard"] == "pg-02" && shard["trouble"]["code"] == "shard.no-worker"
        };
        status["status"] == "running" && shards.clone().any(waits)
    })
    .await;
    worker.restart().await.unwrap();

    let told = halted(&play).await;
    for part in [
        format!("row {first} of shard pg-01"),
        format!("row {last} of shard pg-02"),
        "tenant, external".into(),
    ] {
        assert!(told.contains(&part), "{part}: {told}");
    }
    execute(&two.dsn, &format!("UPDATE items SET external = 'other' WHERE id = {last}")).await;
    let resumed = play.installation.cli(&["resume", ID]).await.unwrap();
    assert_eq!(resumed.code, Some(0), "{resumed:#?}");
    play.completed(ID).await;
    for items in [&one, &two] {
        nothing_kept(&play, items).await;
        assert_exactly_once(items, Form::WithWhere, None).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_that_are_the_same_halt_it_and_what_is_given_up_leaves_no_digest() {
    let items = Items::of(Engine::Mongodb, ROWS).await;
    let documents = collection(&items.dsn).await;
    let fill = vec![doc! { "$set": { "tenant": 1, "external": { "$toString": "$_id" } } }];
    documents.update_many(doc! {}, fill).await.unwrap();
    let mut keys = Vec::new();
    for tenant in [bson::Bson::Int32(1), bson::Bson::Double(1.0)] {
        let same = doc! { "$set": { "external": "same", "tenant": tenant } };
        let found =
            documents.find_one_and_update(doc! { "external": { "$ne": "same" } }, same).await.unwrap();
        keys.push(found.unwrap().get_object_id("_id").unwrap().to_hex());
    }
    let play = Play::of(
        Play::builder(&[&items])
            .worker(items.worker("worker").failpoints("mg-collect-before-commit=2*off->return")),
    )
    .await;
    play.apply(&[asking(Engine::Mongodb)]).await;
    let worker = play.installation.worker(0);
    let ended = worker.process().wait_exit(DEADLINE).await.unwrap();
    assert_eq!(ended.signal(), Some(SIGABRT), "{}", worker.process().log_tail(20));
    worker.set_failpoints("");
    worker.restart().await.unwrap();

    let told = halted(&play).await;
    assert!(keys.iter().all(|key| told.contains(key.as_str())), "{keys:?}: {told}");
    assert_eq!(kept(&items).await, (ROWS, 1), "a resume may follow");
    let cancelled = play.installation.cli(&["cancel", ID]).await.unwrap();
    assert_eq!(cancelled.code, Some(0), "{cancelled:#?}");
    nothing_kept(&play, &items).await;
}

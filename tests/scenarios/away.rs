//! A worker is far away from its shard and from its coordinator (fault 15). These scenarios wait for a minute and need hardly any
//! processor: their name has them run early, beside others that do.

use std::time::Duration;

use shardlift_harness::proxy::Proxy;

use crate::stage::{Engine, Form, Items, ItemsSpec, Play, Witness, curtain};

const ID: &str = "0001_items";
const NONE: Vec<String> = Vec::new();

/// A worker has a round trip of 200 ms to its shard and to its coordinator.
async fn far_away(engine: Engine) {
    let (items, form) = (Items::alone(engine, 600).await, Form::WithoutWhere);
    let (shard, dsn) = items.through_a_proxy().await;
    let play = Play { installation: Play::builder(&[&items]).no_workers().launch().await.unwrap() };
    let coordinator = Proxy::start(play.installation.address().to_string()).await.unwrap();
    let url = format!("http://{}", coordinator.address());
    let worker = items.worker("far-away").dsn(&items.shard, &dsn).coordinator(&url);
    let worker = play.installation.add_worker(&worker).unwrap();
    play.installation.wait_connected().await.unwrap();
    let witness = Witness::of(&items).await;
    for proxy in [&shard, &coordinator] {
        proxy.latency(Duration::from_millis(100));
    }
    // Each step costs some forty round trips, so there are few of them.
    let spec = ItemsSpec::new(ID, engine, form)
        .batch("{ target: 5s, min: 100, max: 400 }")
        .parallel("{ ranges: 2, workers: 2 }");
    play.apply(&[spec.text()]).await;
    play.completed(ID).await;
    let sessions = worker.process().log_text().matches("connected").count();
    assert_eq!(
        sessions,
        1,
        "a slow link is no reason to lose a lease of 1.5 s\n{}",
        worker.process().log_tail(30)
    );
    assert_eq!(witness.complaints().await, NONE);
    curtain(&play, ID, &items, form, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_of_postgres_that_is_200_ms_away_keeps_its_lease() {
    far_away(Engine::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_of_mongodb_that_is_200_ms_away_keeps_its_lease() {
    far_away(Engine::Mongodb).await;
}

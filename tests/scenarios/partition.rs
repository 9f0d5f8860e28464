//! The network between worker and coordinator is bad, and a link that breaks (faults 14, 15). What takes long stands in
//! [`crate::away`] and [`crate::cut_off`].

use std::time::Duration;

use shardlift_harness::proxy::{Direction, Proxy};

use crate::stage::{Engine, Form, Items, ItemsSpec, Play, Witness, curtain};

const ID: &str = "0001_items";
const NONE: Vec<String> = Vec::new();

/// One worker hears nothing of its coordinator any more; another one takes over; then the link heals.
async fn parted(engine: Engine, form: Form, direction: Option<Direction>) {
    let items = Items::of(engine, 4_000).await;
    let play = Play { installation: Play::builder(&[&items]).no_workers().launch().await.unwrap() };
    let proxy = Proxy::start(play.installation.address().to_string()).await.unwrap();
    let url = format!("http://{}", proxy.address());
    let cut_off = play.installation.add_worker(&items.worker("cut-off").coordinator(&url)).unwrap();
    play.installation.wait_connected().await.unwrap();
    let witness = Witness::of(&items).await;
    play.apply(&[ItemsSpec::new(ID, engine, form).rows_per_second(1_200).text()]).await;
    let rows = play.until_rows(ID, 300).await;
    match direction {
        Some(direction) => proxy.stall(direction),
        None => proxy.stall_both(),
    }
    play.installation.add_worker(&items.worker("heir")).unwrap();
    play.until_rows(ID, rows + 500).await;
    proxy.heal();
    play.until("the first worker to be back", async || {
        let connected = cut_off.process().log_text().matches("connected").count();
        anyhow::ensure!(connected >= 2, "connected {connected} times");
        Ok(())
    })
    .await;
    play.completed(ID).await;
    assert_eq!(witness.complaints().await, NONE);
    curtain(&play, ID, &items, form, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_cut_off_from_its_coordinator_stops_and_another_goes_on() {
    parted(Engine::Postgres, Form::WithoutWhere, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_hears_but_is_not_heard_stops_and_another_goes_on() {
    parted(Engine::Postgres, Form::WithoutWhere, Some(Direction::ToServer)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_of_mongodb_cut_off_from_its_coordinator_stops_and_another_goes_on() {
    parted(Engine::Mongodb, Form::WithoutWhere, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_to_postgres_that_is_slow_and_breaks_again_and_again_repeats_no_batch() {
    let items = Items::alone(Engine::Postgres, 3_000).await;
    let server = format!("127.0.0.1:{}", items.server().port());
    let proxy = Proxy::start(server.clone()).await.unwrap();
    let worker = items.worker("far-away").dsn(&items.shard, &proxy.instead_of(&server, &items.dsn));
    let play = Play::of(Play::builder(&[&items]).worker(worker)).await;
    let witness = Witness::of(&items).await;
    let spec = ItemsSpec::new(ID, Engine::Postgres, Form::WithoutWhere).rows_per_second(1_500);
    play.apply(&[spec.text()]).await;
    proxy.latency(Duration::from_millis(15));
    let mut rows = 0;
    for _ in 0..4 {
        rows = play.until_rows(ID, rows + 50).await;
        proxy.reset_all();
    }
    proxy.heal();
    play.completed(ID).await;
    assert_eq!(witness.complaints().await, NONE);
    curtain(&play, ID, &items, Form::WithoutWhere, None).await;
}

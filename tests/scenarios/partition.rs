//! The network between worker and coordinator, and between worker and shard, is bad (faults 14, 15).

use std::time::Duration;

use shardlift_harness::proxy::{Direction, Proxy};
use shardlift_harness::wait::wait_for;

use crate::stage::{
    DEADLINE, Engine, Form, Items, ItemsSpec, Play, VRL, Witness, curtain, open_transactions,
};

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

/// A proxy to the server of a shard that may be killed, and the connection string through it.
async fn through_a_proxy(items: &Items) -> (Proxy, String) {
    let (port, direct) = match items.engine() {
        Engine::Postgres => (items.server().port(), items.dsn.clone()),
        // A client that asks for the members of the set goes around the proxy.
        Engine::Mongodb => (items.mongod().port(), items.mongod().direct_dsn("items")),
    };
    let server = format!("127.0.0.1:{port}");
    let proxy = Proxy::start(server.clone()).await.unwrap();
    let dsn = proxy.instead_of(&server, &direct);
    (proxy, dsn)
}

/// A worker has a round trip of 200 ms to its shard and to its coordinator.
async fn far_away(engine: Engine) {
    let (items, form) = (Items::alone(engine, 600).await, Form::WithoutWhere);
    let (shard, dsn) = through_a_proxy(&items).await;
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

/// MongoDB ends what was open for 60 s, and looks every 30 s.
const LATE_IN_MONGODB: Duration = Duration::from_secs(100);

/// The link between a worker and its shard goes down in the middle of a batch, while both live and the coordinator
/// hears the worker: nobody resets anything. What it had open in the shard ends in time, and the work goes on.
async fn parted_from_its_shard(engine: Engine, direction: Option<Direction>) {
    let (items, form) = (Items::alone(engine, 4_000).await, Form::WithoutWhere);
    let (proxy, dsn) = through_a_proxy(&items).await;
    let play =
        Play::of(Play::builder(&[&items]).worker(items.worker("cut-off").dsn(&items.shard, &dsn))).await;
    let witness = Witness::of(&items).await;
    let spec = ItemsSpec::new(ID, engine, form).rows_per_second(1_200);
    let spec = match engine {
        // Several statements, so that the link can go down between them.
        Engine::Postgres => spec.transform(VRL),
        Engine::Mongodb => spec,
    };
    play.apply(&[spec.text()]).await;
    let rows = play.until_rows(ID, 300).await;
    proxy.latency(Duration::from_millis(30));
    let open = async || (open_transactions(&items).await > 0).then_some(());
    wait_for("a batch to be open", DEADLINE, open).await.unwrap();
    match direction {
        Some(direction) => proxy.stall(direction),
        None => proxy.stall_both(),
    }
    let ended = async || (open_transactions(&items).await == 0).then_some(());
    if engine == Engine::Postgres {
        // The server notices by itself; MongoDB only after a minute, or when a new owner says so.
        wait_for("what was open to be ended", DEADLINE, ended).await.unwrap();
    }
    play.installation.add_worker(&items.worker("heir")).unwrap();
    play.until_rows(ID, rows + 500).await;
    play.completed(ID).await;
    wait_for("what was open to be ended by its heir", DEADLINE, ended).await.unwrap();
    proxy.heal();
    assert_eq!(witness.complaints().await, NONE);
    if engine == Engine::Mongodb {
        // A command that was under way opens its transaction only now, and nobody knows of it but the server.
        wait_for("what a late command has opened to be ended", LATE_IN_MONGODB, ended).await.unwrap();
    }
    curtain(&play, ID, &items, form, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_cut_off_from_its_postgres_leaves_no_lock_and_another_goes_on() {
    parted_from_its_shard(Engine::Postgres, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_does_not_hear_its_postgres_leaves_no_lock_and_another_goes_on() {
    parted_from_its_shard(Engine::Postgres, Some(Direction::ToClient)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_cut_off_from_its_mongodb_leaves_nothing_open_and_another_goes_on() {
    parted_from_its_shard(Engine::Mongodb, None).await;
}

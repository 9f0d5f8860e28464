//! The link between a worker and its shard goes down in both directions or in one (faults 14, 15). These scenarios wait for a minute
//! and need hardly any processor: they stand apart from other patient ones, so that not all run at once.

use std::time::Duration;

use shardlift_harness::proxy::Direction;
use shardlift_harness::wait::wait_for;

use crate::stage::{
    DEADLINE, Engine, Form, Items, ItemsSpec, Play, VRL, Witness, curtain, open_transactions,
};

const ID: &str = "0001_items";
const NONE: Vec<String> = Vec::new();

/// The link between a worker and its shard goes down in the middle of a batch, while both live and the coordinator
/// hears the worker: nobody resets anything. What it had open in the shard ends in time, and the work goes on.
async fn parted_from_its_shard(engine: Engine, direction: Option<Direction>) {
    let (items, form) = (Items::alone(engine, 4_000).await, Form::WithoutWhere);
    let (proxy, dsn) = items.through_a_proxy().await;
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
    if engine == Engine::Mongodb {
        // The server ends what is open for too long: for a minute, unless somebody says otherwise.
        items.mongod().set_parameter("transactionLifetimeLimitSeconds", 10).await.unwrap();
    }
    proxy.heal();
    assert_eq!(witness.complaints().await, NONE);
    if engine == Engine::Mongodb {
        // A command that was under way opens its transaction only now, and nobody knows of it but the server.
        wait_for("what a late command has opened to be ended", DEADLINE, ended).await.unwrap();
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

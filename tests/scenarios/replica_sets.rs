//! MongoDB as it runs in production: a replica set of three members that changes its primary, and a server that ends long
//! transactions (fault 17).

use bson::{Document, doc};
use mongodb::Client;
use shardlift_harness::dataset::items::IdKind;

use crate::stage::{Engine, Form, Items, ItemsSpec, Play, Witness, checkpoints, curtain, learns};

const ID: &str = "0001_items";
const NONE: Vec<String> = Vec::new();

/// Batches wait for a secondary that applies nothing, and say so; they go on by themselves when it has come closer.
async fn waits_for_a_secondary(play: &Play, items: &Items) {
    let held = items.replica_set().hold_back_a_secondary().await.unwrap();
    play.until("batches to wait for the secondary", async || {
        let status = play.installation.status(ID).await?;
        let trouble = &status["shards"][0]["trouble"];
        let told = trouble["message"].as_str().unwrap_or_default();
        anyhow::ensure!(trouble["code"] == "shard.lagging" && told.contains("127.0.0.1:"), "{status:#}");
        Ok(())
    })
    .await;
    items.replica_set().let_go(held).await.unwrap();
    play.until("batches to go on", async || {
        let status = play.installation.status(ID).await?;
        anyhow::ensure!(status["shards"][0]["trouble"].is_null(), "{status:#}");
        Ok(())
    })
    .await;
}

/// The primary changes in the middle of a backfill, with the application writing.
async fn another_primary(form: Form, change: impl AsyncFn(&Items)) {
    let items = Items::replicated("mg-01", 5_000).await;
    let play = Play::start(&[&items]).await;
    let witness = Witness::of(&items).await;
    let writer = items.writer(form);
    // Two changes of the primary, of some seconds each on a busy machine, must fit into the run.
    let spec = ItemsSpec::new(ID, Engine::Mongodb, form).rows_per_second(400).max_replica_lag("2s");
    play.apply(&[spec.text()]).await;
    let mut rows = 0;
    if form == Form::WithWhere {
        play.until_rows(ID, 1).await;
        waits_for_a_secondary(&play, &items).await;
    }
    for _ in 0..2 {
        rows = play.until_rows(ID, rows + 200).await;
        change(&items).await;
    }
    play.until_rows(ID, rows + 200).await;
    learns(&writer, form);
    play.completed(ID).await;
    assert_eq!(witness.complaints().await, NONE);
    curtain(&play, ID, &items, form, Some(writer)).await;
}

async fn stepped_down(items: &Items) {
    items.replica_set().step_down().await.unwrap();
}

async fn killed(items: &Items) {
    let (former, _) = items.replica_set().kill9_primary().await.unwrap();
    items.replica_set().restart(former).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_of_three_that_steps_down_repeats_no_batch() {
    another_primary(Form::WithWhere, stepped_down).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_of_three_that_steps_down_repeats_no_batch_without_where() {
    another_primary(Form::WithoutWhere, stepped_down).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_of_three_that_is_killed_repeats_no_batch() {
    another_primary(Form::WithWhere, killed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_of_three_that_is_killed_repeats_no_batch_without_where() {
    another_primary(Form::WithoutWhere, killed).await;
}

/// Transactions that a server has ended so far.
async fn aborted(dsn: &str) -> i64 {
    let client = Client::with_uri_str(dsn).await.unwrap();
    let status: Document = client.database("admin").run_command(doc! { "serverStatus": 1 }).await.unwrap();
    status.get_document("transactions").unwrap().get_i64("totalAborted").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_shrink_until_they_fit_into_transactions_of_one_second() {
    let (items, form) = (Items::mongodb("mg-01", 4_000, IdKind::ObjectId).await, Form::WithoutWhere);
    items.mongod().set_parameter("transactionLifetimeLimitSeconds", 1).await.unwrap();
    let play = Play::start(&[&items]).await;
    let witness = Witness::of(&items).await;
    let before = aborted(&items.dsn).await;
    // Some milliseconds for each document, and a wish for transactions of half a minute.
    let slow = "function(n) { const begun = Date.now(); while (Date.now() - begun < 5) {} return n; }";
    let applied =
        format!("{{ $add: [{{ $function: {{ body: \"{slow}\", args: [$applied], lang: js }} }}, 1] }}");
    let spec = ItemsSpec::new(ID, Engine::Mongodb, form)
        .transform(&format!("pipeline: [{{ $set: {{ applied: {applied}, migrated: true }} }}]"))
        .batch("{ target: 30s, min: 10, max: 4000 }")
        .parallel("{ ranges: 2, workers: 2 }");
    play.apply(&[spec.text()]).await;
    play.completed(ID).await;
    assert!(aborted(&items.dsn).await > before, "no transaction was ended by the server");
    let ranges = checkpoints(&items, ID).await;
    let (rows, batches): (u64, u64) =
        (ranges.iter().map(|r| r.rows).sum(), ranges.iter().map(|r| r.batches).sum());
    assert!(rows / batches < 600, "{rows} documents in {batches} batches: they did not shrink");
    assert_eq!(witness.complaints().await, NONE);
    curtain(&play, ID, &items, form, None).await;
}

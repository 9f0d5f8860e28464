//! Rows that cannot be changed are set aside (faults 21, 22, 24): exactly those, while the application writes and
//! workers die; a person decides about them.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;

use bson::{Document, doc};
use futures::TryStreamExt;
use serde_json::Value;
use shardlift_harness::dataset::items::{IdKind, KeyKind};
use shardlift_harness::writer::{ItemsOptions, ItemsWriter};

use crate::stage::{
    DEADLINE, Engine, Form, Items, ItemsSpec, Play, assert_agreed, assert_exactly_once, assert_nothing_left,
    collection, curtain, execute, scalar,
};

const ID: &str = "0001_items";
const SIGABRT: i32 = 6;
/// The keys of PostgreSQL are 2, 4, 6, …
const BAD_ROWS: [i64; 4] = [2, 300, 1_234, 2_000];
/// Those of MongoDB are -1000, -990, …
const BAD_DOCUMENTS: [i64; 3] = [-1_000, 170, 5_170];

fn spec(engine: Engine, transform: &str, budget: u32) -> ItemsSpec {
    ItemsSpec::new(ID, engine, Form::WithWhere)
        .transform(transform)
        .on_error(&format!("{{ quarantine: {{ budget: {budget} }} }}"))
}

/// The application, which leaves keys alone, so that a bad row keeps its own.
fn application(items: &Items) -> ItemsWriter {
    items.writer_with(ItemsOptions { rate_per_second: 60, new_form: false, key_updates: false })
}

fn shown(engine: Engine, key: i64) -> String {
    match engine {
        Engine::Postgres => key.to_string(),
        Engine::Mongodb => format!("{{\"$numberLong\":\"{key}\"}}"),
    }
}

/// The list as the command line gives it.
async fn list(play: &Play) -> Vec<Value> {
    let output = play.installation.cli(&["quarantine", "list", ID, "--output", "json"]).await.unwrap();
    assert_eq!(output.code, Some(0), "{output:#?}");
    let told: Value = serde_json::from_str(&output.stdout).unwrap();
    told["rows"].as_array().unwrap().clone()
}

fn keys(rows: &[Value]) -> BTreeSet<String> {
    rows.iter().map(|row| row["key"].as_str().unwrap().to_owned()).collect()
}

async fn asked(play: &Play, args: &[&str]) -> Value {
    let args: Vec<&str> = ["quarantine"].iter().chain(args).copied().chain(["--output", "json"]).collect();
    let output = play.installation.cli(&args).await.unwrap();
    assert_eq!(output.code, Some(0), "{args:?}: {output:#?}\n{}", play.installation.log_tails(20));
    serde_json::from_str(&output.stdout).unwrap()
}

/// Columns for bad rows of every kind, each with the word that says what is wrong with it.
const PREPARE: &str = "
ALTER TABLE items ADD COLUMN word text, ADD COLUMN value integer CHECK (value < 1000000),
  ADD COLUMN label text NOT NULL DEFAULT '', ADD COLUMN code integer UNIQUE;
UPDATE items SET word = id::text;
INSERT INTO items (id, payload, code, migrated, applied) VALUES (-5, '', -7, true, 1);
UPDATE items SET word = (ARRAY['cast', 'null', 'check', 'unique'])[array_position(ARRAY[2, 300, 1234, 2000], id::integer)]
  WHERE id IN (2, 300, 1234, 2000);";
const SQL: &str = r#"sql:
    value: "CASE WHEN word IN ('null', 'unique') THEN 0 WHEN word = 'check' THEN 2000000 ELSE word::integer END"
    label: "CASE WHEN word = 'null' THEN NULL ELSE 'x' END"
    code: "CASE WHEN word = 'unique' THEN -7 END"
    applied: applied + 1
    migrated: "true""#;
const PROGRAM: &str = "vrl: |\n    .value = if .word == \"check\" { 2000000 } else if .word == null { 0 } else { to_int!(.word) }\n    \
                       .applied = int!(.applied) + 1\n    .migrated = true";

/// Present bad rows are in the list, and nothing else is; then they are mended and tried again.
async fn rows_of_each_kind(transform: &str, codes: &[(i64, &str)]) {
    let items = Items::of(Engine::Postgres, 1_000).await;
    execute(&items.dsn, PREPARE).await;
    let play = Play::start(&[&items]).await;
    let writer = application(&items);
    play.apply(&[spec(Engine::Postgres, transform, 10).rows_per_second(1_500).text()]).await;
    play.until_rows(ID, 300).await;
    writer.deploy_new_form();
    let status = play.completed(ID).await;
    let report = writer.stop().await.unwrap();
    let rows = list(&play).await;
    let there = scalar(
        &items.dsn,
        "SELECT string_agg(id::text, ',') FROM items WHERE word IN ('cast', 'null', 'check', 'unique')",
    )
    .await;
    let bad: BTreeSet<String> = BAD_ROWS.iter().map(i64::to_string).collect();
    let there: BTreeSet<String> = there.split(',').map(str::to_owned).collect();
    assert!(keys(&rows).is_subset(&bad) && there.is_subset(&keys(&rows)), "{rows:#?}\npresent: {there:?}");
    for row in &rows {
        let code = codes.iter().find(|(key, _)| row["key"] == key.to_string().as_str()).unwrap().1;
        assert_eq!((&row["class"], &row["attempts"]), (&code.into(), &1.into()), "{row:#}");
    }
    assert_eq!((&status["quarantined"], &status["discarded"]), (&rows.len().into(), &0.into()), "{status:#}");
    let listed: Vec<String> = keys(&rows).into_iter().collect();
    let others = format!(
        "SELECT count(*)::text FROM items WHERE id NOT IN ({}) AND (NOT migrated OR applied <> 1)",
        listed.join(",")
    );
    assert_eq!(scalar(&items.dsn, &others).await, "0", "the rest is changed once");
    let touched = "SELECT count(*)::text FROM items WHERE word IN ('cast', 'null', 'check', 'unique') AND (migrated OR applied > 0)";
    assert_eq!(scalar(&items.dsn, touched).await, "0", "what is set aside is as it was");
    let mend = "UPDATE items SET word = '1' WHERE word IN ('cast', 'null', 'check', 'unique'); DELETE FROM items WHERE id = -5";
    execute(&items.dsn, mend).await;
    asked(&play, &["retry", ID]).await;
    let status = play.completed(ID).await;
    assert_eq!(status["quarantined"], 0, "{status:#}");
    assert_exactly_once(&items, Form::WithWhere, Some(&report)).await;
    assert_agreed(&play, ID, &[&items]).await;
    assert_nothing_left(&items).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_each_bad_kind_are_set_aside_beside_a_live_writer_and_completed_once_they_are_mended() {
    let codes = BAD_ROWS.map(|key| (key, "row.rejected"));
    rows_of_each_kind(SQL, &codes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_a_program_or_the_table_refuses_are_set_aside() {
    // A program knows of no constraint: `check` is refused by the table, the other words by the program.
    let codes = BAD_ROWS.map(|key| (key, if key == 1_234 { "row.rejected" } else { "row.transform" }));
    rows_of_each_kind(PROGRAM, &codes).await;
}

async fn documents_of_each_kind(transform: &str, codes: [&str; 3]) {
    let items = Items::mongodb("mg-01", 1_000, IdKind::Int).await;
    let documents = collection(&items.dsn).await;
    let all =
        doc! { "$set": { "word": { "$toString": "$_id" }, "value": { "$subtract": [-50_000, "$_id"] } } };
    documents.update_many(doc! {}, vec![all]).await.unwrap();
    let unique = mongodb::options::IndexOptions::builder()
        .unique(true)
        .partial_filter_expression(doc! { "value": { "$exists": true } })
        .build();
    let index = mongodb::IndexModel::builder().keys(doc! { "value": 1 }).options(unique).build();
    documents.create_index(index).await.unwrap();
    // One that no document of the migration holds.
    documents.insert_one(doc! { "_id": 7_i64, "migrated": true, "applied": 1, "value": -7 }).await.unwrap();
    for (key, word) in BAD_DOCUMENTS.into_iter().zip(["cast", "unique", "large"]) {
        let mut set = doc! { "word": word };
        if word == "large" {
            set.insert("filler", "x".repeat(9 << 20));
        }
        documents.update_one(doc! { "_id": key }, doc! { "$set": set }).await.unwrap();
    }
    let play = Play::start(&[&items]).await;
    play.apply(&[spec(Engine::Mongodb, transform, 10).text()]).await;
    let status = play.completed(ID).await;
    let rows = list(&play).await;
    let bad: BTreeSet<String> = BAD_DOCUMENTS.iter().map(|key| shown(Engine::Mongodb, *key)).collect();
    assert_eq!(keys(&rows), bad, "{rows:#?}");
    for row in &rows {
        let place = BAD_DOCUMENTS.iter().position(|key| row["key"] == shown(Engine::Mongodb, *key).as_str());
        assert_eq!(row["class"], codes[place.unwrap()], "{row:#}");
    }
    assert_eq!(status["quarantined"], 3, "{status:#}");
    let open: Vec<Document> = documents
        .find(doc! { "$or": [{ "migrated": false }, { "applied": { "$ne": 1 } }] })
        .projection(doc! { "_id": 1, "applied": 1 })
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    assert_eq!(open.len(), 3, "what is set aside is as it was, and the rest is changed once: {open:?}");
    // The image of a document that is more than half full comes in several parts.
    let key = shown(Engine::Mongodb, BAD_DOCUMENTS[2]);
    let image = asked(&play, &["show", ID, "--shard", "mg-01", &key]).await;
    assert_eq!(image["filler"].as_str().map(str::len), Some(9 << 20), "the whole document is there");
    let mend = doc! { "$set": { "word": "1" }, "$unset": { "filler": "" } };
    documents.update_many(doc! { "word": { "$in": ["cast", "unique", "large"] } }, mend).await.unwrap();
    documents.delete_one(doc! { "_id": 7_i64 }).await.unwrap();
    asked(&play, &["retry", ID]).await;
    let status = play.completed(ID).await;
    assert_eq!(status["quarantined"], 0, "{status:#}");
    curtain(&play, ID, &items, Form::WithWhere, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_of_each_bad_kind_are_set_aside_and_completed_once_they_are_mended() {
    let value = "{ $switch: { branches: [{ case: { $eq: [$word, unique] }, then: -7 }, { case: { $eq: [$word, large] }, then: 5 }, \
                 { case: { $eq: [$word, cast] }, then: { $toInt: $word } }], default: $_id } }";
    let grown = "{ $cond: [{ $eq: [$word, large] }, { $concat: [$filler, $filler] }, small] }";
    let set = format!(
        "pipeline: [{{ $set: {{ value: {value}, grown: {grown}, applied: {{ $add: [$applied, 1] }}, migrated: true }} }}]"
    );
    documents_of_each_kind(&set, ["row.rejected"; 3]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_that_a_program_or_the_collection_refuses_are_set_aside() {
    let set = "vrl: |\n    .grown = if .word == \"large\" { string!(.filler) + string!(.filler) } else { \"small\" }\n    \
               .value = if .word == \"cast\" { to_int!(.word) } else if .word == \"unique\" { -7 } else { ._id }\n    \
               .applied = int!(.applied) + 1\n    .migrated = true";
    documents_of_each_kind(set, ["row.transform", "row.rejected", "row.rejected"]).await;
}

const TRANSFORM: [&str; 2] = [
    "sql: { applied: \"applied + CASE WHEN word = 'bad' THEN word::integer ELSE 1 END\", migrated: \"true\" }",
    "pipeline: [{ $set: { applied: { $add: [$applied, { $cond: [{ $eq: [$word, bad] }, { $toInt: $word }, 1] }] }, migrated: true } }]",
];

/// A shard with bad rows; their keys.
async fn with_bad_rows(engine: Engine, name: &str) -> (Items, Vec<i64>, &'static str) {
    match engine {
        Engine::Postgres => {
            let items = Items::postgres(name, 1_000, KeyKind::Bigint).await;
            let bad = "ALTER TABLE items ADD COLUMN word text; UPDATE items SET word = 'bad' WHERE id IN (300, 1234, 2000)";
            execute(&items.dsn, bad).await;
            (items, BAD_ROWS[1..].to_vec(), TRANSFORM[0])
        }
        Engine::Mongodb => {
            let items = Items::mongodb(name, 1_000, IdKind::Int).await;
            let bad = doc! { "_id": { "$in": BAD_DOCUMENTS.to_vec() } };
            let documents = collection(&items.dsn).await;
            documents.update_many(bad, doc! { "$set": { "word": "bad" } }).await.unwrap();
            (items, BAD_DOCUMENTS.to_vec(), TRANSFORM[1])
        }
    }
}

async fn over_budget(engine: Engine) {
    let (items, bad, transform) = with_bad_rows(engine, "one").await;
    let play = Play::start(&[&items]).await;
    play.apply(&[spec(engine, transform, 2).text()]).await;
    let both = |status: &Value| !status["halted"].is_null() && status["quarantined"] == 2;
    let halted = play.until_status(ID, "to halt with two rows set aside", both).await;
    assert_eq!(halted["halted"]["code"], "quarantine.over-budget", "{halted:#}");
    assert_eq!(halted["status"], "paused", "{halted:#}");
    // Nothing was done about it: it halts again.
    let resumed = play.installation.cli(&["resume", ID]).await.unwrap();
    assert_eq!(resumed.code, Some(0), "{resumed:#?}");
    play.until_status(ID, "to halt again", |status| !status["halted"].is_null()).await;
    let first = list(&play).await[0]["key"].as_str().unwrap().to_owned();
    let discarded = asked(&play, &["discard", ID, "--shard", "one", &first]).await;
    assert_eq!(discarded["rows"], 1, "{discarded:#}");
    let resumed = play.installation.cli(&["resume", ID]).await.unwrap();
    assert_eq!(resumed.code, Some(0), "{resumed:#?}");
    let status = play.completed(ID).await;
    assert_eq!((&status["quarantined"], &status["discarded"]), (&2.into(), &1.into()), "{status:#}");
    let all: BTreeSet<String> = bad.iter().map(|key| shown(engine, *key)).collect();
    assert_eq!(keys(&list(&play).await), all);
    let unknown = play.refused(&["quarantine", "retry", ID, "--shard", "one", &first], 7).await;
    assert!(unknown.contains(&first), "{unknown}");
    assert_nothing_left(&items).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_more_than_the_budget_halts_a_postgres_shard_until_somebody_decides() {
    over_budget(Engine::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_more_than_the_budget_halts_a_mongodb_shard_until_somebody_decides() {
    over_budget(Engine::Mongodb).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_budget_is_one_for_all_shards() {
    let (one, _, transform) = with_bad_rows(Engine::Postgres, "one").await;
    let (two, ..) = with_bad_rows(Engine::Postgres, "two").await;
    let play = Play::start(&[&one, &two]).await;
    // Each shard alone keeps to it.
    play.apply(&[spec(Engine::Postgres, transform, 4).text()]).await;
    let halted = play.until_status(ID, "to halt", |status| !status["halted"].is_null()).await;
    assert_eq!(halted["halted"]["code"], "quarantine.over-budget", "{halted:#}");
    let decided = play
        .until("a decision that no batch is in the way of", async || {
            let output = play.installation.cli(&["quarantine", "discard", ID]).await?;
            anyhow::ensure!(output.code == Some(0), "{output:#?}");
            Ok(output)
        })
        .await;
    assert!(decided.stdout.contains("given up"), "{decided:#?}");
    let resumed = play.installation.cli(&["resume", ID]).await.unwrap();
    assert_eq!(resumed.code, Some(0), "{resumed:#?}");
    let status = play.completed(ID).await;
    let count = |key: &str| status[key].as_u64().unwrap();
    assert_eq!(count("quarantined") + count("discarded"), 6, "{status:#}");
}

/// The worker dies before and after the commit that sets a row aside.
async fn dies_around_it(engine: Engine, points: [&str; 2]) {
    let (items, bad, transform) = with_bad_rows(engine, "one").await;
    let play = Play::start(&[&items]).await;
    let worker = play.installation.worker(0);
    let one_range = [spec(engine, transform, 10).parallel("{ ranges: 1, workers: 1 }").text()];
    for (number, point) in points.into_iter().enumerate() {
        worker.set_failpoints(&format!("{point}=return"));
        worker.restart().await.unwrap();
        if number == 0 {
            play.until("the worker to be there again", async || {
                let output = play.applied(&one_range).await;
                anyhow::ensure!(output.code == Some(0), "{output:#?}");
                Ok(())
            })
            .await;
        }
        let status = worker.process().wait_exit(DEADLINE).await.unwrap();
        assert_eq!(status.signal(), Some(SIGABRT), "{point}: {}", worker.process().log_tail(20));
    }
    worker.set_failpoints("");
    worker.restart().await.unwrap();
    let status = play.completed(ID).await;
    assert_eq!(status["quarantined"], bad.len(), "{status:#}");
    let rows = list(&play).await;
    let all: BTreeSet<String> = bad.iter().map(|key| shown(engine, *key)).collect();
    assert_eq!(keys(&rows), all, "{rows:#?}");
    assert!(rows.iter().all(|row| row["attempts"] == 1), "none was set aside twice: {rows:#?}");
    match engine {
        Engine::Postgres => execute(&items.dsn, "UPDATE items SET word = NULL").await,
        Engine::Mongodb => {
            let mend = doc! { "$unset": { "word": "" } };
            collection(&items.dsn).await.update_many(doc! {}, mend).await.map(drop).unwrap();
        }
    }
    asked(&play, &["retry", ID]).await;
    play.completed(ID).await;
    curtain(&play, ID, &items, Form::WithWhere, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_worker_that_dies_while_it_sets_a_row_aside_loses_and_repeats_nothing() {
    dies_around_it(Engine::Postgres, ["pg-set-aside-before-commit", "pg-set-aside-after-commit"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mongodb_worker_that_dies_while_it_sets_a_document_aside_loses_and_repeats_nothing() {
    dies_around_it(Engine::Mongodb, ["mg-set-aside-before-commit", "mg-set-aside-after-commit"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_can_be_retried_only_where_a_search_can_follow() {
    let (items, _, transform) = with_bad_rows(Engine::Postgres, "one").await;
    let play = Play::start(&[&items]).await;
    play.apply(&[spec(Engine::Postgres, transform, 2).text()]).await;
    play.until_status(ID, "to halt", |status| !status["halted"].is_null()).await;
    execute(&items.dsn, "UPDATE items SET word = NULL").await;
    // Halted in the middle of the walk: the rows are found by the search at its end.
    play.until("a retry that no batch is in the way of", async || {
        let output = play.installation.cli(&["quarantine", "retry", ID]).await?;
        anyhow::ensure!(output.code == Some(0), "{output:#?}");
        Ok(())
    })
    .await;
    assert_eq!(play.status(ID).await["status"], "paused");
    let resumed = play.installation.cli(&["resume", ID]).await.unwrap();
    assert_eq!(resumed.code, Some(0), "{resumed:#?}");
    play.completed(ID).await;
    curtain(&play, ID, &items, Form::WithWhere, None).await;
    let nothing = asked(&play, &["discard", ID]).await;
    assert_eq!(nothing["rows"], 0, "{nothing:#}");
    let image = play.refused(&["quarantine", "show", ID, "--shard", "one", "300"], 7).await;
    assert!(image.contains("request.not-found"), "{image}");
}

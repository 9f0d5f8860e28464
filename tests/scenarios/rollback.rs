//! Taking back (promise P8): rows get their old values only where they still are what was written, exactly once, whoever dies
//! meanwhile; schema after the data that stands on it.

use std::os::unix::process::ExitStatusExt;

use bson::doc;
use shardlift_harness::installation::Output;

use crate::stage::{
    DEADLINE, Engine, Form, Items, ItemsSpec, POSTGRES, Play, VRL, assert_nothing_left, checkpoints,
    collection, execute, scalar,
};

const ID: &str = "0001_items";
const ROWS: u64 = 1_500;
const SIGABRT: i32 = 6;

fn capturing(engine: Engine) -> ItemsSpec {
    ItemsSpec::new(ID, engine, Form::WithWhere).batch("{ target: 50ms, min: 40, max: 60 }")
}

fn kept(spec: &ItemsSpec) -> String {
    format!("{}undo: capture\n", spec.text())
}

async fn cli(play: &Play, args: &[&str]) -> Output {
    play.installation.cli(args).await.unwrap()
}

async fn roll_back(play: &Play, id: &str) {
    let output = cli(play, &["rollback", id, "--yes"]).await;
    assert_eq!(output.code, Some(0), "{output:#?}\n{}", play.installation.log_tails(10));
}

/// How many items are `(as they were, changed)`; a row that the application has touched is neither.
async fn counts(items: &Items) -> (u64, u64) {
    match items.engine() {
        Engine::Postgres => {
            let count = async |of: &str| {
                let sql = format!("SELECT count(*)::text FROM items WHERE {of}");
                scalar(&items.dsn, &sql).await.parse().unwrap()
            };
            (count("applied = 0 AND NOT migrated").await, count("applied = 1 AND migrated").await)
        }
        Engine::Mongodb => {
            let items = collection(&items.dsn).await;
            let count = async |applied: i32, migrated: bool| {
                items.count_documents(doc! { "applied": applied, "migrated": migrated }).await.unwrap()
            };
            (count(0, false).await, count(1, true).await)
        }
    }
}

/// The application changes one row of those that were migrated, and deletes another.
async fn touch_two(items: &Items) {
    match items.engine() {
        Engine::Postgres => {
            execute(&items.dsn, "UPDATE items SET applied = 7 WHERE id = (SELECT min(id) FROM items)").await;
            execute(&items.dsn, "DELETE FROM items WHERE id = (SELECT max(id) FROM items)").await;
        }
        Engine::Mongodb => {
            let items = collection(&items.dsn).await;
            let changed = items.update_one(doc! { "applied": 1 }, doc! { "$set": { "applied": 7 } }).await;
            assert_eq!(changed.unwrap().modified_count, 1);
            assert_eq!(items.delete_one(doc! { "applied": 1 }).await.unwrap().deleted_count, 1);
        }
    }
}

/// Completed, then taken back but for what the application has changed; then done again as the next version.
async fn taken_back_and_done_again(engine: Engine, transform: Option<&str>) {
    let items = Items::of(engine, ROWS).await;
    let play = Play::start(&[&items]).await;
    let mut spec = capturing(engine);
    if let Some(transform) = transform {
        spec = spec.transform(transform);
    }
    play.apply(&[kept(&spec)]).await;
    play.completed(ID).await;
    assert_eq!(counts(&items).await, (0, ROWS));
    touch_two(&items).await;

    roll_back(&play, ID).await;
    play.reached(ID, "rolled_back").await;
    assert_eq!(counts(&items).await, (ROWS - 2, 0), "all but the two that the application touched");
    let status = play.status(ID).await;
    assert_eq!(
        (&status["rows_restored"], &status["conflicts"]),
        (&(ROWS - 2).into(), &2.into()),
        "{status:#}"
    );
    let listed = cli(&play, &["conflicts", ID, "--output", "json"]).await;
    assert_eq!(listed.code, Some(8), "{listed:#?}");
    let listed: serde_json::Value = serde_json::from_str(&listed.stdout).unwrap();
    let reasons: Vec<_> = listed["conflicts"].as_array().unwrap().iter().map(|row| &row["reason"]).collect();
    assert!(reasons.len() == 2 && reasons.iter().any(|why| *why == "it was changed since"), "{listed:#}");
    assert!(reasons.iter().any(|why| *why == "it is not there any more"), "{listed:#}");

    play.apply(&[kept(&spec)]).await;
    play.completed(ID).await;
    assert_eq!(play.status(ID).await["version"], 2);
    assert_eq!(counts(&items).await, (0, ROWS - 2), "what was taken back is done once more");
    assert_nothing_left(&items).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_rows_get_their_old_values_unless_the_application_has_changed_them() {
    taken_back_and_done_again(Engine::Postgres, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_rows_that_a_program_changed_get_their_old_values_as_well() {
    taken_back_and_done_again(Engine::Postgres, Some(VRL)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mongodb_documents_get_their_old_values_unless_the_application_has_changed_them() {
    taken_back_and_done_again(Engine::Mongodb, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mongodb_documents_that_a_program_changed_get_their_old_values_as_well() {
    taken_back_and_done_again(Engine::Mongodb, Some(VRL)).await;
}

/// A migration is rolled back in the middle; worker and coordinator die while that lasts.
async fn taken_back_in_the_middle(engine: Engine, points: [&str; 3]) {
    let items = Items::of(engine, ROWS).await;
    let play = Play::start(&[&items]).await;
    play.apply(&[kept(&capturing(engine).rows_per_second(600))]).await;
    play.until_rows(ID, 500).await;
    let worker = play.installation.worker(0);
    worker.set_failpoints(&format!("{}=1*off->return", points[0]));
    worker.restart().await.unwrap();
    roll_back(&play, ID).await;
    for (n, point) in points.iter().enumerate() {
        if n > 0 {
            worker.set_failpoints(&format!("{point}=1*off->return"));
            worker.restart().await.unwrap();
        }
        let status = worker.process().wait_exit(DEADLINE).await.unwrap();
        assert_eq!(status.signal(), Some(SIGABRT), "{point}: {}", worker.process().log_tail(20));
    }
    let done: u64 = checkpoints(&items, ID).await.iter().map(|range| range.rows).sum();
    let coordinator = play.installation.coordinator();
    coordinator.kill9();
    coordinator.restart().await.unwrap();
    worker.set_failpoints("");
    worker.restart().await.unwrap();
    play.reached(ID, "rolled_back").await;
    assert_eq!(counts(&items).await, (ROWS, 0));
    let status = play.status(ID).await;
    assert_eq!((&status["rows_restored"], &status["conflicts"]), (&done.into(), &0.into()), "{status:#}");
    assert!(done >= 500, "{done} rows were changed before");
    assert_nothing_left(&items).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_done_migration_of_postgres_is_taken_back_exactly_once_whoever_dies() {
    let points = ["worker-before-undo", "pg-undo-before-commit", "pg-undo-after-commit"];
    taken_back_in_the_middle(Engine::Postgres, points).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_done_migration_of_mongodb_is_taken_back_exactly_once_whoever_dies() {
    let points = ["worker-before-undo", "mg-undo-before-commit", "mg-undo-after-commit"];
    taken_back_in_the_middle(Engine::Mongodb, points).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_change_is_taken_back_after_its_data_and_only_if_nothing_is_lost() {
    let items = Items::of(Engine::Postgres, 300).await;
    let play = Play::start(&[&items]).await;
    let schema = format!(
        "id: 0000_note\nkind: schema\nengine: postgres\ncluster: {POSTGRES}\nup: [ALTER TABLE items ADD COLUMN note text]\n\
         down: [ALTER TABLE items DROP COLUMN note]\n"
    );
    let data = capturing(Engine::Postgres)
        .depends_on("0000_note")
        .transform("sql: { applied: applied + 1, migrated: \"true\", note: \"'seen'\" }");
    play.apply(&[schema.clone(), kept(&data)]).await;
    play.completed(ID).await;

    let refused = cli(&play, &["rollback", "0000_note", "--yes"]).await;
    assert_eq!(refused.code, Some(7), "{refused:#?}");
    assert!(refused.stderr.contains("request.illegal-move") && refused.stderr.contains(ID), "{refused:#?}");
    execute(&items.dsn, "UPDATE items SET note = 'mine' WHERE id = (SELECT min(id) FROM items)").await;
    roll_back(&play, ID).await;
    play.reached(ID, "rolled_back").await;
    assert_eq!(counts(&items).await, (299, 1), "the one with a note of the application is left alone");

    roll_back(&play, "0000_note").await;
    play.reached("0000_note", "paused").await;
    let status = play.status("0000_note").await;
    assert_eq!(status["halted"]["code"], "undo.drops-data", "{status:#}");
    let output = cli(&play, &["rollback", "0000_note", "--drop-data", "--yes"]).await;
    assert_eq!(output.code, Some(0), "{output:#?}");
    play.reached("0000_note", "rolled_back").await;
    let columns = "SELECT count(*)::text FROM information_schema.columns WHERE table_name = 'items' AND column_name = 'note'";
    assert_eq!(scalar(&items.dsn, columns).await, "0");

    play.apply(&[schema]).await;
    play.completed("0000_note").await;
    assert_eq!(scalar(&items.dsn, columns).await, "1", "the next version of the id adds it once more");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_in_the_middle_of_a_down_leaves_no_half_of_it() {
    let items = Items::of(Engine::Postgres, 300).await;
    let play = Play::start(&[&items]).await;
    let schema = format!(
        "id: 0000_note\nkind: schema\nengine: postgres\ncluster: {POSTGRES}\n\
         up: [ALTER TABLE items ADD COLUMN note text, CREATE INDEX CONCURRENTLY items_note ON items (note)]\n\
         down: [DROP INDEX CONCURRENTLY items_note, ALTER TABLE items DROP COLUMN note]\n"
    );
    let there = "SELECT (to_regclass('items_note') IS NOT NULL)::int + count(*)::int FROM pg_attribute \
                 WHERE attrelid = 'items'::regclass AND attname = 'note' AND NOT attisdropped";
    let there = format!("SELECT ({there})::text");
    let worker = play.installation.worker(0);
    // Around the commits, and between the statement that stands alone and the one that shares its transaction.
    for point in ["pg-before-commit", "pg-after-commit", "pg-schema-between"] {
        worker.set_failpoints("");
        worker.restart().await.unwrap();
        play.installation.wait_connected().await.unwrap();
        play.apply(&[&schema]).await;
        play.completed("0000_note").await;
        assert_eq!(scalar(&items.dsn, &there).await, "2", "{point}: `up` is there");
        worker.set_failpoints(&format!("{point}=return"));
        worker.restart().await.unwrap();
        roll_back(&play, "0000_note").await;
        let status = worker.process().wait_exit(DEADLINE).await.unwrap();
        assert_eq!(status.signal(), Some(SIGABRT), "{point}: {}", worker.process().log_tail(20));
        worker.set_failpoints("");
        worker.restart().await.unwrap();
        play.reached("0000_note", "rolled_back").await;
        assert_eq!(scalar(&items.dsn, &there).await, "0", "{point}: nothing of it is left");
    }
    assert_nothing_left(&items).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mongodb_collection_that_holds_documents_is_dropped_only_on_demand() {
    let items = Items::of(Engine::Mongodb, 10).await;
    let play = Play::start(&[&items]).await;
    let schema = "id: 0000_audit\nkind: schema\nengine: mongodb\ncluster: items-docs\nup: [{ create: audit }]\n\
                  down: [{ drop: audit }]\n";
    play.apply(&[schema]).await;
    play.completed("0000_audit").await;
    let audit = collection(&items.dsn).await.client().default_database().unwrap().collection("audit");
    audit.insert_one(doc! { "of": "the application" }).await.unwrap();
    roll_back(&play, "0000_audit").await;
    play.reached("0000_audit", "paused").await;
    assert_eq!(play.status("0000_audit").await["halted"]["code"], "undo.drops-data");
    audit.delete_many(doc! {}).await.unwrap();
    let resumed = cli(&play, &["resume", "0000_audit"]).await;
    assert_eq!(resumed.code, Some(0), "{resumed:#?}");
    play.reached("0000_audit", "rolled_back").await;
    play.apply(&[schema]).await;
    play.completed("0000_audit").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_wants_it_is_rolled_back_when_verification_fails() {
    let items = Items::of(Engine::Postgres, ROWS).await;
    let play = Play::start(&[&items]).await;
    let spec = capturing(Engine::Postgres).rows_per_second(1_000).verify("[{ count: { tolerance: 0 } }]");
    play.apply(&[format!("{}on_verify_failure: rollback\n", kept(&spec))]).await;
    play.until("the first range has begun", async || {
        let first = checkpoints(&items, ID).await.into_iter().find(|range| range.index == 0);
        anyhow::ensure!(first.is_some_and(|range| range.batches > 0));
        Ok(())
    })
    .await;
    // Behind the walk: the first pass does not see them, and they are not pending.
    let unseen = "INSERT INTO items (id, payload, applied, migrated) \
                  SELECT (SELECT min(id) FROM items) - g, 'late', 1, true FROM generate_series(1, 200) g";
    execute(&items.dsn, unseen).await;
    play.reached(ID, "rolled_back").await;
    assert_eq!(counts(&items).await, (ROWS, 200));
    let status = play.status(ID).await;
    assert_eq!(status["rolled_back_for"]["code"], "verify.mismatch", "{status:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_keeps_nothing_to_roll_back_with_says_so() {
    let items = Items::of(Engine::Postgres, 100).await;
    let play = Play::start(&[&items]).await;
    play.apply(&[ItemsSpec::new(ID, Engine::Postgres, Form::WithWhere).text()]).await;
    play.completed(ID).await;
    let refused = cli(&play, &["rollback", ID, "--yes"]).await;
    assert_eq!(refused.code, Some(7), "{refused:#?}");
    assert!(refused.stderr.contains("keeps nothing to roll back with"), "{refused:#?}");
    assert_eq!(counts(&items).await, (0, 100));
    assert_eq!(play.status(ID).await["status"], "completed");
}

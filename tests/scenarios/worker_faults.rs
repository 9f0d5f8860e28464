//! Workers that die or stand still (faults 1, 2, 3, 4, 20): nothing is done twice, nothing is left undone.

use std::os::unix::process::ExitStatusExt;

use bson::{Document, doc};
use futures::TryStreamExt;
use mongodb::Client;
use sqlx::{Connection, Executor, PgConnection};

use crate::stage::{
    DEADLINE, Engine, Form, Items, ItemsSpec, POSTGRES, Play, Specs, VRL, Witness, assert_nothing_left,
    checkpoints, curtain, execute, learns, scalar,
};

const ID: &str = "0001_items";
const NONE: Vec<String> = Vec::new();
const SIGABRT: i32 = 6;

async fn killed_again_and_again(engine: Engine, form: Form) {
    let items = Items::of(engine, 8_000).await;
    let play = Play::start(&[&items]).await;
    let witness = Witness::of(&items).await;
    let writer = items.writer(form);
    play.apply(&[ItemsSpec::new(ID, engine, form).rows_per_second(2_000).text()]).await;
    let worker = play.installation.worker(0);
    let mut rows = 0;
    for _ in 0..5 {
        rows = play.until_rows(ID, rows + 150).await;
        worker.kill9();
        worker.restart().await.unwrap();
    }
    learns(&writer, form);
    play.completed(ID).await;
    assert_eq!(witness.complaints().await, NONE);
    curtain(&play, ID, &items, form, Some(writer)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_worker_killed_again_and_again_changes_every_row_once() {
    killed_again_and_again(Engine::Postgres, Form::WithWhere).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_worker_killed_again_and_again_changes_every_row_once_without_where() {
    killed_again_and_again(Engine::Postgres, Form::WithoutWhere).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mongodb_worker_killed_again_and_again_changes_every_document_once() {
    killed_again_and_again(Engine::Mongodb, Form::WithWhere).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mongodb_worker_killed_again_and_again_changes_every_document_once_without_where() {
    killed_again_and_again(Engine::Mongodb, Form::WithoutWhere).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_while_a_plan_is_made_is_asked_again_once_it_is_back() {
    let items = Items::of(Engine::Postgres, 100).await;
    let play = Play::start(&[&items]).await;
    let worker = play.installation.worker(0);
    worker.set_failpoints("worker-before-facts=return");
    worker.restart().await.unwrap();
    play.installation.wait_connected().await.unwrap();
    let specs = Specs::of(&[ItemsSpec::new(ID, Engine::Postgres, Form::WithWhere).text()]);
    let plan = ["plan", specs.as_str()];
    let planning = play.installation.cli(&plan);
    let dying = async {
        let status = worker.process().wait_exit(DEADLINE).await.unwrap();
        assert_eq!(status.signal(), Some(SIGABRT), "it died of the question");
        worker.set_failpoints("");
        worker.restart().await.unwrap();
    };
    let (planned, ()) = tokio::join!(planning, dying);
    let planned = planned.unwrap();
    assert_eq!(planned.code, Some(0), "{planned:#?}");
}

/// The worker dies at each line that matters of a batch, one after another within one migration.
async fn dies_at_each_point(engine: Engine, form: Form, transform: Option<&str>) {
    let items = Items::of(engine, 4_000).await;
    let play = Play::start(&[&items]).await;
    let witness = Witness::of(&items).await;
    let worker = play.installation.worker(0);
    let points = match engine {
        Engine::Postgres => {
            ["worker-before-batch", "pg-before-commit", "pg-after-commit", "worker-before-receipt"]
        }
        Engine::Mongodb => {
            ["worker-before-batch", "mg-before-commit", "mg-after-commit", "worker-before-receipt"]
        }
    };
    let mut spec = ItemsSpec::new(ID, engine, form).batch("{ target: 50ms, min: 40, max: 60 }");
    if let Some(transform) = transform {
        spec = spec.transform(transform);
    }
    play.apply(&[spec.rows_per_second(1_500).text()]).await;
    for point in points {
        worker.set_failpoints(&format!("{point}=4*off->return"));
        worker.restart().await.unwrap();
        let status = worker.process().wait_exit(DEADLINE).await.unwrap();
        assert_eq!(status.signal(), Some(SIGABRT), "{point}: {}", worker.process().log_tail(20));
    }
    let done: u64 = checkpoints(&items, ID).await.iter().map(|range| range.batches).sum();
    assert!(done >= 8, "it went on between its deaths, by {done} batches");
    worker.set_failpoints("");
    worker.restart().await.unwrap();
    play.completed(ID).await;
    assert_eq!(witness.complaints().await, NONE);
    curtain(&play, ID, &items, form, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_around_a_commit_of_postgres_repeats_no_batch() {
    dies_at_each_point(Engine::Postgres, Form::WithWhere, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_around_a_commit_of_postgres_repeats_no_batch_without_where() {
    dies_at_each_point(Engine::Postgres, Form::WithoutWhere, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_with_an_open_transaction_of_postgres_repeats_no_batch() {
    dies_at_each_point(Engine::Postgres, Form::WithoutWhere, Some(VRL)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_around_a_commit_of_mongodb_repeats_no_batch() {
    dies_at_each_point(Engine::Mongodb, Form::WithWhere, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_around_a_commit_of_mongodb_repeats_no_batch_without_where() {
    dies_at_each_point(Engine::Mongodb, Form::WithoutWhere, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_with_rewritten_documents_of_mongodb_repeats_no_batch() {
    dies_at_each_point(Engine::Mongodb, Form::WithoutWhere, Some(VRL)).await;
}

/// Whether a transaction of the worker stands open, holding rows.
async fn transaction_is_open(items: &Items) -> bool {
    match items.engine() {
        Engine::Postgres => {
            let open = "SELECT count(*)::text FROM pg_stat_activity WHERE datname = current_database()
                        AND application_name LIKE 'shardlift/backfill%' AND state = 'idle in transaction'
                        AND state_change < now() - interval '100 ms'";
            scalar(&items.dsn, open).await != "0"
        }
        Engine::Mongodb => {
            let client = Client::with_uri_str(&items.dsn).await.unwrap();
            let pipeline = [
                doc! { "$currentOp": { "allUsers": true, "idleSessions": true } },
                doc! { "$match": { "type": "idleSession", "transaction.timeInactiveMicros": { "$gt": 100_000 } } },
            ];
            let open = client.database("admin").aggregate(pipeline).await.unwrap();
            let open: Vec<Document> = open.try_collect().await.unwrap();
            !open.is_empty()
        }
    }
}

/// A worker stands still just before its sixth commit, with or without an open transaction; another one claims its
/// range and goes on; then the first one wakes and commits.
async fn stands_still(engine: Engine, form: Form, transform: Option<&str>, transaction: bool) {
    let items = Items::of(engine, 3_000).await;
    let point = match engine {
        Engine::Postgres => "pg-before-commit",
        Engine::Mongodb => "mg-before-commit",
    };
    let zombie = items.worker("zombie").failpoints(&format!("{point}=6*off->1*sleep(4000)->off"));
    let play = Play::of(Play::builder(&[&items]).worker(zombie)).await;
    let witness = Witness::of(&items).await;
    let spec = ItemsSpec::new(ID, engine, form).batch("{ target: 50ms, min: 40, max: 60 }");
    let mut spec = spec.parallel("{ ranges: 1, workers: 1 }");
    if let Some(transform) = transform {
        spec = spec.transform(transform);
    }
    play.apply(&[spec.text()]).await;
    let batches = async || checkpoints(&items, ID).await.first().map_or(0, |range| range.batches);
    play.until("the sixth batch to be committed and the seventh to stand", async || {
        let (done, open) = (batches().await, transaction_is_open(&items).await);
        anyhow::ensure!(done == 6 && (open || !transaction), "{done} batches; a transaction stands: {open}");
        Ok(())
    })
    .await;
    let zombie = play.installation.worker(0);
    zombie.process().pause();
    play.installation.add_worker(&items.worker("heir")).unwrap();
    play.until("another worker to go on", async || {
        let done = batches().await;
        anyhow::ensure!(done > 7, "{done} batches");
        Ok(())
    })
    .await;
    zombie.process().resume();
    play.until("the first worker to be back", async || {
        let connected = zombie.process().log_text().matches("connected").count();
        anyhow::ensure!(connected >= 2, "connected {connected} times");
        Ok(())
    })
    .await;
    play.completed(ID).await;
    assert_eq!(witness.complaints().await, NONE);
    curtain(&play, ID, &items, form, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_wakes_after_its_lease_changes_nothing_in_postgres() {
    stands_still(Engine::Postgres, Form::WithoutWhere, None, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_stands_with_locks_in_postgres_loses_them_and_its_commit() {
    stands_still(Engine::Postgres, Form::WithoutWhere, Some(VRL), true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_stands_with_an_open_transaction_in_mongodb_loses_it() {
    stands_still(Engine::Mongodb, Form::WithoutWhere, None, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_panics_is_told_as_a_defect_and_can_be_retried() {
    let items = Items::of(Engine::Postgres, 2_000).await;
    let worker = items.worker("worker").failpoints("worker-before-batch=3*off->1*panic->off");
    let play = Play::of(Play::builder(&[&items]).worker(worker)).await;
    play.apply(&[ItemsSpec::new(ID, Engine::Postgres, Form::WithoutWhere).text()]).await;
    let status = play.reached(ID, "failed").await;
    assert_eq!(status["error"]["code"], "internal.defect", "{status:#}");
    let retried = play.installation.cli(&["retry", ID]).await.unwrap();
    assert_eq!(retried.code, Some(0), "{retried:#?}");
    play.completed(ID).await;
    curtain(&play, ID, &items, Form::WithoutWhere, None).await;
}

fn schema(up: &[&str]) -> String {
    let up: String = up.iter().map(|statement| format!("  - {statement}\n")).collect();
    format!("id: {ID}\nkind: schema\nengine: postgres\ncluster: {POSTGRES}\nup:\n{up}")
}

const UP: [&str; 4] = [
    "ALTER TABLE items ADD COLUMN one integer",
    "CREATE INDEX CONCURRENTLY items_payload ON items (payload)",
    "ALTER TABLE items ADD COLUMN two integer",
    "CREATE INDEX CONCURRENTLY items_origin ON items (origin)",
];

async fn assert_schema_applied(play: &Play, items: &Items) {
    let columns = "SELECT count(*)::text FROM information_schema.columns WHERE table_name = 'items'
                   AND column_name IN ('one', 'two')";
    let indexes = "SELECT count(*)::text FROM pg_index WHERE indrelid = 'items'::regclass AND indisvalid";
    assert_eq!(scalar(&items.dsn, columns).await, "2");
    assert_eq!(scalar(&items.dsn, indexes).await, "3");
    let ledger = "SELECT string_agg(migration || '@' || version, ',') FROM shardlift.applied";
    assert_eq!(scalar(&items.dsn, ledger).await, format!("{ID}@1"));
    assert_nothing_left(items).await;
    assert_eq!(play.status(ID).await["shards"][0]["verified"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_change_survives_the_death_of_its_worker_between_any_two_statements() {
    let items = Items::of(Engine::Postgres, 500).await;
    let play = Play::start(&[&items]).await;
    let worker = play.installation.worker(0);
    // Each life gets one statement further than the one before, and dies around its commit.
    let points = [
        "pg-before-commit=return",
        "pg-after-commit=return",
        "pg-schema-between=1*off->return",
        "pg-before-commit=return",
        "pg-after-commit=return",
    ];
    worker.kill9();
    worker.set_failpoints(points[0]);
    worker.restart().await.unwrap();
    play.installation.wait_connected().await.unwrap();
    play.apply(&[schema(&UP)]).await;
    for (life, point) in points.iter().enumerate() {
        if life > 0 {
            worker.set_failpoints(point);
            worker.restart().await.unwrap();
        }
        let status = worker.process().wait_exit(DEADLINE).await.unwrap();
        assert_eq!(status.signal(), Some(SIGABRT), "{point}: {}", worker.process().log_tail(20));
    }
    worker.set_failpoints("");
    worker.restart().await.unwrap();
    play.completed(ID).await;
    assert_schema_applied(&play, &items).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_whose_concurrent_build_was_killed_is_built_again() {
    let items = Items::of(Engine::Postgres, 500).await;
    let play = Play::start(&[&items]).await;
    let worker = play.installation.worker(0);
    // A transaction of the application keeps the build waiting.
    let mut application = PgConnection::connect(&items.dsn).await.unwrap();
    let begin = "BEGIN; UPDATE items SET payload = payload WHERE id = 2";
    application.execute(sqlx::raw_sql(begin)).await.unwrap();
    play.apply(&[schema(&UP[1..3])]).await;
    let building = "SELECT count(*)::text FROM pg_stat_activity WHERE datname = current_database()
                    AND query LIKE 'CREATE INDEX CONCURRENTLY%' AND wait_event_type = 'Lock'";
    play.until("the build to wait for the application", async || {
        anyhow::ensure!(scalar(&items.dsn, building).await == "1", "nobody builds");
        Ok(())
    })
    .await;
    worker.kill9();
    let terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                     WHERE datname = current_database() AND query LIKE 'CREATE INDEX CONCURRENTLY%'";
    execute(&items.dsn, terminate).await;
    let invalid = "SELECT count(*)::text FROM pg_index WHERE NOT indisvalid";
    assert_eq!(scalar(&items.dsn, invalid).await, "1", "the killed build left an invalid index");
    application.execute("COMMIT").await.unwrap();
    worker.restart().await.unwrap();
    play.completed(ID).await;
    let valid = "SELECT indisvalid::text FROM pg_index WHERE indexrelid = 'items_payload'::regclass";
    assert_eq!(scalar(&items.dsn, valid).await, "true");
    assert_nothing_left(&items).await;
}

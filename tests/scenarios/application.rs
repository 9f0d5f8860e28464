//! The application during the run (fault 26): whatever it does, the run ends, and nothing of it is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use serde_json::Value;
use shardlift_harness::dataset::items::KeyKind;
use shardlift_harness::writer::ItemsOptions;
use sqlx::{Connection, PgConnection};
use tokio::task::JoinHandle;

use crate::stage::{Engine, Form, Items, ItemsSpec, Play, VRL, assert_nothing_left, curtain, collection, scalar};

const ID: &str = "0001_items";

/// An application that does one statement again and again, as fast as a connection can.
struct Insistent {
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicI64>,
    task: JoinHandle<()>,
}

impl Insistent {
    /// `sql` is told the number of its round.
    fn start(dsn: &str, sql: &'static str) -> Self {
        let (stop, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI64::new(0)));
        let (dsn, told, count) = (dsn.to_owned(), Arc::clone(&stop), Arc::clone(&rounds));
        let task = tokio::spawn(async move {
            let mut session = PgConnection::connect(&dsn).await.unwrap();
            while !told.load(Ordering::Relaxed) {
                let round = count.fetch_add(1, Ordering::Relaxed);
                sqlx::query(sql).bind(round).execute(&mut session).await.unwrap();
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        });
        Self { stop, rounds, task }
    }

    async fn stop(self) -> i64 {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
        self.rounds.load(Ordering::Relaxed)
    }
}

/// Rows appear behind the end faster than batches are allowed to change them.
async fn outgrown(form: Form, insert: &'static str) {
    let items = Items::of(Engine::Postgres, 1_000).await;
    let play = Play::start(&[&items]).await;
    let application = Insistent::start(&items.dsn, insert);
    let spec = ItemsSpec::new(ID, Engine::Postgres, form).rows_per_second(500).verify(match form {
        Form::WithWhere => "[remaining]",
        Form::WithoutWhere => "[{ count: { tolerance: 1 } }]",
    });
    play.apply(&[spec.text()]).await;
    play.completed(ID).await;
    let rounds = application.stop().await;
    assert!(rounds * 20 > 1_500, "the table grew by {rounds} times 20 rows only");
    let told = items.violations(form, None).await;
    assert!(told.iter().all(|line| line.starts_with("items: a row that nobody wrote")), "{told:#?}");
    assert_nothing_left(&items).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_grows_in_the_new_form_faster_than_batches_is_done_all_the_same() {
    let insert = "INSERT INTO items (id, payload, migrated, applied)
                  SELECT 1000000 + $1 * 20 + n, 'grown', true, 1 FROM generate_series(1, 20) AS n";
    outgrown(Form::WithWhere, insert).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_grows_faster_than_batches_is_done_without_where() {
    let insert = "INSERT INTO items (id, payload)
                  SELECT 1000000 + $1 * 20 + n, 'grown' FROM generate_series(1, 20) AS n";
    outgrown(Form::WithoutWhere, insert).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_deleted_and_inserted_again_under_the_same_key_are_changed_once() {
    let items = Items::of(Engine::Postgres, 2_000).await;
    let play = Play::start(&[&items]).await;
    // Before and behind the cursor; as one statement the row is there for everybody else all the time.
    let again = "WITH gone AS (DELETE FROM items WHERE id % 97 = ($1 * 2) % 97 AND id <= 4000 RETURNING id, payload, origin)
                 INSERT INTO items (id, payload, origin) SELECT id + 1, payload, origin FROM gone ON CONFLICT DO NOTHING";
    let back = "WITH gone AS (DELETE FROM items WHERE id % 2 = 1 RETURNING id, payload, origin)
                INSERT INTO items (id, payload, origin) SELECT id - 1, payload, origin FROM gone";
    let application = Insistent::start(&items.dsn, again);
    play.apply(&[ItemsSpec::new(ID, Engine::Postgres, Form::WithWhere).rows_per_second(1_500).text()]).await;
    play.until_rows(ID, 700).await;
    application.stop().await;
    let mut session = PgConnection::connect(&items.dsn).await.unwrap();
    sqlx::query(back).execute(&mut session).await.unwrap();
    play.completed(ID).await;
    curtain(&play, ID, &items, Form::WithWhere, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hot_rows_keep_every_write_of_the_application_beside_a_program() {
    let items = Items::postgres("pg-01", 300, KeyKind::Uuid).await;
    let play = Play::start(&[&items]).await;
    let hot = ItemsOptions { rate_per_second: 1_000, new_form: false, key_updates: true };
    let writer = items.writer_with(hot);
    let spec = ItemsSpec::new(ID, Engine::Postgres, Form::WithWhere).transform(VRL).rows_per_second(300);
    play.apply(&[spec.text()]).await;
    play.until_rows(ID, 150).await;
    writer.deploy_new_form();
    play.completed(ID).await;
    curtain(&play, ID, &items, Form::WithWhere, Some(writer)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hot_documents_keep_every_write_of_the_application_beside_a_program() {
    let items = Items::of(Engine::Mongodb, 300).await;
    let play = Play::start(&[&items]).await;
    let hot = ItemsOptions { rate_per_second: 500, new_form: false, key_updates: true };
    let writer = items.writer_with(hot);
    let spec = ItemsSpec::new(ID, Engine::Mongodb, Form::WithWhere).transform(VRL).rows_per_second(300);
    play.apply(&[spec.text()]).await;
    play.until_rows(ID, 150).await;
    writer.deploy_new_form();
    play.completed(ID).await;
    curtain(&play, ID, &items, Form::WithWhere, Some(writer)).await;
}

/// The application never learns the new form: the migration halts with the reason. Once it has learned it, and somebody
/// resumes, what is left is done.
async fn never_learns(engine: Engine) {
    let items = Items::of(engine, 500).await;
    let play = Play::start(&[&items]).await;
    let writer = items.writer_with(ItemsOptions { rate_per_second: 200, new_form: false, key_updates: true });
    play.apply(&[ItemsSpec::new(ID, engine, Form::WithWhere).text()]).await;
    let status = play.reached(ID, "paused").await;
    assert_eq!(status["halted"]["code"], "sweep.not-converging", "{status:#}");
    let next = status["halted"]["next"].as_str().unwrap();
    assert!(next.contains("resume"), "the verb that goes on is resume: {next}");
    let illegal = play.refused(&["retry", ID], 7).await;
    assert!(illegal.contains("resume"), "{illegal}");
    writer.deploy_new_form();
    let more = writer.acknowledged() + 50;
    play.until("the application to write the new form", async || {
        anyhow::ensure!(writer.acknowledged() > more, "{}", writer.acknowledged());
        Ok(())
    })
    .await;
    let resumed = play.installation.cli(&["resume", ID]).await.unwrap();
    assert_eq!(resumed.code, Some(0), "{resumed:#?}");
    play.completed(ID).await;
    curtain(&play, ID, &items, Form::WithWhere, Some(writer)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_writes_the_old_form_for_ever_halts_a_migration_of_postgres() {
    never_learns(Engine::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_writes_the_old_form_for_ever_halts_a_migration_of_mongodb() {
    never_learns(Engine::Mongodb).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_of_the_application_that_commits_late_is_not_missed() {
    let items = Items::alone(Engine::Postgres, 500).await;
    let play = Play::start(&[&items]).await;
    let mut late = PgConnection::connect(&items.dsn).await.unwrap();
    let begin = "BEGIN; INSERT INTO items (id, payload) VALUES (-5, 'late')";
    sqlx::Executor::execute(&mut late, sqlx::raw_sql(begin)).await.unwrap();
    play.apply(&[ItemsSpec::new(ID, Engine::Postgres, Form::WithWhere).text()]).await;
    let sweeping = |status: &Value| status["shards"][0]["step"] == "sweep";
    play.until_status(ID, "its final search to begin", sweeping).await;
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert_eq!(play.status(ID).await["status"], "running", "it waits for the open transaction");
    sqlx::Executor::execute(&mut late, sqlx::raw_sql("COMMIT")).await.unwrap();
    play.completed(ID).await;
    assert_eq!(scalar(&items.dsn, "SELECT applied || ' ' || migrated FROM items WHERE id = -5").await, "1 true");
    let told = items.violations(Form::WithWhere, None).await;
    assert_eq!(told, ["items: a row that nobody wrote: 1, such as (-5)"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_that_holds_no_row_is_completed_at_once() {
    for engine in [Engine::Postgres, Engine::Mongodb] {
        let items = Items::of(engine, 0).await;
        if engine == Engine::Mongodb {
            // A collection that is not there is refused; one that is empty is not.
            collection(&items.dsn).await.insert_one(bson::doc! { "_id": 1 }).await.unwrap();
            collection(&items.dsn).await.delete_one(bson::doc! { "_id": 1 }).await.unwrap();
        }
        let play = Play::start(&[&items]).await;
        for (id, form) in [("0001_empty", Form::WithWhere), ("0002_empty", Form::WithoutWhere)] {
            play.apply(&[ItemsSpec::new(id, engine, form).verify("[{ count: { tolerance: 0 } }]").text()]).await;
            play.completed(id).await;
        }
        assert_nothing_left(&items).await;
    }
}

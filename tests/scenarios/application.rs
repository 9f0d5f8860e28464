//! The application during the run (fault 26): whatever it does, the run ends, and nothing of it is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use bson::{Document, doc};
use serde_json::Value;
use shardlift_harness::dataset::items::KeyKind;
use shardlift_harness::writer::ItemsOptions;
use sqlx::{Connection, Executor, PgConnection};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::stage::{
    Engine, Form, Items, ItemsSpec, Play, VRL, assert_agreed, assert_nothing_left, collection, curtain,
    execute, scalar,
};

const ID: &str = "0001_items";

/// What an application insists on.
enum Habit {
    /// A statement that is told the number of its round.
    Sql(Box<PgConnection>, &'static str),
    /// One more document in the old form.
    Insert(mongodb::Collection<Document>),
}

impl Habit {
    async fn once(&mut self, round: i64) {
        match self {
            Self::Sql(session, sql) => {
                sqlx::query(*sql).bind(round).execute(session.as_mut()).await.unwrap();
            }
            Self::Insert(documents) => {
                let old =
                    doc! { "payload": "grown", "migrated": false, "applied": 0, "origin": "application" };
                documents.insert_one(old).await.unwrap();
            }
        }
    }
}

/// An application that does one thing again and again, as fast as a connection can.
struct Insistent {
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicI64>,
    task: JoinHandle<()>,
}

impl Insistent {
    async fn sql(items: &Items, sql: &'static str) -> Self {
        Self::start(Habit::Sql(Box::new(PgConnection::connect(&items.dsn).await.unwrap()), sql))
    }

    /// Rows in the old form, beyond the end.
    async fn old_form(items: &Items) -> Self {
        match items.engine() {
            Engine::Postgres => {
                Self::sql(items, "INSERT INTO items (id, payload) VALUES (1000000 + $1, 'grown')").await
            }
            Engine::Mongodb => Self::start(Habit::Insert(collection(&items.dsn).await)),
        }
    }

    fn start(mut habit: Habit) -> Self {
        let (stop, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI64::new(0)));
        let (told, count) = (Arc::clone(&stop), Arc::clone(&rounds));
        let task = tokio::spawn(async move {
            while !told.load(Ordering::Relaxed) {
                habit.once(count.fetch_add(1, Ordering::Relaxed)).await;
                sleep(Duration::from_millis(2)).await;
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

/// The application wrote rows that no model knows; everything else must hold.
async fn assert_only_grown(items: &Items, form: Form) {
    let told = items.violations(form, None).await;
    assert!(told.iter().all(|line| line.starts_with("items: a row that nobody wrote")), "{told:#?}");
    assert_nothing_left(items).await;
}

/// Rows appear behind the end faster than batches are allowed to change them.
async fn outgrown(form: Form, insert: &'static str) {
    let items = Items::of(Engine::Postgres, 1_000).await;
    let play = Play::start(&[&items]).await;
    let application = Insistent::sql(&items, insert).await;
    let spec = ItemsSpec::new(ID, Engine::Postgres, form).rows_per_second(500).verify(match form {
        Form::WithWhere => "[remaining]",
        Form::WithoutWhere => "[{ count: { tolerance: 1 } }]",
    });
    play.apply(&[spec.text()]).await;
    play.completed(ID).await;
    let rounds = application.stop().await;
    assert!(rounds * 20 > 1_500, "the table grew by {rounds} times 20 rows only");
    assert_only_grown(&items, form).await;
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
    // Before and behind the cursor. The new row is in the old form again.
    let again = "WITH gone AS (DELETE FROM items WHERE id % 97 = ($1 * 2) % 97 RETURNING id, payload, origin)
                 INSERT INTO items (id, payload, origin) SELECT id, payload, origin FROM gone";
    let application = Insistent::sql(&items, again).await;
    play.apply(&[ItemsSpec::new(ID, Engine::Postgres, Form::WithWhere).rows_per_second(1_500).text()]).await;
    play.until_rows(ID, 700).await;
    assert!(application.stop().await > 10);
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

/// The application never learns the new form: the migration halts with the reason. Once it has stopped to write the old
/// one, and somebody resumes, what is left is done.
async fn never_learns(engine: Engine) {
    let items = Items::of(engine, 500).await;
    // Each search leaves the application the time for a row, also where it is kept from its processor.
    let patient = items.worker("patient").failpoints("worker-before-sweep=sleep(150)");
    let play = Play::of(Play::builder(&[&items]).worker(patient)).await;
    let application = Insistent::old_form(&items).await;
    let spec = ItemsSpec::new(ID, engine, Form::WithWhere).verify("[remaining]");
    play.apply(&[spec.text()]).await;
    let status = play.reached(ID, "paused").await;
    assert_eq!(status["halted"]["code"], "sweep.not-converging", "{status:#}");
    let next = status["halted"]["next"].as_str().unwrap();
    assert!(next.contains("resume"), "the verb that goes on is resume: {next}");
    let illegal = play.refused(&["retry", ID], 7).await;
    assert!(illegal.contains("resume"), "{illegal}");
    application.stop().await;
    let resumed = play.installation.cli(&["resume", ID]).await.unwrap();
    assert_eq!(resumed.code, Some(0), "{resumed:#?}");
    play.completed(ID).await;
    assert_only_grown(&items, Form::WithWhere).await;
    assert_agreed(&play, ID, &[&items]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_vanish_during_the_run_halt_it_at_verification_until_somebody_decides() {
    let items = Items::of(Engine::Postgres, 2_000).await;
    let play = Play::start(&[&items]).await;
    let spec = ItemsSpec::new(ID, Engine::Postgres, Form::WithWhere).rows_per_second(1_500);
    play.apply(&[spec.verify("[remaining, { count: { tolerance: 0.1 } }]").text()]).await;
    play.until_rows(ID, 600).await;
    execute(&items.dsn, "DELETE FROM items WHERE migrated").await;
    let halted = |status: &Value| status["status"] == "paused";
    let status = play.until_status(ID, "to be halted", halted).await;
    assert_eq!(status["halted"]["code"], "verify.mismatch", "{status:#}");
    let message = status["halted"]["message"].as_str().unwrap();
    assert!(
        message.contains("count") && !message.contains("remaining"),
        "only the failed check is told: {message}"
    );
    let resumed = play.installation.cli(&["resume", ID]).await.unwrap();
    assert_eq!(resumed.code, Some(0), "{resumed:#?}");
    let status = play.until_status(ID, "to be halted again", halted).await;
    assert_eq!(
        (&status["phase"], &status["shards"][0]["verified"]),
        (&"verify".into(), &false.into()),
        "{status:#}"
    );
    let cancelled = play.installation.cli(&["cancel", ID]).await.unwrap();
    assert_eq!(cancelled.code, Some(0), "{cancelled:#?}");
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
    late.execute(sqlx::raw_sql(begin)).await.unwrap();
    play.apply(&[ItemsSpec::new(ID, Engine::Postgres, Form::WithWhere).text()]).await;
    let sweeping = |status: &Value| status["shards"][0]["step"] == "sweep";
    play.until_status(ID, "its final search to begin", sweeping).await;
    sleep(Duration::from_millis(500)).await;
    assert_eq!(play.status(ID).await["status"], "running", "it waits for the open transaction");
    late.execute("COMMIT").await.unwrap();
    play.completed(ID).await;
    assert_eq!(
        scalar(&items.dsn, "SELECT applied || ' ' || migrated FROM items WHERE id = -5").await,
        "1 true"
    );
    let told = items.violations(Form::WithWhere, None).await;
    assert_eq!(told, ["items: a row that nobody wrote: 1, such as (-5)"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_that_holds_no_row_is_completed_at_once() {
    for engine in [Engine::Postgres, Engine::Mongodb] {
        let items = Items::of(engine, 0).await;
        if engine == Engine::Mongodb {
            // A collection that is not there is refused; one that is empty is not.
            collection(&items.dsn).await.insert_one(doc! { "_id": 1 }).await.unwrap();
            collection(&items.dsn).await.delete_one(doc! { "_id": 1 }).await.unwrap();
        }
        let play = Play::start(&[&items]).await;
        for (id, form) in [("0001_empty", Form::WithWhere), ("0002_empty", Form::WithoutWhere)] {
            play.apply(&[ItemsSpec::new(id, engine, form).verify("[{ count: { tolerance: 0 } }]").text()])
                .await;
            play.completed(id).await;
        }
        assert_nothing_left(&items).await;
    }
}

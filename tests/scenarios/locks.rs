//! Locks of schema changes that are not to be had (fault 20): a deadline takes back what other shards have already; who is in
//! the way is ended if the spec says so, and that is told.

use shardlift_harness::dataset::items::KeyKind;
use sqlx::{Connection, Executor, PgConnection};

use crate::stage::{Engine, Items, POSTGRES, Play, assert_nothing_left, execute, scalar};

const ID: &str = "0001_note";
const SPEC: &str = "kind: schema\nengine: postgres\nlock_timeout: 200ms\nlock_deadline: 2s\n\
    up: [ALTER TABLE items ADD COLUMN note text]\ndown: [ALTER TABLE items DROP COLUMN note]\n";

async fn has_note(items: &Items) -> bool {
    let column = "SELECT count(*)::text FROM pg_attribute WHERE attrelid = 'items'::regclass AND attname = 'note' \
                  AND NOT attisdropped";
    scalar(&items.dsn, column).await == "1"
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_that_does_not_get_its_lock_by_the_deadline_has_the_others_taken_back() {
    let (one, two) =
        (Items::of(Engine::Postgres, 50).await, Items::postgres("pg-02", 50, KeyKind::Bigint).await);
    let play = Play::start(&[&one, &two]).await;
    let mut report = PgConnection::connect(&two.dsn).await.unwrap();
    let mut held = report.begin().await.unwrap();
    sqlx::query("SELECT count(*) FROM items").execute(&mut *held).await.unwrap();
    let spec = format!("id: {ID}\ncluster: {POSTGRES}\n{SPEC}");
    let output = play.applied(&[&spec]).await;
    let status = play.reached(ID, "rolled_back").await;
    assert_eq!(status["rolled_back_for"]["code"], "schema.lock-deadline", "{output:#?}\n{status:#}");
    assert_eq!(status["rolled_back_for"]["shard"], "pg-02", "{status:#}");
    assert!(!has_note(&one).await && !has_note(&two).await, "no shard is different from the rest");
    held.rollback().await.unwrap();
    for items in [&one, &two] {
        assert_nothing_left(items).await;
    }
    play.apply(&[&spec]).await;
    play.completed(ID).await;
    assert!(has_note(&one).await && has_note(&two).await, "the next version of the id");
    ended_and_told(&play, &two).await;
}

/// A report of the application's keeps the next change from its lock: it is ended, and whoever looks later learns which.
async fn ended_and_told(play: &Play, items: &Items) {
    let id = "0002_more";
    let role = format!("reader_of_{}", scalar(&items.dsn, "SELECT current_database()::text").await);
    execute(&items.dsn, &format!("CREATE ROLE \"{role}\" LOGIN; GRANT SELECT ON items TO \"{role}\"")).await;
    let mut report =
        PgConnection::connect(&items.dsn.replace("postgres@", &format!("{role}@"))).await.unwrap();
    report.execute("SET application_name = 'reports'").await.unwrap();
    report.execute("BEGIN").await.unwrap();
    report.execute("SELECT count(*) FROM items WHERE payload <> 'secret'").await.unwrap();
    let spec = format!(
        "id: {id}\ncluster: {POSTGRES}\nkind: schema\nengine: postgres\nlock_timeout: 200ms\n\
         on_block: {{ end: {{ applications: [reports] }} }}\nup: [ALTER TABLE items ADD COLUMN more text]\n"
    );
    play.apply(&[&spec]).await;
    play.completed(id).await;
    assert!(report.execute("SELECT 1").await.is_err(), "it was in the way");
    let who = format!("(reports, user {role}, idle in transaction, transaction open for ");
    for command in [["status", id].as_slice(), &["audit", "list", "--id", id], &["events", id]] {
        let told = play.installation.cli(command).await.unwrap().stdout;
        assert!(told.contains(&who) && told.contains(" s, SELECT "), "{command:?}: {told}");
        assert!(told.contains("pg-02") && !told.contains("secret"), "{command:?}: {told}");
    }
    let output = play.installation.cli(&["status", id, "--output", "json"]).await.unwrap();
    let status: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
    let ended = &status["ended_sessions"][0];
    assert_eq!(
        (&ended["shard"], &ended["session"]["statement"]),
        (&"pg-02".into(), &"SELECT".into()),
        "{status:#}"
    );
}

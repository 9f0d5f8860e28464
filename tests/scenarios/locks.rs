//! Locks of schema changes that are not to be had (fault 20): a deadline takes back what other shards have already.

use shardlift_harness::dataset::items::KeyKind;
use sqlx::{Connection, PgConnection};

use crate::stage::{Engine, Items, POSTGRES, Play, assert_nothing_left, scalar};

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
}

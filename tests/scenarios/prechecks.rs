//! What is looked at before anything is changed: dangerous statements, and what is in the way on the shards.

use serde_json::Value;
use shardlift_harness::dataset::items::KeyKind;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use crate::stage::{
    Engine, Form, Items, ItemsSpec, POSTGRES, Play, Specs, assert_exactly_once, curtain, execute, scalar,
};

const ID: &str = "0001_prechecked";
/// Exit code of a spec or plan that was refused.
const REFUSED: i32 = 5;

fn schema(id: &str, more: &str, up: &str) -> String {
    format!("id: {id}\nkind: schema\nengine: postgres\ncluster: {POSTGRES}\n{more}up: [\"{up}\"]\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dangerous_statement_is_refused_and_let_through_once_the_spec_says_why_it_is_meant() {
    let items = Items::of(Engine::Postgres, 100).await;
    let play = Play::start(&[&items]).await;
    let up = "ALTER TABLE items DROP COLUMN payload";
    let specs = Specs::of(&[schema(ID, "", up)]);
    let complaint = play.refused(&["apply", specs.as_str(), "--yes"], REFUSED).await;
    for word in ["lint.refused", "statement 1", "ban-drop-column", "allow"] {
        assert!(complaint.contains(word), "{word:?} is not told: {complaint}");
    }
    let list = play.installation.cli_json(&["list"]).await.unwrap();
    assert_eq!(list["migrations"], Value::Array(Vec::new()));
    let meant = schema(ID, "allow: [{ rule: ban-drop-column, reason: nobody reads it }]\n", up);
    let plan = play.installation.cli(&["plan", Specs::of(&[&meant]).as_str()]).await.unwrap();
    assert!(plan.code == Some(0) && plan.stdout.contains("nobody reads it"), "{plan:#?}");
    play.apply(&[meant]).await;
    play.completed(ID).await;
}

/// An application that begins a transaction and prepares it, then forgets it.
async fn leave_prepared(dsn: &str, gid: &str) {
    let mut session = PgConnection::connect(dsn).await.unwrap();
    session.execute("BEGIN; UPDATE items SET payload = payload WHERE id = 1").await.unwrap();
    session.execute(AssertSqlSafe(format!("PREPARE TRANSACTION '{gid}'"))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_the_way_on_all_shards_is_told_at_once_and_nothing_hangs_on_a_forgotten_prepared_transaction()
 {
    let (one, two) =
        (Items::alone(Engine::Postgres, 200).await, Items::postgres("pg-02", 200, KeyKind::Bigint).await);
    let play = Play::start(&[&one, &two]).await;
    leave_prepared(&one.dsn, "forgotten-7").await;
    execute(&two.dsn, "ALTER TABLE items RENAME COLUMN applied TO applied_before").await;
    let spec = ItemsSpec::new(ID, Engine::Postgres, Form::WithWhere);
    let specs = Specs::of(&[spec.text()]);
    for verb in [&["plan"][..], &["apply", "--yes"]] {
        let complaint = play.refused(&[verb, &[specs.as_str()]].concat(), REFUSED).await;
        for word in ["forgotten-7", "ROLLBACK PREPARED", "column applied", "pg-01", "pg-02", "shard.drift"] {
            assert!(complaint.contains(word), "{word:?} is not told: {complaint}");
        }
    }
    let list = play.installation.cli_json(&["list"]).await.unwrap();
    assert_eq!(list["migrations"], Value::Array(Vec::new()));
    execute(&one.dsn, "ROLLBACK PREPARED 'forgotten-7'").await;
    execute(&two.dsn, "ALTER TABLE items RENAME COLUMN applied_before TO applied").await;
    play.apply(&[spec.text()]).await;
    play.completed(ID).await;
    for items in [&one, &two] {
        assert_exactly_once(items, Form::WithWhere, None).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_is_prepared_after_the_plan_is_refused_by_the_precheck() {
    let items = Items::alone(Engine::Postgres, 300).await;
    execute(&items.dsn, "CREATE TABLE orders (id int PRIMARY KEY)").await;
    let play = Play::start(&[&items]).await;
    let first = ItemsSpec::new("0000_first", Engine::Postgres, Form::WithoutWhere)
        .transform("sql: { payload: payload }")
        .rows_per_second(100);
    let spec = ItemsSpec::new(ID, Engine::Postgres, Form::WithWhere).depends_on("0000_first");
    play.apply(&[first.text(), spec.text()]).await;
    play.until_rows("0000_first", 1).await;
    let mut session = PgConnection::connect(&items.dsn).await.unwrap();
    session.execute("BEGIN; INSERT INTO orders VALUES (1); PREPARE TRANSACTION 'forgotten-8'").await.unwrap();
    let status = play.reached(ID, "failed").await;
    assert!(status["error"]["message"].as_str().unwrap().contains("forgotten-8"), "{status:#}");
    execute(&items.dsn, "ROLLBACK PREPARED 'forgotten-8'").await;
    play.installation.cli(&["retry", ID]).await.unwrap();
    play.completed(ID).await;
    curtain(&play, ID, &items, Form::WithWhere, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_behind_a_schema_change_that_waits_for_a_long_transaction_which_is_named() {
    let items = Items::of(Engine::Postgres, 200).await;
    let play = Play::start(&[&items]).await;
    let mut report = PgConnection::connect(&items.dsn).await.unwrap();
    report.execute("SET application_name = 'reports'").await.unwrap();
    report.execute("BEGIN; SELECT count(*) FROM items").await.unwrap();
    let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut report).await.unwrap();
    let plain = schema(ID, "lock_timeout: 200ms\n", "ALTER TABLE items ADD COLUMN note text");
    play.apply(&[plain]).await;
    let named = format!("pid {pid} (reports, user ");
    let mut other = PgConnection::connect(&items.dsn).await.unwrap();
    // Far longer than our request may stand in its way, so that it fails only if somebody does wait behind us.
    other.execute("SET lock_timeout = '20s'").await.unwrap();
    play.until("the blocker to be named while others pass", async || {
        sqlx::query("SELECT 1 FROM items LIMIT 1").execute(&mut other).await?;
        let status = play.installation.status(ID).await?;
        let told = status["shards"][0]["trouble"]["message"].as_str().unwrap_or_default();
        anyhow::ensure!(status["status"] == "running" && told.contains(&named), "{status:#}");
        Ok(())
    })
    .await;
    let absent = "SELECT count(*)::text FROM information_schema.columns WHERE table_name = 'items' AND column_name = 'note'";
    assert_eq!(scalar(&items.dsn, absent).await, "0");
    report.execute("COMMIT").await.unwrap();
    play.completed(ID).await;
    assert_eq!(scalar(&items.dsn, absent).await, "1");
}

//! Who did what is told, chained, and found to be broken when somebody changes it behind the back of the coordinator.

use serde_json::json;
use shardlift_harness::installation::Store;
use shardlift_harness::servers::shared_postgres;
use sqlx::Executor;

use crate::stage::{DEADLINE, Engine, Form, Http, Items, ItemsSpec, Play, execute, scalar, store};

const ID: &str = "0001_items";

async fn completed(play: &Play) {
    play.apply(&[ItemsSpec::new(ID, Engine::Postgres, Form::WithWhere).text()]).await;
    play.completed(ID).await;
}

/// What `audit verify` says, and with which code it ends.
async fn verified(play: &Play, args: &[&str]) -> (i32, serde_json::Value) {
    let args = [&["audit", "verify", "--output", "json"], args].concat();
    let output = play.installation.cli(&args).await.unwrap();
    let told = serde_json::from_str(&output.stdout).unwrap_or_else(|_| panic!("{output:#?}"));
    (output.code.unwrap(), told)
}

/// It holds; its head.
async fn holds(play: &Play) -> String {
    let (code, told) = verified(play, &[]).await;
    assert_eq!((code, &told["broken"]), (0, &json!(null)), "{told:#}");
    assert!(told["entries"].as_u64().unwrap() > 5, "{told:#}");
    told["head"].as_str().unwrap().to_owned()
}

/// It is broken at this entry; `None`: at its end.
async fn broken(play: &Play, at: Option<i64>) {
    let (code, told) = verified(play, &[]).await;
    assert_eq!((code, &told["broken"]["sequence"]), (8, &json!(at)), "{told:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_changed_behind_its_back_in_sqlite_is_found() {
    let items = Items::of(Engine::Postgres, 200).await;
    let play = Play::start(&[&items]).await;
    completed(&play).await;
    let head = holds(&play).await;

    let listed = play.installation.cli_json(&["audit", "list", "--id", ID]).await.unwrap();
    let entries = listed["entries"].as_array().unwrap();
    let started = entries.iter().find(|entry| entry["event"] == "started").unwrap();
    assert!(started["request_id"].as_str().is_some_and(|id| id.len() == 36), "{started:#}");
    let phase = entries.iter().find(|entry| entry["event"] == "phase_entered").unwrap();
    assert!(phase["detail"]["before"]["phase"].is_string(), "{phase:#}");
    let newest = play.installation.cli_json(&["audit", "list", "--limit", "2"]).await.unwrap();
    assert_eq!(newest["entries"].as_array().unwrap().last(), entries.last());

    let mut file = store(&play).await;
    let kept: String = sqlx::query_scalar("SELECT actor FROM migration_history WHERE id = 2")
        .fetch_one(&mut file)
        .await
        .unwrap();
    let refused = file.execute("UPDATE migration_history SET actor = 'nobody' WHERE id = 2").await;
    assert!(refused.unwrap_err().to_string().contains("append-only"));
    // Whoever may write to the file may also take the guard away.
    for statement in [
        "DROP TRIGGER migration_history_keeps_its_words",
        "DROP TRIGGER migration_history_keeps_its_rows",
        "UPDATE migration_history SET actor = 'nobody' WHERE id = 2",
    ] {
        file.execute(statement).await.unwrap();
    }
    broken(&play, Some(2)).await;
    let back = sqlx::query("UPDATE migration_history SET actor = ? WHERE id = 2").bind(kept);
    back.execute(&mut file).await.unwrap();
    assert_eq!(holds(&play).await, head, "as it was");
    file.execute("UPDATE migration_history SET details = '{' WHERE id = 3").await.unwrap();
    broken(&play, Some(3)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_that_was_tampered_with_in_postgres_is_found() {
    let items = Items::of(Engine::Postgres, 200).await;
    let dsn = shared_postgres().await.unwrap();
    let play = Play::of(Play::builder(&[&items]).store(Store::Postgres(dsn.clone()))).await;
    completed(&play).await;
    let head = holds(&play).await;
    let table = "shardlift_coordinator.migration_history";
    let run = async |sql: String| execute(&dsn, &sql).await;
    run(format!("ALTER TABLE {table} DISABLE TRIGGER USER; CREATE TABLE kept AS SELECT * FROM {table}"))
        .await;
    let id = async |place: &str| -> i64 {
        // By the number: the column that is selected is a text.
        let sql = format!("SELECT id::text FROM kept ORDER BY kept.{place} LIMIT 1");
        scalar(&dsn, &sql).await.parse().unwrap()
    };
    let (last, fourth, fifth) = (id("id DESC").await, id("id OFFSET 3").await, id("id OFFSET 4").await);

    // A row in the middle vanishes: the next one does not follow any more.
    run(format!("DELETE FROM {table} WHERE id = {fourth}")).await;
    broken(&play, Some(fifth)).await;
    run(format!("INSERT INTO {table} OVERRIDING SYSTEM VALUE SELECT * FROM kept WHERE id = {fourth}")).await;
    assert_eq!(holds(&play).await, head, "as it was");

    // The newest rows vanish: the head knows better.
    run(format!("DELETE FROM {table} WHERE id >= {}", last - 1)).await;
    broken(&play, None).await;

    // The head is cut as well: only what was kept elsewhere tells.
    run(format!(
        "UPDATE shardlift_coordinator.fence SET history_count = (SELECT count(hash) FROM {table}), \
         history_hash = (SELECT hash FROM {table} ORDER BY id DESC LIMIT 1)"
    ))
    .await;
    let (code, told) = verified(&play, &[]).await;
    assert_eq!(code, 0, "the honest limit: {told:#}");
    let (code, told) = verified(&play, &["--known", &head]).await;
    assert_eq!(code, 8, "{told:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_caller_that_asks_too_often_is_refused_and_comes_again() {
    let items = Items::of(Engine::Postgres, 10).await;
    let builder =
        Play::builder(&[&items]).rest().coordinator_env("SHARDLIFT__REST__REQUESTS_PER_SECOND", "5");
    let play = Play::of(builder).await;
    let http = Http::of(play.installation.coordinators()[0].rest_address().unwrap()).await;
    let mut refused = None;
    for _ in 0..60 {
        let answer = http.get("/api/v1/leader").await;
        if answer.status == 429 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("one of sixty requests at once is refused");
    let pause: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=2).contains(&pause), "{pause}");
    refused.refused(429, "request.too-many");
    // Probes are not counted, and gRPC has nothing to do with it.
    assert_eq!(http.get("/health/live").await.status, 200);
    play.installation.cli_json(&["leader"]).await.unwrap();
    let again = shardlift_harness::wait::wait_for_ok("it is answered again", DEADLINE, async || {
        anyhow::ensure!(http.get("/api/v1/leader").await.status == 200, "still too often");
        Ok(())
    });
    again.await.unwrap();
}

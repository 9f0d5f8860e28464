//! Repair (promises P1, P8, P13): what was planted behind a migration's back is given what the transform gives, once, whoever dies
//! meanwhile; what the application has changed since is left alone.

use std::os::unix::process::ExitStatusExt;

use bson::doc;
use serde_json::Value;
use shardlift_harness::installation::Output;

use crate::anew::{ID, ROWS, documents, halted, kept, migrated, telling};
use crate::stage::{DEADLINE, Engine, Items, Play, collection, execute, scalar};

const SIGABRT: i32 = 6;
/// Nobody but the migration writes these fields.
const STRICT: &str = "[remaining, { transform: { changed: 0 } }]";

/// Behind everybody's back: one row altered, two with each other's content. Their ids.
async fn plant(items: &Items) -> Vec<String> {
    let ids = migrated(items, 3).await;
    match items.engine() {
        Engine::Postgres => {
            let [altered, one, other] = ids.as_slice() else { panic!("{ids:?}") };
            execute(
                &items.dsn,
                &format!(
                    "UPDATE items SET payload = 'planted' WHERE id = {altered};
                     UPDATE items SET payload = (SELECT payload FROM items b WHERE b.id = CASE items.id WHEN {one} THEN {other} ELSE {one} END)
                       WHERE id IN ({one}, {other})"
                ),
            )
            .await;
        }
        Engine::Mongodb => {
            let found = documents(items, 3).await;
            let all = collection(&items.dsn).await;
            let payload = |n: usize| found[n].get_str("payload").unwrap().to_owned();
            for (n, payload) in [(0, "planted".to_owned()), (1, payload(2)), (2, payload(1))] {
                let set = doc! { "$set": { "payload": payload } };
                let done = all.update_one(doc! { "_id": found[n].get("_id").cloned() }, set).await.unwrap();
                assert_eq!(done.modified_count, 1);
            }
        }
    }
    ids
}

/// The application gives a row another payload.
async fn write(items: &Items, number: usize, ids: &[String], payload: &str) {
    match items.engine() {
        Engine::Postgres => {
            let id = &ids[number];
            execute(&items.dsn, &format!("UPDATE items SET payload = '{payload}' WHERE id = {id}")).await;
        }
        Engine::Mongodb => {
            let found = documents(items, 3).await;
            let key = doc! { "_id": found[number].get("_id").cloned() };
            let set = doc! { "$set": { "payload": payload } };
            let done = collection(&items.dsn).await.update_one(key, set).await.unwrap();
            assert_eq!(done.modified_count, 1);
        }
    }
}

/// The payload of one of the first rows.
async fn payload(items: &Items, number: usize, ids: &[String]) -> String {
    match items.engine() {
        Engine::Postgres => {
            scalar(&items.dsn, &format!("SELECT payload FROM items WHERE id = {}", ids[number])).await
        }
        Engine::Mongodb => documents(items, 3).await[number].get_str("payload").unwrap().to_owned(),
    }
}

async fn cli(play: &Play, args: &[&str]) -> Output {
    play.installation.cli(args).await.unwrap()
}

/// `shardlift repair`, once a worker answers: what it says.
async fn repair(play: &Play, dry_run: bool) -> (Option<i32>, Value) {
    let mut args = vec!["repair", ID, "--output", "json"];
    args.extend(dry_run.then_some("--dry-run"));
    play.until("a worker to repair", async || {
        let output = play.installation.cli(&args).await?;
        anyhow::ensure!(matches!(output.code, Some(0 | 8)), "{output:#?}");
        Ok((output.code, serde_json::from_str(&output.stdout)?))
    })
    .await
}

fn keys(told: &Value, fate: &str) -> Vec<String> {
    let rows = told["rows"].as_array().unwrap().iter().filter(|row| row["fate"] == fate);
    let mut keys: Vec<String> = rows.map(|row| row["key"].as_str().unwrap().to_owned()).collect();
    keys.sort();
    keys
}

/// The worker dies in the middle of a repair, at this point.
async fn dies(play: &Play, point: &str) {
    let worker = play.installation.worker(0);
    worker.set_failpoints(&format!("{point}=return"));
    worker.restart().await.unwrap();
    let status = play.until("a worker to begin to repair", async || {
        cli(play, &["repair", ID, "--wait", "1"]).await;
        worker.process().wait_exit(std::time::Duration::from_secs(5)).await
    });
    let status = status.await;
    assert_eq!(status.signal(), Some(SIGABRT), "{point}: {}", worker.process().log_tail(20));
    worker.set_failpoints("");
    worker.restart().await.unwrap();
}

async fn planted(engine: Engine, points: [&str; 2]) {
    let items = Items::of(engine, ROWS).await;
    let play = Play::start(&[&items]).await;
    play.apply(&[kept(&telling(engine).rows_per_second(1_000).verify(STRICT))]).await;
    play.until_rows(ID, 400).await;
    let early = play.refused(&["repair", ID], 7).await;
    assert!(early.contains("wait for its verification"), "{early}");
    let ids = plant(&items).await;
    let planted = [payload(&items, 0, &ids).await, payload(&items, 1, &ids).await];
    play.until_status(ID, "to be halted", halted).await;
    write(&items, 2, &ids, "of the application").await;

    let (code, told) = repair(&play, true).await;
    let mut two = ids[..2].to_vec();
    two.sort();
    assert_eq!(
        (keys(&told, "repaired"), keys(&told, "left"), code),
        (two, vec![ids[2].clone()], Some(8)),
        "{told:#}"
    );
    assert!(!told.to_string().contains("planted"), "values stay: {told:#}");
    let now = [payload(&items, 0, &ids).await, payload(&items, 1, &ids).await];
    assert_eq!(now, planted, "a dry run changes nothing");

    for point in points {
        dies(&play, point).await;
    }
    let (code, told) = repair(&play, false).await;
    assert_eq!((keys(&told, "left"), code), (vec![ids[2].clone()], Some(8)), "{told:#}");
    assert_eq!(payload(&items, 2, &ids).await, "of the application");
    let (_, told) = repair(&play, false).await;
    assert!(keys(&told, "repaired").is_empty(), "nothing twice: {told:#}");

    // It is the application's, but the spec says that there is none: somebody has to decide.
    let output = cli(&play, &["resume", ID]).await;
    assert_eq!(output.code, Some(0), "{output:#?}");
    let status = play.until_status(ID, "to be halted again", |status| {
        halted(status) && status["halted"]["message"].as_str().is_some_and(|told| told.contains(&ids[2]))
    });
    let message = status.await["halted"]["message"].to_string();
    assert!(message.contains("1 were changed since") && message.contains("0 are not"), "{message}");
    let (code, told) = repair(&play, false).await;
    assert_eq!((keys(&told, "repaired"), code), (vec![ids[2].clone()], Some(0)), "{told:#}");
    let output = cli(&play, &["resume", ID]).await;
    assert_eq!(output.code, Some(0), "{output:#?}");
    play.completed(ID).await;

    // What stands in the log of what was repaired is true.
    let output = cli(&play, &["rollback", ID, "--yes"]).await;
    assert_eq!(output.code, Some(0), "{output:#?}");
    let status = play.reached(ID, "rolled_back").await;
    assert_eq!(status["conflicts"].as_u64().unwrap_or_default(), 0, "{status:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_altered_and_swapped_behind_its_back_are_repaired_once_whoever_dies() {
    planted(Engine::Postgres, ["pg-repair-before-commit", "pg-repair-after-commit"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_altered_and_swapped_behind_its_back_are_repaired_once_whoever_dies() {
    planted(Engine::Mongodb, ["mg-repair-before-commit", "mg-repair-after-commit"]).await;
}

/// How many rows the verification has looked at, as the shard has it.
async fn looked_at(items: &Items) -> i64 {
    match items.engine() {
        Engine::Postgres => {
            let verified = "SELECT coalesce(max(verified), 0)::text FROM shardlift.verifying";
            scalar(&items.dsn, verified).await.parse().unwrap()
        }
        Engine::Mongodb => {
            let own = collection(&items.dsn).await.client().database("shardlift");
            let kept = own.collection::<bson::Document>("verifying").find_one(doc! {}).await.unwrap();
            kept.and_then(|kept| kept.get_i64("verified").ok()).unwrap_or_default()
        }
    }
}

/// Each life of the worker looks at a part of the log only, and yet all of it is verified.
async fn goes_on(engine: Engine, checks: &str) {
    let items = Items::of(engine, ROWS).await;
    let each = "worker-verify-keeps-each-page=return";
    let dies = format!("{each};worker-verify-kept=7*off->return");
    let dying = items.worker("worker").failpoints(&dies);
    let play = Play::of(Play::builder(&[&items]).worker(dying)).await;
    let worker = play.installation.worker(0);
    let spec = telling(engine).batch("{ target: 50ms, min: 40, max: 60 }").verify(checks);
    play.apply(&[kept(&spec)]).await;
    let mut seen = 0;
    for life in 1..=3 {
        let status = worker.process().wait_exit(DEADLINE).await.unwrap();
        assert_eq!(status.signal(), Some(SIGABRT), "{}", worker.process().log_tail(20));
        let now = looked_at(&items).await;
        assert!(now > seen && now < i64::try_from(ROWS).unwrap(), "life {life}: {seen} {now}");
        seen = now;
        worker.set_failpoints(if life < 3 { &dies } else { "" });
        worker.restart().await.unwrap();
    }
    play.completed(ID).await;
    assert_eq!(looked_at(&items).await, i64::try_from(ROWS).unwrap(), "each row once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verification_of_postgres_that_loses_its_workers_goes_on_where_it_was() {
    goes_on(Engine::Postgres, "[remaining, digest]").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verification_of_mongodb_that_loses_its_workers_goes_on_where_it_was() {
    goes_on(Engine::Mongodb, STRICT).await;
}

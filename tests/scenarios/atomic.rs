//! A schema change that every shard makes or none (faults 9, 10): nobody's death leaves one shard different from the rest,
//! nothing stays prepared, and what is not ours stays as it is.

use serde_json::Value;
use shardlift_harness::dataset::items::KeyKind;
use shardlift_harness::installation::{Coordinator, WorkerSpec};
use sqlx::{Connection, PgConnection, Postgres, Transaction};

use crate::stage::{
    Control, Engine, Items, POSTGRES, Play, Specs, assert_nothing_left, execute, scalar, store,
};

const SHARDS: [&str; 3] = ["pg-01", "pg-02", "pg-03"];

async fn shards() -> [Items; 3] {
    let [one, two, three] = SHARDS;
    let shard = |name| Items::postgres(name, 10, KeyKind::Bigint);
    [shard(one).await, shard(two).await, shard(three).await]
}

fn spec(id: &str, column: &str) -> String {
    format!(
        "id: {id}\nkind: schema\nengine: postgres\ncluster: {POSTGRES}\natomic: true\n\
         up: [\"ALTER TABLE items ADD COLUMN {column} integer\"]\ndown: [\"ALTER TABLE items DROP COLUMN {column}\"]\n"
    )
}

/// On how many shards the column is there.
async fn changed(shards: &[Items], column: &str) -> usize {
    let there = format!(
        "SELECT count(*)::text FROM pg_attribute WHERE attrelid = 'items'::regclass AND attname = '{column}' \
         AND NOT attisdropped"
    );
    let mut count = 0;
    for items in shards {
        count += usize::from(scalar(&items.dsn, &there).await == "1");
    }
    count
}

/// On how many shards something of ours is prepared.
async fn prepared(shards: &[Items]) -> usize {
    let ours = "SELECT (count(*) > 0)::int::text FROM pg_prepared_xacts \
                WHERE database = current_database() AND gid LIKE 'shardlift:%' AND gid NOT LIKE 'shardlift:00000000-%'";
    let mut count = 0;
    for items in shards {
        count += usize::from(scalar(&items.dsn, ours).await == "1");
    }
    count
}

/// What `shardlift indoubt` lists, by shard: what was decided.
async fn in_doubt(play: &Play, args: &[&str]) -> Vec<(String, String)> {
    let output =
        play.installation.cli(&[&["indoubt", "--output", "json"][..], args].concat()).await.unwrap().stdout;
    let told: Value = serde_json::from_str(&output).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let all = told["transactions"].as_array().into_iter().flatten();
    all.map(|one| (text(&one["shard"]), text(&one["decision"]))).collect()
}

async fn decisions(play: &Play) -> Vec<String> {
    sqlx::query_scalar("SELECT decision FROM decisions ORDER BY migration_id")
        .fetch_all(&mut store(play).await)
        .await
        .unwrap()
}

async fn all_or_nothing(shards: &[Items]) {
    for items in shards {
        assert_nothing_left(items).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_shard_makes_the_change_after_all_have_prepared_it() {
    let shards = shards().await;
    let play = Play::start(&shards.each_ref()).await;
    play.apply(&[spec("0001_column", "added")]).await;
    let status = play.completed("0001_column").await;
    assert_eq!(changed(&shards, "added").await, 3, "{status:#}");
    assert_eq!(decisions(&play).await, ["commit"]);
    assert!(in_doubt(&play, &["--all"]).await.is_empty());
    let back = play.installation.cli(&["rollback", "0001_column", "--yes"]).await.unwrap();
    assert_eq!(back.code, Some(0), "{back:#?}");
    play.reached("0001_column", "rolled_back").await;
    assert_eq!(changed(&shards, "added").await, 0, "by `down`, shard by shard");
    all_or_nothing(&shards).await;
}

/// A transaction of another installation, under a name much like ours.
async fn foreign(items: &Items) -> String {
    let gid = "shardlift:00000000-0000-4000-8000-000000000000:0001_column@1:pg-02:1.1";
    execute(&items.dsn, &format!("BEGIN; SELECT 1; PREPARE TRANSACTION '{gid}'")).await;
    gid.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_dies_around_the_decision_or_between_two_commits_leaves_no_shard_behind() {
    let shards = shards().await;
    // One slot: one shard after the other.
    let worker = WorkerSpec::new("worker", &SHARDS).slots(1);
    let play = Play::of(Play::builder(&shards.each_ref()).worker(worker)).await;
    let coordinator = play.installation.coordinator();
    let deaths = [
        ("before-decision=return", 0, 3),
        ("after-decision=return", 0, 3),
        ("before-committed=1*off->return", 2, 1),
    ];
    for (number, (failpoint, committed, open)) in deaths.into_iter().enumerate() {
        let (id, column) = (format!("000{number}_column"), format!("added_{number}"));
        coordinator.set_failpoints(failpoint);
        coordinator.restart().await.unwrap();
        play.installation.wait_connected().await.unwrap();
        play.apply(&[spec(&id, &column)]).await;
        play.until("the coordinator to die", async || {
            anyhow::ensure!(!coordinator.process().is_running(), "it runs");
            Ok(())
        })
        .await;
        assert_eq!(
            (changed(&shards, &column).await, prepared(&shards).await),
            (committed, open),
            "{failpoint}"
        );
        let foreign = foreign(&shards[1]).await;
        coordinator.set_failpoints("");
        coordinator.restart().await.unwrap();
        play.completed(&id).await;
        assert_eq!((changed(&shards, &column).await, prepared(&shards).await), (3, 0), "{failpoint}");
        assert!(in_doubt(&play, &[]).await.is_empty());
        assert_eq!(in_doubt(&play, &["--all"]).await, [("pg-02".to_owned(), "foreign".to_owned())]);
        execute(&shards[1].dsn, &format!("ROLLBACK PREPARED '{foreign}'")).await;
    }
    assert_eq!(decisions(&play).await, ["commit"; 3]);
    all_or_nothing(&shards).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_with_what_it_has_prepared_or_is_to_commit_holds_nobody_back() {
    let shards = shards().await;
    let play = Play::start(&shards.each_ref()).await;
    let worker = play.installation.worker(2);
    let deaths = [
        ("pg-after-prepare=return", 1),
        ("pg-before-commit-prepared=return", 1),
        ("pg-after-commit-prepared=return", 0),
    ];
    for (number, (failpoint, left)) in deaths.into_iter().enumerate() {
        let (id, column) = (format!("000{number}_column"), format!("added_{number}"));
        worker.set_failpoints(failpoint);
        worker.restart().await.unwrap();
        play.installation.wait_connected().await.unwrap();
        play.apply(&[spec(&id, &column)]).await;
        play.until("the worker to die", async || {
            anyhow::ensure!(!worker.process().is_running(), "it runs");
            Ok(())
        })
        .await;
        assert_eq!(prepared(&shards[2..]).await, left, "{failpoint}");
        if number > 0 {
            play.until_status(&id, "the others have committed", |status| status["status"] == "running").await;
            let refused = play.refused(&["cancel", &id], 7).await;
            assert!(refused.contains("it is decided that all of them commit"), "{refused}");
        }
        worker.set_failpoints("");
        worker.restart().await.unwrap();
        play.completed(&id).await;
        assert_eq!((changed(&shards, &column).await, prepared(&shards).await), (3, 0), "{failpoint}");
    }
    all_or_nothing(&shards).await;
}

/// Has two shards prepare while the lock of the third is not to be had; ending the transaction lets it go.
async fn two_of_three_prepare<'a>(
    play: &Play,
    shards: &[Items; 3],
    report: &'a mut PgConnection,
) -> Transaction<'a, Postgres> {
    let mut held = report.begin().await.unwrap();
    sqlx::query("SELECT count(*) FROM items").execute(&mut *held).await.unwrap();
    play.apply(&[spec("0001_column", "added") + "lock_timeout: 60s\n"]).await;
    play.until("two shards to have prepared", async || {
        anyhow::ensure!(prepared(&shards[..2]).await == 2, "not yet");
        Ok(())
    })
    .await;
    held
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_keeps_what_is_prepared_and_follows_the_decision_when_it_is_back() {
    let shards = [
        Items::alone(Engine::Postgres, 10).await,
        Items::postgres("pg-02", 10, KeyKind::Bigint).await,
        Items::postgres("pg-03", 10, KeyKind::Bigint).await,
    ];
    let play = Play::start(&shards.each_ref()).await;
    let mut report = PgConnection::connect(&shards[2].dsn).await.unwrap();
    let held = two_of_three_prepare(&play, &shards, &mut report).await;
    let worker = play.installation.worker(0);
    shards[0].kill9();
    held.commit().await.unwrap();
    play.until("the others to have committed", async || {
        anyhow::ensure!(changed(&shards[1..], "added").await == 2, "not yet");
        Ok(())
    })
    .await;
    assert_eq!(play.status("0001_column").await["decided"], "commit");
    let told = play.installation.cli(&["indoubt"]).await.unwrap();
    assert_eq!(told.code, Some(5), "one shard cannot be asked: {told:#?}");
    assert!(told.stdout.contains("not asked pg-01"), "{told:#?}");
    worker.process().pause();
    shards[0].restart().await;
    assert_eq!((changed(&shards[..1], "added").await, prepared(&shards[..1]).await), (0, 1));
    worker.process().resume();
    play.completed("0001_column").await;
    assert_eq!((changed(&shards, "added").await, prepared(&shards).await), (3, 0));
    all_or_nothing(&shards).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_that_is_away_when_it_is_cancelled_rolls_back_when_its_worker_is_back() {
    let shards = shards().await;
    let play = Play::start(&shards.each_ref()).await;
    let mut report = PgConnection::connect(&shards[2].dsn).await.unwrap();
    let held = two_of_three_prepare(&play, &shards, &mut report).await;
    let worker = play.installation.worker(0);
    worker.kill9();
    let cancelled = play.installation.cli(&["cancel", "0001_column"]).await.unwrap();
    assert_eq!(cancelled.code, Some(0), "{cancelled:#?}");
    play.until("the other one to have rolled back", async || {
        anyhow::ensure!(prepared(&shards).await == 1, "not yet");
        Ok(())
    })
    .await;
    let status = play.status("0001_column").await;
    let told = (status["status"].as_str(), status["decided"].as_str());
    assert_eq!(told, (Some("running"), Some("abort")), "{status:#}");
    // Whoever leads next knows it, too.
    play.installation.coordinator().restart().await.unwrap();
    worker.restart().await.unwrap();
    play.reached("0001_column", "cancelled").await;
    assert_eq!((changed(&shards, "added").await, prepared(&shards).await), (0, 0));
    held.commit().await.unwrap();
    play.apply(&[spec("0001_column", "added")]).await;
    let status = play.completed("0001_column").await;
    assert_eq!(status["version"], 2, "nothing was changed, so it is the next version of the same id");
    assert_eq!(changed(&shards, "added").await, 3);
    all_or_nothing(&shards).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_counts_on_is_rolled_back_and_what_nobody_knows_is_listed_and_left() {
    let shards = shards().await;
    let play = Play::start(&shards.each_ref()).await;
    play.installation.wait_connected().await.unwrap();
    // A shard is told whose it is when it is first asked for anything.
    assert!(in_doubt(&play, &[]).await.is_empty());
    let uuid = scalar(&shards[1].dsn, "SELECT cluster_uuid FROM shardlift.identity").await;
    // Left by a worker of an earlier leader, in the way of the change itself.
    let left = format!("shardlift:{uuid}:0001_column@1:pg-02:0.7");
    let lock = "LOCK TABLE items IN ROW EXCLUSIVE MODE";
    execute(&shards[1].dsn, &format!("BEGIN; {lock}; PREPARE TRANSACTION '{left}'")).await;
    // Of a migration that this store has never heard of.
    let lost = format!("shardlift:{uuid}:0009_lost@1:pg-03:1.1");
    execute(&shards[2].dsn, "CREATE TABLE others (id integer)").await;
    let lock = "LOCK TABLE others IN SHARE MODE";
    execute(&shards[2].dsn, &format!("BEGIN; {lock}; PREPARE TRANSACTION '{lost}'")).await;
    play.apply(&[spec("0001_column", "added")]).await;
    play.completed("0001_column").await;
    assert_eq!(changed(&shards, "added").await, 3);
    assert_eq!((prepared(&shards[1..2]).await, prepared(&shards[2..]).await), (0, 1));
    let told = play.installation.cli(&["indoubt"]).await.unwrap();
    for part in ["pg-03", "0009_lost@1", "unknown", "ShareLock public.others"] {
        assert!(told.stdout.contains(part), "{told:#?}");
    }
    assert_eq!(in_doubt(&play, &[]).await, [("pg-03".to_owned(), "unknown".to_owned())]);
    execute(&shards[2].dsn, &format!("ROLLBACK PREPARED '{lost}'")).await;
    all_or_nothing(&shards).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_fails_on_one_shard_changes_no_shard() {
    let shards = shards().await;
    let play = Play::start(&shards.each_ref()).await;
    execute(&shards[1].dsn, "ALTER TABLE items ADD COLUMN added integer").await;
    play.apply(&[spec("0001_column", "added")]).await;
    let status = play.reached("0001_column", "failed").await;
    assert!(status["error"]["message"].as_str().unwrap().contains("already exists"), "{status:#}");
    assert_eq!((changed(&shards, "added").await, prepared(&shards).await), (1, 0));
    assert_eq!(decisions(&play).await, ["abort"]);
    execute(&shards[1].dsn, "ALTER TABLE items DROP COLUMN added").await;
    let retried = play.installation.cli(&["retry", "0001_column"]).await.unwrap();
    assert_eq!(retried.code, Some(0), "{retried:#?}");
    play.completed("0001_column").await;
    assert_eq!((changed(&shards, "added").await, decisions(&play).await), (3, vec!["commit".to_owned()]));
    all_or_nothing(&shards).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_before_the_decision_lets_go_of_all_locks_and_a_resume_prepares_anew() {
    let shards = shards().await;
    let play = Play::start(&shards.each_ref()).await;
    let mut report = PgConnection::connect(&shards[2].dsn).await.unwrap();
    let held = two_of_three_prepare(&play, &shards, &mut report).await;
    let open = |shard: &str| (shard.to_owned(), "open".to_owned());
    assert_eq!(in_doubt(&play, &[]).await, [open("pg-01"), open("pg-02")]);
    let paused = play.installation.cli(&["pause", "0001_column"]).await.unwrap();
    assert_eq!(paused.code, Some(0), "{paused:#?}");
    play.reached("0001_column", "paused").await;
    assert_eq!((changed(&shards, "added").await, prepared(&shards).await), (0, 0));
    held.commit().await.unwrap();
    let resumed = play.installation.cli(&["resume", "0001_column"]).await.unwrap();
    assert_eq!(resumed.code, Some(0), "{resumed:#?}");
    play.completed("0001_column").await;
    assert_eq!(changed(&shards, "added").await, 3);
    all_or_nothing(&shards).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_three_coordinators_the_next_one_ends_the_vote_that_its_leader_died_in() {
    let shards = shards().await;
    let control = Control::of(Engine::Postgres).await;
    let play = Play::of(control.builder(&shards.each_ref())).await;
    let lead = control.lead().await.unwrap();
    let mut report = PgConnection::connect(&shards[2].dsn).await.unwrap();
    let held = two_of_three_prepare(&play, &shards, &mut report).await;
    let first = play.installation.coordinators()[lead.number].member();
    first.kill9();
    let (next, _) = control.next(&play, lead.epoch).await;
    held.commit().await.unwrap();
    play.completed("0001_column").await;
    assert_eq!((changed(&shards, "added").await, prepared(&shards).await), (3, 0), "before the decision");
    first.restart().await.unwrap();

    // Whoever decides now dies of it, and only that one: the others find the decision made.
    let mut epoch = next.epoch;
    for coordinator in play.installation.coordinators().iter().map(Coordinator::member) {
        coordinator.set_failpoints("after-decision=return");
        coordinator.restart().await.unwrap();
        play.until("somebody to lead", async || play.installation.cli_json(&["shards"]).await.map(drop))
            .await;
    }
    epoch = epoch.max(control.lead().await.unwrap().epoch);
    let leader = control.lead().await.unwrap().number;
    play.installation.wait_connected().await.unwrap();
    let specs = Specs::of(&[spec("0002_column", "more")]);
    // The coordinator that answers may be gone before its answer is.
    play.installation.cli(&["apply", specs.as_str(), "--yes", "--no-watch"]).await.unwrap();
    let decided = play.installation.coordinators()[leader].member();
    play.until("the leader to die after its decision", async || {
        anyhow::ensure!(!decided.process().is_running(), "it runs");
        Ok(())
    })
    .await;
    control.next(&play, epoch).await;
    play.completed("0002_column").await;
    assert_eq!((changed(&shards, "more").await, prepared(&shards).await), (3, 0), "after the decision");
    let alive =
        play.installation.coordinators().iter().filter(|each| each.member().process().is_running()).count();
    assert_eq!(alive, 2, "nobody decides twice");
    all_or_nothing(&shards).await;
}

//! Several workers for one shard, one worker for several shards; workers that join, leave, are drained, die, and meet
//! what they do not know (faults 1, 2, 32).

use std::os::unix::process::ExitStatusExt;

use serde_json::Value;
use shardlift_harness::dataset::items::KeyKind;
use shardlift_harness::installation::{InstallationBuilder, WorkerSpec};

use crate::stage::{
    DEADLINE, Engine, Form, Items, ItemsSpec, Play, Witness, assert_agreed, assert_exactly_once, checkpoints,
    curtain, execute, learns, scalar,
};

const ID: &str = "0001_items";
const NONE: Vec<String> = Vec::new();
const SIGABRT: i32 = 6;

/// Waits until exactly these workers are busy.
async fn until_busy(play: &Play, names: &[&str]) {
    play.until(&format!("{names:?} to be busy"), async || {
        let workers = play.installation.cli_json(&["workers"]).await?;
        let all = workers["workers"].as_array().into_iter().flatten();
        let busy: Vec<_> =
            all.filter(|one| one["busy"] != 0).filter_map(|one| one["worker"].as_str()).collect();
        anyhow::ensure!(busy == names, "{workers:#}");
        Ok(())
    })
    .await;
}

fn ranges(status: &Value) -> u64 {
    status["shards"][0]["ranges"].as_u64().unwrap_or_default()
}

/// One slot each, so that only another worker can help.
fn single(items: &Items, name: &str) -> WorkerSpec {
    items.worker(name).slots(1)
}

fn alone(items: &Items) -> InstallationBuilder {
    Play::builder(&[items]).worker(single(items, "first"))
}

/// The whole shard is one range, walked slowly by one worker; a second one joins in the middle.
async fn a_helper_joins(engine: Engine, form: Form) {
    let items = Items::of(engine, 9_000).await;
    let play = Play::of(alone(&items)).await;
    let witness = Witness::of(&items).await;
    let writer = items.writer(form);
    let spec = ItemsSpec::new(ID, engine, form).parallel("{ ranges: 1, workers: 2 }").rows_per_second(900);
    play.apply(&[spec.text()]).await;
    play.until_rows(ID, 700).await;
    assert_eq!(ranges(&play.status(ID).await), 1);
    play.installation.add_worker(&single(&items, "second")).unwrap();
    until_busy(&play, &["first", "second"]).await;
    learns(&writer, form);
    play.completed(ID).await;
    let parts = checkpoints(&items, ID).await;
    let first = parts.iter().filter(|range| range.pass == 1 && range.rows > 100).count();
    assert!(first >= 2, "one worker did it all: {parts:#?}");
    assert_eq!(witness.complaints().await, NONE);
    curtain(&play, ID, &items, form, Some(writer)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_worker_that_joins_in_the_middle_takes_over_part_of_a_straggler_of_postgres() {
    a_helper_joins(Engine::Postgres, Form::WithWhere).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_worker_that_joins_in_the_middle_takes_over_part_of_a_straggler_of_postgres_without_where() {
    a_helper_joins(Engine::Postgres, Form::WithoutWhere).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_worker_that_joins_in_the_middle_takes_over_part_of_a_straggler_of_mongodb() {
    a_helper_joins(Engine::Mongodb, Form::WithWhere).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_worker_that_joins_in_the_middle_takes_over_part_of_a_straggler_of_mongodb_without_where() {
    a_helper_joins(Engine::Mongodb, Form::WithoutWhere).await;
}

/// The owner dies just before, or just after, it has split its range: nobody hears of the part.
async fn dies_while_it_splits(engine: Engine, point: &str) {
    let items = Items::of(engine, 6_000).await;
    let mortal = single(&items, "mortal").failpoints(&format!("{point}=return"));
    let play = Play::of(Play::builder(&[&items]).worker(mortal)).await;
    let witness = Witness::of(&items).await;
    let spec = ItemsSpec::new(ID, engine, Form::WithoutWhere).parallel("{ ranges: 1, workers: 2 }");
    play.apply(&[spec.rows_per_second(1_000).text()]).await;
    play.until_rows(ID, 300).await;
    play.installation.add_worker(&single(&items, "heir")).unwrap();
    let mortal = play.installation.worker(0);
    let status = mortal.process().wait_exit(DEADLINE).await.unwrap();
    assert_eq!(status.signal(), Some(SIGABRT), "{}", mortal.process().log_tail(20));
    play.completed(ID).await;
    let parts = checkpoints(&items, ID).await.len();
    assert_eq!(parts, if point.ends_with("after-commit") { 2 } else { 1 });
    assert_eq!(witness.complaints().await, NONE);
    curtain(&play, ID, &items, Form::WithoutWhere, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_of_postgres_that_dies_before_it_has_split_its_range_leaves_it_whole() {
    dies_while_it_splits(Engine::Postgres, "pg-share-before-commit").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_of_postgres_that_dies_after_it_has_split_its_range_leaves_no_part_behind() {
    dies_while_it_splits(Engine::Postgres, "pg-share-after-commit").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_of_mongodb_that_dies_before_it_has_split_its_range_leaves_it_whole() {
    dies_while_it_splits(Engine::Mongodb, "mg-share-before-commit").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_of_mongodb_that_dies_after_it_has_split_its_range_leaves_no_part_behind() {
    dies_while_it_splits(Engine::Mongodb, "mg-share-after-commit").await;
}

enum End {
    Stopped,
    Drained,
    Killed,
}

/// Two workers share a shard; one of them goes in the middle.
async fn one_goes(engine: Engine, end: End) {
    let form = Form::WithoutWhere;
    let items = Items::of(engine, 8_000).await;
    let builder = alone(&items).worker(single(&items, "second"));
    let play = Play::of(builder).await;
    let witness = Witness::of(&items).await;
    let writer = items.writer(form);
    let spec = ItemsSpec::new(ID, engine, form).parallel("{ ranges: 4, workers: 2 }").rows_per_second(1_000);
    play.apply(&[spec.text()]).await;
    until_busy(&play, &["first", "second"]).await;
    play.until_rows(ID, 500).await;
    let second = play.installation.worker(1);
    match end {
        End::Stopped => {
            second.process().terminate();
            let status = second.process().wait_exit(DEADLINE).await.unwrap();
            assert!(status.success(), "{}", second.process().log_tail(20));
        }
        End::Drained => {
            let output = play.installation.cli(&["workers", "drain", "second"]).await.unwrap();
            assert_eq!(output.code, Some(0), "{output:#?}");
            assert!(output.stdout.contains("second is given nothing new"), "{output:#?}");
        }
        End::Killed => second.kill9(),
    }
    until_busy(&play, &["first"]).await;
    if let End::Drained = end {
        let workers = play.installation.cli_json(&["workers"]).await.unwrap();
        let there = workers["workers"].as_array().into_iter().flatten().find(|one| one["worker"] == "second");
        let there = there.unwrap_or_else(|| panic!("it left: {workers:#}"));
        assert_eq!((&there["draining"], &there["busy"]), (&true.into(), &0.into()));
    }
    play.completed(ID).await;
    assert_eq!(witness.complaints().await, NONE);
    curtain(&play, ID, &items, form, Some(writer)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ranges_of_a_worker_that_leaves_are_finished_by_the_others() {
    one_goes(Engine::Postgres, End::Stopped).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ranges_of_a_worker_that_is_drained_are_finished_by_the_others() {
    one_goes(Engine::Postgres, End::Drained).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ranges_of_a_worker_that_is_killed_are_finished_by_the_others() {
    one_goes(Engine::Postgres, End::Killed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ranges_of_a_worker_of_mongodb_that_is_drained_are_finished_by_the_others() {
    one_goes(Engine::Mongodb, End::Drained).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_worker_stays_drained_under_the_next_leader_until_it_is_taken_back() {
    let items = Items::of(Engine::Postgres, 500).await;
    let play = Play::of(alone(&items)).await;
    let draining = async |wanted: bool| {
        play.until("the worker to be there, drained or not", async || {
            let workers = play.installation.cli_json(&["workers"]).await?;
            anyhow::ensure!(workers["workers"][0]["draining"] == wanted, "{workers:#}");
            Ok(())
        })
        .await;
    };
    let output = play.installation.cli(&["workers", "drain", "first"]).await.unwrap();
    assert!(output.stdout.contains("nobody else serves pg-01"), "{output:#?}");
    play.until("the worker to have heard of it", async || {
        let log = play.installation.worker(0).process().log_text();
        anyhow::ensure!(log.contains("is told whether to take anything new"), "{log}");
        Ok(())
    })
    .await;
    play.installation.coordinator().kill9();
    play.installation.coordinator().restart().await.unwrap();
    draining(true).await;
    play.apply(&[ItemsSpec::new(ID, Engine::Postgres, Form::WithWhere).text()]).await;
    let told = |status: &Value| status["shards"][0]["trouble"]["code"] == "worker.unfit";
    play.until_status(ID, "the shard to say that its worker is drained", told).await;
    let output = play.installation.cli(&["workers", "undrain", "first"]).await.unwrap();
    assert_eq!(output.code, Some(0), "{output:#?}");
    play.completed(ID).await;
    curtain(&play, ID, &items, Form::WithWhere, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_worker_serves_several_shards_and_another_one_helps_with_one_of_them() {
    let form = Form::WithWhere;
    let shards = [
        Items::postgres("pg-01", 3_000, KeyKind::Bigint).await,
        Items::postgres("pg-02", 3_000, KeyKind::Bigint).await,
        Items::postgres("pg-03", 3_000, KeyKind::Bigint).await,
    ];
    let [one, two, three] = &shards;
    let all = WorkerSpec::new("all", &["pg-01", "pg-02", "pg-03"]).slots(2);
    let builder = Play::builder(&[one, two, three]).worker(all).worker(single(three, "helper"));
    let play = Play::of(builder).await;
    let spec = ItemsSpec::new(ID, Engine::Postgres, form).parallel("{ ranges: 2, workers: 2 }");
    play.apply(&[spec.rows_per_second(1_500).text()]).await;
    play.completed(ID).await;
    for items in &shards {
        assert_exactly_once(items, form, None).await;
    }
    assert_agreed(&play, ID, &[one, two, three]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_meets_a_checkpoint_of_a_newer_release_leaves_it_alone_and_says_so() {
    let items = Items::of(Engine::Postgres, 4_000).await;
    let play = Play::of(alone(&items)).await;
    let spec = ItemsSpec::new(ID, Engine::Postgres, Form::WithoutWhere).rows_per_second(1_000);
    play.apply(&[spec.text()]).await;
    play.until_rows(ID, 300).await;
    let worker = play.installation.worker(0);
    worker.kill9();
    execute(&items.dsn, "UPDATE shardlift.checkpoint SET form = 2").await;
    let count = "SELECT sum(rows_changed)::text || ' ' || max(attempt) FROM shardlift.checkpoint";
    let before = scalar(&items.dsn, count).await;
    worker.restart().await.unwrap();
    let told = |status: &Value| status["shards"][0]["trouble"]["code"] == "worker.outdated";
    play.until_status(ID, "the shard to say that its worker is outdated", told).await;
    assert_eq!(scalar(&items.dsn, count).await, before, "it claimed or changed something");
    execute(&items.dsn, "UPDATE shardlift.checkpoint SET form = 1").await;
    play.completed(ID).await;
    curtain(&play, ID, &items, Form::WithoutWhere, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_whose_epoch_was_damaged_is_set_aside_and_the_others_go_on() {
    let damaged = Items::postgres("pg-01", 500, KeyKind::Bigint).await;
    let sound = Items::postgres("pg-02", 500, KeyKind::Bigint).await;
    let play = Play::start(&[&damaged, &sound]).await;
    let epoch = async || play.installation.cli_json(&["leader"]).await.unwrap()["epoch"].as_u64();
    let before = epoch().await;
    play.until("the shard to have its books", async || {
        let there = "SELECT (to_regclass('shardlift.fence') IS NOT NULL)::text";
        anyhow::ensure!(scalar(&damaged.dsn, there).await == "true", "there is no fence yet");
        Ok(())
    })
    .await;
    let huge = "UPDATE shardlift.fence SET epoch = 9223372036854775806, nonce = 'noise'";
    execute(&damaged.dsn, huge).await;
    play.until("the shard to be set aside", async || {
        let shards = play.installation.cli_json(&["shards"]).await?;
        anyhow::ensure!(shards["shards"][0]["problem"]["code"] == "fence.damaged", "{shards:#}");
        anyhow::ensure!(shards["shards"][1]["reachable"] == true, "{shards:#}");
        Ok(())
    })
    .await;
    assert_eq!(epoch().await, before, "the leader rose for the sake of a damaged shard");
    execute(&damaged.dsn, &format!("UPDATE shardlift.fence SET epoch = {}, nonce = ''", before.unwrap()))
        .await;
    let spec = ItemsSpec::new(ID, Engine::Postgres, Form::WithWhere);
    // The fence is of the leader's epoch, and not the leader's: it rises, and workers come back to it.
    play.until("the leader to have risen and the shards to be there again", async || {
        let leader = play.installation.cli_json(&["leader"]).await?;
        anyhow::ensure!(leader["epoch"].as_u64() > before, "{leader:#}");
        let shards = play.installation.cli_json(&["shards"]).await?;
        anyhow::ensure!(shards["shards"][0]["reachable"] == true, "{shards:#}");
        anyhow::ensure!(shards["shards"][1]["reachable"] == true, "{shards:#}");
        Ok(())
    })
    .await;
    play.apply(&[spec.text()]).await;
    play.completed(ID).await;
    for items in [&damaged, &sound] {
        assert_exactly_once(items, Form::WithWhere, None).await;
    }
    assert_agreed(&play, ID, &[&damaged, &sound]).await;
}

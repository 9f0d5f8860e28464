//! The coordinator dies (fault 8): in every phase, between any two of its commits, before and after each. Started again
//! it continues, and nothing is repeated.

use std::collections::BTreeMap;

use sqlx::Row;

use crate::stage::{
    Engine, Form, Items, ItemsSpec, POSTGRES, Play, Witness, assert_agreed, assert_nothing_left, checkpoints,
    curtain, learns, scalar, store,
};

const ID: &str = "0001_items";
const COLUMN: &str = "0002_column";
const NONE: Vec<String> = Vec::new();

async fn killed_again_and_again(engine: Engine, form: Form) {
    let items = Items::of(engine, 6_000).await;
    let play = Play::start(&[&items]).await;
    let witness = Witness::of(&items).await;
    let writer = items.writer(form);
    play.apply(&[ItemsSpec::new(ID, engine, form).rows_per_second(1_500).text()]).await;
    let mut rows = 0;
    for _ in 0..4 {
        rows = play.until_rows(ID, rows + 150).await;
        play.installation.coordinator().kill9();
        play.installation.coordinator().restart().await.unwrap();
    }
    learns(&writer, form);
    play.completed(ID).await;
    let epochs: Vec<i64> = checkpoints(&items, ID).await.iter().map(|range| range.epoch).collect();
    assert!(epochs.iter().any(|epoch| *epoch >= 4), "a take-over raises the epoch: {epochs:?}");
    assert_eq!(witness.complaints().await, NONE);
    curtain(&play, ID, &items, form, Some(writer)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_killed_again_and_again_goes_on_with_postgres_where_it_was() {
    killed_again_and_again(Engine::Postgres, Form::WithWhere).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_killed_again_and_again_goes_on_with_postgres_without_where() {
    killed_again_and_again(Engine::Postgres, Form::WithoutWhere).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_killed_again_and_again_goes_on_with_mongodb_where_it_was() {
    killed_again_and_again(Engine::Mongodb, Form::WithoutWhere).await;
}

fn column() -> String {
    let up = "[\"ALTER TABLE items ADD COLUMN added integer\"]";
    format!("id: {COLUMN}\nkind: schema\nengine: postgres\ncluster: {POSTGRES}\nup: {up}\n")
}

/// Runs the migrations through as many lives of the coordinator as it takes; each life ends in the same way. Answers the
/// phases at which it died, with how often.
async fn through_many_lives(
    play: &Play,
    specs: &[String],
    failpoint: &str,
    last: &str,
) -> BTreeMap<String, u32> {
    let coordinator = play.installation.coordinator();
    coordinator.set_failpoints(failpoint);
    let mut deaths = BTreeMap::new();
    let mut submitted = false;
    for _ in 0..60 {
        coordinator.restart().await.unwrap();
        let over = play
            .until("the coordinator to die, or the work to be done", async || {
                if !coordinator.process().is_running() {
                    return Ok(false);
                }
                if !submitted {
                    let output = play.applied(specs).await;
                    submitted = output.code == Some(0);
                }
                let last = play.installation.status(last).await?;
                anyhow::ensure!(last["status"] == "completed", "{last:#}");
                Ok(true)
            })
            .await;
        if over {
            return deaths;
        }
        *deaths.entry(stored_phase(play).await).or_default() += 1;
    }
    panic!("not done after 60 lives that died at {deaths:?}\n{}", play.installation.log_tails(20));
}

/// Where the newest migration stood, past the coordinator.
async fn stored_phase(play: &Play) -> String {
    let newest = "SELECT status || ' ' || phase FROM migrations ORDER BY status = 'completed', id LIMIT 1";
    let found: Option<String> =
        sqlx::query_scalar(newest).fetch_optional(&mut store(play).await).await.unwrap();
    found.unwrap_or_else(|| "nothing".to_owned())
}

/// How often each step of each shard was recorded as done.
async fn steps_done(play: &Play, id: &str) -> BTreeMap<String, u32> {
    let entries =
        "SELECT event_type, details FROM migration_history h JOIN migrations m ON m.id = h.migration_id
                   WHERE m.name = $1 ORDER BY h.id";
    let rows = sqlx::query(entries).bind(id).fetch_all(&mut store(play).await).await.unwrap();
    let mut counts = BTreeMap::new();
    for row in rows {
        let (event, details): (String, String) = (row.get(0), row.get(1));
        let details: serde_json::Value = serde_json::from_str(&details).unwrap();
        let name = match (details["shard"].as_str(), details["step"].as_str()) {
            (Some(shard), Some(step)) => format!("{event} {shard} {step}"),
            _ => event,
        };
        *counts.entry(name).or_default() += 1;
    }
    counts
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_dies_after_each_of_its_commits_applies_a_schema_change_once_on_each_shard() {
    use shardlift_harness::dataset::items::KeyKind;
    let one = Items::postgres("pg-01", 100, KeyKind::Bigint).await;
    let two = Items::postgres("pg-02", 100, KeyKind::Bigint).await;
    let play = Play::start(&[&one, &two]).await;
    let deaths = through_many_lives(&play, &[column()], "store-after-commit=return", COLUMN).await;
    for phase in ["pending precheck", "running precheck", "running schema", "running verify"] {
        assert!(deaths.contains_key(phase), "it never died while {phase}: {deaths:?}");
    }
    for items in [&one, &two] {
        let ledger = "SELECT string_agg(migration || '@' || version, ',') FROM shardlift.applied";
        assert_eq!(scalar(&items.dsn, ledger).await, format!("{COLUMN}@1"));
        assert_nothing_left(items).await;
    }
    let steps = steps_done(&play, COLUMN).await;
    for step in ["step_done pg-01 apply", "step_done pg-02 apply", "step_done pg-01 verify", "completed"] {
        assert_eq!(steps.get(step), Some(&1), "{step}: {steps:#?}");
    }
}

async fn dies_between_commits(engine: Engine, form: Form, failpoint: &str) {
    let items = Items::of(engine, 1_500).await;
    let play = Play::start(&[&items]).await;
    let witness = Witness::of(&items).await;
    let spec = ItemsSpec::new(ID, engine, form).text();
    let deaths = through_many_lives(&play, &[spec], failpoint, ID).await;
    assert!(deaths.values().sum::<u32>() >= 2, "it died too seldom: {deaths:?}");
    assert!(deaths.contains_key("running data"), "it never died in the data phase: {deaths:?}");
    let steps = steps_done(&play, ID).await;
    assert_eq!(steps.get("completed"), Some(&1), "{steps:#?}");
    assert_eq!(witness.complaints().await, NONE);
    curtain(&play, ID, &items, form, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_dies_before_commits_repeats_nothing_in_postgres() {
    dies_between_commits(Engine::Postgres, Form::WithoutWhere, "store-before-commit=2*off->return").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_dies_after_commits_repeats_nothing_in_postgres() {
    dies_between_commits(Engine::Postgres, Form::WithWhere, "store-after-commit=1*off->return").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_dies_before_commits_repeats_nothing_in_mongodb() {
    dies_between_commits(Engine::Mongodb, Form::WithoutWhere, "store-before-commit=2*off->return").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_killed_between_the_schema_of_one_shard_and_the_next_keeps_the_order() {
    use shardlift_harness::dataset::items::KeyKind;
    use sqlx::{Connection, Executor, PgConnection};
    let one = Items::postgres("pg-01", 1_000, KeyKind::Bigint).await;
    let two = Items::postgres("pg-02", 1_000, KeyKind::Bigint).await;
    let play = Play::start(&[&one, &two]).await;
    // The application keeps the second shard from changing its schema.
    let mut application = PgConnection::connect(&two.dsn).await.unwrap();
    application.execute(sqlx::raw_sql("BEGIN; LOCK TABLE items IN ACCESS SHARE MODE")).await.unwrap();
    let data = ItemsSpec::new(ID, Engine::Postgres, Form::WithWhere).depends_on(COLUMN);
    play.apply(&[column(), data.text()]).await;
    let applied = "SELECT count(*)::text FROM shardlift.applied";
    play.until("the first shard to have the column", async || {
        anyhow::ensure!(scalar(&one.dsn, applied).await == "1", "not yet");
        Ok(())
    })
    .await;
    play.installation.coordinator().kill9();
    play.installation.coordinator().restart().await.unwrap();
    play.installation.wait_connected().await.unwrap();
    assert_eq!(scalar(&two.dsn, applied).await, "0", "its lock is still held");
    assert_eq!(play.status(COLUMN).await["status"], "running");
    assert_eq!(play.status(ID).await["status"], "pending", "data waits for the schema of all shards");
    application.execute("COMMIT").await.unwrap();
    play.completed(COLUMN).await;
    play.completed(ID).await;
    for items in [&one, &two] {
        assert_eq!(scalar(&items.dsn, applied).await, "1");
        assert_eq!(items.violations(Form::WithWhere, None).await, NONE);
    }
    assert_agreed(&play, ID, &[&one, &two]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_whose_heart_stops_ends_so_that_it_can_be_started_again() {
    let items = Items::of(Engine::Postgres, 1_000).await;
    let play = Play::start(&[&items]).await;
    let coordinator = play.installation.coordinator();
    coordinator.set_failpoints("store-before-commit=2*off->panic");
    coordinator.restart().await.unwrap();
    let spec = ItemsSpec::new(ID, Engine::Postgres, Form::WithoutWhere).text();
    play.until("the spec to be submitted", async || {
        let output = play.applied(&[&spec]).await;
        anyhow::ensure!(output.code == Some(0) || !coordinator.process().is_running(), "{output:#?}");
        Ok(())
    })
    .await;
    let status = coordinator.process().wait_exit(crate::stage::DEADLINE).await.unwrap();
    assert_eq!(status.code(), Some(1), "{}", coordinator.process().log_tail(10));
    coordinator.set_failpoints("");
    coordinator.restart().await.unwrap();
    play.installation.wait_connected().await.unwrap();
    play.apply(&[spec]).await;
    play.completed(ID).await;
    curtain(&play, ID, &items, Form::WithoutWhere, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_a_kill_in_the_same_moment() {
    let items = Items::of(Engine::Postgres, 1_000).await;
    let play = Play::start(&[&items]).await;
    let spec = ItemsSpec::new(ID, Engine::Postgres, Form::WithWhere).text();
    play.apply(&[spec]).await;
    play.installation.coordinator().kill9();
    let away = play.refused(&["status", ID], 6).await;
    assert!(away.contains("coordinator.unreachable"), "{away}");
    play.installation.coordinator().restart().await.unwrap();
    play.completed(ID).await;
    curtain(&play, ID, &items, Form::WithWhere, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_is_told_to_stop_hands_over_without_harm() {
    let items = Items::of(Engine::Postgres, 4_000).await;
    let play = Play::start(&[&items]).await;
    let spec = ItemsSpec::new(ID, Engine::Postgres, Form::WithoutWhere).rows_per_second(1_500);
    play.apply(&[spec.text()]).await;
    play.until_rows(ID, 500).await;
    play.installation.coordinator().stop().await.unwrap();
    play.installation.coordinator().restart().await.unwrap();
    play.until_rows(ID, 1_000).await;
    play.installation.worker(0).stop().await.unwrap();
    play.installation.worker(0).restart().await.unwrap();
    play.completed(ID).await;
    curtain(&play, ID, &items, Form::WithoutWhere, None).await;
}

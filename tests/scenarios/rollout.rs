//! Rollouts: the canary first, gates between waves, a bad change that ends with its canary (faults 8, 25, 37).

use bson::doc;
use serde_json::Value;
use shardlift_harness::dataset::items::{IdKind, KeyKind};
use sqlx::Row;

use crate::stage::{
    Engine, Form, Items, ItemsSpec, POSTGRES, Play, assert_agreed, assert_exactly_once, checkpoints,
    collection, execute, scalar, store,
};

const ID: &str = "0002_items";
const COLUMN: &str = "0001_column";

/// Three shards, the second of which is the smallest and the first the largest.
async fn three_shards() -> [Items; 3] {
    let shards = [
        Items::postgres("pg-01", 900, KeyKind::Bigint).await,
        Items::postgres("pg-02", 300, KeyKind::Bigint).await,
        Items::postgres("pg-03", 600, KeyKind::Bigint).await,
    ];
    for items in &shards {
        execute(&items.dsn, "CREATE TABLE audit (what text); ANALYZE items").await;
    }
    shards
}

fn with_rollout(spec: &ItemsSpec, rollout: &str) -> String {
    format!("{}rollout: {rollout}\n", spec.text())
}

/// What happened to a migration, in order: the event, and the shard, wave or code that it names.
async fn history(play: &Play, id: &str) -> Vec<String> {
    let mut store = store(play).await;
    let rows = sqlx::query(
        "SELECT h.event_type, h.details FROM migration_history h JOIN migrations m ON m.id = h.migration_id \
         WHERE m.name = ? ORDER BY h.id",
    )
    .bind(id)
    .fetch_all(&mut store)
    .await
    .unwrap();
    let entry = |row: &sqlx::sqlite::SqliteRow| {
        let details: Value = serde_json::from_str(row.get::<&str, _>(1)).unwrap();
        let named = ["shard", "step", "wave"].into_iter().filter_map(|key| match &details[key] {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        });
        std::iter::once(row.get::<String, _>(0)).chain(named).collect::<Vec<_>>().join(" ")
    };
    rows.iter().map(entry).collect()
}

/// Where an entry stands; it must be there once.
fn only(history: &[String], entry: &str) -> usize {
    let places: Vec<usize> = (0..history.len()).filter(|place| history[*place] == entry).collect();
    assert_eq!(places.len(), 1, "{entry}: {history:#?}");
    places[0]
}

fn wave_of(status: &Value, shard: &str) -> Value {
    let parts = status["shards"].as_array().unwrap();
    parts.iter().find(|part| part["shard"] == shard).unwrap()["wave"].clone()
}

/// No row of the shard was changed, and no range was laid out.
async fn assert_untouched(items: &Items) {
    let changed = match items.engine() {
        Engine::Postgres => {
            scalar(&items.dsn, "SELECT count(*)::text FROM items WHERE migrated OR applied <> 0").await
        }
        Engine::Mongodb => {
            let changed = doc! { "$or": [{ "migrated": true }, { "applied": { "$ne": 0 } }] };
            collection(&items.dsn).await.count_documents(changed).await.unwrap().to_string()
        }
    };
    assert_eq!(changed, "0", "rows of {} were changed", items.shard);
    assert_eq!(checkpoints(items, ID).await, [], "{}", items.shard);
}

#[tokio::test(flavor = "multi_thread")]
async fn waves_go_one_after_another_though_the_coordinator_dies_between_them_and_while_they_soak() {
    let shards = three_shards().await;
    let all: Vec<&Items> = shards.iter().collect();
    let play = Play::start(&all).await;
    let spec = ItemsSpec::new(ID, Engine::Postgres, Form::WithWhere);
    play.apply(&[with_rollout(&spec, "[ { shards: 1, soak: 1s }, { percent: 50, soak: 1s } ]")]).await;
    for wave in 1..=2 {
        let there = |status: &Value| {
            let at_gate = status["wave"] == wave && !status["gate"].is_null();
            at_gate || status["wave"].as_u64() > Some(wave) || status["status"] == "completed"
        };
        play.until_status(ID, "its next gate", there).await;
        play.installation.coordinator().kill9();
        play.installation.coordinator().restart().await.unwrap();
    }
    let status = play.completed(ID).await;
    assert_eq!((&status["wave"], &status["waves"]), (&Value::from(3), &Value::from(3)), "{status:#}");
    let waves = ["pg-02", "pg-03", "pg-01"];
    assert_eq!(waves.map(|shard| wave_of(&status, shard)), [1, 2, 3].map(Value::from));

    let told = history(&play, ID).await;
    let gates = [only(&told, "gate_opened 0"), only(&told, "gate_opened 1"), told.len()];
    for (wave, shard) in waves.into_iter().enumerate() {
        let at = |step: &str| only(&told, &format!("step_done {shard} {step}"));
        assert!(at("verify") < gates[wave], "a gate opened too early: {told:#?}");
        let first = told.iter().position(|entry| *entry == format!("step_done {shard} split"));
        let before = if wave == 0 { 0 } else { gates[wave - 1] };
        assert!(first > Some(before), "{shard} began before the gate: {told:#?}");
        for other in waves {
            let checked = only(&told, &format!("step_done {other} precheck"));
            assert!(Some(checked) < first, "{shard} began before {other} was prechecked: {told:#?}");
        }
    }
    for items in &shards {
        assert_exactly_once(items, Form::WithWhere, None).await;
    }
    assert_agreed(&play, ID, &all).await;
}

/// The transform does too much, and a row of the canary refers to nobody: a question of the spec and its references find
/// both where they were made first.
async fn ends_with_its_canary(canary: Items, other: Items, transform: &str, checks: &str, dangling: &str) {
    let play = Play::start(&[&canary, &other]).await;
    let spec = ItemsSpec::new(ID, canary.engine(), Form::WithWhere).transform(transform);
    let spec = spec.verify(&format!("[ remaining, {checks} ]"));
    play.apply(&[with_rollout(&spec, "[ { shards: 1, soak: 1s } ]")]).await;
    let status = play.reached(ID, "paused").await;
    let reason = &status["halted"];
    assert_eq!(reason["code"], "verify.mismatch", "{status:#}");
    let message = reason["message"].as_str().unwrap();
    assert!(message.contains("expected 0, found 200"), "{message}");
    let orphan = message.split("1 rows refer to what is not there, by owner to ").nth(1);
    assert!(orphan.is_some_and(|orphan| orphan.contains(dangling)), "{dangling}: {message}");
    assert_eq!(status["error"]["shard"], canary.shard.as_str(), "{status:#}");
    let page = play.installation.cli(&["status", ID]).await.unwrap().stdout;
    assert!(page.contains("halted, wave 1 of 2") && page.contains("expected 0, found 200"), "{page}");
    assert_untouched(&other).await;
    let cancelled = play.installation.cli(&["cancel", ID]).await.unwrap();
    assert_eq!(cancelled.code, Some(0), "{cancelled:#?}");
    assert_untouched(&other).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_transform_ends_with_its_canary_in_postgres() {
    let canary = Items::postgres("pg-02", 200, KeyKind::Bigint).await;
    let other = Items::postgres("pg-01", 500, KeyKind::Bigint).await;
    for items in [&canary, &other] {
        let owners = "CREATE TABLE owners (id int PRIMARY KEY); INSERT INTO owners VALUES (1); \
                      ALTER TABLE items ADD COLUMN owner int; UPDATE items SET owner = 1 WHERE id = 8; ANALYZE items";
        execute(&items.dsn, owners).await;
    }
    execute(&canary.dsn, "UPDATE items SET owner = 2 WHERE id = 42").await;
    let checks = "{ sql: \"SELECT count(*) FROM items WHERE applied <> 1\", equals: 0 }, \
                  { references: { fields: [owner], to: public.owners, key: [id] } }";
    ends_with_its_canary(canary, other, "sql: { applied: applied + 2, migrated: \"true\" }", checks, "42")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_transform_ends_with_its_canary_in_mongodb() {
    let canary = Items::mongodb("mg-02", 200, IdKind::ObjectId).await;
    let other = Items::mongodb("mg-01", 500, IdKind::ObjectId).await;
    for items in [&canary, &other] {
        collection(&items.dsn).await.client().database("items").create_collection("owners").await.unwrap();
    }
    let orphan = collection(&canary.dsn).await.find_one(doc! {}).await.unwrap().unwrap();
    let key = orphan.get_object_id("_id").unwrap();
    collection(&canary.dsn)
        .await
        .update_one(doc! { "_id": key }, doc! { "$set": { "owner": 2 } })
        .await
        .unwrap();
    let checks = "{ collection: items, where: { applied: { $ne: 1 } }, equals: 0 }, \
                  { references: { fields: [owner], to: owners } }";
    let transform = "pipeline: [{ $set: { applied: { $add: [$applied, 2] }, migrated: true } }]";
    ends_with_its_canary(canary, other, transform, checks, &key.to_hex()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_that_was_halted_goes_on_from_its_canary_once_the_cause_is_mended() {
    let [one, two, three] = three_shards().await;
    let play = Play::start(&[&one, &two, &three]).await;
    // Schema changes have no estimate: the name decides.
    execute(&one.dsn, "INSERT INTO audit VALUES ('not clean')").await;
    let question = "{ sql: \"SELECT count(*) FROM audit\", equals: 0 }";
    let column = format!(
        "id: {COLUMN}\nkind: schema\nengine: postgres\ncluster: {POSTGRES}\n\
         up: [\"ALTER TABLE items ADD COLUMN added integer\"]\nverify: [ {question} ]\nrollout: [ {{ shards: 1 }} ]\n"
    );
    let rows = ItemsSpec::new(ID, Engine::Postgres, Form::WithWhere).depends_on(COLUMN);
    play.apply(&[column, with_rollout(&rows, "[ { shards: 1 }, { percent: 60, soak: 500ms } ]")]).await;
    let status = play.reached(COLUMN, "paused").await;
    assert_eq!(status["halted"]["code"], "verify.mismatch", "{status:#}");
    let there = "SELECT count(*)::text FROM information_schema.columns WHERE table_name = 'items' AND column_name = 'added'";
    let mut changed = Vec::new();
    for items in [&one, &two, &three] {
        changed.push(scalar(&items.dsn, there).await);
    }
    assert_eq!(changed, ["1", "0", "0"], "only the canary was changed");
    assert_eq!(play.status(ID).await["status"], "pending", "what depends on it waits");

    execute(&one.dsn, "DELETE FROM audit").await;
    let resumed = play.installation.cli(&["resume", COLUMN]).await.unwrap();
    assert_eq!(resumed.code, Some(0), "{resumed:#?}");
    play.completed(COLUMN).await;
    play.completed(ID).await;
    for items in [&one, &two, &three] {
        assert_eq!(scalar(&items.dsn, there).await, "1");
        assert_exactly_once(items, Form::WithWhere, None).await;
    }
}

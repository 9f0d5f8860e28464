//! `plan --rehearse`: what the transform would do, shown to whoever asks; nothing changes, and no value of a row is left
//! anywhere (promise P12).

use std::path::Path;

use serde_json::{Value, json};
use shardlift_harness::dataset::items::KeyKind;
use shardlift_harness::installation::WorkerSpec;

use crate::stage::{
    Engine, Form, Http, Items, ItemsSpec, POSTGRES, Play, Specs, assert_exactly_once, assert_nothing_left,
    checkpoints, collection, execute, scalar,
};

const ID: &str = "0001_items";
/// Stands in rows; and what the transform makes of it.
const CANARY: [&str; 2] = ["kanarienvogel-4711", "KANARIENVOGEL-4711"];

fn tells(text: &str) -> bool {
    CANARY.iter().any(|value| text.contains(value))
}

/// Every file below a directory that holds a value of a row.
fn files_that_tell(directory: &Path, told: &mut Vec<String>) {
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files_that_tell(&path, told);
        } else if tells(&String::from_utf8_lossy(&std::fs::read(&path).unwrap_or_default())) {
            told.push(path.display().to_string());
        }
    }
}

async fn mark(items: &Items) {
    match items.engine() {
        Engine::Postgres => {
            execute(&items.dsn, "ALTER TABLE items ADD COLUMN word text DEFAULT 'kanarienvogel-4711'").await;
        }
        Engine::Mongodb => {
            let set = bson::doc! { "$set": { "word": CANARY[0] } };
            collection(&items.dsn).await.update_many(bson::doc! {}, set).await.unwrap();
        }
    }
}

fn spec(engine: Engine) -> ItemsSpec {
    ItemsSpec::new(ID, engine, Form::WithWhere).transform(match engine {
        Engine::Postgres => "sql: { word: upper(word), applied: applied + 1, migrated: \"true\" }",
        Engine::Mongodb => {
            "pipeline: [{ $set: { word: { $toUpper: $word }, applied: { $add: [$applied, 1] }, migrated: true } }]"
        }
    })
}

async fn untouched(items: &Items) -> bool {
    match items.engine() {
        Engine::Postgres => {
            let changed =
                "SELECT count(*)::text FROM items WHERE applied <> 0 OR migrated OR word <> lower(word)";
            scalar(&items.dsn, changed).await == "0"
        }
        Engine::Mongodb => {
            let changed = bson::doc! { "$or": [{ "applied": { "$ne": 0 } }, { "migrated": true }, { "word": CANARY[1] }] };
            collection(&items.dsn).await.count_documents(changed).await.unwrap() == 0
        }
    }
}

/// Shows the difference to whoever asks, leaves nothing behind, and the migration then runs as if nothing had been.
async fn rehearsed_without_a_trace(engine: Engine) {
    let items = Items::of(engine, 1_500).await;
    mark(&items).await;
    let builder = Play::builder(&[&items]).rest().coordinator_env("SHARDLIFT_LOG", "debug,sqlx=trace");
    let play = Play { installation: builder.no_workers().launch().await.unwrap() };
    let worker = WorkerSpec::new("worker-1", &[&items.shard]).env("SHARDLIFT_LOG", "debug,sqlx=trace");
    play.installation.add_worker(&worker).unwrap();
    play.until("the shard to be reached", async || {
        let shards = play.installation.cli_json(&["shards"]).await?;
        anyhow::ensure!(shards["shards"][0]["reachable"] == true, "{shards:#}");
        Ok(())
    })
    .await;
    let specs = Specs::of(&[spec(engine).text()]);

    let shown =
        play.installation.cli(&["plan", specs.as_str(), "--rehearse", "--rows", "400"]).await.unwrap();
    assert_eq!(shown.code, Some(0), "{shown:#?}");
    for word in [CANARY[0], CANARY[1], "- word: ", "+ word: ", "rows/s", "half of the shards within"] {
        assert!(shown.stdout.contains(word), "{word:?} is not shown: {}", shown.stdout);
    }
    let answer = play.installation.cli_json(&["plan", specs.as_str(), "--rehearse"]).await.unwrap();
    let shard = &answer["rehearsals"][0]["shards"][0];
    for (figure, least) in [("rows", 500), ("changed", 500), ("rows_per_second", 1), ("log_bytes", 10_000)] {
        assert!(shard[figure].as_u64() >= Some(least), "{figure}: {answer:#}");
    }
    assert!(shard["foretold"]["log_bytes"].as_u64() > shard["log_bytes"].as_u64(), "{answer:#}");
    assert_eq!(answer["samples"][0]["fields"].as_array().map(Vec::len), Some(3), "{answer:#}");

    let http = Http::of(play.installation.coordinators()[0].rest_address().unwrap()).await;
    let plan = http.post_yaml("/api/v1/plans?rehearse=400", &spec(engine).text()).await.ok(200);
    assert!(plan["rehearsals"][0]["shards"][0]["rows_per_second"].as_u64() >= Some(1), "{plan:#}");
    assert!(!tells(&plan.to_string()), "a value of a row is told over HTTP: {plan:#}");
    http.post_yaml("/api/v1/plans?rehearse=1000000", &spec(engine).text())
        .await
        .refused(400, "request.invalid");

    assert!(untouched(&items).await, "a rehearsal changed rows");
    assert!(checkpoints(&items, ID).await.is_empty());
    assert_nothing_left(&items).await;
    let mut files = Vec::new();
    files_that_tell(play.installation.directory(), &mut files);
    assert_eq!(files, Vec::<String>::new(), "values of rows stand in these files");

    play.apply(&[spec(engine).text()]).await;
    play.completed(ID).await;
    assert_exactly_once(&items, Form::WithWhere, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rehearsal_on_postgres_shows_rows_and_figures_and_leaves_nothing() {
    rehearsed_without_a_trace(Engine::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rehearsal_on_mongodb_shows_documents_and_figures_and_leaves_nothing() {
    rehearsed_without_a_trace(Engine::Mongodb).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_cannot_be_changed_are_foretold_with_their_keys() {
    let (one, two) =
        (Items::of(Engine::Postgres, 300).await, Items::postgres("pg-02", 300, KeyKind::Bigint).await);
    execute(&two.dsn, "ALTER TABLE items ADD CHECK (NOT (migrated AND id IN (2, 42)))").await;
    let play = Play::start(&[&one, &two]).await;
    let specs = Specs::of(&[ItemsSpec::new(ID, Engine::Postgres, Form::WithWhere).text()]);
    let answer = play.installation.cli_json(&["plan", specs.as_str(), "--rehearse"]).await.unwrap();
    let shards = &answer["rehearsals"][0]["shards"];
    assert_eq!(shards[0]["errors"], json!([]), "{answer:#}");
    let class = &shards[1]["errors"][0];
    assert_eq!((&class["code"], &class["rows"]), (&json!("row.rejected"), &json!(2)), "{answer:#}");
    assert_eq!(class["keys"], json!(["2", "42"]), "{answer:#}");
    let table = play.installation.cli(&["plan", specs.as_str(), "--rehearse"]).await.unwrap();
    assert!(table.stdout.contains("for example 2, 42"), "{table:#?}");
    assert_eq!(scalar(&two.dsn, "SELECT sum(applied)::text FROM items").await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_a_column_of_the_same_plan_is_rehearsed_later() {
    let items = Items::of(Engine::Postgres, 200).await;
    let play = Play::start(&[&items]).await;
    let schema = format!(
        "id: 0000_word\nkind: schema\nengine: postgres\ncluster: {POSTGRES}\nup: [\"ALTER TABLE items ADD COLUMN word text\"]\n"
    );
    let data = ItemsSpec::new(ID, Engine::Postgres, Form::WithWhere)
        .transform("sql: { word: \"'x'\", applied: applied + 1, migrated: \"true\" }")
        .depends_on("0000_word");
    let texts = [schema, data.text()];
    let specs = Specs::of(&texts);
    let plan = play.installation.cli(&["plan", specs.as_str(), "--rehearse"]).await.unwrap();
    assert_eq!(plan.code, Some(0), "{plan:#?}");
    assert!(plan.stdout.contains("is rehearsed after its schema step is applied"), "{plan:#?}");
    play.apply(&texts[..1]).await;
    play.completed("0000_word").await;
    let answer = play.installation.cli_json(&["plan", specs.as_str(), "--rehearse"]).await.unwrap();
    let of = |id: &str| {
        let all = answer["rehearsals"].as_array().cloned().unwrap_or_default();
        all.into_iter().find(|each| each["migration"] == id).unwrap_or(Value::Null)
    };
    assert_eq!(of(ID)["shards"][0]["changed"], 200, "{answer:#}");
    assert!(of("0000_word")["skipped"].is_string(), "{answer:#}");
}

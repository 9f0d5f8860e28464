//! The main job, undisturbed: several shards, a live application, every way to transform.

use std::path::Path;

use shardlift_harness::dataset::items::{IdKind, KeyKind};
use shardlift_harness::dataset::{DatasetSize, check_mongodb, check_postgres, load_mongodb, load_postgres};
use shardlift_harness::installation::Installation;
use shardlift_harness::servers::{exclusive_mongod, shared_postgres};
use shardlift_harness::writer::Writer;

use crate::stage::{
    Engine, Form, Items, ItemsSpec, Play, Specs, VRL, Witness, assert_agreed, assert_exactly_once,
    assert_nothing_left, learns,
};

const ID: &str = "0001_items";
const NONE: Vec<String> = Vec::new();

async fn two_shards(engine: Engine, rows: u64) -> [Items; 2] {
    match engine {
        Engine::Postgres => [
            Items::postgres("pg-01", rows, KeyKind::Bigint).await,
            Items::postgres("pg-02", rows / 2, KeyKind::Bigint).await,
        ],
        Engine::Mongodb => [
            Items::mongodb("mg-01", rows, IdKind::ObjectId).await,
            Items::mongodb("mg-02", rows / 2, IdKind::ObjectId).await,
        ],
    }
}

/// The application writes the old form until the middle of the run, then the new one.
async fn beside_a_live_application(spec: ItemsSpec, engine: Engine, form: Form) {
    let shards = two_shards(engine, 5_000).await;
    let [one, two] = &shards;
    let play = Play::start(&[one, two]).await;
    let witnesses = [Witness::of(one).await, Witness::of(two).await];
    let writers = [one.writer(form), two.writer(form)];
    play.apply(&[spec.rows_per_second(2_000).text()]).await;
    play.until_rows(ID, 1_000).await;
    writers.iter().for_each(|writer| learns(writer, form));
    play.completed(ID).await;
    for (items, writer) in shards.iter().zip(writers) {
        let report = writer.stop().await.unwrap();
        assert!(report.inserted > 0 && report.updated > 0 && report.deleted > 0, "{report:?}");
        assert_exactly_once(items, form, Some(&report)).await;
        assert_nothing_left(items).await;
    }
    for witness in &witnesses {
        assert_eq!(witness.complaints().await, NONE);
    }
    assert_agreed(&play, ID, &[one, two]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_rows_are_changed_exactly_once_beside_a_live_application() {
    let (engine, form) = (Engine::Postgres, Form::WithWhere);
    beside_a_live_application(ItemsSpec::new(ID, engine, form), engine, form).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_rows_present_throughout_are_changed_exactly_once_without_where() {
    let (engine, form) = (Engine::Postgres, Form::WithoutWhere);
    beside_a_live_application(ItemsSpec::new(ID, engine, form), engine, form).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_rows_are_changed_exactly_once_by_a_program_in_the_worker() {
    let (engine, form) = (Engine::Postgres, Form::WithWhere);
    beside_a_live_application(ItemsSpec::new(ID, engine, form).transform(VRL), engine, form).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mongodb_documents_are_changed_exactly_once_beside_a_live_application() {
    let (engine, form) = (Engine::Mongodb, Form::WithWhere);
    beside_a_live_application(ItemsSpec::new(ID, engine, form), engine, form).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mongodb_documents_present_throughout_are_changed_exactly_once_without_where() {
    let (engine, form) = (Engine::Mongodb, Form::WithoutWhere);
    beside_a_live_application(ItemsSpec::new(ID, engine, form), engine, form).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mongodb_documents_are_changed_exactly_once_by_a_program_in_the_worker() {
    let (engine, form) = (Engine::Mongodb, Form::WithWhere);
    beside_a_live_application(ItemsSpec::new(ID, engine, form).transform(VRL), engine, form).await;
}

/// The example library without the coordinator's own tables, which stand beside it.
fn example_library() -> Specs {
    let library = Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations");
    let specs = Specs::empty();
    for room in ["schema/postgres", "schema/mongodb", "data/postgres", "data/mongodb"] {
        for entry in std::fs::read_dir(library.join(room)).unwrap() {
            let from = entry.unwrap().path();
            std::fs::copy(&from, specs.path().join(from.file_name().unwrap())).unwrap();
        }
    }
    specs
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_library_is_applied_and_verified_while_the_chat_application_writes() {
    let size = DatasetSize { postgres_rows: 4_000, mongodb_documents: 2_000 };
    let (first, second) = (shared_postgres().await.unwrap(), shared_postgres().await.unwrap());
    load_postgres(&first, 0, 2, &size).await.unwrap();
    load_postgres(&second, 1, 2, &size).await.unwrap();
    let mongod = exclusive_mongod().await.unwrap();
    let documents = mongod.dsn("chat");
    load_mongodb(&documents, 0, 1, &size).await.unwrap();
    let installation = Installation::builder()
        .shard("chat-pg-01", "chat", Engine::Postgres, &first)
        .shard("chat-pg-02", "chat", Engine::Postgres, &second)
        .shard("chat-mg-01", "chat-docs", Engine::Mongodb, &documents)
        .start()
        .await
        .unwrap();
    let writers = [
        (Writer::start_postgres(first.clone(), 1), &first),
        (Writer::start_postgres(second.clone(), 2), &second),
        (Writer::start_mongodb(documents.clone(), 3), &documents),
    ];
    let library = example_library();
    let output = installation.cli(&["apply", library.as_str(), "--yes"]).await.unwrap();
    assert_eq!(output.code, Some(0), "{}{}\n{}", output.stdout, output.stderr, installation.log_tails(25));
    for (writer, dsn) in writers {
        let report = writer.stop().await.unwrap();
        assert_eq!(report.lost_writes(dsn).await.unwrap(), NONE, "{:?}", report.first_errors);
    }
    for dsn in [&first, &second] {
        assert_eq!(check_postgres(dsn).await.unwrap(), NONE);
    }
    assert_eq!(check_mongodb(&documents).await.unwrap(), NONE);
    let list = installation.cli_json(&["list"]).await.unwrap();
    let all = list["migrations"].as_array().unwrap();
    assert!(all.len() >= 20 && all.iter().all(|migration| migration["status"] == "completed"), "{list:#}");
    let again = installation.cli(&["apply", library.as_str(), "--yes"]).await.unwrap();
    assert_eq!(again.code, Some(0), "{again:#?}");
    assert!(again.stdout.contains("Nothing to do"), "{again:#?}");
}

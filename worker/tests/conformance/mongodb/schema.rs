//! Database commands: applied once, whatever is killed.

use bson::{Document, doc};
use shardlift_domain::ErrorCode;
use shardlift_domain::migration::Step;
use shardlift_domain::spec::SchemaChange;
use shardlift_worker::engine::{EngineError, Job, SchemaJob, ShardEngine};

use super::{Stage, lease, numbered, schema_job};

const UP: &str = r#"  - create: audit
    validator: { $jsonSchema: { bsonType: object, required: [at] } }
  - createIndexes: audit
    indexes: [{ name: by_time, key: { at: 1 } }]
  - collMod: messages
    validator: { text: { $exists: true } }
    validationLevel: moderate
  - renameCollection: messages
    to: letters"#;

async fn apply(stage: &Stage, job: &SchemaJob) -> Result<bool, EngineError> {
    stage.engine.apply(&lease(1, 1, Step::Apply, None), job).await
}

async fn verified(stage: &Stage, job: SchemaJob) -> bool {
    let report =
        stage.engine.verify(&lease(1, 1, Step::Verify, None), &Job::Schema(job)).await.expect("a report");
    assert!(report.checks.len() > 1, "{report:?}");
    report.passed()
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_are_applied_once_and_verified() {
    let stage = Stage::set().await;
    stage.load(numbered(3)).await;
    let job = schema_job(UP);
    let checked =
        stage.engine.precheck(&lease(1, 1, Step::Precheck, None), &Job::Schema(schema_job(UP))).await;
    checked.expect("it can be applied");
    assert!(!verified(&stage, schema_job(UP)).await, "nothing is applied yet");
    assert!(!apply(&stage, &job).await.expect("applied"));
    assert!(apply(&stage, &job).await.expect("already there"));
    assert!(verified(&stage, schema_job(UP)).await);
    let names = stage.client.database("chat").list_collection_names().await.expect("names");
    assert!(names.contains(&"letters".to_owned()) && !names.contains(&"messages".to_owned()), "{names:?}");
    stage
        .client
        .database("chat")
        .collection::<Document>("audit")
        .drop_index("by_time")
        .await
        .expect("dropped");
    assert!(!verified(&stage, schema_job(UP)).await, "an index is gone behind its back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_after_each_command_and_before_each_note_of_it_repeats_nothing() {
    for command in 0..4_i64 {
        let stage = Stage::set().await;
        stage.load(numbered(3)).await;
        let job = schema_job(UP);
        apply(&stage, &job).await.expect("applied");
        // As if the worker had died when that command had run, and nothing later.
        let own = stage.client.database("shardlift");
        own.collection::<Document>("applied").delete_many(doc! {}).await.expect("no ledger");
        let intent = doc! { "$set": { "done": command, "begun": command } };
        own.collection::<Document>("intent").update_many(doc! {}, intent).await.expect("an intent");
        if command < 3 {
            let back = doc! { "renameCollection": "chat.letters", "to": "chat.messages" };
            stage.client.database("admin").run_command(back).await.expect("renamed back");
        }
        assert!(!apply(&stage, &job).await.unwrap_or_else(|error| panic!("{command}: {error:?}")));
        assert!(verified(&stage, schema_job(UP)).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_reply_of_a_command_is_resolved_by_inspection() {
    let stage = Stage::set().await;
    stage.load(numbered(3)).await;
    let job = schema_job("  - renameCollection: messages\n    to: letters");
    let lost = doc! { "failCommands": ["renameCollection"], "closeConnection": true };
    stage.server.fail_command(doc! { "times": 1 }, lost).await.expect("a failpoint");
    let error = apply(&stage, &job).await.expect_err("the connection broke");
    assert!(matches!(error, EngineError::Connection(_)), "{error:?}");
    assert!(!apply(&stage, &job).await.expect("applied"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_command_stays_refused_until_something_is_mended() {
    let stage = Stage::set().await;
    stage.load(numbered(3)).await;
    let job = schema_job("  - create: messages");
    for _ in 0..2 {
        let refused = apply(&stage, &job).await.expect_err("it is there").into_failure();
        assert_eq!(refused.code, ErrorCode::SchemaFailed);
    }
    let checked = stage.engine.precheck(&lease(1, 1, Step::Precheck, None), &Job::Schema(job)).await;
    assert!(checked.is_ok(), "after a try the precheck leaves it to the commands");
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_commands_and_missing_collections_are_found_before_anything_is_changed() {
    let stage = Stage::set().await;
    let precheck = async |up: &str| {
        let job = Job::Schema(schema_job(up));
        stage
            .engine
            .precheck(&lease(1, 1, Step::Precheck, None), &job)
            .await
            .expect_err("refused")
            .into_failure()
    };
    let missing = precheck("  - collMod: nothing\n    validationLevel: strict\n  - drop: nowhere").await;
    assert!(missing.message.contains("nothing") && missing.message.contains("nowhere"), "{missing:?}");
    let same = schema_job("  - create: a");
    apply(&stage, &same).await.expect("applied");
    let other = schema_job("  - create: b");
    let conflict = apply(&stage, &other).await.expect_err("another content").into_failure();
    assert_eq!(conflict.code, ErrorCode::LedgerConflict);
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_that_were_taken_back_are_not_said_to_be_applied_by_a_store_that_does_not_know() {
    let stage = Stage::set().await;
    let mut job = schema_job("  - create: audit");
    job.schema.down = SchemaChange::Commands(vec![serde_json::json!({ "drop": "audit" })]);
    assert!(!apply(&stage, &job).await.expect("applied"));
    let back = lease(1, 2, Step::Undo, None);
    stage.engine.undo_schema(&back, &job, true).await.expect("taken back");
    let refused =
        stage.engine.apply(&lease(1, 3, Step::Apply, None), &job).await.expect_err("it was taken back");
    let refused = refused.into_failure();
    assert!(
        refused.code == ErrorCode::LedgerConflict && refused.message.contains("taken back"),
        "{refused:?}"
    );
}

//! What a look at a replica set finds before a change.

use std::time::Duration;

use bson::doc;
use serde_json::json;
use shardlift_domain::Fault;
use shardlift_domain::spec::{Assertion, Question, SpecBody};
use shardlift_domain::verdict::{Finding, Severity};
use shardlift_harness::wait::wait_for;
use shardlift_worker::engine::{Job, SchemaJob, ShardEngine};

use super::super::bench::migration;
use super::{Stage, numbered, schema_job};

async fn found(stage: &Stage, job: SchemaJob) -> Vec<Finding> {
    stage.engine.check(&migration(), &Job::Schema(job)).await.expect("a look")
}

fn told(findings: &[Finding], severity: Severity, words: &[&str]) -> bool {
    let all = |finding: &Finding| words.iter().all(|word| finding.failure.message.contains(word));
    findings.iter().any(|finding| finding.severity == severity && all(finding))
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_that_do_not_fit_a_new_validator_are_told_by_key() {
    let stage = Stage::set().await;
    stage.load(numbered(3)).await;
    let strict = "  - collMod: messages\n    validator: { absent: { $exists: true } }";
    let findings = found(&stage, schema_job(strict)).await;
    assert!(told(&findings, Severity::Warning, &["do not fit", "such as"]), "{findings:?}");
    let fault = findings.iter().map(|finding| finding.failure.fault()).next();
    assert_eq!(fault, Some(Fault::Application), "{findings:?}");
    let moderate = format!("{strict}\n    validationLevel: moderate");
    assert!(found(&stage, schema_job(&moderate)).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_the_server_does_not_understand_is_an_error() {
    let stage = Stage::set().await;
    let asking = |query| {
        let mut job = schema_job("  - create: audit");
        let question = Question::Documents { collection: "messages".into(), query };
        job.schema.verify = vec![Assertion { question, equals: json!(0) }];
        job.spec.body = SpecBody::Schema(job.schema.clone());
        job
    };
    let good = found(&stage, asking(json!({ "a": { "$gt": 1 } }))).await;
    assert!(good.is_empty(), "{good:?}");
    let wrong = found(&stage, asking(json!({ "a": { "$greater": 1 } }))).await;
    assert!(told(&wrong, Severity::Error, &["a question of `verify`", "$greater"]), "{wrong:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_that_has_run_for_long_on_the_collection_is_named() {
    let stage = Stage::set().await;
    stage.load(numbered(1)).await;
    let change = "  - createIndexes: messages\n    indexes: [{ key: { a: 1 }, name: by_a }]";
    assert!(found(&stage, schema_job(change)).await.is_empty(), "nothing is in the way");
    let documents = stage.documents();
    let long = tokio::spawn(async move {
        documents.find_one(doc! { "$where": "sleep(120000) || true" }).max_time(Duration::from_secs(60)).await
    });
    wait_for("the operation to be told", Duration::from_secs(50), async || {
        let findings = found(&stage, schema_job(change)).await;
        told(&findings, Severity::Warning, &["operation ", "on chat.messages", "running for"]).then_some(())
    })
    .await
    .expect("named");
    long.abort();
}

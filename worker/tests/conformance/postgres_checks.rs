//! What a look at a PostgreSQL shard finds before a change.

use std::time::Duration;

use anyhow::{Result, ensure};
use shardlift_domain::failure::ErrorCode;
use shardlift_domain::spec::{Assertion, Question, SpecBody, VerifyCheck};
use shardlift_domain::verdict::{Finding, Severity};
use shardlift_harness::wait::wait_for;
use shardlift_worker::engine::{Job, SchemaJob};
use sqlx::Executor;

use super::bench::{Bench, migration};
use super::postgres::{PostgresBench, data_job, set};
use super::postgres_schema::job;

async fn found(bench: &PostgresBench, job: &Job) -> Result<Vec<Finding>> {
    Ok(bench.engine().check(&migration(), job).await?)
}

fn warning(findings: &[Finding], words: &[&str]) -> bool {
    findings.iter().any(|finding| {
        let told = words.iter().all(|word| finding.failure.message.contains(word));
        told && finding.severity == Severity::Warning && finding.failure.place.migration.is_none()
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_transaction_and_a_broken_index_are_named_before_a_schema_change() -> Result<()> {
    let bench = PostgresBench::start().await?;
    let change = Job::Schema(job(&["ALTER TABLE items ADD COLUMN one int"]));
    ensure!(found(&bench, &change).await?.is_empty(), "nothing is in the way");
    bench.execute("CREATE INDEX broken ON items (applied)").await?;
    bench.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'broken'::regclass").await?;
    let mut holder = bench.connect().await?;
    holder.execute("SET application_name = 'reports'").await?;
    holder.execute("BEGIN").await?;
    holder.execute("SELECT count(*) FROM items").await?;
    wait_for("the transaction to be older than lock_timeout", Duration::from_secs(60), async || {
        let findings = found(&bench, &change).await.ok()?;
        warning(&findings, &["reports", "user ", "idle in transaction", "holds a lock"]).then_some(())
    })
    .await?;
    let findings = found(&bench, &change).await?;
    ensure!(warning(&findings, &["index broken on items", "invalid"]), "{findings:?}");
    let other = Job::Schema(job(&["CREATE TABLE other (a int)"]));
    ensure!(found(&bench, &other).await?.is_empty(), "another table is free");
    holder.execute("COMMIT").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transform_that_does_not_fit_is_an_error_of_its_migration() -> Result<()> {
    let bench = PostgresBench::start().await?;
    let job = Job::Data(data_job(("items", &[], Some("NOT migrated")), set(&[("absent", "1")]), None));
    let findings = found(&bench, &job).await?;
    let [Finding { severity: Severity::Error, failure }] = findings.as_slice() else {
        anyhow::bail!("{findings:?}");
    };
    ensure!(failure.code == ErrorCode::TransformInvalid && failure.message.contains("absent"), "{failure:?}");
    ensure!(failure.place.migration == Some(migration()) && failure.place.shard.is_some(), "{failure:?}");
    Ok(())
}

fn asking(mut job: SchemaJob, query: &str) -> Job {
    let question = Question::Sql(query.into());
    job.schema.verify = vec![Assertion { question, equals: serde_json::json!(0) }];
    job.spec.body = SpecBody::Schema(job.schema.clone());
    Job::Schema(job)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn questions_of_verify_are_tried_before_anything_is_changed() -> Result<()> {
    let bench = PostgresBench::start().await?;
    let change = || job(&["ALTER TABLE items ADD COLUMN one int"]);
    let about = |findings: &[Finding]| -> Vec<(Severity, String)> {
        findings.iter().map(|finding| (finding.severity, finding.failure.message.clone())).collect()
    };
    let good = found(&bench, &asking(change(), "SELECT count(*) FROM items -- all")).await?;
    ensure!(good.is_empty(), "{:?}", about(&good));
    let later = about(&found(&bench, &asking(change(), "SELECT count(one) FROM items")).await?);
    ensure!(matches!(later.as_slice(), [(Severity::Note, text)] if text.contains("one")), "{later:?}");
    for (wrong, word) in
        [("SELECT 1 / 'x'::int FROM items", "refused"), ("SELECT id, applied FROM items", "2 columns")]
    {
        let wrong = about(&found(&bench, &asking(change(), wrong)).await?);
        ensure!(matches!(wrong.as_slice(), [(Severity::Error, text)] if text.contains(word)), "{wrong:?}");
    }
    let mut data = data_job(("items", &[], Some("NOT migrated")), set(&[("migrated", "true")]), None);
    let question = Question::Sql("SELECT count(absent) FROM items".into());
    data.data.verify.push(VerifyCheck::Assert(Assertion { question, equals: serde_json::json!(0) }));
    data.spec.body = SpecBody::Data(Box::new(data.data.clone()));
    let wrong = about(&found(&bench, &Job::Data(data)).await?);
    ensure!(matches!(wrong.as_slice(), [(Severity::Error, text)] if text.contains("absent")), "{wrong:?}");
    Ok(())
}

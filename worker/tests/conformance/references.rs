//! Rows that refer to what is not there, of each engine.

use anyhow::{Result, ensure};
use bson::doc;
use shardlift_domain::failure::ErrorCode;
use shardlift_domain::migration::Step;
use shardlift_domain::spec::{References, VerifyCheck};
use shardlift_domain::verdict::{CheckResult, Severity};
use shardlift_worker::engine::{DataJob, Job, ShardEngine};

use super::bench::{Bench, Form, leader, lease, migration};
use super::mongodb::items::MongodbBench;
use super::postgres::PostgresBench;

/// The job, asking for this alone.
fn asking(job: &DataJob, fields: &[&str], to: &str, key: &[&str]) -> Job {
    let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let references = References { fields: list(fields), to: to.to_owned(), key: list(key) };
    let mut data = job.data.clone();
    data.verify = vec![VerifyCheck::References(references)];
    Job::Data(DataJob { spec: job.spec.clone(), data, transformer: None })
}

async fn checked(engine: &dyn ShardEngine, job: &Job) -> Result<CheckResult> {
    let report = engine.verify(&lease(&leader(1, "a"), Step::Verify, 1), job).await?;
    ensure!(report.checks.len() == 1, "{report:?}");
    Ok(report.checks[0].clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_refer_to_nothing_are_named_by_key() -> Result<()> {
    let bench = PostgresBench::start().await?;
    bench.add(1..=40).await?;
    bench
        .execute(
            "CREATE TABLE owners (tenant int, id int, PRIMARY KEY (tenant, id));
             INSERT INTO owners SELECT 1, n FROM generate_series(1, 40) n;
             ALTER TABLE items ADD COLUMN tenant int, ADD COLUMN owner int;
             UPDATE items SET tenant = 1, owner = id WHERE id <> 3",
        )
        .await?;
    let (engine, job) = (bench.engine(), bench.job(Form::Pending));
    let both = asking(&job, &["tenant", "owner"], "public.owners", &["tenant", "id"]);
    let check = checked(&*engine, &both).await?;
    ensure!(check.passed, "item 3 refers to nobody: {check:?}");
    bench.execute("DELETE FROM owners WHERE id IN (7, 21)").await?;
    let check = checked(&*engine, &both).await?;
    ensure!(!check.passed && check.detail.starts_with("2 rows refer to what is not there"), "{check:?}");
    let keys = check.detail.rsplit(": ").next().unwrap_or_default();
    let mut keys: Vec<&str> = keys.split(", ").collect();
    keys.sort_unstable();
    ensure!(keys == ["21", "7"], "{check:?}");
    bench.execute("DELETE FROM owners").await?;
    let check = checked(&*engine, &both).await?;
    ensure!(check.detail.starts_with("39 rows") && check.detail.ends_with(", …"), "{check:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn references_that_do_not_fit_are_found_before_anything_is_changed() -> Result<()> {
    let bench = PostgresBench::start().await?;
    bench.execute("CREATE TABLE owners (id text PRIMARY KEY)").await?;
    let (engine, job) = (bench.engine(), bench.job(Form::Pending));
    for (to, key, why) in
        [("absent", "id", "absent"), ("owners", "name", "name"), ("owners", "id", "operator does not exist")]
    {
        let found = engine.check(&migration(), &asking(&job, &["applied"], to, &[key])).await?;
        let told = found.iter().find(|finding| finding.failure.message.contains(why));
        ensure!(told.is_some_and(|told| told.failure.code == ErrorCode::PrecheckRefused), "{to}: {found:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_that_refer_to_nothing_are_named_by_key_each_value_of_a_list_by_itself() -> Result<()> {
    let bench = MongodbBench::start().await?;
    bench.add(1..=20).await?;
    let database = bench.items.client().database(&bench.items.namespace().db);
    let owners = database.collection::<bson::Document>("owners");
    owners.insert_many((1..=20).map(|n| doc! { "_id": n, "tenant": 1 })).await?;
    // Another number type is the same number.
    bench
        .items
        .update_many(doc! { "_id": { "$lte": 10 } }, vec![doc! { "$set": { "owner": "$_id" } }])
        .await?;
    bench.items.update_one(doc! { "_id": 11 }, doc! { "$set": { "owner": [1, 2, 3] } }).await?;
    let (engine, job) = (bench.engine(), bench.job(Form::Pending));
    for (to, key, found) in [
        ("owners", "_id", None),
        ("absent", "_id", Some((Severity::Error, "no collection absent"))),
        ("owners", "tenant", Some((Severity::Warning, "no index of owners begins with tenant"))),
    ] {
        let told = engine.check(&migration(), &asking(&job, &["owner"], to, &[key])).await?;
        let fits = |(severity, words): (Severity, &str)| {
            told.len() == 1 && told[0].severity == severity && told[0].failure.message.contains(words)
        };
        ensure!(found.map_or(told.is_empty(), fits), "{to} ({key}): {told:?}");
    }
    let by_key = asking(&job, &["owner"], "owners", &["_id"]);
    let check = checked(&*engine, &by_key).await?;
    ensure!(check.passed, "nine refer to nobody: {check:?}");
    owners.delete_one(doc! { "_id": 2 }).await?;
    let check = checked(&*engine, &by_key).await?;
    let (two, eleven) = (bench.shown(2), bench.shown(11));
    ensure!(check.detail.starts_with("2 rows") && check.detail.contains(&two), "{check:?}");
    ensure!(check.detail.contains(&eleven), "one value of its list: {check:?}");
    bench.items.update_many(doc! {}, doc! { "$set": { "tenant": 2 } }).await?;
    let check = checked(&*engine, &asking(&job, &["tenant", "owner"], "owners", &["tenant", "_id"])).await?;
    ensure!(check.detail.starts_with("11 rows"), "of another tenant: {check:?}");
    Ok(())
}

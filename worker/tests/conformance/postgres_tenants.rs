//! Only the rows of the named tenants, whatever their type, in every form of a job.

use std::sync::Arc;

use anyhow::{Result, ensure};
use shardlift_domain::migration::Step;
use shardlift_domain::spec::{TenantKey, Tenants};
use shardlift_domain::verdict::Sweep;
use shardlift_worker::engine::{DataJob, Job};

use super::bench::{Bench, Form, leader, lease};
use super::drive::{split, walk};
use super::postgres::PostgresBench;

/// The job for these tenants alone.
fn scoped(job: &DataJob, field: &str, keys: &[TenantKey]) -> Arc<DataJob> {
    let mut data = job.data.clone();
    data.source.tenants = Some(Tenants { field: field.into(), keys: keys.to_vec(), left_out: Vec::new() });
    Arc::new(DataJob { spec: job.spec.clone(), data, transformer: job.transformer.clone() })
}

async fn only_theirs(kind: &str, tenant: &str, keys: &[TenantKey], form: Form) -> Result<()> {
    let bench = PostgresBench::start().await?;
    bench.add(1..=600).await?;
    // Tenant 0, 1 or 2 in the column's type.
    bench
        .execute(&format!("ALTER TABLE items ADD COLUMN tenant {kind}; UPDATE items SET tenant = {tenant}"))
        .await?;
    let (engine, leader) = (bench.engine(), leader(1, "a"));
    let job = scoped(&bench.job(form), "tenant", keys);
    let whole = Job::Data(scoped_data(&job));
    engine.precheck(&lease(&leader, Step::Precheck, 1), &whole).await?;
    let pass = split(&*engine, &leader, &job, 3).await?;
    walk(&*engine, &leader, &job, &pass, 70).await?;
    let done = "SELECT string_agg(DISTINCT id % 3 || ':' || applied, ' ' ORDER BY id % 3 || ':' || applied) FROM items";
    ensure!(bench.value(done).await? == "0:0 1:1 2:1", "{kind}, {form:?}: {}", bench.value(done).await?);
    // Rows of others are pending and stay so; one of theirs that comes late is found.
    let clean = engine.sweep(&lease(&leader, Step::Sweep, 1), &job).await?;
    ensure!(clean == Sweep::Clean, "{kind}, {form:?}: {clean:?}");
    let report = engine.verify(&lease(&leader, Step::Verify, 1), &whole).await?;
    ensure!(report.passed(), "{kind}, {form:?}: {report:?}");
    if matches!(form, Form::Everything) {
        return Ok(());
    }
    bench.execute("UPDATE items SET migrated = false WHERE id IN (3, 4)").await?;
    let report = engine.verify(&lease(&leader, Step::Verify, 1), &whole).await?;
    ensure!(!report.passed(), "a pending row of a tenant was not seen: {report:?}");
    let found = engine.sweep(&lease(&leader, Step::Sweep, 1), &job).await?;
    let Sweep::Found { pending: 1, pass } = found else { anyhow::bail!("{kind}, {form:?}: {found:?}") };
    walk(&*engine, &leader, &job, &pass, 70).await?;
    let applied = bench
        .value("SELECT string_agg(id || ':' || applied, ' ' ORDER BY id) FROM items WHERE id IN (3, 4)")
        .await?;
    ensure!(applied == "3:0 4:2", "{applied}");
    Ok(())
}

fn scoped_data(job: &Arc<DataJob>) -> DataJob {
    DataJob { spec: job.spec.clone(), data: job.data.clone(), transformer: job.transformer.clone() }
}

fn texts(keys: [&str; 2]) -> Vec<TenantKey> {
    keys.map(|key| TenantKey::Text(key.into())).to_vec()
}

const UUID: &str = "('00000000-0000-0000-0000-00000000000' || id % 3)::uuid";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_rows_of_tenants_that_are_integers_change() -> Result<()> {
    let keys = [TenantKey::Integer(1), TenantKey::Integer(2)];
    for form in [Form::Pending, Form::Everything, Form::Worker] {
        only_theirs("bigint", "id % 3", &keys, form).await?;
    }
    only_theirs("integer", "id % 3", &keys, Form::Pending).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_rows_of_tenants_that_are_texts_change_whatever_they_hold() -> Result<()> {
    let odd = ["it's \"1\", {a}\\", "NULL"];
    let tenant = format!(
        "CASE id % 3 WHEN 0 THEN 'other' WHEN 1 THEN '{}' ELSE '{}' END",
        odd[0].replace('\'', "''"),
        odd[1]
    );
    for form in [Form::Pending, Form::Everything, Form::Worker] {
        only_theirs("varchar(40)", &tenant, &texts(odd), form).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_rows_of_tenants_that_are_uuids_change_however_they_are_written() -> Result<()> {
    let keys = texts(["00000000000000000000000000000001", "00000000-0000-0000-0000-000000000002"]);
    for form in [Form::Pending, Form::Everything, Form::Worker] {
        only_theirs("uuid", UUID, &keys, form).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_column_that_is_not_there_is_told_by_the_precheck() -> Result<()> {
    let bench = PostgresBench::start().await?;
    bench.add(1..=3).await?;
    let job = scoped(&bench.job(Form::Pending), "tenant", &[TenantKey::Integer(1)]);
    let refused = bench
        .engine()
        .precheck(&lease(&leader(1, "a"), Step::Precheck, 1), &Job::Data(scoped_data(&job)))
        .await;
    let failure = refused.expect_err("it was accepted").into_failure();
    ensure!(failure.message.contains("no column tenant"), "{failure}");
    Ok(())
}

//! How far standbys are behind, on a real one.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use shardlift_domain::spec::SpecBody;
use shardlift_domain::verdict::{Finding, Severity};
use shardlift_harness::servers::Postgres;
use shardlift_harness::wait::wait_for;
use shardlift_runtime::config::Secret;
use shardlift_worker::engine::postgres::PostgresEngine;
use shardlift_worker::engine::{DataJob, Job, RangeWriter, ShardEngine};

use super::bench::{Bench, SHARD, leader, migration, range_lease};
use super::drive::{open, split};
use super::postgres::{PostgresBench, data_job, set};

const LATE: Duration = Duration::from_secs(60);

/// A migration that brakes.
fn braked() -> DataJob {
    let mut job = data_job(("items", &[], Some("NOT migrated")), set(&[("migrated", "true")]), None);
    job.data.max_replica_lag = Some(Duration::from_secs(1));
    job.spec.body = SpecBody::Data(Box::new(job.data.clone()));
    job
}

async fn about_replicas(engine: &dyn ShardEngine) -> Result<Vec<(Severity, String)>> {
    let findings = engine.check(&migration(), &Job::Data(braked())).await?;
    let told = |finding: &Finding| (finding.severity, finding.failure.message.clone());
    let all = findings.iter().map(told);
    Ok(all.filter(|(_, message)| message.contains("max_replica_lag")).collect())
}

/// Until the standby is as far behind as `wanted` says.
async fn until(
    writer: &mut dyn RangeWriter,
    what: &str,
    wanted: impl Fn(Duration) -> bool,
) -> Result<String> {
    wait_for(what, LATE, async || {
        let lag = writer.replica_lag().await.ok()??;
        wanted(lag.behind).then_some(lag.replica)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_replays_nothing_falls_behind_until_it_replays_again() -> Result<()> {
    let primary = Postgres::start().await?;
    let bench = PostgresBench { dsn: primary.create_database("chat").await? };
    bench.create().await?;
    bench.add(1..=100).await?;
    let engine = bench.engine();
    let alone = about_replicas(engine.as_ref()).await?;
    ensure!(matches!(alone.as_slice(), [(Severity::Note, told)] if told.contains("no effect")), "{alone:?}");
    let (leader, job) = (leader(1, "a"), Arc::new(braked()));
    split(engine.as_ref(), &leader, &job, 1).await?;
    let lease = range_lease(&leader, 0, 1);
    let mut writer = open(engine.as_ref(), &lease, &job).await?;
    ensure!(writer.replica_lag().await?.is_none(), "there is no standby");

    let standby = primary.start_standby().await?;
    let name = until(writer.as_mut(), "the standby to follow", |behind| behind.is_zero()).await?;
    ensure!(name == "walreceiver at 127.0.0.1", "{name}");
    ensure!(about_replicas(engine.as_ref()).await?.is_empty(), "there is a standby, and it may be seen");
    standby.execute("SELECT pg_wal_replay_pause()").await?;
    writer.run_batch(&lease, 10).await?;
    until(writer.as_mut(), "the standby to fall behind", |behind| behind > Duration::from_secs(1)).await?;
    standby.execute("SELECT pg_wal_replay_resume()").await?;
    until(writer.as_mut(), "the standby to follow again", |behind| behind.is_zero()).await?;

    bench.execute("CREATE ROLE shy LOGIN").await?;
    let dsn = Secret::new(bench.dsn.replace("postgres@", "shy@"));
    let shy = PostgresEngine::new(SHARD.parse()?, "chat".parse()?, &dsn)?;
    bench.execute("GRANT ALL ON SCHEMA shardlift TO shy; GRANT ALL ON ALL TABLES IN SCHEMA shardlift, public TO shy").await?;
    let hidden = about_replicas(&shy).await?;
    ensure!(
        matches!(hidden.as_slice(), [(Severity::Error, told)] if told.contains("may not see")),
        "{hidden:?}"
    );
    Ok(())
}

//! S12a: one coordinator, a thousand simulated workers that report every second, up to ten thousand shards.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use shardlift_harness::installation::{Engine, Installation};
use shardlift_harness::wait::wait_for_ok;
use shardlift_proto::v1;
use shardlift_proto::v1::migration_service_client::MigrationServiceClient;
use shardlift_simulator::{Fleet, Settings};
use tonic::transport::Channel;

use crate::figure::{Figure, Goal};
use crate::usage::{Usage, metric, peak_mib};

const CLUSTER: &str = "sim";
/// The workers that the goals speak of.
pub(crate) const GOAL: usize = 1_000;
/// A plan or a submission of ten thousand shards is a few MB.
const LARGEST_MESSAGE: usize = 64 << 20;
const WITHIN: Duration = Duration::from_secs(300);
const READY: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_secs(1);

const SCHEMA: &str = "id: sim_columns\nkind: schema\nengine: postgres\ncluster: sim\n\
    up: [\"ALTER TABLE items ADD COLUMN migrated boolean\"]\ndown: [\"ALTER TABLE items DROP COLUMN migrated\"]\n";
const DATA: &str = "id: sim_rows\nkind: data\nengine: postgres\ncluster: sim\ndepends_on: [sim_columns]\n\
    source: { table: items, where: not migrated }\ntransform: { sql: { migrated: \"true\" } }\n";

/// What one run has cost.
struct Cost {
    plan: Duration,
    cores: f64,
    busiest: f64,
    peak_mib: f64,
    within: Vec<Duration>,
    first: Vec<Duration>,
    commits: f64,
    reports: f64,
    took: Duration,
    ended: bool,
    lost: u64,
}

/// S12a: a shard for each worker; then ten, which the goal speaks of.
pub(crate) async fn s12a(workers: usize) -> Result<Vec<Figure>> {
    let mut costs = vec![run(workers, 1, 8).await?];
    told(workers, 1, &costs[0]);
    if costs[0].ended {
        costs.push(run(workers, 10, 2).await?);
        told(workers, 10, &costs[1]);
    } else {
        println!("S12a {} shards: not tried, since it cannot do {workers}", workers * 10);
    }
    if workers != GOAL {
        println!("S12a: the goals speak of {GOAL} workers; nothing is judged or written");
        return Ok(Vec::new());
    }
    let figure = |name, goal, value, against| Figure { name, goal, runs: vec![value], against, rows: 0 };
    let worst = |of: fn(&Cost) -> f64| costs.iter().map(of).fold(0.0, f64::max);
    let ended = costs.iter().filter(|cost| cost.ended).count() as f64;
    let hand_out = "ms from a report to the hand-out that it made possible, p99";
    Ok(vec![
        figure(
            "S12a",
            Goal::AtMost(1.0),
            worst(|cost| cost.cores),
            "cores of one coordinator, 1,000 workers",
        ),
        figure(
            "S12b",
            Goal::AtMost(500.0),
            worst(|cost| cost.peak_mib),
            "MiB of one coordinator at its peak",
        ),
        figure("S12c", Goal::AtMost(50.0), worst(|cost| p99(&cost.within)), hand_out),
        figure(
            "S12d",
            Goal::AtMost(5.0),
            worst(|cost| cost.plan.as_secs_f64()),
            "seconds to plan both migrations",
        ),
        figure(
            "S12e",
            Goal::AtLeast(2.0),
            ended,
            "of two runs completed in 300 s: 1,000 shards, 10,000 shards",
        ),
        figure(
            "S12f",
            Goal::AtMost(0.0),
            worst(|cost| cost.lost as f64),
            "sessions lost by silence of the coordinator",
        ),
    ])
}

fn told(workers: usize, shards_each: usize, cost: &Cost) {
    let Cost { plan, cores, busiest, peak_mib, within, first, commits, reports, took, ended, lost } = cost;
    println!(
        "S12a {} shards, {workers} workers, {} after {:.0} s, {lost} sessions lost: plan {:.2} s, {cores:.2} cores (busiest second {busiest:.2}), \
         {peak_mib:.0} MiB at the peak, {reports:.0} reports/s, {commits:.1} commits/s; hand-outs within a phase: {} of them, p50 \
         {:.1} ms, p99 {:.1} ms; first ones of a phase: {}, p50 {:.1} ms, p99 {:.1} ms",
        workers * shards_each,
        if *ended { "completed" } else { "NOT completed" },
        took.as_secs_f64(),
        plan.as_secs_f64(),
        within.len(),
        at(within, 0.5),
        p99(within),
        first.len(),
        at(first, 0.5),
        p99(first),
    );
}

fn p99(sorted: &[Duration]) -> f64 {
    at(sorted, 0.99)
}

/// A quantile of sorted latencies, in milliseconds; 0 of nothing.
fn at(sorted: &[Duration], share: f64) -> f64 {
    let index = (sorted.len() as f64 * share) as usize;
    sorted
        .get(index.min(sorted.len().saturating_sub(1)))
        .map_or(0.0, |latency| latency.as_secs_f64() * 1000.0)
}

async fn run(workers: usize, shards_each: usize, ranges: u32) -> Result<Cost> {
    let mut settings = Settings {
        coordinator: String::new(),
        cluster: CLUSTER.to_owned(),
        workers,
        shards_each,
        slots: 1,
        ranges,
        rows: 1_000_000,
        range_takes: (Duration::from_secs(2), Duration::from_secs(6)),
        step_takes: Duration::from_millis(20),
    };
    let builder = settings.shards().fold(Installation::builder().no_workers(), |builder, shard| {
        builder.shard(&shard, CLUSTER, Engine::Postgres, "simulated")
    });
    let installation = builder.launch().await?;
    settings.coordinator = installation.url();
    let channel = Channel::from_shared(installation.url())?.connect().await?;
    let mut client = MigrationServiceClient::new(channel)
        .max_decoding_message_size(LARGEST_MESSAGE)
        .max_encoding_message_size(LARGEST_MESSAGE);
    wait_for_ok("the coordinator to lead", READY, async || completed(&mut client.clone()).await).await?;
    let fleet = Fleet::connect(settings).await?;

    let began = Instant::now();
    let planned = client.plan(v1::PlanRequest { specs: specs(), rehearse: None }).await?.into_inner();
    let plan = began.elapsed();
    ensure!(planned.plan.is_some_and(|plan| plan.migrations.len() == 2), "the plan is not of two migrations");
    client.submit(v1::SubmitRequest { specs: specs(), start: true, topology_revision: None }).await?;

    let pid = installation.coordinator().process().pid();
    let commits = async || metric(&installation.metrics_url(), COMMITS).await;
    let (began, usage) = (Instant::now(), Usage::of(pid)?);
    let (reports, stored) = (fleet.reports(), commits().await?);
    let (mut last, mut busiest) = (usage, 0.0_f64);
    let mut ended = false;
    while !ended && began.elapsed() < WITHIN {
        tokio::time::sleep(LOOK_EVERY).await;
        ended = completed(&mut client).await?;
        let now = Usage::of(pid)?;
        busiest = busiest.max(now.cores_since(&last));
        last = now;
    }
    let took = began.elapsed();
    Ok(Cost {
        plan,
        cores: Usage::of(pid)?.cores_since(&usage),
        busiest,
        peak_mib: peak_mib(pid)?,
        within: fleet.hand_outs().within_phases(),
        first: fleet.hand_outs().at_the_start_of_phases(),
        commits: (commits().await? - stored) / took.as_secs_f64(),
        reports: (fleet.reports() - reports) as f64 / took.as_secs_f64(),
        took,
        ended,
        lost: fleet.lost(),
    })
}

const COMMITS: &str = "shardlift_coordinator_store_commit_duration_seconds_count";

fn specs() -> Vec<v1::SpecFile> {
    [("sim_columns.yaml", SCHEMA), ("sim_rows.yaml", DATA)]
        .map(|(name, text)| v1::SpecFile { name: name.to_owned(), text: text.to_owned() })
        .to_vec()
}

async fn completed(client: &mut MigrationServiceClient<Channel>) -> Result<bool> {
    let listed = client.list(v1::ListRequest { statuses: Vec::new() }).await?.into_inner().migrations;
    for migration in &listed {
        let rests =
            [v1::Status::Failed, v1::Status::Paused, v1::Status::Cancelled].contains(&migration.status());
        ensure!(!rests, "{} rests as {:?}: {:?}", migration.id, migration.status(), migration.error);
    }
    Ok(listed.len() == 2 && listed.iter().all(|migration| migration.status() == v1::Status::Completed))
}

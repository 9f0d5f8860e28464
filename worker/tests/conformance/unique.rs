//! Digests by which the rows of all shards are compared, for every engine; and what PostgreSQL's types mean for them.

use std::sync::Arc;

use anyhow::{Result, bail, ensure};
use shardlift_domain::failure::ErrorCode;
use shardlift_domain::migration::Step;
use shardlift_domain::spec::{SpecFile, Unique, VerifyCheck};
use shardlift_domain::unique::{
    Collected, Counted, Digest, DigestSlice, KeyedDigest, UniqueAnswer, UniqueAsk, UniqueRequest,
};
use shardlift_domain::verdict::Severity;
use shardlift_worker::engine::{DataJob, EngineError, Job, ShardEngine};
use shardlift_worker::lease::Pulse;

use super::bench::{Bench, Form, failure, leader, lease, migration};
use super::postgres::PostgresBench;

/// The job, whose rows are to be unique by these fields.
fn asking(job: &DataJob, fields: &[&str]) -> Arc<DataJob> {
    let mut data = job.data.clone();
    let fields = fields.iter().map(|name| (*name).to_owned()).collect();
    data.verify.push(VerifyCheck::Unique(Unique { fields }));
    Arc::new(DataJob { spec: job.spec.clone(), data, transformer: None })
}

/// Collects to the end under this attempt, so many rows at a time.
async fn collect(
    engine: &dyn ShardEngine,
    leader: &Arc<Pulse>,
    job: &Arc<DataJob>,
    attempt: u32,
) -> Result<u64> {
    let lease = lease(leader, Step::Collect, attempt);
    let mut collector = engine.open_collection(&lease, Arc::clone(job)).await?;
    for _ in 0..1000 {
        let report = collector.run_batch(&lease, 7).await?;
        if report.last {
            return Ok(report.digests);
        }
    }
    bail!("the walk has no end")
}

async fn ask(
    engine: &dyn ShardEngine,
    leader: &Arc<Pulse>,
    job: &DataJob,
    ask: UniqueAsk,
) -> Result<UniqueAnswer, EngineError> {
    // The engine is given the job itself.
    let file = SpecFile { name: "m.yaml".into(), text: String::new() };
    let request = UniqueRequest { migration: migration(), file, ask };
    engine.unique(leader.leader(), &request, job).await
}

/// All digests, ten at a time.
async fn digests(engine: &dyn ShardEngine, leader: &Arc<Pulse>, job: &DataJob) -> Result<Vec<Counted>> {
    let (mut all, mut from): (Vec<Counted>, Digest) = (Vec::new(), 0);
    loop {
        let slice = UniqueAsk::Slice(DigestSlice { from, below: None, limit: 10 });
        let UniqueAnswer::Slice(page) = ask(engine, leader, job, slice).await? else { bail!("a slice") };
        ensure!(page.len() <= 10 && page.is_sorted_by(|one, other| one.digest < other.digest), "{page:?}");
        let next = page.last().and_then(|last| last.digest.checked_add(1)).filter(|_| page.len() == 10);
        all.extend(page);
        match next {
            Some(next) => from = next,
            None => return Ok(all),
        }
    }
}

async fn keys(
    engine: &dyn ShardEngine,
    leader: &Arc<Pulse>,
    job: &DataJob,
    digest: Digest,
) -> Result<Vec<String>> {
    let UniqueAnswer::Rows(rows) = ask(engine, leader, job, UniqueAsk::Rows(vec![digest])).await? else {
        bail!("rows")
    };
    ensure!(rows.iter().all(|row| (row.digest, row.check) == (digest, 0)), "{rows:?}");
    let mut keys: Vec<String> = rows.into_iter().map(|KeyedDigest { key, .. }| key).collect();
    keys.sort_unstable();
    Ok(keys)
}

async fn summary(engine: &dyn ShardEngine, leader: &Arc<Pulse>, job: &DataJob) -> Result<u64, EngineError> {
    match ask(engine, leader, job, UniqueAsk::Summary).await? {
        UniqueAnswer::Summary(Collected { digests, .. }) => Ok(digests),
        other => panic!("{other:?}"),
    }
}

/// Forty items, each with another count, but for 7 and 21.
async fn counted(bench: &dyn Bench) -> Result<()> {
    bench.add(1..=40).await?;
    for id in 1..=40 {
        bench.set_applied(id, if id == 21 { 7 } else { id }).await?;
    }
    Ok(())
}

pub(crate) async fn rows_with_the_same_fields_are_told_as_long_as_they_have_them(
    bench: &dyn Bench,
) -> Result<()> {
    counted(bench).await?;
    let (engine, leader) = (bench.engine(), leader(1, "a"));
    let job = asking(&bench.job(Form::Pending), &["applied"]);
    ensure!(collect(&*engine, &leader, &job, 1).await? == 40);
    ensure!(summary(&*engine, &leader, &job).await? == 40);
    let all = digests(&*engine, &leader, &job).await?;
    ensure!(all.len() == 39 && all.iter().map(|counted| counted.rows).sum::<u64>() == 40, "{all:?}");
    let Some(twice) = all.iter().find(|counted| counted.rows == 2) else { bail!("{all:?}") };
    let mut both = vec![bench.shown(7), bench.shown(21)];
    both.sort_unstable();
    ensure!(keys(&*engine, &leader, &job, twice.digest).await? == both);
    bench.set_applied(21, 999).await?;
    ensure!(keys(&*engine, &leader, &job, twice.digest).await? == [bench.shown(7)], "21 was changed since");
    bench.remove(7).await?;
    ensure!(keys(&*engine, &leader, &job, twice.digest).await?.is_empty());
    Ok(())
}

pub(crate) async fn a_walk_for_digests_goes_on_where_it_was_lost_and_its_loser_adds_nothing(
    bench: &dyn Bench,
) -> Result<()> {
    counted(bench).await?;
    let (engine, leader) = (bench.engine(), leader(1, "a"));
    let job = asking(&bench.job(Form::Pending), &["applied"]);
    let first = lease(&leader, Step::Collect, 1);
    let mut former = engine.open_collection(&first, Arc::clone(&job)).await?;
    while former.run_batch(&first, 10).await?.digests < 20 {}
    let early = failure(summary(&*engine, &leader, &job).await);
    ensure!(early.code == ErrorCode::VerifyIncomparable, "not all rows have digests yet: {early:?}");
    let second = lease(&leader, Step::Collect, 2);
    let mut next = bench.engine().open_collection(&second, Arc::clone(&job)).await?;
    let mut walked = 0;
    loop {
        let report = next.run_batch(&second, 10).await?;
        walked += report.rows;
        if report.last {
            ensure!((walked, report.digests) == (20, 40), "{report:?} after {walked}");
            break;
        }
    }
    let late = former.run_batch(&first, 10).await;
    ensure!(matches!(late, Err(EngineError::LeaseLost | EngineError::Connection(_))), "{late:?}");
    let older = engine.open_collection(&first, Arc::clone(&job)).await.map(|_| ());
    ensure!(matches!(older, Err(EngineError::LeaseLost)), "{older:?}");
    ensure!(digests(&*engine, &leader, &job).await?.len() == 39);
    Ok(())
}

pub(crate) async fn digests_are_collected_anew_and_removed_to_the_last_one(bench: &dyn Bench) -> Result<()> {
    counted(bench).await?;
    let (engine, old, new) = (bench.engine(), leader(1, "a"), leader(2, "b"));
    let job = asking(&bench.job(Form::Pending), &["applied"]);
    collect(&*engine, &old, &job, 1).await?;
    bench.set_applied(21, 21).await?;
    ensure!(collect(&*engine, &new, &job, 1).await? == 40, "none of the walk before counts");
    let all = digests(&*engine, &new, &job).await?;
    ensure!(all.len() == 40 && all.iter().all(|counted| counted.rows == 1), "{all:?}");
    let refused = failure(ask(&*engine, &old, &job, UniqueAsk::Clear).await);
    ensure!(refused.code == ErrorCode::FenceStale, "{refused:?}");
    let late = lease(&new, Step::Collect, 2);
    let mut late_one = engine.open_collection(&late, Arc::clone(&job)).await?;
    late_one.run_batch(&late, 7).await?;
    let mut rounds = 0;
    while ask(&*engine, &new, &job, UniqueAsk::Clear).await? != UniqueAnswer::Cleared(false) {
        rounds += 1;
        ensure!(rounds < 20, "it has no end");
    }
    let mut given_up = late_one.run_batch(&late, 7).await;
    while given_up.as_ref().is_ok_and(|report| report.rows == 0 && !report.last) {
        given_up = late_one.run_batch(&late, 7).await;
    }
    ensure!(
        matches!(given_up, Err(EngineError::LeaseLost | EngineError::Connection(_))),
        "nothing is added to what is given up: {given_up:?}"
    );
    let gone = failure(summary(&*engine, &new, &job).await);
    ensure!(gone.code == ErrorCode::VerifyIncomparable, "{gone:?}");
    ensure!(
        ask(&*engine, &new, &job, UniqueAsk::Clear).await? == UniqueAnswer::Cleared(false),
        "twice is once"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_that_are_equal_have_one_digest_on_shards_of_postgres_whatever_their_form() -> Result<()> {
    let (one, other, leader) = (PostgresBench::start().await?, PostgresBench::start().await?, leader(1, "a"));
    let columns =
        "ALTER TABLE items ADD COLUMN n {n}, ADD COLUMN t {t}, ADD COLUMN at timestamptz, ADD COLUMN b bytea";
    for (bench, n, t) in [(&one, "integer", "text"), (&other, "numeric", "varchar(9)")] {
        bench.execute(&columns.replace("{n}", n).replace("{t}", t)).await?;
    }
    one.execute(
        "INSERT INTO items (id, n, t, at, b) VALUES (1, 5, 'a', '2026-01-01 00:00+00', '\\x00ff'), (2, 5, NULL, now(), ''),
           (3, 12, '3:4', '2026-01-01 00:00+00', '')",
    )
    .await?;
    other
        .execute(
            "INSERT INTO items (id, n, t, at, b) VALUES (8, 5.00, 'a', '2026-01-01 02:00+02', '\\x00FF'),
               (9, 1, '23:4', '2026-01-01 00:00+00', '')",
        )
        .await?;
    let mut told = Vec::new();
    for bench in [&one, &other] {
        let (engine, job) = (bench.engine(), asking(&bench.job(Form::Pending), &["n", "t", "at", "b"]));
        collect(&*engine, &leader, &job, 1).await?;
        let UniqueAnswer::Summary(collected) = ask(&*engine, &leader, &job, UniqueAsk::Summary).await? else {
            bail!("a summary")
        };
        told.push((collected, digests(&*engine, &leader, &job).await?));
    }
    ensure!(told[0].0 == told[1].0, "two rows each that have all fields, of the same kinds: {told:?}");
    let both: Vec<_> = told[0].1.iter().filter(|counted| told[1].1.contains(counted)).collect();
    ensure!(both.len() == 1, "{told:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn columns_that_cannot_be_compared_are_found_before_anything_is_changed() -> Result<()> {
    let bench = PostgresBench::start().await?;
    bench
        .execute(
            "CREATE COLLATION blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
             ALTER TABLE items ADD COLUMN f float8, ADD COLUMN j jsonb, ADD COLUMN t text COLLATE blind, ADD COLUMN u uuid",
        )
        .await?;
    let engine = bench.engine();
    for (field, why) in [
        ("f", Some("double precision")),
        ("j", Some("jsonb")),
        ("t", Some("collation")),
        ("x", Some("no column")),
        ("u", None),
    ] {
        let job = asking(&bench.job(Form::Pending), &[field]);
        let job = Job::Data(DataJob { spec: job.spec.clone(), data: job.data.clone(), transformer: None });
        let found = engine.check(&migration(), &job).await?;
        let told = found.iter().find(|finding| finding.failure.message.contains("verify: unique"));
        let right = |finding: &shardlift_domain::verdict::Finding| {
            finding.severity == Severity::Error
                && why.is_some_and(|why| finding.failure.message.contains(why))
        };
        ensure!(told.is_some() == why.is_some() && told.is_none_or(right), "{field}: {found:?}");
    }
    Ok(())
}

//! What was written is still there, by the digests of the undo log alone (promises P6, P8): whatever was altered or dropped is named.

use std::sync::Arc;

use anyhow::{Result, ensure};
use shardlift_domain::migration::Step;
use shardlift_domain::mismatch::{Compared, Difference};
use shardlift_domain::spec::{Leeway, VerifyCheck};
use shardlift_domain::verdict::{CheckResult, Sweep};
use shardlift_worker::engine::{DataJob, EngineError, Job, ShardEngine};
use shardlift_worker::lease::Pulse;

use super::anew::{TOLERANT, anew, changed, keys, listed, verified};
use super::bench::{Bench, Form, leader, lease};
use super::drive::walk;

/// The job, keeping before-images and compared by digests.
pub(crate) fn digest(job: &DataJob, allowed: Leeway) -> DataJob {
    let mut job = anew(job, TOLERANT);
    job.data.verify = vec![VerifyCheck::Digest(allowed)];
    job
}

/// What the check says.
pub(crate) async fn by_digest(
    engine: &dyn ShardEngine,
    leader: &Arc<Pulse>,
    job: &DataJob,
    allowed: Leeway,
) -> Result<CheckResult> {
    let report = engine.verify(&lease(leader, Step::Verify, 1), &Job::Data(digest(job, allowed))).await?;
    ensure!(report.checks.len() == 1 && report.checks[0].check == "digest", "{report:?}");
    Ok(report.checks[0].clone())
}

async fn planted(bench: &dyn Bench, form: Form) -> Result<()> {
    bench.add(1..=300).await?;
    let (engine, job, leader) = (bench.engine(), bench.job(form), leader(1, "a"));
    changed(bench, &leader, &job, 300).await?;
    let clean = by_digest(&*engine, &leader, &job, Leeway::NONE).await?;
    ensure!(
        clean.passed && clean.detail.starts_with("of 300 rows 300 are what was written, 0 were"),
        "{clean:?}"
    );
    // Altered; taken back; dropped.
    bench.set_applied(5, 77).await?;
    bench.revert(6).await?;
    bench.remove(7).await?;
    let check = by_digest(&*engine, &leader, &job, Leeway::NONE).await?;
    let [altered, reverted, dropped] = [5, 6, 7].map(|id| bench.shown(id));
    let told = [&altered, &reverted, &dropped].into_iter().all(|key| check.detail.contains(key.as_str()));
    ensure!(!check.passed && told, "{check:?}");
    let allowed = Leeway { changed: Some(2), gone: None };
    ensure!(by_digest(&*engine, &leader, &job, allowed).await?.passed);
    ensure!(!by_digest(&*engine, &leader, &job, Leeway { changed: Some(1), ..allowed }).await?.passed);
    let page = listed(&*engine, &digest(&job, Leeway::NONE), 100).await?;
    ensure!(
        page.compared == Compared { verified: 297, changed: 2, gone: 1, ..Compared::default() },
        "{page:?}"
    );
    let mut two = keys(&page, Difference::Changed);
    two.sort();
    ensure!(two == [altered, reverted] && keys(&page, Difference::Gone) == [dropped], "{page:?}");
    Ok(())
}

pub(crate) async fn what_the_shard_wrote_and_is_altered_or_gone_is_named(bench: &dyn Bench) -> Result<()> {
    planted(bench, Form::Pending).await
}

pub(crate) async fn what_the_worker_wrote_and_is_altered_or_gone_is_named(bench: &dyn Bench) -> Result<()> {
    planted(bench, Form::Worker).await
}

/// Only its newest before-image counts; the other check keeps its own walk and its own findings.
pub(crate) async fn a_row_that_was_migrated_twice_is_what_was_written_last(bench: &dyn Bench) -> Result<()> {
    bench.add(1..=60).await?;
    let (engine, job, leader) = (bench.engine(), bench.job(Form::Pending), leader(1, "a"));
    changed(bench, &leader, &job, 60).await?;
    bench.revert(7).await?;
    let again = Arc::new(anew(&job, TOLERANT));
    let Sweep::Found { pass, .. } = engine.sweep(&lease(&leader, Step::Sweep, 1), &again).await? else {
        anyhow::bail!("the sweep found nothing")
    };
    ensure!(walk(&*engine, &leader, &again, &pass, 10).await? == 1);
    let check = by_digest(&*engine, &leader, &job, Leeway::NONE).await?;
    ensure!(check.passed && check.detail.starts_with("of 60 rows 60 are what was written"), "{check:?}");
    bench.revert(7).await?;
    bench.revert(8).await?;
    let check = by_digest(&*engine, &leader, &job, Leeway::NONE).await?;
    ensure!(
        !check.passed && check.detail.starts_with("of 60 rows 58 are what was written, 2 were"),
        "{check:?}"
    );
    ensure!(verified(&*engine, &leader, &job, TOLERANT).await?.passed);
    Ok(())
}

pub(crate) async fn a_comparison_of_digests_with_a_smaller_token_is_refused(bench: &dyn Bench) -> Result<()> {
    bench.add(1..=30).await?;
    let (engine, job, leader) = (bench.engine(), bench.job(Form::Pending), leader(1, "a"));
    changed(bench, &leader, &job, 30).await?;
    let job = Job::Data(digest(&job, Leeway::NONE));
    ensure!(engine.verify(&lease(&leader, Step::Verify, 5), &job).await?.passed());
    let late = engine.verify(&lease(&leader, Step::Verify, 3), &job).await;
    ensure!(matches!(late, Err(EngineError::LeaseLost)), "{late:?}");
    Ok(())
}

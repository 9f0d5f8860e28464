//! What must hold for every engine. Each case is a sentence.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use shardlift_domain::failure::ErrorCode;
use shardlift_domain::migration::Step;
use shardlift_domain::verdict::Sweep;
use shardlift_worker::engine::{DataJob, EngineError, Job, ShardEngine};
use shardlift_worker::lease::Pulse;

use super::bench::{Bench, CLUSTER_UUID, Form, SHARD, failure, leader, lease, range_lease};
use super::drive::{bisect, exactly_once, finish, open, split, walk};

pub(crate) async fn a_walk_changes_each_row_exactly_once(bench: &dyn Bench) -> Result<()> {
    whole_job(bench, Form::Pending).await
}

pub(crate) async fn a_walk_without_where_changes_each_row_exactly_once(bench: &dyn Bench) -> Result<()> {
    whole_job(bench, Form::Everything).await
}

pub(crate) async fn a_walk_in_the_worker_changes_each_row_exactly_once(bench: &dyn Bench) -> Result<()> {
    whole_job(bench, Form::Worker).await
}

async fn whole_job(bench: &dyn Bench, form: Form) -> Result<()> {
    bench.add(-500..=499).await?;
    let (engine, job, leader) = (bench.engine(), bench.job(form), leader(1, "a"));
    let whole = Job::Data(data(&job));
    engine.precheck(&lease(&leader, Step::Precheck, 1), &whole).await?;
    let pass = split(&*engine, &leader, &job, 4).await?;
    ensure!(pass.number == 1 && pass.ranges.len() == 4, "{pass:?}");
    ensure!(walk(&*engine, &leader, &job, &pass, 70).await? == 1_000);
    exactly_once(bench).await?;
    let after = split(&*engine, &leader, &job, 4).await?;
    ensure!(after.done() && after.totals().rows == 1_000 && after.totals().seen == 1_000, "{after:?}");
    ensure!(engine.sweep(&lease(&leader, Step::Sweep, 1), &job).await? == Sweep::Clean);
    let report = engine.verify(&lease(&leader, Step::Verify, 1), &whole).await?;
    ensure!(report.passed(), "{report:?}");
    Ok(())
}

/// Every check of the spec holds.
pub(crate) async fn verified(
    engine: &dyn ShardEngine,
    leader: &Arc<Pulse>,
    job: &Arc<DataJob>,
) -> Result<()> {
    let report = engine.verify(&lease(leader, Step::Verify, 1), &Job::Data(data(job))).await?;
    ensure!(report.passed(), "{report:?}");
    Ok(())
}

pub(crate) async fn a_writer_that_is_dropped_loses_nothing(bench: &dyn Bench) -> Result<()> {
    bench.add(1..=600).await?;
    let (engine, job, leader) = (bench.engine(), bench.job(Form::Everything), leader(1, "a"));
    split(&*engine, &leader, &job, 1).await?;
    for attempt in 1..=4 {
        let lease = range_lease(&leader, 0, attempt);
        let mut writer = open(&*bench.engine(), &lease, &job).await?;
        let before = writer.state().seen;
        ensure!(before == u64::from(attempt - 1) * 100, "attempt {attempt} began at {before}");
        writer.run_batch(&lease, 60).await?;
        writer.run_batch(&lease, 40).await?;
    }
    let lease = range_lease(&leader, 0, 5);
    let mut writer = open(&*engine, &lease, &job).await?;
    ensure!(finish(writer.as_mut(), &lease, 1_000).await? == 200);
    exactly_once(bench).await
}

/// The worker stops listening at any moment of a batch: the outcome is unknown to it.
pub(crate) async fn a_batch_that_is_cut_off_is_settled_by_the_next_claim(bench: &dyn Bench) -> Result<()> {
    bench.add(1..=2_000).await?;
    let (engine, leader) = (bench.engine(), leader(1, "a"));
    let job = bench.job(Form::Everything);
    split(&*engine, &leader, &job, 1).await?;
    // The same right again and again: the task did not change hands, only its connection was lost.
    let lease = range_lease(&leader, 0, 1);
    for cut in 0..25_u64 {
        let mut writer = open(&*engine, &lease, &job).await?;
        if writer.state().done {
            break;
        }
        let limit = Duration::from_micros(cut * 300);
        let _ = tokio::time::timeout(limit, writer.run_batch(&lease, 50)).await;
    }
    let mut writer = open(&*engine, &lease, &job).await?;
    let before = writer.state().rows;
    let changed = finish(writer.as_mut(), &lease, 500).await?;
    ensure!(before + changed == 2_000, "{before} + {changed}");
    exactly_once(bench).await
}

pub(crate) async fn a_former_owner_can_write_no_more(bench: &dyn Bench) -> Result<()> {
    bench.add(1..=300).await?;
    let (engine, job, leader) = (bench.engine(), bench.job(Form::Everything), leader(1, "a"));
    split(&*engine, &leader, &job, 1).await?;
    let former = range_lease(&leader, 0, 1);
    let mut zombie = open(&*engine, &former, &job).await?;
    zombie.run_batch(&former, 50).await?;
    let lease = range_lease(&leader, 0, 2);
    let mut writer = open(&*bench.engine(), &lease, &job).await?;
    ensure!(writer.state().seen == 50);
    refused_writer(zombie.run_batch(&former, 50).await)?;
    finish(writer.as_mut(), &lease, 100).await?;
    refused_writer(zombie.run_batch(&former, 50).await)?;
    exactly_once(bench).await
}

pub(crate) async fn a_claim_with_the_same_token_ends_the_claim_before(bench: &dyn Bench) -> Result<()> {
    bench.add(1..=300).await?;
    let (engine, job, leader) = (bench.engine(), bench.job(Form::Worker), leader(1, "a"));
    split(&*engine, &leader, &job, 1).await?;
    let lease = range_lease(&leader, 0, 1);
    let mut first = open(&*engine, &lease, &job).await?;
    first.run_batch(&lease, 10).await?;
    let mut second = open(&*engine, &lease, &job).await?;
    refused_writer(first.run_batch(&lease, 10).await)?;
    finish(second.as_mut(), &lease, 100).await?;
    exactly_once(bench).await
}

fn refused_writer<T>(outcome: Result<T, EngineError>) -> Result<()> {
    match outcome {
        Err(EngineError::LeaseLost | EngineError::Connection(_)) => Ok(()),
        Err(error) => anyhow::bail!("refused with another reason: {error:?}"),
        Ok(_) => anyhow::bail!("a former owner wrote"),
    }
}

pub(crate) async fn a_smaller_token_is_refused(bench: &dyn Bench) -> Result<()> {
    bench.add(1..=10).await?;
    let (engine, job, leader) = (bench.engine(), bench.job(Form::Pending), leader(1, "a"));
    split(&*engine, &leader, &job, 1).await?;
    let newer = range_lease(&leader, 0, 2);
    let mut writer = open(&*engine, &newer, &job).await?;
    let older = open(&*engine, &range_lease(&leader, 0, 1), &job).await;
    ensure!(matches!(older, Err(EngineError::LeaseLost)), "the smaller token was taken");
    finish(writer.as_mut(), &newer, 5).await?;
    exactly_once(bench).await
}

pub(crate) async fn an_older_leader_is_refused(bench: &dyn Bench) -> Result<()> {
    bench.add(1..=10).await?;
    let (engine, job) = (bench.engine(), bench.job(Form::Pending));
    let (old, new) = (leader(1, "a"), leader(2, "b"));
    split(&*engine, &old, &job, 2).await?;
    open(&*engine, &range_lease(&new, 0, 1), &job).await?;
    // Range 1 was never claimed by the new leader: the shard's fence alone must refuse.
    let refused = failure(open(&*engine, &range_lease(&old, 1, 9), &job).await);
    ensure!(refused.code == ErrorCode::FenceStale, "{refused:?}");
    let refused = failure(engine.split(&lease(&old, Step::Split, 1), &job, 2).await);
    ensure!(refused.code == ErrorCode::FenceStale, "{refused:?}");
    Ok(())
}

pub(crate) async fn another_leader_of_the_same_epoch_is_refused(bench: &dyn Bench) -> Result<()> {
    bench.add(1..=10).await?;
    let (engine, job) = (bench.engine(), bench.job(Form::Pending));
    split(&*engine, &leader(3, "a"), &job, 1).await?;
    let refused = failure(open(&*engine, &range_lease(&leader(3, "b"), 0, 1), &job).await);
    ensure!(refused.code == ErrorCode::FenceForked, "{refused:?}");
    open(&*engine, &range_lease(&leader(4, "b"), 0, 1), &job).await?;
    Ok(())
}

pub(crate) async fn ranges_are_laid_out_once(bench: &dyn Bench) -> Result<()> {
    bench.add(1..=100).await?;
    let (engine, job, leader) = (bench.engine(), bench.job(Form::Pending), leader(1, "a"));
    let first = split(&*engine, &leader, &job, 5).await?;
    bench.add(101..=200).await?;
    ensure!(split(&*engine, &leader, &job, 9).await? == first);
    let changed = job_with_other_content(bench);
    let refused = failure(engine.split(&lease(&leader, Step::Split, 1), &changed, 5).await);
    ensure!(refused.code == ErrorCode::LedgerConflict, "{refused:?}");
    Ok(())
}

pub(crate) async fn two_workers_lay_out_the_same_ranges(bench: &dyn Bench) -> Result<()> {
    bench.add(1..=500).await?;
    let (one, two, job, leader) = (bench.engine(), bench.engine(), bench.job(Form::Pending), leader(1, "a"));
    let (left, right) = tokio::join!(split(&*one, &leader, &job, 3), split(&*two, &leader, &job, 7));
    ensure!(left? == right?);
    Ok(())
}

pub(crate) async fn an_empty_table_is_done_at_once(bench: &dyn Bench) -> Result<()> {
    let (engine, job, leader) = (bench.engine(), bench.job(Form::Pending), leader(1, "a"));
    let pass = split(&*engine, &leader, &job, 4).await?;
    walk(&*engine, &leader, &job, &pass, 10).await?;
    ensure!(split(&*engine, &leader, &job, 4).await?.done());
    ensure!(engine.sweep(&lease(&leader, Step::Sweep, 1), &job).await? == Sweep::Clean);
    let report = engine.verify(&lease(&leader, Step::Verify, 1), &Job::Data(data(&job))).await?;
    ensure!(report.passed(), "{report:?}");
    Ok(())
}

pub(crate) async fn a_row_that_cannot_be_changed_is_named(bench: &dyn Bench) -> Result<()> {
    bench.add(1..=100).await?;
    bench.spoil(77).await?;
    let (engine, job, leader) = (bench.engine(), bench.job(Form::Pending), leader(1, "a"));
    split(&*engine, &leader, &job, 1).await?;
    let lease = range_lease(&leader, 0, 1);
    let mut writer = open(&*engine, &lease, &job).await?;
    let failure = bisect(writer.as_mut(), &lease).await?;
    ensure!(failure.code == ErrorCode::RowRejected, "{failure:?}");
    ensure!(failure.place.key == Some(bench.shown(77)), "{failure:?}");
    let items = bench.items().await?;
    ensure!(
        items.iter().all(|item| item.applied == i64::from(item.id < 77)),
        "a part of a refused batch stayed"
    );
    Ok(())
}

pub(crate) async fn a_row_that_stays_pending_is_an_error(bench: &dyn Bench) -> Result<()> {
    bench.add(1..=20).await?;
    let (engine, job, leader) = (bench.engine(), bench.job(Form::Stuck), leader(1, "a"));
    split(&*engine, &leader, &job, 1).await?;
    let lease = range_lease(&leader, 0, 1);
    let mut writer = open(&*engine, &lease, &job).await?;
    let failure = bisect(writer.as_mut(), &lease).await?;
    ensure!(failure.code == ErrorCode::RowStillPending, "{failure:?}");
    ensure!(failure.place.key == Some(bench.shown(1)), "{failure:?}");
    ensure!(bench.items().await?.iter().all(|item| item.applied == 0), "a part of a refused batch stayed");
    Ok(())
}

pub(crate) async fn a_sweep_finds_what_came_behind_the_cursor(bench: &dyn Bench) -> Result<()> {
    bench.add(101..=300).await?;
    let (engine, job, leader) = (bench.engine(), bench.job(Form::Pending), leader(1, "a"));
    let mut pass = split(&*engine, &leader, &job, 2).await?;
    for late in [1..=20, 301..=320] {
        walk(&*engine, &leader, &job, &pass, 50).await?;
        bench.add(late).await?;
        let found = engine.sweep(&lease(&leader, Step::Sweep, 1), &job).await?;
        let Sweep::Found { pending: 20, pass: next } = found else {
            anyhow::bail!("the sweep found {found:?}")
        };
        ensure!(next.number == pass.number + 1 && next.before == split_totals(&next), "{next:?}");
        let (old, new) = (&pass.ranges, &next.ranges);
        ensure!(
            new.iter().all(|range| old.iter().all(|other| other.index < range.index)),
            "numbers were used again"
        );
        pass = next;
    }
    ensure!(walk(&*engine, &leader, &job, &pass, 50).await? == 20);
    ensure!(engine.sweep(&lease(&leader, Step::Sweep, 1), &job).await? == Sweep::Clean);
    exactly_once(bench).await
}

/// Nothing of a fresh pass was walked, so its totals are those of the passes before.
fn split_totals(pass: &shardlift_domain::range::Pass) -> shardlift_domain::range::RangeTotals {
    pass.totals()
}

pub(crate) async fn a_sweep_that_was_not_heard_is_repeated(bench: &dyn Bench) -> Result<()> {
    bench.add(1..=50).await?;
    let (engine, job, leader) = (bench.engine(), bench.job(Form::Pending), leader(1, "a"));
    let pass = split(&*engine, &leader, &job, 1).await?;
    walk(&*engine, &leader, &job, &pass, 50).await?;
    bench.revert(7).await?;
    let first = engine.sweep(&lease(&leader, Step::Sweep, 1), &job).await?;
    let again = engine.sweep(&lease(&leader, Step::Sweep, 2), &job).await?;
    ensure!(first == again, "{first:?} {again:?}");
    Ok(())
}

pub(crate) async fn verification_notices_what_is_left(bench: &dyn Bench) -> Result<()> {
    bench.add(1..=50).await?;
    let (engine, job, leader) = (bench.engine(), bench.job(Form::Pending), leader(1, "a"));
    let pass = split(&*engine, &leader, &job, 2).await?;
    let verify = async || {
        let job = Job::Data(data(&job));
        engine.verify(&lease(&leader, Step::Verify, 1), &job).await
    };
    ensure!(!verify().await?.passed(), "nothing was done yet");
    walk(&*engine, &leader, &job, &pass, 50).await?;
    ensure!(verify().await?.passed());
    bench.revert(50).await?;
    let report = verify().await?;
    ensure!(!report.passed() && report.checks.iter().any(|check| check.detail.contains('1')), "{report:?}");
    Ok(())
}

pub(crate) async fn another_identity_is_refused(bench: &dyn Bench) -> Result<()> {
    bench.engine().identify(CLUSTER_UUID).await?;
    let other = "6f1f3a52-0000-4000-8000-000000000002";
    let refused = failure(bench.engine().identify(other).await);
    ensure!(
        refused.code == ErrorCode::ShardWrongIdentity && refused.message.contains(CLUSTER_UUID),
        "{refused:?}"
    );
    let refused = failure(bench.engine_named("chat-77").identify(CLUSTER_UUID).await);
    ensure!(refused.code == ErrorCode::ShardWrongIdentity, "{refused:?}");
    ensure!(refused.message.contains("chat-77") && refused.message.contains(SHARD), "{refused:?}");
    Ok(())
}

pub(crate) async fn hello_tells_the_newest_leader(bench: &dyn Bench) -> Result<()> {
    let (engine, job) = (bench.engine(), bench.job(Form::Pending));
    let hello = engine.hello().await;
    ensure!(hello.fence.is_none() && hello.problem.is_none() && hello.server_version.is_some(), "{hello:?}");
    let newest = leader(7, "n");
    split(&*engine, &newest, &job, 1).await?;
    ensure!(engine.hello().await.fence.as_ref() == Some(newest.leader()));
    Ok(())
}

fn data(job: &Arc<DataJob>) -> DataJob {
    DataJob { spec: job.spec.clone(), data: job.data.clone(), transformer: job.transformer.clone() }
}

fn job_with_other_content(bench: &dyn Bench) -> DataJob {
    let mut changed = data(&bench.job(Form::Pending));
    changed.spec.checksum = shardlift_domain::ids::Checksum::of(b"other content");
    changed
}

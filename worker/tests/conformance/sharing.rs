//! What must hold for every engine when a running range is split. Each case is a sentence.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use shardlift_domain::failure::ErrorCode;
use shardlift_worker::engine::EngineError;

use super::bench::{Bench, Form, failure, leader, range_lease};
use super::cases::verified;
use super::drive::{exactly_once, finish, open, split, walk, walk_sharing};

pub(crate) async fn both_parts_of_a_split_range_are_walked_once(bench: &dyn Bench) -> Result<()> {
    bench.add(1..=1_000).await?;
    let (engine, job, leader) = (bench.engine(), bench.job(Form::Everything), leader(1, "a"));
    split(&*engine, &leader, &job, 1).await?;
    let mine = range_lease(&leader, 0, 1);
    let mut writer = open(&*engine, &mine, &job).await?;
    writer.run_batch(&mine, 50).await?;
    let rest = writer.share(&mine, 20).await?.expect("much is left");
    ensure!((rest.pass, rest.range.index, rest.range.done) == (1, 1, false), "{rest:?}");
    let pass = split(&*engine, &leader, &job, 1).await?;
    ensure!(pass.ranges.len() == 2 && pass.totals().rows == 50, "{pass:?}");

    let theirs = range_lease(&leader, 1, 2);
    let other = bench.engine();
    let mut helper = open(&*other, &theirs, &job).await?;
    let (kept, given) =
        tokio::join!(finish(writer.as_mut(), &mine, 70), finish(helper.as_mut(), &theirs, 30));
    let (kept, given) = (kept?, given?);
    ensure!(kept + given == 950 && kept >= 20 && given >= 20, "{kept} and {given}");
    exactly_once(bench).await?;
    ensure!(split(&*engine, &leader, &job, 1).await?.done());
    verified(&*engine, &leader, &job).await
}

pub(crate) async fn a_range_may_be_split_again_and_again(bench: &dyn Bench) -> Result<()> {
    bench.add(1..=400).await?;
    let (engine, job, leader) = (bench.engine(), bench.job(Form::Worker), leader(1, "a"));
    let pass = split(&*engine, &leader, &job, 2).await?;
    let (changed, splits) = walk_sharing(&*engine, &leader, &job, &pass, 7).await?;
    ensure!(changed == 400 && splits > 10, "{changed} rows, {splits} splits");
    let after = split(&*engine, &leader, &job, 2).await?;
    ensure!(after.done() && after.totals().seen == 400, "{after:?}");
    exactly_once(bench).await
}

pub(crate) async fn a_range_with_little_left_is_not_split(bench: &dyn Bench) -> Result<()> {
    bench.add(1..=100).await?;
    let (engine, job, leader) = (bench.engine(), bench.job(Form::Pending), leader(1, "a"));
    let before = split(&*engine, &leader, &job, 1).await?;
    let lease = range_lease(&leader, 0, 1);
    let mut writer = open(&*engine, &lease, &job).await?;
    ensure!(writer.share(&lease, 51).await?.is_none(), "a part would have been smaller than was asked for");
    writer.run_batch(&lease, 99).await?;
    ensure!(writer.share(&lease, 1).await?.is_none(), "one row cannot be divided");
    finish(writer.as_mut(), &lease, 10).await?;
    ensure!(writer.share(&lease, 1).await?.is_none(), "nothing is left");
    ensure!(split(&*engine, &leader, &job, 1).await?.ranges.len() == before.ranges.len());
    exactly_once(bench).await
}

pub(crate) async fn a_former_owner_cannot_split(bench: &dyn Bench) -> Result<()> {
    bench.add(1..=300).await?;
    let (engine, job, leader) = (bench.engine(), bench.job(Form::Everything), leader(1, "a"));
    split(&*engine, &leader, &job, 1).await?;
    let former = range_lease(&leader, 0, 1);
    let mut zombie = open(&*engine, &former, &job).await?;
    zombie.run_batch(&former, 50).await?;
    let lease = range_lease(&leader, 0, 2);
    let mut writer = open(&*bench.engine(), &lease, &job).await?;
    let refused = zombie.share(&former, 10).await;
    ensure!(
        matches!(refused, Err(EngineError::LeaseLost | EngineError::Connection(_))),
        "a former owner split: {refused:?}"
    );
    ensure!(split(&*engine, &leader, &job, 1).await?.ranges.len() == 1);
    finish(writer.as_mut(), &lease, 100).await?;
    exactly_once(bench).await
}

/// Else a leader that has just read the ranges would miss one.
pub(crate) async fn an_owner_of_an_older_leader_cannot_split(bench: &dyn Bench) -> Result<()> {
    bench.add(1..=300).await?;
    let (engine, job) = (bench.engine(), bench.job(Form::Everything));
    let (old, new) = (leader(1, "a"), leader(2, "b"));
    split(&*engine, &old, &job, 1).await?;
    let lease = range_lease(&old, 0, 1);
    let mut writer = open(&*engine, &lease, &job).await?;
    writer.run_batch(&lease, 50).await?;
    let read = split(&*engine, &new, &job, 1).await?;
    let refused = failure(writer.share(&lease, 10).await);
    ensure!(refused.code == ErrorCode::FenceStale, "{refused:?}");
    ensure!(split(&*engine, &new, &job, 1).await? == read);
    walk(&*engine, &new, &job, &read, 100).await?;
    exactly_once(bench).await
}

/// The worker stops listening at any moment of a split: the outcome is unknown to it.
pub(crate) async fn a_split_that_is_cut_off_is_settled_by_the_next_claim(bench: &dyn Bench) -> Result<()> {
    bench.add(1..=3_000).await?;
    let (engine, job, leader) = (bench.engine(), bench.job(Form::Everything), leader(1, "a"));
    split(&*engine, &leader, &job, 1).await?;
    let lease = range_lease(&leader, 0, 1);
    let mut heard = false;
    // How long a split takes depends on the machine: later and later, until the end of one was heard of.
    for cut in 0..200_u64 {
        if heard && cut >= 25 {
            break;
        }
        let mut writer = open(&*engine, &lease, &job).await?;
        let limit = Duration::from_micros(cut * cut * 150);
        match tokio::time::timeout(limit, writer.share(&lease, 5)).await {
            Ok(outcome) => heard |= matches!(outcome, Ok(Some(_))),
            Err(_) => {
                let unsure = writer.run_batch(&lease, 10).await;
                ensure!(unsure.is_err(), "a batch with bounds that may be old: {unsure:?}");
            }
        }
    }
    let pass = split(&*engine, &leader, &job, 1).await?;
    ensure!(pass.ranges.len() > 1, "nothing was split: {pass:?}");
    walk(&*engine, &leader, &job, &pass, 100).await?;
    exactly_once(bench).await
}

pub(crate) async fn two_owners_may_split_at_once(bench: &dyn Bench) -> Result<()> {
    bench.add(1..=2_000).await?;
    let (engine, other, job, leader) =
        (bench.engine(), bench.engine(), bench.job(Form::Pending), leader(1, "a"));
    split(&*engine, &leader, &job, 2).await?;
    let (one, two) = (range_lease(&leader, 0, 1), range_lease(&leader, 1, 1));
    let mut first = open(&*engine, &one, &job).await?;
    let mut second = open(&*other, &two, &job).await?;
    let mut split_off = 0;
    for _ in 0..5 {
        let (left, right) = tokio::join!(first.share(&one, 5), second.share(&two, 5));
        split_off += usize::from(left?.is_some()) + usize::from(right?.is_some());
    }
    let pass = split(&*engine, &leader, &job, 2).await?;
    let numbers: BTreeSet<u32> = pass.ranges.iter().map(|range| range.index).collect();
    ensure!(split_off > 1 && numbers.len() == 2 + split_off, "{split_off} splits: {pass:?}");
    walk(&*engine, &leader, &job, &pass, 100).await?;
    exactly_once(bench).await
}

pub(crate) async fn a_checkpoint_of_a_newer_form_is_left_alone(bench: &dyn Bench) -> Result<()> {
    bench.add(1..=50).await?;
    let (engine, job, leader) = (bench.engine(), bench.job(Form::Pending), leader(1, "a"));
    split(&*engine, &leader, &job, 1).await?;
    bench.checkpoint_form(2).await?;
    let refused = failure(open(&*engine, &range_lease(&leader, 0, 1), &job).await);
    ensure!(refused.code == ErrorCode::WorkerOutdated && refused.retryable(), "{refused:?}");
    ensure!(bench.items().await?.iter().all(|item| item.applied == 0));
    bench.checkpoint_form(1).await?;
    // Nothing was claimed: the same right is as good as new.
    let lease = range_lease(&leader, 0, 1);
    let mut writer = open(&*engine, &lease, &job).await?;
    finish(writer.as_mut(), &lease, 20).await?;
    exactly_once(bench).await
}

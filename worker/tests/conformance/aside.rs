//! Rows that are set aside: once, with what they were, and left alone until somebody decides.

use std::sync::Arc;

use anyhow::{Result, bail, ensure};
use shardlift_domain::failure::ErrorCode;
use shardlift_domain::fence::Fence;
use shardlift_domain::migration::Step;
use shardlift_domain::quarantine::{
    Held, QuarantineAnswer, QuarantineAsk, QuarantineRequest, QuarantinedRow,
};
use shardlift_domain::range::Pass;
use shardlift_domain::verdict::{Sweep, VerifyReport};
use shardlift_worker::engine::{DataJob, EngineError, Job, RangeWriter, ShardEngine};
use shardlift_worker::lease::{Pulse, TaskLease};

use super::bench::{Bench, Form, failure, leader, lease, migration, range_lease};
use super::drive::{bisect, exactly_once, open, split};

/// What the job's spec says.
const BUDGET: u32 = 3;

/// Walks a pass as the executor does; answers how many rows were changed.
async fn walk(engine: &dyn ShardEngine, leader: &Arc<Pulse>, job: &Arc<DataJob>, pass: &Pass) -> Result<u64> {
    let mut changed = 0;
    for range in pass.ranges.iter().filter(|range| !range.done) {
        let lease = range_lease(leader, range.index, 1);
        let mut writer = open(engine, &lease, job).await?;
        changed += to_the_end(writer.as_mut(), &lease).await?;
    }
    Ok(changed)
}

async fn to_the_end(writer: &mut dyn RangeWriter, lease: &TaskLease) -> Result<u64> {
    let (mut changed, mut rows) = (0, 16);
    while !writer.state().done {
        match writer.run_batch(lease, rows).await {
            Ok(report) => changed += u64::from(report.changed),
            Err(EngineError::Row(_)) if rows > 1 => rows /= 2,
            Err(EngineError::Row(why)) => {
                let aside = writer.set_aside(lease, &why, BUDGET).await?;
                let Some(aside) = aside else { bail!("the row is not pending any more") };
                ensure!(aside.report.range == *writer.state() && aside.report.changed == 0, "{aside:?}");
                rows = 16;
            }
            Err(EngineError::Contended(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(changed)
}

async fn ask(engine: &dyn ShardEngine, leader: &Arc<Pulse>, ask: QuarantineAsk) -> Result<QuarantineAnswer> {
    let request = QuarantineRequest { migration: migration(), ask };
    Ok(engine.quarantine(leader.leader(), &request).await?)
}

async fn list(engine: &dyn ShardEngine, leader: &Arc<Pulse>) -> Result<Vec<QuarantinedRow>> {
    let (mut rows, mut after) = (Vec::new(), None);
    loop {
        // Pages of one row: every border between two is met.
        let page = ask(engine, leader, QuarantineAsk::List { after, limit: 1 }).await?;
        let QuarantineAnswer::Page { rows: more, next } = page else { bail!("no page: {page:?}") };
        rows.extend(more);
        after = next;
        if after.is_none() {
            return Ok(rows);
        }
    }
}

async fn verify(engine: &dyn ShardEngine, leader: &Arc<Pulse>, job: &Arc<DataJob>) -> Result<VerifyReport> {
    let data =
        DataJob { spec: job.spec.clone(), data: job.data.clone(), transformer: job.transformer.clone() };
    Ok(engine.verify(&lease(leader, Step::Verify, 1), &Job::Data(data)).await?)
}

async fn sweep(engine: &dyn ShardEngine, leader: &Arc<Pulse>, job: &DataJob) -> Result<Sweep> {
    Ok(engine.sweep(&lease(leader, Step::Sweep, 1), job).await?)
}

/// A walk over 100 items of which these are spoilt.
async fn walked(bench: &dyn Bench, bad: &[i64]) -> Result<(Arc<dyn ShardEngine>, Arc<Pulse>, Arc<DataJob>)> {
    bench.add(1..=100).await?;
    for id in bad {
        bench.spoil(*id).await?;
    }
    let (engine, job, leader) = (bench.engine(), bench.job(Form::Aside), leader(1, "a"));
    let pass = split(&*engine, &leader, &job, 2).await?;
    ensure!(walk(&*engine, &leader, &job, &pass).await? == 100 - bad.len() as u64);
    Ok((engine, leader, job))
}

pub(crate) async fn rows_that_cannot_be_changed_are_set_aside_and_the_rest_is_changed_once(
    bench: &dyn Bench,
) -> Result<()> {
    let (engine, leader, job) = walked(bench, &[1, 30, 100]).await?;
    let mut rows = list(&*engine, &leader).await?;
    rows.sort_by_key(|row| row.key.len());
    let keys: Vec<&str> = rows.iter().map(|row| row.key.as_str()).collect();
    ensure!(keys == [bench.shown(1), bench.shown(30), bench.shown(100)], "{rows:?}");
    ensure!(
        rows.iter().all(|row| row.class == "row.rejected" && row.attempts == 1 && !row.discarded),
        "{rows:?}"
    );
    for item in bench.items().await? {
        let aside = [1, 30, 100].contains(&item.id);
        ensure!(item.migrated != aside && item.applied == i64::from(!aside), "{item:?}");
    }
    ensure!(sweep(&*engine, &leader, &job).await? == Sweep::Clean);
    let report = verify(&*engine, &leader, &job).await?;
    ensure!(report.passed() && report.held == Some(Held { rows: 3, discarded: 0 }), "{report:?}");
    let image = ask(&*engine, &leader, QuarantineAsk::Show { key: bench.shown(30), offset: 0 }).await?;
    let QuarantineAnswer::Image { bytes, total } = image else { bail!("{image:?}") };
    let text = String::from_utf8(bytes)?;
    ensure!(text.len() as u64 == total && text.contains("30") && text.contains("spoilt"), "{text}");
    Ok(())
}

pub(crate) async fn a_row_that_is_tried_again_is_changed_once_it_can_be(bench: &dyn Bench) -> Result<()> {
    let (engine, leader, job) = walked(bench, &[30, 77]).await?;
    bench.mend(30).await?;
    let retry = QuarantineAsk::Retry(Vec::new());
    let decided = ask(&*engine, &leader, retry.clone()).await?;
    ensure!(decided == QuarantineAnswer::Decided { rows: 2, held: Held::default() }, "{decided:?}");
    let found = sweep(&*engine, &leader, &job).await?;
    let Sweep::Found { pending: 2, pass } = found else { bail!("the search found {found:?}") };
    ensure!(walk(&*engine, &leader, &job, &pass).await? == 1, "only the mended one can be changed");
    let rows = list(&*engine, &leader).await?;
    ensure!(rows.len() == 1 && rows[0].key == bench.shown(77) && rows[0].attempts == 2, "{rows:?}");
    bench.mend(77).await?;
    ask(&*engine, &leader, QuarantineAsk::Retry(vec![bench.shown(77)])).await?;
    let Sweep::Found { pending: 1, pass } = sweep(&*engine, &leader, &job).await? else {
        bail!("nothing was found")
    };
    ensure!(walk(&*engine, &leader, &job, &pass).await? == 1);
    ensure!(sweep(&*engine, &leader, &job).await? == Sweep::Clean);
    let report = verify(&*engine, &leader, &job).await?;
    ensure!(report.passed() && report.held == Some(Held::default()), "{report:?}");
    exactly_once(bench).await
}

pub(crate) async fn a_row_more_than_the_budget_is_refused_until_one_is_given_up(
    bench: &dyn Bench,
) -> Result<()> {
    bench.add(1..=100).await?;
    for id in [10, 20, 30, 40] {
        bench.spoil(id).await?;
    }
    let (engine, job, leader) = (bench.engine(), bench.job(Form::Aside), leader(1, "a"));
    let pass = split(&*engine, &leader, &job, 1).await?;
    let refused = walk(&*engine, &leader, &job, &pass).await.expect_err("a fourth row");
    let refused = refused.downcast::<EngineError>()?.into_failure();
    ensure!(refused.code == ErrorCode::QuarantineOverBudget, "{refused:?}");
    ensure!(list(&*engine, &leader).await?.len() == 3);
    let decided = ask(&*engine, &leader, QuarantineAsk::Discard(vec![bench.shown(20)])).await?;
    ensure!(
        decided == QuarantineAnswer::Decided { rows: 1, held: Held { rows: 2, discarded: 1 } },
        "{decided:?}"
    );
    walk(&*engine, &leader, &job, &pass).await?;
    ensure!(sweep(&*engine, &leader, &job).await? == Sweep::Clean);
    let report = verify(&*engine, &leader, &job).await?;
    ensure!(report.passed() && report.held == Some(Held { rows: 3, discarded: 1 }), "{report:?}");
    Ok(())
}

pub(crate) async fn a_row_in_quarantine_is_left_alone_whatever_becomes_of_it(
    bench: &dyn Bench,
) -> Result<()> {
    let (engine, leader, job) = walked(bench, &[30, 77]).await?;
    bench.mend(30).await?;
    bench.remove(77).await?;
    bench.add(200..=201).await?;
    let Sweep::Found { pending: 2, pass } = sweep(&*engine, &leader, &job).await? else {
        bail!("the new rows were not found")
    };
    ensure!(walk(&*engine, &leader, &job, &pass).await? == 2);
    ensure!(verify(&*engine, &leader, &job).await?.passed());
    ensure!(list(&*engine, &leader).await?.len() == 2, "a row left the quarantine by itself");
    let items = bench.items().await?;
    ensure!(items.iter().any(|item| item.id == 30 && item.applied == 0), "it was changed");
    ask(&*engine, &leader, QuarantineAsk::Retry(Vec::new())).await?;
    let Sweep::Found { pending: 1, pass } = sweep(&*engine, &leader, &job).await? else {
        bail!("the mended row was not found")
    };
    ensure!(walk(&*engine, &leader, &job, &pass).await? == 1);
    exactly_once(bench).await
}

pub(crate) async fn a_row_that_was_changed_meanwhile_is_not_set_aside(bench: &dyn Bench) -> Result<()> {
    bench.add(1..=20).await?;
    bench.spoil(5).await?;
    let (engine, job, leader) = (bench.engine(), bench.job(Form::Aside), leader(1, "a"));
    split(&*engine, &leader, &job, 1).await?;
    let lease = range_lease(&leader, 0, 1);
    let mut writer = open(&*engine, &lease, &job).await?;
    let why = bisect(writer.as_mut(), &lease).await?;
    bench.remove(5).await?;
    ensure!(writer.set_aside(&lease, &why, BUDGET).await?.is_none());
    to_the_end(writer.as_mut(), &lease).await?;
    ensure!(list(&*engine, &leader).await?.is_empty());
    exactly_once(bench).await
}

pub(crate) async fn a_former_owner_sets_nothing_aside(bench: &dyn Bench) -> Result<()> {
    bench.add(1..=20).await?;
    bench.spoil(5).await?;
    let (engine, job, leader) = (bench.engine(), bench.job(Form::Aside), leader(1, "a"));
    split(&*engine, &leader, &job, 1).await?;
    let former = range_lease(&leader, 0, 1);
    let mut zombie = open(&*engine, &former, &job).await?;
    let why = bisect(zombie.as_mut(), &former).await?;
    let lease = range_lease(&leader, 0, 2);
    let mut writer = open(&*bench.engine(), &lease, &job).await?;
    let refused = zombie.set_aside(&former, &why, BUDGET).await;
    ensure!(matches!(refused, Err(EngineError::LeaseLost | EngineError::Connection(_))), "{refused:?}");
    ensure!(list(&*engine, &leader).await?.is_empty());
    to_the_end(writer.as_mut(), &lease).await?;
    ensure!(list(&*engine, &leader).await?.len() == 1);
    Ok(())
}

pub(crate) async fn an_older_leader_decides_nothing(bench: &dyn Bench) -> Result<()> {
    let (engine, old, job) = walked(bench, &[30]).await?;
    split(&*engine, &leader(2, "b"), &job, 1).await?;
    let request = QuarantineRequest { migration: migration(), ask: QuarantineAsk::Retry(Vec::new()) };
    let older: &Fence = old.leader();
    let refused = failure(engine.quarantine(older, &request).await);
    ensure!(refused.code == ErrorCode::FenceStale, "{refused:?}");
    ensure!(list(&*engine, &old).await?.len() == 1, "looking is free");
    let unknown = QuarantineAsk::Discard(vec![bench.shown(31)]);
    let request = QuarantineRequest { migration: migration(), ask: unknown };
    let refused = failure(engine.quarantine(leader(2, "b").leader(), &request).await);
    ensure!(refused.code == ErrorCode::RequestNotFound, "{refused:?}");
    Ok(())
}

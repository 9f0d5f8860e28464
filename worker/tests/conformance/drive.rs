//! Walks ranges the way an executor does, only simpler.

use std::sync::Arc;

use anyhow::{Result, bail, ensure};
use shardlift_domain::migration::Step;
use shardlift_domain::range::Pass;
use shardlift_worker::engine::{DataJob, EngineError, RangeWriter, ShardEngine};
use shardlift_worker::lease::{Pulse, TaskLease};

use super::bench::{Bench, Item, lease, range_lease};

/// Lays out ranges.
pub(crate) async fn split(
    engine: &dyn ShardEngine,
    leader: &Arc<Pulse>,
    job: &DataJob,
    ranges: u32,
) -> Result<Pass> {
    Ok(engine.split(&lease(leader, Step::Split, 1), job, ranges).await?)
}

/// Claims a range.
pub(crate) async fn open(
    engine: &dyn ShardEngine,
    lease: &TaskLease,
    job: &Arc<DataJob>,
) -> Result<Box<dyn RangeWriter>, EngineError> {
    engine.open_range(lease, Arc::clone(job)).await
}

/// Runs batches until the range is done. Answers how many rows were changed.
pub(crate) async fn finish(writer: &mut dyn RangeWriter, lease: &TaskLease, rows: u32) -> Result<u64> {
    let mut changed = 0;
    let mut contended = 0;
    while !writer.state().done {
        match writer.run_batch(lease, rows).await {
            Ok(report) => {
                ensure!(report.range == *writer.state(), "the report and the state differ");
                changed += u64::from(report.changed);
            }
            Err(EngineError::Contended(_) | EngineError::TooSlow(_)) if contended < 20 => contended += 1,
            Err(error) => bail!("a batch failed: {error:?}"),
        }
    }
    Ok(changed)
}

/// Walks a pass and splits off what can be before each batch; answers how many rows were changed, and how often a range
/// was split.
pub(crate) async fn walk_sharing(
    engine: &dyn ShardEngine,
    leader: &Arc<Pulse>,
    job: &Arc<DataJob>,
    pass: &Pass,
    rows: u32,
) -> Result<(u64, u32)> {
    let mut open_ranges: Vec<u32> = pass.ranges.iter().map(|range| range.index).collect();
    let (mut changed, mut splits) = (0, 0);
    while let Some(index) = open_ranges.pop() {
        let lease = range_lease(leader, index, 1);
        let mut writer = open(engine, &lease, job).await?;
        while !writer.state().done {
            if let Some(rest) = writer.share(&lease, 1).await? {
                open_ranges.push(rest.range.index);
                splits += 1;
            }
            changed += u64::from(writer.run_batch(&lease, rows).await?.changed);
        }
    }
    Ok((changed, splits))
}

/// Walks all ranges of a pass that are not done, one after the other.
pub(crate) async fn walk(
    engine: &dyn ShardEngine,
    leader: &Arc<Pulse>,
    job: &Arc<DataJob>,
    pass: &Pass,
    rows: u32,
) -> Result<u64> {
    let mut changed = 0;
    for range in pass.ranges.iter().filter(|range| !range.done) {
        let lease = range_lease(leader, range.index, 1);
        let mut writer = open(engine, &lease, job).await?;
        changed += finish(writer.as_mut(), &lease, rows).await?;
    }
    Ok(changed)
}

/// Narrows the window until the error names a row, as the executor does.
pub(crate) async fn bisect(
    writer: &mut dyn RangeWriter,
    lease: &TaskLease,
) -> Result<shardlift_domain::Failure> {
    let mut rows = 64;
    for _ in 0..1_000 {
        match writer.run_batch(lease, rows).await {
            Ok(_) => {}
            Err(EngineError::Row(failure)) if rows == 1 || failure.place.key.is_some() => return Ok(failure),
            Err(EngineError::Row(_)) => rows = (rows / 2).max(1),
            Err(error) => bail!("a batch failed: {error:?}"),
        }
    }
    bail!("no row was refused")
}

/// Every item was changed once and only once.
pub(crate) async fn exactly_once(bench: &dyn Bench) -> Result<()> {
    let wrong: Vec<Item> =
        bench.items().await?.into_iter().filter(|item| !item.migrated || item.applied != 1).collect();
    ensure!(
        wrong.is_empty(),
        "{} items were not changed exactly once: {:?}",
        wrong.len(),
        &wrong[..wrong.len().min(5)]
    );
    Ok(())
}

//! One task from lease to report. Knows steps, batches, pace and retries; knows no database.

mod backup;
pub mod brake;
mod collect;
pub mod pacer;
mod patience;
mod range;
mod speed;
mod teller;
#[cfg(test)]
mod tests;
pub mod throttle;
mod undo;

use std::sync::Arc;
use std::time::Duration;

use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::migration::{Pace, Step};
use shardlift_domain::progress::Receipt;
use shardlift_domain::quarantine::Held;
use shardlift_domain::range::Rest;
use shardlift_domain::spec::{self, Ranges, Spec, SpecBody, SpecFile};
use shardlift_domain::verdict::{Saved, TaskOutcome, Undone};
use tokio::sync::mpsc;

use crate::backup::Shelf;
use crate::engine::{DataJob, EngineError, EngineResult, Job, SchemaJob, ShardEngine};
use crate::lease::TaskLease;
use crate::transformer::factory;

/// A task as it was handed out.
#[derive(Debug, Clone)]
pub struct Assignment {
    /// The right to run it; names the task.
    pub lease: TaskLease,
    /// The spec file, as it was submitted.
    pub file: SpecFile,
    /// Slots of all workers that serve the shard: how many ranges could run at once.
    pub shard_slots: u32,
    /// How fast a range may go.
    pub pace: Pace,
    /// An undo may drop values that the application has written since.
    pub drop_data: bool,
}

/// How a task ended.
#[derive(Debug)]
pub enum Ending {
    /// It is done.
    Finished(TaskOutcome),
    /// It failed.
    Broke(Failure),
    /// Its lease ended; somebody else goes on.
    Released,
}

/// What is told of a range while it runs.
#[derive(Debug, Clone, PartialEq)]
pub enum News {
    /// How far it is.
    Moved(Receipt),
    /// It was asked to share: what it split off, if anything.
    Shared(Option<Rest>),
    /// It set a row aside: how many the shard holds now.
    Quarantined(Held),
    /// How much of a backup is written.
    Saved(Saved),
}

/// Where news of running ranges go.
pub type Receipts = mpsc::Sender<(TaskLease, News)>;

/// Runs a task to its end.
pub async fn run(assignment: Assignment, engine: Arc<dyn ShardEngine>, receipts: Receipts) -> Ending {
    let lease = assignment.lease.clone();
    let result = match job(&assignment.file) {
        Ok(job) => step(&assignment, job, engine.as_ref(), receipts).await,
        Err(failure) => Err(EngineError::Failed(failure)),
    };
    ending(&lease, result)
}

/// Saves what a task's migration is about to change, to its end.
pub async fn save(
    assignment: Assignment,
    engine: Arc<dyn ShardEngine>,
    shelf: EngineResult<Shelf>,
    receipts: Receipts,
) -> Ending {
    let lease = assignment.lease;
    let result = match (job(&assignment.file), shelf) {
        (Ok(Job::Data(job)), Ok(shelf)) => {
            let saving = backup::run(&lease, engine.as_ref(), &shelf, &job, receipts);
            unless_withdrawn(&lease, saving).await.map(TaskOutcome::Saved)
        }
        (Ok(Job::Schema(_)), _) => Err(other_kind(lease.task().step)),
        (Err(failure), _) => Err(EngineError::Failed(failure)),
        (_, Err(error)) => Err(error),
    };
    ending(&lease, result)
}

fn ending(lease: &TaskLease, result: EngineResult<TaskOutcome>) -> Ending {
    match result {
        Ok(outcome) => Ending::Finished(outcome),
        Err(EngineError::LeaseLost) if lease.check().is_err() => Ending::Released,
        Err(error) => {
            let task = lease.task();
            let failure =
                error.into_failure().in_migration(&task.migration).on_shard(&task.shard).in_step(task.step);
            Ending::Broke(failure)
        }
    }
}

/// The job of a spec: parsed by the same parser that admitted it, its transformer built.
pub fn job(file: &SpecFile) -> Result<Job, Failure> {
    let spec: Spec = spec::parse(file).map_err(|problems| {
        problems.failures().into_iter().next().unwrap_or_else(|| {
            Failure::new(ErrorCode::SpecInvalid, "the spec cannot be read", "submit it again")
        })
    })?;
    Ok(match spec.body.clone() {
        SpecBody::Schema(schema) => Job::Schema(SchemaJob { spec, schema }),
        SpecBody::Data(data) => {
            let transformer = factory::build(&data.transform)?;
            Job::Data(DataJob { spec, data: *data, transformer })
        }
    })
}

async fn step(
    assignment: &Assignment,
    job: Job,
    engine: &dyn ShardEngine,
    receipts: Receipts,
) -> EngineResult<TaskOutcome> {
    let lease = &assignment.lease;
    match (lease.task().step, job) {
        (Step::Precheck, job) => {
            unless_withdrawn(lease, engine.precheck(lease, &job)).await?;
            Ok(TaskOutcome::Prechecked)
        }
        (Step::Apply, Job::Schema(job)) => {
            Ok(TaskOutcome::Applied { already: engine.apply(lease, &job).await? })
        }
        (Step::Prepare, Job::Schema(job)) => {
            unless_withdrawn(lease, engine.prepare(lease, &job)).await?;
            Ok(TaskOutcome::Prepared)
        }
        (Step::Commit, Job::Schema(job)) => engine.commit(lease, &job).await.map(|()| TaskOutcome::Committed),
        (Step::Abort, Job::Schema(job)) => engine.abort(lease, &job).await.map(|()| TaskOutcome::Aborted),
        (Step::Split, Job::Data(job)) => {
            let ranges = wanted_ranges(&job, assignment.shard_slots);
            Ok(TaskOutcome::Split(engine.split(lease, &job, ranges).await?))
        }
        (Step::Backfill, Job::Data(job)) => {
            let state = range::run(assignment, engine, Arc::new(job), receipts).await?;
            Ok(TaskOutcome::RangeDone(state))
        }
        (Step::Sweep, Job::Data(job)) => {
            fail::fail_point!("worker-before-sweep");
            Ok(TaskOutcome::Swept(unless_withdrawn(lease, engine.sweep(lease, &job)).await?))
        }
        (Step::Verify, job) => {
            Ok(TaskOutcome::Verified(unless_withdrawn(lease, engine.verify(lease, &job)).await?))
        }
        (Step::Collect, Job::Data(job)) => {
            collect::run(lease, engine, Arc::new(job), receipts).await?;
            Ok(TaskOutcome::Collected)
        }
        (Step::Undo, Job::Schema(job)) => {
            engine.undo_schema(lease, &job, assignment.drop_data).await?;
            Ok(TaskOutcome::Undone(Undone::default()))
        }
        (Step::Undo, Job::Data(job)) => {
            Ok(TaskOutcome::Undone(undo::run(lease, engine, Arc::new(job), receipts).await?))
        }
        (step, _) => Err(other_kind(step)),
    }
}

fn other_kind(step: Step) -> EngineError {
    EngineError::Failed(Failure::new(
        ErrorCode::Internal,
        format!("a step {step} was handed out for a spec of the other kind"),
        "report this as a defect, with the worker's log",
    ))
}

/// Ranges to aim for: as the spec says, or a few for each slot, so that slow ones do not hold up the end.
fn wanted_ranges(job: &DataJob, shard_slots: u32) -> u32 {
    match job.data.parallel.ranges {
        Ranges::Count(count) => count,
        Ranges::Auto => (job.data.parallel.workers.min(shard_slots.max(1)) * 4).clamp(1, 64),
    }
}

/// Stops waiting for a step that only reads, or is laid out in one transaction, when its lease is withdrawn.
async fn unless_withdrawn<T>(
    lease: &TaskLease,
    work: impl Future<Output = EngineResult<T>>,
) -> EngineResult<T> {
    tokio::select! {
        done = work => done,
        () = lease.withdrawn() => Err(EngineError::LeaseLost),
    }
}

/// How often a range tells how far it is.
const RECEIPT_EVERY: Duration = Duration::from_millis(250);

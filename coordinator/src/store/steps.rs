//! Words for readers of the tables, derived from the state: how a step and how a shard stands. Nothing reads them back.

use shardlift_domain::Failure;
use shardlift_domain::migration::{Migration, ShardMigration, Status, Step};

/// How one shard stands: `pending`, `running`, `failed` or `completed`.
pub(in crate::store) fn shard_status(migration: &Migration, part: &ShardMigration) -> &'static str {
    match part.todo {
        None => Status::Completed.as_str(),
        Some(_) if part.failure.is_some() => Status::Failed.as_str(),
        Some(step) if Some(&step) == migration.steps().first() => Status::Pending.as_str(),
        Some(_) => Status::Running.as_str(),
    }
}

/// How all shards together stand with one step.
pub(in crate::store) struct StepStatus<'a> {
    pub(in crate::store) step: Step,
    pub(in crate::store) status: &'static str,
    /// What failed of it.
    pub(in crate::store) failure: Option<&'a Failure>,
}

/// How all shards together stand with each step: `pending` before anybody may begin it, `completed` when everybody is
/// past it, `failed` when it failed somewhere, else the status of the migration. The shards are looked at once.
pub(in crate::store) fn statuses(migration: &Migration) -> Vec<StepStatus<'_>> {
    let steps = migration.steps();
    let mut at = vec![0_usize; steps.len()];
    let mut failures = vec![None; steps.len()];
    let mut ended = 0_usize;
    for part in migration.shards.values() {
        let Some(here) = part.todo.and_then(|todo| steps.iter().position(|step| *step == todo)) else {
            ended += 1;
            continue;
        };
        at[here] += 1;
        failures[here] = failures[here].or(part.failure.as_ref());
    }
    let mut left = 0;
    let mut statuses = Vec::with_capacity(steps.len());
    for (here, step) in steps.iter().copied().enumerate() {
        left += at[here];
        let past = migration.shards.len() - left;
        let begun = past > 0 || (migration.phase >= step.phase() && at[here] > 0);
        let status = match (left, begun) {
            _ if failures[here].is_some() => Status::Failed,
            (0, _) => Status::Completed,
            (_, true) => migration.status,
            (_, false) => Status::Pending,
        };
        statuses.push(StepStatus { step, status: status.as_str(), failure: failures[here] });
    }
    debug_assert!(left + ended == migration.shards.len(), "each shard is somewhere");
    statuses
}

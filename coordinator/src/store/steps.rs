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

/// How all shards together stand with one step, and what failed of it: `pending` before anybody may begin it,
/// `completed` when everybody is past it, `failed` when it failed somewhere, else the status of the migration.
pub(in crate::store) fn step_status(migration: &Migration, step: Step) -> (&'static str, Option<&Failure>) {
    let steps = migration.steps();
    let number = |step| steps.iter().position(|other| *other == step);
    let here = number(step);
    let (mut past, mut left) = (false, false);
    for part in migration.shards.values() {
        match part.todo {
            Some(todo) if number(todo) <= here => {
                left = true;
                if let (true, Some(failure)) = (todo == step, &part.failure) {
                    return (Status::Failed.as_str(), Some(failure));
                }
            }
            _ => past = true,
        }
    }
    let begun = past || (migration.phase >= step.phase() && at(migration, step));
    let status = match (left, begun) {
        (false, _) => Status::Completed,
        (true, true) => migration.status,
        (true, false) => Status::Pending,
    };
    (status.as_str(), None)
}

fn at(migration: &Migration, step: Step) -> bool {
    migration.shards.values().any(|part| part.todo == Some(step))
}

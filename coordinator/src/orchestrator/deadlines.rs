//! Shards that wait for the locks of a schema change for longer than its spec allows: what other shards have already is
//! then taken back.

use std::collections::BTreeMap;
use std::time::Duration;

use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::ids::{MigrationKey, ShardId, TaskId};
use shardlift_domain::migration::Step;
use shardlift_domain::spec::SpecBody;
use shardlift_domain::task::Millis;

use super::leader::Leader;

/// Since when each shard has not got its locks. Volatile: another leader counts anew, so that it is never shorter than
/// asked for.
#[derive(Default)]
pub(super) struct Deadlines(BTreeMap<(MigrationKey, ShardId), Millis>);

impl Deadlines {
    /// The shard has got them, or does not need them any more.
    pub(super) fn met(&mut self, task: &TaskId) {
        if task.step == Step::Apply {
            self.0.remove(&(task.migration.clone(), task.shard.clone()));
        }
    }
}

impl Leader {
    /// What a task that broke means: if its shard has waited for its locks for too long, that.
    pub(super) fn overdue(&mut self, task: &TaskId, failure: Failure, now: Millis) -> Failure {
        if task.step != Step::Apply || failure.code != ErrorCode::SchemaLocked {
            return failure;
        }
        let Some(deadline) = self.lock_deadline(&task.migration) else { return failure };
        let place = (task.migration.clone(), task.shard.clone());
        let since = *self.deadlines.0.entry(place.clone()).or_insert(now);
        if Duration::from_millis(now.saturating_sub(since)) < deadline {
            return failure;
        }
        self.deadlines.0.remove(&place);
        Failure::new(
            ErrorCode::SchemaLockDeadline,
            format!(
                "the locks were not to be had within lock_deadline ({} s): {}",
                deadline.as_secs(),
                failure.message
            ),
            "what was changed is taken back; when the sessions named here have ended, apply it as its next version",
        )
    }

    fn lock_deadline(&self, migration: &MigrationKey) -> Option<Duration> {
        match &self.book.page(migration)?.spec.body {
            SpecBody::Schema(schema) => schema.lock_deadline,
            SpecBody::Data(_) => None,
        }
    }
}

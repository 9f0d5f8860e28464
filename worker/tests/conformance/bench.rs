//! What an engine brings to the suite: an empty shard with one table or collection of items.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use async_trait::async_trait;
use shardlift_domain::failure::Failure;
use shardlift_domain::fence::{Attempt, Epoch, Fence, Nonce, Token};
use shardlift_domain::ids::{MigrationId, MigrationKey, ShardId, TaskId, Version};
use shardlift_domain::migration::Step;
use shardlift_worker::engine::{DataJob, ShardEngine};
use shardlift_worker::lease::{Pulse, TaskLease};

/// The name of the shard on every bench.
pub(crate) const SHARD: &str = "chat-01";
/// The installation that every bench's shard belongs to.
pub(crate) const CLUSTER_UUID: &str = "6f1f3a52-0000-4000-8000-000000000001";

/// The item that [`Bench::faulty`] gets wrong.
pub(crate) const WRONG: i64 = 42;

/// One row or document: `id` is its key, `migrated` says whether it was done, `applied` counts how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) id: i64,
    pub(crate) migrated: bool,
    pub(crate) applied: i64,
}

/// Forms of one and the same migration: `migrated` becomes true, `applied` grows by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// In the shard; `where` says that `migrated` is false.
    Pending,
    /// In the shard; without `where`.
    Everything,
    /// In the worker; `where` as above.
    Worker,
    /// In the shard; `where` as above, but `migrated` stays false.
    Stuck,
    /// As `Pending`; rows that cannot be changed are set aside, three at most.
    Aside,
}

/// One shard of one engine, empty at first, already identified.
#[async_trait]
pub(crate) trait Bench: Send + Sync {
    /// A worker's view of the shard; every call gives another worker.
    fn engine(&self) -> Arc<dyn ShardEngine>;

    /// The same shard, looked at by a worker that was told another name for it.
    fn engine_named(&self, shard: &str) -> Arc<dyn ShardEngine>;

    /// The migration in one of its forms. The same form always has the same checksum.
    fn job(&self, form: Form) -> Arc<DataJob>;

    /// The same written wrongly: to the item [`WRONG`] it adds two. Of `Pending` and `Worker`.
    fn faulty(&self, form: Form) -> Arc<DataJob>;

    /// Adds items that are not migrated.
    async fn add(&self, ids: RangeInclusive<i64>) -> Result<()>;

    /// Makes one item such that the shard refuses every change of it.
    async fn spoil(&self, id: i64) -> Result<()>;

    /// Makes a spoilt item such that it can be changed.
    async fn mend(&self, id: i64) -> Result<()>;

    /// Removes one item.
    async fn remove(&self, id: i64) -> Result<()>;

    /// Takes one item's migration back, behind everybody's back.
    async fn revert(&self, id: i64) -> Result<()>;

    /// Gives one item another count, as the application would.
    async fn set_applied(&self, id: i64, applied: i64) -> Result<()>;

    /// Marks the checkpoints as written in this form.
    async fn checkpoint_form(&self, form: i64) -> Result<()>;

    /// All items by id.
    async fn items(&self) -> Result<Vec<Item>>;

    /// A schema or database that nobody else restores to.
    fn beside(&self) -> String;

    /// What was restored there, by id.
    async fn restored(&self) -> Result<Vec<Item>>;

    /// What a try of a restore has left.
    async fn scratch(&self) -> Result<Vec<String>>;

    /// What stands in an error's place for the item with this id.
    fn shown(&self, id: i64) -> String {
        id.to_string()
    }
}

/// A leader with this epoch, whose sessions are heard for as long as a test may take.
pub(crate) fn leader(epoch: u64, nonce: &str) -> Arc<Pulse> {
    Pulse::begin(Fence { epoch: Epoch(epoch), nonce: Nonce(nonce.into()) }, Duration::from_secs(600))
}

/// The right to a step of the suite's migration.
pub(crate) fn lease(leader: &Arc<Pulse>, step: Step, attempt: u32) -> TaskLease {
    grant(leader, step, None, attempt)
}

/// The right to one range.
pub(crate) fn range_lease(leader: &Arc<Pulse>, range: u32, attempt: u32) -> TaskLease {
    grant(leader, Step::Backfill, Some(range), attempt)
}

fn grant(leader: &Arc<Pulse>, step: Step, range: Option<u32>, attempt: u32) -> TaskLease {
    let task = TaskId { migration: migration(), shard: ShardId::new(SHARD).expect("a name"), step, range };
    leader.grant(task, Token { epoch: leader.leader().epoch, attempt: Attempt(attempt) })
}

/// The suite's migration.
pub(crate) fn migration() -> MigrationKey {
    MigrationKey { id: MigrationId::new("0001_items").expect("a name"), version: Version::FIRST }
}

/// The failure inside an error that should be one.
pub(crate) fn failure<T>(result: Result<T, shardlift_worker::engine::EngineError>) -> Failure {
    match result {
        Ok(_) => panic!("it was accepted"),
        Err(error) => error.into_failure(),
    }
}

//! The words of Shardlift, as types, and its decisions, as pure functions.
//!
//! Reading order: [`ids`] and [`fence`] name things, [`failure`] is what reaches a person, [`spec`] is what a user
//! writes and [`lint`] what is dangerous in it, [`facts`] is what a shard tells, [`plan`] is what follows from both, [`migration`] and [`task`] are the
//! two tables of moves, [`topology`] and [`routing`] say where things are, [`progress`] folds receipts, [`capability`] says
//! what a worker can do, [`prepared`] names prepared transactions, [`range`] and [`verdict`] describe work and its proof,
//! [`quarantine`] what was set aside, [`backup`] what was saved, [`rehearsal`] what a sample foretells,
//! [`mismatch`] what differs from what the transform gives, [`repair`] what becomes of it, [`unique`] how rows of all shards are compared, [`principal`] who may ask for what.
//!
//! Nothing here does I/O, reads a clock, draws a random number or awaits: facts, time and chance are arguments.

pub mod backup;
pub mod capability;
pub mod ended;
pub mod facts;
pub mod failure;
pub mod fence;
pub mod ids;
pub mod lint;
pub mod migration;
pub mod mismatch;
pub mod plan;
pub mod prepared;
pub mod principal;
pub mod progress;
pub mod quarantine;
pub mod range;
pub mod rehearsal;
pub mod repair;
pub mod routing;
pub mod spec;
pub mod sql;
pub mod task;
pub mod topology;
pub mod unique;
pub mod verdict;

pub use failure::{ErrorCode, Failure, Fault, Place};
pub use fence::{Attempt, Epoch, Fence, Nonce, Token};
pub use ids::{
    Checksum, ClusterName, IdError, MigrationId, MigrationKey, ShardId, TaskId, Version, WorkerId,
};

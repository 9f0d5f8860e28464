//! The stored state of a migration. The enums here are the ones that are matched; no text stands for a state.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::ids::{Checksum, ClusterName, MigrationId, MigrationKey, ShardId};
use crate::spec::{Engine, Kind};

/// Where a migration stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Submitted; waits to be started or for what it depends on.
    Pending,
    /// Work is handed out.
    Running,
    /// Paused by a person, or halted by the system with a reason.
    Paused,
    /// Everything done and verified.
    Completed,
    /// A step failed in a way that trying again cannot mend.
    Failed,
    /// Given up by a person.
    Cancelled,
    /// Being undone.
    RollingBack,
    /// Undone.
    RolledBack,
}

impl Status {
    /// Every status.
    pub const ALL: [Status; 8] = [
        Status::Pending,
        Status::Running,
        Status::Paused,
        Status::Completed,
        Status::Failed,
        Status::Cancelled,
        Status::RollingBack,
        Status::RolledBack,
    ];

    /// The word for people and the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Pending => "pending",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Completed => "completed",
            Status::Failed => "failed",
            Status::Cancelled => "cancelled",
            Status::RollingBack => "rolling_back",
            Status::RolledBack => "rolled_back",
        }
    }

    /// Whether nothing happens any more until a person asks for it.
    pub fn rests(self) -> bool {
        match self {
            Status::Completed | Status::Failed | Status::Paused | Status::Cancelled | Status::RolledBack => {
                true
            }
            Status::Pending | Status::Running | Status::RollingBack => false,
        }
    }

    /// Whether nothing can happen any more without a new version.
    pub fn is_final(self) -> bool {
        matches!(self, Status::Completed | Status::Cancelled | Status::RolledBack)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a running migration is busy with, on all shards together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Nothing has changed yet.
    Precheck,
    /// The shape changes.
    Schema,
    /// The rows change.
    Data,
    /// The result is checked.
    Verify,
}

impl Phase {
    /// The word for people and the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Precheck => "precheck",
            Phase::Schema => "schema",
            Phase::Data => "data",
            Phase::Verify => "verify",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One ordered piece of a migration on one shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Look whether the shard can take the change.
    Precheck,
    /// Apply a schema change.
    Apply,
    /// Lay out the ranges of a table.
    Split,
    /// Walk the ranges.
    Backfill,
    /// Search for what became pending meanwhile.
    Sweep,
    /// Check the result by other means than it was made.
    Verify,
}

impl Step {
    /// Every step.
    pub const ALL: [Step; 6] =
        [Step::Precheck, Step::Apply, Step::Split, Step::Backfill, Step::Sweep, Step::Verify];

    /// The word for people and the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Step::Precheck => "precheck",
            Step::Apply => "apply",
            Step::Split => "split",
            Step::Backfill => "backfill",
            Step::Sweep => "sweep",
            Step::Verify => "verify",
        }
    }

    /// The phase that the step belongs to.
    pub fn phase(self) -> Phase {
        match self {
            Step::Precheck => Phase::Precheck,
            Step::Apply => Phase::Schema,
            Step::Split | Step::Backfill | Step::Sweep => Phase::Data,
            Step::Verify => Phase::Verify,
        }
    }

    /// The steps of one shard, in order. Without `where` there is nothing that a sweep could search for.
    pub fn sequence(kind: Kind, has_where: bool) -> &'static [Step] {
        match (kind, has_where) {
            (Kind::Schema, _) => &[Step::Precheck, Step::Apply, Step::Verify],
            (Kind::Data, true) => &[Step::Precheck, Step::Split, Step::Backfill, Step::Sweep, Step::Verify],
            (Kind::Data, false) => &[Step::Precheck, Step::Split, Step::Backfill, Step::Verify],
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a migration is paused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "by")]
pub enum Stop {
    /// A person asked for it.
    Person,
    /// The system halted it, with the reason.
    System {
        /// What a person has to decide about.
        reason: Failure,
    },
}

/// One shard's part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardMigration {
    /// The step to do next; `None`: nothing is left.
    pub todo: Option<Step>,
    /// What failed for good.
    pub failure: Option<Failure>,
    /// Whether verification held.
    pub verified: bool,
}

/// One spec under execution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Migration {
    /// Id and version.
    pub key: MigrationKey,
    /// Schema or data.
    pub kind: Kind,
    /// Its engine.
    pub engine: Engine,
    /// Its cluster.
    pub cluster: ClusterName,
    /// The content.
    pub checksum: Checksum,
    /// The table or collection of a data migration.
    pub relation: Option<String>,
    /// Whether the spec says which rows are pending: only then a sweep follows the backfill.
    pub has_where: bool,
    /// What must be completed first.
    pub waits_for: Vec<MigrationId>,
    /// Where it stands.
    pub status: Status,
    /// Whether somebody said start; a pending migration without it waits for that.
    pub released: bool,
    /// What it is, or was last, busy with.
    pub phase: Phase,
    /// Whether a task that changes a shard was ever handed out.
    pub touched: bool,
    /// Why it is paused; only with [`Status::Paused`].
    pub stop: Option<Stop>,
    /// The W3C trace context of its submit: kept so that every leader's spans join that trace. Nothing is decided by it.
    #[serde(default)]
    pub traceparent: Option<String>,
    /// Each shard's part.
    pub shards: BTreeMap<ShardId, ShardMigration>,
}

impl Migration {
    /// The steps of each shard, in order.
    pub fn steps(&self) -> &'static [Step] {
        Step::sequence(self.kind, self.has_where)
    }

    /// The first failure of any shard.
    pub fn failure(&self) -> Option<&Failure> {
        self.shards.values().find_map(|shard| shard.failure.as_ref())
    }

    /// The steps that should be worked on now: only while running, only of the present phase.
    pub fn wanted(&self) -> impl Iterator<Item = (&ShardId, Step)> {
        let running = self.status == Status::Running;
        self.shards.iter().filter(move |_| running).filter_map(|(id, shard)| {
            let step = shard.todo.filter(|step| step.phase() == self.phase)?;
            shard.failure.is_none().then_some((id, step))
        })
    }

    /// The state after a take-over: the ranges must be read from the shards again before they are walked.
    pub fn recovered(mut self) -> Self {
        for shard in self.shards.values_mut() {
            if shard.todo == Some(Step::Backfill) {
                shard.todo = Some(Step::Split);
            }
        }
        self
    }
}

//! The stored state of a migration. The enums here are the ones that are matched; no text stands for a state.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::ids::{Checksum, ClusterName, MigrationId, MigrationKey, ShardId};
use crate::quarantine::Held;
use crate::spec::{Engine, Kind, OnVerifyFailure};
use crate::verdict::Undone;

use super::approval::Approval;
use super::decision::Decision;
use super::purge::Purge;
use super::throttle::Throttling;
use super::told::Told;
use super::unique::Uniqueness;
use super::waves::Rollout;

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

    /// Whether it has ended: only a rollback, or a new version, can follow.
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
    /// What is to change is saved.
    Backup,
    /// The shape changes.
    Schema,
    /// The rows change.
    Data,
    /// The result is checked.
    Verify,
    /// What was changed is taken back.
    Undo,
}

impl Phase {
    /// The word for people and the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Precheck => "precheck",
            Phase::Backup => "backup",
            Phase::Schema => "schema",
            Phase::Data => "data",
            Phase::Verify => "verify",
            Phase::Undo => "undo",
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
    /// Save the table or collection.
    Backup,
    /// Apply a schema change.
    Apply,
    /// Make an atomic schema change up to its commit, which waits for what is decided.
    Prepare,
    /// Commit what was prepared: every shard could.
    Commit,
    /// Roll back what was prepared: some shard could not, or a person stopped it.
    Abort,
    /// Lay out the ranges of a table.
    Split,
    /// Walk the ranges.
    Backfill,
    /// Search for what became pending meanwhile.
    Sweep,
    /// Check the result by other means than it was made.
    Verify,
    /// Keep a digest of each row in the shard, so that the rows of all shards can be compared.
    Collect,
    /// Take back what was changed. Never part of a plan: only a rollback wants it.
    Undo,
}

impl Step {
    /// Every step.
    pub const ALL: [Step; 12] = [
        Step::Precheck,
        Step::Backup,
        Step::Apply,
        Step::Prepare,
        Step::Commit,
        Step::Abort,
        Step::Split,
        Step::Backfill,
        Step::Sweep,
        Step::Verify,
        Step::Collect,
        Step::Undo,
    ];

    /// The word for people and the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Step::Precheck => "precheck",
            Step::Backup => "backup",
            Step::Apply => "apply",
            Step::Prepare => "prepare",
            Step::Commit => "commit",
            Step::Abort => "abort",
            Step::Split => "split",
            Step::Backfill => "backfill",
            Step::Sweep => "sweep",
            Step::Verify => "verify",
            Step::Collect => "collect",
            Step::Undo => "undo",
        }
    }

    /// The phase that the step belongs to.
    pub fn phase(self) -> Phase {
        match self {
            Step::Precheck => Phase::Precheck,
            Step::Backup => Phase::Backup,
            Step::Apply | Step::Prepare | Step::Commit | Step::Abort => Phase::Schema,
            Step::Split | Step::Backfill | Step::Sweep => Phase::Data,
            Step::Verify | Step::Collect => Phase::Verify,
            Step::Undo => Phase::Undo,
        }
    }

    /// Whether other shards hold locks until it is done.
    pub fn presses(self) -> bool {
        matches!(self, Step::Prepare | Step::Commit | Step::Abort)
    }

    /// The steps of one shard, in order. Without `where` there is nothing that a sweep could search for.
    /// A change that every shard makes or none is prepared and committed instead of applied: whoever must not commit
    /// passes through [`Step::Abort`] back to [`Step::Prepare`]. What is to be saved is saved before anything changes.
    pub fn sequence(kind: Kind, has_where: bool, atomic: bool, backup: bool) -> Vec<Step> {
        let change: &[Step] = match (kind, has_where) {
            (Kind::Schema, _) if atomic => &[Step::Prepare, Step::Commit, Step::Verify],
            (Kind::Schema, _) => &[Step::Apply, Step::Verify],
            (Kind::Data, true) => &[Step::Split, Step::Backfill, Step::Sweep, Step::Verify],
            (Kind::Data, false) => &[Step::Split, Step::Backfill, Step::Verify],
        };
        let before = [Step::Precheck].into_iter().chain(backup.then_some(Step::Backup));
        before.chain(change.iter().copied()).collect()
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

/// That a migration is being undone, was, or was until somebody gave that up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undo {
    /// A person has said that values may be lost which were written since.
    pub drop_data: bool,
    /// Why the system began it (`on_verify_failure: rollback`); `None`: a person did.
    pub reason: Option<Failure>,
    /// What was done on shards that are through with it.
    pub done: Undone,
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
    /// With which wave it goes; the first is 0.
    #[serde(default)]
    pub wave: u32,
}

impl ShardMigration {
    /// Before anything was done, in this wave.
    pub fn fresh(wave: u32) -> Self {
        Self { todo: Some(Step::Precheck), failure: None, verified: false, wave }
    }
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
    /// Whether every shard makes the schema change or none.
    #[serde(default)]
    pub atomic: bool,
    /// Whether the table or collection is saved before its first row changes.
    #[serde(default)]
    pub backup: bool,
    /// What was decided about what the shards have prepared; only for an atomic change.
    #[serde(default)]
    pub decision: Option<Decision>,
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
    /// What follows when verification finds a difference.
    #[serde(default)]
    pub on_verify_failure: OnVerifyFailure,
    /// Only when a rollback was begun: from then on there is no way forward any more.
    #[serde(default)]
    pub undo: Option<Undo>,
    /// Only when what it has kept for a rollback is given up.
    #[serde(default)]
    pub purge: Option<Purge>,
    /// What an operator has said of its throttle since.
    #[serde(default, skip_serializing_if = "Throttling::is_as_in_spec")]
    pub throttling: Throttling,
    /// Who submitted it; `None`: a release that did not ask.
    #[serde(default)]
    pub author: Option<String>,
    /// Only when somebody has approved it.
    #[serde(default)]
    pub approval: Option<Approval>,
    /// The W3C trace context of its submit: kept so that every leader's spans join that trace. Nothing is decided by it.
    #[serde(default)]
    pub traceparent: Option<String>,
    /// Rows set aside, by shard; only shards that have any.
    #[serde(default)]
    pub quarantined: BTreeMap<ShardId, Held>,
    /// Its waves, and which of them is the present one.
    #[serde(default)]
    pub rollout: Rollout,
    /// What services outside were told of it.
    #[serde(default)]
    pub told: Told,
    /// Only when rows are to be unique over all shards.
    #[serde(default)]
    pub unique: Option<Uniqueness>,
    /// Each shard's part.
    pub shards: BTreeMap<ShardId, ShardMigration>,
}

impl Migration {
    /// The steps of each shard, in order; once it is undone, that comes last.
    pub fn steps(&self) -> Vec<Step> {
        let mut steps = Step::sequence(self.kind, self.has_where, self.atomic, self.backup);
        steps.extend(self.unique.is_some().then_some(Step::Collect));
        steps.extend(self.undo.is_some().then_some(Step::Undo));
        steps
    }

    /// The first failure of any shard.
    pub fn failure(&self) -> Option<&Failure> {
        self.shards.values().find_map(|shard| shard.failure.as_ref())
    }

    /// The steps that should be worked on now: only while running or being undone, only of the present phase, and of shards
    /// whose wave has not begun only the precheck; and what was decided about prepared transactions, until every shard has
    /// heard it.
    pub fn wanted(&self) -> impl Iterator<Item = (&ShardId, Step)> {
        self.shards.iter().filter_map(|(id, part)| Some((id, self.wanted_now(part)?)))
    }

    /// The step of one shard that should be worked on now.
    pub fn wanted_of(&self, shard: &ShardId) -> Option<Step> {
        self.wanted_now(self.shards.get(shard)?)
    }

    fn works(&self) -> bool {
        matches!(self.status, Status::Running | Status::RollingBack)
    }

    fn wanted_now(&self, part: &ShardMigration) -> Option<Step> {
        let carried_out = |step| matches!(step, Step::Commit | Step::Abort);
        let timely = |step: Step| self.works() && step.phase() == self.phase;
        let wanted = |step: Step| self.admits(step) && (carried_out(step) || timely(step));
        self.open_step(part).filter(|step| part.failure.is_none() && wanted(*step))
    }

    /// The state after a take-over: the ranges must be read from the shards again before they are walked, and what was
    /// prepared without a decision is prepared anew.
    pub fn recovered(mut self) -> Self {
        for shard in self.shards.values_mut() {
            if shard.todo == Some(Step::Backfill) {
                shard.todo = Some(Step::Split);
            }
        }
        self.prepare_anew();
        self
    }
}

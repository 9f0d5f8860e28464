//! What a finished task says: the outcome of a step, and the proof that verification found.

use serde::{Deserialize, Serialize};

use crate::quarantine::Held;
use crate::range::{Pass, RangeState};

/// What a sweep over the whole scope found after a pass had ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sweep {
    /// Nothing is pending.
    Clean,
    /// Rows became pending during the run; a new pass was laid out for them.
    Found {
        /// How many rows were pending.
        pending: u64,
        /// The pass that will do them.
        pass: Pass,
    },
}

/// The result of one check of the verify step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckResult {
    /// The word in the spec: `remaining`, `count`; for schema `ledger`, `indexes`.
    pub check: String,
    /// Whether it holds.
    pub passed: bool,
    /// Figures in words: expected against found.
    pub detail: String,
}

/// What the verify step found on one shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct VerifyReport {
    /// One result per check.
    pub checks: Vec<CheckResult>,
    /// How many rows are set aside; `None`: the migration sets none aside.
    pub held: Option<Held>,
}

impl VerifyReport {
    /// Whether every check holds. A report without checks proves nothing.
    pub fn passed(&self) -> bool {
        !self.checks.is_empty() && self.checks.iter().all(|check| check.passed)
    }
}

/// What undoing did on one shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Undone {
    /// Rows or documents that have their old values again.
    pub restored: u64,
    /// Those that were left alone, since they are not any more what was written.
    pub conflicts: u64,
}

impl std::ops::AddAssign for Undone {
    fn add_assign(&mut self, other: Self) {
        self.restored += other.restored;
        self.conflicts += other.conflicts;
    }
}

/// What was saved of a table or collection, or so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Saved {
    /// Rows or documents.
    pub rows: u64,
    /// Their bytes, before compression.
    pub bytes: u64,
}

/// What a worker says of a task that it finished.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TaskOutcome {
    /// The shard meets the needs of the migration.
    Prechecked,
    /// The table or collection is saved, and a sample of it was restored and compared.
    Saved(Saved),
    /// The schema change and its ledger entry are there; `already`: they were there before.
    Applied {
        /// The ledger had it before this task.
        already: bool,
    },
    /// The change is made up to its commit, and waits for what is decided.
    Prepared,
    /// What was prepared is committed.
    Committed,
    /// What was prepared, if anything, is rolled back.
    Aborted,
    /// The ranges of the newest pass, laid out now or before.
    Split(Pass),
    /// One range has reached its end.
    RangeDone(RangeState),
    /// All ranges were done and the scope was searched again.
    Swept(Sweep),
    /// The checks were made; the report says whether they hold.
    Verified(VerifyReport),
    /// A digest of each row is kept in the shard.
    Collected,
    /// What was changed is taken back.
    Undone(Undone),
}

/// What is wrong or noteworthy before anything was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How serious it is.
    pub severity: Severity,
    /// What, where, and what to do.
    pub failure: crate::Failure,
}

/// How serious a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Good to know.
    Note,
    /// May hurt.
    Warning,
    /// Refused until it is mended.
    Error,
}

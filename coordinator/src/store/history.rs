//! What happened to a migration, or to the installation as a whole: a record that only grows.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use shardlift_domain::{MigrationId, MigrationKey};

/// One thing that happened.
#[derive(Debug, Clone, PartialEq)]
pub struct HistoryEntry {
    /// To which migration; `None`: to the installation.
    pub migration: Option<MigrationKey>,
    /// What.
    pub event: HistoryEvent,
    /// When; whole microseconds.
    pub at: DateTime<Utc>,
    /// Who: a person's name, or that of the coordinator.
    pub actor: String,
    /// The id of the request that asked for it, if one did.
    pub request: Option<String>,
    /// More about it, by event. Holds no secret and no row value.
    pub detail: serde_json::Value,
}

impl HistoryEntry {
    /// Whether it is about this migration, in whichever version.
    pub fn is_about(&self, id: &MigrationId) -> bool {
        self.migration.as_ref().is_some_and(|key| key.id == *id)
    }
}

/// One thing that happened, as it was stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// Its place in the order of all things that ever happened, over all migrations; there may be gaps. Fits in 53 bits,
    /// so that every reader of JSON keeps it whole.
    pub sequence: u64,
    /// What happened.
    pub entry: HistoryEntry,
}

macro_rules! events {
    ($($(#[$doc:meta])* $variant:ident = $word:literal,)*) => {
        /// The kinds of things that happen.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum HistoryEvent { $($(#[$doc])* #[serde(rename = $word)] $variant,)* }

        impl HistoryEvent {
            /// Every kind.
            pub const ALL: &'static [HistoryEvent] = &[$(HistoryEvent::$variant,)*];

            /// The word for people and the store.
            pub fn as_str(self) -> &'static str {
                match self { $(HistoryEvent::$variant => $word,)* }
            }
        }
    };
}

events! {
    /// A spec was accepted.
    Submitted = "submitted",
    /// A person released it.
    Started = "started",
    /// Somebody has approved it.
    Approved = "approved",
    /// What it waited for is completed: it runs.
    Ready = "ready",
    /// A person paused it.
    Paused = "paused",
    /// The system stopped it, with the reason.
    Halted = "halted",
    /// A person changed its throttle.
    Throttled = "throttled",
    /// A person resumed it.
    Resumed = "resumed",
    /// A person gave it up.
    Cancelled = "cancelled",
    /// A person had its failed steps tried again.
    Retried = "retried",
    /// A person, or a failed verification, had it rolled back.
    RollbackBegun = "rollback_begun",
    /// What it changed is taken back.
    RolledBack = "rolled_back",
    /// A person, or time, gave up what it has kept for a rollback.
    PurgeBegun = "purge_begun",
    /// No shard has anything left of that.
    Purged = "purged",
    /// All shards entered the next phase.
    PhaseEntered = "phase_entered",
    /// A wave is done and has soaked: the next one begins, or nothing is left.
    GateOpened = "gate_opened",
    /// A shard finished a step.
    StepDone = "step_done",
    /// So many rows of a shard are set aside.
    Quarantined = "quarantined",
    /// Rows that were set aside are tried again.
    Reopened = "reopened",
    /// So many rows of a shard that verification had found different were given what their transform gives.
    Repaired = "repaired",
    /// A step of a shard has ended sessions of the application that kept it from its locks.
    SessionsEnded = "sessions_ended",
    /// A step of a shard failed for good.
    StepFailed = "step_failed",
    /// It was decided whether shards commit or roll back what they have prepared.
    Decided = "decided",
    /// Everything is done and verified.
    Completed = "completed",
    /// It failed.
    Failed = "failed",
    /// Clusters, shards, rules or entries of directories are others now.
    TopologyChanged = "topology_changed",
    /// A person wants a worker to be given nothing new.
    WorkerDrained = "worker_drained",
    /// A person has taken that back.
    WorkerUndrained = "worker_undrained",
    /// Something was refused to somebody who is known.
    Refused = "refused",
    /// A coordinator began to lead, and continues what runs.
    TakenOver = "taken_over",
}

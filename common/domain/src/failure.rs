//! What reaches a person when something goes wrong: what, where, whose fault, what next (promise P13).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{MigrationKey, ShardId};
use crate::migration::Step;

macro_rules! codes {
    ($($(#[doc = $doc:literal])* $variant:ident = $code:literal, $fault:ident, $retry:literal;)*) => {
        /// Stable names of all errors. Each has a page `docs/errors/<code>.md`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum ErrorCode { $($(#[doc = $doc])* $variant,)* }

        impl ErrorCode {
            /// Every code there is.
            pub const ALL: &'static [ErrorCode] = &[$(ErrorCode::$variant,)*];

            /// The stable text, such as `shard.unreachable`.
            pub fn as_str(self) -> &'static str {
                match self { $(ErrorCode::$variant => $code,)* }
            }

            /// What it means, in one sentence.
            pub fn summary(self) -> &'static str {
                match self { $(ErrorCode::$variant => concat!($($doc),*).trim_ascii(),)* }
            }

            /// Whose fault it usually is.
            pub fn fault(self) -> Fault {
                match self { $(ErrorCode::$variant => Fault::$fault,)* }
            }

            /// Whether the same work may succeed later without anybody changing anything.
            pub fn retryable(self) -> bool {
                match self { $(ErrorCode::$variant => $retry,)* }
            }
        }
    };
}

codes! {
    /// The spec file is not valid.
    SpecInvalid = "spec.invalid", User, false;
    /// The spec asks for something that this release does not have.
    SpecUnsupported = "spec.unsupported", User, false;
    /// The same id was submitted before with another content.
    SpecConflict = "spec.conflict", User, false;
    /// Specs depend on each other in a circle.
    PlanCycle = "plan.cycle", User, false;
    /// A spec depends on an id that nobody knows.
    PlanMissingDependency = "plan.missing-dependency", User, false;
    /// The plan cannot be made: cluster, engine or shards do not fit.
    PlanRefused = "plan.refused", User, false;
    /// A schema spec does what hurts an application or loses data, and does not say that it means to.
    LintRefused = "lint.refused", User, false;
    /// The plan was made for an older revision of the topology.
    PlanStale = "plan.stale", User, false;
    /// A migration does not cover shards that joined after it was planned.
    PlanUncovered = "plan.uncovered-shards", User, false;
    /// What a migration needs is held: by one that stands still, or for one of its tenants.
    PlanHeld = "plan.held", User, false;
    /// The topology cannot be changed so.
    TopologyRefused = "topology.refused", User, false;
    /// No rule or entry says which shard holds the key.
    RoutingUnroutable = "routing.unroutable", User, false;
    /// The schemas of shards of one cluster differ.
    ShardDrift = "shard.drift", User, false;
    /// No such migration.
    RequestNotFound = "request.not-found", User, false;
    /// The verb is not possible in the present state.
    RequestIllegal = "request.illegal-move", User, false;
    /// The request itself is malformed.
    RequestInvalid = "request.invalid", User, false;
    /// The coordinator has nothing at this path.
    RequestNoSuchRoute = "request.no-such-route", User, false;
    /// What is at this path knows another method only.
    RequestWrongMethod = "request.wrong-method", User, false;
    /// The body is of a media type that is not understood here.
    RequestWrongMediaType = "request.wrong-media-type", User, false;
    /// The body is larger than any request may be.
    RequestTooLarge = "request.too-large", User, false;
    /// The request came from a page of another origin, or under a name that is not this server's.
    RequestForeignOrigin = "request.foreign-origin", User, false;
    /// More is asked for than one coordinator serves.
    RequestTooMany = "request.too-many", User, true;
    /// The answer took longer than a request may.
    RequestTimedOut = "request.timed-out", Shardlift, true;
    /// Nobody who is known asked: there is no token, or not a valid one.
    AccessUnauthenticated = "access.unauthenticated", User, false;
    /// Whoever asked is known, and may not ask for this.
    AccessForbidden = "access.forbidden", User, false;
    /// A worker names a shard that its token is not for.
    AccessForbiddenShard = "access.forbidden-shard", User, false;
    /// A migration waits for somebody to approve it.
    ApprovalNeeded = "approval.needed", User, false;
    /// The approval is not given: it is for another content, comes too late, or is by the author.
    ApprovalRefused = "approval.refused", User, false;
    /// A setting of the program is wrong.
    ConfigInvalid = "config.invalid", User, false;
    /// A shard does not meet what the migration needs.
    PrecheckRefused = "precheck.refused", Shard, false;
    /// No worker is connected that serves the shard.
    ShardNoWorker = "shard.no-worker", Shard, true;
    /// The shard's server does not answer.
    ShardUnreachable = "shard.unreachable", Shard, true;
    /// The database behind the address is another shard, or belongs to another installation.
    ShardWrongIdentity = "shard.wrong-identity", User, false;
    /// The MongoDB server is a standalone: it has no transactions.
    ShardStandalone = "shard.standalone", Shard, false;
    /// The shard accepts no writes.
    ShardReadOnly = "shard.read-only", Shard, true;
    /// The shard has no room left, or refuses for lack of another resource.
    ShardOutOfResources = "shard.out-of-resources", Shard, true;
    /// Replicas of the shard are further behind than the spec lets them be, so that batches wait.
    ShardLagging = "shard.lagging", Shard, true;
    /// The shard's server refused a command for another reason.
    ShardRefused = "shard.refused", Shard, false;
    /// A newer leader has spoken to the shard.
    FenceStale = "fence.stale", Shardlift, true;
    /// The shard saw another leader of the same epoch: the metadata store was restored from an old copy.
    FenceForked = "fence.forked", Shardlift, true;
    /// The shard's fence holds an epoch that no leader can have had: it was damaged.
    FenceDamaged = "fence.damaged", Shard, false;
    /// The right to run the task has passed to somebody else.
    LeaseLost = "lease.lost", Shardlift, true;
    /// A schema statement failed.
    SchemaFailed = "schema.failed", User, false;
    /// A schema statement did not get its lock in time.
    SchemaLocked = "schema.locked", Application, true;
    /// A shard did not get its locks within `lock_deadline`, so the change was taken back.
    SchemaLockDeadline = "schema.lock-deadline", Application, false;
    /// A shard did not prepare an atomic change in time, so all shards rolled back.
    SchemaNotPrepared = "schema.not-prepared", Shard, false;
    /// The ledger of the shard holds the same migration with another content.
    LedgerConflict = "ledger.conflict", User, false;
    /// A row or document could not be changed: constraint, type or size.
    RowRejected = "row.rejected", Application, false;
    /// A row was changed but is still pending: the transform does not turn `where` false.
    RowStillPending = "row.still-pending", User, false;
    /// A row could not be transformed by the program of the spec.
    RowTransform = "row.transform", User, false;
    /// The application kept touching the same rows for so long that the batch gave up.
    RowContended = "row.contended", Application, true;
    /// The transform does not fit the table or does not compile.
    TransformInvalid = "transform.invalid", User, false;
    /// More rows could not be changed than the spec lets be set aside.
    QuarantineOverBudget = "quarantine.over-budget", Application, false;
    /// New pending rows appear again and again.
    SweepNotConverging = "sweep.not-converging", Application, false;
    /// A table or collection could not be saved, so nothing of it was changed.
    BackupFailed = "backup.failed", User, false;
    /// What lies in the object store is not what was saved.
    BackupDamaged = "backup.damaged", User, false;
    /// A wave is done and has soaked, but one of its shards is not in health: the next wave does not begin.
    GateClosed = "gate.closed", Shard, true;
    /// The adaptors of a tenant were not quiet in time at a gate.
    GateNotQuiet = "gate.not-quiet", Network, false;
    /// Verification found something that must not be.
    VerifyMismatch = "verify.mismatch", User, false;
    /// Whether rows are unique over all shards cannot be told.
    VerifyIncomparable = "verify.incomparable", User, false;
    /// A `down` would drop values that were written since.
    UndoDropsData = "undo.drops-data", User, false;
    /// Only a part of `up` was applied, and `down` is written for the whole.
    UndoHalfApplied = "undo.half-applied", User, false;
    /// A service that Shardlift asks for something does not answer as it should.
    ServiceUnavailable = "service.unavailable", Network, true;
    /// A service that Shardlift asks for something refuses it.
    ServiceRefused = "service.refused", User, false;
    /// The metadata store does not answer.
    StoreUnavailable = "store.unavailable", Shardlift, true;
    /// This coordinator is not the leader any more.
    StoreFenced = "store.fenced", Shardlift, true;
    /// The coordinator does not answer.
    CoordinatorUnreachable = "coordinator.unreachable", Network, true;
    /// This coordinator does not lead, and only the leader can do what was asked.
    CoordinatorNotLeader = "coordinator.not-leader", Shardlift, true;
    /// No coordinator leads now, or the leader does not answer.
    CoordinatorNotReady = "coordinator.not-ready", Shardlift, true;
    /// The worker speaks a protocol that this coordinator does not.
    WorkerRefused = "worker.refused", User, false;
    /// The worker is of an older release than what it met on the shard.
    WorkerOutdated = "worker.outdated", User, true;
    /// No connected worker of the shard can do what the migration needs, or those that can are drained.
    WorkerUnfit = "worker.unfit", User, true;
    /// Workers were lost again and again while they ran the same task.
    WorkerLost = "worker.lost", Shardlift, true;
    /// A defect of Shardlift.
    Internal = "internal.defect", Shardlift, false;
}

impl ErrorCode {
    /// The code with this text, if there is one.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.as_str() == text)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for ErrorCode {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for ErrorCode {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // A code of a newer release is still a failure: it must not make the whole answer unreadable.
        Ok(Self::parse(&text).unwrap_or(Self::Internal))
    }
}

/// Whose fault it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The person who wrote the spec, the command or the configuration.
    User,
    /// The application that uses the shard, or its data.
    Application,
    /// The database server of the shard.
    Shard,
    /// The connection between two processes.
    Network,
    /// Shardlift itself.
    Shardlift,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::User => "the request or spec",
            Fault::Application => "the application or its data",
            Fault::Shard => "the shard's database server",
            Fault::Network => "the network",
            Fault::Shardlift => "Shardlift",
        })
    }
}

/// Where it happened, as far as it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Which migration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migration: Option<MigrationKey>,
    /// Which shard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<ShardId>,
    /// Which step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<Step>,
    /// Which row or document, as its key in text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Which place of a file, as `file:line:column`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

/// One error in the form that reaches a person, the store and the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Failure {
    /// Stable name of the error.
    pub code: ErrorCode,
    /// What happened. Holds no secret.
    pub message: String,
    /// Where it happened.
    pub place: Place,
    /// What the reader should do now.
    pub next: String,
}

impl Failure {
    /// A failure with an unknown place.
    pub fn new(code: ErrorCode, message: impl Into<String>, next: impl Into<String>) -> Self {
        Self { code, message: message.into(), place: Place::default(), next: next.into() }
    }

    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        self.code.fault()
    }

    /// Whether trying again later may help without anybody changing anything.
    pub fn retryable(&self) -> bool {
        self.code.retryable()
    }

    /// Adds the migration.
    pub fn in_migration(mut self, key: &MigrationKey) -> Self {
        self.place.migration = Some(key.clone());
        self
    }

    /// Adds the shard.
    pub fn on_shard(mut self, shard: &ShardId) -> Self {
        self.place.shard = Some(shard.clone());
        self
    }

    /// Adds the step.
    pub fn in_step(mut self, step: Step) -> Self {
        self.place.step = Some(step);
        self
    }

    /// Adds the key of the row or document.
    pub fn at_key(mut self, key: impl Into<String>) -> Self {
        self.place.key = Some(key.into());
        self
    }

    /// Adds the place in a file: `file:line:column`.
    pub fn in_file(mut self, place: impl Into<String>) -> Self {
        self.place.file = Some(place.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_name_of_its_own() {
        let mut names: Vec<_> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ErrorCode::ALL.len());
    }

    #[test]
    fn every_code_says_what_it_means_in_a_sentence() {
        for code in ErrorCode::ALL {
            let summary = code.summary();
            assert!(summary.ends_with('.') && !summary.contains("  "), "{code}: {summary:?}");
        }
        assert_eq!(ErrorCode::RequestNotFound.summary(), "No such migration.");
    }

    #[test]
    fn a_failure_survives_its_stored_form() {
        let failure = Failure::new(ErrorCode::RowRejected, "duplicate", "mend the row").at_key("[7]");
        let text = serde_json::to_string(&failure).expect("serialises");
        assert_eq!(serde_json::from_str::<Failure>(&text).expect("parses"), failure);
    }
}

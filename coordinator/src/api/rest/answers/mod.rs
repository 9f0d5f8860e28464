//! What the API answers, one file per family: the shapes of the command line's JSON, made from the wire's messages. Keys
//! are added, never renamed or removed; what is unknown is `null`.

mod audit;
mod cluster;
mod event;
mod looks;
mod migration;
mod plan;
mod rehearsal;

use serde::Serialize;
use shardlift_proto::v1;
use utoipa::ToSchema;

pub(super) use audit::{AuditBody, VerifiedBody};
pub(super) use cluster::{DrainBody, LeaderBody, RouteBody, ShardsBody, TopologyBody, WorkersBody};
pub(super) use event::{EventBody, EventsBody};
pub(super) use looks::{ChangedBody, DecidedBody, DriftBody, InDoubtBody, MismatchesBody, PlacementBody};
pub(super) use migration::{
    ConflictsBody, MigrationBody, MigrationsBody, MovedBody, PartBody, PartsBody, QuarantineBody, StatusBody,
};
pub(super) use plan::PlanBody;

use super::words::Step;

/// What went wrong, where, whose fault it usually is, what to do next.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = Failure)]
pub(super) struct FailureBody {
    /// Stable code; `/api/docs/errors/CODE` is its page.
    #[schema(example = "row.rejected")]
    pub(super) code: String,
    /// What happened. Free text, partly of servers.
    pub(super) message: String,
    /// Which migration.
    pub(super) migration: Option<String>,
    /// Which shard.
    pub(super) shard: Option<String>,
    /// Which step.
    pub(super) step: Option<Step>,
    /// Which row or document, as its key in text.
    pub(super) key: Option<String>,
    /// Which place of a file, as `file:line:column`.
    pub(super) file: Option<String>,
    /// `user`, `application`, `shard`, `network` or `shardlift`.
    pub(super) fault: String,
    /// Whether the same may succeed later without anybody changing anything.
    pub(super) retryable: bool,
    /// What to do now.
    pub(super) next: String,
}

impl From<v1::Failure> for FailureBody {
    fn from(failure: v1::Failure) -> Self {
        Self {
            step: Step::of(failure.step()),
            code: failure.code,
            message: failure.message,
            migration: failure.migration.map(|key| key.id),
            shard: failure.shard,
            key: failure.key,
            file: failure.file,
            fault: failure.fault,
            retryable: failure.retryable,
            next: failure.next,
        }
    }
}

/// RFC 3339 in UTC, written by the time's own type.
fn time(at: Option<v1::Timestamp>) -> Option<String> {
    at.map(|at| at.to_string())
}

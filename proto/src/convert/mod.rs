//! Conversions between the wire and the domain, one file per message family.
//!
//! Into the wire always succeeds. Out of the wire checks: a peer's message is never trusted to be complete.

mod backup;
mod cluster;
mod common;
mod ended;
mod fleet;
mod migration;
mod mismatch;
mod prepared;
mod quarantine;
mod rehearsal;
mod repair;
mod throttle;
mod undo;
mod unique;

pub use backup::{
    backup_answer_from_wire, backup_answer_to_wire, backup_from_wire, backup_query_from_wire,
    backup_query_to_wire, backup_to_wire, restored_from_wire, restored_to_wire,
};
pub use cluster::{
    page_from_wire, page_to_wire, placement_from_wire, placement_to_wire, routing_from_wire, routing_to_wire,
};
pub use common::{
    failure_from_wire, key_from_wire, pass_from_wire, pass_to_wire, range_from_wire, range_to_wire, timestamp,
};
pub use ended::{ended_from_wire, ended_to_wire};
pub use fleet::{
    check_request_from_wire, check_request_to_wire, depth_from_wire, depth_to_wire, facts_from_wire,
    facts_to_wire, hello_from_wire, hello_to_wire, outcome_from_wire, outcome_to_wire, receipt_from_wire,
    saved_from_wire, saved_to_wire, task_from_wire, task_to_wire, token_from_wire, token_to_wire,
};
pub use migration::{plan_from_wire, plan_to_wire};
pub use mismatch::{
    compared_from_wire, compared_to_wire, differing_from_wire, differing_to_wire, mismatches_from_wire,
    mismatches_page_from_wire, mismatches_page_to_wire, mismatches_to_wire,
};
pub use prepared::{prepared_from_wire, prepared_to_wire};
pub use quarantine::{
    held_from_wire, held_to_wire, quarantine_from_wire, quarantine_to_wire, quarantined_from_wire,
    quarantined_to_wire, row_from_wire, row_to_wire,
};
pub use rehearsal::{
    rehearsal_query_from_wire, rehearsal_query_to_wire, sample_from_wire, sample_to_wire,
    shard_rehearsal_from_wire, shard_rehearsal_to_wire,
};
pub use repair::{
    repair_from_wire, repair_page_from_wire, repair_page_to_wire, repair_to_wire, repaired_from_wire,
    repaired_to_wire,
};
pub use throttle::{
    in_force_from_wire, throttle_change_from_wire, throttle_change_to_wire, throttle_from_wire,
    throttle_to_wire,
};
pub use undo::{
    conflicts_from_wire, conflicts_page_from_wire, conflicts_page_to_wire, conflicts_to_wire,
    purged_from_wire, purged_to_wire,
};
pub use unique::{unique_answer_from_wire, unique_answer_to_wire, unique_from_wire, unique_to_wire};

/// Why a message cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A part is missing.
    #[error("the message lacks {0}")]
    Missing(&'static str),
    /// A part has a value that this release does not know.
    #[error("the message has an unknown {what}: {value}")]
    Unknown {
        /// Which part.
        what: &'static str,
        /// The value.
        value: String,
    },
    /// A name is not a name.
    #[error(transparent)]
    Name(#[from] shardlift_domain::IdError),
}

impl From<WireError> for shardlift_domain::Failure {
    fn from(error: WireError) -> Self {
        shardlift_domain::Failure::new(
            shardlift_domain::ErrorCode::RequestInvalid,
            error.to_string(),
            "use a client and programs of the same release",
        )
    }
}

fn need<T>(part: Option<T>, what: &'static str) -> Result<T, WireError> {
    part.ok_or(WireError::Missing(what))
}

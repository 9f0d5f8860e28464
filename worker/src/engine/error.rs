//! What can go wrong with a shard, typed until the decision what to do about it has been made.

use shardlift_domain::failure::{ErrorCode, Failure};

use crate::lease::LeaseOver;

/// What can go wrong with a shard.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Somebody else has the task, or the coordinator fell silent.
    #[error("the lease of this task is over")]
    LeaseLost,
    /// The connection broke; if a transaction was open its outcome is unknown until the range is claimed again.
    #[error("{0}")]
    Connection(Failure),
    /// Deadlock, serialization failure, write conflict, lock timeout: rolled back, may succeed at once.
    #[error("{0}")]
    Contended(Failure),
    /// The statement or transaction took too long: rolled back, a smaller window may succeed.
    #[error("{0}")]
    TooSlow(Failure),
    /// A row cannot be changed: nothing was changed.
    #[error("{0}")]
    Row(Failure),
    /// Everything else; the code says whether trying again may help.
    #[error("{0}")]
    Failed(Failure),
}

impl EngineError {
    /// Its stable name.
    pub fn code(&self) -> ErrorCode {
        match self {
            EngineError::LeaseLost => ErrorCode::LeaseLost,
            EngineError::Connection(failure)
            | EngineError::Contended(failure)
            | EngineError::TooSlow(failure)
            | EngineError::Row(failure)
            | EngineError::Failed(failure) => failure.code,
        }
    }

    /// Whether the shard gave way to others and changed nothing: what need not be done now is simply not done.
    pub fn gave_way(&self) -> bool {
        matches!(self, EngineError::Contended(_) | EngineError::TooSlow(_))
    }

    /// What reaches a person.
    pub fn into_failure(self) -> Failure {
        match self {
            EngineError::LeaseLost => Failure::new(
                ErrorCode::LeaseLost,
                "the right to run this task has passed to another worker or leader",
                "nothing to do: the new owner goes on from the checkpoint",
            ),
            EngineError::Connection(failure)
            | EngineError::Contended(failure)
            | EngineError::TooSlow(failure)
            | EngineError::Row(failure)
            | EngineError::Failed(failure) => failure,
        }
    }
}

impl From<LeaseOver> for EngineError {
    fn from(_: LeaseOver) -> Self {
        EngineError::LeaseLost
    }
}

//! Why a store could not do what it was asked for.

use std::time::Duration;

use shardlift_domain::migration::Resource;
use shardlift_domain::{Epoch, ErrorCode, Failure, MigrationKey};
use shardlift_runtime::retry::Retryable;

use super::Heard;

/// An error of a driver.
type Cause = Box<dyn std::error::Error + Send + Sync>;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Somebody has taken the lead since. Nothing was changed.
    #[error("epoch {held} is over: the store is at epoch {current}")]
    Fenced {
        /// The epoch of the permit.
        held: Epoch,
        /// The epoch that the store is at.
        current: Epoch,
    },
    /// The database does not answer, is busy, or has no room.
    #[error("the metadata store failed to {doing}: {source}")]
    Unavailable {
        /// What was being done.
        doing: &'static str,
        /// What the driver says; no driver puts a password there.
        source: Cause,
    },
    /// The store cannot be opened as it is configured.
    #[error("cannot open the metadata store {place}: {why}")]
    Location {
        /// Which file, or which server and database.
        place: String,
        /// What is wrong with it.
        why: String,
    },
    /// What is stored is not what this release writes.
    #[error("the metadata store holds something that cannot be read: {what}: {why}")]
    Unreadable {
        /// Table and column.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// A migration with this id and version is stored already.
    #[error("migration {0} is stored already")]
    AlreadyStored(MigrationKey),
    /// The change speaks of a migration, or of a shard of it, that was never stored.
    #[error("migration {0}, or a shard of it, is not in the store")]
    Unknown(MigrationKey),
    /// Another migration works on it. Nothing was changed.
    #[error("{resource} is held by migration {holder}")]
    Locked {
        /// What was to be held.
        resource: Resource,
        /// Who holds it, or something that includes it.
        holder: MigrationKey,
    },
    /// The request of a broker was carried out before. Nothing was changed.
    #[error("request {id} of {source_name} was carried out before")]
    AlreadyHeard {
        /// Who sent it.
        source_name: String,
        /// Its id.
        id: String,
    },
    /// No epoch is left above this one: some shard's fence was damaged.
    #[error("there is no epoch above {0}")]
    NoEpochAbove(Epoch),
}

impl StoreError {
    /// The stable name that people see.
    pub fn code(&self) -> ErrorCode {
        match self {
            StoreError::Fenced { .. } => ErrorCode::StoreFenced,
            StoreError::Unavailable { .. } => ErrorCode::StoreUnavailable,
            StoreError::Location { .. } => ErrorCode::ConfigInvalid,
            StoreError::Unreadable { .. }
            | StoreError::AlreadyStored(_)
            | StoreError::Unknown(_)
            | StoreError::Locked { .. }
            | StoreError::AlreadyHeard { .. }
            | StoreError::NoEpochAbove(_) => ErrorCode::Internal,
        }
    }

    fn next(&self) -> &'static str {
        match self {
            StoreError::Fenced { .. } => "ask the coordinator that leads now; this one steps down",
            StoreError::Unavailable { .. } => {
                "look after the metadata store: its disk and file, or its server and the way there; it is tried again by itself"
            }
            StoreError::Location { .. } => {
                "mend `[store]` in the coordinator's configuration, or what it names"
            }
            StoreError::Unreadable { .. } => {
                "use the release that wrote the store, or restore it; report it if neither explains it"
            }
            StoreError::NoEpochAbove(_) => "repair the fence row of the shard that reports this epoch",
            StoreError::AlreadyHeard { .. } => "nothing: a request is carried out once",
            StoreError::AlreadyStored(_) | StoreError::Unknown(_) | StoreError::Locked { .. } => {
                "report this as a defect, with the log"
            }
        }
    }

    /// A request that is there already.
    pub(in crate::store) fn already_heard(heard: &Heard) -> StoreError {
        StoreError::AlreadyHeard { source_name: heard.source.clone(), id: heard.id.clone() }
    }

    /// Makes a driver's error one of ours.
    pub(in crate::store) fn unavailable<E>(doing: &'static str) -> impl Fn(E) -> StoreError
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        move |source| StoreError::Unavailable { doing, source: Box::new(source) }
    }

    /// A server that takes a request and gives no answer.
    pub(in crate::store) fn silent(doing: &'static str) -> StoreError {
        let why = format!("no answer for {} s", ANSWER.as_secs());
        StoreError::Unavailable { doing, source: why.into() }
    }
}

/// How long a server may think about one request. A leader waits for its store, and everybody for the leader.
pub(in crate::store) const ANSWER: Duration = Duration::from_secs(5);

/// Waits for one answer of a server, but not for ever: one that hangs, or a half-open connection, gives none.
pub(in crate::store) async fn answered<T, E>(
    doing: &'static str,
    request: impl IntoFuture<Output = Result<T, E>>,
) -> Result<T, StoreError>
where
    E: std::error::Error + Send + Sync + 'static,
{
    match tokio::time::timeout(ANSWER, request).await {
        Ok(answer) => answer.map_err(StoreError::unavailable(doing)),
        Err(_) => Err(StoreError::silent(doing)),
    }
}

impl Retryable for StoreError {
    fn retryable(&self) -> bool {
        matches!(self, StoreError::Unavailable { .. })
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Failure::new(error.code(), error.to_string(), error.next())
    }
}

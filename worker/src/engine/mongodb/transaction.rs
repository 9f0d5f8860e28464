//! Transactions and commands of Shardlift itself: majority, snapshot, bounded in time.

use std::time::Duration;

use bson::{Document, doc};
use mongodb::ClientSession;
use mongodb::options::{ReadConcern, ReadPreference, SelectionCriteria, TransactionOptions, WriteConcern};
use shardlift_domain::{ErrorCode, Failure};

use super::connection::Connection;
use super::error;
use crate::engine::{EngineError, EngineResult};

/// How long one command of a batch may run in the server.
pub(super) const COMMAND_LIMIT: Duration = Duration::from_secs(30);
/// How long a commit may wait for the majority.
const COMMIT_LIMIT: Duration = Duration::from_secs(30);
/// How long an answer may take before the connection counts as broken.
pub(super) const ANSWER_LIMIT: Duration = Duration::from_secs(75);

/// Begins a transaction: one snapshot that a majority holds, and a commit that a majority must acknowledge.
pub(super) async fn begin(session: &mut ClientSession) -> EngineResult<()> {
    let options = TransactionOptions::builder()
        .read_concern(ReadConcern::snapshot())
        .write_concern(WriteConcern::majority())
        .selection_criteria(SelectionCriteria::ReadPreference(ReadPreference::Primary))
        .max_commit_time(COMMIT_LIMIT)
        .build();
    session.start_transaction().with_options(options).await.map_err(error::asking("beginning a transaction"))
}

/// A session of its own for transactions. It is causally consistent: a batch sees the checkpoint of the one before.
pub(super) async fn session(connection: &Connection) -> EngineResult<ClientSession> {
    connection.client().await?.start_session().await.map_err(error::asking("opening a session"))
}

/// Commits. [`EngineError::Connection`]: whether it happened is unknown.
pub(super) async fn commit(session: &mut ClientSession) -> EngineResult<()> {
    session.commit_transaction().await.map_err(error::asking("committing"))
}

/// Ends a transaction that is not wanted any more; the server ends it by itself if this does not reach it.
pub(super) async fn abandon(session: &mut ClientSession) {
    if let Err(error) = session.abort_transaction().await {
        tracing::debug!(error = %error, "the transaction could not be aborted; the server ends it");
    }
}

/// Waits for an answer, but not for ever: a half-open connection gives none.
pub(super) async fn answered<T>(work: impl Future<Output = EngineResult<T>>) -> EngineResult<T> {
    match tokio::time::timeout(ANSWER_LIMIT, work).await {
        Ok(result) => result,
        Err(_) => Err(EngineError::Connection(Failure::new(
            ErrorCode::ShardUnreachable,
            format!("the shard's server gave no answer for {} s", ANSWER_LIMIT.as_secs()),
            "look whether the shard's server runs and can be reached from the worker",
        ))),
    }
}

/// The server's time limit as a field of a command.
pub(super) fn limited(mut command: Document, limit: Duration) -> Document {
    command.insert("maxTimeMS", i64::try_from(limit.as_millis()).unwrap_or(i64::MAX));
    command
}

/// Hint for the index that every collection has.
pub(super) fn by_id() -> mongodb::options::Hint {
    mongodb::options::Hint::Keys(doc! { "_id": 1 })
}

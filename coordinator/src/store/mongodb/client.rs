//! Transactions: majority in both directions, bounded in time, one session that a successor can end.

use std::fmt;
use std::time::Duration;

use mongodb::error::{Error, TRANSIENT_TRANSACTION_ERROR};
use mongodb::options::{ReadConcern, ReadPreference, SelectionCriteria, TransactionOptions, WriteConcern};
use mongodb::{ClientSession, Database};
use shardlift_domain::Fence;
use shardlift_runtime::retry::{Delays, Policy};
use tokio::sync::Mutex;

use super::super::error::{ANSWER, answered};
use super::super::{Change, StoreError};
use super::{fence, write};

/// How long the server may work on one command: it gives up before we do.
pub(super) const COMMAND: Duration = Duration::from_millis(4500);

/// A transaction that met another one is tried again: it can only be a lost one of this coordinator, which ends soon, or
/// a take-over, which the next try sees.
const CONFLICTS: Policy = Policy {
    first: Duration::from_millis(5),
    longest: Duration::from_millis(200),
    total: Some(Duration::from_secs(4)),
};

/// The session of all commits of one leadership. It is told to the fence document, so that a successor can end a
/// transaction that its leader left open; a session that was left in the middle of something is not used again.
#[derive(Default)]
pub(super) struct Writer {
    session: Mutex<Option<(Fence, ClientSession)>>,
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

impl Writer {
    /// One change, all of it or nothing.
    pub(super) async fn commit(
        &self,
        database: &Database,
        held: &Fence,
        change: &Change,
    ) -> Result<(), StoreError> {
        let waiting = tokio::time::timeout(ANSWER, self.session.lock());
        let mut slot = waiting.await.map_err(|_| StoreError::silent("wait for its session"))?;
        let mut session = match slot.take() {
            Some((fence, session)) if fence == *held => session,
            // A take-over has forgotten the session of an earlier leadership, also of one of this coordinator.
            _ => bound(database, held).await?,
        };
        let mut delays = Delays::new(&CONFLICTS);
        let made = loop {
            begin(&mut session).await?;
            let Err(error) = attempt(database, &mut session, held, change).await else { break Ok(()) };
            // Whatever it was, the transaction is over; the server ends it by itself if this does not reach it.
            answered("end a transaction", session.abort_transaction()).await?;
            match delays.next() {
                Some(pause) if conflicted(&error) => tokio::time::sleep(pause).await,
                _ => break Err(error),
            }
        };
        if made.is_ok() {
            fail::fail_point!("store-before-commit", |_| std::process::abort());
            answered("commit", session.commit_transaction()).await?;
            fail::fail_point!("store-after-commit", |_| std::process::abort());
        }
        *slot = Some((held.clone(), session));
        made
    }
}

/// A new session, known to whoever takes over.
async fn bound(database: &Database, held: &Fence) -> Result<ClientSession, StoreError> {
    let session = answered("open a session", database.client().start_session()).await?;
    fence::bind(database, held, session.id()).await?;
    Ok(session)
}

/// Begins a transaction: one snapshot that a majority holds, and a commit that a majority acknowledges.
pub(super) async fn begin(session: &mut ClientSession) -> Result<(), StoreError> {
    let options = TransactionOptions::builder()
        .read_concern(ReadConcern::snapshot())
        .write_concern(WriteConcern::majority())
        .selection_criteria(SelectionCriteria::ReadPreference(ReadPreference::Primary))
        .max_commit_time(COMMAND)
        .build();
    answered("begin", session.start_transaction().with_options(options)).await
}

async fn attempt(
    database: &Database,
    session: &mut ClientSession,
    held: &Fence,
    change: &Change,
) -> Result<(), StoreError> {
    let (number, head) = fence::hold(database, session, held).await?;
    write::apply(database, session, (number, held.epoch, head), change).await
}

/// Whether a transaction was ended by another one.
fn conflicted(error: &StoreError) -> bool {
    let StoreError::Unavailable { source, .. } = error else { return false };
    let told = source.downcast_ref::<Error>();
    told.is_some_and(|error| error.contains_label(TRANSIENT_TRANSACTION_ERROR) && code(error) == Some(112))
}

/// The server's number of an error (MongoDB, `error_codes.yml`).
pub(super) fn code(error: &Error) -> Option<i32> {
    use mongodb::error::{ErrorKind, WriteFailure};
    match error.kind.as_ref() {
        ErrorKind::Command(command) => Some(command.code),
        ErrorKind::Write(WriteFailure::WriteError(write)) => Some(write.code),
        ErrorKind::InsertMany(many) => many.write_errors.as_ref()?.first().map(|write| write.code),
        _ => None,
    }
}

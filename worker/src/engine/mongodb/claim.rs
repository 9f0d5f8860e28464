//! Taking a range over: one conditional write that raises its token, and the end of whoever had it before.

use bson::{Bson, Document, doc};
use mongodb::ClientSession;
use mongodb::options::ReturnDocument;
use shardlift_domain::{ErrorCode, Failure};
use uuid::Uuid;

use super::checkpoint::{self, Checkpoint};
use super::connection::{Books, Connection};
use super::error::{self, Cause};
use super::transaction::COMMAND_LIMIT;
use super::{defect, fence, ledger};
use crate::engine::{DataJob, EngineError, EngineResult};
use crate::lease::TaskLease;

/// A range that is ours until somebody claims it with a larger token, or we claim it again.
pub(super) struct Claimed {
    pub(super) checkpoint: Checkpoint,
    /// What a batch's checkpoint write is conditioned on, beside the last key.
    pub(super) condition: Document,
}

/// Claims the range of the lease's task for this session.
///
/// The claim is a single write to the checkpoint document, acknowledged by a majority: it conflicts with a batch of the
/// former owner that is about to commit, so that what it reads is the truth. A batch that has not reached its
/// checkpoint write will find the claim there, and fail.
pub(super) async fn claim(
    connection: &Connection,
    books: &Books,
    session: &ClientSession,
    lease: &TaskLease,
    job: &DataJob,
) -> EngineResult<Claimed> {
    let range = lease.task().range.ok_or_else(|| defect("a backfill task names no range"))?;
    let id = checkpoint::range_id(books, &lease.task().migration, range);
    fence::admit(books, lease.leader()).await?;
    end_former_owner(connection, books, session, &id, lease).await?;
    let (epoch, attempt) = checkpoint::token(lease.token());
    let name = Uuid::new_v4().to_string();
    let older = doc! { "_id": &id, "$or": [
        { "epoch": { "$lt": epoch } },
        { "epoch": epoch, "attempt": { "$lte": attempt } },
    ] };
    let take = doc! { "$set": {
        "epoch": epoch, "attempt": attempt, "claim": &name, "session": session.id(),
    } };
    let checkpoints = books.checkpoint();
    let taken = checkpoints.find_one_and_update(older, take).return_document(ReturnDocument::After);
    let taken = taken.max_time(COMMAND_LIMIT).await.map_err(error::asking("claiming a range"))?;
    let checkpoint = Checkpoint::read(&taken.ok_or(EngineError::LeaseLost)?)?;
    if checkpoint.checksum != job.spec.checksum.as_str() {
        return Err(EngineError::Failed(ledger::conflict(&lease.task().migration)));
    }
    let condition = doc! { "_id": id, "epoch": epoch, "attempt": attempt, "claim": name };
    Ok(Claimed { checkpoint, condition })
}

/// Kills the session of a former owner that may still hold documents of the range in an open transaction. As far as the
/// privileges go: every user may kill the sessions of its own. Without it the server ends the transaction after its
/// lifetime limit.
async fn end_former_owner(
    connection: &Connection,
    books: &Books,
    session: &ClientSession,
    id: &Document,
    lease: &TaskLease,
) -> EngineResult<()> {
    let found = books.checkpoint().find_one(doc! { "_id": id }).await;
    let found = found.map_err(error::asking("reading a checkpoint"))?;
    let found = found.ok_or_else(|| {
        EngineError::Failed(Failure::new(
            ErrorCode::ShardRefused,
            "the shard has no checkpoint of this range",
            "if Shardlift's collections were dropped, restore them from a backup; else retry the migration",
        ))
    })?;
    let former = Checkpoint::read(&found)?;
    if former.token > checkpoint::token(lease.token()) {
        return Err(EngineError::LeaseLost);
    }
    if let Some(owner) = former.session.filter(|owner| owner != session.id()) {
        let kill = doc! { "killSessions": [Bson::Document(owner)] };
        if let Err(error) = connection.admin(kill).await {
            let cause = Cause::from(&error);
            tracing::warn!(code = cause.code, "the former owner's session could not be ended");
        }
    }
    Ok(())
}

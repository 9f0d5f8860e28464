//! Changes inside a batch's transaction: the one `update` command, and the search for what is still pending.

use bson::{Bson, Document, RawArrayBuf, RawDocumentBuf, doc};
use mongodb::{ClientSession, Collection, Database};
use shardlift_domain::{ErrorCode, Failure};

use super::bracket;
use super::capture::{Found, Images};
use super::error::{self, Cause};
use super::transaction::{COMMAND_LIMIT, by_id, limited};
use crate::engine::{EngineError, EngineResult};

/// Both conditions, or the first alone.
pub(super) fn both(window: &Document, pending: Option<&Document>) -> Document {
    match pending {
        Some(pending) => doc! { "$and": [window, pending] },
        None => window.clone(),
    }
}

/// Runs update statements in order and answers how many documents they matched. A statement that fails is an error of
/// a document.
pub(super) async fn update(
    session: &mut ClientSession,
    database: &Database,
    collection: &str,
    statements: &[RawDocumentBuf],
) -> EngineResult<u64> {
    let command = limited(doc! { "update": collection, "ordered": true }, COMMAND_LIMIT);
    let mut command = RawDocumentBuf::try_from(&command).map_err(too_large)?;
    let mut updates = RawArrayBuf::new();
    for statement in statements {
        updates.push(statement.clone());
    }
    command.append(bson::raw::cstr!("updates"), updates);
    let reply = database.run_raw_command(command).session(session).await;
    let reply = reply.map_err(|error| error::rejection(&Cause::from(&error)))?;
    if let Some(Bson::Document(first)) = reply.get_array("writeErrors").ok().and_then(|errors| errors.first())
    {
        return Err(error::rejection(&Cause::of_write_error(first)));
    }
    Ok(reply.get("n").and_then(count).unwrap_or(0))
}

/// Changes the documents that the filter finds by a pipeline, and answers how many there were. Meanwhile the worker makes the
/// before-images of those that it has found.
pub(super) async fn by_pipeline(
    session: &mut ClientSession,
    collection: &Collection<RawDocumentBuf>,
    database: &Database,
    (filter, pipeline): (Document, &[Document]),
    found: Option<Found>,
) -> EngineResult<(u64, Option<Images>)> {
    let statement = doc! { "q": filter, "u": pipeline, "multi": true, "hint": { "_id": 1 } };
    let statement = [RawDocumentBuf::try_from(&statement).map_err(too_large)?];
    let update = update(session, database, collection.name(), &statement);
    let Some(found) = found else { return Ok((update.await?, None)) };
    let (changed, images) = tokio::join!(update, found.images());
    Ok((changed?, Some(images?)))
}

/// A document that cannot be sent as it is.
pub(super) fn too_large(_: bson::error::Error) -> EngineError {
    EngineError::Row(Failure::new(
        ErrorCode::RowRejected,
        "a changed document cannot be written as BSON",
        "mend the document or the transform, then retry the migration",
    ))
}

fn count(value: &Bson) -> Option<u64> {
    match value {
        Bson::Int32(number) => u64::try_from(*number).ok(),
        Bson::Int64(number) => u64::try_from(*number).ok(),
        _ => None,
    }
}

/// Fails with the first document of the window that is pending although it was changed. The transaction reads its own
/// writes, and in its snapshot every pending document of the window was changed.
pub(super) async fn none_pending(
    session: &mut ClientSession,
    collection: &Collection<Document>,
    filter: Document,
) -> EngineResult<()> {
    let found = collection
        .find_one(filter)
        .projection(doc! { "_id": 1 })
        .hint(by_id())
        .max_time(COMMAND_LIMIT)
        .session(session)
        .await
        .map_err(error::asking("looking for documents that are still pending"))?;
    match found.as_ref().and_then(|document| document.get("_id")) {
        None => Ok(()),
        Some(key) => Err(EngineError::Row(
            Failure::new(
                ErrorCode::RowStillPending,
                "the document was changed but `where` still finds it",
                "let the transform turn `where` false for every document it changes; submit the spec again",
            )
            .at_key(bracket::text(key)),
        )),
    }
}

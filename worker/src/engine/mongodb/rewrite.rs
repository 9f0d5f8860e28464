//! Transforms that run in the worker: read the window's documents in the batch's transaction, transform, write back
//! what differs. A document that somebody else changes meanwhile is a write conflict: the whole transaction is done
//! again, from the reading on.

use bson::{Bson, Document, RawDocumentBuf, doc};
use mongodb::{ClientSession, Collection, Database};
use shardlift_domain::spec::Undo;
use shardlift_domain::{ErrorCode, Failure};

use super::bracket;
use super::capture::{Fields, Images};
use super::change;
use super::diff::{Write, difference};
use super::error;
use super::image::image_of;
use super::transaction::{COMMAND_LIMIT, by_id};
use super::{change::update, defect};
use crate::engine::{EngineError, EngineResult};
use crate::transformer::Transformer;

/// Most bytes of documents that are read in one batch (one document is always read).
const BYTES_READ: usize = 32 << 20;
/// Most bytes of one `update` command; the server takes 16 MiB.
const BYTES_SENT: usize = 12 << 20;
/// Most statements of one `update` command.
const STATEMENTS: usize = 10_000;
/// Documents between two chances for other tasks of the worker.
const TURN: u64 = 64;

/// What a window's documents became.
pub(super) struct Rewritten {
    /// Documents that went through the transform.
    pub(super) changed: u64,
    /// The last key that was read, if the rest of the window was too large for one batch.
    pub(super) cut: Option<Bson>,
    /// The documents as they were, and which of their fields were changed; only if they are to be kept.
    pub(super) images: Option<Images>,
}

/// Rewrites the documents that `filter` finds, in the order of their keys.
pub(super) async fn rewrite(
    session: &mut ClientSession,
    database: &Database,
    collection: &Collection<RawDocumentBuf>,
    transformer: &dyn Transformer,
    filter: Document,
    undo: Undo,
) -> EngineResult<Rewritten> {
    let doing = "reading documents";
    let find = collection.find(filter).sort(doc! { "_id": 1 }).hint(by_id()).batch_size(10_000);
    let mut cursor =
        find.max_time(COMMAND_LIMIT).session(&mut *session).await.map_err(error::asking(doing))?;
    let (mut read, mut changed, mut last, mut cut) = (0, 0, Bson::Null, None);
    let mut statements = Statements::default();
    let (mut fields, mut olds) = (Fields::Named(Vec::new()), Vec::new());
    while let Some(next) = cursor.next(&mut *session).await {
        let raw = next.map_err(error::asking(doing))?;
        read += raw.as_bytes().len();
        if read > BYTES_READ && changed > 0 {
            cut = Some(last);
            break;
        }
        let document = Document::try_from(raw.as_ref())
            .map_err(|_| defect("a document of the shard is not valid BSON"))?;
        last = document.get("_id").cloned().unwrap_or(Bson::Null);
        if let Some(change) = transformed(transformer, &document, &last)? {
            statements.add(statement(&last, &change)?);
            if undo == Undo::Capture {
                fields = fields.with(Fields::of_update(&change));
                olds.push(raw);
            }
        }
        changed += 1;
        if changed % TURN == 0 {
            tokio::task::yield_now().await;
        }
    }
    drop(cursor);
    for part in statements.parts {
        let matched = update(session, database, collection.name(), &part.statements).await;
        if matched? != part.statements.len() as u64 {
            return Err(defect("a document of a batch's snapshot was not found again"));
        }
    }
    let images = match undo {
        Undo::None => None,
        Undo::Capture => Some(Images::of(fields, &olds)?),
    };
    Ok(Rewritten { changed, cut, images })
}

/// Statements, divided into commands that the server takes.
#[derive(Default)]
struct Statements {
    parts: Vec<Part>,
}

#[derive(Default)]
struct Part {
    statements: Vec<RawDocumentBuf>,
    bytes: usize,
}

impl Statements {
    fn add(&mut self, statement: RawDocumentBuf) {
        let bytes = statement.as_bytes().len();
        let room = |part: &Part| part.bytes + bytes <= BYTES_SENT && part.statements.len() < STATEMENTS;
        if !self.parts.last().is_some_and(room) {
            self.parts.push(Part::default());
        }
        if let Some(part) = self.parts.last_mut() {
            part.bytes += bytes;
            part.statements.push(statement);
        }
    }
}

/// The change that makes the document what the transform made of it; `None` if it changed nothing.
fn transformed(
    transformer: &dyn Transformer,
    document: &Document,
    key: &Bson,
) -> EngineResult<Option<Document>> {
    let rejected = |message: String| {
        let next = "mend the transform or the document, then retry the migration";
        EngineError::Row(Failure::new(ErrorCode::RowTransform, message, next).at_key(bracket::text(key)))
    };
    let mut new = image_of(document);
    transformer.transform(&mut new).map_err(|error| rejected(error.message))?;
    let write = difference(document, &new).map_err(|_| rejected("the transform changed _id".to_owned()))?;
    Ok(match write {
        Write::Nothing => None,
        Write::Fields(change) | Write::Whole(change) => Some(change),
    })
}

fn statement(key: &Bson, change: &Document) -> EngineResult<RawDocumentBuf> {
    let statement = doc! { "q": { "_id": { "$eq": key } }, "u": change };
    RawDocumentBuf::try_from(&statement).map_err(change::too_large)
}

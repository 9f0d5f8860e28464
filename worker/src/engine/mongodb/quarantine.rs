//! Documents that were set aside: how one is, what a person may ask about them, and decide.
//!
//! ```text
//! quarantine         _id {db, migration, version, key}; db, migration, version the same, for the index
//!                    shown, state, class, message, attempts, at; bytes of the image
//!                    state: held (waits for a decision), retried (pending again; keeps its count), discarded (for good)
//! quarantine_image   _id {of: that _id, part}, bytes: the document as it was, in pieces: it may be as large as a
//!                    document can be
//! ```

use bson::spec::BinarySubtype;
use bson::{Binary, Bson, Document, RawDocument, RawDocumentBuf, doc};
use futures::TryStreamExt;
use mongodb::ClientSession;
use shardlift_domain::Failure;
use shardlift_domain::fence::Fence;
use shardlift_domain::ids::MigrationKey;
use shardlift_domain::quarantine::{
    Held, IMAGE_PART, QUARANTINE_PAGE, QuarantineAnswer, QuarantineAsk, QuarantineRequest, QuarantinedRow,
};

use super::connection::{Books, Connection};
use super::fence::number;
use super::transaction::{abandon, answered, begin, commit, session};
use super::{bracket, defect, error, fence, ledger};
use crate::engine::{DataJob, EngineError, EngineResult, not_in_quarantine, over_budget};
use crate::lease::TaskLease;

/// Bytes of a document in one piece.
const PIECE: usize = 8 << 20;
const DOING: &str = "reading the quarantine";

/// The keys of the documents that are left alone: at most the budget, and those that were given up.
async fn keys(books: &Books, migration: &MigrationKey) -> EngineResult<Vec<Bson>> {
    let mut alone = ledger::name(books, migration);
    alone.insert("state", doc! { "$ne": "retried" });
    let found = books.quarantine().find(alone).projection(doc! { "_id": 1 }).await;
    let found: Vec<Document> =
        found.map_err(error::asking(DOING))?.try_collect().await.map_err(error::asking(DOING))?;
    let key = |entry: &Document| entry.get_document("_id").ok()?.get("key").cloned();
    Ok(found.iter().filter_map(key).collect())
}

/// A condition that leaves alone what is set aside. Without `where` no document is looked at twice.
pub(super) async fn left_alone(
    books: &Books,
    lease: &TaskLease,
    job: &DataJob,
) -> EngineResult<Option<Document>> {
    if job.data.on_error.budget().is_none() || job.data.source.pending.is_none() {
        return Ok(None);
    }
    let keys = keys(books, &lease.task().migration).await?;
    Ok((!keys.is_empty()).then(|| doc! { "_id": { "$nin": keys } }))
}

/// Writes one document, as it is now, inside the open transaction; answers how many are held then. Whoever else sets one
/// aside meanwhile conflicts: the caller holds the fence.
pub(super) async fn write(
    books: &Books,
    session: &mut ClientSession,
    migration: &MigrationKey,
    image: &RawDocument,
    why: &Failure,
    budget: u32,
) -> EngineResult<Held> {
    let before = held_in(books, session, migration).await?;
    if before.rows >= u64::from(budget) {
        return Err(over_budget(before.rows, budget));
    }
    let key = Document::try_from(image).ok().and_then(|mut document| document.remove("_id"));
    let key = key.ok_or_else(|| defect("a document of the shard is not valid BSON"))?;
    let mut id = ledger::name(books, migration);
    id.insert("key", &key);
    let doing = "setting a document aside";
    let former = books.quarantine().find_one(doc! { "_id": &id }).session(&mut *session).await;
    let former = former.map_err(error::asking(doing))?;
    if let Some(former) = &former {
        forget_image(books, session, &id, former).await?;
    }
    let attempts = former.and_then(|former| former.get_i64("attempts").ok()).unwrap_or_default();
    let mut entry = doc! { "_id": &id };
    entry.extend(ledger::name(books, migration));
    entry.extend(doc! {
        "shown": bracket::text(&key), "state": "held", "class": why.code.as_str(), "message": &why.message,
        "attempts": attempts + 1, "at": bson::DateTime::now(), "bytes": number(image.as_bytes().len() as u64),
    });
    let entries = books.quarantine();
    let written = entries.replace_one(doc! { "_id": &id }, entry).upsert(true).session(&mut *session);
    written.await.map_err(error::asking(doing))?;
    for (part, bytes) in (0_i64..).zip(image.as_bytes().chunks(PIECE)) {
        let bytes = Binary { subtype: BinarySubtype::Generic, bytes: bytes.to_vec() };
        let piece = doc! { "_id": { "of": &id, "part": part }, "bytes": bytes };
        let written = books.quarantine_image().insert_one(piece).session(&mut *session).await;
        written.map_err(error::asking(doing))?;
    }
    Ok(Held { rows: before.rows + 1, ..before })
}

async fn forget_image(
    books: &Books,
    session: &mut ClientSession,
    id: &Document,
    former: &Document,
) -> EngineResult<()> {
    let pieces: Vec<Document> = (0..pieces(former)).map(|part| doc! { "of": id, "part": part }).collect();
    let gone = books.quarantine_image().delete_many(doc! { "_id": { "$in": pieces } }).session(session).await;
    gone.map(drop).map_err(error::asking("replacing a before-image"))
}

fn pieces(entry: &Document) -> i64 {
    let bytes = usize::try_from(entry.get_i64("bytes").unwrap_or_default()).unwrap_or_default();
    i64::try_from(bytes.div_ceil(PIECE)).unwrap_or_default()
}

/// How many documents of the migration are set aside, as the transaction sees it.
async fn held_in(books: &Books, session: &mut ClientSession, migration: &MigrationKey) -> EngineResult<Held> {
    let mut count = async |state: &str| {
        let mut of = ledger::name(books, migration);
        of.insert("state", state);
        let counted = books.quarantine().count_documents(of).session(&mut *session).await;
        counted.map_err(error::asking("counting the quarantine"))
    };
    Ok(Held { rows: count("held").await?, discarded: count("discarded").await? })
}

/// Answers a question, or carries out a decision.
pub(super) async fn answer(
    connection: &Connection,
    leader: &Fence,
    request: &QuarantineRequest,
) -> EngineResult<QuarantineAnswer> {
    let books = connection.books().await?;
    let migration = &request.migration;
    match &request.ask {
        QuarantineAsk::List { after, limit } => list(&books, migration, after.as_deref(), *limit).await,
        QuarantineAsk::Show { key, offset } => show(&books, migration, key, *offset).await,
        QuarantineAsk::Retry(keys) => decide(connection, leader, migration, keys, "retried").await,
        QuarantineAsk::Discard(keys) => decide(connection, leader, migration, keys, "discarded").await,
    }
}

async fn list(
    books: &Books,
    migration: &MigrationKey,
    after: Option<&str>,
    limit: u32,
) -> EngineResult<QuarantineAnswer> {
    let limit = limit.clamp(1, QUARANTINE_PAGE);
    let mut wanted = ledger::name(books, migration);
    wanted.insert("state", doc! { "$ne": "retried" });
    if let Some(after) = after {
        wanted.insert("shown", doc! { "$gt": after });
    }
    let found = books.quarantine().find(wanted).sort(doc! { "shown": 1 }).limit(i64::from(limit) + 1).await;
    let found: Vec<Document> =
        found.map_err(error::asking(DOING))?.try_collect().await.map_err(error::asking(DOING))?;
    let mut rows: Vec<QuarantinedRow> = found.iter().map(entry).collect();
    let more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    let next = rows.last().filter(|_| more).map(|row| row.key.clone());
    Ok(QuarantineAnswer::Page { rows, next })
}

fn entry(entry: &Document) -> QuarantinedRow {
    let text = |field| entry.get_str(field).unwrap_or_default().to_owned();
    let at = entry.get_datetime("at").ok().and_then(|at| at.try_to_rfc3339_string().ok());
    QuarantinedRow {
        key: text("shown"),
        class: text("class"),
        message: text("message"),
        attempts: u32::try_from(entry.get_i64("attempts").unwrap_or_default()).unwrap_or_default(),
        discarded: matches!(entry.get_str("state"), Ok("discarded")),
        at: at.unwrap_or_default(),
    }
}

async fn show(
    books: &Books,
    migration: &MigrationKey,
    key: &str,
    offset: u64,
) -> EngineResult<QuarantineAnswer> {
    let mut wanted = ledger::name(books, migration);
    wanted.extend(doc! { "shown": key, "state": { "$ne": "retried" } });
    let found = books.quarantine().find_one(wanted).await.map_err(error::asking(DOING))?;
    let found = found.ok_or_else(|| not_in_quarantine(&[key.to_owned()]))?;
    let id = found.get_document("_id").cloned().unwrap_or_default();
    let mut image = Vec::new();
    for part in 0..pieces(&found) {
        let piece = books.quarantine_image().find_one(doc! { "_id": { "of": &id, "part": part } }).await;
        let piece = piece.map_err(error::asking(DOING))?.unwrap_or_default();
        image.extend_from_slice(piece.get_binary_generic("bytes").map_or(&[], Vec::as_slice));
    }
    let image = RawDocumentBuf::from_bytes(image).ok().and_then(|raw| Document::try_from(raw.as_ref()).ok());
    let image = image.ok_or_else(|| defect("a before-image of the shard cannot be read"))?;
    let text = Bson::Document(image).into_canonical_extjson();
    let text = serde_json::to_vec_pretty(&text).map_err(|_| defect("a before-image is no JSON"))?;
    let from = usize::try_from(offset).unwrap_or(usize::MAX).min(text.len());
    let to = from.saturating_add(usize::try_from(IMAGE_PART).unwrap_or(usize::MAX)).min(text.len());
    Ok(QuarantineAnswer::Image { bytes: text[from..to].to_vec(), total: text.len() as u64 })
}

/// For all of these documents or, if one is not there, for none.
async fn decide(
    connection: &Connection,
    leader: &Fence,
    migration: &MigrationKey,
    keys: &[String],
    to: &str,
) -> EngineResult<QuarantineAnswer> {
    let books = connection.books().await?;
    fence::admit(&books, leader).await?;
    let mut session = session(connection).await?;
    answered(async {
        begin(&mut session).await?;
        match decide_inside(&books, &mut session, leader, migration, keys, to).await {
            Ok(answer) => commit(&mut session).await.map(|()| answer),
            Err(error) => {
                abandon(&mut session).await;
                Err(error)
            }
        }
    })
    .await
}

async fn decide_inside(
    books: &Books,
    session: &mut ClientSession,
    leader: &Fence,
    migration: &MigrationKey,
    keys: &[String],
    to: &str,
) -> EngineResult<QuarantineAnswer> {
    fence::hold(books, session, leader).await?;
    let mut wanted = ledger::name(books, migration);
    wanted.insert("state", "held");
    if !keys.is_empty() {
        wanted.insert("shown", doc! { "$in": keys });
    }
    let there = books.quarantine().distinct("shown", wanted.clone()).session(&mut *session).await;
    let there = there.map_err(error::asking(DOING))?;
    let lacks = |key: &&String| !there.iter().any(|shown| shown.as_str() == Some(key.as_str()));
    let missing: Vec<String> = keys.iter().filter(lacks).cloned().collect();
    if !missing.is_empty() {
        return Err(not_in_quarantine(&missing));
    }
    let moved =
        books.quarantine().update_many(wanted, doc! { "$set": { "state": to } }).session(&mut *session).await;
    let rows = moved.map_err(error::asking("deciding about documents in quarantine"))?.matched_count;
    Ok(QuarantineAnswer::Decided { rows, held: held_in(books, session, migration).await? })
}

/// A conflict with other work on the fence is no answer for a person: it is tried again a few times.
pub(super) async fn patiently(
    connection: &Connection,
    leader: &Fence,
    request: &QuarantineRequest,
) -> EngineResult<QuarantineAnswer> {
    const TRIES: u32 = 8;
    for _ in 1..TRIES {
        match answer(connection, leader, request).await {
            Err(EngineError::Contended(_)) => tokio::task::yield_now().await,
            other => return other,
        }
    }
    answer(connection, leader, request).await
}

//! What the leader asks about digests while it compares shards, and their end.

use bson::{Bson, Document, doc};
use futures::TryStreamExt;
use shardlift_domain::fence::Fence;
use shardlift_domain::unique::{
    Collected, Counted, Digest, DigestSlice, KeyedDigest, UniqueAnswer, UniqueAsk, UniqueRequest,
};

use super::collect::Subject;
use super::collection::{Held, bytes, clear_some, give_up};
use crate::engine::mongodb::connection::{Books, Connection};
use crate::engine::mongodb::transaction::{COMMAND_LIMIT, answered, by_id};
use crate::engine::mongodb::{bracket, error, fence};
use crate::engine::unique::incomplete;
use crate::engine::{DataJob, EngineResult};

const DOING: &str = "reading digests";
/// Documents of one digest that are told: who asks names some of each.
const ROWS: usize = 5;

/// Answers one question.
pub(in crate::engine::mongodb) async fn answer(
    connection: &Connection,
    leader: &Fence,
    request: &UniqueRequest,
    job: &DataJob,
) -> EngineResult<UniqueAnswer> {
    let (books, migration) = (connection.books().await?, &request.migration);
    if request.ask == UniqueAsk::Clear {
        fence::admit(&books, leader).await?;
        answered(give_up(connection, &books, migration)).await?;
        return answered(clear_some(&books, migration)).await.map(UniqueAnswer::Cleared);
    }
    let held = answered(Held::of(&books, migration)).await?;
    let held = held.filter(|held| held.done).ok_or_else(|| incomplete(&connection.shard))?;
    match &request.ask {
        UniqueAsk::Slice(slice) => answered(slice_of(&books, &held, *slice)).await.map(UniqueAnswer::Slice),
        UniqueAsk::Rows(digests) => {
            let subject = answered(Subject::new(connection, &books, migration, job)).await?;
            answered(rows(&books, &held, &subject, digests)).await.map(UniqueAnswer::Rows)
        }
        UniqueAsk::Summary | UniqueAsk::Clear => {
            Ok(UniqueAnswer::Summary(Collected { digests: held.digests, form: held.form }))
        }
    }
}

/// Each digest once: its documents lie beside each other.
async fn slice_of(books: &Books, held: &Held, slice: DigestSlice) -> EngineResult<Vec<Counted>> {
    let from = doc! { "c": held.id, "d": bytes(slice.from) };
    let below = doc! { "c": held.id, "d": slice.below.map_or(Bson::MaxKey, bytes) };
    let digests = books.collected();
    let found = digests.find(doc! { "_id": { "$gte": from, "$lt": below } }).sort(doc! { "_id": 1 });
    let mut found = found.hint(by_id()).max_time(COMMAND_LIMIT).await.map_err(error::asking(DOING))?;
    let mut counted: Vec<Counted> = Vec::new();
    while let Some(document) = found.try_next().await.map_err(error::asking(DOING))? {
        let Some(digest) = digest(&document) else { continue };
        let full = counted.len() >= slice.limit as usize;
        match counted.last_mut().filter(|last| last.digest == digest) {
            Some(last) => last.rows += 1,
            None if full => break,
            None => counted.push(Counted { digest, rows: 1 }),
        }
    }
    Ok(counted)
}

/// The documents that have these digests now: what was changed or deleted since it was walked over has another one, or none.
async fn rows(
    books: &Books,
    held: &Held,
    subject: &Subject,
    digests: &[Digest],
) -> EngineResult<Vec<KeyedDigest>> {
    let mut rows = Vec::new();
    for digest in digests {
        let here = doc! { "c": held.id, "d": bytes(*digest) };
        let behind = doc! { "c": held.id, "d": bytes(*digest), "n": Bson::MaxKey };
        let kept = books.collected();
        let kept = kept.find(doc! { "_id": { "$gte": here, "$lt": behind } }).hint(by_id());
        let mut kept = kept.max_time(COMMAND_LIMIT).await.map_err(error::asking(DOING))?;
        let mut told = 0;
        while told < ROWS
            && let Some(document) = kept.try_next().await.map_err(error::asking(DOING))?
        {
            let Some((check, key)) = place(&document) else { continue };
            let source = subject.documents.find_one(doc! { "_id": { "$eq": key } });
            let source = source.projection(subject.fields.projection()).max_time(COMMAND_LIMIT).await;
            let now = source.map_err(error::asking(DOING))?;
            let now = now.and_then(|document| subject.fields.digests(&document).ok()).unwrap_or_default();
            if now.contains(&(check, *digest)) {
                let check = u32::try_from(check).unwrap_or_default();
                rows.push(KeyedDigest { digest: *digest, check, key: bracket::text(key) });
                told += 1;
            }
        }
    }
    Ok(rows)
}

fn digest(document: &Document) -> Option<Digest> {
    let bytes = document.get_document("_id").ok()?.get_binary_generic("d").ok()?;
    <[u8; 16]>::try_from(bytes.as_slice()).ok().map(Digest::from_be_bytes)
}

fn place(document: &Document) -> Option<(i32, &Bson)> {
    let id = document.get_document("_id").ok()?;
    Some((id.get_i32("n").ok()?, id.get("k")?))
}

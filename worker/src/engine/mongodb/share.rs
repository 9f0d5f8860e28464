//! Splitting off the later part of a running range.
//!
//! The cut is looked up before the transaction, in the index of keys only: the key `least` places ahead is one end of
//! what may be cut, the upper key the other, and between them the median of a random sample is taken.

use bson::{Bson, Document, doc};
use futures::TryStreamExt;
use mongodb::options::ReadConcern;
use mongodb::{ClientSession, Collection};
use shardlift_domain::range::{RangeState, Rest};

use super::bracket::{Bracket, Lower, window};
use super::checkpoint::{self, Layout, wrapped};
use super::connection::Books;
use super::transaction::{abandon, begin, by_id, commit};
use super::{defect, error, fence};
use crate::engine::{EngineError, EngineResult};
use crate::lease::TaskLease;

/// Keys of a random sample of the whole collection. Of a collection twenty times larger the server draws it by random
/// hops, else it looks at all of its few documents.
const SAMPLE: i64 = 1_000;
/// How long the looks may take in the server.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(2);
const DOING: &str = "looking up where to split a range";

/// Where the range is cut: everything after this key is split off.
pub(super) async fn cut(
    documents: &Collection<Document>,
    lower: &Lower,
    upper: &Bson,
    least: u32,
) -> EngineResult<Option<Bson>> {
    if Bracket::of(upper) == Bracket::Single {
        return Ok(None);
    }
    let Some(near) = ahead(documents, lower, upper, least).await? else { return Ok(None) };
    // As much again must follow, or the part is not worth a claim of its own.
    let after = Lower::After(near.clone());
    if ahead(documents, &after, upper, least).await?.is_none() {
        return Ok(None);
    }
    if let Some(middle) = middle(documents, &after, upper).await? {
        // A sampled key may be the last there is: then nothing would be split off.
        if ahead(documents, &Lower::After(middle.clone()), upper, 1).await?.is_some() {
            return Ok(Some(middle));
        }
    }
    Ok(Some(near))
}

/// The key so many places further on, within the range. The number is bounded by the caller.
async fn ahead(
    documents: &Collection<Document>,
    lower: &Lower,
    upper: &Bson,
    places: u32,
) -> EngineResult<Option<Bson>> {
    let found = documents
        .find_one(window(lower, upper))
        .projection(doc! { "_id": 1 })
        .sort(doc! { "_id": 1 })
        .hint(by_id())
        .skip(u64::from(places.max(1) - 1))
        .max_time(PATIENCE)
        .read_concern(ReadConcern::local())
        .await
        .map_err(error::asking(DOING))?;
    Ok(found.and_then(|mut document| document.remove("_id")))
}

/// The median of the sampled keys between two.
async fn middle(documents: &Collection<Document>, lower: &Lower, upper: &Bson) -> EngineResult<Option<Bson>> {
    let pipeline = [
        doc! { "$sample": { "size": SAMPLE } },
        doc! { "$project": { "_id": 1 } },
        doc! { "$match": window(lower, upper) },
        doc! { "$sort": { "_id": 1 } },
    ];
    let sampled = documents.aggregate(pipeline).max_time(PATIENCE).batch_size(10_000).await;
    let sampled: Vec<Document> =
        sampled.map_err(error::asking(DOING))?.try_collect().await.map_err(error::asking(DOING))?;
    let middle = sampled.len().saturating_sub(1) / 2;
    Ok(sampled.into_iter().nth(middle).and_then(|mut document| document.remove("_id")))
}

/// What is divided, and on which condition.
pub(super) struct Held<'a> {
    pub(super) books: &'a Books,
    /// Token and claim.
    pub(super) condition: &'a Document,
    pub(super) checkpoint: &'a checkpoint::Checkpoint,
}

/// Cuts the range, in one transaction.
pub(super) async fn divide(
    session: &mut ClientSession,
    lease: &TaskLease,
    held: &Held<'_>,
    cut: &Bson,
) -> EngineResult<Rest> {
    begin(session).await?;
    match divide_in_transaction(session, lease, held, cut).await {
        Ok(rest) => {
            fail::fail_point!("mg-share-before-commit", |_| std::process::abort());
            commit(session).await?;
            fail::fail_point!("mg-share-after-commit", |_| std::process::abort());
            Ok(rest)
        }
        Err(error) => {
            abandon(session).await;
            Err(error)
        }
    }
}

async fn divide_in_transaction(
    session: &mut ClientSession,
    lease: &TaskLease,
    held: &Held<'_>,
    cut: &Bson,
) -> EngineResult<Rest> {
    let Held { books, condition, checkpoint } = held;
    // A write: two owners that split at once conflict, so that each number of a range is given once.
    fence::hold(books, session, lease.leader()).await?;
    let mut mine = (*condition).clone();
    mine.insert("last", doc! { "$eq": wrapped(checkpoint.last.as_ref()) });
    mine.insert("done", false);
    let shorten = doc! { "$set": { "upper": wrapped(Some(cut)) } };
    let shortened = books.checkpoint().update_one(mine, shorten).session(&mut *session).await;
    if shortened.map_err(error::asking("shortening a range"))?.matched_count != 1 {
        return Err(EngineError::LeaseLost);
    }
    let migration = &lease.task().migration;
    let there = checkpoint::all(books, migration, Some(&mut *session)).await?;
    let index = there.iter().map(|range| range.state.index + 1).max();
    let index = index.ok_or_else(|| defect("a range that was claimed cannot be found"))?;
    let layout = Layout { lower: Lower::After(cut.clone()), upper: checkpoint.upper.clone() };
    let fresh = checkpoint::fresh(books, migration, &checkpoint.checksum, checkpoint.pass, index, &layout);
    let inserted = books.checkpoint().insert_one(fresh).session(session).await;
    inserted.map_err(error::asking("splitting off a range"))?;
    let range = RangeState { index, rows: 0, seen: 0, batches: 0, done: false };
    Ok(Rest { pass: checkpoint.pass, range })
}

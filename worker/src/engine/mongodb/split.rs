//! Laying out the ranges of a pass: the first over all keys there are, cut where a sample says.
//!
//! The keys that bound ranges are read before the transaction that inserts them: every document that is there throughout
//! lies in one of them whatever happens meanwhile. What is inserted beyond the upper keys belongs to the sweep (with
//! `where`) or is out of scope (without).

use bson::{Bson, Document, doc};
use futures::TryStreamExt;
use mongodb::{ClientSession, Collection};
use shardlift_domain::range::Pass;
use shardlift_domain::{ErrorCode, Failure};

use super::bracket::{self, Bracket, Lower, comparable};
use super::checkpoint::{self, Layout, newest_pass};
use super::connection::{Books, Connection};
use super::transaction::{abandon, answered, begin, by_id, commit, session};
use super::{error, fence, ledger};
use crate::engine::{DataJob, EngineError, EngineResult};
use crate::lease::TaskLease;

/// Sampled keys per range: enough that ranges differ by a quarter or so.
const SAMPLES: u32 = 32;
/// How often a layout that conflicts with another one is tried.
const TRIES: u32 = 8;

pub(super) async fn first_pass(
    connection: &Connection,
    lease: &TaskLease,
    job: &DataJob,
    ranges: u32,
) -> EngineResult<Pass> {
    lease.check()?;
    let books = connection.books().await?;
    fence::admit(&books, lease.leader()).await?;
    let there = checkpoint::all(&books, &lease.task().migration, None).await?;
    if let Some(strange) = there.iter().find(|range| range.checksum != job.spec.checksum.as_str()) {
        tracing::debug!(range = strange.state.index, "a range was laid out for another content");
        return Err(EngineError::Failed(ledger::conflict(&lease.task().migration)));
    }
    if let Some(pass) = newest_pass(&there) {
        return Ok(pass);
    }
    let documents = connection.collection(&job.data.source.relation).await?;
    let layouts = survey(&documents, ranges).await?;
    lay_out(connection, &books, lease, job, 1, &layouts).await
}

/// About so many ranges that cover all keys there are.
pub(super) async fn survey(documents: &Collection<Document>, ranges: u32) -> EngineResult<Vec<Layout>> {
    let cuts = cuts(documents, ranges).await?;
    Ok(cover(&last_keys(documents).await?, &cuts))
}

/// Inserts the ranges of pass `number` in one transaction, unless that pass is there already.
pub(super) async fn lay_out(
    connection: &Connection,
    books: &Books,
    lease: &TaskLease,
    job: &DataJob,
    number: u32,
    layouts: &[Layout],
) -> EngineResult<Pass> {
    let mut session = session(connection).await?;
    for _ in 0..TRIES {
        lease.check()?;
        match answered(insert(&mut session, books, lease, job, number, layouts)).await {
            Err(EngineError::Contended(_)) => tokio::task::yield_now().await,
            other => return other,
        }
    }
    Err(EngineError::Contended(Failure::new(
        ErrorCode::RowContended,
        "laying out the ranges conflicted with other work on the shard's fence again and again",
        "nothing to do: it is tried again",
    )))
}

async fn insert(
    session: &mut ClientSession,
    books: &Books,
    lease: &TaskLease,
    job: &DataJob,
    number: u32,
    layouts: &[Layout],
) -> EngineResult<Pass> {
    begin(session).await?;
    let result = insert_in_transaction(session, books, lease, job, number, layouts).await;
    match result {
        Ok(pass) => commit(session).await.map(|()| pass),
        Err(error) => {
            abandon(session).await;
            Err(error)
        }
    }
}

async fn insert_in_transaction(
    session: &mut ClientSession,
    books: &Books,
    lease: &TaskLease,
    job: &DataJob,
    number: u32,
    layouts: &[Layout],
) -> EngineResult<Pass> {
    fence::hold(books, session, lease.leader()).await?;
    let migration = &lease.task().migration;
    let there = checkpoint::all(books, migration, Some(&mut *session)).await?;
    if let Some(pass) = newest_pass(&there).filter(|pass| pass.number >= number) {
        return Ok(pass);
    }
    let checksum = job.spec.checksum.as_str();
    let first = there.iter().map(|range| range.state.index + 1).max().unwrap_or(0);
    // A pass without ranges would be laid out again: nothing to walk is one range that is done.
    let nothing = [Layout { lower: Lower::Open, upper: None }];
    let layouts = if layouts.is_empty() { &nothing[..] } else { layouts };
    let fresh: Vec<Document> = layouts
        .iter()
        .zip(first..)
        .map(|(layout, range)| checkpoint::fresh(books, migration, checksum, number, range, layout))
        .collect();
    let inserted = books.checkpoint().insert_many(fresh).session(&mut *session).await;
    inserted.map_err(error::asking("laying out the ranges"))?;
    let there = checkpoint::all(books, migration, Some(session)).await?;
    newest_pass(&there).ok_or_else(|| super::defect("a pass that was laid out cannot be found"))
}

/// Ranges that cover every bracket up to its last key, cut at the cuts that lie in it (ascending).
fn cover(last_keys: &[Bson], cuts: &[Bson]) -> Vec<Layout> {
    let mut layouts = Vec::with_capacity(last_keys.len() + cuts.len());
    for last in last_keys {
        let mut lower = Lower::Open;
        for cut in cuts.iter().filter(|cut| comparable(cut, last) && *cut != last) {
            layouts.push(Layout { lower, upper: Some(cut.clone()) });
            lower = Lower::After(cut.clone());
        }
        layouts.push(Layout { lower, upper: Some(last.clone()) });
    }
    layouts
}

/// The last key of each bracket that has keys, in the order of the index: hops over the index, a few reads each.
async fn last_keys(documents: &Collection<Document>) -> EngineResult<Vec<Bson>> {
    let mut found: Vec<Bson> = Vec::new();
    let mut next = first_key(documents, None).await?;
    while let Some(first) = next {
        let last = match Bracket::of(&first) {
            Bracket::Single => first,
            Bracket::Ordered => last_of_bracket(documents, first).await?,
        };
        next = first_key(documents, Some(&last)).await?;
        match found.last_mut() {
            // Keys were added to this bracket between two reads.
            Some(before) if comparable(before, &last) => *before = last,
            _ => found.push(last),
        }
    }
    Ok(found)
}

/// The first key of the index, or the first after `after`, whatever its type: `min` knows no brackets.
async fn first_key(documents: &Collection<Document>, after: Option<&Bson>) -> EngineResult<Option<Bson>> {
    let doing = "reading the first keys";
    if after == Some(&Bson::MaxKey) {
        return Ok(None);
    }
    let find = documents.find(doc! {}).projection(doc! { "_id": 1 }).sort(doc! { "_id": 1 }).hint(by_id());
    let find = match after {
        Some(after) => find.min(doc! { "_id": after }).limit(2),
        None => find.limit(1),
    };
    let found: Vec<Document> =
        find.await.map_err(error::asking(doing))?.try_collect().await.map_err(error::asking(doing))?;
    let mut keys = found.into_iter().filter_map(|mut document| document.remove("_id"));
    // As text, since NaN does not equal itself.
    let next = keys.find(|key| after.is_none_or(|after| bracket::text(after) != bracket::text(key)));
    match after {
        // A search from `min` on stops before MaxKey.
        Some(_) if next.is_none() => {
            let last = documents.find_one(doc! { "_id": { "$eq": Bson::MaxKey } }).hint(by_id()).await;
            Ok(last.map_err(error::asking(doing))?.map(|_| Bson::MaxKey))
        }
        _ => Ok(next),
    }
}

async fn last_of_bracket(documents: &Collection<Document>, first: Bson) -> EngineResult<Bson> {
    let found = documents
        .find_one(doc! { "_id": { "$gte": &first } })
        .projection(doc! { "_id": 1 })
        .sort(doc! { "_id": -1 })
        .hint(by_id())
        .await
        .map_err(error::asking("reading the last keys"))?;
    Ok(found.and_then(|mut document| document.remove("_id")).unwrap_or(first))
}

/// Keys that divide the collection into about equal parts, by a random sample that the server sorts.
async fn cuts(documents: &Collection<Document>, ranges: u32) -> EngineResult<Vec<Bson>> {
    if ranges < 2 {
        return Ok(Vec::new());
    }
    let doing = "sampling keys";
    let size = i64::from(ranges.saturating_mul(SAMPLES));
    let pipeline = [
        doc! { "$sample": { "size": size } },
        doc! { "$project": { "_id": 1 } },
        doc! { "$sort": { "_id": 1 } },
    ];
    let sampled = documents.aggregate(pipeline).batch_size(100_000).await;
    let sampled: Vec<Document> =
        sampled.map_err(error::asking(doing))?.try_collect().await.map_err(error::asking(doing))?;
    let keys: Vec<Bson> = sampled.into_iter().filter_map(|mut document| document.remove("_id")).collect();
    Ok(quantiles(&keys, ranges))
}

/// `parts - 1` keys at equal distances, without repetitions.
fn quantiles(keys: &[Bson], parts: u32) -> Vec<Bson> {
    let parts = usize::try_from(parts).unwrap_or(usize::MAX).max(1);
    let mut cuts: Vec<Bson> =
        (1..parts).filter_map(|part| keys.get(part * keys.len() / parts).cloned()).collect();
    cuts.dedup();
    cuts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ints(numbers: impl IntoIterator<Item = i32>) -> Vec<Bson> {
        numbers.into_iter().map(Bson::Int32).collect()
    }

    #[test]
    fn every_bracket_is_covered_without_gap_and_cut_by_its_own_keys_only() {
        let last = [Bson::Null, Bson::Int32(100), Bson::String("z".into())];
        let cuts = [Bson::Int32(10), Bson::Int64(50), Bson::Int32(100), Bson::String("m".into())];
        let layouts = cover(&last, &cuts);
        let layout = |lower, upper| Layout { lower, upper: Some(upper) };
        let expected = [
            layout(Lower::Open, Bson::Null),
            layout(Lower::Open, Bson::Int32(10)),
            layout(Lower::After(Bson::Int32(10)), Bson::Int64(50)),
            layout(Lower::After(Bson::Int64(50)), Bson::Int32(100)),
            layout(Lower::Open, Bson::String("m".into())),
            layout(Lower::After(Bson::String("m".into())), Bson::String("z".into())),
        ];
        assert_eq!(layouts, expected);
    }

    #[test]
    fn quantiles_are_evenly_apart_and_distinct() {
        assert_eq!(quantiles(&ints(0..100), 4), ints([25, 50, 75]));
        assert_eq!(quantiles(&ints([1, 1, 1]), 3), ints([1]));
        assert_eq!(quantiles(&[], 4), []);
    }
}

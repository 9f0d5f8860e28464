//! The shard's fence: the newest leader it has seen. Its number only rises.

use bson::{Document, doc};
use mongodb::ClientSession;
use shardlift_domain::fence::FenceVerdict;
use shardlift_domain::{Epoch, ErrorCode, Failure, Fence, Nonce};

use super::connection::{Books, not_identified};
use super::error;
use crate::engine::{EngineError, EngineResult};

/// A number as BSON holds it. Epochs count take-overs: they never come near the limit.
pub(super) fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// The newest leader seen; `None` before the first.
pub(super) async fn seen(books: &Books) -> EngineResult<Option<Fence>> {
    let found = books.fence().find_one(doc! { "_id": &books.shard_database }).await;
    let document = found.map_err(error::asking("reading the shard's fence"))?.ok_or_else(not_identified)?;
    Ok(read(&document))
}

/// The fence that a document of the collection holds.
pub(super) fn read(document: &Document) -> Option<Fence> {
    let epoch = document.get_i64("epoch").ok().and_then(|epoch| u64::try_from(epoch).ok())?;
    let nonce = document.get_str("nonce").ok()?.to_owned();
    (epoch > 0).then_some(Fence { epoch: Epoch(epoch), nonce: Nonce(nonce) })
}

/// The fence before any leader.
pub(super) fn none(database: &str) -> Document {
    doc! { "_id": database, "epoch": 0_i64, "nonce": "", "layouts": 0_i64 }
}

/// Lets a leader in, and raises the fence to it: one conditional write.
pub(super) async fn admit(books: &Books, leader: &Fence) -> EngineResult<()> {
    let epoch = number(leader.epoch.0);
    let admitted = doc! {
        "_id": &books.shard_database,
        "$or": [{ "epoch": { "$lt": epoch } }, { "epoch": epoch, "nonce": &leader.nonce.0 }],
    };
    let raise = doc! { "$set": { "epoch": epoch, "nonce": &leader.nonce.0 } };
    let raised = books.fence().update_one(admitted, raise).await;
    let raised = raised.map_err(error::asking("raising the shard's fence"))?;
    if raised.matched_count == 1 { Ok(()) } else { refuse(seen(books).await?, leader) }
}

/// Looks whether a leader would be let in; changes nothing.
pub(super) async fn check(books: &Books, leader: &Fence) -> EngineResult<()> {
    refuse(seen(books).await?, leader)
}

/// Touches the fence inside a transaction, so that it conflicts with every take-over and every other layout.
pub(super) async fn hold(books: &Books, session: &mut ClientSession, leader: &Fence) -> EngineResult<()> {
    let mine = doc! {
        "_id": &books.shard_database, "epoch": number(leader.epoch.0), "nonce": &leader.nonce.0,
    };
    let touch = doc! { "$inc": { "layouts": 1_i64 } };
    let touched = books.fence().update_one(mine, touch).session(session).await;
    match touched.map_err(error::asking("holding the shard's fence"))?.matched_count {
        1 => Ok(()),
        _ => Err(stale(leader, None)),
    }
}

fn refuse(seen: Option<Fence>, leader: &Fence) -> EngineResult<()> {
    match Fence::judge(seen.as_ref(), leader) {
        FenceVerdict::Admitted => Ok(()),
        FenceVerdict::Stale => Err(stale(leader, seen)),
        FenceVerdict::Forked => Err(EngineError::Failed(Failure::new(
            ErrorCode::FenceForked,
            format!("the shard has seen another leader of epoch {}", leader.epoch),
            "nothing to do: the coordinator rises above it; its store was restored from an old copy",
        ))),
    }
}

fn stale(leader: &Fence, seen: Option<Fence>) -> EngineError {
    let newer = seen.map_or_else(|| "a newer one".to_owned(), |seen| format!("epoch {}", seen.epoch));
    EngineError::Failed(Failure::new(
        ErrorCode::FenceStale,
        format!("this leader has epoch {}, but the shard has seen {newer}", leader.epoch),
        "nothing to do: the newer leader hands the work out again",
    ))
}

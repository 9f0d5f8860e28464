//! How far a verification is and what it has found, kept in the shard: who loses it loses nothing, and what was found can be
//! repaired.
//!
//! ```text
//! verifying   _id {db, migration, version, asked}   epoch, attempt, rows_changed, range, batch, part, row, the figures, done
//! difference  db, migration, version, asked, range, batch, part, row; difference, key, found: the digest of its changed fields or null
//! ```

use std::str::FromStr;

use bson::{Bson, Document, doc};
use futures::TryStreamExt;
use mongodb::ClientSession;
use mongodb::options::ReturnDocument;
use shardlift_domain::ids::MigrationKey;
use shardlift_domain::mismatch::{Compared, Difference, LogPlace};

use crate::engine::anew::{Differing, NAMED, Walked};
use crate::engine::mongodb::connection::Books;
use crate::engine::mongodb::error::{self, Cause};
use crate::engine::mongodb::fence::number;
use crate::engine::mongodb::transaction::{COMMAND_LIMIT, abandon, begin as begin_transaction, commit};
use crate::engine::mongodb::{checkpoint, codes, fence, ledger};
use crate::engine::{EngineError, EngineResult};
use crate::lease::TaskLease;

const DOING: &str = "keeping how far the verification is";

/// The name of one verification of a migration, which asks this.
pub(super) fn name(books: &Books, migration: &MigrationKey, asked: &str) -> Document {
    let mut name = ledger::name(books, migration);
    name.insert("asked", asked);
    name
}

/// Takes the verification over: goes on with what an earlier hand-out has begun, or begins anew.
pub(super) async fn begin(
    books: &Books,
    lease: &TaskLease,
    asked: &str,
    changed: u64,
) -> EngineResult<Walked> {
    fence::admit(books, lease.leader()).await?;
    let name = name(books, &lease.task().migration, asked);
    let mut fresh = doc! { "_id": &name, "epoch": 0_i64, "attempt": 0_i64, "rows_changed": -1_i64 };
    fresh.extend(fields(&Walked::default()));
    match books.verifying().insert_one(fresh).await {
        Ok(_) => {}
        Err(error) if Cause::from(&error).code == codes::DUPLICATE_KEY => {}
        Err(error) => return Err(error::asking(DOING)(error)),
    }
    let (epoch, attempt) = checkpoint::token(lease.token());
    let free = doc! { "_id": &name, "$or": [
        { "epoch": { "$lt": epoch } }, { "epoch": epoch, "attempt": { "$lte": attempt } },
    ] };
    let take = doc! { "$set": { "epoch": epoch, "attempt": attempt } };
    let verifying = books.verifying();
    let taken = verifying.find_one_and_update(free, take).return_document(ReturnDocument::After);
    let taken = taken.max_time(COMMAND_LIMIT).await.map_err(error::asking(DOING))?;
    let taken = taken.ok_or(EngineError::LeaseLost)?;
    let mut walked = read(&taken);
    if !walked.done && taken.get_i64("rows_changed").ok() == Some(number(changed)) {
        names(books, &name, &mut walked).await?;
        return Ok(walked);
    }
    // Whoever had it before cannot record any more. If this is cut off, it is begun anew once more.
    books.difference().delete_many(name.clone()).await.map_err(error::asking(DOING))?;
    let mut anew = doc! { "rows_changed": number(changed) };
    anew.extend(fields(&Walked::default()));
    let mine = doc! { "_id": name, "epoch": epoch, "attempt": attempt };
    let begun = books.verifying().update_one(mine, doc! { "$set": anew }).await;
    match begun.map_err(error::asking(DOING))?.matched_count {
        1 => Ok(Walked::default()),
        _ => Err(EngineError::LeaseLost),
    }
}

async fn names(books: &Books, name: &Document, walked: &mut Walked) -> EngineResult<()> {
    for difference in Difference::ALL {
        let mut wanted = name.clone();
        wanted.insert("difference", difference.as_str());
        let first = books.difference();
        let first = first.find(wanted).sort(order()).limit(i64::try_from(NAMED).unwrap_or(i64::MAX)).await;
        let first = first.map_err(error::asking(DOING))?.try_collect::<Vec<Document>>().await;
        for found in first.map_err(error::asking(DOING))? {
            walked.name(difference, found.get_str("key").unwrap_or_default());
        }
    }
    Ok(())
}

/// The order of the log.
pub(super) fn order() -> Document {
    doc! { "range": 1, "batch": 1, "part": 1, "row": 1 }
}

/// A place in the log.
pub(super) fn place_of(document: &Document) -> LogPlace {
    let small = |field: &str| u32::try_from(count(document, field)).unwrap_or_default();
    LogPlace {
        range: small("range"),
        batch: count(document, "batch"),
        part: small("part"),
        row: small("row"),
    }
}

/// The same as fields.
pub(super) fn place(place: LogPlace) -> Document {
    let LogPlace { range, batch, part, row } = place;
    doc! { "range": i64::from(range), "batch": number(batch), "part": i64::from(part), "row": i64::from(row) }
}

/// How a recorded document differs.
pub(super) fn difference(document: &Document) -> Difference {
    let word = document.get_str("difference").unwrap_or_default();
    Difference::from_str(word).unwrap_or(Difference::Changed)
}

fn count(document: &Document, field: &str) -> u64 {
    document.get_i64(field).ok().and_then(|count| u64::try_from(count).ok()).unwrap_or_default()
}

fn read(document: &Document) -> Walked {
    let count = |field: &str| count(document, field);
    Walked {
        after: place_of(document),
        compared: Compared {
            verified: count("verified"),
            mismatches: count("mismatches"),
            changed: count("changed"),
            gone: count("gone"),
            left_out: count("left_out"),
        },
        recorded: count("recorded"),
        done: document.get_bool("done").unwrap_or_default(),
        ..Walked::default()
    }
}

fn fields(walked: &Walked) -> Document {
    let Compared { verified, mismatches, changed, gone, left_out } = walked.compared;
    let mut fields = place(walked.after);
    fields.extend(doc! {
        "verified": number(verified), "mismatches": number(mismatches), "changed": number(changed),
        "gone": number(gone), "left_out": number(left_out), "recorded": number(walked.recorded), "done": walked.done,
    });
    fields
}

/// Keeps how far it is, and records documents.
pub(super) async fn keep(
    books: &Books,
    session: &mut ClientSession,
    lease: &TaskLease,
    asked: &str,
    walked: &Walked,
    found: &[Differing],
) -> EngineResult<()> {
    let name = name(books, &lease.task().migration, asked);
    begin_transaction(session).await?;
    match kept(books, session, lease, &name, walked, found).await {
        Ok(()) => commit(session).await,
        Err(error) => {
            abandon(session).await;
            Err(error)
        }
    }
}

async fn kept(
    books: &Books,
    session: &mut ClientSession,
    lease: &TaskLease,
    name: &Document,
    walked: &Walked,
    found: &[Differing],
) -> EngineResult<()> {
    let (epoch, attempt) = checkpoint::token(lease.token());
    let mine = doc! { "_id": name, "epoch": epoch, "attempt": attempt };
    let kept =
        books.verifying().update_one(mine, doc! { "$set": fields(walked) }).session(&mut *session).await;
    if kept.map_err(error::asking(DOING))?.matched_count != 1 {
        return Err(EngineError::LeaseLost);
    }
    if found.is_empty() {
        return Ok(());
    }
    let documents = found.iter().map(|found| {
        let mut document = name.clone();
        document.extend(place(found.place));
        document.extend(doc! {
            "difference": found.row.difference.as_str(), "key": &found.row.key,
            "found": found.now.map_or(Bson::Null, Bson::Int64),
        });
        document
    });
    let recorded = books.difference().insert_many(documents).session(session).await;
    recorded.map(drop).map_err(error::asking(DOING))
}

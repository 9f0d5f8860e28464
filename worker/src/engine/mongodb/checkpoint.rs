//! How far each range is: one document per range, written in the same transaction as the documents it speaks of.
//!
//! ```text
//! _id      {db, migration, version, range}
//! db, migration, version, range   the same, for the index
//! pass     1 for the first
//! checksum of the spec
//! from     {v: key} where a later pass begins (inclusive), or null: at the first key of the bracket
//! after    {v: key} the range begins after this key, or null
//! upper    {v: key} inclusive, or null: there was nothing
//! last     {v: key} of the last window, or null: nothing done yet
//! epoch, attempt, claim   the token and the drawn name of the claim that may write
//! session  lsid of the owner, so that a new owner can end it
//! rows, seen, batches, done
//! form     in which this is written; absent: 1
//! ```
//! Keys stand in a `{v: …}` so that a key that is null differs from no key, and compare as whole values.

use bson::{Bson, Document, doc};
use futures::TryStreamExt;
use mongodb::ClientSession;
use shardlift_domain::Token;
use shardlift_domain::ids::MigrationKey;
use shardlift_domain::range::{Pass, RangeState, RangeTotals};

use super::bracket::Lower;
use super::connection::Books;
use super::error;
use super::fence::number;
use super::{defect, ledger};
use crate::engine::{CHECKPOINT_FORM, EngineResult, known_form};

/// One range as its document says.
#[derive(Debug, Clone)]
pub(super) struct Checkpoint {
    pub(super) pass: u32,
    pub(super) checksum: String,
    /// Where it began.
    pub(super) lower: Lower,
    /// `None`: the range was empty when it was laid out.
    pub(super) upper: Option<Bson>,
    pub(super) last: Option<Bson>,
    pub(super) token: (i64, i64),
    pub(super) session: Option<Document>,
    pub(super) state: RangeState,
}

impl Checkpoint {
    /// Where the next window begins.
    pub(super) fn next_lower(&self) -> Lower {
        self.last.clone().map_or_else(|| self.lower.clone(), Lower::After)
    }

    /// A document of a newer form is refused: what stands in it would be misread.
    pub(super) fn read(document: &Document) -> EngineResult<Self> {
        known_form(document.get_i64("form").unwrap_or(CHECKPOINT_FORM))?;
        parse(document).ok_or_else(|| defect("a checkpoint document of the shard cannot be read"))
    }
}

/// A key in its wrapping, or null.
pub(super) fn wrapped(key: Option<&Bson>) -> Bson {
    key.map_or(Bson::Null, |key| Bson::Document(doc! { "v": key }))
}

fn unwrapped(document: &Document, field: &str) -> Option<Bson> {
    document.get_document(field).ok()?.get("v").cloned()
}

fn parse(document: &Document) -> Option<Checkpoint> {
    let count = |field: &str| u64::try_from(document.get_i64(field).ok()?).ok();
    let small = |field: &str| u32::try_from(document.get_i64(field).ok()?).ok();
    let lower = match (unwrapped(document, "from"), unwrapped(document, "after")) {
        (Some(key), _) => Lower::From(key),
        (None, Some(key)) => Lower::After(key),
        (None, None) => Lower::Open,
    };
    Some(Checkpoint {
        pass: small("pass")?,
        checksum: document.get_str("checksum").ok()?.to_owned(),
        lower,
        upper: unwrapped(document, "upper"),
        last: unwrapped(document, "last"),
        token: (document.get_i64("epoch").ok()?, document.get_i64("attempt").ok()?),
        session: document.get_document("session").ok().cloned(),
        state: RangeState {
            index: small("range")?,
            rows: count("rows")?,
            seen: count("seen")?,
            batches: count("batches")?,
            done: document.get_bool("done").ok()?,
        },
    })
}

/// A range that is about to be laid out.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Layout {
    pub(super) lower: Lower,
    /// `None`: there is nothing to walk.
    pub(super) upper: Option<Bson>,
}

/// The name of one range, as `_id`.
pub(super) fn range_id(books: &Books, migration: &MigrationKey, range: u32) -> Document {
    let mut id = ledger::name(books, migration);
    id.insert("range", i64::from(range));
    id
}

/// The document of a range that nobody has claimed yet.
pub(super) fn fresh(
    books: &Books,
    migration: &MigrationKey,
    checksum: &str,
    pass: u32,
    range: u32,
    layout: &Layout,
) -> Document {
    let (from, after) = match &layout.lower {
        Lower::Open => (None, None),
        Lower::After(key) => (None, Some(key)),
        Lower::From(key) => (Some(key), None),
    };
    let id = range_id(books, migration, range);
    let mut document = doc! { "_id": id.clone() };
    document.extend(id);
    document.extend(doc! {
        "pass": i64::from(pass), "checksum": checksum,
        "from": wrapped(from), "after": wrapped(after), "upper": wrapped(layout.upper.as_ref()), "last": null,
        "epoch": 0_i64, "attempt": 0_i64, "claim": "", "session": null,
        "rows": 0_i64, "seen": 0_i64, "batches": 0_i64, "done": layout.upper.is_none(),
        "form": CHECKPOINT_FORM,
    });
    document
}

/// The token as a checkpoint holds it.
pub(super) fn token(token: Token) -> (i64, i64) {
    (number(token.epoch.0), i64::from(token.attempt.0))
}

/// All ranges of a migration, by index; inside a transaction if a session is given.
pub(super) async fn all(
    books: &Books,
    migration: &MigrationKey,
    session: Option<&mut ClientSession>,
) -> EngineResult<Vec<Checkpoint>> {
    let doing = "reading the checkpoints";
    let checkpoints = books.checkpoint();
    let find = checkpoints.find(ledger::name(books, migration)).sort(doc! { "range": 1 }).batch_size(2000);
    let documents: Vec<Document> = match session {
        Some(session) => {
            let mut cursor = find.session(&mut *session).await.map_err(error::asking(doing))?;
            cursor.stream(session).try_collect().await
        }
        None => find.await.map_err(error::asking(doing))?.try_collect().await,
    }
    .map_err(error::asking(doing))?;
    documents.iter().map(Checkpoint::read).collect()
}

/// The newest pass, with the sums of the earlier ones; `None` before the first was laid out.
pub(super) fn newest_pass(ranges: &[Checkpoint]) -> Option<Pass> {
    let number = ranges.iter().map(|range| range.pass).max()?;
    let (newest, earlier): (Vec<_>, Vec<_>) = ranges.iter().partition(|range| range.pass == number);
    let before = earlier.iter().fold(RangeTotals::default(), |sum, range| RangeTotals {
        rows: sum.rows + range.state.rows,
        seen: sum.seen + range.state.seen,
        batches: sum.batches + range.state.batches,
    });
    Some(Pass { number, ranges: newest.iter().map(|range| range.state.clone()).collect(), before })
}

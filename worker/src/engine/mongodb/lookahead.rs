//! Where the next window ends.
//!
//! Any key between the last one and the upper one is a right end: the transaction changes whatever lies before it in
//! its own snapshot. So the end may be looked up early and outside of the transaction, while the former batch commits;
//! only the size of the window is an estimate then. Several neighbouring keys are kept, since the pacer seldom asks
//! for exactly as many rows as before.

use bson::{Bson, Document, RawDocumentBuf, doc};
use futures::TryStreamExt;
use mongodb::Collection;
use mongodb::options::ReadConcern;

use super::bracket::{Bracket, Lower, window};
use super::error;
use super::transaction::by_id;
use crate::engine::EngineResult;

/// Most keys that are kept to either side of the expected one.
const MOST_AROUND: u32 = 256;

/// Where a window ends and how many keys it has.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Edge {
    pub(super) key: Bson,
    /// Keys in the window when it was looked up; `None`: fewer than were looked for.
    pub(super) keys: Option<u32>,
    /// Whether the range ends here.
    pub(super) last: bool,
}

/// The keys around the place where the next window is expected to end.
#[derive(Debug)]
pub(super) struct Lookahead {
    /// Keys between the window's beginning and the first kept one.
    skipped: u32,
    kept: Vec<Bson>,
    /// Whether the range ends with the kept keys.
    exhausted: bool,
    upper: Bson,
}

/// Positions of the keys that are kept when `rows` are asked for: a sixteenth to both sides.
fn band(rows: u32) -> (u32, u32) {
    let around = (rows / 16).min(MOST_AROUND);
    (rows - around, rows.saturating_add(around))
}

impl Lookahead {
    /// Looks up the keys around the `rows`-th after `lower`.
    pub(super) async fn read(
        collection: &Collection<RawDocumentBuf>,
        lower: &Lower,
        upper: &Bson,
        rows: u32,
        exactly: bool,
    ) -> EngineResult<Self> {
        let doing = "looking up the end of a window";
        if Bracket::of(upper) == Bracket::Single {
            return Ok(Self { skipped: 0, kept: Vec::new(), exhausted: true, upper: upper.clone() });
        }
        let (first, last) = if exactly { (rows, rows) } else { band(rows) };
        let count = last - first + 1;
        let found = collection
            .find(window(lower, upper))
            .projection(doc! { "_id": 1 })
            .sort(doc! { "_id": 1 })
            .hint(by_id())
            .skip(u64::from(first - 1))
            .limit(i64::from(count))
            .batch_size(count)
            .read_concern(ReadConcern::local())
            .await;
        let found: Vec<RawDocumentBuf> =
            found.map_err(error::asking(doing))?.try_collect().await.map_err(error::asking(doing))?;
        let kept: Vec<Bson> = found.iter().filter_map(id).collect();
        let exhausted = u32::try_from(found.len()).is_ok_and(|found| found < count);
        Ok(Self { skipped: first - 1, kept, exhausted, upper: upper.clone() })
    }

    /// The end of a window of at most `rows` keys; `None`: it must be looked up anew.
    pub(super) fn edge(&self, rows: u32) -> Option<Edge> {
        let known = self.skipped + u32::try_from(self.kept.len()).unwrap_or(u32::MAX);
        let at = |position: u32| {
            let key = self.kept.get(usize::try_from(position.checked_sub(self.skipped + 1)?).ok()?)?;
            Some(Edge { key: key.clone(), keys: Some(position), last: *key == self.upper })
        };
        if rows <= self.skipped {
            return None;
        }
        if rows < known {
            return at(rows);
        }
        if self.exhausted {
            let keys = (!self.kept.is_empty()).then_some(known);
            return Some(Edge { key: self.upper.clone(), keys, last: true });
        }
        // More was asked for than is known: what is known, unless that is too little.
        if known >= rows - rows / 8 { at(known) } else { None }
    }
}

fn id(document: &RawDocumentBuf) -> Option<Bson> {
    document.get("_id").ok().flatten().and_then(|id| Bson::try_from(id).ok())
}

/// How many keys lie between, for windows of which that is not known from their end.
pub(super) async fn count(collection: &Collection<RawDocumentBuf>, filter: Document) -> EngineResult<u32> {
    let counted = collection.count_documents(filter).hint(by_id()).await;
    let counted = counted.map_err(error::asking("counting the keys of a window"))?;
    Ok(u32::try_from(counted).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ahead(skipped: u32, kept: std::ops::RangeInclusive<i32>, exhausted: bool) -> Lookahead {
        Lookahead { skipped, kept: kept.map(Bson::Int32).collect(), exhausted, upper: Bson::Int32(999) }
    }

    fn edge(key: i32, keys: u32, last: bool) -> Option<Edge> {
        Some(Edge { key: Bson::Int32(key), keys: Some(keys), last })
    }

    #[test]
    fn the_band_holds_the_neighbours_of_what_is_expected() {
        assert_eq!(band(1), (1, 1));
        assert_eq!(band(100), (94, 106));
        assert_eq!(band(50_000), (49_744, 50_256));
        assert_eq!(band(u32::MAX).1, u32::MAX);
    }

    #[test]
    fn a_window_never_has_more_keys_than_were_asked_for() {
        let ahead = ahead(87, 88..=112, false);
        assert_eq!(ahead.edge(100), edge(100, 100, false));
        assert_eq!(ahead.edge(88), edge(88, 88, false));
        assert_eq!(ahead.edge(87), None);
        assert_eq!(ahead.edge(120), edge(112, 112, false));
        assert_eq!(ahead.edge(150), None);
    }

    #[test]
    fn the_last_window_goes_to_the_upper_key() {
        assert_eq!(ahead(87, 88..=90, true).edge(100), edge(999, 90, true));
        assert_eq!(ahead(87, 88..=90, true).edge(89), edge(89, 89, false));
        let none = Lookahead { skipped: 99, kept: vec![], exhausted: true, upper: Bson::Int32(999) };
        assert_eq!(none.edge(100), Some(Edge { key: Bson::Int32(999), keys: None, last: true }));
    }
}

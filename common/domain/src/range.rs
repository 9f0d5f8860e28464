//! Key intervals and how far each is, in a form that holds for any type of key.
//!
//! Keys are compared by the shard only, never here: collations, mixed `_id` types and composite keys have orders that
//! only their database knows. So a key is an opaque text, and a range is known to the coordinator by its number.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One key in the text form of its engine: PostgreSQL one text per key column, MongoDB one canonical
/// extended JSON value.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyText(pub Vec<String>);

impl fmt::Display for KeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [one] => f.write_str(one),
            many => write!(f, "({})", many.join(", ")),
        }
    }
}

/// A key interval of one table or collection on one shard: after `lower`, up to and including `upper`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyInterval {
    /// Exclusive; `None`: from the first key there is.
    pub lower: Option<KeyText>,
    /// Inclusive; `None`: to the last key there is.
    pub upper: Option<KeyText>,
}

impl KeyInterval {
    /// Intervals that cover everything up to `last` without gap or overlap, cut at `cuts` (ascending, distinct,
    /// all before `last`).
    pub fn cover(cuts: Vec<KeyText>, last: Option<KeyText>) -> Vec<KeyInterval> {
        let mut lower = None;
        let mut intervals = Vec::with_capacity(cuts.len() + 1);
        for cut in cuts {
            intervals.push(KeyInterval { lower: lower.take(), upper: Some(cut.clone()) });
            lower = Some(cut);
        }
        intervals.push(KeyInterval { lower, upper: last });
        intervals
    }
}

/// How far one range is, as its checkpoint row in the shard says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeState {
    /// Number of the range, unique within the migration on the shard over all passes.
    pub index: u32,
    /// Rows changed so far.
    pub rows: u64,
    /// Rows walked over so far, changed or not.
    pub seen: u64,
    /// Batches committed so far.
    pub batches: u64,
    /// Whether the walk has reached its upper key.
    pub done: bool,
}

/// All ranges of one pass over one shard. The first pass walks the whole scope, later ones what sweeps found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Pass {
    /// 1 for the first.
    pub number: u32,
    /// The ranges of this pass, by index.
    pub ranges: Vec<RangeState>,
    /// Totals of the ranges of earlier passes.
    pub before: RangeTotals,
}

/// Sums over ranges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct RangeTotals {
    /// Rows changed.
    pub rows: u64,
    /// Rows walked over.
    pub seen: u64,
    /// Batches committed.
    pub batches: u64,
}

impl Pass {
    /// Whether every range has reached its end.
    pub fn done(&self) -> bool {
        self.ranges.iter().all(|range| range.done)
    }

    /// Sums over all passes so far.
    pub fn totals(&self) -> RangeTotals {
        self.ranges.iter().fold(self.before, |sum, range| RangeTotals {
            rows: sum.rows + range.rows,
            seen: sum.seen + range.seen,
            batches: sum.batches + range.batches,
        })
    }

    /// Takes over what a receipt says of one range. Ranges only go forward: an older receipt changes nothing.
    pub fn advance(&mut self, newer: &RangeState) {
        if let Some(range) = self.ranges.iter_mut().find(|range| range.index == newer.index) {
            range.advance(newer);
        }
    }

    /// Takes over a range that its owner has split off. Known already: only goes forward.
    pub fn add(&mut self, range: RangeState) {
        match self.ranges.binary_search_by_key(&range.index, |known| known.index) {
            Ok(known) => self.ranges[known].advance(&range),
            Err(place) => self.ranges.insert(place, range),
        }
    }

    /// Takes over what the shard says of its newest pass. Ranges are never taken back, and none is forgotten: what was
    /// read may be older than what was heard meanwhile.
    pub fn merge(&mut self, seen: Pass) {
        if seen.number > self.number {
            *self = seen;
        } else if seen.number == self.number {
            self.before = seen.before;
            seen.ranges.into_iter().for_each(|range| self.add(range));
        }
    }

    /// How many ranges are still to be walked.
    pub fn open(&self) -> usize {
        self.ranges.iter().filter(|range| !range.done).count()
    }
}

impl RangeState {
    fn advance(&mut self, newer: &RangeState) {
        self.rows = self.rows.max(newer.rows);
        self.seen = self.seen.max(newer.seen);
        self.batches = self.batches.max(newer.batches);
        self.done |= newer.done;
    }
}

/// What the owner of a range has split off from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rest {
    /// The pass to which the range belongs.
    pub pass: u32,
    /// The new range; nobody has claimed it yet.
    pub range: RangeState,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> KeyText {
        KeyText(vec![text.into()])
    }

    #[test]
    fn intervals_follow_each_other_without_gap() {
        let intervals = KeyInterval::cover(vec![key("b"), key("d")], Some(key("z")));
        assert_eq!(intervals.len(), 3);
        assert_eq!(intervals[0].lower, None);
        for pair in intervals.windows(2) {
            assert_eq!(pair[0].upper, pair[1].lower);
        }
        assert_eq!(intervals[2].upper, Some(key("z")));
    }

    #[test]
    fn an_old_receipt_never_takes_a_range_back() {
        let state = |rows, done| RangeState { index: 0, rows, seen: rows, batches: 1, done };
        let mut pass = Pass { number: 1, ranges: vec![state(0, false)], before: RangeTotals::default() };
        pass.advance(&state(50, true));
        pass.advance(&state(20, false));
        assert_eq!(pass.totals().rows, 50);
        assert!(pass.done());
    }

    fn fresh(index: u32, rows: u64) -> RangeState {
        RangeState { index, rows, seen: rows, batches: 1, done: false }
    }

    #[test]
    fn a_pass_grows_by_what_is_split_off_and_forgets_nothing() {
        let before = RangeTotals { rows: 5, seen: 5, batches: 1 };
        let mut pass = Pass { number: 2, ranges: vec![fresh(3, 10), fresh(4, 0)], before };
        pass.add(fresh(7, 0));
        pass.add(fresh(5, 1));
        pass.add(fresh(3, 2));
        let indexes: Vec<u32> = pass.ranges.iter().map(|range| range.index).collect();
        assert_eq!((indexes, pass.totals().rows, pass.open()), (vec![3, 4, 5, 7], 16, 4));

        pass.merge(Pass { number: 2, ranges: vec![fresh(3, 1), fresh(6, 0)], before });
        assert_eq!((pass.ranges.len(), pass.totals().rows), (5, 16), "what was read was older");
        pass.merge(Pass { number: 1, ranges: vec![fresh(0, 1)], before: RangeTotals::default() });
        assert_eq!(pass.ranges.len(), 5, "an earlier pass says nothing");
        pass.merge(Pass { number: 3, ranges: vec![fresh(8, 0)], before: pass.totals() });
        assert_eq!((pass.ranges.len(), pass.totals().rows), (1, 16));
    }
}

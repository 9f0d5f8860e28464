//! How far a migration is: receipts folded into figures.

use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::migration::Step;
use crate::range::RangeTotals;
use crate::verdict::{Saved, Undone};

/// What a worker reports while a range is running, at most a few times a second.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Receipt {
    /// How far the range is, absolute, as its checkpoint says.
    pub range: crate::range::RangeState,
    /// Rows of the newest window, changed or not.
    pub batch_size: u32,
    /// Rows walked over per second, recently.
    pub rows_per_second: f64,
    /// How long the newest batch took, in milliseconds.
    pub batch_ms: f64,
    /// Why its next batch does not begin yet, if it waits for something.
    #[serde(default)]
    pub waits: Option<Failure>,
}

/// How far one shard of a migration is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ShardProgress {
    /// Rows changed.
    pub rows_done: u64,
    /// Rows walked over, changed or not.
    pub rows_seen: u64,
    /// Rows of the table when it was split; an estimate.
    pub rows_total: u64,
    /// Batches committed.
    pub batches: u64,
    /// Ranges of the newest pass.
    pub ranges: u32,
    /// Of which finished.
    pub ranges_done: u32,
    /// The newest pass; 0 before the first.
    pub pass: u32,
    /// What undoing has done so far. Volatile: the shard has the truth, the migration keeps the sum of what is over.
    #[serde(skip)]
    pub undone: Undone,
    /// What was saved so far. Volatile: the manifest has the truth.
    #[serde(skip)]
    pub saved: Saved,
    /// Rows walked over per second by all running ranges. Volatile: never stored.
    #[serde(skip)]
    pub rows_per_second: f64,
    /// Rows of the newest window of any range. Volatile: never stored.
    #[serde(skip)]
    pub batch_size: u32,
}

impl ShardProgress {
    /// Folds the totals of a pass in. Figures only grow.
    pub fn fold(&mut self, totals: RangeTotals, pass: u32, ranges: u32, ranges_done: u32) {
        self.rows_done = self.rows_done.max(totals.rows);
        self.rows_seen = self.rows_seen.max(totals.seen);
        self.batches = self.batches.max(totals.batches);
        self.pass = self.pass.max(pass);
        self.ranges = ranges;
        self.ranges_done = ranges_done;
    }

    /// Share of the work done, 0.0 to 1.0, judged by rows walked over.
    pub fn fraction(&self) -> f64 {
        if self.rows_total == 0 {
            return if self.ranges > 0 && self.ranges == self.ranges_done { 1.0 } else { 0.0 };
        }
        (self.rows_seen as f64 / self.rows_total as f64).min(1.0)
    }

    /// Share of the walk done while a shard is at this step. The total is an estimate: only the steps after the walk mean all
    /// of it.
    pub fn walked(&self, step: Option<Step>) -> f64 {
        match step {
            Some(
                Step::Precheck
                | Step::Backup
                | Step::Apply
                | Step::Prepare
                | Step::Commit
                | Step::Abort
                | Step::Split,
            ) => 0.0,
            Some(Step::Backfill) => self.fraction().min(0.99),
            Some(Step::Sweep | Step::Verify | Step::Collect | Step::Undo) | None => 1.0,
        }
    }

    /// Seconds until the walk ends at the present speed; `None` when nothing moves.
    pub fn eta_seconds(&self) -> Option<u64> {
        let left = self.rows_total.saturating_sub(self.rows_seen);
        (self.rows_per_second > 0.0).then(|| (left as f64 / self.rows_per_second).ceil() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_never_goes_back() {
        let mut progress = ShardProgress { rows_total: 100, ..ShardProgress::default() };
        progress.fold(RangeTotals { rows: 40, seen: 60, batches: 3 }, 1, 2, 0);
        progress.fold(RangeTotals { rows: 10, seen: 20, batches: 1 }, 1, 2, 0);
        assert_eq!((progress.rows_done, progress.rows_seen, progress.batches), (40, 60, 3));
        assert!((progress.fraction() - 0.6).abs() < 1e-9);
    }

    #[test]
    fn ranges_may_grow_while_they_are_walked() {
        let mut progress = ShardProgress { rows_total: 100, ..ShardProgress::default() };
        let totals = RangeTotals { rows: 40, seen: 60, batches: 3 };
        progress.fold(totals, 1, 2, 1);
        progress.fold(totals, 1, 5, 1);
        assert_eq!((progress.ranges, progress.ranges_done, progress.rows_seen), (5, 1, 60));
    }

    #[test]
    fn an_eta_needs_movement() {
        let mut progress = ShardProgress { rows_total: 100, rows_seen: 50, ..ShardProgress::default() };
        assert_eq!(progress.eta_seconds(), None);
        progress.rows_per_second = 25.0;
        assert_eq!(progress.eta_seconds(), Some(2));
    }
}

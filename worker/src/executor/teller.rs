//! Telling how far a step is that walks a shard without ranges.

use std::time::Duration;

use shardlift_domain::progress::Receipt;
use shardlift_domain::range::RangeState;
use tokio::time::Instant;

use super::{News, RECEIPT_EVERY, Receipts};
use crate::lease::TaskLease;

/// Counts batches, and tells of them at most a few times a second.
pub(super) struct Teller {
    receipts: Receipts,
    told: Option<Instant>,
    batches: u64,
}

impl Teller {
    pub(super) fn new(receipts: Receipts) -> Self {
        Self { receipts, told: None, batches: 0 }
    }

    /// A batch of so many rows was committed; over all batches so many rows are done, of so many seen. When nobody takes the
    /// receipt, the next one says more.
    pub(super) fn batch(&mut self, lease: &TaskLease, batch: u32, took: Duration, rows: u64, seen: u64) {
        self.batches += 1;
        if self.told.is_some_and(|told| told.elapsed() < RECEIPT_EVERY) {
            return;
        }
        let receipt = Receipt {
            range: RangeState { index: 0, rows, seen, batches: self.batches, done: false },
            batch_size: batch,
            rows_per_second: f64::from(batch) / took.as_secs_f64().max(1e-6),
            batch_ms: took.as_secs_f64() * 1000.0,
            waits: None,
        };
        if self.receipts.try_send((lease.clone(), News::Moved(receipt))).is_ok() {
            self.told = Some(Instant::now());
        }
    }
}

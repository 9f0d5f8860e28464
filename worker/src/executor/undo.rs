//! Undoing data: claim, then batch after batch from the newest to the oldest, until none is left.
//!
//! There is no pace to find: a batch is as large as it was when it was made.

use std::sync::Arc;
use std::time::Duration;

use shardlift_domain::progress::Receipt;
use shardlift_domain::range::RangeState;
use shardlift_domain::verdict::Undone;
use tokio::time::Instant;

use super::patience::Patience;
use super::{News, RECEIPT_EVERY, Receipts};
use crate::engine::{DataJob, EngineError, EngineResult, ShardEngine, UndoWriter};
use crate::lease::TaskLease;

/// Undoes everything that the shard has kept of the migration.
pub(super) async fn run(
    lease: &TaskLease,
    engine: &dyn ShardEngine,
    job: Arc<DataJob>,
    receipts: Receipts,
) -> EngineResult<Undone> {
    let mut way = Way { receipts, told: None, batches: 0, patience: Patience::new() };
    loop {
        lease.check()?;
        let undone = match engine.open_undo(lease, Arc::clone(&job)).await {
            Ok(mut writer) => way.until_claim_is_lost(lease, writer.as_mut()).await,
            Err(error) => Err(error),
        };
        match undone {
            Ok(undone) => return Ok(undone),
            Err(error) => way.patience.forgive(lease, error).await?,
        }
    }
}

struct Way {
    receipts: Receipts,
    told: Option<Instant>,
    batches: u64,
    patience: Patience,
}

impl Way {
    async fn until_claim_is_lost(
        &mut self,
        lease: &TaskLease,
        writer: &mut dyn UndoWriter,
    ) -> EngineResult<Undone> {
        loop {
            fail::fail_point!("worker-before-undo", |_| std::process::abort());
            let began = Instant::now();
            match writer.run_batch(lease).await {
                Ok(report) if report.last => return Ok(report.undone),
                Ok(report) => {
                    self.batches += 1;
                    self.patience = Patience::new();
                    self.tell(lease, report.undone, report.rows, began.elapsed());
                }
                // Rolled back: the same claim goes on.
                Err(error @ (EngineError::Contended(_) | EngineError::TooSlow(_))) => {
                    self.patience.forgive(lease, error).await?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// A receipt, at most a few a second. When nobody takes it, the next one says more.
    fn tell(&mut self, lease: &TaskLease, undone: Undone, rows: u32, took: Duration) {
        if self.told.is_some_and(|told| told.elapsed() < RECEIPT_EVERY) {
            return;
        }
        let range = RangeState {
            index: 0,
            rows: undone.restored,
            seen: undone.restored + undone.conflicts,
            batches: self.batches,
            done: false,
        };
        let receipt = Receipt {
            range,
            batch_size: rows,
            rows_per_second: f64::from(rows) / took.as_secs_f64().max(1e-6),
            batch_ms: took.as_secs_f64() * 1000.0,
            waits: None,
        };
        if self.receipts.try_send((lease.clone(), News::Moved(receipt))).is_ok() {
            self.told = Some(Instant::now());
        }
    }
}

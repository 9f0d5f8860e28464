//! Undoing data: claim, then batch after batch from the newest to the oldest, until none is left.
//!
//! There is no pace to find: a batch is as large as it was when it was made.

use std::sync::Arc;
use std::time::Duration;

use shardlift_domain::progress::Receipt;
use shardlift_domain::range::RangeState;
use shardlift_domain::verdict::Undone;
use shardlift_runtime::retry::{Delays, Policy};
use tokio::time::{Instant, sleep};

use super::{News, RECEIPT_EVERY, Receipts};
use crate::engine::{DataJob, EngineError, EngineResult, ShardEngine, UndoWriter};
use crate::lease::TaskLease;

/// Failures in a row after which the task is given back with the last of them.
const PATIENCE: u32 = 12;
/// The pauses between them.
const PAUSES: Policy =
    Policy { first: Duration::from_millis(20), longest: Duration::from_secs(2), total: None };

/// Undoes everything that the shard has kept of the migration.
pub(super) async fn run(
    lease: &TaskLease,
    engine: &dyn ShardEngine,
    job: Arc<DataJob>,
    receipts: Receipts,
) -> EngineResult<Undone> {
    let mut way = Way { receipts, told: None, batches: 0, failures: 0, delays: Delays::new(&PAUSES) };
    loop {
        lease.check()?;
        let undone = match engine.open_undo(lease, Arc::clone(&job)).await {
            Ok(mut writer) => way.until_claim_is_lost(lease, writer.as_mut()).await,
            Err(error) => Err(error),
        };
        match undone {
            Ok(undone) => return Ok(undone),
            Err(error) => way.forgive(lease, error).await?,
        }
    }
}

struct Way {
    receipts: Receipts,
    told: Option<Instant>,
    batches: u64,
    failures: u32,
    delays: Delays,
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
                    self.failures = 0;
                    self.batches += 1;
                    self.delays = Delays::new(&PAUSES);
                    self.tell(lease, report.undone, report.rows, began.elapsed());
                }
                // Rolled back: the same claim goes on.
                Err(error @ (EngineError::Contended(_) | EngineError::TooSlow(_))) => {
                    self.forgive(lease, error).await?;
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

    /// What passes by itself is tried again after a pause; the rest is given back.
    async fn forgive(&mut self, lease: &TaskLease, error: EngineError) -> EngineResult<()> {
        let passing =
            matches!(error, EngineError::Connection(_) | EngineError::Contended(_) | EngineError::TooSlow(_));
        self.failures += 1;
        if !passing || self.failures > PATIENCE {
            return Err(error);
        }
        let wait = self.delays.next().unwrap_or(PAUSES.longest);
        tokio::select! {
            () = sleep(wait) => {}
            () = lease.withdrawn() => {}
        }
        lease.check()?;
        Ok(())
    }
}

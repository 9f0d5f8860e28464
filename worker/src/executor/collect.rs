//! Collecting digests: claim, then window after window, as large as the time of a batch allows.

use std::sync::Arc;
use std::time::Duration;

use shardlift_domain::progress::Receipt;
use shardlift_domain::range::RangeState;
use tokio::time::Instant;

use super::pacer::Pacer;
use super::patience::Patience;
use super::{News, RECEIPT_EVERY, Receipts};
use crate::engine::{CollectReport, Collector, DataJob, EngineError, EngineResult, ShardEngine};
use crate::lease::TaskLease;

/// Rows of one transaction: each leaves a row of its own.
const MOST: u32 = 5_000;

/// Leaves a digest of each row in the shard.
pub(super) async fn run(
    lease: &TaskLease,
    engine: &dyn ShardEngine,
    job: Arc<DataJob>,
    receipts: Receipts,
) -> EngineResult<()> {
    let mut pacer = Pacer::new(&job.data.batch);
    pacer.limit(MOST);
    let mut way = Way { receipts, pacer, told: None, batches: 0, patience: Patience::new() };
    loop {
        lease.check()?;
        let collected = match engine.open_collection(lease, Arc::clone(&job)).await {
            Ok(mut collector) => way.until_claim_is_lost(lease, collector.as_mut()).await,
            Err(error) => Err(error),
        };
        match collected {
            Ok(()) => return Ok(()),
            Err(error) => way.patience.forgive(lease, error).await?,
        }
    }
}

struct Way {
    receipts: Receipts,
    pacer: Pacer,
    told: Option<Instant>,
    batches: u64,
    patience: Patience,
}

impl Way {
    async fn until_claim_is_lost(
        &mut self,
        lease: &TaskLease,
        collector: &mut dyn Collector,
    ) -> EngineResult<()> {
        loop {
            let (began, asked) = (Instant::now(), self.pacer.next_size());
            match collector.run_batch(lease, asked).await {
                Ok(report) if report.last => return Ok(()),
                Ok(report) => {
                    self.batches += 1;
                    self.patience = Patience::new();
                    self.pacer.record(report.rows, began.elapsed());
                    self.tell(lease, report, began.elapsed());
                }
                // Rolled back: the same claim goes on, with less.
                Err(error @ (EngineError::Contended(_) | EngineError::TooSlow(_))) => {
                    self.pacer.shrink();
                    self.patience.forgive(lease, error).await?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// A receipt, at most a few a second. When nobody takes it, the next one says more.
    fn tell(&mut self, lease: &TaskLease, report: CollectReport, took: Duration) {
        if self.told.is_some_and(|told| told.elapsed() < RECEIPT_EVERY) {
            return;
        }
        let (rows, batches) = (report.digests, self.batches);
        let range = RangeState { index: 0, rows, seen: rows, batches, done: false };
        let receipt = Receipt {
            range,
            batch_size: report.rows,
            rows_per_second: f64::from(report.rows) / took.as_secs_f64().max(1e-6),
            batch_ms: took.as_secs_f64() * 1000.0,
            waits: None,
        };
        if self.receipts.try_send((lease.clone(), News::Moved(receipt))).is_ok() {
            self.told = Some(Instant::now());
        }
    }
}

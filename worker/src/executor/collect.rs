//! Collecting digests: claim, then window after window, as large as the time of a batch allows.

use std::sync::Arc;

use tokio::time::Instant;

use super::Receipts;
use super::pacer::Pacer;
use super::patience::Patience;
use super::teller::Teller;
use crate::engine::{DataJob, EngineError, EngineResult, ShardEngine};
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
    let mut way = Way { pacer, teller: Teller::new(receipts), patience: Patience::new() };
    loop {
        lease.check()?;
        match way.until_claim_is_lost(lease, engine, Arc::clone(&job)).await {
            Ok(()) => return Ok(()),
            Err(error) => way.patience.forgive(lease, error).await?,
        }
    }
}

struct Way {
    pacer: Pacer,
    teller: Teller,
    patience: Patience,
}

impl Way {
    async fn until_claim_is_lost(
        &mut self,
        lease: &TaskLease,
        engine: &dyn ShardEngine,
        job: Arc<DataJob>,
    ) -> EngineResult<()> {
        let mut collector = engine.open_collection(lease, job).await?;
        loop {
            let (began, asked) = (Instant::now(), self.pacer.next_size());
            match collector.run_batch(lease, asked).await {
                Ok(report) if report.last => return Ok(()),
                Ok(report) => {
                    let took = began.elapsed();
                    self.patience = Patience::new();
                    self.pacer.record(report.rows, took);
                    self.teller.batch(lease, report.rows, took, report.digests, report.digests);
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
}

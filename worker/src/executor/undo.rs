//! Undoing data: claim, then batch after batch from the newest to the oldest, until none is left.
//!
//! There is no pace to find: a batch is as large as it was when it was made.

use std::sync::Arc;

use shardlift_domain::verdict::Undone;
use tokio::time::Instant;

use super::Receipts;
use super::patience::Patience;
use super::teller::Teller;
use crate::engine::{DataJob, EngineError, EngineResult, ShardEngine};
use crate::lease::TaskLease;

/// Undoes everything that the shard has kept of the migration.
pub(super) async fn run(
    lease: &TaskLease,
    engine: &dyn ShardEngine,
    job: Arc<DataJob>,
    receipts: Receipts,
) -> EngineResult<Undone> {
    let mut way = Way { teller: Teller::new(receipts), patience: Patience::new() };
    loop {
        lease.check()?;
        match way.until_claim_is_lost(lease, engine, Arc::clone(&job)).await {
            Ok(undone) => return Ok(undone),
            Err(error) => way.patience.forgive(lease, error).await?,
        }
    }
}

struct Way {
    teller: Teller,
    patience: Patience,
}

impl Way {
    async fn until_claim_is_lost(
        &mut self,
        lease: &TaskLease,
        engine: &dyn ShardEngine,
        job: Arc<DataJob>,
    ) -> EngineResult<Undone> {
        let mut writer = engine.open_undo(lease, job).await?;
        loop {
            fail::fail_point!("worker-before-undo", |_| std::process::abort());
            let began = Instant::now();
            match writer.run_batch(lease).await {
                Ok(report) if report.last => return Ok(report.undone),
                Ok(report) => {
                    let Undone { restored, conflicts } = report.undone;
                    self.patience = Patience::new();
                    self.teller.batch(lease, report.rows, began.elapsed(), restored, restored + conflicts);
                }
                // Rolled back: the same claim goes on.
                Err(error @ (EngineError::Contended(_) | EngineError::TooSlow(_))) => {
                    self.patience.forgive(lease, error).await?;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

//! repair: rows that verification has found different are given what their transform gives. Pages of one shard at a time, so
//! that nothing grows; what was done is done once, so it may be begun anew at any time.

use std::time::Duration;

use shardlift_domain::failure::Failure;
use shardlift_domain::ids::{MigrationId, ShardId};
use shardlift_domain::repair::{Fate, RepairRequest, RepairedRow};
use tokio::sync::mpsc;

use super::Services;
use super::answers::Within;

/// How long one page may take: a worker ends it after some seconds, or after one row.
const PAGE_WITHIN: Within = Within {
    time: Duration::from_secs(150),
    lacks: "did not repair one page",
    next: "look whether its server is overloaded, then ask again: what was repaired is not repaired twice",
};
/// Rows of one page: an answer must fit into one message.
const PAGE: u32 = 200;

/// What became of one row.
#[derive(Debug)]
pub struct Mended {
    /// Where it is.
    pub shard: ShardId,
    /// Which, and what.
    pub row: RepairedRow,
}

impl Services {
    /// Repairs what verification has recorded on each shard, or tells what would be done. Ends early when whoever listens has
    /// gone: what was not done then waits for the next time.
    pub async fn repair(
        &self,
        id: MigrationId,
        dry_run: bool,
        told: &mpsc::Sender<Mended>,
    ) -> Result<(), Failure> {
        let shards = self.orchestrator.repairable(id.clone()).await?.shards;
        for shard in shards {
            let mut after = None;
            loop {
                // Asked before every page: somebody may have resumed it, or begun to roll it back.
                let repairable = self.orchestrator.repairable(id.clone()).await?;
                let migration = repairable.migration;
                let request = RepairRequest {
                    migration: migration.clone(),
                    file: repairable.file,
                    after,
                    limit: PAGE,
                    dry_run,
                };
                let page =
                    PAGE_WITHIN.answered(&shard, self.orchestrator.repair(shard.clone(), request)).await?;
                let mended = page.rows.iter().filter(|row| row.fate == Fate::Repaired).count() as u64;
                if mended > 0 && !dry_run {
                    self.orchestrator.mended(migration, shard.clone(), mended).await?;
                }
                for row in page.rows {
                    if told.send(Mended { shard: shard.clone(), row }).await.is_err() {
                        return Ok(());
                    }
                }
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
        }
        Ok(())
    }
}

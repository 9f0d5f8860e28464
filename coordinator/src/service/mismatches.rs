//! mismatches: rows that are not what their transform gives. Pages of one shard at a time, so that nothing grows.

use std::time::Duration;

use shardlift_domain::failure::Failure;
use shardlift_domain::ids::{MigrationId, ShardId};
use shardlift_domain::mismatch::{Compared, Difference, DifferingRow, MismatchesRequest};
use tokio::sync::mpsc;

use super::Services;
use super::answers::Within;

/// How long one page may take: a worker ends it after some seconds, or after one statement.
const PAGE_WITHIN: Within = Within {
    time: Duration::from_secs(150),
    lacks: "did not compare one page",
    next: "look whether its server is overloaded, then ask again",
};
/// Rows of one page: an answer must fit into one message.
const PAGE: u32 = 500;

/// What the look tells, piece by piece.
#[derive(Debug)]
pub enum Differing {
    /// A row that differs.
    Row {
        /// Where it is.
        shard: ShardId,
        /// Which, and how.
        row: DifferingRow,
    },
    /// So far on this shard.
    Compared {
        /// Which.
        shard: ShardId,
        /// With what result.
        compared: Compared,
        /// Whether all of it was compared.
        done: bool,
    },
}

impl Services {
    /// Walks over what a migration has kept on each shard. Lists at most `limit` rows, with `since` also those that were
    /// changed since or are gone; ends early when whoever listens has gone, or when there are more.
    pub async fn mismatches(
        &self,
        id: MigrationId,
        limit: u32,
        since: bool,
        found: &mpsc::Sender<Differing>,
    ) -> Result<(), Failure> {
        let comparable = self.orchestrator.comparable(id).await?;
        let mut left = limit;
        for shard in &comparable.shards {
            let (mut compared, mut after) = (Compared::default(), None);
            loop {
                let request = MismatchesRequest {
                    migration: comparable.migration.clone(),
                    file: comparable.file.clone(),
                    after,
                    limit: PAGE,
                };
                let page =
                    PAGE_WITHIN.answered(shard, self.orchestrator.mismatches(shard.clone(), request)).await?;
                compared += page.compared;
                let wanted = |row: &DifferingRow| since || row.difference == Difference::Mismatch;
                let rows: Vec<DifferingRow> = page.rows.into_iter().filter(wanted).collect();
                let more = rows.len() > left as usize;
                for row in rows.into_iter().take(left as usize) {
                    left -= 1;
                    if found.send(Differing::Row { shard: shard.clone(), row }).await.is_err() {
                        return Ok(());
                    }
                }
                after = page.next;
                let done = after.is_none() && !more;
                let told = Differing::Compared { shard: shard.clone(), compared, done };
                if found.send(told).await.is_err() || more {
                    return Ok(());
                }
                if done {
                    break;
                }
            }
        }
        Ok(())
    }
}

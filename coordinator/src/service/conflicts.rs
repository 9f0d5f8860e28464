//! conflicts: what a rollback has left alone, from one shard after the other, so that nothing grows.

use std::time::Duration;

use shardlift_domain::facts::{Conflict, ConflictsRequest};
use shardlift_domain::failure::Failure;
use shardlift_domain::ids::{ShardId, Version};

use super::answers::Within;
use super::{Services, migration_id};

/// How long one page may take.
const PAGE_WITHIN: Within = Within {
    time: Duration::from_secs(30),
    lacks: "did not list its conflicts",
    next: "look whether its server is overloaded, then ask again",
};
/// Conflicts of one page.
const PAGE: u32 = 1000;

impl Services {
    /// At most `limit` conflicts of a migration, by shard, and whether there are more.
    pub async fn conflicts(
        &self,
        id: &str,
        version: Option<Version>,
        limit: u32,
    ) -> Result<(Vec<(ShardId, Conflict)>, bool), Failure> {
        let view = self.orchestrator.get(migration_id(id)?, version).await?;
        let mut found = Vec::new();
        for shard in view.migration.shards.keys() {
            let mut after = None;
            loop {
                let request = ConflictsRequest { migration: view.migration.key.clone(), after, limit: PAGE };
                let page =
                    PAGE_WITHIN.answered(shard, self.orchestrator.conflicts(shard.clone(), request)).await?;
                for conflict in page.conflicts {
                    if found.len() >= limit as usize {
                        return Ok((found, true));
                    }
                    found.push((shard.clone(), conflict));
                }
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
        }
        Ok((found, false))
    }
}

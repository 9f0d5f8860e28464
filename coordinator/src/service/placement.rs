//! placement: rows whose key belongs on another shard. Pages of one shard at a time, so that nothing grows.

use std::time::Duration;

use shardlift_domain::facts::{Misplaced, PlacementRequest};
use shardlift_domain::failure::Failure;
use shardlift_domain::ids::{ClusterName, ShardId};
use tokio::sync::mpsc;

use super::Services;
use super::answers::Within;
use crate::shard::{residence, route, routing_of};

/// How long one page may take.
const PAGE_WITHIN: Within = Within {
    time: Duration::from_secs(30),
    lacks: "did not look through one page",
    next: "look whether its server is overloaded, then ask again",
};

/// What the look tells, piece by piece.
#[derive(Debug)]
pub enum Found {
    /// A row on the wrong shard; `to`: where it belongs, if anywhere.
    Row {
        /// Where it lies.
        shard: ShardId,
        /// Which row, and its key.
        row: Misplaced,
        /// Where it belongs.
        to: Option<ShardId>,
    },
    /// So far on this shard.
    Walked {
        /// Which.
        shard: ShardId,
        /// Rows looked at.
        rows: u64,
        /// Whether all of it was looked at.
        done: bool,
    },
}

impl Services {
    /// Looks through all shards of a cluster. Ends early when whoever listens has gone, or after `limit` rows.
    pub async fn placement(
        &self,
        cluster: &ClusterName,
        relation: &str,
        column: &str,
        limit: u32,
        found: &mpsc::Sender<Found>,
    ) -> Result<(), Failure> {
        let view = self.orchestrator.planning().await?;
        let (known, _) = routing_of(&view.topology, cluster)?;
        let mut left = limit;
        for shard in &known.shards {
            let mut request = PlacementRequest {
                relation: relation.to_owned(),
                column: column.to_owned(),
                residence: residence(&view.topology, &view.directory, cluster, shard)?,
                after: None,
                limit: left,
            };
            let mut rows = 0;
            loop {
                let page = PAGE_WITHIN
                    .answered(shard, self.orchestrator.placement(shard.clone(), request.clone()))
                    .await?;
                rows += page.walked;
                for row in page.misplaced.into_iter().take(left as usize) {
                    left -= 1;
                    let to = row
                        .key
                        .as_ref()
                        .and_then(|key| route(&view.topology, &view.directory, cluster, key).ok());
                    let told = Found::Row { shard: shard.clone(), row, to: to.map(|routed| routed.shard) };
                    if found.send(told).await.is_err() {
                        return Ok(());
                    }
                }
                let done = page.next.is_none();
                if found.send(Found::Walked { shard: shard.clone(), rows, done }).await.is_err() || left == 0
                {
                    return Ok(());
                }
                if done {
                    break;
                }
                (request.after, request.limit) = (page.next, left);
            }
        }
        Ok(())
    }
}

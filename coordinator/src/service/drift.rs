//! drift: do the shards of each cluster have the same schema? First their digests, then lines where they differ.

use std::collections::BTreeMap;

use shardlift_domain::facts::{FactsRequest, SchemaDepth};
use shardlift_domain::failure::Failure;
use shardlift_domain::ids::{ClusterName, ShardId};

use super::Services;
use crate::shard::{Drift, compare, groups};

/// Groups whose lines are compared; more are only counted.
const COMPARED: usize = 8;

/// One cluster's answer.
#[derive(Debug)]
pub struct ClusterDrift {
    /// Which.
    pub cluster: ClusterName,
    /// How its shards differ.
    pub drift: Drift,
    /// Shards that could not be asked, and why.
    pub unknown: BTreeMap<ShardId, Failure>,
    /// Some schema has more lines than a worker tells.
    pub truncated: bool,
}

impl Services {
    /// Compares the shards of one cluster, or of each.
    pub async fn drift(&self, cluster: Option<ClusterName>) -> Result<Vec<ClusterDrift>, Failure> {
        let view = self.orchestrator.planning().await?;
        if let Some(name) = cluster.as_ref().filter(|name| !view.topology.clusters.contains_key(*name)) {
            return Err(crate::shard::no_cluster(name, &view.topology));
        }
        let wanted = view
            .topology
            .clusters
            .values()
            .filter(|known| cluster.as_ref().is_none_or(|name| *name == known.name));
        let mut all = Vec::new();
        for cluster in wanted {
            all.push(self.compared(cluster.name.clone(), &cluster.shards).await);
        }
        Ok(all)
    }

    async fn compared(&self, cluster: ClusterName, shards: &[ShardId]) -> ClusterDrift {
        let asked = shards.iter().map(|shard| (shard.clone(), request(SchemaDepth::Digest))).collect();
        let (mut digests, mut unknown) = (BTreeMap::new(), BTreeMap::new());
        for (shard, told) in self.facts(asked).await {
            match told {
                Ok(facts) => {
                    drop(digests.insert(shard, facts.schema.map(|schema| schema.digest).unwrap_or_default()))
                }
                Err(failure) => drop(unknown.insert(shard, failure)),
            }
        }
        let groups = groups(&digests);
        let mut lines = BTreeMap::new();
        let mut truncated = groups.len() > COMPARED;
        if groups.len() > 1 {
            let asked = groups.iter().take(COMPARED).filter_map(|group| group.shards.first());
            let asked = asked.map(|shard| (shard.clone(), request(SchemaDepth::Lines))).collect();
            for (shard, told) in self.facts(asked).await {
                match told {
                    Ok(facts) => {
                        let schema = facts.schema.unwrap_or_default();
                        truncated |= schema.truncated;
                        // It may have changed since the first question.
                        digests.insert(shard.clone(), schema.digest);
                        lines.insert(shard, schema.lines);
                    }
                    Err(failure) => {
                        digests.remove(&shard);
                        unknown.insert(shard, failure);
                    }
                }
            }
        }
        ClusterDrift { cluster, drift: compare(&digests, &lines), unknown, truncated }
    }
}

fn request(schema: SchemaDepth) -> FactsRequest {
    FactsRequest { schema, ..FactsRequest::default() }
}

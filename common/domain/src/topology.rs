//! Clusters and their shards, as the operator declared them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{ClusterName, ShardId};
use crate::spec::Engine;

/// A named group of shards of one engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Its name.
    pub name: ClusterName,
    /// Drawn once when the cluster was first declared: a shard's identity row holds it for ever.
    pub uuid: String,
    /// The engine of all its shards.
    pub engine: Engine,
    /// Its shards, in the order of the declaration.
    pub shards: Vec<ShardId>,
}

/// All clusters.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Topology {
    /// Grows with every change.
    pub revision: u64,
    /// By name.
    pub clusters: BTreeMap<ClusterName, Cluster>,
}

impl Topology {
    /// The cluster of a shard.
    pub fn cluster_of(&self, shard: &ShardId) -> Option<&Cluster> {
        self.clusters.values().find(|cluster| cluster.shards.contains(shard))
    }

    /// All shards with their clusters.
    pub fn shards(&self) -> impl Iterator<Item = (&ShardId, &Cluster)> {
        self.clusters.values().flat_map(|cluster| cluster.shards.iter().map(move |shard| (shard, cluster)))
    }
}

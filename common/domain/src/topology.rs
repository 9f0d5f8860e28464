//! Clusters and their shards: as the operator declared them, and as they changed since.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{ClusterName, ShardId};
use crate::routing::Routing;
use crate::spec::Engine;

/// Changes that are remembered.
pub const CHANGES_KEPT: usize = 50;

/// A named group of shards of one engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Its name.
    pub name: ClusterName,
    /// Drawn once when the cluster was first declared: a shard's identity row holds it for ever.
    pub uuid: String,
    /// The engine of all its shards.
    pub engine: Engine,
    /// Its shards, in the order in which they came.
    pub shards: Vec<ShardId>,
    /// What else is known of it.
    #[serde(default)]
    pub rules: ClusterRules,
}

/// What a cluster's row holds beside its name, uuid and engine: one JSON value in every store.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ClusterRules {
    /// Which shard holds which key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routing: Option<Routing>,
    /// The file declares the routing, so only the file changes it.
    #[serde(default)]
    pub routing_declared: bool,
    /// A shard of the right engine that a worker announces joins by itself.
    #[serde(default)]
    pub discover: bool,
    /// Shards that the file does not declare, and how they came.
    #[serde(default)]
    pub joined: BTreeMap<ShardId, Joined>,
}

/// How a shard came that the file does not declare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Joined {
    /// A person added it.
    Person,
    /// A worker announced it.
    Worker,
}

/// One change of the topology, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopologyChange {
    /// The revision that it made.
    pub revision: u64,
    /// What changed.
    pub what: String,
}

/// All clusters.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Topology {
    /// Grows with every change.
    pub revision: u64,
    /// By name.
    pub clusters: BTreeMap<ClusterName, Cluster>,
    /// The newest changes, oldest first; at most [`CHANGES_KEPT`].
    #[serde(default)]
    pub changes: Vec<TopologyChange>,
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

    /// What changed after a revision, as far as it is remembered.
    pub fn since(&self, revision: u64) -> impl Iterator<Item = &TopologyChange> {
        self.changes.iter().filter(move |change| change.revision > revision)
    }

    /// The next revision, which came about by this.
    pub fn changed(&mut self, what: Vec<String>) {
        self.revision += 1;
        let revision = self.revision;
        self.changes.extend(what.into_iter().map(|what| TopologyChange { revision, what }));
        let over = self.changes.len().saturating_sub(CHANGES_KEPT);
        self.changes.drain(..over);
    }
}

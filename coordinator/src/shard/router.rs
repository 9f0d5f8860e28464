//! Which shard holds a key, and why.

use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::ids::{ClusterName, ShardId};
use shardlift_domain::routing::{Directory, Residence, Routing};
use shardlift_domain::topology::{Cluster, Topology};

/// Where a key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routed {
    /// The key in its one text form.
    pub key: String,
    /// The shard that holds it.
    pub shard: ShardId,
    /// `hash`, `range` or `directory`.
    pub rule: &'static str,
    /// Its bucket, where the rule knows buckets.
    pub bucket: Option<u32>,
    /// The revision that says so.
    pub revision: u64,
}

/// Routes a key.
pub fn route(
    topology: &Topology,
    directory: &Directory,
    name: &ClusterName,
    key: &str,
) -> Result<Routed, Failure> {
    let (cluster, routing) = routing_of(topology, name)?;
    let parsed = routing.key.parse(key).map_err(|error| {
        Failure::new(
            ErrorCode::RoutingUnroutable,
            format!("cluster {name}: {error}"),
            format!("write keys of cluster {name} as {}", routing.key),
        )
    })?;
    let shard = routing.route(directory.of(&cluster.name), &parsed).ok_or_else(|| {
        Failure::new(
            ErrorCode::RoutingUnroutable,
            format!(
                "key {:?} has no entry in the directory of cluster {name}, which has no default",
                parsed.canonical()
            ),
            format!("add one: shardlift topology route-key {name} KEY SHARD"),
        )
    })?;
    Ok(Routed {
        key: parsed.canonical(),
        shard: shard.clone(),
        rule: routing.label(),
        bucket: routing.bucket(&parsed),
        revision: topology.revision,
    })
}

/// A cluster and its rule, if it has one.
pub fn routing_of<'t>(
    topology: &'t Topology,
    name: &ClusterName,
) -> Result<(&'t Cluster, &'t Routing), Failure> {
    let cluster = topology.clusters.get(name).ok_or_else(|| no_cluster(name, topology))?;
    let routing = cluster.rules.routing.as_ref().ok_or_else(|| {
        Failure::new(
            ErrorCode::RoutingUnroutable,
            format!("cluster {name} has no routing rule, so nothing says which shard holds a key"),
            "declare `routing` in the coordinator's file or use `shardlift topology set-routing`",
        )
    })?;
    Ok((cluster, routing))
}

/// What lives on a shard.
pub fn residence(
    topology: &Topology,
    directory: &Directory,
    name: &ClusterName,
    shard: &ShardId,
) -> Result<Residence, Failure> {
    let (_, routing) = routing_of(topology, name)?;
    Ok(routing.residence(directory.of(name), shard))
}

/// There is no such cluster.
pub fn no_cluster(name: &ClusterName, topology: &Topology) -> Failure {
    let names: Vec<_> = topology.clusters.keys().map(|name| name.as_str()).collect();
    Failure::new(
        ErrorCode::RequestNotFound,
        format!("there is no cluster {name}; there are: {}", names.join(", ")),
        "correct the name, or declare the cluster in the coordinator's file",
    )
}

//! The topology, its changes and its drift on the wire.

use shardlift_domain::failure::Failure;
use shardlift_domain::ids::ShardId;
use shardlift_domain::topology::{Cluster, Joined};
use shardlift_proto::convert::{WireError, routing_from_wire, routing_to_wire};
use shardlift_proto::v1;

use crate::orchestrator::PlanningView;
use crate::service::{ClusterDrift, cluster_name, shard_id};
use crate::shard::{Difference, Edit};

/// Everything there is.
pub(super) fn topology_to_wire(view: &PlanningView) -> v1::TopologyResponse {
    let cluster = |cluster: &Cluster| v1::Cluster {
        name: cluster.name.to_string(),
        engine: v1::Engine::from(cluster.engine).into(),
        shards: cluster.shards.iter().map(|shard| member(cluster, shard)).collect(),
        routing: cluster.rules.routing.as_ref().map(routing_to_wire),
        routing_declared: cluster.rules.routing_declared,
        discover: cluster.rules.discover,
        entries: view.directory.of(&cluster.name).len() as u64,
    };
    let change = |change: &shardlift_domain::topology::TopologyChange| v1::TopologyChange {
        revision: change.revision,
        what: change.what.clone(),
    };
    v1::TopologyResponse {
        revision: view.topology.revision,
        clusters: view.topology.clusters.values().map(cluster).collect(),
        changes: view.topology.changes.iter().map(change).collect(),
    }
}

fn member(cluster: &Cluster, shard: &ShardId) -> v1::Member {
    use v1::member::Origin;
    let origin = match cluster.rules.joined.get(shard) {
        None => Origin::File,
        Some(Joined::Person) => Origin::Person,
        Some(Joined::Worker) => Origin::Worker,
    };
    v1::Member { shard: shard.to_string(), origin: origin.into() }
}

/// A change; `None`: the file is read again.
pub(super) fn change_from_wire(request: v1::ChangeTopologyRequest) -> Result<Option<Edit>, Failure> {
    use v1::change_topology_request::Change;
    Ok(match request.change.ok_or(WireError::Missing("change"))? {
        Change::Reload(_) => None,
        Change::AddShard(of) => {
            Some(Edit::Add(cluster_name(&of.cluster)?, shard_id(&of.shard)?, Joined::Person))
        }
        Change::RemoveShard(of) => Some(Edit::Remove(cluster_name(&of.cluster)?, shard_id(&of.shard)?)),
        Change::SetRouting(set) => {
            let routing = set.routing.map(routing_from_wire).transpose()?;
            Some(Edit::Route(cluster_name(&set.cluster)?, routing))
        }
        Change::RouteKey(set) => {
            let shard = set.shard.as_deref().map(shard_id).transpose()?;
            Some(Edit::Entry(cluster_name(&set.cluster)?, set.key, shard))
        }
    })
}

/// How the shards of a cluster differ.
pub(super) fn drift_to_wire(found: ClusterDrift) -> v1::ClusterDrift {
    let groups = found.drift.groups.into_iter().map(|group| v1::SchemaGroup {
        digest: group.digest,
        shards: group.shards.into_iter().map(Into::into).collect(),
    });
    let unknown = found
        .unknown
        .into_iter()
        .map(|(shard, failure)| v1::UnknownShard { shard: shard.into(), failure: Some(failure.into()) });
    v1::ClusterDrift {
        cluster: found.cluster.into(),
        groups: groups.collect(),
        differences: found.drift.differences.into_iter().map(difference).collect(),
        unknown: unknown.collect(),
        truncated: found.truncated,
    }
}

fn difference(difference: Difference) -> v1::Difference {
    let sides = difference.sides.into_iter().map(|definition| v1::Side { definition });
    v1::Difference { object: difference.object, sides: sides.collect() }
}

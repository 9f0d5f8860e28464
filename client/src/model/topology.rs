//! Where things are, and whether they agree.

use shardlift_domain::facts::Misplaced;
use shardlift_domain::failure::Failure;
use shardlift_domain::ids::{ClusterName, ShardId};
use shardlift_domain::routing::Routing;
use shardlift_domain::spec::Engine;
use shardlift_domain::topology::TopologyChange;
use shardlift_proto::convert::{WireError, failure_from_wire, routing_from_wire};
use shardlift_proto::v1;

/// All clusters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopologyView {
    /// Grows with every change.
    pub revision: u64,
    /// By name.
    pub clusters: Vec<ClusterView>,
    /// The newest changes, oldest first. Free text of a peer: make it harmless before showing it.
    pub changes: Vec<TopologyChange>,
}

/// One cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterView {
    /// Its name.
    pub name: ClusterName,
    /// Its engine.
    pub engine: Engine,
    /// Its shards, each with how it came: `file`, `person` or `worker`.
    pub shards: Vec<(ShardId, &'static str)>,
    /// Which shard holds which key.
    pub routing: Option<Routing>,
    /// The file declares the routing.
    pub routing_declared: bool,
    /// Announced shards join by themselves.
    pub discover: bool,
    /// Entries of its directory.
    pub entries: u64,
}

impl TopologyView {
    pub(crate) fn from_wire(view: v1::TopologyResponse) -> Result<Self, WireError> {
        let change =
            |change: v1::TopologyChange| TopologyChange { revision: change.revision, what: change.what };
        Ok(Self {
            revision: view.revision,
            clusters: view.clusters.into_iter().map(ClusterView::from_wire).collect::<Result<_, _>>()?,
            changes: view.changes.into_iter().map(change).collect(),
        })
    }
}

impl ClusterView {
    fn from_wire(cluster: v1::Cluster) -> Result<Self, WireError> {
        use v1::member::Origin;
        let member = |member: v1::Member| {
            let origin = match member.origin() {
                Origin::File | Origin::Unspecified => "file",
                Origin::Person => "person",
                Origin::Worker => "worker",
            };
            Ok((ShardId::new(member.shard)?, origin))
        };
        Ok(Self {
            engine: cluster.engine().try_into()?,
            name: ClusterName::new(cluster.name)?,
            shards: cluster.shards.into_iter().map(member).collect::<Result<_, WireError>>()?,
            routing: cluster.routing.map(routing_from_wire).transpose()?,
            routing_declared: cluster.routing_declared,
            discover: cluster.discover,
            entries: cluster.entries,
        })
    }
}

/// A change of the topology.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopologyEdit {
    /// The coordinator reads its file again.
    Reload,
    /// A shard joins.
    AddShard(ClusterName, ShardId),
    /// A shard leaves.
    RemoveShard(ClusterName, ShardId),
    /// Another rule, or none.
    SetRouting(ClusterName, Option<Routing>),
    /// A key is on this shard from now on, or has no entry any more.
    RouteKey(ClusterName, String, Option<ShardId>),
}

/// Where a key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routed {
    /// The key in its one text form.
    pub key: String,
    /// The shard that holds it.
    pub shard: ShardId,
    /// `hash`, `range` or `directory`.
    pub rule: String,
    /// Its bucket, where the rule knows buckets.
    pub bucket: Option<u32>,
    /// The revision that says so.
    pub revision: u64,
}

impl Routed {
    pub(crate) fn from_wire(routed: v1::RouteResponse) -> Result<Self, WireError> {
        Ok(Self {
            key: routed.key,
            shard: ShardId::new(routed.shard)?,
            rule: routed.rule,
            bucket: routed.bucket,
            revision: routed.topology_revision,
        })
    }
}

/// How the shards of a cluster differ. Definitions are free text of servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterDrift {
    /// Which cluster.
    pub cluster: ClusterName,
    /// Shards with the same schema: digest and shards, the largest group first.
    pub groups: Vec<(String, Vec<ShardId>)>,
    /// Objects that differ, and how they are in each group.
    pub differences: Vec<(String, Vec<Option<String>>)>,
    /// Shards that could not be asked.
    pub unknown: Vec<(ShardId, Option<Failure>)>,
    /// There is more than is told.
    pub truncated: bool,
}

impl ClusterDrift {
    /// Whether shards differ.
    pub fn drifted(&self) -> bool {
        self.groups.len() > 1
    }

    pub(crate) fn from_wire(drift: v1::ClusterDrift) -> Result<Self, WireError> {
        let names = |shards: Vec<String>| shards.into_iter().map(ShardId::new).collect::<Result<_, _>>();
        let group = |group: v1::SchemaGroup| Ok((group.digest, names(group.shards)?));
        let difference = |difference: v1::Difference| {
            (difference.object, difference.sides.into_iter().map(|side| side.definition).collect())
        };
        let unknown = |unknown: v1::UnknownShard| {
            Ok((ShardId::new(unknown.shard)?, unknown.failure.map(failure_from_wire)))
        };
        Ok(Self {
            cluster: ClusterName::new(drift.cluster)?,
            groups: drift.groups.into_iter().map(group).collect::<Result<_, WireError>>()?,
            differences: drift.differences.into_iter().map(difference).collect(),
            unknown: drift.unknown.into_iter().map(unknown).collect::<Result<_, WireError>>()?,
            truncated: drift.truncated,
        })
    }
}

/// What a look for misplaced rows tells, piece by piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A row on the wrong shard, and where it belongs.
    Row(ShardId, Misplaced, Option<ShardId>),
    /// So many rows of a shard were looked at; whether that is all of it.
    Walked(ShardId, u64, bool),
}

impl Found {
    pub(crate) fn from_wire(found: v1::PlacementResponse) -> Result<Self, WireError> {
        use v1::placement_response::Found as Wire;
        Ok(match found.found.ok_or(WireError::Missing("found"))? {
            Wire::Row(row) => {
                let to = row.belongs_to.map(ShardId::new).transpose()?;
                Found::Row(ShardId::new(row.shard)?, Misplaced { row: row.row, key: row.key }, to)
            }
            Wire::Walked(walked) => Found::Walked(ShardId::new(walked.shard)?, walked.rows, walked.done),
        })
    }
}

//! Questions about the topology: where keys are, whether shards agree, and changes of it.

use shardlift_domain::failure::Failure;
use shardlift_domain::ids::ClusterName;
use shardlift_proto::convert::routing_to_wire;
use shardlift_proto::v1;

use crate::client::{Client, QUICK, THOROUGH, lacking, within};
use crate::connection::Services;
use crate::model::{ClusterDrift, Found, InDoubt, Routed, TopologyEdit, TopologyView};
use crate::pieces::Pieces;

impl Client {
    /// Clusters, shards, rules and the newest changes.
    pub async fn topology(&self) -> Result<TopologyView, Vec<Failure>> {
        let ask = |mut to: Services| async move {
            to.cluster.topology(within(QUICK, v1::TopologyRequest {})).await
        };
        TopologyView::from_wire(self.connection.answered(ask).await?).map_err(lacking)
    }

    /// Changes the topology; answers after the commit: whether anything changed, and the revision now.
    pub async fn change_topology(&self, edit: TopologyEdit) -> Result<(bool, u64), Vec<Failure>> {
        let request = v1::ChangeTopologyRequest { change: Some(edit_to_wire(edit)) };
        let ask = |mut to: Services| {
            let request = within(QUICK, request.clone());
            async move { to.cluster.change_topology(request).await }
        };
        let answer = self.connection.answered(ask).await?;
        Ok((answer.changed, answer.revision))
    }

    /// Which shard holds a key.
    pub async fn route(&self, cluster: &ClusterName, key: &str) -> Result<Routed, Vec<Failure>> {
        let request = v1::RouteRequest { cluster: cluster.to_string(), key: key.to_owned() };
        let ask = |mut to: Services| {
            let request = within(QUICK, request.clone());
            async move { to.cluster.route(request).await }
        };
        Routed::from_wire(self.connection.answered(ask).await?).map_err(lacking)
    }

    /// Whether the shards of one cluster, or of each, have the same schema.
    pub async fn drift(&self, cluster: Option<&ClusterName>) -> Result<Vec<ClusterDrift>, Vec<Failure>> {
        let request = v1::DriftRequest { cluster: cluster.map(ToString::to_string) };
        let ask = |mut to: Services| {
            let request = within(THOROUGH, request.clone());
            async move { to.cluster.drift(request).await }
        };
        let clusters = self.connection.answered(ask).await?.clusters;
        clusters.into_iter().map(ClusterDrift::from_wire).collect::<Result<_, _>>().map_err(lacking)
    }

    /// What is prepared on the shards, and what was decided about it; `all`: also what is not ours.
    pub async fn in_doubt(&self, all: bool) -> Result<InDoubt, Vec<Failure>> {
        let ask = |mut to: Services| async move {
            to.cluster.indoubt(within(THOROUGH, v1::IndoubtRequest { all })).await
        };
        InDoubt::from_wire(self.connection.answered(ask).await?).map_err(lacking)
    }

    /// Looks for rows that lie on another shard than their key says.
    pub async fn placement(
        &self,
        cluster: &ClusterName,
        relation: &str,
        column: &str,
        limit: u32,
    ) -> Result<Pieces<v1::PlacementResponse>, Vec<Failure>> {
        let request = v1::PlacementRequest {
            cluster: cluster.to_string(),
            relation: relation.to_owned(),
            column: column.to_owned(),
            limit,
        };
        let ask = |mut to: Services, request| async move { to.cluster.placement(request).await };
        self.pieces(request, ask).await
    }
}

impl Pieces<v1::PlacementResponse> {
    /// What was found next; `None`: that is all.
    pub async fn next(&mut self) -> Result<Option<Found>, Vec<Failure>> {
        self.piece().await?.map(Found::from_wire).transpose().map_err(lacking)
    }
}

fn edit_to_wire(edit: TopologyEdit) -> v1::change_topology_request::Change {
    use v1::change_topology_request::Change;
    match edit {
        TopologyEdit::Reload => Change::Reload(v1::Reload {}),
        TopologyEdit::AddShard(cluster, shard) => {
            Change::AddShard(v1::ShardOfCluster { cluster: cluster.into(), shard: shard.into() })
        }
        TopologyEdit::RemoveShard(cluster, shard) => {
            Change::RemoveShard(v1::ShardOfCluster { cluster: cluster.into(), shard: shard.into() })
        }
        TopologyEdit::SetRouting(cluster, routing) => Change::SetRouting(v1::SetRouting {
            cluster: cluster.into(),
            routing: routing.as_ref().map(routing_to_wire),
        }),
        TopologyEdit::RouteKey(cluster, key, shard) => {
            Change::RouteKey(v1::RouteKey { cluster: cluster.into(), key, shard: shard.map(Into::into) })
        }
    }
}

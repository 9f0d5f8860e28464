//! topology: what it is, changes of it, and where a key is.

use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::ids::{ClusterName, ShardId};

use super::Services;
use crate::orchestrator::Asker;
use crate::shard::{Edit, Routed, route};

impl Services {
    /// Reads the file again. Whether anything changed, and the revision now.
    pub async fn reload(&self, by: Asker) -> Result<(bool, u64), Failure> {
        let declared = (self.declare)()?;
        self.orchestrator.edit(Edit::Declare(declared), by).await
    }

    /// Changes the topology. Whether anything changed, and the revision now.
    pub async fn change(&self, edit: Edit, by: Asker) -> Result<(bool, u64), Failure> {
        self.orchestrator.edit(edit, by).await
    }

    /// Which shard holds a key.
    pub async fn route(&self, cluster: &str, key: &str) -> Result<Routed, Failure> {
        let cluster = cluster_name(cluster)?;
        let view = self.orchestrator.planning().await?;
        route(&view.topology, &view.directory, &cluster, key)
    }
}

/// Checks a name that came from outside.
pub fn cluster_name(text: &str) -> Result<ClusterName, Failure> {
    ClusterName::new(text).map_err(|error| {
        Failure::new(
            ErrorCode::RequestInvalid,
            error.to_string(),
            "use a cluster as `shardlift topology show` shows it",
        )
    })
}

/// Checks an id that came from outside.
pub fn shard_id(text: &str) -> Result<ShardId, Failure> {
    ShardId::new(text).map_err(|error| {
        Failure::new(
            ErrorCode::RequestInvalid,
            error.to_string(),
            "use a shard as `shardlift shards` shows it",
        )
    })
}

//! `shardlift drift [CLUSTER]`.

use shardlift_domain::ids::ClusterName;

use crate::cli::Session;
use crate::console::Ended;
use crate::exit::Exit;
use crate::view::topology;

/// Compare the schemas of the shards of a cluster, or of each cluster, and show side by side what differs.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  shardlift drift
  shardlift drift chat --output json

Tables, columns, indexes, constraints, triggers, functions and types count; collections, their rules and indexes. The order of
columns, sizes and Shardlift's own tables do not. Ends with 0 when all shards agree, 8 when they differ, 5 when a shard
could not be asked.")]
pub(crate) struct Drift {
    /// Only this cluster.
    cluster: Option<ClusterName>,
}

impl Drift {
    pub(crate) async fn run(&self, session: &Session) -> Result<Exit, Ended> {
        let all = session.client()?.drift(self.cluster.as_ref()).await?;
        session.console.answer(|paint| topology::drift(paint, &all), || topology::drift_json(&all))?;
        Ok(match () {
            () if all.iter().any(|cluster| cluster.drifted()) => Exit::Differs,
            () if all.iter().any(|cluster| !cluster.unknown.is_empty()) => Exit::Refused,
            () => Exit::Done,
        })
    }
}

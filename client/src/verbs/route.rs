//! `shardlift route CLUSTER KEY`.

use shardlift_domain::ids::ClusterName;

use crate::cli::Session;
use crate::console::Ended;
use crate::exit::Exit;
use crate::view::topology;

/// Say which shard of a cluster holds a key, such as a tenant, and why.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  shardlift route chat 42
  shardlift route chat acme --output json

docs/routing.md describes the rules, so that an application can compute the same.")]
pub(crate) struct Route {
    /// The cluster.
    cluster: ClusterName,
    /// The key, as text.
    #[arg(allow_hyphen_values = true)]
    key: String,
}

impl Route {
    pub(crate) async fn run(&self, session: &Session) -> Result<Exit, Ended> {
        let routed = session.client()?.route(&self.cluster, &self.key).await?;
        session.console.answer(|_| topology::routed(&routed), || topology::routed_json(&routed))?;
        Ok(Exit::Done)
    }
}

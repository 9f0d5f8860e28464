//! `shardlift placement CLUSTER --relation T --key COLUMN`.

use std::collections::BTreeMap;

use serde_json::json;
use shardlift_client::model::Found;
use shardlift_domain::ids::{ClusterName, ShardId};

use crate::cli::Session;
use crate::console::Ended;
use crate::exit::Exit;
use crate::view::figures::counted;
use crate::view::topology;

/// Find rows that lie on another shard than the cluster's routing rule says. Reads only.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  shardlift placement chat --relation messages --key tenant_id
  shardlift placement chat-docs --relation messages --key tenant --limit 20 --output json

Each shard is walked by its primary key, in pages. Only keys of rows that lie wrongly leave their shard, and no other values.
Ends with 0 when every row lies where it belongs, and with 8 when some do not.")]
pub(crate) struct Placement {
    /// The cluster; it needs a routing rule.
    cluster: ClusterName,
    /// The table or collection.
    #[arg(long, value_name = "NAME")]
    relation: String,
    /// The column or field that holds the routing key.
    #[arg(long, value_name = "COLUMN")]
    key: String,
    /// List at most so many rows.
    #[arg(long, value_name = "ROWS", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    limit: u32,
}

impl Placement {
    pub(crate) async fn run(&self, session: &Session) -> Result<Exit, Ended> {
        let client = session.client()?;
        let mut look = client.placement(&self.cluster, &self.relation, &self.key, self.limit).await?;
        let (mut listed, mut rows) = (0_u32, Vec::new());
        let mut walked: BTreeMap<ShardId, (u64, bool)> = BTreeMap::new();
        while let Some(found) = look.next().await? {
            match found {
                Found::Row(shard, row, to) => {
                    listed += 1;
                    session.console.remark(&topology::misplaced(&shard, &row, to.as_ref()))?;
                    // Bounded by the limit.
                    rows.push(json!({ "shard": shard, "row": row.row, "key": row.key, "belongs_to": to }));
                }
                Found::Walked(shard, rows, done) => drop(walked.insert(shard, (rows, done))),
            }
        }
        let all: u64 = walked.values().map(|(rows, _)| rows).sum();
        let more = if listed >= self.limit { "; there may be more (--limit)" } else { "" };
        let sentence = format!(
            "{} on the wrong shard, of {all} on {}{more}\n",
            counted(listed as usize, "row"),
            counted(walked.len(), "shard")
        );
        let walks = || {
            let walk = |(shard, (rows, done)): (&ShardId, &(u64, bool))| json!({ "shard": shard, "rows": rows, "done": done });
            walked.iter().map(walk).collect::<Vec<_>>()
        };
        session.console.answer(|_| sentence, || json!({ "misplaced": rows, "shards": walks() }))?;
        Ok(if listed > 0 { Exit::Differs } else { Exit::Done })
    }
}

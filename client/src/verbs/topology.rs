//! `shardlift topology …`.

use clap::Subcommand;
use serde_json::json;
use shardlift_client::model::TopologyEdit;
use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::ids::{ClusterName, ShardId};
use shardlift_domain::routing::{KeyKind, KeyRange, Routing, Rule, Span};

use crate::cli::Session;
use crate::console::Ended;
use crate::exit::Exit;
use crate::view::topology;

/// Look at clusters, shards and routing rules, and change what the coordinator's file does not declare.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  shardlift topology show
  shardlift topology reload                                      after the coordinator's file was changed
  shardlift topology add-shard chat chat-pg-03
  shardlift topology set-routing chat --key integer --buckets 1024 --span chat-pg-01=0-511 --span chat-pg-02=512-1023
  shardlift topology set-routing chat --below chat-pg-01=m --rest chat-pg-02
  shardlift topology set-routing chat --directory --default chat-pg-01
  shardlift topology route-key chat acme chat-pg-02

Every change is a new revision; a plan that was made before it is refused and made anew. docs/routing.md tells more.")]
pub(crate) struct Topology {
    #[command(subcommand)]
    verb: Change,
}

#[derive(Debug, Subcommand)]
enum Change {
    /// Show clusters, shards, rules and the newest changes.
    Show,
    /// Let the coordinator read its file again, as SIGHUP does.
    Reload,
    /// Add a shard that the file does not declare.
    AddShard {
        /// To which cluster.
        cluster: ClusterName,
        /// Which shard: the id in its worker's configuration.
        shard: ShardId,
    },
    /// Remove a shard that the file does not declare. Refused while a migration, a rule, an entry or a worker needs it.
    RemoveShard {
        /// From which cluster.
        cluster: ClusterName,
        /// Which shard.
        shard: ShardId,
    },
    /// Set the rule that says which shard holds a key.
    SetRouting(SetRouting),
    /// Set the directory's entry of a key.
    RouteKey {
        /// In which cluster.
        cluster: ClusterName,
        /// Which key.
        #[arg(allow_hyphen_values = true)]
        key: String,
        /// Where it is from now on.
        shard: ShardId,
    },
    /// Remove the directory's entry of a key.
    UnrouteKey {
        /// In which cluster.
        cluster: ClusterName,
        /// Which key.
        #[arg(allow_hyphen_values = true)]
        key: String,
    },
}

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("rule").required(true).args(["buckets", "rest", "directory", "none"]))]
struct SetRouting {
    /// Of which cluster.
    cluster: ClusterName,
    /// What keys are: text, integer or uuid.
    #[arg(long = "key", default_value = "text", value_parser = ["text", "integer", "uuid"])]
    kind: String,
    /// A hash rule with so many buckets.
    #[arg(long, value_name = "NUMBER", requires = "span")]
    buckets: Option<u32>,
    /// Buckets of a shard, such as chat-pg-01=0-511; again for each.
    #[arg(long, value_name = "SHARD=FIRST-LAST", requires = "buckets")]
    span: Vec<String>,
    /// A range rule: keys below this one are on the shard, such as chat-pg-01=m; again for each, in order.
    #[arg(long, value_name = "SHARD=KEY", requires = "rest")]
    below: Vec<String>,
    /// The shard of all keys after the last bound of a range rule.
    #[arg(long, value_name = "SHARD")]
    rest: Option<ShardId>,
    /// A directory: each key has an entry.
    #[arg(long)]
    directory: bool,
    /// Where keys without an entry are.
    #[arg(long, value_name = "SHARD", requires = "directory")]
    default: Option<ShardId>,
    /// No rule any more.
    #[arg(long)]
    none: bool,
}

impl Topology {
    pub(crate) async fn run(&self, session: &Session) -> Result<Exit, Ended> {
        let edit = match &self.verb {
            Change::Show => {
                let view = session.client()?.topology().await?;
                session
                    .console
                    .answer(|paint| topology::show(paint, &view), || topology::show_json(&view))?;
                return Ok(Exit::Done);
            }
            Change::Reload => TopologyEdit::Reload,
            Change::AddShard { cluster, shard } => TopologyEdit::AddShard(cluster.clone(), shard.clone()),
            Change::RemoveShard { cluster, shard } => {
                TopologyEdit::RemoveShard(cluster.clone(), shard.clone())
            }
            Change::SetRouting(set) => TopologyEdit::SetRouting(set.cluster.clone(), set.routing()?),
            Change::RouteKey { cluster, key, shard } => {
                TopologyEdit::RouteKey(cluster.clone(), key.clone(), Some(shard.clone()))
            }
            Change::UnrouteKey { cluster, key } => TopologyEdit::RouteKey(cluster.clone(), key.clone(), None),
        };
        let (changed, revision) = session.client()?.change_topology(edit).await?;
        let sentence = match changed {
            true => format!("Done; the topology is at revision {revision}.\n"),
            false => format!("Nothing to do: it is so already, at revision {revision}.\n"),
        };
        session.console.answer(|_| sentence, || json!({ "changed": changed, "revision": revision }))?;
        Ok(Exit::Done)
    }
}

impl SetRouting {
    fn routing(&self) -> Result<Option<Routing>, Failure> {
        let kind = KeyKind::ALL.into_iter().find(|kind| kind.as_str() == self.kind).unwrap_or_default();
        let rule = if let Some(buckets) = self.buckets {
            let spans = self.span.iter().map(|text| span(text)).collect::<Result<_, _>>()?;
            Rule::Hash { buckets, spans }
        } else if let Some(rest) = &self.rest {
            let mut ranges = Vec::new();
            for text in &self.below {
                let (shard, below) = named(text)?;
                ranges.push(KeyRange { below: Some(below.to_owned()), shard });
            }
            ranges.push(KeyRange { below: None, shard: rest.clone() });
            Rule::Range { ranges }
        } else if self.directory {
            Rule::Directory { default: self.default.clone() }
        } else {
            return Ok(None);
        };
        Ok(Some(Routing { key: kind, rule }))
    }
}

fn span(text: &str) -> Result<Span, Failure> {
    let (shard, buckets) = named(text)?;
    let (first, last) = buckets.split_once('-').unwrap_or((buckets, buckets));
    match (first.parse(), last.parse()) {
        (Ok(first), Ok(last)) => Ok(Span { first, last, shard }),
        _ => Err(malformed(text, "SHARD=FIRST-LAST, such as chat-pg-01=0-511")),
    }
}

fn named(text: &str) -> Result<(ShardId, &str), Failure> {
    let parts = text.split_once('=').and_then(|(shard, rest)| Some((ShardId::new(shard).ok()?, rest)));
    parts.ok_or_else(|| malformed(text, "SHARD=…, such as chat-pg-01=…"))
}

fn malformed(text: &str, wanted: &str) -> Failure {
    Failure::new(
        ErrorCode::RequestInvalid,
        format!("{text:?} is not {wanted}"),
        "see shardlift topology set-routing --help",
    )
}

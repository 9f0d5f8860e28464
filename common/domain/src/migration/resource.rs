//! What a migration works on, shard by shard: what no two migrations may hold at the same time.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{ClusterName, ShardId};

use super::state::Migration;

/// One table or collection of one shard, or all of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Resource {
    /// The cluster of the shard.
    pub cluster: ClusterName,
    /// The shard.
    pub shard: ShardId,
    /// The table or collection, without its schema; [`Resource::ALL`]: every one.
    pub relation: String,
}

impl Resource {
    /// Stands for every table or collection of a shard.
    pub const ALL: &'static str = "*";

    /// Whether holding both would be working on the same thing twice.
    pub fn collides_with(&self, other: &Resource) -> bool {
        let either_all = self.relation == Self::ALL || other.relation == Self::ALL;
        self.cluster == other.cluster
            && self.shard == other.shard
            && (either_all || self.relation == other.relation)
    }

    /// Whether one of many collides with it. Only those of the same shard are looked at.
    pub fn collides_with_any(&self, others: &BTreeSet<Resource>) -> bool {
        let first = Resource { relation: String::new(), ..self.clone() };
        let same_shard = |other: &&Resource| other.cluster == self.cluster && other.shard == self.shard;
        others.range(first..).take_while(same_shard).any(|other| self.collides_with(other))
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.cluster, self.shard, self.relation)
    }
}

impl Migration {
    /// What it works on. A schema change takes all of its shards: what its statements touch is known to the shard only.
    pub fn resources(&self) -> impl Iterator<Item = Resource> {
        let relation = self.relation.as_deref().map_or(Resource::ALL, bare);
        self.shards.keys().map(move |shard| Resource {
            cluster: self.cluster.clone(),
            shard: shard.clone(),
            relation: relation.to_owned(),
        })
    }

    /// Whether the migration and another one would work on the same thing.
    pub fn collides_with(&self, other: &Migration) -> bool {
        self.cluster == other.cluster
            && match (&self.relation, &other.relation) {
                (Some(mine), Some(theirs)) => bare(mine) == bare(theirs),
                _ => true,
            }
    }
}

/// `public.messages` and `messages` may be the same table: compared by the last part, on the safe side.
fn bare(relation: &str) -> &str {
    relation.rsplit('.').next().unwrap_or(relation)
}

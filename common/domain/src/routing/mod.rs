//! Which shard holds a key: the rule of a cluster, and what it says.
//!
//! Pure, and the same for everybody: the coordinator routes by it, a worker judges its own rows by it ([`Residence`]), and
//! an application can compute it from `docs/routing.md`, whose test vectors are held by the tests here.

mod check;
mod key;
mod residence;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::ids::{ClusterName, ShardId};

pub use check::{MAX_BUCKETS, Misrule};
pub use key::{Key, KeyError, KeyKind, MAX_KEY_TEXT};
pub use residence::{Home, Residence};

/// How a cluster decides which shard holds a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Routing {
    /// What keys are: it decides their one text form and their order.
    pub key: KeyKind,
    /// The rule.
    #[serde(flatten)]
    pub rule: Rule,
}

/// The kinds of rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "rule")]
pub enum Rule {
    /// Keys fall into buckets by [`bucket`]; each bucket belongs to one shard.
    Hash {
        /// How many buckets; it never changes while there is data.
        buckets: u32,
        /// Who has which buckets, in the order of the buckets, without gaps.
        spans: Vec<Span>,
    },
    /// Ordered intervals of keys.
    Range {
        /// In the order of the keys; each begins where the one before ends, and the last one has no end.
        ranges: Vec<KeyRange>,
    },
    /// Each key has an entry of its own, which is stored.
    Directory {
        /// Where keys without an entry are; `None`: nowhere.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        default: Option<ShardId>,
    },
}

/// Buckets of one shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// The first of them.
    pub first: u32,
    /// The last of them.
    pub last: u32,
    /// Who has them.
    pub shard: ShardId,
}

/// Keys of one shard: from the end of the range before, included, to `below`, excluded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRange {
    /// The first key that does not belong to it; `None`: it has no end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below: Option<String>,
    /// Who has them.
    pub shard: ShardId,
}

/// The entries of one cluster: canonical key, shard.
pub type Entries = BTreeMap<String, ShardId>;

/// The entries of all clusters.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Directory {
    clusters: BTreeMap<ClusterName, Entries>,
}

impl Directory {
    /// The entries of a cluster.
    pub fn of(&self, cluster: &ClusterName) -> &Entries {
        static NONE: Entries = Entries::new();
        self.clusters.get(cluster).unwrap_or(&NONE)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&ClusterName, &String, &ShardId)> {
        self.clusters
            .iter()
            .flat_map(|(name, entries)| entries.iter().map(move |(key, shard)| (name, key, shard)))
    }

    /// Sets or removes an entry.
    pub fn apply(&mut self, entry: &DirectoryEntry) {
        let entries = self.clusters.entry(entry.cluster.clone()).or_default();
        match &entry.shard {
            Some(shard) => drop(entries.insert(entry.key.clone(), shard.clone())),
            None => drop(entries.remove(&entry.key)),
        }
        if entries.is_empty() {
            self.clusters.remove(&entry.cluster);
        }
    }
}

/// One entry as it is written; without a shard it is removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectoryEntry {
    /// Of which cluster.
    pub cluster: ClusterName,
    /// The canonical key.
    pub key: String,
    /// Where it is from now on.
    pub shard: Option<ShardId>,
}

/// The bucket of a canonical key: the first four bytes of the SHA-256 of its UTF-8 text, as a big-endian number,
/// modulo the number of buckets.
pub fn bucket(canonical: &str, buckets: u32) -> u32 {
    let digest = Sha256::digest(canonical.as_bytes());
    let head = digest.iter().take(4).fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
    head % buckets.max(1)
}

impl Routing {
    /// The shard that holds a key, if any does.
    pub fn route<'a>(&'a self, entries: &'a Entries, key: &Key) -> Option<&'a ShardId> {
        match &self.rule {
            Rule::Hash { buckets, spans } => {
                let bucket = bucket(&key.canonical(), *buckets);
                spans.iter().find(|span| (span.first..=span.last).contains(&bucket)).map(|span| &span.shard)
            }
            Rule::Range { ranges } => {
                let inside = |range: &&KeyRange| match &range.below {
                    // A bound that is no key was refused when the rule was set.
                    Some(below) => self.key.parse(below).is_ok_and(|below| *key < below),
                    None => true,
                };
                ranges.iter().find(inside).map(|range| &range.shard)
            }
            Rule::Directory { default } => entries.get(&key.canonical()).or(default.as_ref()),
        }
    }

    /// The bucket of a key, where the rule knows buckets.
    pub fn bucket(&self, key: &Key) -> Option<u32> {
        match &self.rule {
            Rule::Hash { buckets, .. } => Some(bucket(&key.canonical(), *buckets)),
            Rule::Range { .. } | Rule::Directory { .. } => None,
        }
    }

    /// `hash`, `range` or `directory`.
    pub fn label(&self) -> &'static str {
        match self.rule {
            Rule::Hash { .. } => "hash",
            Rule::Range { .. } => "range",
            Rule::Directory { .. } => "directory",
        }
    }

    /// The shards that the rule itself names (directory entries are beside it).
    pub fn shards(&self) -> Vec<&ShardId> {
        match &self.rule {
            Rule::Hash { spans, .. } => spans.iter().map(|span| &span.shard).collect(),
            Rule::Range { ranges } => ranges.iter().map(|range| &range.shard).collect(),
            Rule::Directory { default } => default.iter().collect(),
        }
    }
}

//! Whether the shards of a cluster have the same schema, and where they differ: line by line, side by side.
//!
//! Shards with the same digest are one group. Only one shard of each group is asked for its lines, so thousands of equal
//! shards cost one answer.

use std::collections::{BTreeMap, BTreeSet};

use shardlift_domain::ids::ShardId;

/// Shards with the same schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The digest of their schema.
    pub digest: String,
    /// Which.
    pub shards: Vec<ShardId>,
}

/// One object of the schema that is not the same everywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What it is: `column public.messages.body`.
    pub object: String,
    /// How it is in each group, in their order; `None`: it is not there.
    pub sides: Vec<Option<String>>,
}

/// How the shards of a cluster differ.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Drift {
    /// The largest group first: most likely what was meant.
    pub groups: Vec<Group>,
    /// Empty with one group.
    pub differences: Vec<Difference>,
}

/// The groups of shards by digest, the largest first.
pub fn groups(digests: &BTreeMap<ShardId, String>) -> Vec<Group> {
    let mut by_digest: BTreeMap<&str, Vec<ShardId>> = BTreeMap::new();
    for (shard, digest) in digests {
        by_digest.entry(digest).or_default().push(shard.clone());
    }
    let mut groups: Vec<Group> =
        by_digest.into_iter().map(|(digest, shards)| Group { digest: digest.to_owned(), shards }).collect();
    groups.sort_by_key(|group| (std::cmp::Reverse(group.shards.len()), group.shards.first().cloned()));
    groups
}

/// Lays the lines of the groups side by side. A line is `OBJECT: DEFINITION`.
pub fn compare(digests: &BTreeMap<ShardId, String>, lines: &BTreeMap<ShardId, Vec<String>>) -> Drift {
    let groups = groups(digests);
    let sides: Vec<BTreeMap<&str, &str>> = groups
        .iter()
        .map(|group| {
            let lines = group.shards.iter().find_map(|shard| lines.get(shard));
            lines.into_iter().flatten().map(|line| line.split_once(": ").unwrap_or((line, ""))).collect()
        })
        .collect();
    let objects: BTreeSet<&str> = sides.iter().flat_map(|side| side.keys().copied()).collect();
    let differences = objects
        .into_iter()
        .map(|object| Difference {
            object: object.to_owned(),
            sides: sides.iter().map(|side| side.get(object).map(|text| (*text).to_owned())).collect(),
        })
        .filter(|difference| difference.sides.windows(2).any(|pair| pair[0] != pair[1]));
    Drift { differences: differences.collect(), groups }
}

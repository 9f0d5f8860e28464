//! What the history says of a change of the topology: in words, and from what to what.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use shardlift_domain::ids::ShardId;
use shardlift_domain::routing::{Directory, DirectoryEntry};
use shardlift_domain::topology::{Cluster, Topology};

use super::registry::Edited;

/// Names of shards, and entries of directories, that one entry tells; of more it tells how many.
const MOST: usize = 1000;

/// The detail of an entry.
pub fn chronicled(before: &Topology, directory: &Directory, edited: &Edited) -> Value {
    let Edited { topology: after, entries } = edited;
    let mut clusters = serde_json::Map::new();
    for name in before.clusters.keys().chain(after.clusters.keys()) {
        let (former, now) = (before.clusters.get(name), after.clusters.get(name));
        if former != now {
            clusters.insert(name.to_string(), differs(former, now));
        }
    }
    let entry = |entry: &DirectoryEntry| {
        let former = directory.of(&entry.cluster).get(&entry.key);
        json!({ "cluster": entry.cluster, "key": entry.key, "before": former, "after": entry.shard })
    };
    json!({
        "what": after.since(before.revision).map(|change| &change.what).collect::<Vec<_>>(),
        "before": { "revision": before.revision },
        "revision": after.revision,
        "clusters": clusters,
        "entries": entries.iter().take(MOST).map(entry).collect::<Vec<_>>(),
        "entries_changed": entries.len(),
    })
}

/// One cluster before and after. Of its shards those that joined or left: there may be ten thousand others.
fn differs(former: Option<&Cluster>, now: Option<&Cluster>) -> Value {
    let stands = |cluster: &Cluster| {
        json!({
            "engine": cluster.engine, "shards": cluster.shards.len(), "discover": cluster.rules.discover,
            "routing": cluster.rules.routing,
        })
    };
    let only = |here: Option<&Cluster>, there: Option<&Cluster>| -> Vec<ShardId> {
        let others: BTreeSet<&ShardId> = there.into_iter().flat_map(|cluster| &cluster.shards).collect();
        let here = here.into_iter().flat_map(|cluster| &cluster.shards);
        here.filter(|shard| !others.contains(shard)).take(MOST).cloned().collect()
    };
    json!({
        "before": former.map(stands),
        "after": now.map(stands),
        "joined": only(now, former),
        "left": only(former, now),
    })
}

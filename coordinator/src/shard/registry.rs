//! Changes of the topology. Each is refused with its reason, or makes the next revision.
//!
//! What the file declares, only the file changes; what a person or a worker added stays when the file is read again.
//! Nothing that somebody still needs is taken away.

use std::collections::BTreeMap;

use shardlift_domain::facts::ShardHello;
use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::ids::{ClusterName, ShardId};
use shardlift_domain::routing::{Directory, DirectoryEntry, Routing, Rule};
use shardlift_domain::topology::{Cluster, Joined, Topology};

use super::router::no_cluster;

/// What may be changed.
#[derive(Debug, Clone, PartialEq)]
pub enum Edit {
    /// The clusters as the file declares them now, each with its uuid.
    Declare(Topology),
    /// A shard joins a cluster.
    Add(ClusterName, ShardId, Joined),
    /// A shard that joined leaves.
    Remove(ClusterName, ShardId),
    /// Another rule, or none.
    Route(ClusterName, Option<Routing>),
    /// Entries of a directory; without a shard the entry is removed.
    Entry(ClusterName, String, Option<ShardId>),
}

/// The present state.
pub struct Present<'a> {
    /// Clusters and shards.
    pub topology: &'a Topology,
    /// The entries of directories.
    pub directory: &'a Directory,
    /// Shards that cannot leave now, and why.
    pub needed: &'a BTreeMap<ShardId, String>,
}

/// The next state.
#[derive(Debug, Clone, PartialEq)]
pub struct Edited {
    /// With the next revision.
    pub topology: Topology,
    /// Entries to be set or removed.
    pub entries: Vec<DirectoryEntry>,
}

/// Makes a change. `None`: it is so already.
pub fn edit(present: &Present<'_>, edit: Edit) -> Result<Option<Edited>, Failure> {
    match edit {
        Edit::Declare(declared) => declare(present, &declared),
        Edit::Add(cluster, shard, how) => add(present, &cluster, shard, how),
        Edit::Remove(cluster, shard) => remove(present, &cluster, &shard),
        Edit::Route(cluster, routing) => set_rule(present, &cluster, routing),
        Edit::Entry(cluster, key, shard) => set_entry(present, cluster, &key, shard),
    }
}

/// The shards among those that a worker announces that join by themselves.
pub fn discovered(topology: &Topology, announced: &[ShardHello]) -> Vec<Edit> {
    let joins = |hello: &&ShardHello| {
        let cluster = topology.clusters.get(&hello.cluster);
        topology.cluster_of(&hello.shard).is_none()
            && cluster.is_some_and(|cluster| cluster.rules.discover && cluster.engine == hello.engine)
    };
    let edit = |hello: &ShardHello| Edit::Add(hello.cluster.clone(), hello.shard.clone(), Joined::Worker);
    announced.iter().filter(joins).map(edit).collect()
}

/// A plan that was made for another revision than the present one.
pub fn stale(topology: &Topology, planned: u64) -> Failure {
    let changes: Vec<&str> = topology.since(planned).map(|change| change.what.as_str()).collect();
    let changes = match changes.as_slice() {
        [] => "what changed is not remembered any more".to_owned(),
        some => some.join("; "),
    };
    let now = topology.revision;
    Failure::new(
        ErrorCode::PlanStale,
        format!("the plan was made for revision {planned} of the topology, which is at {now} now: {changes}"),
        "plan again and look at what is different; nothing was submitted",
    )
}

fn refused(message: impl Into<String>, next: impl Into<String>) -> Failure {
    Failure::new(ErrorCode::TopologyRefused, message, next)
}

fn declare(present: &Present<'_>, declared: &Topology) -> Result<Option<Edited>, Failure> {
    let mut next = present.topology.clone();
    next.clusters = declared.clusters.clone();
    for (name, cluster) in &mut next.clusters {
        if let Some(before) = present.topology.clusters.get(name) {
            keep_joined(cluster, before, declared);
        }
    }
    let mut entries = Vec::new();
    for (cluster, key, shard) in present.directory.iter() {
        match next.clusters.get(cluster) {
            None => entries.push(DirectoryEntry { cluster: cluster.clone(), key: key.clone(), shard: None }),
            Some(cluster) if !cluster.shards.contains(shard) => {
                return Err(refused(
                    format!(
                        "the file does not declare shard {shard} any more, but key {key:?} of cluster {} is on it",
                        cluster.name
                    ),
                    "set the entry to another shard with `shardlift topology route-key`, then reload",
                ));
            }
            Some(_) => {}
        }
    }
    for (shard, _) in present.topology.shards() {
        if next.cluster_of(shard).is_none()
            && let Some(why) = present.needed.get(shard)
        {
            let message = format!("the file does not declare shard {shard} any more, but {why}");
            return Err(refused(message, "wait until it is not needed, or declare it again"));
        }
    }
    for cluster in next.clusters.values() {
        sound(cluster, cluster.rules.routing.as_ref())?;
    }
    let what = differences(present.topology, &next);
    if what.is_empty() && next.clusters == present.topology.clusters {
        return Ok(None);
    }
    next.changed(if what.is_empty() { vec!["the file changed who declares what".into()] } else { what });
    Ok(Some(Edited { topology: next, entries }))
}

/// What was added beside the file stays, unless the file now has it, here or elsewhere.
fn keep_joined(cluster: &mut Cluster, before: &Cluster, declared: &Topology) {
    for shard in &before.shards {
        let how = before.rules.joined.get(shard);
        if let Some(how) = how.filter(|_| declared.cluster_of(shard).is_none()) {
            cluster.shards.push(shard.clone());
            cluster.rules.joined.insert(shard.clone(), *how);
        }
    }
    if !cluster.rules.routing_declared && !before.rules.routing_declared {
        cluster.rules.routing.clone_from(&before.rules.routing);
    }
}

/// The changes between two states, as lines.
fn differences(before: &Topology, after: &Topology) -> Vec<String> {
    let mut what = Vec::new();
    for (name, cluster) in &after.clusters {
        let Some(former) = before.clusters.get(name) else {
            what.push(format!("cluster {name} was declared, with {} shards", cluster.shards.len()));
            continue;
        };
        let added = cluster.shards.iter().filter(|shard| !former.shards.contains(shard));
        what.extend(added.map(|shard| format!("shard {shard} joined cluster {name}")));
        let removed = former.shards.iter().filter(|shard| !cluster.shards.contains(shard));
        what.extend(removed.map(|shard| format!("shard {shard} left cluster {name}")));
        if former.rules.routing != cluster.rules.routing {
            what.push(format!("the routing rule of cluster {name} changed"));
        }
        if former.rules.discover != cluster.rules.discover {
            let word = if cluster.rules.discover {
                "lets announced shards join"
            } else {
                "refuses announced shards"
            };
            what.push(format!("cluster {name} now {word}"));
        }
        if former.engine != cluster.engine {
            what.push(format!("cluster {name} is now {}", cluster.engine));
        }
    }
    let gone = before.clusters.keys().filter(|name| !after.clusters.contains_key(*name));
    what.extend(gone.map(|name| format!("cluster {name} is not declared any more")));
    what
}

fn sound(cluster: &Cluster, routing: Option<&Routing>) -> Result<(), Failure> {
    let wrong = routing.map(|routing| routing.check(&cluster.shards)).unwrap_or_default();
    if wrong.is_empty() {
        return Ok(());
    }
    let wrong: Vec<String> = wrong.iter().map(ToString::to_string).collect();
    Err(refused(
        format!("the routing of cluster {} is not a rule: {}", cluster.name, wrong.join("; ")),
        "correct the rule; docs/routing.md describes it",
    ))
}

fn changed(
    mut next: Topology,
    what: String,
    entries: Vec<DirectoryEntry>,
) -> Result<Option<Edited>, Failure> {
    next.changed(vec![what]);
    Ok(Some(Edited { topology: next, entries }))
}

/// The next state's copy of a cluster.
fn cluster_mut<'t>(
    next: &'t mut Topology,
    name: &ClusterName,
    present: &Topology,
) -> Result<&'t mut Cluster, Failure> {
    next.clusters.get_mut(name).ok_or_else(|| no_cluster(name, present))
}

fn add(
    present: &Present<'_>,
    name: &ClusterName,
    shard: ShardId,
    how: Joined,
) -> Result<Option<Edited>, Failure> {
    let mut next = present.topology.clone();
    if let Some(owner) = next.cluster_of(&shard) {
        if owner.name == *name {
            return Ok(None);
        }
        let message = format!("shard {shard} belongs to cluster {}", owner.name);
        return Err(refused(message, "give the new shard an id of its own"));
    }
    let cluster = cluster_mut(&mut next, name, present.topology)?;
    cluster.shards.push(shard.clone());
    cluster.rules.joined.insert(shard.clone(), how);
    changed(next, format!("shard {shard} joined cluster {name}"), Vec::new())
}

fn remove(present: &Present<'_>, name: &ClusterName, shard: &ShardId) -> Result<Option<Edited>, Failure> {
    let mut next = present.topology.clone();
    let cluster = cluster_mut(&mut next, name, present.topology)?;
    if !cluster.shards.contains(shard) {
        return Ok(None);
    }
    if !cluster.rules.joined.contains_key(shard) {
        return Err(refused(
            format!("shard {shard} is declared in the coordinator's file"),
            "take it out of the file, then `shardlift topology reload`",
        ));
    }
    if let Some(why) = present.needed.get(shard) {
        return Err(refused(format!("shard {shard} cannot leave now: {why}"), "wait until it is not needed"));
    }
    let routed = cluster.rules.routing.as_ref().is_some_and(|routing| routing.shards().contains(&shard));
    let entries = present.directory.of(name).iter().filter(|(_, at)| *at == shard).count();
    if routed || entries > 0 {
        let why = if routed {
            "the routing rule names it".into()
        } else {
            format!("{entries} keys have an entry for it")
        };
        let next = "give its keys to another shard first: `shardlift topology set-routing` or `route-key`";
        return Err(refused(format!("shard {shard} cannot leave now: {why}"), next));
    }
    cluster.shards.retain(|known| known != shard);
    cluster.rules.joined.remove(shard);
    changed(next, format!("shard {shard} left cluster {name}"), Vec::new())
}

fn set_rule(
    present: &Present<'_>,
    name: &ClusterName,
    routing: Option<Routing>,
) -> Result<Option<Edited>, Failure> {
    let mut next = present.topology.clone();
    let cluster = cluster_mut(&mut next, name, present.topology)?;
    if cluster.rules.routing == routing {
        return Ok(None);
    }
    if cluster.rules.routing_declared {
        return Err(refused(
            format!("the routing of cluster {name} is declared in the coordinator's file"),
            "change it there, then `shardlift topology reload`",
        ));
    }
    sound(cluster, routing.as_ref())?;
    cluster.rules.routing = routing;
    changed(next, format!("the routing rule of cluster {name} changed"), Vec::new())
}

fn set_entry(
    present: &Present<'_>,
    name: ClusterName,
    key: &str,
    shard: Option<ShardId>,
) -> Result<Option<Edited>, Failure> {
    let cluster = present.topology.clusters.get(&name).ok_or_else(|| no_cluster(&name, present.topology))?;
    let Some(routing @ Routing { rule: Rule::Directory { .. }, .. }) = &cluster.rules.routing else {
        let message =
            format!("cluster {name} is not routed by a directory, so keys have no entries of their own");
        return Err(refused(
            message,
            "set the rule first: `shardlift topology set-routing CLUSTER --directory`",
        ));
    };
    let invalid = |error: shardlift_domain::routing::KeyError| {
        Failure::new(
            ErrorCode::RequestInvalid,
            error.to_string(),
            "write the key as the cluster's rule wants it",
        )
    };
    let key = routing.key.parse(key).map_err(invalid)?.canonical();
    if let Some(stranger) = shard.as_ref().filter(|shard| !cluster.shards.contains(shard)) {
        let message = format!("shard {stranger} is not a shard of cluster {name}");
        return Err(refused(message, "look at `shardlift topology show` for its shards"));
    }
    if present.directory.of(&name).get(&key) == shard.as_ref() {
        return Ok(None);
    }
    let what = match &shard {
        Some(shard) => format!("key {key:?} of cluster {name} is on {shard}"),
        None => format!("key {key:?} of cluster {name} has no entry any more"),
    };
    changed(present.topology.clone(), what, vec![DirectoryEntry { cluster: name, key, shard }])
}

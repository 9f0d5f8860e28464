//! Which shards take part: those that hold the tenants of the spec, or all; and what is left out is told.

use std::collections::{BTreeMap, BTreeSet};

use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::ids::{ClusterName, ShardId};
use shardlift_domain::migration::{Migration, Status};
use shardlift_domain::plan::{Disposition, PlannedMigration};
use shardlift_domain::routing::{Directory, KeyKind};
use shardlift_domain::spec::{Spec, TenantKey};
use shardlift_domain::topology::{Cluster, Topology};
use shardlift_domain::verdict::{Finding, Severity};

use super::Facts;

/// The shards of the spec, in the order of the cluster.
pub(super) fn shards(spec: &Spec, cluster: &Cluster, directory: &Directory) -> Result<Vec<ShardId>, Failure> {
    let Some(tenants) = spec.tenants() else { return Ok(cluster.shards.clone()) };
    let refuse = |message: String, next: &str| Err(Failure::new(ErrorCode::RoutingUnroutable, message, next));
    let Some(routing) = &cluster.rules.routing else {
        return refuse(
            format!(
                "{} names tenants, but cluster {} has no routing rule that says where they are",
                spec.id, cluster.name
            ),
            "declare `routing` for the cluster, or leave `tenants` out",
        );
    };
    let mut wanted = BTreeSet::new();
    let mut lost = Vec::new();
    for key in &tenants.keys {
        match fits(key, routing.key)
            .and_then(|()| routing.key.parse(&key.text()).map_err(|error| error.why.to_owned()))
        {
            Err(why) => lost.push(format!("{key}: {why}")),
            Ok(parsed) => match routing.route(directory.of(&cluster.name), &parsed) {
                Some(shard) => drop(wanted.insert(shard)),
                None => lost.push(format!("{key}: it has no entry in the directory")),
            },
        }
    }
    if !lost.is_empty() {
        let message = format!(
            "{}: no shard of cluster {} holds these tenants: {}",
            spec.id,
            cluster.name,
            lost.join("; ")
        );
        return refuse(
            message,
            "correct `tenants` in the spec, or add their entries with `shardlift topology route-key`",
        );
    }
    Ok(cluster.shards.iter().filter(|shard| wanted.contains(shard)).cloned().collect())
}

/// Which place each shard wants, if any of its tenants has one: the first of theirs.
pub(super) fn ranks(spec: &Spec, cluster: &Cluster, facts: &Facts<'_>) -> BTreeMap<ShardId, i64> {
    let mut ranks = BTreeMap::new();
    let Some((tenants, routing)) = spec.tenants().zip(cluster.rules.routing.as_ref()) else { return ranks };
    for key in &tenants.keys {
        let text = key.text();
        let order = facts.tenants.get(&text).and_then(|settings| settings.order);
        let parsed = routing.key.parse(&text).ok();
        let shard = parsed.and_then(|key| routing.route(facts.directory.of(&cluster.name), &key));
        if let Some((order, shard)) = order.zip(shard) {
            ranks.entry(shard.clone()).and_modify(|rank: &mut i64| *rank = order.min(*rank)).or_insert(order);
        }
    }
    ranks
}

/// A number is not the text of the same digits: MongoDB would find other documents.
fn fits(key: &TenantKey, kind: KeyKind) -> Result<(), String> {
    match (key, kind) {
        (TenantKey::Integer(_), KeyKind::Integer) | (TenantKey::Text(_), KeyKind::Text | KeyKind::Uuid) => {
            Ok(())
        }
        (TenantKey::Integer(_), kind) => Err(format!("keys of the cluster are {kind}: put it into quotes")),
        (TenantKey::Text(_), kind) => {
            Err(format!("keys of the cluster are {kind}: write it as a number without quotes"))
        }
    }
}

/// Shards of the cluster that joined after the migration was planned. One that names tenants covers what it names.
pub(crate) fn uncovered(spec: &Spec, migration: &Migration, topology: &Topology) -> Vec<ShardId> {
    let given_up = matches!(migration.status, Status::Cancelled | Status::RolledBack);
    let cluster = topology.clusters.get(&migration.cluster).filter(|_| spec.tenants().is_none() && !given_up);
    let later = cluster.into_iter().flat_map(|cluster| &cluster.shards);
    later.filter(|shard| !migration.shards.contains_key(shard)).cloned().collect()
}

pub(super) fn tell_uncovered(
    spec: &Spec,
    migration: &Migration,
    facts: &Facts<'_>,
    findings: &mut Vec<Finding>,
) {
    let later = uncovered(spec, migration, facts.topology);
    if later.is_empty() {
        return;
    }
    let failure = Failure::new(
        ErrorCode::PlanUncovered,
        format!(
            "{} was planned before these shards joined, and does not cover them: {}",
            spec.id,
            names(&later)
        ),
        "bring them to the present schema by hand or with a spec of a new id; `shardlift drift` shows what they lack",
    );
    findings.push(Finding { severity: Severity::Warning, failure });
}

/// Shards of one cluster whose schemas differ before anything has begun.
pub(super) fn drift(planned: &[PlannedMigration], facts: &Facts<'_>, findings: &mut Vec<Finding>) {
    let mut clusters: BTreeMap<&ClusterName, BTreeMap<&str, Vec<ShardId>>> = BTreeMap::new();
    let open = planned.iter().filter(|planned| !matches!(planned.disposition, Disposition::Known { .. }));
    let touched: BTreeSet<&ClusterName> = open.map(|planned| &planned.cluster).collect();
    for (shard, told) in &facts.shards {
        let Some(cluster) =
            facts.topology.cluster_of(shard).filter(|cluster| touched.contains(&cluster.name))
        else {
            continue;
        };
        if let Some(schema) = told.as_ref().ok().and_then(|facts| facts.schema.as_ref()) {
            clusters.entry(&cluster.name).or_default().entry(&schema.digest).or_default().push(shard.clone());
        }
    }
    for (cluster, groups) in clusters.into_iter().filter(|(_, groups)| groups.len() > 1) {
        let mut groups: Vec<Vec<ShardId>> = groups.into_values().collect();
        groups.sort_by_key(|group| (std::cmp::Reverse(group.len()), group.first().cloned()));
        let groups: Vec<String> = groups.iter().map(|group| names(group)).collect();
        let failure = Failure::new(
            ErrorCode::ShardDrift,
            format!("the shards of cluster {cluster} do not have the same schema: {}", groups.join(" | ")),
            format!("look at the differences with `shardlift drift {cluster}` before you apply"),
        );
        findings.push(Finding { severity: Severity::Warning, failure });
    }
}

/// Some of them, and how many more there are.
pub(super) fn names(shards: &[ShardId]) -> String {
    let mut names: Vec<&str> = shards.iter().take(5).map(|shard| shard.as_str()).collect();
    let more = shards.len().saturating_sub(names.len());
    let more = format!("and {more} more");
    if shards.len() > names.len() {
        names.push(&more);
    }
    names.join(", ")
}

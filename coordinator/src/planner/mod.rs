//! Specs + topology + what is known + facts of shards -> plan. Pure: the same arguments give the same plan.
//!
//! [`needs`] says which facts planning wants; [`plan`] makes the plan. [`order`] decides what goes before what,
//! [`estimate`] how much there is to do, [`lint`] what is dangerous in a schema spec. Everything that is wrong is told at
//! once, as findings of the plan.

pub(crate) use scope::uncovered;

pub(crate) mod disposition;
mod estimate;
mod lint;
mod order;
mod scope;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use shardlift_domain::facts::{FactsRequest, SchemaDepth, ShardFacts};
use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::ids::{MigrationId, MigrationKey, ShardId};
use shardlift_domain::migration::{Migration, Step};
use shardlift_domain::plan::{Disposition, Plan, PlannedMigration};
use shardlift_domain::routing::Directory;
use shardlift_domain::spec::{Spec, SpecBody};
use shardlift_domain::topology::Topology;
use shardlift_domain::verdict::{Finding, Severity};

/// All that planning may look at.
pub struct Facts<'a> {
    /// The declared clusters.
    pub topology: &'a Topology,
    /// The entries of directories.
    pub directory: &'a Directory,
    /// The newest version of every id that was ever submitted.
    pub known: &'a BTreeMap<MigrationId, Migration>,
    /// What each shard said, or why it said nothing.
    pub shards: BTreeMap<ShardId, Result<ShardFacts, Failure>>,
}

/// Which shards must be asked, and for what. Migrations that are known already, or in conflict, need no facts.
pub fn needs(
    specs: &[Spec],
    topology: &Topology,
    directory: &Directory,
    known: &BTreeMap<MigrationId, Migration>,
) -> BTreeMap<ShardId, FactsRequest> {
    let mut needs: BTreeMap<ShardId, BTreeSet<String>> = BTreeMap::new();
    for spec in specs {
        let Some(cluster) = topology.clusters.get(&spec.cluster) else { continue };
        if matches!(disposition::of(spec, known), Ok((Disposition::Known { .. }, _)) | Err(_)) {
            continue;
        }
        let shards = scope::shards(spec, cluster, directory).unwrap_or_else(|_| cluster.shards.clone());
        for shard in shards {
            needs.entry(shard).or_default().extend(spec.relation().map(str::to_owned));
        }
    }
    let request = |relations: BTreeSet<String>| FactsRequest {
        relations: relations.into_iter().collect(),
        schema: SchemaDepth::Digest,
    };
    needs.into_iter().map(|(shard, relations)| (shard, request(relations))).collect()
}

/// Makes the plan.
pub fn plan(specs: &[Spec], facts: &Facts<'_>) -> Plan {
    let mut findings = Vec::new();
    let sorted = order::sort(specs, facts.known, &mut findings);
    let mut migrations = Vec::with_capacity(sorted.len());
    for (index, waits_for) in sorted {
        let spec = &specs[index];
        match planned(spec, waits_for, facts, &mut findings) {
            Ok(migration) => migrations.push(migration),
            Err(failure) => findings.push(error(failure)),
        }
    }
    scope::drift(&migrations, facts, &mut findings);
    estimate::missing_relations(specs, facts, &migrations, &mut findings);
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    Plan { topology_revision: facts.topology.revision, migrations, findings }
}

fn planned(
    spec: &Spec,
    waits_for: Vec<MigrationId>,
    facts: &Facts<'_>,
    findings: &mut Vec<Finding>,
) -> Result<PlannedMigration, Failure> {
    let cluster =
        facts.topology.clusters.get(&spec.cluster).ok_or_else(|| no_cluster(spec, facts.topology))?;
    if cluster.engine != spec.engine {
        return Err(Failure::new(
            ErrorCode::PlanRefused,
            format!(
                "{} is written for {}, but cluster {} is {}",
                spec.id, spec.engine, cluster.name, cluster.engine
            ),
            "correct `engine` or `cluster` in the spec",
        ));
    }
    let (disposition, version) = disposition::of(spec, facts.known)?;
    let known = matches!(disposition, Disposition::Known { .. });
    let shards = match facts.known.get(&spec.id).filter(|_| known) {
        Some(submitted) => {
            scope::tell_uncovered(spec, submitted, facts, findings);
            submitted.shards.keys().cloned().collect()
        }
        None => scope::shards(spec, cluster, facts.directory)?,
    };
    if !known {
        estimate::unreachable(&shards, facts, findings);
    }
    let has_where = matches!(&spec.body, SpecBody::Data(data) if data.source.pending.is_some());
    let mut notes = if known { Vec::new() } else { notes(spec) };
    if !known {
        let key = MigrationKey { id: spec.id.clone(), version };
        notes.extend(lint::judge(spec, &key, &shards, facts, findings));
    }
    Ok(PlannedMigration {
        id: spec.id.clone(),
        version,
        kind: spec.kind(),
        engine: spec.engine,
        cluster: spec.cluster.clone(),
        checksum: spec.checksum.clone(),
        disposition,
        waits_for,
        steps: Step::sequence(spec.kind(), has_where).to_vec(),
        estimates: estimate::per_shard(spec, &shards, facts),
        waves: vec![shards],
        notes,
    })
}

fn no_cluster(spec: &Spec, topology: &Topology) -> Failure {
    let names: Vec<_> = topology.clusters.keys().map(|name| name.as_str()).collect();
    Failure::new(
        ErrorCode::PlanRefused,
        format!(
            "{} names cluster {}, which is not declared; there are: {}",
            spec.id,
            spec.cluster,
            names.join(", ")
        ),
        "correct `cluster` in the spec, or declare it in the coordinator's configuration",
    )
}

/// What a reader should know before saying yes.
fn notes(spec: &Spec) -> Vec<String> {
    let mut notes = Vec::new();
    match &spec.body {
        SpecBody::Schema(schema) if schema.down.is_empty() => {
            notes.push("has no `down`: it cannot be taken back".to_owned());
        }
        SpecBody::Schema(_) => {}
        SpecBody::Data(data) => {
            if let Some(tenants) = &data.source.tenants {
                let names: Vec<String> = tenants.keys.iter().take(10).map(ToString::to_string).collect();
                let more = if tenants.keys.len() > 10 { ", …" } else { "" };
                notes.push(format!(
                    "changes only rows whose {} is {}{more}",
                    tenants.field,
                    names.join(", ")
                ));
            }
            if data.source.pending.is_none() {
                notes.push(
                    "without `where`: covers the keys that are there at the start; rows inserted during the run \
                     may or may not be changed, and nothing is searched for at the end"
                        .to_owned(),
                );
            }
            notes.push("without undo: it cannot be rolled back".to_owned());
            if let Some(rate) = data.throttle.rows_per_second {
                notes.push(format!("at most {rate} rows/s on each shard"));
            }
        }
    }
    notes
}

fn error(failure: Failure) -> Finding {
    Finding { severity: Severity::Error, failure }
}

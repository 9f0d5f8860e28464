//! Specs + topology + what is known + facts of shards -> plan. Pure: the same arguments give the same plan.
//!
//! [`needs`] says which facts planning wants; [`plan`] makes the plan. [`order`] decides what goes before what,
//! [`tenancy`] who of the named tenants takes part, [`estimate`] how much there is to do, [`lint`] what is dangerous in a schema spec. Everything that is wrong is told at
//! once, as findings of the plan; [`prechecks`] are those that the shards themselves told; [`rehearsal`] what
//! their samples foretell.

pub(crate) use scope::uncovered;
pub use tenancy::{Tenancy, TenantSettings};

pub(crate) mod disposition;
mod estimate;
mod lint;
mod order;
mod prechecks;
pub(crate) mod rehearsal;
mod scope;
pub(crate) mod tenancy;
#[cfg(test)]
mod tests;
mod waves;

use std::cmp::Reverse;
use std::collections::BTreeMap;

use shardlift_domain::facts::{Check, FactsRequest, SchemaDepth, ShardFacts};
use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::ids::{MigrationId, MigrationKey, ShardId};
use shardlift_domain::migration::{Migration, Step};
use shardlift_domain::plan::{Disposition, Plan, PlannedMigration};
use shardlift_domain::routing::Directory;
use shardlift_domain::spec::{EndBlockers, SchemaChange, SchemaSpec, Spec, SpecBody, SpecFile, Undo};
use shardlift_domain::sql::{self, Lock, Relation};
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
    /// What tenants want, by their names.
    pub tenants: &'a BTreeMap<String, TenantSettings>,
    /// What each shard said, or why it said nothing.
    pub shards: BTreeMap<ShardId, Result<ShardFacts, Failure>>,
}

/// Most bytes of specs that one shard is looked over for: the precheck of the others looks later.
const MAX_CHECKED: usize = 2 * 1024 * 1024;

/// Which shards must be asked, and for what. Migrations that are known already, or in conflict, need no facts. `files`:
/// those of the specs, in the same order.
pub fn needs(
    specs: &[Spec],
    files: &[SpecFile],
    topology: &Topology,
    directory: &Directory,
    known: &BTreeMap<MigrationId, Migration>,
) -> BTreeMap<ShardId, FactsRequest> {
    let mut needs: BTreeMap<ShardId, FactsRequest> = BTreeMap::new();
    let mut room: BTreeMap<ShardId, usize> = BTreeMap::new();
    for (index, spec) in specs.iter().enumerate() {
        let Some(cluster) = topology.clusters.get(&spec.cluster) else { continue };
        let Ok((Disposition::New | Disposition::NextVersion, version)) = disposition::of(spec, known) else {
            continue;
        };
        let shards = scope::shards(spec, cluster, directory).unwrap_or_else(|_| cluster.shards.clone());
        for shard in shards {
            let left = room.entry(shard.clone()).or_insert(MAX_CHECKED);
            let request = needs.entry(shard).or_default();
            request.schema = SchemaDepth::Digest;
            if let Some(relation) =
                spec.relation().filter(|name| !request.relations.iter().any(|other| other == name))
            {
                request.relations.push(relation.to_owned());
            }
            if let Some(file) = files.get(index).filter(|file| file.text.len() <= *left) {
                *left -= file.text.len();
                let migration = MigrationKey { id: spec.id.clone(), version };
                request.checks.push(Check { migration, file: file.clone() });
            }
        }
    }
    needs.values_mut().for_each(|request| request.relations.sort());
    needs
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
    prechecks::tell(specs, facts, &migrations, &mut findings);
    prechecks::ledgers(facts, &migrations, &mut findings);
    prechecks::held(specs, facts, &migrations, &mut findings);
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    Plan { topology_revision: facts.topology.revision, migrations, findings, rehearsals: Vec::new() }
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
    let submitted = facts.known.get(&spec.id).filter(|_| known);
    let shards = match submitted {
        Some(submitted) => {
            scope::tell_uncovered(spec, submitted, facts, findings);
            submitted.shards.keys().cloned().collect()
        }
        None => scope::shards(spec, cluster, facts.directory)?,
    };
    if !known {
        estimate::unreachable(&shards, facts, findings);
    }
    let estimates = estimate::per_shard(spec, &shards, facts);
    let mut notes = submitted.map_or_else(|| notes(spec), |submitted| throttled(spec, submitted));
    if !known {
        let key = MigrationKey { id: spec.id.clone(), version };
        notes.extend(lint::judge(spec, &key, &shards, facts, findings));
    }
    let waves = match submitted {
        Some(submitted) => waves::stored(submitted),
        None => {
            let ranks = scope::ranks(spec, cluster, facts);
            waves::of(&spec.rollout, shards, &estimates, &ranks, &mut notes)
        }
    };
    let has_where = matches!(&spec.body, SpecBody::Data(data) if data.source.pending.is_some());
    let mut steps = Step::sequence(spec.kind(), has_where, spec.is_atomic(), spec.backs_up());
    steps.extend(spec.compares_shards().then_some(Step::Collect));
    notes.extend(estimate::digests(spec, &estimates));
    Ok(PlannedMigration {
        id: spec.id.clone(),
        version,
        kind: spec.kind(),
        engine: spec.engine,
        cluster: spec.cluster.clone(),
        checksum: spec.checksum.clone(),
        disposition,
        waits_for,
        steps,
        estimates,
        waves,
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

/// What two-phase commit costs (promise P11).
const ATOMIC: &str = "all shards or none, by two-phase commit: each shard holds the locks of its statements until the last one \
                      has prepared and it is decided; after a crash for up to 60 s once a leader and the shard's worker \
                      are there";

/// What a reader should know before saying yes.
fn notes(spec: &Spec) -> Vec<String> {
    let mut notes = Vec::new();
    if spec.is_atomic() {
        notes.push(ATOMIC.to_owned());
    }
    match &spec.body {
        SpecBody::Schema(schema) => {
            if schema.down.is_empty() {
                notes.push("has no `down`: it cannot be taken back".to_owned());
            }
            notes.extend(locks(schema));
            notes.extend(schema.on_block.as_deref().map(ends));
        }
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
            if data.undo == Undo::None {
                notes.push("without undo: it cannot be rolled back".to_owned());
            }
            if let Some(rate) = data.throttle.rows_per_second {
                notes.push(format!("at most {rate} rows/s on each shard"));
            }
            if let Some(bound) = data.max_replica_lag {
                notes.push(format!(
                    "batches wait while a replica of their shard is more than {bound:?} behind"
                ));
            }
        }
    }
    notes
}

/// What an operator has said of the throttle of a migration that was submitted before.
fn throttled(spec: &Spec, submitted: &Migration) -> Vec<String> {
    let in_force = spec.throttle().map(|in_spec| submitted.throttle_in_force(in_spec));
    let differs = in_force.and_then(|in_force| Some((in_force.now, in_force.in_spec?)));
    let note = |(now, in_spec)| format!("its throttle was changed: {now}; the spec says: {in_spec}");
    differs.map(note).into_iter().collect()
}

/// Who is ended for it.
fn ends(policy: &EndBlockers) -> String {
    let of = match policy.users.as_slice() {
        [] => String::new(),
        users => format!(" (user {})", users.join(" or ")),
    };
    format!(
        "ends sessions of {}{of} that are in the way of its locks, if their transaction is younger than {:?} and has written {}",
        policy.applications.join(" and "),
        policy.younger_than,
        policy.written.as_str()
    )
}

fn error(failure: Failure) -> Finding {
    Finding { severity: Severity::Error, failure }
}

/// The locks that a schema change asks for, each with its statements.
fn locks(schema: &SchemaSpec) -> Vec<String> {
    let SchemaChange::Sql(statements) = &schema.up else { return Vec::new() };
    let mut wanted: BTreeMap<(Reverse<Lock>, Relation), Vec<String>> = BTreeMap::new();
    for (statement, lock, table) in sql::locks(statements) {
        wanted.entry((Reverse(lock), table)).or_default().push(statement.to_string());
    }
    let held = match schema.atomic {
        true => "held until it is decided".to_owned(),
        false => format!("held for {:?} at most", schema.hold_timeout),
    };
    let bounds = format!("asked for in tries of {:?}, {held}", schema.lock_timeout);
    let note = |((Reverse(lock), table), numbers): ((Reverse<Lock>, Relation), Vec<String>)| {
        let bounds = if lock > Lock::ShareUpdateExclusive { format!(", {bounds}") } else { String::new() };
        let which = if numbers.len() == 1 { "statement" } else { "statements" };
        let table =
            table.schema.map_or_else(|| table.name.clone(), |schema| format!("{schema}.{}", table.name));
        format!("locks {table} {lock} ({which} {}): {}{bounds}", numbers.join(", "), lock.effect())
    };
    wanted.into_iter().map(note).collect()
}

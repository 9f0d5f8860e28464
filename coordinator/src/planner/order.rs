//! What goes before what (promise P5): `depends_on` always wins; without a dependency between them, schema goes
//! before data of the same cluster.

use std::collections::{BTreeMap, BTreeSet};

use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::ids::MigrationId;
use shardlift_domain::migration::Migration;
use shardlift_domain::spec::{Kind, Spec};
use shardlift_domain::verdict::Finding;

/// The specs, as indexes, in an order in which they may begin, each with what it waits for. What cannot be
/// ordered is left out and told.
pub(super) fn sort(
    specs: &[Spec],
    known: &BTreeMap<MigrationId, Migration>,
    findings: &mut Vec<Finding>,
) -> Vec<(usize, Vec<MigrationId>)> {
    let index: BTreeMap<&MigrationId, usize> =
        specs.iter().enumerate().map(|(at, spec)| (&spec.id, at)).collect();
    for spec in specs {
        for missing in spec.depends_on.iter().filter(|id| !index.contains_key(id) && !known.contains_key(*id))
        {
            findings.push(super::error(Failure::new(
                ErrorCode::PlanMissingDependency,
                format!("{} depends on {missing}, which is neither here nor known", spec.id),
                "correct `depends_on`, or add the missing spec to the directory",
            )));
        }
    }
    let explicit: Vec<BTreeSet<usize>> = specs
        .iter()
        .map(|spec| spec.depends_on.iter().filter_map(|id| index.get(id).copied()).collect())
        .collect();
    let before = with_schema_first(specs, &explicit);
    let sorted = topological(specs, &before, findings);
    sorted.into_iter().map(|at| (at, waits_for(specs, at, &before[at]))).collect()
}

/// Adds schema-before-data where no dependency leads the other way round.
fn with_schema_first(specs: &[Spec], explicit: &[BTreeSet<usize>]) -> Vec<BTreeSet<usize>> {
    let reaches: Vec<BTreeSet<usize>> = (0..specs.len()).map(|at| ancestors(explicit, at)).collect();
    let mut before = explicit.to_vec();
    for (data, spec) in specs.iter().enumerate().filter(|(_, spec)| spec.kind() == Kind::Data) {
        for (schema, other) in specs.iter().enumerate().filter(|(_, other)| other.kind() == Kind::Schema) {
            if other.cluster == spec.cluster && !reaches[schema].contains(&data) {
                before[data].insert(schema);
            }
        }
    }
    // An implied edge must never close a circle over several explicit ones: schema B needs data A, A must not
    // wait for what waits for B.
    for data in 0..specs.len() {
        let implied: Vec<usize> = before[data].difference(&explicit[data]).copied().collect();
        for schema in implied {
            if ancestors(&before, schema).contains(&data) {
                before[data].remove(&schema);
            }
        }
    }
    before
}

fn ancestors(before: &[BTreeSet<usize>], at: usize) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    let mut open: Vec<usize> = before[at].iter().copied().collect();
    while let Some(next) = open.pop() {
        if found.insert(next) {
            open.extend(&before[next]);
        }
    }
    found
}

/// Takes, again and again, the first spec whose predecessors are taken; what remains lies on a circle or behind one.
fn topological(specs: &[Spec], before: &[BTreeSet<usize>], findings: &mut Vec<Finding>) -> Vec<usize> {
    let mut taken = BTreeSet::new();
    let mut sorted = Vec::new();
    while let Some(next) =
        (0..specs.len()).find(|at| !taken.contains(at) && before[*at].iter().all(|need| taken.contains(need)))
    {
        taken.insert(next);
        sorted.push(next);
    }
    let circle: Vec<usize> =
        (0..specs.len()).filter(|at| !taken.contains(at) && ancestors(before, *at).contains(at)).collect();
    if !circle.is_empty() {
        let names: Vec<_> = circle.iter().map(|at| specs[*at].id.as_str()).collect();
        findings.push(super::error(Failure::new(
            ErrorCode::PlanCycle,
            format!("these specs depend on each other in a circle: {}", names.join(", ")),
            "remove one of the `depends_on` of the circle",
        )));
    }
    sorted
}

/// What the spec names, known ids included, then what was implied.
fn waits_for(specs: &[Spec], at: usize, before: &BTreeSet<usize>) -> Vec<MigrationId> {
    let mut ids: Vec<MigrationId> = specs[at].depends_on.clone();
    for other in before {
        if !ids.contains(&specs[*other].id) {
            ids.push(specs[*other].id.clone());
        }
    }
    ids
}

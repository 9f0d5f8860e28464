//! What the shards found when they were looked over, what their ledgers say, and who holds what is needed.

use std::collections::{BTreeMap, BTreeSet};

use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::ids::{MigrationId, MigrationKey, ShardId};
use shardlift_domain::migration::{Migration, Status};
use shardlift_domain::plan::{Disposition, PlannedMigration};
use shardlift_domain::spec::{Kind, Spec, SpecBody};
use shardlift_domain::verdict::{Finding, Severity};

use super::{Facts, estimate, scope};

/// From so many shards on, the same finding is told once for all of them.
const TOLD_APART: usize = 3;

/// What goes before a migration, so that a shard as it is now says little about what the migration will meet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Before {
    /// A schema change.
    Shape,
    /// A data migration of a collection that the migration alters.
    Rows,
}

/// Adds what the shards found.
pub(super) fn tell(
    specs: &[Spec],
    facts: &Facts<'_>,
    planned: &[PlannedMigration],
    findings: &mut Vec<Finding>,
) {
    let mut groups: Vec<(Finding, Vec<ShardId>)> = Vec::new();
    let mut too_early: BTreeMap<(&MigrationId, Before), String> = BTreeMap::new();
    for (shard, told) in &facts.shards {
        let Ok(told) = told else { continue };
        for finding in &told.findings {
            let about = finding.failure.place.migration.as_ref();
            let migration = about.and_then(|key| planned.iter().find(|planned| planned.id == key.id));
            if about.is_some() && (migration.is_none() || lacks_relation(specs, about, &told.relations)) {
                continue;
            }
            let mut finding = finding.clone();
            finding.failure.place.shard = None;
            if let Some(migration) = migration
                && let Some(before) = overtaken(&finding, migration, specs, planned, facts.known)
            {
                too_early.entry((&migration.id, before)).or_insert(finding.failure.message);
                continue;
            }
            match groups.iter_mut().find(|(other, _)| *other == finding) {
                Some((_, shards)) => shards.push(shard.clone()),
                None => groups.push((finding, vec![shard.clone()])),
            }
        }
    }
    for (finding, shards) in groups {
        if shards.len() <= TOLD_APART {
            findings.extend(shards.iter().map(|shard| Finding {
                severity: finding.severity,
                failure: finding.failure.clone().on_shard(shard),
            }));
        } else {
            let mut failure = finding.failure;
            failure.message =
                format!("on {} shards ({}): {}", shards.len(), scope::names(&shards), failure.message);
            findings.push(Finding { severity: finding.severity, failure });
        }
    }
    for ((id, before), example) in too_early {
        let (what, who) = match before {
            Before::Shape => ("shards", "a schema migration"),
            Before::Rows => ("documents", "a data migration of the same collection"),
        };
        let message =
            format!("{id} cannot be judged against the {what} as they are now, for example: {example}");
        let next = format!("nothing: {who} goes before it, and its precheck looks again");
        let failure = Failure::new(ErrorCode::PrecheckRefused, message, next);
        findings.push(Finding { severity: Severity::Note, failure });
    }
}

/// Whether the table of the migration is not there: that is told already.
fn lacks_relation(
    specs: &[Spec],
    about: Option<&MigrationKey>,
    relations: &[shardlift_domain::facts::RelationFacts],
) -> bool {
    let spec = about.and_then(|key| specs.iter().find(|spec| spec.id == key.id));
    let relation = spec.and_then(Spec::relation);
    relations.iter().any(|found| Some(found.name.as_str()) == relation && !found.exists)
}

/// What goes before, so that this finding may be out of date when the migration begins.
fn overtaken(
    finding: &Finding,
    migration: &PlannedMigration,
    specs: &[Spec],
    planned: &[PlannedMigration],
    known: &BTreeMap<MigrationId, Migration>,
) -> Option<Before> {
    match (finding.severity, finding.failure.code) {
        (_, ErrorCode::LedgerConflict) => None,
        // A shard tells of documents that a rule would refuse, and not of a shape.
        (Severity::Warning, ErrorCode::RowRejected) => {
            rows_change_before(migration, specs, planned, known).then_some(Before::Rows)
        }
        (Severity::Error, _) => shape_changes_before(migration, planned, known).then_some(Before::Shape),
        _ => None,
    }
}

/// Whether this schema migration waits for a data migration that is still to be done, of a collection that it alters.
fn rows_change_before(
    migration: &PlannedMigration,
    specs: &[Spec],
    planned: &[PlannedMigration],
    known: &BTreeMap<MigrationId, Migration>,
) -> bool {
    let spec = specs.iter().find(|spec| spec.id == migration.id);
    let Some(SpecBody::Schema(schema)) = spec.map(|spec| &spec.body) else { return false };
    let changes = |id: &MigrationId| {
        let relation = match planned.iter().find(|other| other.id == *id).map(|other| &other.disposition) {
            Some(Disposition::Known { status }) if status.is_final() => None,
            Some(_) => specs.iter().find(|spec| spec.id == *id).and_then(Spec::relation),
            None => known
                .get(id)
                .filter(|known| !known.status.is_final())
                .and_then(|known| known.relation.as_deref()),
        };
        relation.is_some_and(|relation| schema.up.collections().any(|collection| collection == relation))
    };
    let (mut seen, mut ahead) = (BTreeSet::new(), vec![&migration.waits_for]);
    while let Some(ids) = ahead.pop() {
        for id in ids.iter().filter(|id| seen.insert(*id)) {
            if changes(id) {
                return true;
            }
            ahead.extend(planned.iter().find(|other| other.id == *id).map(|other| &other.waits_for));
            ahead.extend(known.get(id).map(|known| &known.waits_for));
        }
    }
    false
}

/// Whether a schema migration goes before, so that the shard will not be as it is now.
pub(super) fn shape_changes_before(
    migration: &PlannedMigration,
    planned: &[PlannedMigration],
    known: &BTreeMap<MigrationId, Migration>,
) -> bool {
    let here: BTreeMap<&MigrationId, &PlannedMigration> =
        planned.iter().map(|migration| (&migration.id, migration)).collect();
    let earlier = planned.iter().take_while(|other| other.id != migration.id).map(|other| &other.id);
    migration.waits_for.iter().chain(earlier).any(|id| estimate::may_create(id, migration, &here, known))
}

/// Ledgers that disagree about what was applied: somebody has worked on one shard alone, or restored it.
pub(super) fn ledgers(facts: &Facts<'_>, planned: &[PlannedMigration], findings: &mut Vec<Finding>) {
    let open = planned.iter().filter(|planned| !matches!(planned.disposition, Disposition::Known { .. }));
    let clusters: BTreeSet<_> = open.map(|planned| &planned.cluster).collect();
    for cluster in clusters.into_iter().filter_map(|name| facts.topology.clusters.get(name)) {
        let mut applied: BTreeMap<&MigrationId, BTreeSet<&ShardId>> = BTreeMap::new();
        let mut answered = BTreeSet::new();
        for shard in &cluster.shards {
            let Some(Ok(told)) = facts.shards.get(shard) else { continue };
            answered.insert(shard);
            for entry in &told.applied {
                applied.entry(&entry.migration.id).or_default().insert(shard);
            }
        }
        for (id, having) in applied {
            let lacking: Vec<ShardId> = answered
                .iter()
                .filter(|shard| !having.contains(**shard) && covered(facts.known.get(id), shard))
                .map(|shard| (*shard).clone())
                .collect();
            if lacking.is_empty() {
                continue;
            }
            let message = format!(
                "{id} stands in the ledgers of other shards of cluster {}, but not of {}",
                cluster.name,
                scope::names(&lacking)
            );
            let next = format!(
                "look at the differences with `shardlift drift {}` and bring the shards to the same state first",
                cluster.name
            );
            findings.push(Finding {
                severity: Severity::Warning,
                failure: Failure::new(ErrorCode::ShardDrift, message, next),
            });
        }
    }
}

/// Whether the shard should have been changed by this migration, as far as is known.
fn covered(known: Option<&Migration>, shard: &ShardId) -> bool {
    known
        .is_none_or(|migration| migration.status == Status::Completed && migration.shards.contains_key(shard))
}

/// Migrations that stand still and keep what a planned one needs: it would wait without an end.
pub(super) fn held(
    specs: &[Spec],
    facts: &Facts<'_>,
    planned: &[PlannedMigration],
    findings: &mut Vec<Finding>,
) {
    for migration in planned {
        if matches!(migration.disposition, Disposition::Known { .. }) {
            continue;
        }
        let relation = specs.iter().find(|spec| spec.id == migration.id).and_then(Spec::relation);
        let standing = facts.known.values().filter(|known| {
            matches!(known.status, Status::Paused | Status::Failed)
                && known.key.id != migration.id
                && known.cluster == migration.cluster
                && collides(migration.kind, relation, known)
        });
        for known in standing {
            let message = format!(
                "{} is {} and keeps the tables that {} needs, which waits until it has ended",
                known.key.id, known.status, migration.id
            );
            let next = format!("resume, retry or cancel {} first", known.key.id);
            findings.push(Finding {
                severity: Severity::Warning,
                failure: Failure::new(ErrorCode::PlanHeld, message, next),
            });
        }
    }
}

/// A schema change takes all tables of its shards.
fn collides(kind: Kind, relation: Option<&str>, known: &Migration) -> bool {
    let bare = |name: &str| name.rsplit('.').next().unwrap_or(name).to_owned();
    match (kind, relation, known.relation.as_deref()) {
        (Kind::Data, Some(mine), Some(theirs)) => bare(mine) == bare(theirs),
        _ => true,
    }
}

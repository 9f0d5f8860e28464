//! How much there is to do on each shard, and which shards cannot say.

use std::collections::BTreeMap;

use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::ids::{ClusterName, MigrationId, ShardId};
use shardlift_domain::migration::{Migration, Status};
use shardlift_domain::plan::{Disposition, PlannedMigration, ShardEstimate};
use shardlift_domain::spec::{Kind, Spec, SpecBody};
use shardlift_domain::verdict::{Finding, Severity};

use super::Facts;

/// The size of the spec's table on each shard.
pub(super) fn per_shard(spec: &Spec, shards: &[ShardId], facts: &Facts<'_>) -> Vec<ShardEstimate> {
    shards
        .iter()
        .map(|shard| {
            let told = facts.shards.get(shard).and_then(|told| told.as_ref().ok());
            let relation = told.and_then(|facts| {
                facts
                    .relations
                    .iter()
                    .find(|found| Some(found.name.as_str()) == spec.relation() && found.exists)
            });
            ShardEstimate {
                shard: shard.clone(),
                rows: relation.map(|found| found.rows),
                bytes: relation.map(|found| found.bytes),
            }
        })
        .collect()
}

/// What one digest takes in its shard, with its index.
const DIGEST_BYTES: u64 = 150;

/// How much the shards keep while they are compared, where the spec asks for that.
pub(super) fn digests(spec: &Spec, estimates: &[ShardEstimate]) -> Option<String> {
    let SpecBody::Data(data) = &spec.body else { return None };
    let checks = u64::try_from(data.unique().count()).unwrap_or(u64::MAX);
    let most = estimates.iter().filter_map(|estimate| estimate.rows).max().unwrap_or_default();
    let bytes = most.saturating_mul(checks).saturating_mul(DIGEST_BYTES);
    (checks > 0).then(|| {
        format!(
            "unique: a digest of each row is kept in its shard until the migration ends; that takes up to about {} MiB \
             of a shard",
            bytes.div_ceil(1024 * 1024)
        )
    })
}

/// A plan that leaves a shard out, because it said nothing, would make it differ from the rest: refused.
pub(super) fn unreachable(shards: &[ShardId], facts: &Facts<'_>, findings: &mut Vec<Finding>) {
    for shard in shards {
        let Some(Err(failure)) = facts.shards.get(shard) else { continue };
        let failure = failure.clone().on_shard(shard);
        if !findings.iter().any(|finding| finding.failure == failure) {
            findings.push(Finding { severity: Severity::Error, failure });
        }
    }
}

/// A table that is missing may still be created by a schema migration that goes before; otherwise it is an error.
pub(super) fn missing_relations(
    specs: &[Spec],
    facts: &Facts<'_>,
    planned: &[PlannedMigration],
    findings: &mut Vec<Finding>,
) {
    let relations: BTreeMap<&MigrationId, &str> =
        specs.iter().filter_map(|spec| Some((&spec.id, spec.relation()?))).collect();
    let here: BTreeMap<&MigrationId, &PlannedMigration> =
        planned.iter().map(|migration| (&migration.id, migration)).collect();
    for migration in planned {
        let Some(relation) = relations.get(&migration.id) else { continue };
        if matches!(migration.disposition, Disposition::Known { .. }) {
            continue;
        }
        let lacks = |shard: &&ShardId| {
            let told = facts.shards.get(*shard).and_then(|told| told.as_ref().ok());
            told.is_some_and(|told| {
                told.relations.iter().any(|found| found.name == *relation && !found.exists)
            })
        };
        let lacking: Vec<&ShardId> = migration.shards().filter(lacks).collect();
        if lacking.is_empty() {
            continue;
        }
        let created_before =
            migration.waits_for.iter().any(|id| may_create(id, migration, &here, facts.known));
        let (severity, next) = if created_before {
            (Severity::Note, "a schema migration goes before; the precheck looks again")
        } else {
            (Severity::Error, "correct `source` in the spec, or create the table first")
        };
        findings.extend(lacking.into_iter().map(|shard| {
            let message = format!("{}: {relation} does not exist", migration.id);
            let failure = Failure::new(ErrorCode::PlanRefused, message, next).on_shard(shard);
            Finding { severity, failure }
        }));
    }
}

/// Whether this id is a schema migration of the same cluster that is still to be done.
pub(super) fn may_create(
    id: &MigrationId,
    migration: &PlannedMigration,
    here: &BTreeMap<&MigrationId, &PlannedMigration>,
    known: &BTreeMap<MigrationId, Migration>,
) -> bool {
    let open = |kind, cluster: &ClusterName, status| {
        kind == Kind::Schema && *cluster == migration.cluster && !Status::is_final(status)
    };
    match (here.get(id), known.get(id)) {
        (Some(other), _) => match other.disposition {
            Disposition::Known { status } => open(other.kind, &other.cluster, status),
            Disposition::New | Disposition::NextVersion => open(other.kind, &other.cluster, Status::Pending),
        },
        (None, Some(known)) => open(known.kind, &known.cluster, known.status),
        (None, None) => false,
    }
}

//! How much there is to do on each shard, and which shards cannot say.

use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::ids::ShardId;
use shardlift_domain::plan::{Disposition, PlannedMigration, ShardEstimate};
use shardlift_domain::spec::{Kind, Spec};
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
    for migration in planned.iter().filter(|found| found.kind == Kind::Data) {
        if matches!(migration.disposition, Disposition::Known { .. }) {
            continue;
        }
        let Some(relation) = specs.iter().find(|spec| spec.id == migration.id).and_then(Spec::relation)
        else {
            continue;
        };
        let created_before =
            specs.iter().any(|spec| spec.kind() == Kind::Schema && migration.waits_for.contains(&spec.id));
        for shard in migration.shards() {
            let Some(Ok(told)) = facts.shards.get(shard) else { continue };
            if told.relations.iter().any(|found| found.name == relation && !found.exists) {
                let severity = if created_before { Severity::Note } else { Severity::Error };
                let next = if created_before {
                    "a schema migration goes before; the precheck looks again"
                } else {
                    "correct `source` in the spec, or create the table first"
                };
                let message = format!("{}: {relation} does not exist", migration.id);
                let failure = Failure::new(ErrorCode::PlanRefused, message, next).on_shard(shard);
                findings.push(Finding { severity, failure });
            }
        }
    }
}

//! What a rehearsal foretells, from what each shard measured.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::ids::{MigrationId, ShardId};
use shardlift_domain::migration::Migration;
use shardlift_domain::plan::{Disposition, Plan, PlannedMigration, Wave};
use shardlift_domain::rehearsal::{Measured, Rehearsal, Rehearsed, RehearsedShard, Spread};
use shardlift_domain::spec::{Kind, Spec, SpecBody};

use super::prechecks::shape_changes_before;

/// What the shards measured, or why they did not.
pub(crate) type Answers = BTreeMap<ShardId, Result<Measured, Failure>>;

/// Why a migration has nothing to rehearse.
pub(crate) fn skipped(planned: &PlannedMigration) -> Option<String> {
    match (&planned.disposition, planned.kind) {
        (Disposition::Known { status }, _) => Some(format!("it was submitted before, and is {status}")),
        (_, Kind::Schema) => Some("a schema change is not rehearsed: trying it takes its locks".to_owned()),
        (_, Kind::Data) => None,
    }
}

/// The migrations of the plan before which the shape of their tables changes.
pub(crate) fn early(plan: &Plan, known: &BTreeMap<MigrationId, Migration>) -> BTreeSet<MigrationId> {
    let early = |planned: &&PlannedMigration| shape_changes_before(planned, &plan.migrations, known);
    plan.migrations.iter().filter(early).map(|planned| planned.id.clone()).collect()
}

/// What became of one migration. `early`: a schema migration goes before it.
pub(crate) fn told(planned: &PlannedMigration, spec: &Spec, answers: Answers, early: bool) -> Rehearsal {
    let limit = match &spec.body {
        SpecBody::Data(data) => data.throttle.rows_per_second,
        SpecBody::Schema(_) => None,
    };
    let rows = |shard: &ShardId| planned.estimates.iter().find(|each| each.shard == *shard)?.rows;
    let outcome = |shard: &ShardId, answer: Result<Measured, Failure>| match answer {
        Ok(measured) => {
            let foretold = rows(shard).and_then(|rows| measured.foretell(rows, limit));
            Rehearsed::Measured { measured, foretold }
        }
        Err(failure) if early && does_not_fit(failure.code) => Rehearsed::Later { why: failure.message },
        Err(failure) => Rehearsed::Failed { failure },
    };
    let shards: Vec<RehearsedShard> = answers
        .into_iter()
        .map(|(shard, answer)| RehearsedShard { outcome: outcome(&shard, answer), shard })
        .collect();
    let durations: BTreeMap<&ShardId, Duration> = shards
        .iter()
        .filter_map(|shard| match &shard.outcome {
            Rehearsed::Measured { foretold, .. } => Some((&shard.shard, foretold.as_ref()?.duration)),
            Rehearsed::Later { .. } | Rehearsed::Failed { .. } => None,
        })
        .collect();
    let longest = |wave: &Wave| wave.shards.iter().filter_map(|shard| durations.get(shard)).max().copied();
    let total = planned.waves.iter().map(|wave| longest(wave).unwrap_or_default() + wave.soak).sum();
    let duration = Spread::of(durations.values().copied().collect(), total);
    Rehearsal { migration: planned.id.clone(), shards, duration, skipped: None }
}

/// The shard is not yet as the migration needs it.
fn does_not_fit(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::PrecheckRefused
            | ErrorCode::TransformInvalid
            | ErrorCode::SpecInvalid
            | ErrorCode::PlanRefused
            | ErrorCode::ShardRefused
    )
}

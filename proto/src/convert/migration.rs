//! Plans. (A migration's view is made by the coordinator's door straight from what it holds.)

use std::time::Duration;

use shardlift_domain::ids::{Checksum, ClusterName, MigrationId, ShardId, Version};
use shardlift_domain::migration::Step;
use shardlift_domain::plan::{Disposition, Plan, PlannedMigration, ShardEstimate, Wave};

use super::rehearsal::{rehearsal_from_wire, rehearsal_to_wire};
use super::{WireError, need};
use crate::v1;
use v1::planned_migration::Disposition as Wire;

/// A plan to the wire.
pub fn plan_to_wire(plan: Plan) -> v1::Plan {
    v1::Plan {
        topology_revision: plan.topology_revision,
        migrations: plan.migrations.into_iter().map(planned_to_wire).collect(),
        findings: plan.findings.into_iter().map(Into::into).collect(),
        rehearsals: plan.rehearsals.into_iter().map(rehearsal_to_wire).collect(),
    }
}

fn planned_to_wire(planned: PlannedMigration) -> v1::PlannedMigration {
    let (disposition, known) = match planned.disposition {
        Disposition::New => (Wire::New, v1::Status::Unspecified),
        Disposition::Known { status } => (Wire::Known, status.into()),
        Disposition::NextVersion => (Wire::NextVersion, v1::Status::Unspecified),
    };
    v1::PlannedMigration {
        id: planned.id.into(),
        version: planned.version.0,
        kind: v1::Kind::from(planned.kind).into(),
        engine: v1::Engine::from(planned.engine).into(),
        cluster: planned.cluster.into(),
        checksum: planned.checksum.to_string(),
        disposition: disposition.into(),
        known_status: known.into(),
        waits_for: planned.waits_for.into_iter().map(Into::into).collect(),
        steps: planned.steps.into_iter().map(|step| v1::Step::from(step).into()).collect(),
        waves: planned
            .waves
            .into_iter()
            .map(|wave| v1::Wave {
                shards: wave.shards.into_iter().map(Into::into).collect(),
                soak_ms: u64::try_from(wave.soak.as_millis()).unwrap_or(u64::MAX),
            })
            .collect(),
        estimates: planned
            .estimates
            .into_iter()
            .map(|estimate| v1::ShardEstimate {
                shard: estimate.shard.into(),
                rows: estimate.rows,
                bytes: estimate.bytes,
            })
            .collect(),
        notes: planned.notes,
    }
}

/// A plan from the wire.
pub fn plan_from_wire(plan: Option<v1::Plan>) -> Result<Plan, WireError> {
    let plan = need(plan, "plan")?;
    Ok(Plan {
        topology_revision: plan.topology_revision,
        migrations: plan.migrations.into_iter().map(planned_from_wire).collect::<Result<_, _>>()?,
        findings: plan.findings.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
        rehearsals: plan.rehearsals.into_iter().map(rehearsal_from_wire).collect::<Result<_, _>>()?,
    })
}

fn planned_from_wire(planned: v1::PlannedMigration) -> Result<PlannedMigration, WireError> {
    let disposition = match planned.disposition() {
        Wire::New => Disposition::New,
        Wire::Known => Disposition::Known { status: planned.known_status().try_into()? },
        Wire::NextVersion => Disposition::NextVersion,
        Wire::Unspecified => return Err(WireError::Missing("disposition")),
    };
    Ok(PlannedMigration {
        kind: planned.kind().try_into()?,
        engine: planned.engine().try_into()?,
        steps: planned.steps().map(Step::try_from).collect::<Result<_, _>>()?,
        id: MigrationId::new(planned.id)?,
        version: Version(planned.version),
        cluster: ClusterName::new(planned.cluster)?,
        checksum: Checksum::from_stored(planned.checksum),
        disposition,
        waits_for: planned.waits_for.into_iter().map(MigrationId::new).collect::<Result<_, _>>()?,
        waves: planned
            .waves
            .into_iter()
            .map(|wave| {
                Ok(Wave {
                    shards: wave.shards.into_iter().map(ShardId::new).collect::<Result<_, _>>()?,
                    soak: Duration::from_millis(wave.soak_ms),
                })
            })
            .collect::<Result<_, WireError>>()?,
        estimates: planned
            .estimates
            .into_iter()
            .map(|estimate| {
                Ok(ShardEstimate {
                    shard: ShardId::new(estimate.shard)?,
                    rows: estimate.rows,
                    bytes: estimate.bytes,
                })
            })
            .collect::<Result<_, WireError>>()?,
        notes: planned.notes,
    })
}

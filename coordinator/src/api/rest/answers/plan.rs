//! Plans.

use serde::Serialize;
use shardlift_proto::v1;
use utoipa::ToSchema;

use super::super::words::{Engine, Kind, Severity, Status, Step};
use super::FailureBody;
use super::rehearsal::RehearsalBody;

/// What would be done, or is done from now on.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Plan)]
pub(in super::super) struct PlanBody {
    /// The revision of the topology that it was made for.
    topology_revision: u64,
    /// Whether it can be submitted: no finding is an error.
    submittable: bool,
    migrations: Vec<PlannedBody>,
    findings: Vec<FindingBody>,
    /// What samples foretell, if a rehearsal was asked for.
    rehearsals: Vec<RehearsalBody>,
}

/// One migration of a plan.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PlannedMigration)]
struct PlannedBody {
    id: String,
    version: u32,
    kind: Option<Kind>,
    engine: Option<Engine>,
    cluster: String,
    /// Of the spec's content.
    checksum: String,
    disposition: Disposition,
    /// Where it stands, if it is known.
    known_status: Option<Status>,
    waits_for: Vec<String>,
    steps: Vec<Step>,
    /// The shards that go together.
    waves: Vec<Vec<String>>,
    /// Per shard, where they are known.
    estimates: Vec<EstimateBody>,
    notes: Vec<String>,
    /// How long each wave is looked at before the next one begins.
    soaks_ms: Vec<u64>,
}

/// Whether the coordinator has it already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Disposition {
    /// It is not known yet.
    New,
    /// It was submitted before with the same content.
    Known,
    /// The former version was given up or taken back.
    NextVersion,
}

/// What a shard is estimated to hold.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ShardEstimate)]
struct EstimateBody {
    shard: String,
    rows: Option<u64>,
    bytes: Option<u64>,
}

/// Something wrong or noteworthy.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Finding)]
struct FindingBody {
    severity: Severity,
    #[serde(flatten)]
    failure: FailureBody,
}

impl PlanBody {
    /// Whether something in it is stored for the first time.
    pub(in super::super) fn begins(&self) -> bool {
        self.migrations.iter().any(|planned| planned.disposition != Disposition::Known)
    }

    /// The id of its migration, if it has exactly one.
    pub(in super::super) fn only(&self) -> Option<&str> {
        match self.migrations.as_slice() {
            [planned] => Some(&planned.id),
            _ => None,
        }
    }
}

impl From<v1::Plan> for PlanBody {
    fn from(plan: v1::Plan) -> Self {
        let findings: Vec<FindingBody> = plan.findings.into_iter().map(Into::into).collect();
        Self {
            topology_revision: plan.topology_revision,
            submittable: findings.iter().all(|finding| finding.severity != Severity::Error),
            migrations: plan.migrations.into_iter().map(Into::into).collect(),
            findings,
            rehearsals: plan.rehearsals.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<v1::PlannedMigration> for PlannedBody {
    fn from(planned: v1::PlannedMigration) -> Self {
        use v1::planned_migration::Disposition as Wire;
        Self {
            kind: Kind::of(planned.kind()),
            engine: Engine::of(planned.engine()),
            disposition: match planned.disposition() {
                Wire::New | Wire::Unspecified => Disposition::New,
                Wire::Known => Disposition::Known,
                Wire::NextVersion => Disposition::NextVersion,
            },
            known_status: Status::of(planned.known_status()),
            steps: planned.steps().filter_map(Step::of).collect(),
            id: planned.id,
            version: planned.version,
            cluster: planned.cluster,
            checksum: planned.checksum,
            waits_for: planned.waits_for,
            soaks_ms: planned.waves.iter().map(|wave| wave.soak_ms).collect(),
            waves: planned.waves.into_iter().map(|wave| wave.shards).collect(),
            estimates: planned
                .estimates
                .into_iter()
                .map(|v1::ShardEstimate { shard, rows, bytes }| EstimateBody { shard, rows, bytes })
                .collect(),
            notes: planned.notes,
        }
    }
}

impl From<v1::Finding> for FindingBody {
    fn from(finding: v1::Finding) -> Self {
        // A weight that is not known weighs all: it must not be overlooked.
        let severity = Severity::of(finding.severity()).unwrap_or(Severity::Error);
        Self { severity, failure: finding.failure.unwrap_or_default().into() }
    }
}

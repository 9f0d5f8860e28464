//! What shards were asked for: drift, placement, what is in doubt, rows that are not what their transform gives.

use serde::Serialize;
use shardlift_proto::v1;
use utoipa::ToSchema;

use super::{FailureBody, MigrationBody};

/// How the schemas of the shards of clusters differ.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Drift)]
pub(in super::super) struct DriftBody {
    clusters: Vec<ClusterDriftBody>,
}

/// The schemas of one cluster.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ClusterDrift)]
struct ClusterDriftBody {
    cluster: String,
    /// There is more than one schema.
    drifted: bool,
    /// Shards with the same schema, the largest group first.
    groups: Vec<SchemaGroupBody>,
    differences: Vec<DifferenceBody>,
    /// Shards that could not be asked.
    unknown: Vec<UnknownShardBody>,
    /// There are more differences than are told.
    truncated: bool,
}

/// Shards with the same schema.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SchemaGroup)]
struct SchemaGroupBody {
    digest: String,
    shards: Vec<String>,
}

/// Something that is not the same everywhere.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Difference)]
struct DifferenceBody {
    object: String,
    /// What it is in each group; null: it is not there.
    sides: Vec<Option<String>>,
}

/// A shard that could not be asked.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = UnknownShard)]
struct UnknownShardBody {
    shard: String,
    /// Why.
    problem: Option<FailureBody>,
}

impl From<v1::UnknownShard> for UnknownShardBody {
    fn from(unknown: v1::UnknownShard) -> Self {
        Self { shard: unknown.shard, problem: unknown.failure.map(Into::into) }
    }
}

impl From<v1::DriftResponse> for DriftBody {
    fn from(answer: v1::DriftResponse) -> Self {
        Self { clusters: answer.clusters.into_iter().map(Into::into).collect() }
    }
}

impl From<v1::ClusterDrift> for ClusterDriftBody {
    fn from(found: v1::ClusterDrift) -> Self {
        let group = |v1::SchemaGroup { digest, shards }| SchemaGroupBody { digest, shards };
        let difference = |found: v1::Difference| DifferenceBody {
            object: found.object,
            sides: found.sides.into_iter().map(|side| side.definition).collect(),
        };
        Self {
            cluster: found.cluster,
            drifted: found.groups.len() > 1,
            groups: found.groups.into_iter().map(group).collect(),
            differences: found.differences.into_iter().map(difference).collect(),
            unknown: found.unknown.into_iter().map(Into::into).collect(),
            truncated: found.truncated,
        }
    }
}

/// Rows that lie on another shard than their key belongs to.
#[derive(Debug, Default, Serialize, ToSchema)]
#[schema(as = Placement)]
pub(in super::super) struct PlacementBody {
    misplaced: Vec<MisplacedBody>,
    shards: Vec<WalkedBody>,
}

/// A row on the wrong shard.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Misplaced)]
struct MisplacedBody {
    shard: String,
    /// Its key in its table.
    row: String,
    /// Its routing key; null: it has none.
    key: Option<String>,
    /// Where it belongs; null: nowhere.
    belongs_to: Option<String>,
}

/// How far a shard was looked at.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Walked)]
struct WalkedBody {
    shard: String,
    rows: u64,
    /// All of them; otherwise as many were found as were asked for.
    done: bool,
}

impl PlacementBody {
    /// Adds what was found next.
    pub(in super::super) fn add(&mut self, found: v1::PlacementResponse) {
        use v1::placement_response::Found;
        match found.found {
            Some(Found::Row(v1::MisplacedRow { shard, row, key, belongs_to })) => {
                self.misplaced.push(MisplacedBody { shard, row, key, belongs_to });
            }
            Some(Found::Walked(v1::Walked { shard, rows, done })) => {
                self.shards.retain(|known| known.shard != shard);
                self.shards.push(WalkedBody { shard, rows, done });
            }
            None => {}
        }
    }
}

/// Prepared transactions of atomic changes.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = InDoubt)]
pub(in super::super) struct InDoubtBody {
    transactions: Vec<PreparedBody>,
    /// Shards that could not be asked.
    unknown: Vec<UnknownShardBody>,
}

/// What is to become of a prepared transaction.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum InDoubtDecision {
    /// It is not ours.
    Foreign,
    /// It is not decided yet.
    Open,
    /// It is to be committed.
    Commit,
    /// It is to be rolled back.
    Abort,
    /// Its migration is not known here.
    Unknown,
}

/// A prepared transaction.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PreparedTransaction)]
struct PreparedBody {
    shard: String,
    gid: String,
    /// Prepared by Shardlift.
    ours: bool,
    migration: Option<String>,
    epoch: Option<u64>,
    attempt: Option<u32>,
    age_ms: u64,
    owner: String,
    decision: InDoubtDecision,
    locks: Vec<String>,
}

impl From<v1::InDoubt> for PreparedBody {
    fn from(found: v1::InDoubt) -> Self {
        use v1::in_doubt::Decision;
        let decision = match found.decision() {
            Decision::Unspecified => InDoubtDecision::Foreign,
            Decision::Open => InDoubtDecision::Open,
            Decision::Commit => InDoubtDecision::Commit,
            Decision::Abort => InDoubtDecision::Abort,
            Decision::Unknown => InDoubtDecision::Unknown,
        };
        let v1::PreparedTransaction { gid, age_ms, owner, locks, preparer } =
            found.transaction.unwrap_or_default();
        Self {
            shard: found.shard,
            gid,
            ours: preparer.is_some(),
            epoch: preparer.as_ref().map(|preparer| preparer.epoch),
            attempt: preparer.as_ref().map(|preparer| preparer.attempt),
            migration: preparer.map(|preparer| preparer.migration),
            age_ms,
            owner,
            decision,
            locks,
        }
    }
}

impl From<v1::IndoubtResponse> for InDoubtBody {
    fn from(answer: v1::IndoubtResponse) -> Self {
        Self {
            transactions: answer.transactions.into_iter().map(Into::into).collect(),
            unknown: answer.unknown.into_iter().map(Into::into).collect(),
        }
    }
}

/// Rows that are not what their transform gives.
#[derive(Debug, Default, Serialize, ToSchema)]
#[schema(as = Mismatches)]
pub(in super::super) struct MismatchesBody {
    rows: Vec<DifferingBody>,
    shards: Vec<ComparedBody>,
    /// There may be more than were asked for.
    more: bool,
}

/// How a row differs.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum RowDifference {
    /// Nobody has touched it since, and the transform gives something else.
    Mismatch,
    /// It was changed since.
    Changed,
    /// It is not there any more.
    Gone,
}

/// A row that is not what its transform gives; no value of it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DifferingRow)]
struct DifferingBody {
    shard: String,
    /// Null: of a kind that this release does not know.
    difference: Option<RowDifference>,
    key: String,
    reason: String,
}

/// What was found on a shard so far.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Compared)]
struct ComparedBody {
    shard: String,
    /// Rows that are what the transform gives.
    verified: u64,
    mismatches: u64,
    changed: u64,
    gone: u64,
    /// All of them were looked at.
    done: bool,
}

impl MismatchesBody {
    /// Adds what was found next; `limit`: rows that are listed.
    pub(in super::super) fn add(&mut self, found: v1::MismatchesResponse, limit: usize) {
        use v1::differing_row::Difference;
        use v1::mismatches_response::Found;
        match found.found {
            Some(Found::Row(found)) => {
                let row = found.row.unwrap_or_default();
                let difference = match row.difference() {
                    Difference::Mismatch => Some(RowDifference::Mismatch),
                    Difference::Changed => Some(RowDifference::Changed),
                    Difference::Gone => Some(RowDifference::Gone),
                    Difference::Unspecified => None,
                };
                let row = DifferingBody { shard: found.shard, difference, key: row.key, reason: row.reason };
                self.rows.push(row);
                self.more = self.rows.len() >= limit;
            }
            Some(Found::Compared(v1::ComparedShard { shard, compared, done })) => {
                let v1::Compared { verified, mismatches, changed, gone, .. } = compared.unwrap_or_default();
                self.shards.retain(|known| known.shard != shard);
                self.shards.push(ComparedBody { shard, verified, mismatches, changed, gone, done });
            }
            None => {}
        }
    }
}

/// What became of rows that were set aside.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = QuarantineDecided)]
pub(in super::super) struct DecidedBody {
    /// So many rows were concerned.
    rows: u64,
    migration: MigrationBody,
}

impl From<v1::DecideQuarantineResponse> for DecidedBody {
    fn from(answer: v1::DecideQuarantineResponse) -> Self {
        Self { rows: answer.rows, migration: answer.migration.unwrap_or_default().into() }
    }
}

/// What became of a change of the topology.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TopologyChanged)]
pub(in super::super) struct ChangedBody {
    /// False: it was so already.
    changed: bool,
    /// The revision now.
    revision: u64,
}

impl From<v1::ChangeTopologyResponse> for ChangedBody {
    fn from(v1::ChangeTopologyResponse { changed, revision }: v1::ChangeTopologyResponse) -> Self {
        Self { changed, revision }
    }
}

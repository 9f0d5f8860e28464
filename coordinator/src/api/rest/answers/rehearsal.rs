//! Rehearsals. Values of rows are not shown over HTTP.

use serde::Serialize;
use shardlift_proto::v1;
use utoipa::ToSchema;

use super::FailureBody;

/// What samples of a migration's shards foretell.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Rehearsal)]
pub(super) struct RehearsalBody {
    migration: String,
    /// Why there is nothing to rehearse.
    skipped: Option<String>,
    /// How long it is expected to last, if any shard tells.
    duration: Option<SpreadBody>,
    shards: Vec<RehearsedShardBody>,
}

/// How long shards take on one connection.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Spread)]
struct SpreadBody {
    p50_ms: u64,
    p90_ms: u64,
    /// All waves, each with its longest shard and its soak.
    total_ms: u64,
}

/// One shard of it. Figures are null where it was not rehearsed.
#[derive(Debug, Default, Serialize, ToSchema)]
#[schema(as = RehearsedShard)]
struct RehearsedShardBody {
    shard: String,
    /// Rows that were gone over.
    rows: Option<u64>,
    changed: Option<u64>,
    /// Without the commits.
    took_ms: Option<u64>,
    rows_per_second: Option<u64>,
    /// Bytes of WAL, others' included, or of oplog, estimated.
    log_bytes: Option<u64>,
    errors: Option<Vec<ErrorClassBody>>,
    /// Why it is less than was asked for.
    cut_short: Option<String>,
    foretold: Option<ForetoldBody>,
    /// It can be rehearsed only when its schema step was applied: what is missing now.
    later: Option<String>,
    /// Why it could not be rehearsed.
    failure: Option<FailureBody>,
}

/// Rows that cannot be changed for the same reason.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ErrorClass)]
struct ErrorClassBody {
    code: String,
    message: String,
    rows: u64,
    /// The keys of some.
    keys: Vec<String>,
}

/// What is to be expected of the whole shard.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Foretold)]
struct ForetoldBody {
    /// On one connection.
    duration_ms: u64,
    log_bytes: u64,
}

impl From<v1::Rehearsal> for RehearsalBody {
    fn from(rehearsal: v1::Rehearsal) -> Self {
        let spread = |v1::Spread { p50_ms, p90_ms, total_ms }| SpreadBody { p50_ms, p90_ms, total_ms };
        Self {
            migration: rehearsal.migration,
            skipped: rehearsal.skipped,
            duration: rehearsal.duration.map(spread),
            shards: rehearsal.shards.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<v1::RehearsedShard> for RehearsedShardBody {
    fn from(shard: v1::RehearsedShard) -> Self {
        use v1::rehearsed_shard::Outcome;
        let nothing = Self { shard: shard.shard, ..Self::default() };
        match shard.outcome {
            Some(Outcome::Measured(v1::MeasuredShard { measured, foretold })) => {
                let measured = measured.unwrap_or_default();
                Self {
                    rows: Some(measured.walked),
                    changed: Some(measured.changed),
                    took_ms: Some(measured.took_us / 1000),
                    rows_per_second: rate(&measured),
                    log_bytes: Some(measured.log_bytes),
                    errors: Some(measured.errors.into_iter().map(Into::into).collect()),
                    cut_short: measured.cut_short,
                    foretold: foretold.map(|v1::Foretold { duration_ms, log_bytes }| ForetoldBody {
                        duration_ms,
                        log_bytes,
                    }),
                    ..nothing
                }
            }
            Some(Outcome::Later(why)) => Self { later: Some(why), ..nothing },
            Some(Outcome::Failure(failure)) => Self { failure: Some(failure.into()), ..nothing },
            None => nothing,
        }
    }
}

fn rate(measured: &v1::Measured) -> Option<u64> {
    let refused: u64 = measured.errors.iter().map(|class| class.rows).sum();
    let passed = measured.walked.saturating_sub(refused);
    (passed > 0).then(|| passed.saturating_mul(1_000_000).checked_div(measured.took_us)).flatten()
}

impl From<v1::ErrorClass> for ErrorClassBody {
    fn from(v1::ErrorClass { code, message, rows, keys }: v1::ErrorClass) -> Self {
        Self { code, message, rows, keys }
    }
}

//! Rehearsals.

use std::time::Duration;

use shardlift_domain::ErrorCode;
use shardlift_domain::ids::{MigrationId, ShardId};
use shardlift_domain::rehearsal::{
    ErrorClass, Foretold, Measured, Rehearsal, RehearsalRequest, Rehearsed, RehearsedShard, SampleField,
    SampleRow, ShardRehearsal, Spread,
};

use super::common::{failure_from_wire, key_from_wire};
use super::{WireError, need};
use crate::v1;
use v1::rehearsed_shard::Outcome as Wire;

/// A question to the wire.
pub fn rehearsal_query_to_wire(query: u64, shard: ShardId, request: RehearsalRequest) -> v1::RehearsalQuery {
    v1::RehearsalQuery {
        query,
        shard: shard.into(),
        migration: Some(request.migration.into()),
        spec: Some(request.file.into()),
        rows: request.rows,
        shown: request.shown,
    }
}

/// A question from the wire.
pub fn rehearsal_query_from_wire(query: v1::RehearsalQuery) -> Result<RehearsalRequest, WireError> {
    Ok(RehearsalRequest {
        migration: key_from_wire(need(query.migration, "migration")?)?,
        file: need(query.spec, "spec")?.into(),
        rows: query.rows,
        shown: query.shown,
    })
}

/// What one shard answers, to the wire.
pub fn shard_rehearsal_to_wire(found: ShardRehearsal) -> v1::ShardRehearsal {
    v1::ShardRehearsal {
        measured: Some(measured_to_wire(found.measured)),
        samples: found.samples.into_iter().map(sample_to_wire).collect(),
    }
}

/// What one shard answers, from the wire.
pub fn shard_rehearsal_from_wire(found: v1::ShardRehearsal) -> Result<ShardRehearsal, WireError> {
    Ok(ShardRehearsal {
        measured: measured_from_wire(need(found.measured, "measured")?)?,
        samples: found.samples.into_iter().map(sample_from_wire).collect(),
    })
}

fn measured_to_wire(measured: Measured) -> v1::Measured {
    v1::Measured {
        walked: measured.walked,
        changed: measured.changed,
        took_us: u64::try_from(measured.took.as_micros()).unwrap_or(u64::MAX),
        log_bytes: measured.log_bytes,
        errors: measured.errors.into_iter().map(class_to_wire).collect(),
        cut_short: measured.cut_short,
    }
}

fn measured_from_wire(measured: v1::Measured) -> Result<Measured, WireError> {
    Ok(Measured {
        walked: measured.walked,
        changed: measured.changed,
        took: Duration::from_micros(measured.took_us),
        log_bytes: measured.log_bytes,
        errors: measured.errors.into_iter().map(class_from_wire).collect::<Result<_, _>>()?,
        cut_short: measured.cut_short,
    })
}

fn class_to_wire(class: ErrorClass) -> v1::ErrorClass {
    let ErrorClass { code, message, rows, keys } = class;
    v1::ErrorClass { code: code.as_str().to_owned(), message, rows, keys }
}

fn class_from_wire(class: v1::ErrorClass) -> Result<ErrorClass, WireError> {
    let code = ErrorCode::parse(&class.code);
    let code = code.ok_or(WireError::Unknown { what: "error code", value: class.code })?;
    Ok(ErrorClass { code, message: class.message, rows: class.rows, keys: class.keys })
}

/// A row to the wire.
pub fn sample_to_wire(row: SampleRow) -> v1::SampleRow {
    let field = |SampleField { name, before, after }| v1::SampleField { name, before, after };
    v1::SampleRow { key: row.key, fields: row.fields.into_iter().map(field).collect() }
}

/// A row from the wire.
pub fn sample_from_wire(row: v1::SampleRow) -> SampleRow {
    let field = |v1::SampleField { name, before, after }| SampleField { name, before, after };
    SampleRow { key: row.key, fields: row.fields.into_iter().map(field).collect() }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// What became of one migration, to the wire.
pub(super) fn rehearsal_to_wire(rehearsal: Rehearsal) -> v1::Rehearsal {
    v1::Rehearsal {
        migration: rehearsal.migration.into(),
        shards: rehearsal.shards.into_iter().map(shard_to_wire).collect(),
        duration: rehearsal.duration.map(|Spread { p50, p90, total }| v1::Spread {
            p50_ms: millis(p50),
            p90_ms: millis(p90),
            total_ms: millis(total),
        }),
        skipped: rehearsal.skipped,
    }
}

fn shard_to_wire(shard: RehearsedShard) -> v1::RehearsedShard {
    let outcome = match shard.outcome {
        Rehearsed::Measured { measured, foretold } => Wire::Measured(v1::MeasuredShard {
            measured: Some(measured_to_wire(measured)),
            foretold: foretold.map(|Foretold { duration, log_bytes }| v1::Foretold {
                duration_ms: millis(duration),
                log_bytes,
            }),
        }),
        Rehearsed::Later { why } => Wire::Later(why),
        Rehearsed::Failed { failure } => Wire::Failure(failure.into()),
    };
    v1::RehearsedShard { shard: shard.shard.into(), outcome: Some(outcome) }
}

/// What became of one migration, from the wire.
pub(super) fn rehearsal_from_wire(rehearsal: v1::Rehearsal) -> Result<Rehearsal, WireError> {
    Ok(Rehearsal {
        migration: MigrationId::new(rehearsal.migration)?,
        shards: rehearsal.shards.into_iter().map(shard_from_wire).collect::<Result<_, _>>()?,
        duration: rehearsal.duration.map(|v1::Spread { p50_ms, p90_ms, total_ms }| Spread {
            p50: Duration::from_millis(p50_ms),
            p90: Duration::from_millis(p90_ms),
            total: Duration::from_millis(total_ms),
        }),
        skipped: rehearsal.skipped,
    })
}

fn shard_from_wire(shard: v1::RehearsedShard) -> Result<RehearsedShard, WireError> {
    let outcome = match need(shard.outcome, "outcome")? {
        Wire::Measured(found) => Rehearsed::Measured {
            measured: measured_from_wire(need(found.measured, "measured")?)?,
            foretold: found.foretold.map(|v1::Foretold { duration_ms, log_bytes }| Foretold {
                duration: Duration::from_millis(duration_ms),
                log_bytes,
            }),
        },
        Wire::Later(why) => Rehearsed::Later { why },
        Wire::Failure(failure) => Rehearsed::Failed { failure: failure_from_wire(failure) },
    };
    Ok(RehearsedShard { shard: ShardId::new(shard.shard)?, outcome })
}

//! Names, states, failures, ranges.

use shardlift_domain::failure::{ErrorCode, Failure, Fault, Place};
use shardlift_domain::fence::{Epoch, Fence, Nonce};
use shardlift_domain::ids::{MigrationId, MigrationKey, ShardId, Version};
use shardlift_domain::migration::{Phase, Status, Step};
use shardlift_domain::range::{Pass, RangeState, RangeTotals};
use shardlift_domain::spec::{Engine, Kind, SpecFile};
use shardlift_domain::verdict::{Finding, Severity};

use super::{WireError, need};
use crate::v1;

/// An enum of the domain and its wire twin, value by value.
macro_rules! twins {
    ($domain:ident, $wire:ident, $what:literal, [$($value:ident),*]) => {
        impl From<$domain> for v1::$wire {
            fn from(value: $domain) -> Self {
                match value { $($domain::$value => v1::$wire::$value,)* }
            }
        }

        impl TryFrom<v1::$wire> for $domain {
            type Error = WireError;
            fn try_from(value: v1::$wire) -> Result<Self, WireError> {
                match value {
                    $(v1::$wire::$value => Ok($domain::$value),)*
                    v1::$wire::Unspecified => Err(WireError::Missing($what)),
                }
            }
        }
    };
}

twins!(Engine, Engine, "engine", [Postgres, Mongodb]);
twins!(Kind, Kind, "kind", [Schema, Data]);
twins!(
    Status,
    Status,
    "status",
    [Pending, Running, Paused, Completed, Failed, Cancelled, RollingBack, RolledBack]
);
twins!(Phase, Phase, "phase", [Precheck, Backup, Schema, Data, Verify, Undo]);
twins!(
    Step,
    Step,
    "step",
    [Precheck, Backup, Apply, Prepare, Commit, Abort, Split, Backfill, Sweep, Verify, Collect, Undo]
);
twins!(Severity, Severity, "severity", [Note, Warning, Error]);

impl From<MigrationKey> for v1::MigrationKey {
    fn from(key: MigrationKey) -> Self {
        Self { id: key.id.into(), version: key.version.0 }
    }
}

/// Checks the id.
pub fn key_from_wire(key: v1::MigrationKey) -> Result<MigrationKey, WireError> {
    Ok(MigrationKey { id: MigrationId::new(key.id)?, version: Version(key.version) })
}

impl From<SpecFile> for v1::SpecFile {
    fn from(file: SpecFile) -> Self {
        Self { name: file.name, text: file.text }
    }
}

impl From<v1::SpecFile> for SpecFile {
    fn from(file: v1::SpecFile) -> Self {
        Self { name: file.name, text: file.text }
    }
}

impl From<Fence> for v1::Fence {
    fn from(fence: Fence) -> Self {
        Self { epoch: fence.epoch.0, nonce: fence.nonce.0 }
    }
}

impl From<v1::Fence> for Fence {
    fn from(fence: v1::Fence) -> Self {
        Self { epoch: Epoch(fence.epoch), nonce: Nonce(fence.nonce) }
    }
}

fn fault_word(fault: Fault) -> &'static str {
    match fault {
        Fault::User => "user",
        Fault::Application => "application",
        Fault::Shard => "shard",
        Fault::Network => "network",
        Fault::Shardlift => "shardlift",
    }
}

impl From<Failure> for v1::Failure {
    fn from(failure: Failure) -> Self {
        Self {
            code: failure.code.as_str().to_owned(),
            fault: fault_word(failure.fault()).to_owned(),
            retryable: failure.retryable(),
            message: failure.message,
            next: failure.next,
            migration: failure.place.migration.map(Into::into),
            shard: failure.place.shard.map(Into::into),
            step: failure.place.step.map_or(v1::Step::Unspecified, Into::into).into(),
            key: failure.place.key,
            file: failure.place.file,
        }
    }
}

/// Always gives a failure: an unreadable one must not hide that something failed.
pub fn failure_from_wire(failure: v1::Failure) -> Failure {
    let code = ErrorCode::parse(&failure.code).unwrap_or(ErrorCode::Internal);
    let step = v1::Step::try_from(failure.step).ok().and_then(|step| Step::try_from(step).ok());
    Failure {
        code,
        message: failure.message,
        next: failure.next,
        place: Place {
            migration: failure.migration.and_then(|key| key_from_wire(key).ok()),
            shard: failure.shard.and_then(|shard| ShardId::new(shard).ok()),
            step,
            key: failure.key,
            file: failure.file,
        },
    }
}

impl From<Finding> for v1::Finding {
    fn from(finding: Finding) -> Self {
        Self { severity: v1::Severity::from(finding.severity).into(), failure: Some(finding.failure.into()) }
    }
}

impl TryFrom<v1::Finding> for Finding {
    type Error = WireError;
    fn try_from(finding: v1::Finding) -> Result<Self, WireError> {
        let severity = finding.severity().try_into()?;
        Ok(Self { severity, failure: failure_from_wire(need(finding.failure, "failure")?) })
    }
}

/// One range to the wire.
pub fn range_to_wire(range: &RangeState) -> v1::RangeState {
    v1::RangeState {
        index: range.index,
        rows: range.rows,
        seen: range.seen,
        batches: range.batches,
        done: range.done,
    }
}

/// One range from the wire.
pub fn range_from_wire(range: &v1::RangeState) -> RangeState {
    RangeState {
        index: range.index,
        rows: range.rows,
        seen: range.seen,
        batches: range.batches,
        done: range.done,
    }
}

/// One pass to the wire.
pub fn pass_to_wire(pass: &Pass) -> v1::Pass {
    v1::Pass {
        number: pass.number,
        ranges: pass.ranges.iter().map(range_to_wire).collect(),
        rows_before: pass.before.rows,
        seen_before: pass.before.seen,
        batches_before: pass.before.batches,
    }
}

/// One pass from the wire.
pub fn pass_from_wire(pass: &v1::Pass) -> Pass {
    Pass {
        number: pass.number,
        ranges: pass.ranges.iter().map(range_from_wire).collect(),
        before: RangeTotals { rows: pass.rows_before, seen: pass.seen_before, batches: pass.batches_before },
    }
}

/// A moment: seconds since 1970 UTC, and nanoseconds of that second (below 2^30).
pub fn timestamp(seconds: i64, nanos: u32) -> v1::Timestamp {
    v1::Timestamp { seconds, nanos: i32::try_from(nanos).unwrap_or(0) }
}

//! Migrations, their shards, and the rows that were set aside or left alone.

use serde::Serialize;
use shardlift_domain::migration;
use shardlift_domain::progress::ShardProgress;
use shardlift_proto::convert::throttle_from_wire;
use shardlift_proto::v1;
use utoipa::ToSchema;

use super::super::words::{Engine, Kind, Phase, Status, Step};
use super::{FailureBody, time};

/// One migration, without its shards.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = Migration)]
pub(in super::super) struct MigrationBody {
    #[schema(example = "0008_message_text")]
    id: String,
    version: u32,
    kind: Option<Kind>,
    engine: Option<Engine>,
    cluster: String,
    status: Option<Status>,
    /// What it is, or was last, busy with; null before it began.
    phase: Option<Phase>,
    /// Of the spec's content.
    checksum: String,
    /// Why the system paused it; null when a person did.
    halted: Option<FailureBody>,
    /// What failed for good.
    error: Option<FailureBody>,
    created_at: Option<String>,
    started_at: Option<String>,
    completed_at: Option<String>,
    /// Rows that a rollback has given their old values.
    rows_restored: u64,
    /// Rows that a rollback has left alone.
    conflicts: u64,
    /// Why the system rolled it back; null when a person did, or nobody.
    rolled_back_for: Option<FailureBody>,
    /// Rows that were set aside and wait for a decision.
    quarantined: u64,
    /// Rows that were set aside and given up.
    discarded: u64,
    /// `purging` while they are removed, `purged` when none is left; null: none were given up.
    before_images: Option<String>,
    /// Whether its spec keeps what a rollback needs: `undo: capture`, or a `down`; null: the leader is of an older release.
    undoable: Option<bool>,
    /// The present wave, from 1.
    wave: u32,
    waves: u32,
    /// The present wave is done and verified: what its gate waits for.
    gate: Option<GateBody>,
    /// How its walk is throttled now; null: nothing of it is walked.
    throttle: Option<ThrottleBody>,
    /// Whether somebody said start.
    released: bool,
    /// Who submitted it.
    author: Option<String>,
    /// Who has approved it.
    approved_by: Option<String>,
    /// While pending: the approval that it needs and has not.
    approval_needed: Option<FailureBody>,
    /// While pending: what it still waits for.
    waiting_for: Vec<String>,
    /// Shards of the cluster that joined later and are not covered.
    uncovered: Vec<String>,
    rows_done: u64,
    /// An estimate.
    rows_total: u64,
    /// Of an atomic migration whose shards have still to hear it: `commit` or `abort`.
    decided: Option<String>,
}

/// The throttle that holds.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = Throttle)]
struct ThrottleBody {
    #[serde(flatten)]
    now: LimitsBody,
    /// What the spec says, if that is something else.
    in_spec: Option<LimitsBody>,
}

/// Limits that protect the application.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = Limits)]
pub(super) struct LimitsBody {
    /// Most rows per second on one shard; null: no limit.
    rows_per_second: Option<u32>,
    /// The daily time in which batches run; null: at any time.
    #[schema(example = "22:00-06:00 UTC")]
    window: Option<String>,
}

impl From<v1::Throttle> for LimitsBody {
    fn from(throttle: v1::Throttle) -> Self {
        let rows_per_second = throttle.rows_per_second;
        // It comes from this process: what it cannot be is not told.
        let window = throttle_from_wire(throttle).ok().and_then(|throttle| throttle.window);
        Self { rows_per_second, window: window.map(|window| window.to_string()) }
    }
}

/// The gate behind a wave.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = Gate)]
struct GateBody {
    /// How long the wave still soaks.
    soak_left_ms: u64,
    /// It has soaked, and this keeps the gate closed.
    closed: Option<FailureBody>,
}

impl From<v1::Migration> for MigrationBody {
    fn from(migration: v1::Migration) -> Self {
        let held = migration.held.unwrap_or_default();
        let gate = |gate: v1::Gate| GateBody {
            soak_left_ms: gate.soak_left_ms,
            closed: gate.closed.map(Into::into),
        };
        Self {
            kind: Kind::of(migration.kind()),
            engine: Engine::of(migration.engine()),
            status: Status::of(migration.status()),
            phase: Phase::of(migration.phase()),
            id: migration.id,
            version: migration.version,
            cluster: migration.cluster,
            checksum: migration.checksum,
            halted: migration.halted.map(Into::into),
            error: migration.error.map(Into::into),
            created_at: time(migration.created_at),
            started_at: time(migration.started_at),
            completed_at: time(migration.completed_at),
            rows_restored: migration.rows_restored,
            conflicts: migration.conflicts,
            rolled_back_for: migration.rolled_back_for.map(Into::into),
            quarantined: held.rows,
            discarded: held.discarded,
            before_images: migration.purged.map(|gone| if gone { "purged" } else { "purging" }.to_owned()),
            undoable: migration.undoable,
            wave: migration.wave,
            waves: migration.waves,
            gate: migration.gate.map(gate),
            throttle: migration.throttle.map(|now| ThrottleBody {
                now: now.into(),
                in_spec: migration.throttle_in_spec.map(Into::into),
            }),
            released: migration.released,
            author: migration.author,
            approved_by: migration.approved_by,
            approval_needed: migration.approval_needed.map(Into::into),
            waiting_for: migration.waiting_for,
            uncovered: migration.uncovered,
            rows_done: migration.rows_done,
            rows_total: migration.rows_total,
            decided: migration.decided,
        }
    }
}

/// One migration with its shards.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MigrationWithShards)]
pub(in super::super) struct StatusBody {
    #[serde(flatten)]
    migration: MigrationBody,
    shards: Vec<PartBody>,
}

impl From<v1::Migration> for StatusBody {
    fn from(mut migration: v1::Migration) -> Self {
        let shards = std::mem::take(&mut migration.shards).into_iter().map(Into::into).collect();
        Self { migration: migration.into(), shards }
    }
}

/// Where a migration stands after a verb.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Moved)]
pub(in super::super) struct MovedBody {
    /// False: it was so already.
    changed: bool,
    migration: MigrationBody,
}

impl From<v1::VerbResponse> for MovedBody {
    fn from(answer: v1::VerbResponse) -> Self {
        Self { changed: answer.changed, migration: answer.migration.unwrap_or_default().into() }
    }
}

/// A page of migrations, newest versions.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Migrations)]
pub(in super::super) struct MigrationsBody {
    pub(in super::super) migrations: Vec<MigrationBody>,
    /// The cursor of the next page; null: this was the last one.
    pub(in super::super) next: Option<String>,
}

/// One shard's part of a migration.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ShardPart)]
pub(in super::super) struct PartBody {
    shard: String,
    /// The step to do next; null: nothing is left.
    step: Option<Step>,
    /// Rows changed.
    rows_done: u64,
    /// Rows walked over.
    rows_seen: u64,
    /// An estimate.
    rows_total: u64,
    batches: u64,
    /// Rows walked over per second.
    rows_per_second: f64,
    batch_size: u32,
    ranges: u32,
    ranges_done: u32,
    pass: u32,
    verified: bool,
    /// What failed for good.
    error: Option<FailureBody>,
    /// A passing trouble: the work is tried again by itself.
    trouble: Option<FailureBody>,
    rows_restored: u64,
    conflicts: u64,
    /// What was saved before the first row changed, as far as this leader has heard.
    rows_saved: u64,
    bytes_saved: u64,
    quarantined: u64,
    discarded: u64,
    /// With which wave it goes, from 1.
    wave: u32,
    /// Who is busy with it now.
    workers: Vec<String>,
    /// Share of the walk that is done, 0 to 1.
    fraction: f64,
    /// Until the walk ends at the present speed; null: it is not walked now.
    eta_seconds: Option<u64>,
}

impl From<v1::ShardMigration> for PartBody {
    fn from(part: v1::ShardMigration) -> Self {
        let step = Step::of(part.step());
        let (fraction, eta_seconds) = walk(&part);
        let held = part.held.unwrap_or_default();
        Self {
            shard: part.shard,
            step,
            rows_done: part.rows_done,
            rows_seen: part.rows_seen,
            rows_total: part.rows_total,
            batches: part.batches,
            rows_per_second: part.rows_per_second,
            batch_size: part.batch_size,
            ranges: part.ranges,
            ranges_done: part.ranges_done,
            pass: part.pass,
            verified: part.verified,
            error: part.error.map(Into::into),
            trouble: part.trouble.map(Into::into),
            rows_restored: part.rows_restored,
            conflicts: part.conflicts,
            rows_saved: part.rows_saved,
            bytes_saved: part.bytes_saved,
            quarantined: held.rows,
            discarded: held.discarded,
            wave: part.wave,
            workers: part.workers,
            fraction,
            eta_seconds,
        }
    }
}

/// How much of the walk is done, and how long it still takes.
fn walk(part: &v1::ShardMigration) -> (f64, Option<u64>) {
    let step = migration::Step::try_from(part.step()).ok();
    let progress = ShardProgress {
        rows_seen: part.rows_seen,
        rows_total: part.rows_total,
        rows_per_second: part.rows_per_second,
        ..ShardProgress::default()
    };
    let eta = progress.eta_seconds().filter(|_| step == Some(migration::Step::Backfill));
    (progress.walked(step), eta)
}

/// A page of the shards of a migration, by their ids.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ShardParts)]
pub(in super::super) struct PartsBody {
    pub(in super::super) id: String,
    pub(in super::super) version: u32,
    pub(in super::super) shards: Vec<PartBody>,
    /// The cursor of the next page; null: this was the last one.
    pub(in super::super) next: Option<String>,
}

/// Rows that a rollback has left alone.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Conflicts)]
pub(in super::super) struct ConflictsBody {
    conflicts: Vec<ConflictBody>,
    /// There are more than were asked for.
    more: bool,
}

/// A row that a rollback has left alone; no value of it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Conflict)]
struct ConflictBody {
    shard: String,
    key: String,
    reason: String,
}

impl From<v1::ConflictsResponse> for ConflictsBody {
    fn from(answer: v1::ConflictsResponse) -> Self {
        let conflict = |found: v1::ShardConflict| {
            let v1::Conflict { key, reason } = found.conflict.unwrap_or_default();
            ConflictBody { shard: found.shard, key, reason }
        };
        Self { conflicts: answer.conflicts.into_iter().map(conflict).collect(), more: answer.more }
    }
}

/// Rows that were set aside.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Quarantine)]
pub(in super::super) struct QuarantineBody {
    pub(in super::super) rows: Vec<QuarantinedRowBody>,
    /// There are more than were asked for.
    pub(in super::super) more: bool,
}

/// A row that was set aside; no value of it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = QuarantinedRow)]
pub(in super::super) struct QuarantinedRowBody {
    shard: String,
    key: String,
    /// Stable code of the error.
    class: String,
    message: String,
    /// How often it was set aside.
    attempts: u32,
    /// Given up by a person.
    discarded: bool,
    /// When it was set aside last.
    at: String,
}

impl From<v1::ListQuarantineResponse> for QuarantinedRowBody {
    fn from(found: v1::ListQuarantineResponse) -> Self {
        let v1::QuarantinedRow { key, class, message, attempts, discarded, at } =
            found.row.unwrap_or_default();
        Self { shard: found.shard, key, class, message, attempts, discarded, at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_is_whole_only_when_its_steps_are_over() {
        let part = |step: v1::Step, rows_seen| v1::ShardMigration {
            step: step.into(),
            rows_seen,
            rows_total: 100,
            rows_per_second: 10.0,
            ..v1::ShardMigration::default()
        };
        let walked = |step, seen| PartBody::from(part(step, seen));
        assert!((walked(v1::Step::Backfill, 40).fraction - 0.4).abs() < 1e-9);
        assert_eq!(walked(v1::Step::Backfill, 40).eta_seconds, Some(6));
        assert!((walked(v1::Step::Backfill, 500).fraction - 0.99).abs() < 1e-9);
        assert!((walked(v1::Step::Unspecified, 0).fraction - 1.0).abs() < 1e-9);
        assert_eq!(walked(v1::Step::Split, 40).eta_seconds, None);
    }
}

//! Views to the wire.

use shardlift_domain::ids::ShardId;
use shardlift_domain::migration::{ShardMigration, Stop};
use shardlift_domain::quarantine::Held;
use shardlift_proto::{convert, v1};

use crate::orchestrator::{MigrationView, ShardStatus};

/// One migration; a list leaves the shards out.
pub(super) fn migration_to_wire(view: &MigrationView, with_shards: bool) -> v1::Migration {
    let migration = &view.migration;
    let halted = match &migration.stop {
        Some(Stop::System { reason }) => Some(reason.clone().into()),
        _ => None,
    };
    let undo = migration.undo.as_ref();
    let undone = undo.map(|undo| undo.done).unwrap_or_default();
    v1::Migration {
        id: migration.key.id.to_string(),
        version: migration.key.version.0,
        kind: v1::Kind::from(migration.kind).into(),
        engine: v1::Engine::from(migration.engine).into(),
        cluster: migration.cluster.to_string(),
        checksum: migration.checksum.to_string(),
        status: v1::Status::from(migration.status).into(),
        phase: v1::Phase::from(migration.phase).into(),
        released: migration.released,
        halted,
        error: migration.failure().cloned().map(Into::into),
        decided: migration.decision.as_ref().filter(|_| migration.settles()).map(|it| it.as_str().to_owned()),
        uncovered: view.uncovered.iter().map(ToString::to_string).collect(),
        waiting_for: view.waiting_for.iter().map(ToString::to_string).collect(),
        created_at: Some(moment(view.times.created_at)),
        started_at: view.times.started_at.map(moment),
        completed_at: view.times.completed_at.map(moment),
        rows_done: view.rows_done,
        rows_total: view.rows_total,
        rows_restored: undone.restored + view.undone.restored,
        conflicts: undone.conflicts + view.undone.conflicts,
        rolled_back_for: undo.and_then(|undo| undo.reason.clone()).map(Into::into),
        held: held_to_wire(migration.held()),
        wave: migration.rollout.wave + 1,
        waves: migration.rollout.waves(),
        gate: view.gate.as_ref().map(|gate| v1::Gate {
            soak_left_ms: gate.soak_left,
            closed: gate.closed.clone().map(Into::into),
        }),
        throttle: view.throttle.map(|throttle| convert::throttle_to_wire(throttle.now)),
        throttle_in_spec: view.throttle.and_then(|throttle| throttle.in_spec).map(convert::throttle_to_wire),
        purged: migration.purge.map(|purge| purge.done),
        undoable: Some(view.undoable),
        author: migration.author.clone(),
        approved_by: migration.approval.as_ref().map(|approval| approval.by.clone()),
        approval_needed: view.approval_needed.clone().map(Into::into),
        shards: if with_shards { shards_to_wire(view) } else { Vec::new() },
    }
}

fn shards_to_wire(view: &MigrationView) -> Vec<v1::ShardMigration> {
    let status = |shard: &ShardId| view.shards.get(shard).cloned().unwrap_or_default();
    let held = |shard: &ShardId| view.migration.quarantined.get(shard).copied().unwrap_or_default();
    let parts = view.migration.shards.iter();
    parts.map(|(shard, part)| shard_to_wire(shard, part, status(shard), held(shard))).collect()
}

/// Absent where there is none.
fn held_to_wire(held: Held) -> Option<v1::Held> {
    (!held.is_empty()).then(|| convert::held_to_wire(held))
}

fn shard_to_wire(
    shard: &ShardId,
    part: &ShardMigration,
    status: ShardStatus,
    held: Held,
) -> v1::ShardMigration {
    let ShardStatus { progress, trouble, workers } = status;
    v1::ShardMigration {
        shard: shard.to_string(),
        step: part.todo.map_or(v1::Step::Unspecified, Into::into).into(),
        verified: part.verified,
        error: part.failure.clone().map(Into::into),
        trouble: trouble.map(Into::into),
        rows_done: progress.rows_done,
        rows_seen: progress.rows_seen,
        rows_total: progress.rows_total.max(progress.rows_seen),
        batches: progress.batches,
        rows_per_second: progress.rows_per_second,
        batch_size: progress.batch_size,
        ranges: progress.ranges,
        ranges_done: progress.ranges_done,
        pass: progress.pass,
        rows_restored: progress.undone.restored,
        conflicts: progress.undone.conflicts,
        rows_saved: progress.saved.rows,
        bytes_saved: progress.saved.bytes,
        workers: workers.into_iter().map(Into::into).collect(),
        held: held_to_wire(held),
        wave: part.wave + 1,
    }
}

/// A time.
pub(super) fn moment(at: chrono::DateTime<chrono::Utc>) -> v1::Timestamp {
    convert::timestamp(at.timestamp(), at.timestamp_subsec_nanos())
}

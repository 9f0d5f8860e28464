//! Answers to try the views on.

use std::time::Duration;

use shardlift_client::model::{Gate, MigrationView, ShardPresence, ShardView, WorkerPresence};
use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::ids::{Checksum, ClusterName, MigrationId, MigrationKey, ShardId, Version, WorkerId};
use shardlift_domain::migration::{InForce, Phase, Status, Step};
use shardlift_domain::plan::{Disposition, Plan, PlannedMigration, ShardEstimate, Wave};
use shardlift_domain::progress::ShardProgress;
use shardlift_domain::quarantine::Held;
use shardlift_domain::spec::{Engine, Kind, Throttle, Window};
use shardlift_domain::verdict::{Finding, Saved, Severity, Undone};

pub(crate) fn id(text: &str) -> MigrationId {
    MigrationId::new(text).expect("a migration id")
}

pub(crate) fn shard(text: &str) -> ShardId {
    ShardId::new(text).expect("a shard id")
}

fn cluster() -> ClusterName {
    ClusterName::new("chat").expect("a cluster name")
}

fn worker(text: &str) -> WorkerId {
    WorkerId::new(text).expect("a worker name")
}

fn part(name: &str, rows_seen: u64) -> ShardView {
    ShardView {
        shard: shard(name),
        step: Some(Step::Backfill),
        verified: false,
        error: None,
        trouble: None,
        progress: ShardProgress {
            rows_done: rows_seen - 100,
            rows_seen,
            rows_total: 100_000,
            undone: Undone::default(),
            saved: Saved::default(),
            batches: 42,
            ranges: 8,
            ranges_done: 2,
            pass: 1,
            rows_per_second: 12_000.4,
            batch_size: 5000,
        },
        workers: vec![worker("worker-a")],
        held: Held::default(),
        wave: 1,
    }
}

pub(crate) fn running() -> MigrationView {
    MigrationView {
        key: MigrationKey { id: id("0008_message_text"), version: Version(1) },
        kind: Kind::Data,
        engine: Engine::Postgres,
        cluster: cluster(),
        checksum: Checksum::of(b"spec"),
        author: None,
        approved_by: None,
        approval_needed: None,
        status: Status::Running,
        phase: Some(Phase::Data),
        released: true,
        halted: None,
        error: None,
        waiting_for: vec![],
        uncovered: vec![],
        created_at: Some("2026-11-23T01:02:03Z".into()),
        started_at: Some("2026-11-23T01:02:04Z".into()),
        completed_at: None,
        shards: vec![part("chat-pg-01", 62_000), part("chat-pg-02", 40_000)],
        rows_done: 101_800,
        rows_total: 200_000,
        undone: Undone::default(),
        decided: None,
        rolled_back_for: None,
        purged: None,
        throttle: None,
        held: Held::default(),
        wave: 1,
        waves: 1,
        gate: None,
    }
}

pub(crate) fn completed() -> MigrationView {
    let mut view = running();
    view.status = Status::Completed;
    view.phase = Some(Phase::Verify);
    view.completed_at = Some("2026-11-23T01:02:09Z".into());
    for part in &mut view.shards {
        part.step = None;
        part.verified = true;
        part.workers.clear();
        part.progress.rows_per_second = 0.0;
        part.progress.ranges_done = 8;
    }
    view
}

pub(crate) fn failed() -> MigrationView {
    let mut view = running();
    let error = Failure::new(ErrorCode::RowRejected, "null value in \"title\"", "mend the row, then retry")
        .in_migration(&view.key)
        .on_shard(&shard("chat-pg-01"))
        .in_step(Step::Backfill)
        .at_key("42");
    view.status = Status::Failed;
    view.shards[0].error = Some(error.clone());
    view.error = Some(error);
    view
}

/// An operator has let it go faster than its spec.
pub(crate) fn throttled() -> MigrationView {
    let night = Window { from_minute: 1320, to_minute: 360 };
    let throttle = |rate, window| Throttle { rows_per_second: Some(rate), window };
    let in_force = InForce { now: throttle(5_000, None), in_spec: Some(throttle(50, Some(night))) };
    MigrationView { throttle: Some(in_force), ..running() }
}

/// The first of two waves is done; its gate is closed, or it soaks.
pub(crate) fn soaking(closed: bool) -> MigrationView {
    let mut view = running();
    view.phase = Some(Phase::Verify);
    (view.shards[0].step, view.shards[0].verified) = (None, true);
    (view.shards[1].step, view.shards[1].wave, view.waves) = (Some(Step::Split), 2, 2);
    let failure =
        Failure::new(ErrorCode::GateClosed, "shard chat-pg-01 is not in health", "it opens by itself");
    view.gate = Some(Gate {
        soak_left: Duration::from_millis(if closed { 0 } else { 44_200 }),
        closed: closed.then_some(failure),
    });
    view
}

pub(crate) fn halted() -> MigrationView {
    let mut view = running();
    view.status = Status::Paused;
    view.halted = Some(
        Failure::new(ErrorCode::SweepNotConverging, "still written in the old form", "deploy, then resume")
            .on_shard(&shard("chat-pg-02")),
    );
    view
}

pub(crate) fn pending(name: &str, waiting_for: &[&str]) -> MigrationView {
    let mut view = running();
    view.key.id = id(name);
    view.status = Status::Pending;
    view.phase = None;
    view.started_at = None;
    view.waiting_for = waiting_for.iter().map(|name| id(name)).collect();
    for part in &mut view.shards {
        part.step = Some(Step::Precheck);
        part.progress = ShardProgress::default();
        part.workers.clear();
    }
    (view.rows_done, view.rows_total) = (0, 0);
    view
}

fn planned(name: &str, kind: Kind, disposition: Disposition, waits_for: &[&str]) -> PlannedMigration {
    let shards = [shard("chat-pg-01"), shard("chat-pg-02")];
    let (rows, bytes) = if kind == Kind::Data { (Some(100_000), Some(16_500_000)) } else { (None, None) };
    PlannedMigration {
        id: id(name),
        version: Version(1),
        kind,
        engine: Engine::Postgres,
        cluster: cluster(),
        checksum: Checksum::of(name.as_bytes()),
        disposition,
        waits_for: waits_for.iter().map(|name| id(name)).collect(),
        steps: Step::sequence(kind, true, false, false),
        waves: vec![Wave { shards: shards.to_vec(), soak: Duration::ZERO }],
        estimates: shards.into_iter().map(|shard| ShardEstimate { shard, rows, bytes }).collect(),
        notes: vec![],
    }
}

pub(crate) fn plan() -> Plan {
    let mut text = planned("0008_message_text", Kind::Data, Disposition::New, &["0001_message_columns"]);
    text.notes.push("rows that the application inserts during the run are found by the sweep".into());
    let done = Disposition::Known { status: Status::Completed };
    let finding = |severity, failure| Finding { severity, failure };
    Plan {
        topology_revision: 3,
        migrations: vec![planned("0001_message_columns", Kind::Schema, done, &[]), text],
        findings: vec![
            finding(
                Severity::Note,
                Failure::new(
                    ErrorCode::SchemaLocked,
                    "the table has no index on schema_version",
                    "nothing to do",
                ),
            ),
            finding(
                Severity::Error,
                Failure::new(ErrorCode::ShardNoWorker, "nobody serves the shard", "start its worker")
                    .on_shard(&shard("chat-pg-02")),
            ),
        ],
        rehearsals: Vec::new(),
    }
}

pub(crate) fn shards() -> Vec<ShardPresence> {
    let presence = |name, problem: Option<Failure>| ShardPresence {
        shard: shard(name),
        cluster: cluster(),
        engine: Engine::Postgres,
        reachable: problem.is_none(),
        workers: vec![worker("worker-a")],
        server_version: problem.is_none().then(|| "15.18".into()),
        problem,
    };
    let problem = Failure::new(ErrorCode::ShardUnreachable, "connection refused", "start the server");
    vec![presence("chat-pg-01", None), presence("chat-pg-02", Some(problem))]
}

pub(crate) fn workers() -> Vec<WorkerPresence> {
    let present = |name: &str, shards: &[&str], slots, busy, draining| WorkerPresence {
        worker: worker(name),
        version: "0.1.0".into(),
        shards: shards.iter().map(|name| shard(name)).collect(),
        slots,
        busy,
        draining,
    };
    vec![
        present("worker-a", &["chat-pg-01", "chat-pg-02"], 4, 1, false),
        present("worker-b", &["chat-pg-02"], 2, 0, true),
    ]
}

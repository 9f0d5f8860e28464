//! One migration as a coordinator sees it now.

use std::time::Duration;

use shardlift_domain::failure::Failure;
use shardlift_domain::ids::{Checksum, ClusterName, MigrationId, MigrationKey, ShardId, Version, WorkerId};
use shardlift_domain::migration::{InForce, Phase, Status, Step};
use shardlift_domain::progress::ShardProgress;
use shardlift_domain::quarantine::Held;
use shardlift_domain::spec::{Engine, Kind};
use shardlift_domain::verdict::{Saved, Undone};
use shardlift_proto::convert::{WireError, failure_from_wire, held_from_wire, in_force_from_wire};
use shardlift_proto::v1;

/// One migration. Times are RFC 3339 in UTC.
#[derive(Debug, Clone, PartialEq)]
pub struct MigrationView {
    /// Id and version.
    pub key: MigrationKey,
    /// Schema or data.
    pub kind: Kind,
    /// Its engine.
    pub engine: Engine,
    /// Its cluster.
    pub cluster: ClusterName,
    /// The content.
    pub checksum: Checksum,
    /// Where it stands.
    pub status: Status,
    /// What it is, or was last, busy with; `None` before it began.
    pub phase: Option<Phase>,
    /// Whether somebody said start.
    pub released: bool,
    /// Why the system paused it; `None` when a person did.
    pub halted: Option<Failure>,
    /// What failed for good.
    pub error: Option<Failure>,
    /// Who submitted it.
    pub author: Option<String>,
    /// Who has approved it.
    pub approved_by: Option<String>,
    /// While pending: the approval that it needs and has not.
    pub approval_needed: Option<Failure>,
    /// While pending: what it still waits for.
    pub waiting_for: Vec<MigrationId>,
    /// Shards of its cluster that joined later, and that it does not cover.
    pub uncovered: Vec<ShardId>,
    /// When it was submitted.
    pub created_at: Option<String>,
    /// When it began.
    pub started_at: Option<String>,
    /// When it was completed.
    pub completed_at: Option<String>,
    /// Each shard's part; empty in a list.
    pub shards: Vec<ShardView>,
    /// Rows changed on all shards.
    pub rows_done: u64,
    /// Rows of the table on all shards; an estimate.
    pub rows_total: u64,
    /// What undoing has done on all shards.
    pub undone: Undone,
    /// What was decided about what its shards have prepared, while some have still to hear it: `commit` or `abort`.
    pub decided: Option<String>,
    /// Why the system rolled it back; `None` when a person did, or nobody.
    pub rolled_back_for: Option<Failure>,
    /// That what it had kept for a rollback is given up; `true`: it is gone.
    pub purged: Option<bool>,
    /// How its walk is throttled; `None`: nothing of it is walked, or the coordinator is of an older release.
    pub throttle: Option<InForce>,
    /// Rows set aside on all shards.
    pub held: Held,
    /// The present wave, from 1.
    pub wave: u32,
    /// How many waves there are.
    pub waves: u32,
    /// The present wave is done: what its gate waits for.
    pub gate: Option<Gate>,
}

/// The gate behind a wave.
#[derive(Debug, Clone, PartialEq)]
pub struct Gate {
    /// How long the wave still soaks.
    pub soak_left: Duration,
    /// It has soaked, and this keeps the gate closed.
    pub closed: Option<Failure>,
}

/// One shard's part.
#[derive(Debug, Clone, PartialEq)]
pub struct ShardView {
    /// Which shard.
    pub shard: ShardId,
    /// The step to do next; `None`: nothing is left.
    pub step: Option<Step>,
    /// Whether verification held.
    pub verified: bool,
    /// What failed for good.
    pub error: Option<Failure>,
    /// A passing trouble: the work is tried again by itself.
    pub trouble: Option<Failure>,
    /// How far it is.
    pub progress: ShardProgress,
    /// Who works on it now.
    pub workers: Vec<WorkerId>,
    /// Rows set aside.
    pub held: Held,
    /// With which wave it goes, from 1.
    pub wave: u32,
}

impl MigrationView {
    pub(crate) fn from_wire(migration: Option<v1::Migration>) -> Result<Self, WireError> {
        let migration = migration.ok_or(WireError::Missing("migration"))?;
        Ok(Self {
            kind: migration.kind().try_into()?,
            engine: migration.engine().try_into()?,
            status: migration.status().try_into()?,
            phase: Phase::try_from(migration.phase()).ok(),
            key: MigrationKey { id: MigrationId::new(migration.id)?, version: Version(migration.version) },
            cluster: ClusterName::new(migration.cluster)?,
            checksum: Checksum::from_stored(migration.checksum),
            released: migration.released,
            halted: migration.halted.map(failure_from_wire),
            error: migration.error.map(failure_from_wire),
            author: migration.author,
            approved_by: migration.approved_by,
            approval_needed: migration.approval_needed.map(failure_from_wire),
            uncovered: migration.uncovered.into_iter().map(ShardId::new).collect::<Result<_, _>>()?,
            waiting_for: migration.waiting_for.into_iter().map(MigrationId::new).collect::<Result<_, _>>()?,
            // Written as RFC 3339 by its own type.
            created_at: migration.created_at.map(|time| time.to_string()),
            started_at: migration.started_at.map(|time| time.to_string()),
            completed_at: migration.completed_at.map(|time| time.to_string()),
            shards: migration.shards.into_iter().map(ShardView::from_wire).collect::<Result<_, _>>()?,
            rows_done: migration.rows_done,
            rows_total: migration.rows_total,
            undone: Undone { restored: migration.rows_restored, conflicts: migration.conflicts },
            decided: migration.decided.filter(|word| matches!(word.as_str(), "commit" | "abort")),
            rolled_back_for: migration.rolled_back_for.map(failure_from_wire),
            purged: migration.purged,
            throttle: in_force_from_wire(migration.throttle, migration.throttle_in_spec)?,
            held: migration.held.map(held_from_wire).unwrap_or_default(),
            // A coordinator of a release before waves says 0.
            wave: migration.wave.max(1),
            waves: migration.waves.max(1),
            gate: migration.gate.map(|gate| Gate {
                soak_left: Duration::from_millis(gate.soak_left_ms),
                closed: gate.closed.map(failure_from_wire),
            }),
        })
    }

    /// Its id.
    pub fn id(&self) -> &MigrationId {
        &self.key.id
    }

    /// Whether nothing happens any more until a person asks for it.
    pub fn rests(&self) -> bool {
        self.status.rests()
    }

    /// Rows walked over per second on all shards.
    pub fn rows_per_second(&self) -> f64 {
        self.shards.iter().map(|part| part.progress.rows_per_second).sum()
    }

    /// Share of the walk done on all shards, 0.0 to 1.0; `None` where there is nothing to walk.
    pub fn fraction(&self) -> Option<f64> {
        if self.kind == Kind::Schema || self.shards.is_empty() {
            return None;
        }
        // A shard counts by its rows; at least one, so that an empty one is not done before it was visited.
        let weight = |part: &ShardView| part.progress.rows_total.max(1) as f64;
        let total: f64 = self.shards.iter().map(weight).sum();
        let done: f64 = self.shards.iter().map(|part| part.fraction() * weight(part)).sum();
        Some(done / total)
    }

    /// Seconds until the slowest shard has been walked, and shards that wait for their wave at the speed of all that is walked
    /// now; `None` when nothing moves.
    pub fn eta_seconds(&self) -> Option<u64> {
        eta(&self.shards)
    }
}

fn eta(shards: &[ShardView]) -> Option<u64> {
    let slowest = shards.iter().filter_map(ShardView::eta_seconds).max()?;
    let left: u64 = shards.iter().map(ShardView::rows_left).sum();
    let speed: f64 = shards.iter().map(|part| part.progress.rows_per_second).sum();
    // A float too large for the type becomes its largest value.
    Some(slowest.max((left as f64 / speed).ceil() as u64))
}

impl ShardView {
    fn from_wire(part: v1::ShardMigration) -> Result<Self, WireError> {
        let rows_per_second =
            if part.rows_per_second.is_finite() { part.rows_per_second.max(0.0) } else { 0.0 };
        Ok(Self {
            step: Step::try_from(part.step()).ok(),
            shard: ShardId::new(part.shard)?,
            verified: part.verified,
            error: part.error.map(failure_from_wire),
            trouble: part.trouble.map(failure_from_wire),
            progress: ShardProgress {
                rows_done: part.rows_done,
                rows_seen: part.rows_seen,
                rows_total: part.rows_total,
                batches: part.batches,
                ranges: part.ranges,
                ranges_done: part.ranges_done,
                pass: part.pass,
                undone: Undone { restored: part.rows_restored, conflicts: part.conflicts },
                saved: Saved { rows: part.rows_saved, bytes: part.bytes_saved },
                rows_per_second,
                batch_size: part.batch_size,
            },
            workers: part.workers.into_iter().map(WorkerId::new).collect::<Result<_, _>>()?,
            held: part.held.map(held_from_wire).unwrap_or_default(),
            wave: part.wave.max(1),
        })
    }

    /// Share of the walk done, 0.0 to 1.0.
    pub fn fraction(&self) -> f64 {
        self.progress.walked(self.step)
    }

    /// Rows that are not walked yet.
    fn rows_left(&self) -> u64 {
        if self.fraction() < 1.0 {
            self.progress.rows_total.saturating_sub(self.progress.rows_seen)
        } else {
            0
        }
    }

    /// Seconds until the walk ends at the present speed; `None` when it is not walked now.
    pub fn eta_seconds(&self) -> Option<u64> {
        if self.step == Some(Step::Backfill) { self.progress.eta_seconds() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(step: v1::Step, rows_seen: u64) -> v1::ShardMigration {
        v1::ShardMigration {
            shard: "s".into(),
            step: step.into(),
            rows_seen,
            rows_total: 100,
            rows_per_second: f64::NAN,
            ..v1::ShardMigration::default()
        }
    }

    #[test]
    fn the_walk_is_whole_only_when_its_steps_are_over() {
        let fraction = |step, seen| ShardView::from_wire(part(step, seen)).expect("converts").fraction();
        assert!((fraction(v1::Step::Backfill, 40) - 0.40).abs() < 1e-9);
        assert!((fraction(v1::Step::Backfill, 500) - 0.99).abs() < 1e-9);
        assert!((fraction(v1::Step::Unspecified, 0) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_speed_that_is_no_number_is_none() {
        let view = ShardView::from_wire(part(v1::Step::Backfill, 40)).expect("converts");
        assert_eq!(view.eta_seconds(), None);
    }

    #[test]
    fn shards_of_later_waves_count_at_the_speed_of_those_that_run() {
        let mut running = part(v1::Step::Backfill, 40);
        running.rows_per_second = 20.0;
        let waiting = part(v1::Step::Split, 0);
        let eta_of = |parts: &[&v1::ShardMigration]| {
            let view = |part: &&v1::ShardMigration| ShardView::from_wire((*part).clone()).expect("converts");
            eta(&parts.iter().map(view).collect::<Vec<_>>())
        };
        assert_eq!(eta_of(&[&running]), Some(3));
        assert_eq!(eta_of(&[&running, &waiting]), Some(8));
        assert_eq!(eta_of(&[&waiting]), None);
    }

    #[test]
    fn an_answer_without_its_migration_is_refused() {
        assert_eq!(MigrationView::from_wire(None), Err(WireError::Missing("migration")));
        assert!(MigrationView::from_wire(Some(v1::Migration::default())).is_err());
    }
}

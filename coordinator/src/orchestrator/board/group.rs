//! The tasks of one migration on one shard.

use std::collections::{BTreeMap, BTreeSet};

use shardlift_domain::failure::Failure;
use shardlift_domain::ids::{MigrationKey, ShardId, TaskId, WorkerId};
use shardlift_domain::migration::{Pace, Step};
use shardlift_domain::progress::Receipt;
use shardlift_domain::range::Pass;
use shardlift_domain::task::{Millis, TaskState};

use super::{Crew, Walking};

/// One task.
pub(super) struct Entry {
    pub(super) state: TaskState,
    pub(super) limit: u32,
    pub(super) wanted: bool,
    /// Who had it last.
    pub(super) last: Option<WorkerId>,
    pub(super) receipt: Option<Receipt>,
    /// What its worker was told of its pace.
    pub(super) pace: Pace,
    /// When it was handed out.
    begun: Millis,
    /// When it was asked to share last.
    pub(super) asked: Option<Millis>,
    /// Its worker was told to give it back, though it is wanted.
    pub(super) taken_away: bool,
}

impl Entry {
    /// A task that is not wanted yet.
    pub(super) fn new(limit: u32) -> Self {
        Self {
            state: TaskState::ready(),
            limit,
            wanted: false,
            last: None,
            receipt: None,
            pace: Pace::default(),
            begun: 0,
            asked: None,
            taken_away: false,
        }
    }

    /// A hand-out begins.
    pub(super) fn begin(&mut self, worker: &WorkerId, pace: Pace, now: Millis) {
        self.last = Some(worker.clone());
        (self.pace, self.begun, self.asked, self.taken_away) = (pace, now, None, false);
    }
}

/// The tasks of one migration on one shard.
#[derive(Default)]
pub(super) struct Group {
    pub(super) tasks: BTreeMap<TaskId, Entry>,
    /// The newest pass.
    pub(super) pass: Option<Pass>,
    /// The shard may have a range that the pass lacks.
    pub(super) unsure: bool,
    /// How many tasks are handed out.
    pub(super) running: u32,
    /// The number of the newest hand-out.
    pub(super) served: u64,
}

impl Group {
    /// Takes over what the shard says of its ranges.
    pub(super) fn learn(&mut self, seen: Pass) {
        match &mut self.pass {
            Some(pass) => pass.merge(seen),
            None => self.pass = Some(seen),
        }
    }

    /// If more ranges may run than do, and none waits: what runs.
    pub(super) fn crew(&self, migration: &MigrationKey, shard: &ShardId) -> Option<Crew> {
        if self.running == 0 {
            return None;
        }
        let wanted = || self.tasks.iter().filter(|(_, entry)| entry.wanted);
        if wanted().any(|(_, entry)| matches!(entry.state, TaskState::Waiting { .. })) {
            return None;
        }
        let limit = wanted().map(|(_, entry)| entry.limit).max()?;
        let spare = limit.checked_sub(self.running).filter(|spare| *spare > 0)?;
        let ranges: Vec<Walking> = wanted().filter_map(|(task, entry)| walking(task, entry)).collect();
        let crew = Crew { migration: migration.clone(), shard: shard.clone(), spare, ranges };
        (!crew.ranges.is_empty()).then_some(crew)
    }

    pub(super) fn activity(&self) -> Activity {
        let mut activity = Activity::default();
        for entry in self.tasks.values() {
            activity.open |= entry.wanted;
            match &entry.state {
                TaskState::Leased { worker, .. } => {
                    activity.workers.insert(worker.clone());
                    let waits = entry.receipt.as_ref().and_then(|receipt| receipt.waits.as_ref());
                    activity.trouble = activity.trouble.or(waits.cloned());
                }
                TaskState::Waiting { .. } => activity.waiting |= entry.wanted,
                TaskState::Done | TaskState::Failed(_) => {}
            }
            if let Some(trouble) = entry.state.trouble() {
                activity.trouble = Some(trouble.clone());
            }
            if let Some(receipt) = &entry.receipt {
                activity.rows_per_second += receipt.rows_per_second;
                activity.batch_size = activity.batch_size.max(receipt.batch_size);
            }
        }
        activity
    }
}

/// A range whose worker has shown that it walks.
fn walking(task: &TaskId, entry: &Entry) -> Option<Walking> {
    let TaskState::Leased { worker, .. } = &entry.state else { return None };
    let receipt = entry.receipt.clone().filter(|_| task.step == Step::Backfill && !entry.taken_away)?;
    let (worker, begun, asked) = (worker.clone(), entry.begun, entry.asked);
    Some(Walking { task: task.clone(), worker, begun, asked, receipt })
}

/// What is going on with one shard of a migration.
#[derive(Default)]
pub(in crate::orchestrator) struct Activity {
    pub(in crate::orchestrator) workers: BTreeSet<WorkerId>,
    pub(in crate::orchestrator) trouble: Option<Failure>,
    /// Whether there is anything to do.
    pub(in crate::orchestrator) open: bool,
    /// Whether anything of it waits for a worker.
    pub(in crate::orchestrator) waiting: bool,
    pub(in crate::orchestrator) rows_per_second: f64,
    pub(in crate::orchestrator) batch_size: u32,
}

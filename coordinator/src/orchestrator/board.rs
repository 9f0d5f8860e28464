//! The tasks and who has them: want, have, reconcile. Volatile; after a take-over it is built anew.

use std::collections::{BTreeMap, BTreeSet};

use shardlift_domain::failure::Failure;
use shardlift_domain::fence::{Attempt, Epoch, Token};
use shardlift_domain::ids::{MigrationKey, ShardId, TaskId, WorkerId};
use shardlift_domain::progress::Receipt;
use shardlift_domain::range::Pass;
use shardlift_domain::task::{Millis, TaskEvent, TaskMove, TaskState};

use crate::scheduler::Candidate;

/// One wanted task and how many of its group may run at once.
pub(super) struct Wanted {
    pub(super) task: TaskId,
    pub(super) limit: u32,
}

/// A hand-out that is to end.
pub(super) struct Unwanted {
    pub(super) task: TaskId,
    pub(super) worker: WorkerId,
    pub(super) token: Token,
}

struct Entry {
    state: TaskState,
    limit: u32,
    wanted: bool,
    last: Option<WorkerId>,
    receipt: Option<Receipt>,
}

/// All tasks of all migrations.
pub(super) struct Board {
    epoch: Epoch,
    attempts: u32,
    entries: BTreeMap<TaskId, Entry>,
    passes: BTreeMap<(MigrationKey, ShardId), Pass>,
}

impl Board {
    pub(super) fn new(epoch: Epoch) -> Self {
        Self { epoch, attempts: 0, entries: BTreeMap::new(), passes: BTreeMap::new() }
    }

    /// The newest pass of a shard, as far as it is known.
    pub(super) fn pass(&self, migration: &MigrationKey, shard: &ShardId) -> Option<&Pass> {
        self.passes.get(&(migration.clone(), shard.clone()))
    }

    /// Takes over what a shard says of its ranges.
    pub(super) fn learn(&mut self, migration: &MigrationKey, shard: &ShardId, pass: Pass) {
        self.passes.insert((migration.clone(), shard.clone()), pass);
    }

    /// A receipt of a running range; the pass it belongs to.
    pub(super) fn receive(&mut self, task: &TaskId, receipt: Receipt) -> Option<&Pass> {
        let pass = self.passes.get_mut(&(task.migration.clone(), task.shard.clone()))?;
        pass.advance(&receipt.range);
        if let Some(entry) = self.entries.get_mut(task) {
            entry.receipt = Some(receipt);
        }
        Some(pass)
    }

    /// Makes the board want exactly this of one migration: new tasks appear, idle ones that are not wanted vanish,
    /// running ones that are not wanted are answered, to be withdrawn.
    pub(super) fn reconcile(&mut self, migration: &MigrationKey, wanted: Vec<Wanted>) -> Vec<Unwanted> {
        let names: BTreeSet<TaskId> = wanted.iter().map(|wanted| wanted.task.clone()).collect();
        for Wanted { task, limit } in wanted {
            let entry = self.entries.entry(task).or_insert_with(|| Entry {
                state: TaskState::ready(),
                limit,
                wanted: true,
                last: None,
                receipt: None,
            });
            entry.wanted = true;
            // Wanted though it ended: what it said did not lead on, so it is done once more and not waited for.
            if matches!(entry.state, TaskState::Done | TaskState::Failed(_)) {
                entry.state = TaskState::ready();
            }
        }
        let mut unwanted = Vec::new();
        self.entries.retain(|task, entry| {
            if task.migration != *migration || names.contains(task) {
                return true;
            }
            let TaskState::Leased { worker, token, .. } = &entry.state else { return false };
            if std::mem::replace(&mut entry.wanted, false) {
                unwanted.push(Unwanted { task: task.clone(), worker: worker.clone(), token: *token });
            }
            true
        });
        unwanted
    }

    /// Tasks that may be handed out now, in the order of their names.
    pub(super) fn candidates(&self, now: Millis) -> Vec<Candidate> {
        let mut running: BTreeMap<(&MigrationKey, &ShardId), u32> = BTreeMap::new();
        for (task, entry) in &self.entries {
            if entry.state.token().is_some() {
                *running.entry((&task.migration, &task.shard)).or_default() += 1;
            }
        }
        let due = |entry: &Entry| {
            entry.wanted && matches!(entry.state, TaskState::Waiting { not_before, .. } if not_before <= now)
        };
        self.entries
            .iter()
            .filter(|(_, entry)| due(entry))
            .map(|(task, entry)| Candidate {
                task: task.clone(),
                limit: entry.limit,
                running: running.get(&(&task.migration, &task.shard)).copied().unwrap_or(0),
                last: entry.last.clone(),
            })
            .collect()
    }

    /// Marks a task as handed out and draws its token: attempts grow over all tasks of an epoch.
    pub(super) fn hand_out(&mut self, task: &TaskId, worker: &WorkerId) -> Option<Token> {
        let entry = self.entries.get_mut(task)?;
        self.attempts += 1;
        let token = Token { epoch: self.epoch, attempt: Attempt(self.attempts) };
        let made = entry.state.on(TaskEvent::Assigned { worker: worker.clone(), token });
        entry.last = Some(worker.clone());
        (made == TaskMove::Made).then_some(token)
    }

    /// Moves one task. News of a task that is not on the board is stale.
    pub(super) fn on(&mut self, task: &TaskId, event: TaskEvent) -> TaskMove {
        let Some(entry) = self.entries.get_mut(task) else { return TaskMove::Stale };
        let made = entry.state.on(event);
        if entry.state.token().is_none() {
            entry.receipt = None;
            if !entry.wanted {
                self.entries.remove(task);
            }
        }
        made
    }

    /// Migrations of which some worker has a task, wanted or not.
    pub(super) fn held(&self) -> BTreeSet<MigrationKey> {
        let held = self.entries.iter().filter(|(_, entry)| entry.state.token().is_some());
        held.map(|(task, _)| task.migration.clone()).collect()
    }

    /// Forgets the ranges of a migration that is finished.
    pub(super) fn close(&mut self, migration: &MigrationKey) {
        self.passes.retain(|(key, _), _| key != migration);
    }

    /// Gives back everything that a worker has; it is gone.
    pub(super) fn lose(&mut self, worker: &WorkerId) {
        let held: Vec<(TaskId, Token)> = self
            .entries
            .iter()
            .filter_map(|(task, entry)| match &entry.state {
                TaskState::Leased { worker: who, token, .. } if who == worker => Some((task.clone(), *token)),
                _ => None,
            })
            .collect();
        for (task, token) in held {
            self.on(&task, TaskEvent::Released(token));
        }
    }

    /// How many tasks a worker has.
    pub(super) fn busy(&self, worker: &WorkerId) -> u32 {
        let held =
            |entry: &&Entry| matches!(&entry.state, TaskState::Leased { worker: who, .. } if who == worker);
        u32::try_from(self.entries.values().filter(held).count()).unwrap_or(u32::MAX)
    }

    /// How many tasks are in each state.
    pub(super) fn states(&self) -> BTreeMap<&'static str, i64> {
        let mut counts = BTreeMap::new();
        for entry in self.entries.values() {
            *counts.entry(entry.state.as_str()).or_default() += 1;
        }
        counts
    }

    /// What is going on with one shard of a migration: who works, the newest receipts, the newest passing trouble.
    pub(super) fn activity(&self, migration: &MigrationKey, shard: &ShardId) -> Activity {
        let mut activity = Activity::default();
        for (task, entry) in &self.entries {
            if task.migration != *migration || task.shard != *shard {
                continue;
            }
            activity.open |= entry.wanted;
            match &entry.state {
                TaskState::Leased { worker, .. } => {
                    activity.workers.insert(worker.clone());
                }
                TaskState::Waiting { last: Some(failure), .. } => activity.trouble = Some(failure.clone()),
                TaskState::Waiting { .. } | TaskState::Done | TaskState::Failed(_) => {}
            }
            if let Some(receipt) = &entry.receipt {
                activity.rows_per_second += receipt.rows_per_second;
                activity.batch_size = activity.batch_size.max(receipt.batch_size);
            }
        }
        activity
    }
}

/// What is going on with one shard of a migration.
#[derive(Default)]
pub(super) struct Activity {
    pub(super) workers: BTreeSet<WorkerId>,
    pub(super) trouble: Option<Failure>,
    /// Whether there is anything to do.
    pub(super) open: bool,
    pub(super) rows_per_second: f64,
    pub(super) batch_size: u32,
}

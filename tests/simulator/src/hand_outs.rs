//! How soon work that is there reaches a worker that is free.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use shardlift_domain::ids::{MigrationKey, TaskId};
use shardlift_domain::migration::{Phase, Step};

/// Latencies of hand-outs. A task could be handed out when what it waits for was reported and its worker had a free slot,
/// whichever came last.
#[derive(Debug, Default)]
pub struct HandOuts {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// The newest report of a phase: the next one begins after its last.
    phases: BTreeMap<(MigrationKey, Phase), Instant>,
    within: Vec<Duration>,
    first: Vec<Duration>,
}

impl HandOuts {
    /// A task is about to be reported as finished.
    pub(crate) fn finished(&self, task: &TaskId) {
        let key = (task.migration.clone(), task.step.phase());
        self.lock().phases.insert(key, Instant::now());
    }

    /// A task has arrived. `shard`: when the shard's last task of this phase was reported; `worker`: when its slot was free.
    pub(crate) fn arrived(&self, task: &TaskId, shard: Option<Instant>, worker: Instant) {
        let now = Instant::now();
        let mut inner = self.lock();
        if let Some(shard) = shard {
            inner.within.push(now - shard.max(worker));
            return;
        }
        let before = match task.step {
            // What it waited for is a person's verb, another migration, or more than one report.
            Step::Precheck | Step::Commit | Step::Abort | Step::Collect | Step::Undo => return,
            Step::Verify => [Phase::Data, Phase::Schema].as_slice(),
            Step::Split | Step::Backfill | Step::Sweep => [Phase::Backup, Phase::Precheck].as_slice(),
            Step::Backup | Step::Apply | Step::Prepare => &[Phase::Precheck],
        };
        let begun = before.iter().find_map(|phase| inner.phases.get(&(task.migration.clone(), *phase)));
        if let Some(begun) = begun.copied() {
            inner.first.push(now - begun.max(worker));
        }
    }

    /// Latencies of the tasks within a phase, sorted: each was made possible by one report.
    pub fn within_phases(&self) -> Vec<Duration> {
        sorted(&self.lock().within)
    }

    /// Latencies of each shard's first task of a phase, sorted: all of them are made possible by the same report, the last
    /// one of the phase before.
    pub fn at_the_start_of_phases(&self) -> Vec<Duration> {
        sorted(&self.lock().first)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn sorted(latencies: &[Duration]) -> Vec<Duration> {
    let mut latencies = latencies.to_vec();
    latencies.sort_unstable();
    latencies
}

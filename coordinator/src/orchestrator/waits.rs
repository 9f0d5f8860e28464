//! Since when tasks wait to be handed out, for the metric of it. Nothing is decided by it.

use std::collections::{BTreeMap, BTreeSet};

use shardlift_domain::ids::TaskId;
use shardlift_domain::task::Millis;

use crate::scheduler::Candidate;

/// When each due task was seen first.
#[derive(Default)]
pub(super) struct Waits {
    since: BTreeMap<TaskId, Millis>,
}

impl Waits {
    /// These tasks are due.
    pub(super) fn due(&mut self, candidates: &[Candidate], now: Millis) {
        for candidate in candidates {
            if !self.since.contains_key(&candidate.task) {
                self.since.insert(candidate.task.clone(), now);
            }
        }
        // Those that are not due any more and were not handed out: wanted no longer. Looked for when they pile up.
        if self.since.len() > 2 * candidates.len() + 64 {
            let due: BTreeSet<&TaskId> = candidates.iter().map(|candidate| &candidate.task).collect();
            self.since.retain(|task, _| due.contains(task));
        }
    }

    /// A task is handed out; how long it waited.
    pub(super) fn over(&mut self, task: &TaskId, now: Millis) -> Millis {
        self.since.remove(task).map_or(0, |since| now.saturating_sub(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shardlift_domain::ids::{MigrationId, MigrationKey, ShardId, Version};
    use shardlift_domain::migration::Step;

    fn candidates(ranges: std::ops::Range<u32>) -> Vec<Candidate> {
        let migration = MigrationKey { id: MigrationId::new("m").expect("a name"), version: Version::FIRST };
        let shard = ShardId::new("s").expect("a name");
        let task = |range| TaskId {
            migration: migration.clone(),
            shard: shard.clone(),
            step: Step::Backfill,
            range: Some(range),
        };
        ranges.map(|range| Candidate { task: task(range), limit: 1, running: 0, last: None }).collect()
    }

    #[test]
    fn a_task_waits_from_when_it_was_due_and_what_is_not_wanted_is_forgotten() {
        let mut waits = Waits::default();
        let all = candidates(0..500);
        waits.due(&all, 100);
        waits.due(&all, 200);
        assert_eq!(waits.over(&all[0].task, 250), 150);
        assert_eq!(waits.over(&all[0].task, 260), 0, "it is over once");
        waits.due(&all[..1], 300);
        assert_eq!(waits.since.len(), 1);
    }
}

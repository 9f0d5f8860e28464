//! The tasks that wait: for their time first, then, by shard, for a worker.

use std::collections::{BTreeMap, BTreeSet};

use shardlift_domain::ids::{ShardId, TaskId};
use shardlift_domain::task::Millis;

/// Waiting tasks.
#[derive(Default)]
pub(super) struct Queue {
    later: BTreeSet<(Millis, TaskId)>,
    /// Each with the time since when it is.
    ready: BTreeMap<ShardId, BTreeMap<TaskId, Millis>>,
}

impl Queue {
    /// A task waits until this time.
    pub(super) fn put(&mut self, not_before: Millis, task: TaskId) {
        self.later.insert((not_before, task));
    }

    /// A task waits no more.
    pub(super) fn remove(&mut self, not_before: Millis, task: &TaskId) {
        if self.later.remove(&(not_before, task.clone())) {
            return;
        }
        if let Some(tasks) = self.ready.get_mut(&task.shard) {
            tasks.remove(task);
            if tasks.is_empty() {
                self.ready.remove(&task.shard);
            }
        }
    }

    /// Looks at the time: some may be ready now.
    pub(super) fn look(&mut self, now: Millis) {
        while let Some((not_before, task)) = self.later.pop_first() {
            if not_before > now {
                self.later.insert((not_before, task));
                break;
            }
            self.ready.entry(task.shard.clone()).or_default().insert(task, now);
        }
    }

    /// Shards with tasks whose time had come at the last look.
    pub(super) fn shards(&self) -> impl ExactSizeIterator<Item = &ShardId> {
        self.ready.keys()
    }

    /// Whether a shard has any, as of the last look.
    pub(super) fn has(&self, shard: &ShardId) -> bool {
        self.ready.contains_key(shard)
    }

    /// Tasks of a shard whose time had come at the last look.
    pub(super) fn ready(&self, shard: &ShardId) -> impl Iterator<Item = &TaskId> {
        self.ready.get(shard).into_iter().flat_map(BTreeMap::keys)
    }

    /// Since when a task is ready.
    pub(super) fn since(&self, task: &TaskId) -> Option<Millis> {
        self.ready.get(&task.shard)?.get(task).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shardlift_domain::ids::{MigrationId, MigrationKey, Version};
    use shardlift_domain::migration::Step;

    fn task(shard: &str) -> TaskId {
        let migration = MigrationKey { id: MigrationId::new("m").expect("a name"), version: Version::FIRST };
        TaskId { migration, shard: ShardId::new(shard).expect("a name"), step: Step::Verify, range: None }
    }

    #[test]
    fn a_task_is_ready_when_its_time_has_come_and_until_it_is_removed() {
        let mut queue = Queue::default();
        queue.put(100, task("a"));
        queue.put(0, task("b"));
        let ready = |queue: &mut Queue, now| {
            queue.look(now);
            queue.shards().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(ready(&mut queue, 99), ["b"]);
        assert_eq!(ready(&mut queue, 100), ["a", "b"]);
        assert_eq!((queue.since(&task("a")), queue.since(&task("b"))), (Some(100), Some(99)));
        queue.remove(100, &task("a"));
        queue.remove(0, &task("b"));
        assert!(ready(&mut queue, 1000).is_empty());
        queue.put(2000, task("a"));
        queue.remove(2000, &task("a"));
        assert!(ready(&mut queue, 3000).is_empty());
    }
}

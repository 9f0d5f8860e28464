//! Which worker runs which task. Pure: tasks, workers and time are arguments, hand-outs are the answer.
//!
//! The problem is kept small on purpose: a task names its shard and a group that shares a limit; a worker names its
//! shards and its free slots.

use std::collections::{BTreeMap, BTreeSet};

use shardlift_domain::ids::{ShardId, TaskId, WorkerId};

/// A task that may run now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Which task; its migration and shard form the group that shares a limit.
    pub task: TaskId,
    /// How many tasks of the group may run at once.
    pub limit: u32,
    /// How many of the group run already.
    pub running: u32,
    /// Who ran it last: it is kept there when possible, the shard's pages are warm.
    pub last: Option<WorkerId>,
}

/// A worker that may take work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidacy {
    /// Who.
    pub worker: WorkerId,
    /// Which shards it serves and reaches.
    pub shards: BTreeSet<ShardId>,
    /// How many tasks it can take at once.
    pub slots: u32,
    /// How many it has.
    pub busy: u32,
}

/// How good a worker is for a task; the smallest wins. The order of the fields is the policy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Score {
    /// Somewhere else than last time.
    moved: bool,
    /// Share of its slots in use, per mille.
    load: u32,
    /// Shards it serves: who serves few is taken first, who serves many stays free for the others.
    breadth: usize,
    /// Nothing else tells them apart.
    worker: WorkerId,
}

/// Hands out as many tasks as limits and slots allow, in the order of the candidates.
pub fn assign(candidates: &[Candidate], mut workers: Vec<Candidacy>) -> Vec<(TaskId, WorkerId)> {
    let mut started: BTreeMap<_, u32> = BTreeMap::new();
    let mut handed_out = Vec::new();
    for candidate in candidates {
        let group = (&candidate.task.migration, &candidate.task.shard);
        let running = candidate.running + started.get(&group).copied().unwrap_or(0);
        if running >= candidate.limit {
            continue;
        }
        let best = workers
            .iter_mut()
            .filter(|worker| worker.busy < worker.slots && worker.shards.contains(&candidate.task.shard))
            .min_by_key(|worker| score(candidate, worker));
        if let Some(worker) = best {
            worker.busy += 1;
            *started.entry(group).or_default() += 1;
            handed_out.push((candidate.task.clone(), worker.worker.clone()));
        }
    }
    handed_out
}

fn score(candidate: &Candidate, worker: &Candidacy) -> Score {
    Score {
        moved: candidate.last.as_ref().is_some_and(|last| *last != worker.worker),
        load: worker.busy.saturating_mul(1000) / worker.slots.max(1),
        breadth: worker.shards.len(),
        worker: worker.worker.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use shardlift_domain::ids::{MigrationId, MigrationKey, Version};
    use shardlift_domain::migration::Step;

    fn candidate(shard: &str, range: u32, limit: u32) -> Candidate {
        let migration = MigrationKey { id: MigrationId::new("m").expect("a name"), version: Version::FIRST };
        let shard = ShardId::new(shard).expect("a name");
        let task = TaskId { migration, shard, step: Step::Backfill, range: Some(range) };
        Candidate { task, limit, running: 0, last: None }
    }

    fn worker(name: &str, shards: &[&str], slots: u32, busy: u32) -> Candidacy {
        let shards = shards.iter().map(|shard| ShardId::new(shard).expect("a name")).collect();
        Candidacy { worker: WorkerId::new(name).expect("a name"), shards, slots, busy }
    }

    fn names(handed_out: &[(TaskId, WorkerId)]) -> Vec<&str> {
        handed_out.iter().map(|(_, worker)| worker.as_str()).collect()
    }

    #[test]
    fn work_is_spread_over_the_workers_of_a_shard() {
        let tasks: Vec<_> = (0..4).map(|range| candidate("a", range, 9)).collect();
        let got = assign(&tasks, vec![worker("w1", &["a"], 4, 0), worker("w2", &["a"], 4, 0)]);
        assert_eq!(names(&got), ["w1", "w2", "w1", "w2"]);
    }

    #[test]
    fn a_range_stays_where_it_ran() {
        let mut task = candidate("a", 0, 9);
        task.last = Some(WorkerId::new("w2").expect("a name"));
        assert_eq!(
            names(&assign(&[task], vec![worker("w1", &["a"], 4, 0), worker("w2", &["a"], 4, 3)])),
            ["w2"]
        );
    }

    #[test]
    fn nobody_gets_work_for_a_shard_it_does_not_serve() {
        assert!(assign(&[candidate("a", 0, 9)], vec![worker("w1", &["b"], 4, 0)]).is_empty());
    }

    proptest! {
        #[test]
        fn limits_and_slots_hold(
            tasks in prop::collection::vec((0..3u8, 0..50u32), 0..60),
            limit in 1..5u32,
            slots in prop::collection::vec((0..6u32, 0..8u8), 0..6),
        ) {
            let tasks: Vec<_> = tasks.iter().map(|(shard, range)| candidate(&format!("s{shard}"), *range, limit)).collect();
            let workers: Vec<_> = slots.iter().enumerate().map(|(index, (slots, mask))| {
                let shards: Vec<_> = (0..3).filter(|bit| mask >> bit & 1 == 1).map(|bit| format!("s{bit}")).collect();
                worker(&format!("w{index}"), &shards.iter().map(String::as_str).collect::<Vec<_>>(), *slots, 0)
            }).collect();
            let got = assign(&tasks, workers.clone());
            for worker in &workers {
                let mine: Vec<_> = got.iter().filter(|(_, who)| *who == worker.worker).collect();
                prop_assert!(mine.len() <= worker.slots as usize);
                prop_assert!(mine.iter().all(|(task, _)| worker.shards.contains(&task.shard)));
            }
            for shard in 0..3 {
                let shard = format!("s{shard}");
                prop_assert!(got.iter().filter(|(task, _)| task.shard.as_str() == shard).count() <= limit as usize);
            }
        }
    }
}

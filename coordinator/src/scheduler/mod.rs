//! Which worker runs which task, and which running range is to be split. Pure: tasks, workers and time are arguments,
//! hand-outs are the answer.
//!
//! The problem is kept small on purpose: a task names its shard and a group that shares a limit; a worker names its
//! shards and its free slots. Three rules, in this order: no group waits while another one has more (no shard starves);
//! a task goes where it ran before, if there is room (the pages are warm); else to the worker with the least load.
//! Nothing that runs is moved for the sake of balance: a worker that joins gets what waits, and, when nothing does, a
//! part of a range that is still long ([`splits`]). What other shards hold locks for finds slots of its own.

mod splits;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use shardlift_domain::capability::Capabilities;
use shardlift_domain::ids::{MigrationKey, ShardId, TaskId, WorkerId};

pub use splits::{Crew, Walking, splits};

/// A task that may run now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Which task; its migration and shard form the group that shares a limit.
    pub task: TaskId,
    /// How many tasks of the group may run at once.
    pub limit: u32,
    /// How many of the group run already.
    pub running: u32,
    /// When the group was given something last: any number that grows with each hand-out, 0 for never.
    pub served: u64,
    /// What its worker must be able to do.
    pub needs: Arc<Capabilities>,
    /// Other shards hold locks until it is done: it does not wait for a slot behind other work.
    pub pressing: bool,
    /// Who ran it last: it is kept there when possible, the shard's pages are warm.
    pub last: Option<WorkerId>,
}

/// A worker that may take work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidacy {
    /// Who.
    pub worker: WorkerId,
    /// Which shards it serves and reaches.
    pub shards: Arc<BTreeSet<ShardId>>,
    /// What it can do.
    pub knows: Arc<Capabilities>,
    /// How many tasks it can take at once.
    pub slots: u32,
    /// How many it has.
    pub busy: u32,
    /// How many of those are pressing; of these it takes as many as it has slots, whatever else it has.
    pub pressing: u32,
}

impl Candidacy {
    fn takes(&self, needs: &Capabilities, pressing: bool) -> bool {
        let taken = if pressing { self.pressing } else { self.busy };
        taken < self.slots && self.knows.cover(needs)
    }

    /// Share of its slots in use, per mille.
    fn load(&self) -> u32 {
        self.busy.saturating_mul(1000) / self.slots.max(1)
    }
}

/// How good a worker is for a task; the smallest wins. The order of the fields is the policy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Score<'a> {
    /// Somewhere else than last time.
    moved: bool,
    /// Share of its slots in use.
    load: u32,
    /// Shards it serves: who serves few is taken first, who serves many stays free for the others.
    breadth: usize,
    /// Nothing else tells them apart.
    worker: &'a WorkerId,
}

/// Which group is next; the smallest wins. The order of the fields is the policy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Turn<'a> {
    /// Who has the least is next.
    running: u32,
    /// Among those, who has waited longest.
    served: u64,
    /// Nothing else tells them apart.
    group: (&'a MigrationKey, &'a ShardId),
}

/// The workers of each shard, by their places in a list.
fn by_shard(workers: &[Candidacy]) -> BTreeMap<ShardId, Vec<usize>> {
    let mut places: BTreeMap<ShardId, Vec<usize>> = BTreeMap::new();
    for (place, worker) in workers.iter().enumerate() {
        for shard in worker.shards.iter() {
            places.entry(shard.clone()).or_default().push(place);
        }
    }
    places
}

/// Hands out as many tasks as limits and slots allow.
pub fn assign(candidates: &[Candidate], mut workers: Vec<Candidacy>) -> Vec<(TaskId, WorkerId)> {
    let places = by_shard(&workers);
    let mut groups: BTreeMap<_, VecDeque<&Candidate>> = BTreeMap::new();
    for candidate in candidates {
        groups.entry((&candidate.task.migration, &candidate.task.shard)).or_default().push_back(candidate);
    }
    let turn = |group, first: &Candidate| Turn { running: first.running, served: first.served, group };
    let mut turns: BTreeSet<Turn<'_>> = groups
        .iter()
        .filter_map(|(group, waiting)| waiting.front().map(|first| turn(*group, first)))
        .collect();
    let mut handed_out = Vec::new();
    while let Some(Turn { running, group, .. }) = turns.pop_first() {
        let Some(waiting) = groups.get_mut(&group) else { continue };
        let Some(candidate) = waiting.pop_front().filter(|candidate| running < candidate.limit) else {
            continue;
        };
        // If nobody takes this one, nobody takes another one of its group.
        let serving = places.get(group.1).into_iter().flatten().copied();
        let able = serving.filter(|place| workers[*place].takes(&candidate.needs, candidate.pressing));
        let Some(best) = able.min_by_key(|place| score(candidate, &workers[*place])) else { continue };
        workers[best].busy += 1;
        workers[best].pressing += u32::from(candidate.pressing);
        handed_out.push((candidate.task.clone(), workers[best].worker.clone()));
        // Served just now, after all others that were.
        let served = u64::MAX - u64::try_from(candidates.len().saturating_sub(handed_out.len())).unwrap_or(0);
        turns.insert(Turn { running: running + 1, served, group });
    }
    handed_out
}

fn score<'a>(candidate: &Candidate, worker: &'a Candidacy) -> Score<'a> {
    Score {
        moved: candidate.last.as_ref().is_some_and(|last| *last != worker.worker),
        load: worker.load(),
        breadth: worker.shards.len(),
        worker: &worker.worker,
    }
}

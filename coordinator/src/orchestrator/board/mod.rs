//! The tasks and who has them: want, have, reconcile. Volatile; after a take-over it is built anew.
//!
//! Tasks lie in groups, one for each migration on each shard: a group shares a limit and a pass. Nothing here looks at
//! all tasks for the sake of one: [`queue`] knows which may run, `held` who has which.

mod group;
mod queue;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use shardlift_domain::fence::{Attempt, Epoch, Token};
use shardlift_domain::ids::{MigrationKey, ShardId, TaskId, WorkerId};
use shardlift_domain::migration::{Pace, Step};
use shardlift_domain::progress::Receipt;
use shardlift_domain::range::{Pass, Rest};
use shardlift_domain::task::{Millis, TaskEvent, TaskMove, TaskState};

pub(super) use group::Activity;
use group::{Entry, Group};
use queue::Queue;

/// One wanted task and how many of its group may run at once.
pub(super) struct Wanted {
    pub(super) task: TaskId,
    pub(super) limit: u32,
}

/// A task that may be handed out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ready {
    pub(super) task: TaskId,
    pub(super) limit: u32,
    /// How many of its group run.
    pub(super) running: u32,
    /// When its group was given something last, as a number that grows with each hand-out.
    pub(super) served: u64,
    pub(super) last: Option<WorkerId>,
}

/// A task that a worker has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) task: TaskId,
    pub(super) worker: WorkerId,
    pub(super) token: Token,
}

/// A group that could run more ranges than it has.
pub(super) struct Crew {
    pub(super) migration: MigrationKey,
    pub(super) shard: ShardId,
    /// How many more may run.
    pub(super) spare: u32,
    pub(super) ranges: Vec<Walking>,
}

/// A range that is being walked.
#[derive(Debug, Clone)]
pub(super) struct Walking {
    pub(super) task: TaskId,
    pub(super) worker: WorkerId,
    pub(super) begun: Millis,
    /// When it was asked to share last.
    pub(super) asked: Option<Millis>,
    pub(super) receipt: Receipt,
}

/// All tasks of all migrations.
pub(super) struct Board {
    epoch: Epoch,
    attempts: u32,
    hand_outs: u64,
    groups: BTreeMap<MigrationKey, BTreeMap<ShardId, Group>>,
    held: BTreeMap<WorkerId, BTreeSet<TaskId>>,
    /// How many tasks of a migration are handed out; none is not listed.
    running: BTreeMap<MigrationKey, u32>,
    queue: Queue,
}

impl Board {
    pub(super) fn new(epoch: Epoch) -> Self {
        Self {
            epoch,
            attempts: 0,
            hand_outs: 0,
            groups: BTreeMap::new(),
            held: BTreeMap::new(),
            running: BTreeMap::new(),
            queue: Queue::default(),
        }
    }

    fn group(&self, migration: &MigrationKey, shard: &ShardId) -> Option<&Group> {
        self.groups.get(migration)?.get(shard)
    }

    fn group_mut(&mut self, migration: &MigrationKey, shard: &ShardId) -> &mut Group {
        self.groups.entry(migration.clone()).or_default().entry(shard.clone()).or_default()
    }

    fn entry(&self, task: &TaskId) -> Option<&Entry> {
        self.group(&task.migration, &task.shard)?.tasks.get(task)
    }

    fn entry_mut(&mut self, task: &TaskId) -> Option<&mut Entry> {
        self.groups.get_mut(&task.migration)?.get_mut(&task.shard)?.tasks.get_mut(task)
    }

    /// The newest pass of a shard, as far as it is known.
    pub(super) fn pass(&self, migration: &MigrationKey, shard: &ShardId) -> Option<&Pass> {
        self.group(migration, shard)?.pass.as_ref()
    }

    /// Takes over what a shard says of its ranges.
    pub(super) fn learn(&mut self, migration: &MigrationKey, shard: &ShardId, pass: Pass) {
        self.group_mut(migration, shard).learn(pass);
    }

    /// Takes over a range that was split off. `None`: it belongs to a pass that is over.
    pub(super) fn split_off(
        &mut self,
        migration: &MigrationKey,
        shard: &ShardId,
        rest: Rest,
    ) -> Option<&Pass> {
        let pass = self.group_mut(migration, shard).pass.as_mut()?;
        if pass.number != rest.pass {
            return None;
        }
        pass.add(rest.range);
        Some(pass)
    }

    /// Whether the backfill of a shard is over. A pass of which ranges were asked to share must be read once more: the
    /// answer of an owner may have been lost, and with it a range that nobody walks.
    pub(super) fn end_of_pass(&mut self, migration: &MigrationKey, shard: &ShardId) -> bool {
        let group = self.group_mut(migration, shard);
        let done = group.pass.as_ref().is_some_and(Pass::done);
        if done && std::mem::take(&mut group.unsure) {
            group.pass = None;
            return false;
        }
        done
    }

    /// A receipt of a running range; the pass it belongs to.
    pub(super) fn receive(&mut self, task: &TaskId, receipt: Receipt) -> Option<&Pass> {
        let group = self.groups.get_mut(&task.migration)?.get_mut(&task.shard)?;
        let pass = group.pass.as_mut()?;
        pass.advance(&receipt.range);
        if let Some(entry) = group.tasks.get_mut(task) {
            entry.receipt = Some(receipt);
        }
        Some(pass)
    }

    /// A receipt of a running task that belongs to no pass.
    pub(super) fn receive_alone(&mut self, task: &TaskId, receipt: Receipt) {
        if let Some(entry) = self.entry_mut(task) {
            entry.receipt = Some(receipt);
        }
    }

    /// Makes the board want exactly this of one migration, or of one shard of it: new tasks appear, idle ones that are
    /// not wanted vanish, running ones that are not wanted are answered, to be withdrawn.
    pub(super) fn reconcile(
        &mut self,
        migration: &MigrationKey,
        only: Option<&ShardId>,
        wanted: Vec<Wanted>,
    ) -> Vec<Held> {
        let names: BTreeSet<TaskId> = wanted.iter().map(|wanted| wanted.task.clone()).collect();
        for wanted in wanted {
            self.want(wanted);
        }
        let idle = |task: &&TaskId| !names.contains(*task);
        let surplus = |group: &Group| group.tasks.keys().filter(idle).cloned().collect::<Vec<_>>();
        let surplus: Vec<TaskId> = match (self.groups.get(migration), only) {
            (None, _) => Vec::new(),
            (Some(groups), Some(shard)) => groups.get(shard).map(surplus).unwrap_or_default(),
            (Some(groups), None) => groups.values().flat_map(surplus).collect(),
        };
        surplus.into_iter().filter_map(|task| self.unwant(&task)).collect()
    }

    fn want(&mut self, Wanted { task, limit }: Wanted) {
        let group = self.group_mut(&task.migration, &task.shard);
        let entry = group.tasks.entry(task.clone()).or_insert_with(|| Entry::new(limit));
        // Wanted though it ended: what it said did not lead on, so it is done once more and not waited for.
        let again = matches!(entry.state, TaskState::Done | TaskState::Failed(_));
        if again {
            entry.state = TaskState::ready();
        }
        if !std::mem::replace(&mut entry.wanted, true) || again {
            self.enqueue(&task);
        }
    }

    /// Removes a task that nobody has, and answers one that somebody has, once.
    fn unwant(&mut self, task: &TaskId) -> Option<Held> {
        self.dequeue(task);
        let entry = self.entry_mut(task)?;
        let TaskState::Leased { worker, token, .. } = &entry.state else {
            self.remove(task);
            return None;
        };
        let held = Held { task: task.clone(), worker: worker.clone(), token: *token };
        std::mem::replace(&mut entry.wanted, false).then_some(held)
    }

    /// Forgets a task, and its group with the last one, unless ranges of it are known.
    fn remove(&mut self, task: &TaskId) {
        let Some(shards) = self.groups.get_mut(&task.migration) else { return };
        let Some(group) = shards.get_mut(&task.shard) else { return };
        group.tasks.remove(task);
        if group.tasks.is_empty() && group.pass.is_none() {
            shards.remove(&task.shard);
        }
        if shards.is_empty() {
            self.groups.remove(&task.migration);
        }
    }

    fn enqueue(&mut self, task: &TaskId) {
        let waiting = self.entry(task).filter(|entry| entry.wanted).map(|entry| &entry.state);
        if let Some(TaskState::Waiting { not_before, .. }) = waiting {
            let not_before = *not_before;
            self.queue.put(not_before, task.clone());
        }
    }

    fn dequeue(&mut self, task: &TaskId) {
        if let Some(TaskState::Waiting { not_before, .. }) = self.entry(task).map(|entry| &entry.state) {
            let not_before = *not_before;
            self.queue.remove(not_before, task);
        }
    }

    /// Looks at the time: what waits for a while may be ready now.
    pub(super) fn look(&mut self, now: Millis) {
        self.queue.look(now);
    }

    /// Shards on which something may be handed out, as of the last [`Board::look`].
    pub(super) fn ready_shards(&self) -> impl ExactSizeIterator<Item = &ShardId> {
        self.queue.shards()
    }

    /// Whether anything may be handed out on a shard, as of the last [`Board::look`].
    pub(super) fn is_ready(&self, shard: &ShardId) -> bool {
        self.queue.has(shard)
    }

    /// What may be handed out on a shard, as of the last [`Board::look`], in the order of names.
    pub(super) fn ready(&self, shard: &ShardId) -> impl Iterator<Item = Ready> {
        self.queue.ready(shard).filter_map(|task| {
            let group = self.group(&task.migration, &task.shard)?;
            let entry = group.tasks.get(task)?;
            Some(Ready {
                task: task.clone(),
                limit: entry.limit,
                running: group.running,
                served: group.served,
                last: entry.last.clone(),
            })
        })
    }

    /// Marks a task as handed out and draws its token: attempts grow over all tasks of an epoch.
    pub(super) fn hand_out(
        &mut self,
        task: &TaskId,
        worker: &WorkerId,
        pace: Pace,
        now: Millis,
    ) -> Option<Token> {
        let token = Token { epoch: self.epoch, attempt: Attempt(self.attempts + 1) };
        if self.on(task, TaskEvent::Assigned { worker: worker.clone(), token }) == TaskMove::Stale {
            return None;
        }
        self.attempts += 1;
        self.hand_outs += 1;
        let hand_outs = self.hand_outs;
        self.group_mut(&task.migration, &task.shard).served = hand_outs;
        let entry = self.entry_mut(task)?;
        entry.begin(worker, pace, now);
        Some(token)
    }

    /// Moves one task. News of a task that is not on the board is stale.
    pub(super) fn on(&mut self, task: &TaskId, event: TaskEvent) -> TaskMove {
        let before = self.holder(task);
        self.dequeue(task);
        let Some(entry) = self.entry_mut(task) else { return TaskMove::Stale };
        let made = entry.state.on(event);
        let wanted = entry.wanted;
        if entry.state.token().is_none() {
            entry.receipt = None;
        }
        self.enqueue(task);
        let after = self.holder(task);
        self.account(task, before, after.clone());
        if after.is_none() && !wanted {
            self.remove(task);
        }
        made
    }

    fn holder(&self, task: &TaskId) -> Option<WorkerId> {
        match &self.entry(task)?.state {
            TaskState::Leased { worker, .. } => Some(worker.clone()),
            _ => None,
        }
    }

    /// Keeps the figures of who has what.
    fn account(&mut self, task: &TaskId, before: Option<WorkerId>, after: Option<WorkerId>) {
        if before == after {
            return;
        }
        let group = self.group_mut(&task.migration, &task.shard);
        group.running = group.running + u32::from(after.is_some()) - u32::from(before.is_some());
        let running = self.running.entry(task.migration.clone()).or_default();
        *running = *running + u32::from(after.is_some()) - u32::from(before.is_some());
        if *running == 0 {
            self.running.remove(&task.migration);
        }
        if let Some(mine) = before.and_then(|worker| self.held.get_mut(&worker)) {
            mine.remove(task);
        }
        if let Some(worker) = after {
            self.held.entry(worker).or_default().insert(task.clone());
        }
    }

    /// Migrations of which some worker has a task, wanted or not.
    pub(super) fn held(&self) -> BTreeSet<MigrationKey> {
        self.running.keys().cloned().collect()
    }

    /// Whether some worker has a task of this migration.
    pub(super) fn is_held(&self, migration: &MigrationKey) -> bool {
        self.running.contains_key(migration)
    }

    /// Forgets a migration that is finished, but for what a worker still has.
    pub(super) fn close(&mut self, migration: &MigrationKey) {
        let Some(shards) = self.groups.get_mut(migration) else { return };
        shards.values_mut().for_each(|group| group.pass = None);
        shards.retain(|_, group| !group.tasks.is_empty());
        if shards.is_empty() {
            self.groups.remove(migration);
        }
    }

    /// Gives back everything that a worker has; it is gone.
    pub(super) fn lose(&mut self, worker: &WorkerId, now: Millis) {
        for Held { task, token, .. } in self.held_by(worker) {
            self.on(&task, TaskEvent::Lost { token, now });
        }
        self.held.remove(worker);
    }

    /// What a worker has.
    pub(super) fn held_by(&self, worker: &WorkerId) -> Vec<Held> {
        let mine = self.held.get(worker).into_iter().flatten();
        mine.filter_map(|task| {
            let token = self.entry(task)?.state.token()?;
            Some(Held { task: task.clone(), worker: worker.clone(), token })
        })
        .collect()
    }

    /// How many tasks a worker has.
    pub(super) fn busy(&self, worker: &WorkerId) -> u32 {
        self.held.get(worker).map_or(0, |held| u32::try_from(held.len()).unwrap_or(u32::MAX))
    }

    /// How many of those press.
    pub(super) fn pressing(&self, worker: &WorkerId) -> u32 {
        let held = self.held.get(worker).into_iter().flatten();
        u32::try_from(held.filter(|task| task.step.presses()).count()).unwrap_or(u32::MAX)
    }

    /// Whether a running task is to be taken from its worker; answers yes once for each hand-out.
    pub(super) fn take_away(&mut self, task: &TaskId) -> bool {
        self.entry_mut(task).is_some_and(|entry| !std::mem::replace(&mut entry.taken_away, true))
    }

    /// Running ranges of a group whose workers were told another pace: from now on they are told this one.
    pub(super) fn retuned(&mut self, migration: &MigrationKey, shard: &ShardId, pace: Pace) -> Vec<Held> {
        let group = self.groups.get_mut(migration).and_then(|shards| shards.get_mut(shard));
        let tasks = group.into_iter().flat_map(|group| &mut group.tasks);
        let running = tasks.filter(|(task, entry)| task.step == Step::Backfill && !entry.taken_away);
        running
            .filter_map(|(task, entry)| {
                let TaskState::Leased { worker, token, .. } = &entry.state else { return None };
                let held = Held { task: task.clone(), worker: worker.clone(), token: *token };
                (std::mem::replace(&mut entry.pace, pace) != pace).then_some(held)
            })
            .collect()
    }

    /// The shards on which a migration has running tasks.
    pub(super) fn busy_shards(&self, migration: &MigrationKey) -> Vec<ShardId> {
        let groups = self.groups.get(migration).into_iter().flatten();
        groups.filter(|(_, group)| group.running > 0).map(|(shard, _)| shard.clone()).collect()
    }

    /// Groups that walk fewer ranges than they may, though none waits.
    pub(super) fn crews(&self) -> impl Iterator<Item = Crew> {
        self.groups.iter().flat_map(|(migration, shards)| {
            shards.iter().filter_map(|(shard, group)| group.crew(migration, shard))
        })
    }

    /// A running range is asked to share: from now on the shard may have a range that is not known here.
    pub(super) fn ask_to_share(&mut self, task: &TaskId, now: Millis) -> Option<Held> {
        let entry = self.entry_mut(task)?;
        let TaskState::Leased { worker, token, .. } = &entry.state else { return None };
        let held = Held { task: task.clone(), worker: worker.clone(), token: *token };
        entry.asked = Some(now);
        self.group_mut(&task.migration, &task.shard).unsure = true;
        Some(held)
    }

    /// How many ranges of the shard share its rate: those that are open, as many as may run at once.
    pub(super) fn sharers(&self, migration: &MigrationKey, shard: &ShardId, limit: u32) -> u32 {
        let open = self.pass(migration, shard).map_or(1, Pass::open);
        limit.min(u32::try_from(open).unwrap_or(limit)).max(1)
    }

    /// How long a task has been ready.
    pub(super) fn waited(&self, task: &TaskId, now: Millis) -> Millis {
        self.queue.since(task).map_or(0, |since| now.saturating_sub(since))
    }

    /// How many tasks are in each state.
    pub(super) fn states(&self) -> BTreeMap<&'static str, i64> {
        let mut counts = BTreeMap::new();
        for entry in self.groups.values().flat_map(BTreeMap::values).flat_map(|group| group.tasks.values()) {
            *counts.entry(entry.state.as_str()).or_default() += 1;
        }
        counts
    }

    /// What is going on with one shard of a migration: who works, the newest receipts, the newest passing trouble.
    pub(super) fn activity(&self, migration: &MigrationKey, shard: &ShardId) -> Activity {
        self.group(migration, shard).map(Group::activity).unwrap_or_default()
    }
}

//! The effect runner: the only place where a decision becomes a message to a worker.
//!
//! Every order may be lost: what matters is on the board, and a worker that is not heard loses its tasks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use shardlift_domain::capability::Capabilities;
use shardlift_domain::ids::{MigrationKey, ShardId, TaskId, WorkerId};
use shardlift_domain::migration::Step;
use shardlift_domain::spec::SpecBody;

use super::board::{Held, Wanted};
use super::book::Page;
use super::fleet::{Order, SessionId, Worker};
use super::leader::Leader;
use super::throttle::needed_for;
use crate::scheduler::{Candidacy, Candidate, assign};

impl Leader {
    /// Closes the gap between what a migration wants and what the board has.
    pub(super) fn reconcile(&mut self, key: &MigrationKey) {
        if let Some(page) = self.book.page(key) {
            self.traces.follow(page.migration());
        }
        self.close_gap(key, None);
    }

    /// The same for one shard, when nothing was decided about the others.
    pub(super) fn reconcile_shard(&mut self, key: &MigrationKey, shard: &ShardId) {
        self.close_gap(key, Some(shard));
    }

    fn close_gap(&mut self, key: &MigrationKey, only: Option<&ShardId>) {
        let wanted = self.wanted(key, only);
        for Held { task, worker, token } in self.board.reconcile(key, only, wanted) {
            self.order(&worker, Order::Withdraw { task, token });
        }
        match only {
            Some(shard) => self.retune(key, shard),
            None => self.board.busy_shards(key).iter().for_each(|shard| self.retune(key, shard)),
        }
    }

    /// The tasks that a migration wants now: one per shard and step, and for a backfill one per unfinished range.
    fn wanted(&self, key: &MigrationKey, only: Option<&ShardId>) -> Vec<Wanted> {
        let Some(page) = self.book.page(key) else { return Vec::new() };
        let limit = limit(page);
        let migration = page.migration();
        let mut wanted = Vec::new();
        let mut add = |shard: &ShardId, step| {
            let task = |step, range| TaskId { migration: key.clone(), shard: shard.clone(), step, range };
            match (step, self.board.pass(key, shard)) {
                (Step::Backfill, Some(pass)) => wanted.extend(
                    pass.ranges
                        .iter()
                        .filter(|range| !range.done)
                        .map(|range| Wanted { task: task(step, Some(range.index)), limit }),
                ),
                // Splitting again lays nothing out: it reads which ranges there are.
                (Step::Backfill, None) => wanted.push(Wanted { task: task(Step::Split, None), limit: 1 }),
                _ => wanted.push(Wanted { task: task(step, None), limit: 1 }),
            }
        };
        match only {
            Some(shard) => migration.wanted_of(shard).into_iter().for_each(|step| add(shard, step)),
            None => migration.wanted().for_each(|(shard, step)| add(shard, step)),
        }
        wanted
    }

    /// The workers that may be given something new and have a free slot; `pressing`: also those that have one only for what
    /// presses.
    pub(super) fn free(&self, pressing: bool) -> Vec<Candidacy> {
        self.fleet.iter().filter_map(|(id, worker)| self.candidacy(id, worker, pressing)).collect()
    }

    fn candidacy(&self, id: &WorkerId, worker: &Worker, pressing: bool) -> Option<Candidacy> {
        let busy = self.board.busy(id);
        let pressing = if pressing { self.board.pressing(id) } else { worker.slots };
        let room = !worker.draining && (busy < worker.slots || pressing < worker.slots);
        room.then(|| Candidacy {
            worker: id.clone(),
            shards: Arc::clone(worker.usable()),
            knows: Arc::clone(&worker.knows),
            slots: worker.slots,
            busy,
            pressing,
        })
    }

    /// Shards on which something waits that one of these workers could take: found from the side of the shards or of the
    /// workers, whichever are fewer, since this is asked in every turn.
    fn shards_to_serve(&self, free: &[Candidacy]) -> Vec<ShardId> {
        let reach: usize = free.iter().map(|worker| worker.shards.len()).sum();
        let ready = self.board.ready_shards();
        if ready.len() > reach {
            let served: BTreeSet<&ShardId> = free.iter().flat_map(|worker| worker.shards.iter()).collect();
            return served.into_iter().filter(|shard| self.board.is_ready(shard)).cloned().collect();
        }
        let free: BTreeSet<&WorkerId> = free.iter().map(|worker| &worker.worker).collect();
        let serves = |shard: &&ShardId| self.fleet.serving(shard).any(|(id, _)| free.contains(id));
        ready.filter(serves).cloned().collect()
    }

    /// Hands out everything that limits and slots allow.
    pub(super) fn dispatch(&mut self) {
        let now = self.clock.millis();
        self.board.look(now);
        let workers = self.free(self.book.pages().any(|page| page.migration().presses()));
        let shards = self.shards_to_serve(&workers);
        if shards.is_empty() {
            return;
        }
        let candidates = self.candidates(&shards);
        for (task, worker) in assign(&candidates, workers) {
            let Some(page) = self.book.page(&task.migration) else { continue };
            let spec = page.stored.spec.clone();
            let drop_data = page.migration().undo.as_ref().is_some_and(|undo| undo.drop_data);
            let pace = self.pace(page, &task.shard);
            let slots = self.fleet.serving(&task.shard).map(|(_, worker)| worker.slots);
            let shard_slots = slots.fold(0, u32::saturating_add);
            self.waited(&task);
            if let Some(token) = self.board.hand_out(&task, &worker, pace, now) {
                let traceparent = self.traces.context(&task.migration);
                self.order(
                    &worker,
                    Order::Assign { task, token, spec, shard_slots, pace, drop_data, traceparent },
                );
            }
        }
    }

    /// What waits on these shards.
    fn candidates(&self, shards: &[ShardId]) -> Vec<Candidate> {
        let mut needs: BTreeMap<(MigrationKey, Step), Arc<Capabilities>> = BTreeMap::new();
        let mut candidates = Vec::new();
        for ready in shards.iter().flat_map(|shard| self.board.ready(shard)) {
            let Some(page) = self.book.page(&ready.task.migration) else { continue };
            let needs = needs
                .entry((ready.task.migration.clone(), ready.task.step))
                .or_insert_with(|| Arc::new(needed_for(page, ready.task.step)));
            candidates.push(Candidate {
                pressing: ready.task.step.presses(),
                task: ready.task,
                limit: ready.limit,
                running: ready.running,
                served: ready.served,
                needs: Arc::clone(needs),
                last: ready.last,
            });
        }
        candidates
    }

    /// An order for a worker: it leaves once what it follows from is stored.
    pub(super) fn order(&mut self, worker: &WorkerId, order: Order) {
        if let Some(found) = self.fleet.get(worker) {
            self.outbox.order(worker, found.session, order);
        }
    }

    /// All that was decided is stored: orders and answers leave. A worker that does not read loses its session with the
    /// next tick.
    pub(super) fn deliver(&mut self) {
        for (worker, session, order) in self.outbox.open() {
            let found = self.fleet.get(&worker).filter(|found| found.session == session);
            if found.is_some_and(|found| !found.order(order)) {
                tracing::warn!(%worker, "does not read its orders; its session ends");
                self.broken.push(session);
            }
        }
    }

    /// Ends the sessions of workers that are gone, silent or deaf, and gives their tasks back.
    pub(super) fn end_sessions(&mut self, sessions: Vec<SessionId>) {
        let now = self.clock.millis();
        for session in sessions {
            if let Some(worker) = self.fleet.leave(session) {
                tracing::info!(%worker, "is gone; its tasks are handed out again");
                self.board.lose(&worker, now);
                self.forget_queries(session);
            }
        }
    }
}

/// How many ranges of one shard may run at once.
pub(super) fn limit(page: &Page) -> u32 {
    match &page.spec.body {
        SpecBody::Schema(_) => 1,
        SpecBody::Data(data) => data.parallel.workers,
    }
}

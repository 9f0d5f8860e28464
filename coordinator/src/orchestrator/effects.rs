//! The effect runner: the only place where a decision becomes a message to a worker.
//!
//! Every order may be lost: what matters is on the board, and a worker that is not heard loses its tasks.

use shardlift_domain::ids::{MigrationKey, WorkerId};
use shardlift_domain::migration::Step;
use shardlift_domain::spec::SpecBody;

use super::board::{Unwanted, Wanted};
use super::fleet::{Order, SessionId};
use super::leader::Leader;
use crate::scheduler::{Candidacy, assign};

impl Leader {
    /// Closes the gap between what a migration wants and what the board has; then hands out what can be.
    pub(super) fn reconcile(&mut self, key: &MigrationKey) {
        if let Some(page) = self.book.page(key) {
            self.traces.follow(page.migration());
        }
        let wanted = self.wanted(key);
        for Unwanted { task, worker, token } in self.board.reconcile(key, wanted) {
            self.order(&worker, Order::Withdraw { task, token });
        }
    }

    /// The tasks that a migration wants now: one per shard and step, and for a backfill one per unfinished range.
    fn wanted(&self, key: &MigrationKey) -> Vec<Wanted> {
        let Some(page) = self.book.page(key) else { return Vec::new() };
        let limit = match &page.spec.body {
            SpecBody::Schema(_) => 1,
            SpecBody::Data(data) => data.parallel.workers,
        };
        let mut wanted = Vec::new();
        for (shard, step) in page.migration().wanted() {
            let task = |range| shardlift_domain::TaskId {
                migration: key.clone(),
                shard: shard.clone(),
                step,
                range,
            };
            match (step, self.board.pass(key, shard)) {
                (Step::Backfill, Some(pass)) => wanted.extend(
                    pass.ranges
                        .iter()
                        .filter(|range| !range.done)
                        .map(|range| Wanted { task: task(Some(range.index)), limit }),
                ),
                _ => wanted.push(Wanted { task: task(None), limit: 1 }),
            }
        }
        wanted
    }

    /// Hands out everything that limits and slots allow.
    pub(super) fn dispatch(&mut self) {
        let candidates = self.board.candidates(self.clock.millis());
        if candidates.is_empty() {
            return;
        }
        self.waits.due(&candidates, self.clock.millis());
        let workers = self
            .fleet
            .iter()
            .map(|(id, worker)| Candidacy {
                worker: id.clone(),
                shards: worker.usable(),
                slots: worker.slots,
                busy: self.board.busy(id),
            })
            .collect();
        for (task, worker) in assign(&candidates, workers) {
            let Some(page) = self.book.page(&task.migration) else { continue };
            let spec = page.stored.spec.clone();
            let limit =
                candidates.iter().find(|candidate| candidate.task == task).map_or(1, |found| found.limit);
            let open = self
                .board
                .pass(&task.migration, &task.shard)
                .map_or(1, |pass| pass.ranges.iter().filter(|range| !range.done).count());
            let sharers = limit.min(u32::try_from(open).unwrap_or(limit)).max(1);
            let slots = self.fleet.serving(&task.shard).map(|(_, worker)| worker.slots);
            let shard_slots = slots.fold(0, u32::saturating_add);
            if let Some(token) = self.board.hand_out(&task, &worker) {
                self.waited(&task);
                let traceparent = self.traces.context(&task.migration);
                self.order(&worker, Order::Assign { task, token, spec, shard_slots, sharers, traceparent });
            }
        }
    }

    /// Queues an order. A worker that does not read loses its session with the next tick.
    pub(super) fn order(&mut self, worker: &WorkerId, order: Order) {
        let sent = self.fleet.get(worker).map(|found| (found.session, found.order(order)));
        if let Some((session, false)) = sent {
            tracing::warn!(%worker, "does not read its orders; its session ends");
            self.broken.push(session);
        }
    }

    /// Ends the sessions of workers that are gone, silent or deaf, and gives their tasks back.
    pub(super) fn end_sessions(&mut self, sessions: Vec<SessionId>) {
        for session in sessions {
            if let Some(worker) = self.fleet.leave(session) {
                tracing::info!(%worker, "is gone; its tasks are handed out again");
                self.board.lose(&worker);
                self.forget_queries(session);
            }
        }
    }
}

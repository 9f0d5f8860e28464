//! Who may be given what: workers that are drained, and shards that wait though somebody serves them.

use serde_json::json;
use shardlift_domain::capability::Capabilities;
use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::ids::{ShardId, WorkerId};
use shardlift_domain::migration::Step;

use super::board::Held;
use super::book::Page;
use super::fleet::{Order, Worker};
use super::leader::Leader;
use super::throttle::needed_for;
use super::view::{Drained, WorkerView};
use super::wake::Asker;
use crate::store::HistoryEvent;

impl Leader {
    /// A person wants a worker to be given nothing new, or to take work again.
    pub(super) fn drain(
        &mut self,
        worker: &WorkerId,
        draining: bool,
        by: &Asker,
    ) -> Result<Drained, Failure> {
        let changed = self.fleet.drain(worker, draining).ok_or_else(|| not_connected(worker))?;
        if changed {
            tracing::info!(%worker, draining, "is drained, or not any more");
            let event = if draining { HistoryEvent::WorkerDrained } else { HistoryEvent::WorkerUndrained };
            let detail =
                json!({ "worker": worker, "draining": draining, "before": { "draining": !draining } });
            self.book.note_of_the_installation(event, detail, by);
        }
        // Said again even if nothing changed: the worker keeps it for the next leader.
        if self.fleet.get(worker).is_some_and(Worker::adjusts) {
            self.order(worker, Order::Drain(draining));
        }
        self.take_away_from_drained();
        self.changed();
        let found = self.fleet.get(worker).ok_or_else(|| not_connected(worker))?;
        let alone = found.shards.keys().filter(|shard| draining && !self.served_elsewhere(shard));
        Ok(Drained { worker: self.worker_view(worker, found), changed, alone: alone.cloned().collect() })
    }

    /// A worker is about to stop: it gives back what it has by itself.
    pub(super) fn on_leaving(&mut self, worker: &WorkerId) {
        tracing::info!(%worker, "is about to stop");
        self.fleet.drain(worker, true);
        self.changed();
    }

    /// Withdraws the ranges of drained workers that somebody else can walk. Steps that are no ranges end where they are:
    /// they would begin anew elsewhere.
    pub(super) fn take_away_from_drained(&mut self) {
        let drained = self.fleet.iter().filter(|(_, worker)| worker.draining);
        let drained: Vec<WorkerId> = drained.map(|(id, _)| id.clone()).collect();
        for worker in drained {
            for Held { task, worker, token } in self.board.held_by(&worker) {
                let Some(page) = self.book.page(&task.migration) else { continue };
                let needs = needed_for(page, task.step);
                let elsewhere =
                    self.fleet.serving(&task.shard).any(|(_, other)| other.takes(&task.shard, &needs));
                if task.step == Step::Backfill && elsewhere && self.board.take_away(&task) {
                    self.order(&worker, Order::Withdraw { task, token });
                }
            }
        }
    }

    fn served_elsewhere(&self, shard: &ShardId) -> bool {
        self.fleet.serving(shard).any(|(_, worker)| worker.takes(shard, &Capabilities::default()))
    }

    /// Whether some worker reaches the shard.
    pub(super) fn reaches(&self, shard: &ShardId) -> bool {
        self.fleet.serving(shard).any(|(_, worker)| worker.usable().contains(shard))
    }

    /// Why nothing goes on with a shard of a migration that has something to do.
    pub(super) fn stuck(&self, page: &Page, shard: &ShardId, open: bool, waiting: bool) -> Option<Failure> {
        if open && !self.reaches(shard) {
            return Some(self.shard_problem(shard));
        }
        let todo = page.migration().shards.get(shard).and_then(|part| part.todo);
        let needs = needed_for(page, todo.unwrap_or(Step::Precheck));
        if !waiting || self.fleet.serving(shard).any(|(_, worker)| worker.takes(shard, &needs)) {
            return None;
        }
        let reaching = || self.fleet.serving(shard).filter(|(_, worker)| worker.usable().contains(shard));
        let able: Vec<&str> =
            reaching().filter(|(_, worker)| worker.knows.cover(&needs)).map(|(id, _)| id.as_str()).collect();
        let failure = if able.is_empty() {
            let all: Vec<&str> = reaching().map(|(id, _)| id.as_str()).collect();
            Failure::new(
                ErrorCode::WorkerUnfit,
                format!("no worker of shard {shard} can do what this needs ({needs}): {}", all.join(", ")),
                "upgrade one of them, or start a worker that can; it goes on by itself then",
            )
        } else {
            Failure::new(
                ErrorCode::WorkerUnfit,
                format!("every worker that could work on shard {shard} is drained: {}", able.join(", ")),
                "start another worker for it, or `shardlift workers undrain WORKER`",
            )
        };
        Some(failure.on_shard(shard))
    }

    pub(super) fn worker_view(&self, id: &WorkerId, worker: &Worker) -> WorkerView {
        WorkerView {
            worker: id.clone(),
            version: worker.version.clone(),
            shards: worker.shards.keys().cloned().collect(),
            slots: worker.slots,
            busy: self.board.busy(id),
            draining: worker.draining,
        }
    }
}

fn not_connected(worker: &WorkerId) -> Failure {
    Failure::new(
        ErrorCode::RequestNotFound,
        format!("no worker {worker} is connected"),
        "look at `shardlift workers` for those that are",
    )
}

//! The connected workers: who serves what, who was heard when. Volatile; never stored.

use std::collections::{BTreeMap, BTreeSet};

use shardlift_domain::facts::{FactsRequest, ShardFacts, ShardHello};
use shardlift_domain::failure::Failure;
use shardlift_domain::fence::Token;
use shardlift_domain::ids::{ShardId, TaskId, WorkerId};
use shardlift_domain::progress::Receipt;
use shardlift_domain::spec::SpecFile;
use shardlift_domain::task::Millis;
use shardlift_domain::verdict::TaskOutcome;
use tokio::sync::mpsc;

use super::wake::Joining;

/// Names one session of one worker; never used twice in a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// What the coordinator tells a worker.
#[derive(Debug, Clone)]
pub enum Order {
    /// Alive.
    Heartbeat,
    /// Do this.
    Assign {
        /// Which task.
        task: TaskId,
        /// With which right.
        token: Token,
        /// The spec file, parsed by the worker with the same parser.
        spec: SpecFile,
        /// Slots of all workers that serve the shard.
        shard_slots: u32,
        /// Ranges of the shard that may run at once.
        sharers: u32,
        /// The trace context of the phase that it belongs to.
        traceparent: Option<String>,
    },
    /// Stop this at the next batch boundary.
    Withdraw {
        /// Which task.
        task: TaskId,
        /// The right that ends.
        token: Token,
    },
    /// Tell me about a shard.
    AskFacts {
        /// Names the question.
        query: u64,
        /// Which shard.
        shard: ShardId,
        /// What.
        request: FactsRequest,
    },
}

/// What a worker tells the coordinator.
#[derive(Debug)]
pub enum Report {
    /// Alive.
    Heartbeat,
    /// The state of its shards changed.
    Shards(Vec<ShardHello>),
    /// A range moves.
    Progress(TaskId, Token, Receipt),
    /// A task is finished.
    Finished(TaskId, Token, TaskOutcome),
    /// A task failed.
    Broke(TaskId, Token, Failure),
    /// A task was given back.
    Released(TaskId, Token),
    /// Facts, as asked.
    Facts(u64, Result<ShardFacts, Failure>),
}

/// One connected worker.
pub(super) struct Worker {
    pub(super) session: SessionId,
    pub(super) version: String,
    pub(super) slots: u32,
    pub(super) shards: BTreeMap<ShardId, ShardHello>,
    pub(super) heard: Millis,
    orders: mpsc::Sender<Order>,
}

impl Worker {
    /// Shards that it reaches.
    pub(super) fn usable(&self) -> BTreeSet<ShardId> {
        self.shards
            .values()
            .filter(|hello| hello.problem.is_none())
            .map(|hello| hello.shard.clone())
            .collect()
    }

    /// Queues an order. `false`: the worker does not read; its session is to be ended.
    pub(super) fn order(&self, order: Order) -> bool {
        self.orders.try_send(order).is_ok()
    }
}

/// All connected workers.
#[derive(Default)]
pub(super) struct Fleet {
    workers: BTreeMap<WorkerId, Worker>,
    sessions: BTreeMap<SessionId, WorkerId>,
}

impl Fleet {
    /// Admits a worker. A former session of the same name is over: the process was started again, or its
    /// connection broke without notice.
    pub(super) fn join(&mut self, joining: Joining, session: SessionId, now: Millis) -> Option<SessionId> {
        let shards = joining.shards.into_iter().map(|hello| (hello.shard.clone(), hello)).collect();
        let worker = Worker {
            session,
            version: joining.version,
            slots: joining.slots,
            shards,
            heard: now,
            orders: joining.orders,
        };
        self.sessions.insert(session, joining.worker.clone());
        let former = self.workers.insert(joining.worker, worker)?;
        self.sessions.remove(&former.session);
        Some(former.session)
    }

    /// Forgets a session; its worker with it, unless the worker has a newer one.
    pub(super) fn leave(&mut self, session: SessionId) -> Option<WorkerId> {
        let worker = self.sessions.remove(&session)?;
        self.workers.remove(&worker);
        Some(worker)
    }

    /// The worker of a session that is still on.
    pub(super) fn heard(&mut self, session: SessionId, now: Millis) -> Option<(WorkerId, &mut Worker)> {
        let id = self.sessions.get(&session)?;
        let worker = self.workers.get_mut(id)?;
        worker.heard = now;
        Some((id.clone(), worker))
    }

    pub(super) fn get(&self, worker: &WorkerId) -> Option<&Worker> {
        self.workers.get(worker)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&WorkerId, &Worker)> {
        self.workers.iter()
    }

    /// Who serves a shard, reachable or not.
    pub(super) fn serving<'a>(
        &'a self,
        shard: &'a ShardId,
    ) -> impl Iterator<Item = (&'a WorkerId, &'a Worker)> {
        self.workers.iter().filter(move |(_, worker)| worker.shards.contains_key(shard))
    }

    /// Sessions that were silent for longer than the lease allows.
    pub(super) fn silent(&self, now: Millis, ttl: Millis) -> Vec<SessionId> {
        let late = |worker: &&Worker| now.saturating_sub(worker.heard) > ttl;
        self.workers.values().filter(late).map(|worker| worker.session).collect()
    }
}

//! The connected workers: who serves what, who was heard when. Volatile; never stored.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use shardlift_domain::capability::{Capabilities, SHARE};
use shardlift_domain::ended::EndedSession;
use shardlift_domain::facts::ShardHello;
use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::fence::Token;
use shardlift_domain::ids::{ShardId, TaskId, WorkerId};
use shardlift_domain::migration::Pace;
use shardlift_domain::progress::Receipt;
use shardlift_domain::quarantine::Held;
use shardlift_domain::range::Rest;
use shardlift_domain::spec::SpecFile;
use shardlift_domain::task::Millis;
use shardlift_domain::verdict::{Saved, TaskOutcome};
use tokio::sync::mpsc;

use super::pulse::Pulse;
use super::question::{Answer, Question};
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
        /// How fast it may go.
        pace: Pace,
        /// An undo may drop values that the application has written since.
        drop_data: bool,
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
    /// Go on otherwise from the next batch on.
    Adjust {
        /// Which task.
        task: TaskId,
        /// The right under which it runs.
        token: Token,
        /// How fast it may go from now on.
        pace: Pace,
        /// Split off a part of what is left.
        share: bool,
    },
    /// Take nothing new, or take work again.
    Drain(bool),
    /// Answer this.
    Ask {
        /// Names the question.
        query: u64,
        /// About which shard.
        shard: ShardId,
        /// What.
        question: Question,
    },
}

/// What a worker tells the coordinator. That it lives is for the door: see [`Pulse`].
#[derive(Debug)]
pub enum Report {
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
    /// A task has ended sessions of the application.
    Ended(TaskId, Vec<EndedSession>),
    /// A range was asked to share: what it split off, if anything.
    Shared(TaskId, Token, Option<Rest>),
    /// It is about to stop.
    Leaving,
    /// A range set a row aside: how many the shard holds now.
    Quarantined(TaskId, Token, Held),
    /// A backup moves.
    Saved(TaskId, Token, Saved),
    /// An answer, as asked.
    Answered(u64, Result<Answer, Failure>),
}

/// One connected worker.
pub(super) struct Worker {
    pub(super) session: SessionId,
    pub(super) version: String,
    pub(super) slots: u32,
    pub(super) shards: BTreeMap<ShardId, ShardHello>,
    pulse: Pulse,
    pub(super) knows: Arc<Capabilities>,
    /// It is given nothing new.
    pub(super) draining: bool,
    /// Whose session it is.
    pub(super) principal: String,
    usable: Arc<BTreeSet<ShardId>>,
    orders: mpsc::Sender<Order>,
}

impl Worker {
    /// Shards that it reaches.
    pub(super) fn usable(&self) -> &Arc<BTreeSet<ShardId>> {
        &self.usable
    }

    /// Whether it may be given what needs these capabilities on a shard.
    pub(super) fn takes(&self, shard: &ShardId, needs: &Capabilities) -> bool {
        !self.draining && self.usable.contains(shard) && self.knows.cover(needs)
    }

    /// Whether it understands orders about running ranges and about draining.
    pub(super) fn adjusts(&self) -> bool {
        self.knows.has(SHARE)
    }

    fn look_again(&mut self) {
        let usable = self.shards.values().filter(|hello| hello.problem.is_none());
        self.usable = Arc::new(usable.map(|hello| hello.shard.clone()).collect());
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
    by_shard: BTreeMap<ShardId, BTreeSet<WorkerId>>,
}

impl Fleet {
    /// Admits a worker. A former session of the same name is over: the process was started again, or its
    /// connection broke without notice.
    pub(super) fn join(&mut self, joining: Joining, session: SessionId, pulse: Pulse) -> Option<SessionId> {
        let former = self.workers.get(&joining.worker).map(|former| former.session);
        if let Some(former) = former {
            self.leave(former);
        }
        let worker = Worker {
            session,
            version: joining.version,
            slots: joining.slots,
            shards: BTreeMap::new(),
            pulse,
            knows: Arc::new(joining.knows),
            draining: joining.draining,
            principal: joining.principal,
            usable: Arc::default(),
            orders: joining.orders,
        };
        self.sessions.insert(session, joining.worker.clone());
        self.workers.insert(joining.worker.clone(), worker);
        self.told(&joining.worker, joining.shards);
        former
    }

    /// Why this worker must not take the place of the one that has its name: that one is somebody else's, and a token for
    /// one shard must not end the sessions of another.
    pub(super) fn taken(&self, joining: &Joining) -> Option<Failure> {
        let former = self.workers.get(&joining.worker)?;
        let message = format!("a worker {} of another principal is connected", joining.worker);
        let next = "give each worker a name of its own, or stop the other one first";
        (former.principal != joining.principal)
            .then(|| Failure::new(ErrorCode::AccessForbidden, message, next))
    }

    /// Forgets a session; its worker with it, unless the worker has a newer one.
    pub(super) fn leave(&mut self, session: SessionId) -> Option<WorkerId> {
        let worker = self.sessions.remove(&session)?;
        self.told(&worker, Vec::new());
        self.workers.remove(&worker);
        Some(worker)
    }

    /// A worker tells of its shards; what it told before is over.
    pub(super) fn told(&mut self, id: &WorkerId, shards: Vec<ShardHello>) {
        let Some(worker) = self.workers.get_mut(id) else { return };
        for shard in worker.shards.keys() {
            if let Some(serving) = self.by_shard.get_mut(shard) {
                serving.remove(id);
            }
        }
        for hello in &shards {
            self.by_shard.entry(hello.shard.clone()).or_default().insert(id.clone());
        }
        worker.shards = shards.into_iter().map(|hello| (hello.shard.clone(), hello)).collect();
        worker.look_again();
    }

    /// A worker has found that it cannot use a shard.
    pub(super) fn problem(&mut self, id: &WorkerId, shard: &ShardId, problem: Failure) {
        let Some(worker) = self.workers.get_mut(id) else { return };
        if let Some(hello) = worker.shards.get_mut(shard) {
            hello.problem = Some(problem);
        }
        worker.look_again();
    }

    /// A worker is to be given nothing new, or is to take work again. `None`: it is not connected; `Some(false)`: it is
    /// so already.
    pub(super) fn drain(&mut self, id: &WorkerId, draining: bool) -> Option<bool> {
        let worker = self.workers.get_mut(id)?;
        Some(std::mem::replace(&mut worker.draining, draining) != draining)
    }

    /// The worker of a session that is still on.
    pub(super) fn worker_of(&self, session: SessionId) -> Option<WorkerId> {
        self.sessions.get(&session).cloned()
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
        self.by_shard.get(shard).into_iter().flatten().filter_map(|id| self.workers.get_key_value(id))
    }

    /// Sessions that were silent for longer than the lease allows.
    pub(super) fn silent(&self, now: Millis, ttl: Millis) -> Vec<SessionId> {
        let late = |worker: &&Worker| now.saturating_sub(worker.pulse.heard()) > ttl;
        self.workers.values().filter(late).map(|worker| worker.session).collect()
    }
}

//! The tasks of one session: begun, withdrawn, reported.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::fence::Token;
use shardlift_domain::ids::TaskId;
use shardlift_domain::migration::Step;
use shardlift_proto::convert::{task_from_wire, token_from_wire};
use shardlift_proto::v1::{self, to_worker};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::Instrument;

use super::shards::Shards;
use super::stragglers::Stragglers;
use super::{questions, spans, wire};
use crate::executor::{self, Assignment, Ending};
use crate::lease::{Pulse, TaskLease, Wish};

/// Receipts that may wait; more are dropped, since the next one says more.
const RECEIPTS: usize = 256;
/// How long running batches may take to finish when the worker stops.
const FINISH_WITHIN: Duration = Duration::from_secs(10);

/// The tasks of one session.
pub(super) struct Tasks {
    pulse: Arc<Pulse>,
    out: mpsc::Sender<v1::FromWorker>,
    receipts: executor::Receipts,
    running: JoinSet<()>,
    leases: Arc<Mutex<HashMap<TaskId, TaskLease>>>,
    stragglers: Stragglers,
}

impl Tasks {
    pub(super) fn new(pulse: Arc<Pulse>, out: mpsc::Sender<v1::FromWorker>, stragglers: Stragglers) -> Self {
        let (receipts, mut queue) = mpsc::channel(RECEIPTS);
        let sender = out.clone();
        tokio::spawn(async move {
            while let Some((lease, news)) = queue.recv().await {
                if sender.send(wire::news(&lease, &news)).await.is_err() {
                    break;
                }
            }
        });
        Self { pulse, out, receipts, running: JoinSet::new(), leases: Arc::default(), stragglers }
    }

    /// Begins a task. The same hand-out again is a repeated message: the running one goes on. `false`: it was not
    /// understood; only the end of the session tells the coordinator that nobody works on it.
    #[must_use]
    pub(super) fn begin(&mut self, assign: v1::Assign, shards: &Shards) -> bool {
        self.clear();
        let parent = assign.traceparent.clone();
        let assignment = match wire::assignment(assign, &self.pulse) {
            Ok(assignment) => assignment,
            Err(error) => {
                tracing::warn!(%error, "a task was not understood");
                return false;
            }
        };
        let lease = assignment.lease.clone();
        {
            let mut leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
            if leases.get(lease.task()).is_some_and(|held| held.token() >= lease.token()) {
                return true;
            }
            if let Some(former) = leases.insert(lease.task().clone(), lease.clone()) {
                former.withdraw();
            }
        }
        let (out, receipts, leases) = (self.out.clone(), self.receipts.clone(), Arc::clone(&self.leases));
        let shards = shards.clone();
        let mut here = self.stragglers.begin(lease.task());
        tracing::debug!(task = %lease.task(), token = %lease.token(), "begins");
        let span = spans::task(&lease, parent.as_deref());
        let open = shards.metrics().open_task(lease.task().step);
        let work = async move {
            tokio::select! {
                () = here.alone() => {}
                () = lease.withdrawn() => {}
            }
            let ending = AssertUnwindSafe(run(assignment, &shards, receipts)).catch_unwind().await;
            let ending = ending.unwrap_or_else(|_| Ending::Broke(defect(&lease)));
            forget(&leases, &lease);
            tracing::debug!(task = %lease.task(), ?ending, "ends");
            open.ended(spans::ended(&ending));
            if let Some(sessions) = wire::ended(&lease) {
                // The worker's log has them, too.
                let _ = out.send(sessions).await;
            }
            if out.send(wire::ending(&lease, ending)).await.is_err() {
                tracing::info!(task = %lease.task(), token = %lease.token(), "ended after its session: the next leader learns it from the shard, or has it done again");
            }
        };
        self.running.spawn(work.instrument(span));
        true
    }

    fn clear(&mut self) {
        while self.running.try_join_next().is_some() {}
    }

    /// Asks a task to stop at its next batch boundary. One that has ended has said so already.
    pub(super) fn withdraw(&mut self, withdraw: v1::Withdraw) {
        let (Ok(task), Ok(token)) = (task_from_wire(withdraw.task), token_from_wire(withdraw.token)) else {
            return;
        };
        let leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lease) = leases.get(&task).filter(|lease| lease.token() == token) {
            lease.withdraw();
        }
    }

    /// Tells a task how to go on from its next batch on. One that has ended needs not know.
    pub(super) fn adjust(&mut self, adjust: v1::Adjust) {
        let v1::Adjust { task, token, sharers, share, throttle } = adjust;
        let (Ok(task), Ok(token), Ok(pace)) =
            (task_from_wire(task), token_from_wire(token), wire::pace(sharers, throttle))
        else {
            return;
        };
        let leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lease) = leases.get(&task).filter(|lease| lease.token() == token) {
            lease.adjust(Wish { pace, share });
        }
    }

    /// Answers a question about a shard.
    pub(super) fn answer(&mut self, question: to_worker::Message, shards: &Shards) {
        self.clear();
        let (out, leader, shards) = (self.out.clone(), self.pulse.leader().clone(), shards.clone());
        self.running.spawn(async move {
            if let Some(answer) = questions::answer(question, &leader, &shards).await {
                // If the session is over nobody waits for it.
                let _ = out.send(wire::wrap(answer)).await;
            }
        });
    }

    /// The session is over: running batches finish, and their tasks stop; scans end at once, since the next leader
    /// has them made again. When the worker stops it waits for them.
    pub(super) async fn end(mut self, stopping: bool) {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner).values().for_each(TaskLease::withdraw);
        if stopping {
            let all = async { while self.running.join_next().await.is_some() {} };
            if timeout(FINISH_WITHIN, all).await.is_err() {
                tracing::warn!("a batch did not finish in time; its shard rolls it back");
            }
        } else {
            self.running.detach_all();
        }
    }
}

fn forget(leases: &Mutex<HashMap<TaskId, TaskLease>>, ended: &TaskLease) {
    let mut leases = leases.lock().unwrap_or_else(PoisonError::into_inner);
    let token: Token = ended.token();
    if leases.get(ended.task()).is_some_and(|held| held.token() == token) {
        leases.remove(ended.task());
    }
}

/// A task that panicked must be heard of, or it would be waited for for ever. What it said may hold values of rows.
fn defect(lease: &TaskLease) -> Failure {
    let task = lease.task();
    Failure::new(
        ErrorCode::Internal,
        format!("{task} ended with a defect of the worker"),
        "report this, with the worker's log around this time; `retry` goes on from the checkpoint",
    )
    .in_migration(&task.migration)
    .on_shard(&task.shard)
    .in_step(task.step)
}

async fn run(assignment: Assignment, shards: &Shards, receipts: executor::Receipts) -> Ending {
    let shard = assignment.lease.task().shard.clone();
    let ending = match shards.admitted(&shard).await {
        Ok(engine) if assignment.lease.task().step == Step::Backup => {
            let shelf = shards.shelf(&shard, &assignment.lease.task().migration).await;
            executor::save(assignment, engine, shelf, receipts).await
        }
        Ok(engine) => executor::run(assignment, engine, receipts).await,
        Err(failure) => Ending::Broke(failure),
    };
    if let Ending::Broke(failure) = &ending {
        shards.tell_with_the_task(&shard, failure);
    }
    ending
}

//! The tasks of one session: begun, withdrawn, reported.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use shardlift_domain::backup::{BackupAnswer, BackupRequest};
use shardlift_domain::facts::FactsRequest;
use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::fence::{Fence, Token};
use shardlift_domain::ids::{ShardId, TaskId};
use shardlift_domain::migration::Step;
use shardlift_domain::quarantine::QuarantineAnswer;
use shardlift_domain::unique::UniqueAnswer;
use shardlift_proto::convert::{
    WireError, backup_answer_to_wire, backup_query_from_wire, check_request_from_wire, conflicts_from_wire,
    conflicts_page_to_wire, depth_from_wire, facts_to_wire, key_from_wire, mismatches_from_wire,
    mismatches_page_to_wire, page_to_wire, placement_from_wire, prepared_to_wire, purged_to_wire,
    quarantine_from_wire, quarantined_to_wire, rehearsal_query_from_wire, repair_from_wire,
    repair_page_to_wire, shard_rehearsal_to_wire, task_from_wire, token_from_wire, unique_answer_to_wire,
    unique_from_wire,
};
use shardlift_proto::v1;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::Instrument;

use super::shards::Shards;
use super::stragglers::Stragglers;
use super::{checks, spans, wire};
use crate::backup::answer;
use crate::engine::Job;
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

    /// Answers a question for facts.
    pub(super) fn facts(&mut self, query: v1::FactsQuery, shards: &Shards) {
        self.clear();
        let (out, shards) = (self.out.clone(), shards.clone());
        self.running.spawn(async move {
            let number = query.query;
            let answer = match inspect(query, &shards).await {
                Ok(facts) => v1::facts_answer::Answer::Facts(facts),
                Err(failure) => v1::facts_answer::Answer::Failure(failure.into()),
            };
            let answer = v1::FactsAnswer { query: number, answer: Some(answer) };
            // If the session is over nobody waits for it.
            let _ = out.send(wire::wrap(v1::from_worker::Message::Facts(answer))).await;
        });
    }

    /// Looks through one page of a shard for misplaced rows.
    pub(super) fn placement(&mut self, query: v1::PlacementQuery, shards: &Shards) {
        self.clear();
        let (out, shards, number) = (self.out.clone(), shards.clone(), query.query);
        self.running.spawn(async move {
            let answer = match look(query, &shards).await {
                Ok(page) => v1::placement_answer::Answer::Page(page),
                Err(failure) => v1::placement_answer::Answer::Failure(failure.into()),
            };
            let answer = v1::PlacementAnswer { query: number, answer: Some(answer) };
            // If the session is over nobody waits for it.
            let _ = out.send(wire::wrap(v1::from_worker::Message::Placement(answer))).await;
        });
    }

    /// Answers a question about rows that were set aside, or carries out a decision.
    pub(super) fn quarantine(&mut self, query: v1::QuarantineQuery, shards: &Shards) {
        self.clear();
        let (out, shards, number) = (self.out.clone(), shards.clone(), query.query);
        let leader = self.pulse.leader().clone();
        self.running.spawn(async move {
            let answer = match decide(query, &leader, &shards).await {
                Ok(answer) => quarantined_to_wire(answer),
                Err(failure) => v1::quarantine_answer::Answer::Failure(failure.into()),
            };
            let answer = v1::QuarantineAnswer { query: number, answer: Some(answer) };
            // If the session is over nobody waits for it.
            let _ = out.send(wire::wrap(v1::from_worker::Message::Quarantine(answer))).await;
        });
    }

    /// Lists what undoing has left alone.
    pub(super) fn conflicts(&mut self, query: v1::ConflictsQuery, shards: &Shards) {
        self.clear();
        let (out, shards, number) = (self.out.clone(), shards.clone(), query.query);
        self.running.spawn(async move {
            let answer = match conflicts(query, &shards).await {
                Ok(page) => v1::conflicts_answer::Answer::Page(page),
                Err(failure) => v1::conflicts_answer::Answer::Failure(failure.into()),
            };
            let answer = v1::ConflictsAnswer { query: number, answer: Some(answer) };
            // If the session is over nobody waits for it.
            let _ = out.send(wire::wrap(v1::from_worker::Message::Conflicts(answer))).await;
        });
    }

    /// Tells what is prepared in a shard.
    pub(super) fn prepared(&mut self, query: v1::PreparedQuery, shards: &Shards) {
        self.clear();
        let (out, shards, number) = (self.out.clone(), shards.clone(), query.query);
        self.running.spawn(async move {
            let answer = match in_doubt(query, &shards).await {
                Ok(page) => v1::prepared_answer::Answer::Page(page),
                Err(failure) => v1::prepared_answer::Answer::Failure(failure.into()),
            };
            let answer = v1::PreparedAnswer { query: number, answer: Some(answer) };
            // If the session is over nobody waits for it.
            let _ = out.send(wire::wrap(v1::from_worker::Message::Prepared(answer))).await;
        });
    }

    /// Compares rows with what their transform gives.
    pub(super) fn mismatches(&mut self, query: v1::MismatchesQuery, shards: &Shards) {
        self.clear();
        let (out, shards, number) = (self.out.clone(), shards.clone(), query.query);
        self.running.spawn(async move {
            let answer = match mismatches(query, &shards).await {
                Ok(page) => v1::mismatches_answer::Answer::Page(page),
                Err(failure) => v1::mismatches_answer::Answer::Failure(failure.into()),
            };
            let answer = v1::MismatchesAnswer { query: number, answer: Some(answer) };
            // If the session is over nobody waits for it.
            let _ = out.send(wire::wrap(v1::from_worker::Message::Mismatches(answer))).await;
        });
    }

    /// Tells of a backup, restores a part of it, or removes it.
    pub(super) fn backup(&mut self, query: v1::BackupQuery, shards: &Shards) {
        self.clear();
        let (out, shards, number) = (self.out.clone(), shards.clone(), query.query);
        self.running.spawn(async move {
            let answer = match backup(query, &shards).await {
                Ok(answer) => backup_answer_to_wire(answer),
                Err(failure) => v1::backup_answer::Answer::Failure(failure.into()),
            };
            let answer = v1::BackupAnswer { query: number, answer: Some(answer) };
            // If the session is over nobody waits for it.
            let _ = out.send(wire::wrap(v1::from_worker::Message::Backup(answer))).await;
        });
    }

    /// Removes some before-images.
    pub(super) fn purge(&mut self, query: v1::PurgeQuery, shards: &Shards) {
        self.clear();
        let (out, shards, number) = (self.out.clone(), shards.clone(), query.query);
        let leader = self.pulse.leader().clone();
        self.running.spawn(async move {
            let answer = match purge(query, &leader, &shards).await {
                Ok(purged) => v1::purge_answer::Answer::Purged(purged),
                Err(failure) => v1::purge_answer::Answer::Failure(failure.into()),
            };
            let answer = v1::PurgeAnswer { query: number, answer: Some(answer) };
            // If the session is over nobody waits for it.
            let _ = out.send(wire::wrap(v1::from_worker::Message::Purge(answer))).await;
        });
    }

    /// Tries a transform on a sample.
    pub(super) fn rehearse(&mut self, query: v1::RehearsalQuery, shards: &Shards) {
        self.clear();
        let (out, shards, number) = (self.out.clone(), shards.clone(), query.query);
        self.running.spawn(async move {
            let answer = match rehearse(query, &shards).await {
                Ok(found) => v1::rehearsal_answer::Answer::Rehearsal(found),
                Err(failure) => v1::rehearsal_answer::Answer::Failure(failure.into()),
            };
            let answer = v1::RehearsalAnswer { query: number, answer: Some(answer) };
            // If the session is over nobody waits for it.
            let _ = out.send(wire::wrap(v1::from_worker::Message::Rehearsal(answer))).await;
        });
    }

    /// Repairs rows that verification has found different.
    pub(super) fn repair(&mut self, query: v1::RepairQuery, shards: &Shards) {
        self.clear();
        let (out, shards, number) = (self.out.clone(), shards.clone(), query.query);
        let leader = self.pulse.leader().clone();
        self.running.spawn(async move {
            let answer = match repair(query, &leader, &shards).await {
                Ok(page) => v1::repair_answer::Answer::Page(page),
                Err(failure) => v1::repair_answer::Answer::Failure(failure.into()),
            };
            let answer = v1::RepairAnswer { query: number, answer: Some(answer) };
            // If the session is over nobody waits for it.
            let _ = out.send(wire::wrap(v1::from_worker::Message::Repair(answer))).await;
        });
    }

    /// Tells of the digests of a shard, or removes some.
    pub(super) fn unique(&mut self, query: v1::UniqueQuery, shards: &Shards) {
        self.clear();
        let (out, shards, number) = (self.out.clone(), shards.clone(), query.query);
        let leader = self.pulse.leader().clone();
        self.running.spawn(async move {
            let answer = match unique(query, &leader, &shards).await {
                Ok(answer) => unique_answer_to_wire(answer),
                Err(failure) => v1::unique_answer::Answer::Failure(failure.into()),
            };
            let answer = v1::UniqueAnswer { query: number, answer: Some(answer) };
            // If the session is over nobody waits for it.
            let _ = out.send(wire::wrap(v1::from_worker::Message::Unique(answer))).await;
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

/// One page of a look for misplaced rows.
async fn look(query: v1::PlacementQuery, shards: &Shards) -> Result<v1::PlacementPage, Failure> {
    let shard = shard_id(&query.shard)?;
    let request = placement_from_wire(query)?;
    let engine = shards.admitted(&shard).await?;
    let page = engine.placement(&request).await;
    page.map(page_to_wire).map_err(|error| error.into_failure().on_shard(&shard))
}

async fn decide(
    query: v1::QuarantineQuery,
    leader: &Fence,
    shards: &Shards,
) -> Result<QuarantineAnswer, Failure> {
    let shard = shard_id(&query.shard)?;
    let request = quarantine_from_wire(query)?;
    let engine = shards.admitted(&shard).await?;
    let answer = engine.quarantine(leader, &request).await;
    answer.map_err(|error| error.into_failure().on_shard(&shard).in_migration(&request.migration))
}

/// One page of what undoing has left alone.
async fn conflicts(query: v1::ConflictsQuery, shards: &Shards) -> Result<v1::ConflictsPage, Failure> {
    let shard = shard_id(&query.shard)?;
    let request = conflicts_from_wire(query)?;
    let engine = shards.admitted(&shard).await?;
    let page = engine.conflicts(&request).await;
    page.map(conflicts_page_to_wire).map_err(|error| error.into_failure().on_shard(&shard))
}

/// What is prepared.
async fn in_doubt(query: v1::PreparedQuery, shards: &Shards) -> Result<v1::PreparedPage, Failure> {
    let shard = shard_id(&query.shard)?;
    let engine = shards.admitted(&shard).await?;
    let found = engine.prepared(query.all).await.map_err(|error| error.into_failure().on_shard(&shard))?;
    Ok(v1::PreparedPage { transactions: found.into_iter().map(prepared_to_wire).collect() })
}

/// One page of rows that are not what their transform gives.
async fn mismatches(query: v1::MismatchesQuery, shards: &Shards) -> Result<v1::MismatchesPage, Failure> {
    let shard = shard_id(&query.shard)?;
    let request = mismatches_from_wire(query)?;
    let Job::Data(job) = executor::job(&request.file)? else {
        let message = "a schema migration changes no rows that could be compared";
        return Err(Failure::new(ErrorCode::RequestInvalid, message, "name a data migration"));
    };
    let engine = shards.admitted(&shard).await?;
    let page = engine.mismatches(&request, &job).await;
    page.map(mismatches_page_to_wire)
        .map_err(|error| error.into_failure().on_shard(&shard).in_migration(&request.migration))
}

/// About a backup.
async fn backup(query: v1::BackupQuery, shards: &Shards) -> Result<BackupAnswer, Failure> {
    let shard = shard_id(&query.shard)?;
    let BackupRequest { migration, ask } = backup_query_from_wire(query)?;
    let engine = shards.admitted(&shard).await?;
    let answer = match shards.shelf(&shard, &migration).await {
        Ok(shelf) => answer::answer(engine.as_ref(), &shelf, ask).await,
        Err(error) => Err(error),
    };
    answer.map_err(|error| error.into_failure().on_shard(&shard).in_migration(&migration))
}

/// One page of rows that are repaired.
async fn repair(query: v1::RepairQuery, leader: &Fence, shards: &Shards) -> Result<v1::RepairPage, Failure> {
    let shard = shard_id(&query.shard)?;
    let request = repair_from_wire(query)?;
    let Job::Data(job) = executor::job(&request.file)? else {
        let message = "a schema migration changes no rows that could be repaired";
        return Err(Failure::new(ErrorCode::RequestInvalid, message, "name a data migration"));
    };
    let engine = shards.admitted(&shard).await?;
    let page = engine.repair(leader, &request, &job).await;
    page.map(repair_page_to_wire)
        .map_err(|error| error.into_failure().on_shard(&shard).in_migration(&request.migration))
}

/// About digests of rows.
async fn unique(query: v1::UniqueQuery, leader: &Fence, shards: &Shards) -> Result<UniqueAnswer, Failure> {
    let shard = shard_id(&query.shard)?;
    let request = unique_from_wire(query)?;
    let Job::Data(job) = executor::job(&request.file)? else {
        let message = "a schema migration has no rows that could be compared";
        return Err(Failure::new(ErrorCode::RequestInvalid, message, "name a data migration"));
    };
    let engine = shards.admitted(&shard).await?;
    let answer = engine.unique(leader, &request, &job).await;
    answer.map_err(|error| error.into_failure().on_shard(&shard).in_migration(&request.migration))
}

/// Some before-images less.
async fn purge(query: v1::PurgeQuery, leader: &Fence, shards: &Shards) -> Result<v1::Purged, Failure> {
    let shard = shard_id(&query.shard)?;
    let migration = key_from_wire(query.migration.ok_or(WireError::Missing("migration"))?)?;
    let engine = shards.admitted(&shard).await?;
    let purged = engine.purge(leader, &migration).await;
    purged.map(purged_to_wire).map_err(|error| error.into_failure().on_shard(&shard).in_migration(&migration))
}

/// The transform on a sample.
async fn rehearse(query: v1::RehearsalQuery, shards: &Shards) -> Result<v1::ShardRehearsal, Failure> {
    let shard = shard_id(&query.shard)?;
    let request = rehearsal_query_from_wire(query)?;
    let Job::Data(job) = executor::job(&request.file)? else {
        let message = "a schema migration changes no rows that could be rehearsed";
        return Err(Failure::new(ErrorCode::RequestInvalid, message, "name a data migration"));
    };
    let engine = shards.admitted(&shard).await?;
    let found = engine.rehearse(&request, &job).await;
    found
        .map(shard_rehearsal_to_wire)
        .map_err(|error| error.into_failure().on_shard(&shard).in_migration(&request.migration))
}

fn shard_id(text: &str) -> Result<ShardId, Failure> {
    ShardId::new(text).map_err(|error| {
        Failure::new(ErrorCode::RequestInvalid, error.to_string(), "use an id as `shardlift shards` shows it")
    })
}

async fn inspect(query: v1::FactsQuery, shards: &Shards) -> Result<v1::ShardFacts, Failure> {
    let shard = shard_id(&query.shard)?;
    let engine = shards.admitted(&shard).await?;
    let schema = depth_from_wire(query.schema());
    let checks = query.checks.into_iter().map(check_request_from_wire).collect::<Result<Vec<_>, _>>()?;
    let request = FactsRequest { relations: query.relations, schema, checks };
    fail::fail_point!("worker-before-facts", |_| std::process::abort());
    let facts = engine.inspect(&request).await;
    let mut facts = facts.map_err(|error| error.into_failure().on_shard(&shard))?;
    facts.findings = checks::look(engine.as_ref(), &shard, request.checks).await;
    Ok(facts_to_wire(facts))
}

//! What workers report, turned into events of the board and of migrations.

use serde_json::json;
use shardlift_domain::ended::EndedSession;
use shardlift_domain::facts::ShardHello;
use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::fence::{Epoch, Fence, FenceVerdict, Token};
use shardlift_domain::ids::{MigrationKey, ShardId, TaskId};
use shardlift_domain::migration::{Event, Outcome, Step};
use shardlift_domain::progress::Receipt;
use shardlift_domain::task::{TaskEvent, TaskMove};
use shardlift_domain::verdict::{Saved, Sweep, TaskOutcome, Undone, VerifyReport};

use super::fleet::{Report, SessionId};
use super::leader::{Leader, StepDown};
use crate::store::HistoryEvent;

impl Leader {
    /// A worker reports. A session that is over says nothing any more.
    pub(super) async fn on_report(&mut self, session: SessionId, report: Report) -> Result<(), StepDown> {
        let Some(worker) = self.fleet.worker_of(session) else { return Ok(()) };
        match report {
            Report::Shards(mut shards) => {
                shards.iter_mut().for_each(set_aside);
                let outranked = self.outrank(&shards);
                let announced = shards.clone();
                self.fleet.told(&worker, shards);
                outranked?;
                self.discover(&announced).await?;
            }
            Report::Answered(query, answer) => self.answer_query(query, answer),
            Report::Quarantined(task, token, held) => self.on_quarantined(task, token, held),
            Report::Saved(task, token, saved) => self.on_saved(&task, token, saved),
            Report::Progress(task, token, receipt) => self.on_progress(&task, token, receipt),
            Report::Released(task, token) => drop(self.board.on(&task, TaskEvent::Released(token))),
            Report::Ended(task, sessions) => self.on_ended(&task, &sessions),
            Report::Shared(task, token, rest) => self.on_shared(&task, token, rest),
            Report::Leaving => self.on_leaving(&worker),
            // The worker's trouble, not the migration's: another worker may reach the right database, or know more.
            Report::Broke(task, token, failure)
                if matches!(failure.code, ErrorCode::ShardWrongIdentity | ErrorCode::WorkerOutdated) =>
            {
                tracing::warn!(%worker, shard = %task.shard, message = %failure.message, "cannot use the shard");
                self.fleet.problem(&worker, &task.shard, failure.on_shard(&task.shard));
                self.board.on(&task, TaskEvent::Released(token));
                self.changed();
            }
            Report::Broke(task, token, failure) => self.on_broke(&task, token, failure),
            Report::Finished(task, token, outcome) => self.on_finished(task, token, outcome),
        }
        Ok(())
    }

    /// A shard that has seen a newer leader, or another one of our epoch, takes nothing from us until we have
    /// risen above it (promise P2).
    pub(super) fn outrank(&self, shards: &[ShardHello]) -> Result<(), StepDown> {
        let mine = self.book.permit().fence();
        let seen = shards.iter().filter_map(|hello| hello.fence.as_ref());
        let seen = seen.filter(|fence| fence.epoch < Epoch::LARGEST);
        let above = seen.filter(|fence| Fence::judge(Some(fence), mine) != FenceVerdict::Admitted);
        match above.map(|fence| fence.epoch).max() {
            Some(epoch) => Err(StepDown::RiseAbove(epoch)),
            None => Ok(()),
        }
    }

    fn on_progress(&mut self, task: &TaskId, token: Token, mut receipt: Receipt) {
        // The end of a range is told by its outcome: on a receipt alone nothing would follow.
        receipt.range.done = false;
        if self.board.on(task, TaskEvent::Progressed(token)) == TaskMove::Stale {
            return;
        }
        if task.step == Step::Undo {
            let conflicts = receipt.range.seen.saturating_sub(receipt.range.rows);
            let done = Undone { restored: receipt.range.rows, conflicts };
            self.book.undoing(&task.migration, &task.shard, done);
            self.board.receive_alone(task, receipt);
        } else if task.step == Step::Collect {
            self.board.receive_alone(task, receipt);
        } else if let Some(pass) = self.board.receive(task, receipt) {
            self.book.progress(&task.migration, &task.shard, pass);
        }
        self.changed();
    }

    /// It has happened, whatever became of the task and whose it is now.
    fn on_ended(&mut self, task: &TaskId, sessions: &[EndedSession]) {
        let detail = json!({ "shard": task.shard, "step": task.step, "sessions": sessions });
        self.book.note(&task.migration, HistoryEvent::SessionsEnded, detail);
        self.changed();
    }

    fn on_saved(&mut self, task: &TaskId, token: Token, saved: Saved) {
        if self.board.on(task, TaskEvent::Progressed(token)) == TaskMove::Made {
            self.book.saving(&task.migration, &task.shard, saved);
            self.changed();
        }
    }

    fn on_broke(&mut self, task: &TaskId, token: Token, failure: Failure) {
        let now = self.clock.millis();
        self.traces.span(&task.migration).in_scope(
            || tracing::warn!(%task, code = %failure.code, message = %failure.message, "a task failed"),
        );
        let failure = self.overdue(task, failure, now);
        // A stale or forked fence is tried again, too: the worker's next hello tells how high the shard's fence is.
        // While a shard waits for its lock, others hold theirs: it has its say at once, and all roll back.
        let votes_no = task.step == Step::Prepare && failure.code == ErrorCode::SchemaLocked;
        let lasting = (votes_no || !failure.retryable()).then(|| failure.clone());
        if self.board.on(task, TaskEvent::Broke { token, failure, now }) == TaskMove::Stale {
            return;
        }
        // Also when the task was not wanted any more: a person who resumes should know.
        if let Some(failure) = lasting {
            let failure = failure.in_migration(&task.migration).on_shard(&task.shard).in_step(task.step);
            let step = self.step_served(task);
            let event = Event::StepFailed { shard: task.shard.clone(), step, failure };
            self.apply(&task.migration, &event);
        }
        self.changed();
    }

    /// The step of the migration that a task is for: during a backfill, ranges are read again by splitting.
    fn step_served(&self, task: &TaskId) -> Step {
        let part = self.book.page(&task.migration).and_then(|page| page.migration().shards.get(&task.shard));
        match (task.step, part.and_then(|part| part.todo)) {
            (Step::Split, Some(Step::Backfill)) => Step::Backfill,
            (step, _) => step,
        }
    }

    fn on_finished(&mut self, task: TaskId, token: Token, outcome: TaskOutcome) {
        if step_of(&outcome) != task.step {
            let message =
                format!("a worker answered a step {} with the outcome of {}", task.step, step_of(&outcome));
            let next = "use workers of the coordinator's release; then retry";
            return self.on_broke(&task, token, Failure::new(ErrorCode::Internal, message, next));
        }
        if self.board.on(&task, TaskEvent::Finished(token)) == TaskMove::Stale {
            tracing::debug!(%task, %token, "finished under a right that is over");
            return;
        }
        self.deadlines.met(&task);
        let TaskId { migration, shard, .. } = task;
        match outcome {
            TaskOutcome::Prechecked => self.step_done(&migration, shard, Step::Precheck),
            TaskOutcome::Saved(saved) => {
                self.book.saving(&migration, &shard, saved);
                self.step_done(&migration, shard, Step::Backup);
            }
            TaskOutcome::Applied { .. } => self.step_done(&migration, shard, Step::Apply),
            TaskOutcome::Prepared => self.step_done(&migration, shard, Step::Prepare),
            TaskOutcome::Committed => {
                fail::fail_point!("before-committed", |_| std::process::abort());
                self.step_done(&migration, shard, Step::Commit);
            }
            TaskOutcome::Aborted => self.step_done(&migration, shard, Step::Abort),
            TaskOutcome::Split(pass) => {
                self.book.progress(&migration, &shard, &pass);
                self.board.learn(&migration, &shard, pass);
                self.step_done(&migration, shard.clone(), Step::Split);
                self.end_of_pass(&migration, shard);
            }
            TaskOutcome::RangeDone(range) => {
                let receipt =
                    Receipt { range, batch_size: 0, rows_per_second: 0.0, batch_ms: 0.0, waits: None };
                let task = TaskId { migration: migration.clone(), shard: shard.clone(), ..task };
                if let Some(pass) = self.board.receive(&task, receipt) {
                    self.book.progress(&migration, &shard, pass);
                }
                self.end_of_pass(&migration, shard);
            }
            TaskOutcome::Swept(Sweep::Clean) => self.step_done(&migration, shard, Step::Sweep),
            TaskOutcome::Swept(Sweep::Found { pending, pass }) => {
                tracing::info!(%migration, %shard, pending, pass = pass.number, "rows became pending during the run");
                self.book.progress(&migration, &shard, &pass);
                self.board.learn(&migration, &shard, pass);
                let outcome = Outcome::PendingFound;
                let event = Event::StepDone { shard: shard.clone(), step: Step::Sweep, outcome };
                self.apply(&migration, &event);
                // Nobody reports the end of a pass that has nothing to walk.
                self.end_of_pass(&migration, shard);
            }
            TaskOutcome::Collected => self.step_done(&migration, shard, Step::Collect),
            TaskOutcome::Undone(done) => {
                self.book.undoing(&migration, &shard, Undone::default());
                let outcome = Outcome::Undone(done);
                self.apply(&migration, &Event::StepDone { shard, step: Step::Undo, outcome });
            }
            TaskOutcome::Verified(report) => {
                if let Some(held) = report.held {
                    self.count_aside(&migration, shard.clone(), held);
                }
                if report.passed() {
                    return self.step_done(&migration, shard, Step::Verify);
                }
                let undoable = self
                    .book
                    .page(&migration)
                    .is_some_and(|page| page.spec.undoable() && page.migration().purge.is_none());
                let failure = mismatch(&report, undoable);
                let failure = failure.in_migration(&migration).on_shard(&shard).in_step(Step::Verify);
                self.apply(&migration, &Event::StepFailed { shard, step: Step::Verify, failure });
            }
        }
    }

    /// When every range is done, the backfill of the shard is; otherwise the next ranges may run, or are looked for.
    fn end_of_pass(&mut self, migration: &MigrationKey, shard: ShardId) {
        if self.board.end_of_pass(migration, &shard) {
            return self.step_done(migration, shard, Step::Backfill);
        }
        self.reconcile_shard(migration, &shard);
        self.changed();
    }

    fn step_done(&mut self, migration: &MigrationKey, shard: ShardId, step: Step) {
        self.apply(migration, &Event::StepDone { shard, step, outcome: Outcome::Done });
    }
}

/// A shard whose epoch cannot be risen above is set aside; the rest goes on.
pub(super) fn set_aside(hello: &mut ShardHello) {
    let Some(epoch) = hello.fence.as_ref().map(|fence| fence.epoch).filter(|epoch| *epoch >= Epoch::LARGEST)
    else {
        return;
    };
    let failure = Failure::new(
        ErrorCode::FenceDamaged,
        format!("the fence of shard {} holds the epoch {epoch}, which no leader can have had", hello.shard),
        "set it back by hand as the error's page says; the other shards are not concerned",
    );
    hello.problem = Some(failure.on_shard(&hello.shard));
}

/// The step that ends like this.
fn step_of(outcome: &TaskOutcome) -> Step {
    match outcome {
        TaskOutcome::Prechecked => Step::Precheck,
        TaskOutcome::Saved(_) => Step::Backup,
        TaskOutcome::Applied { .. } => Step::Apply,
        TaskOutcome::Prepared => Step::Prepare,
        TaskOutcome::Committed => Step::Commit,
        TaskOutcome::Aborted => Step::Abort,
        TaskOutcome::Split(_) => Step::Split,
        TaskOutcome::RangeDone(_) => Step::Backfill,
        TaskOutcome::Swept(_) => Step::Sweep,
        TaskOutcome::Verified(_) => Step::Verify,
        TaskOutcome::Collected => Step::Collect,
        TaskOutcome::Undone(_) => Step::Undo,
    }
}

fn mismatch(report: &VerifyReport, undoable: bool) -> Failure {
    let failed: Vec<_> = report
        .checks
        .iter()
        .filter(|check| !check.passed)
        .map(|check| format!("{}: {}", check.check, check.detail))
        .collect();
    let found = if failed.is_empty() { "no check was made".to_owned() } else { failed.join("; ") };
    let fails = |word| report.checks.iter().any(|check| !check.passed && check.check == word);
    let next = match undoable {
        true if fails("transform") => {
            "look at the rows (`shardlift mismatches`) and at what the application writes; `repair` (`--dry-run` first) gives \
                 rows that nobody may have changed what the transform gives, `resume` verifies again, `rollback` takes back \
                 what was changed, `cancel` leaves it as it is"
        }
        true if fails("digest") => {
            "look at the rows (`shardlift mismatches --since`) and at who has changed them; `resume` verifies again, `rollback` takes \
                 back what still is as it was written, `cancel` leaves it as it is"
        }
        true => {
            "look at the rows and at what the application writes; `resume` verifies again, `rollback` takes back \
                 what was changed, `cancel` leaves it as it is"
        }
        false => {
            "look at the rows and at what the application writes; then `resume` to verify again, or `cancel`"
        }
    };
    Failure::new(ErrorCode::VerifyMismatch, format!("verification found: {found}"), next)
}

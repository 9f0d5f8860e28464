//! The table of moves: (state, event) -> new state and effects, or the reason why not.

use std::collections::BTreeMap;

use crate::failure::{ErrorCode, Failure};
use crate::ids::ShardId;
use crate::quarantine::Held;
use crate::spec::OnVerifyFailure;
use crate::verdict::Undone;

use super::decision::{Aftermath, Decision};
use super::state::{Migration, Phase, ShardMigration, Status, Step, Stop, Undo};
use super::throttle::{Limit, ThrottleChange};
use super::told::News;

/// What a person asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Begin as soon as what it waits for is completed.
    Start,
    /// Stop handing out work; open batches finish.
    Pause,
    /// Go on after a pause or a halt.
    Resume,
    /// Give up; what is done stays done.
    Cancel,
    /// Try the failed steps again.
    Retry,
    /// Take back what was changed.
    Rollback {
        /// Also what the application has written since, where a `down` drops it.
        drop_data: bool,
    },
    /// Remove what is kept for a rollback.
    Purge,
    /// Walk faster or slower, or at another time of day.
    Throttle(ThrottleChange),
}

impl Verb {
    /// Every verb.
    pub const ALL: [Verb; 9] = [
        Verb::Start,
        Verb::Pause,
        Verb::Resume,
        Verb::Cancel,
        Verb::Retry,
        Verb::Rollback { drop_data: false },
        Verb::Rollback { drop_data: true },
        Verb::Purge,
        Verb::Throttle(ThrottleChange { rows_per_second: Some(Limit::Of(1_000)), window: None }),
    ];

    /// The word for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Start => "start",
            Verb::Pause => "pause",
            Verb::Resume => "resume",
            Verb::Cancel => "cancel",
            Verb::Retry => "retry",
            Verb::Rollback { .. } => "roll back",
            Verb::Purge => "purge",
            Verb::Throttle(_) => "throttle",
        }
    }
}

/// How a step ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The step is done.
    Done,
    /// A sweep found rows and laid out another pass.
    PendingFound,
    /// What was changed is taken back.
    Undone(Undone),
}

/// All that can move a migration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A person asks.
    Asked(Verb),
    /// Everything it waits for is completed and nothing that runs collides with it.
    Ready,
    /// A shard finished a step.
    StepDone {
        /// Which shard.
        shard: ShardId,
        /// Which step.
        step: Step,
        /// How.
        outcome: Outcome,
    },
    /// A step failed in a way that trying again by itself cannot mend.
    StepFailed {
        /// Which shard.
        shard: ShardId,
        /// Which step.
        step: Step,
        /// Why.
        failure: Failure,
    },
    /// So many rows of a shard are set aside.
    Quarantined {
        /// Which shard.
        shard: ShardId,
        /// How many.
        held: Held,
        /// That there are more than may be, if one was added to them just now.
        over: Option<Failure>,
    },
    /// No shard holds before-images of it any more.
    Purged {
        /// The number of the purge that has removed them.
        number: u32,
    },
    /// Somebody approves its content. Who may is decided before: [`ApprovalRule`](super::ApprovalRule).
    Approved {
        /// Who.
        by: String,
    },
    /// Rows of a shard that were set aside are to be tried again.
    Reopened {
        /// Which shard.
        shard: ShardId,
    },
    /// A wave that is done has soaked, by the leader's clock, and its shards are in health: its gate opens.
    Soaked {
        /// Which wave; the first is 0.
        wave: u32,
    },
    /// A service outside was told of it, or is about to be.
    Told(News),
    /// The digests of all shards were compared.
    Compared {
        /// Of which round.
        round: u32,
        /// What speaks against it: rows of which two are the same, or shards that cannot be compared.
        found: Option<Failure>,
    },
    /// No shard has digests of it any more.
    Cleared,
    /// The adaptors of its tenants were not quiet in time, so the gate of this wave stays closed.
    NotQuiet {
        /// Which wave; the first is 0.
        wave: u32,
        /// Why.
        failure: Failure,
    },
}

/// A move that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// The new state; stored before anything else happens.
    pub migration: Migration,
    /// Whether anything differs from before. If not, there is nothing to store: the event was old or a repeat.
    pub changed: bool,
}

/// A move that the table does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot {} a migration that is {status}: {why}", verb.as_str())]
pub struct Illegal {
    /// What was asked for.
    pub verb: Verb,
    /// Where the migration stands.
    pub status: Status,
    /// What to do instead.
    pub why: &'static str,
}

impl From<Illegal> for Failure {
    fn from(illegal: Illegal) -> Self {
        let Illegal { verb, status, why } = illegal;
        let standing = status.as_str().replace('_', " ");
        let message = format!("cannot {} a migration that is {standing}", verb.as_str());
        Failure::new(ErrorCode::RequestIllegal, message, why)
    }
}

impl Migration {
    /// The one table of moves. A repeat of a verb whose goal is reached, and news of a step that is over, change
    /// nothing: messages may be lost, repeated or late.
    pub fn on(&self, event: &Event) -> Result<Transition, Illegal> {
        let mut next = self.clone();
        let changed = next.make(event)?.is_some();
        Ok(Transition { migration: next, changed })
    }

    /// The same move in place. The answer: the shards whose parts differ now; `None`: nothing differs. An illegal move
    /// changes nothing. A step that is done, of which there are as many as shards and more, costs little however many
    /// shards there are.
    pub fn make(&mut self, event: &Event) -> Result<Option<Vec<ShardId>>, Illegal> {
        // The end of an abort may tell of the shard for whose sake it was.
        if let Event::StepDone { shard, step, .. } = event
            && *step != Step::Abort
        {
            // No part but the shard's own is changed by it.
            let (head, part) = (self.head(), self.shards.get(shard).cloned());
            self.enter(event)?;
            let moved = self.shards.get(shard) != part.as_ref();
            return Ok(
                (moved || self.head() != head).then(|| moved.then(|| shard.clone()).into_iter().collect())
            );
        }
        let before = self.clone();
        self.enter(event)?;
        let differs = |(shard, part): &(&ShardId, &ShardMigration)| before.shards.get(*shard) != Some(*part);
        Ok((*self != before)
            .then(|| self.shards.iter().filter(differs).map(|(shard, _)| shard.clone()).collect()))
    }

    fn enter(&mut self, event: &Event) -> Result<(), Illegal> {
        match event {
            Event::Asked(verb) => self.asked(*verb)?,
            Event::Ready => self.ready(),
            Event::StepDone { shard, step, outcome } => self.step_done(shard, *step, *outcome),
            Event::StepFailed { shard, step, failure } => self.step_failed(shard, *step, failure),
            Event::Quarantined { shard, held, over } => self.set_aside(shard, *held, over.as_ref()),
            Event::Reopened { shard } => self.reopen(shard),
            Event::Purged { number } => self.images_gone(*number),
            Event::Approved { by } => self.approved(by),
            Event::Soaked { wave } => self.soaked(*wave),
            Event::Told(news) => self.heard(news),
            Event::NotQuiet { wave, failure } => self.not_quiet(*wave, failure),
            Event::Compared { round, found } => self.compared(*round, found.as_ref()),
            Event::Cleared => self.cleared(),
        }
        Ok(())
    }

    /// All but the shards.
    fn head(&mut self) -> Self {
        let shards = std::mem::take(&mut self.shards);
        let head = self.clone();
        self.shards = shards;
        head
    }

    fn asked(&mut self, verb: Verb) -> Result<(), Illegal> {
        let status = self.status;
        let illegal = |why| Err(Illegal { verb, status, why });
        if let Some(answer) = self.asked_of_vote(verb) {
            return answer.or_else(illegal);
        }
        match (verb, status) {
            (Verb::Start, Status::Pending) => self.released = true,
            (Verb::Pause, Status::Running | Status::RollingBack) => self.stop_by(Stop::Person),
            (Verb::Resume, Status::Paused) => self.go_on(),
            (Verb::Retry, Status::Failed) => self.go_on(),
            (Verb::Cancel, Status::Pending | Status::Running | Status::Paused | Status::Failed) => {
                self.stop = None;
                self.status = Status::Cancelled;
            }
            (Verb::Rollback { drop_data }, _) => return self.asked_back(verb, drop_data),
            (Verb::Purge, _) => return self.give_up_images().or_else(illegal),
            (
                Verb::Throttle(change),
                Status::Pending | Status::Running | Status::Paused | Status::Failed | Status::RollingBack,
            ) => return self.throttle(change).or_else(illegal),
            (Verb::Start | Verb::Resume | Verb::Retry, Status::Running)
            | (Verb::Resume | Verb::Retry, Status::RollingBack)
            | (Verb::Pause, Status::Paused)
            | (Verb::Cancel, Status::Cancelled) => {}
            (Verb::Pause, Status::Pending) => {
                return illegal("nothing of it runs yet; cancel it if it is not wanted");
            }
            (Verb::Resume | Verb::Retry, Status::Pending) => return illegal("it was not started; start it"),
            (Verb::Start | Verb::Retry, Status::Paused) => return illegal("resume it"),
            (Verb::Start | Verb::Resume, Status::Failed) => return illegal("mend the cause and retry it"),
            (Verb::Pause, Status::Failed) => return illegal("nothing of it runs; retry or cancel it"),
            (_, Status::Completed) => {
                return illegal(
                    "it is finished; what it changed can be rolled back if its spec has `undo: capture` or a `down`",
                );
            }
            (_, Status::Cancelled) => {
                return illegal(
                    "it was given up; submit the work under a new id, or the same id if nothing was changed",
                );
            }
            (Verb::Cancel, Status::RollingBack) => {
                return illegal("wait until it is undone; to leave it half undone, pause it first");
            }
            (Verb::Start, Status::RollingBack) => return illegal("wait until it is undone"),
            (_, Status::RolledBack) => {
                return illegal("it was undone; submit the spec again as its next version");
            }
        }
        Ok(())
    }

    fn asked_back(&mut self, verb: Verb, drop_data: bool) -> Result<(), Illegal> {
        let illegal = |why| Err(Illegal { verb, status: self.status, why });
        match self.status {
            Status::RolledBack => {}
            Status::Pending => return illegal("nothing of it was changed; cancel it if it is not wanted"),
            Status::Cancelled if !self.touched => {
                return illegal("nothing of it was changed; submit the spec again as its next version");
            }
            _ if !self.touched => return illegal("nothing of it was changed yet; cancel it"),
            _ if self.purge.is_some() => {
                return illegal(
                    "its before-images were purged: go on forward, with a migration that mends what it did",
                );
            }
            _ => self.roll_back(drop_data, None),
        }
        Ok(())
    }

    /// From here on there is only the way back. Shards that nothing was handed out for are left alone; a rollback that
    /// was stopped goes on where it stands.
    pub(super) fn roll_back(&mut self, drop_data: bool, reason: Option<Failure>) {
        match &mut self.undo {
            Some(undo) => undo.drop_data |= drop_data,
            None => {
                self.undo = Some(Undo { drop_data, reason, done: Undone::default() });
                let wave = self.rollout.wave;
                for part in self.shards.values_mut() {
                    let touched =
                        part.wave <= wave && !matches!(part.todo, Some(Step::Precheck | Step::Backup));
                    part.todo = touched.then_some(Step::Undo);
                    part.verified = false;
                }
            }
        }
        self.shards.values_mut().for_each(|part| part.failure = None);
        self.stop = None;
        self.status = Status::RollingBack;
        self.advance();
    }

    fn ready(&mut self) {
        if self.status == Status::Pending && self.released {
            self.status = Status::Running;
            self.advance();
        }
    }

    fn go_on(&mut self) {
        if self.atomic && self.undo.is_none() {
            self.try_again();
            self.advance();
            return;
        }
        self.stop = None;
        self.status = if self.undo.is_some() { Status::RollingBack } else { Status::Running };
        let searches = self.steps().contains(&Step::Sweep);
        for shard in self.shards.values_mut() {
            let mismatch =
                shard.failure.take().is_some_and(|failure| failure.code == ErrorCode::VerifyMismatch);
            if mismatch && searches && shard.todo == Some(Step::Verify) {
                // What is pending now became so after the last search: verifying alone would find it again for ever.
                shard.todo = Some(Step::Sweep);
            }
        }
        self.mended();
        self.advance();
    }

    /// Whether news of its tasks can move it.
    fn listens(&self) -> bool {
        matches!(self.status, Status::Running | Status::Paused | Status::Failed | Status::RollingBack)
    }

    pub(super) fn stop_by(&mut self, stop: Stop) {
        self.stop = Some(stop);
        self.status = Status::Paused;
    }

    fn step_done(&mut self, shard: &ShardId, step: Step, outcome: Outcome) {
        if !self.listens() {
            return;
        }
        let steps = self.steps();
        let (wave, admitted) = (self.rollout.wave, self.admits(step));
        let part = part_of(&mut self.shards, shard, step, wave).filter(|_| admitted);
        let Some(part) = part else { return };
        part.failure = None;
        part.todo = match (step, outcome) {
            (Step::Sweep, Outcome::PendingFound) => Some(Step::Backfill),
            (Step::Abort, _) => Some(Step::Prepare),
            _ => steps.iter().copied().skip_while(|other| *other != step).nth(1),
        };
        part.verified |= step == Step::Verify;
        if let (Outcome::Undone(done), Some(undo)) = (outcome, &mut self.undo) {
            undo.done += done;
        }
        self.decide();
        if step == Step::Abort {
            self.come_to_rest();
        }
        // Only the last shard that leaves a phase opens the next one: most find another one here, and look no further.
        let here =
            |part: &ShardMigration| self.open_step(part).is_some_and(|step| step.phase() <= self.phase);
        if !self.shards.values().any(here) {
            self.advance();
        }
    }

    fn step_failed(&mut self, shard: &ShardId, step: Step, failure: &Failure) {
        if !self.listens() {
            return;
        }
        let (wave, admitted) = (self.rollout.wave, self.admits(step));
        let part = part_of(&mut self.shards, shard, step, wave).filter(|_| admitted);
        let Some(part) = part else { return };
        if step == Step::Prepare {
            return self.abort(Aftermath::Failed { shard: shard.clone(), failure: failure.clone() });
        }
        part.failure = Some(failure.clone());
        if self.status == Status::Failed {
            return;
        }
        if self.settles() {
            self.status = Status::Failed;
            return;
        }
        // A failure that a person has to decide about halts; one that needs mending fails. Between waves there is always
        // something to decide about.
        match failure.code {
            ErrorCode::VerifyMismatch
                if step == Step::Verify
                    && self.status == Status::Running
                    && self.on_verify_failure == OnVerifyFailure::Rollback
                    && self.purge.is_none() =>
            {
                self.roll_back(false, Some(failure.clone()));
            }
            // Shards that differ from the rest are taken back: the spec says so.
            ErrorCode::SchemaLockDeadline if step == Step::Apply && self.status == Status::Running => {
                self.roll_back(false, Some(failure.clone()));
            }
            _ if self.rollout.waves() > 1 && self.undo.is_none() => {
                self.stop_by(Stop::System { reason: failure.clone() });
            }
            ErrorCode::VerifyMismatch
            | ErrorCode::VerifyIncomparable
            | ErrorCode::SweepNotConverging
            | ErrorCode::UndoDropsData
            | ErrorCode::QuarantineOverBudget
            | ErrorCode::BackupFailed
            | ErrorCode::BackupDamaged => {
                self.stop_by(Stop::System { reason: failure.clone() });
            }
            _ => {
                self.stop = None;
                self.status = Status::Failed;
            }
        }
    }

    /// Opens the next phase when every shard of the wave has left this one. When nothing is left, the shards of the last wave are
    /// compared where the spec asks for it; then the gate behind the wave is waited for, or, if there is none, the migration is
    /// completed.
    pub(super) fn advance(&mut self) {
        match self.open_phase() {
            Some(phase) => self.phase = phase,
            None if self.status == Status::Running && self.is_undecided() => {}
            None if self.status == Status::Running && !self.rollout.has_gate() => {
                self.status = Status::Completed;
            }
            None if self.status == Status::RollingBack => self.status = Status::RolledBack,
            None => {}
        }
        // Until it is decided that all commit, nothing of an atomic change stays.
        let changes = !self.atomic || self.decision == Some(Decision::Commit);
        self.touched |=
            changes && self.status == Status::Running && matches!(self.phase, Phase::Schema | Phase::Data);
        self.note_digests();
    }
}

/// The part of a shard that has this step to do, unless its wave has not begun: of those only the precheck counts.
fn part_of<'m>(
    shards: &'m mut BTreeMap<ShardId, ShardMigration>,
    shard: &ShardId,
    step: Step,
    wave: u32,
) -> Option<&'m mut ShardMigration> {
    let turn = |part: &&mut ShardMigration| part.wave <= wave || step == Step::Precheck;
    shards.get_mut(shard).filter(|part| part.todo == Some(step)).filter(turn)
}

//! Two-phase commit over all shards: what was decided, and the moves that only an atomic schema change has.
//!
//! Until a decision is stored, a shard that has prepared may be rolled back; from a decision on there is one way only.

use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::ids::ShardId;

use super::moves::Verb;
use super::state::{Migration, Phase, ShardMigration, Status, Step, Stop};

/// What was decided about a change that every shard makes or none. Stored before any shard hears of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Decision {
    /// Every shard has prepared it, so every shard commits it. Nothing takes that back.
    Commit,
    /// Every shard rolls back what it has prepared.
    Abort {
        /// What becomes of the migration then.
        then: Aftermath,
    },
}

impl Decision {
    /// The word for people and the store.
    pub fn as_str(&self) -> &'static str {
        match self {
            Decision::Commit => "commit",
            Decision::Abort { .. } => "abort",
        }
    }
}

/// What follows when every shard has rolled back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "as")]
pub enum Aftermath {
    /// A person paused it: a resume prepares it anew.
    Paused,
    /// A person gave it up.
    Cancelled,
    /// A shard could not prepare it.
    Failed {
        /// Which shard.
        shard: ShardId,
        /// Why.
        failure: Failure,
    },
}

/// The answer to a verb whose goal is not reached by the common table.
type Answer = Result<(), &'static str>;

impl Migration {
    /// Whether shards may hold prepared transactions and nothing is decided about them.
    pub fn votes(&self) -> bool {
        self.atomic
            && self.decision.is_none()
            && (self.status, self.phase) == (Status::Running, Phase::Schema)
    }

    /// Whether shards still have to hear what was decided.
    pub fn settles(&self) -> bool {
        let waits = match self.decision {
            None => return false,
            Some(Decision::Commit) => Step::Commit,
            Some(Decision::Abort { .. }) => Step::Abort,
        };
        self.shards.values().any(|part| part.todo == Some(waits))
    }

    /// Whether there may be steps that press. Costs nothing: shards are not looked at.
    pub fn presses(&self) -> bool {
        self.atomic && self.phase == Phase::Schema && matches!(self.status, Status::Running | Status::Failed)
    }

    /// Whether this is a time for the step: of most steps that are no part of a vote, any. What was decided is carried out
    /// on every shard, though another shard has failed with it. Shards that are to be compared collect at about the same time,
    /// in the last wave.
    pub(super) fn admits(&self, step: Step) -> bool {
        match step {
            Step::Prepare => self.votes(),
            Step::Commit => self.decision == Some(Decision::Commit),
            Step::Abort => matches!(self.decision, Some(Decision::Abort { .. })),
            Step::Collect => self.rollout.is_last(),
            _ => true,
        }
    }

    /// A verb while shards may hold prepared transactions. `None`: the common table answers.
    pub(super) fn asked_of_vote(&mut self, verb: Verb) -> Option<Answer> {
        if self.votes() {
            let then = match verb {
                Verb::Pause => Aftermath::Paused,
                Verb::Cancel => Aftermath::Cancelled,
                _ => return None,
            };
            self.abort(then);
            return Some(Ok(()));
        }
        match (self.decision.as_ref().filter(|_| self.settles())?, verb) {
            (Decision::Commit, Verb::Pause | Verb::Cancel | Verb::Rollback { .. }) => Some(Err(
                "every shard has prepared it and it is decided that all of them commit: wait until they have",
            )),
            (Decision::Commit, _) | (Decision::Abort { .. }, Verb::Retry) => None,
            (Decision::Abort { then: Aftermath::Paused }, Verb::Pause) => Some(Ok(())),
            (Decision::Abort { .. }, Verb::Cancel) => {
                self.decision = Some(Decision::Abort { then: Aftermath::Cancelled });
                self.try_again();
                Some(Ok(()))
            }
            (Decision::Abort { .. }, _) => {
                Some(Err("every shard rolls back what it has prepared: wait until that is done"))
            }
        }
    }

    /// Steps that failed are tried again; what was decided and not carried out everywhere stays decided.
    pub(super) fn try_again(&mut self) {
        if !self.settles() && matches!(self.decision, Some(Decision::Abort { .. })) {
            self.decision = None;
        }
        self.stop = None;
        self.status = Status::Running;
        self.shards.values_mut().for_each(|part| part.failure = None);
    }

    /// Decides that all commit, once every shard has prepared.
    pub(super) fn decide(&mut self) {
        let ready = |part: &ShardMigration| part.todo == Some(Step::Commit);
        if self.votes() && !self.shards.is_empty() && self.shards.values().all(ready) {
            self.decision = Some(Decision::Commit);
            self.touched = true;
        }
    }

    /// Decides that all roll back.
    pub(super) fn abort(&mut self, then: Aftermath) {
        self.decision = Some(Decision::Abort { then });
        for part in self.shards.values_mut() {
            if matches!(part.todo, Some(Step::Prepare | Step::Commit)) {
                part.todo = Some(Step::Abort);
                part.failure = None;
            }
        }
        self.come_to_rest();
    }

    /// When every shard has rolled back, the migration is what it was stopped for.
    pub(super) fn come_to_rest(&mut self) {
        let Some(Decision::Abort { then }) = self.decision.clone().filter(|_| !self.settles()) else {
            return;
        };
        self.stop = None;
        match then {
            Aftermath::Paused => {
                self.stop = Some(Stop::Person);
                self.status = Status::Paused;
            }
            Aftermath::Cancelled => self.status = Status::Cancelled,
            Aftermath::Failed { shard, failure } => {
                self.status = Status::Failed;
                if let Some(part) = self.shards.get_mut(&shard) {
                    part.failure = Some(failure);
                }
            }
        }
    }

    /// After a take-over: what a shard prepared without a decision is of an older epoch, and is prepared anew.
    pub(super) fn prepare_anew(&mut self) {
        if self.atomic && self.decision.is_none() {
            for part in self.shards.values_mut().filter(|part| part.todo == Some(Step::Commit)) {
                part.todo = Some(Step::Prepare);
            }
        }
    }
}

#[cfg(test)]
mod tests;

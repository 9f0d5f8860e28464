//! Uniqueness over all shards: digests are collected on every shard of every wave, and compared once all of them are there.

use serde::{Deserialize, Serialize};

use crate::failure::{ErrorCode, Failure};
use crate::spec::OnVerifyFailure;

use super::state::{Migration, Phase, Status, Step, Stop};

/// How far the check is. A stage of the last wave's verification; nothing of it where the spec does not ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Uniqueness {
    /// How often it was begun again. News of an earlier comparison means nothing.
    pub round: u32,
    /// Whether no two rows are the same; `None`: the shards are not compared yet.
    pub holds: Option<bool>,
    /// Whether shards may have digests.
    pub kept: bool,
}

impl Migration {
    /// Whether the digests of all shards are there and are to be compared.
    pub fn compares(&self) -> bool {
        self.status == Status::Running && self.is_undecided() && self.open_phase().is_none()
    }

    /// Whether digests are to be removed from the shards: nothing follows for which they would be needed.
    pub fn clears(&self) -> bool {
        self.status.is_final() && self.unique.is_some_and(|unique| unique.kept)
    }

    /// Whether it cannot be completed before a comparison.
    pub(super) fn is_undecided(&self) -> bool {
        self.rollout.is_last() && self.unique.is_some_and(|unique| unique.holds.is_none())
    }

    /// From here on shards may have digests.
    pub(super) fn note_digests(&mut self) {
        let collects =
            self.status == Status::Running && self.phase == Phase::Verify && self.rollout.is_last();
        if let Some(unique) = self.unique.as_mut().filter(|_| collects) {
            unique.kept = true;
        }
    }

    /// The digests of all shards were compared. Of an earlier round, or too late, this is old news.
    pub(super) fn compared(&mut self, round: u32, found: Option<&Failure>) {
        if !self.compares() {
            return;
        }
        let Some(unique) = self.unique.as_mut().filter(|unique| unique.round == round) else { return };
        unique.holds = Some(found.is_none());
        match found {
            None => self.advance(),
            // Nobody has said what to do where it is not known.
            Some(failure)
                if failure.code == ErrorCode::VerifyMismatch
                    && self.on_verify_failure == OnVerifyFailure::Rollback
                    && self.purge.is_none() =>
            {
                self.roll_back(false, Some(failure.clone()));
            }
            Some(failure) => self.stop_by(Stop::System { reason: failure.clone() }),
        }
    }

    /// Whoever goes on after rows were found has mended them: every shard collects anew.
    pub(super) fn mended(&mut self) {
        if self.unique.is_some_and(|unique| unique.holds == Some(false)) {
            self.collect_again();
        }
    }

    /// Rows change again: what was compared, or is compared now, says nothing any more.
    pub(super) fn collect_again(&mut self) {
        let Some(unique) = &mut self.unique else { return };
        unique.round = unique.round.saturating_add(1);
        if unique.holds.take().is_some() {
            for part in self.shards.values_mut().filter(|part| part.todo.is_none()) {
                part.todo = Some(Step::Collect);
            }
        }
    }

    /// No shard has digests any more.
    pub(super) fn cleared(&mut self) {
        if self.clears()
            && let Some(unique) = &mut self.unique
        {
            unique.kept = false;
        }
    }
}

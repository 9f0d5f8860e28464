//! What rows that were set aside mean for the state: figures, and the way back to the search when some are to be tried
//! again.

use crate::failure::Failure;
use crate::ids::ShardId;
use crate::quarantine::Held;

use super::state::{Migration, Status, Step, Stop};
use crate::spec::Kind;

impl Migration {
    /// Rows set aside on all shards.
    pub fn held(&self) -> Held {
        self.quarantined.values().fold(Held::default(), |sum, held| Held {
            rows: sum.rows + held.rows,
            discarded: sum.discarded + held.discarded,
        })
    }

    /// Whether rows may be tried again now; otherwise why not.
    pub fn may_reopen(&self) -> Result<(), &'static str> {
        match self.status {
            _ if self.undo.is_some() => Err("it is undone; its rows stay as they are"),
            _ if !self.searches() => {
                Err("without `where` nothing finds a row again: change it by hand, then discard it")
            }
            Status::Paused | Status::Failed | Status::Completed => Ok(()),
            Status::Running => Err("pause it first, or wait until it ends"),
            Status::Pending => Err("it does not run yet; start it, or wait until it ends"),
            Status::Cancelled => Err("it was given up; its rows stay as they are"),
            Status::RollingBack | Status::RolledBack => Err("it is undone; its rows stay as they are"),
        }
    }

    /// Whether a search follows the walk, which finds rows again.
    fn searches(&self) -> bool {
        self.kind == Kind::Data && self.has_where
    }

    /// The figures of one shard; halts if there are too many of them now. A schema change has no rows to set aside, and
    /// must not be stopped in the middle of a vote by whoever tells of some.
    pub(super) fn set_aside(&mut self, shard: &ShardId, held: Held, over: Option<&Failure>) {
        if self.kind == Kind::Schema {
            return;
        }
        let before = self.quarantined.get(shard).copied().unwrap_or_default();
        if !self.shards.contains_key(shard) || held.is_empty() {
            self.quarantined.remove(shard);
        } else {
            self.quarantined.insert(shard.clone(), held);
        }
        if let Some(reason) = over.filter(|_| self.status == Status::Running && held.rows > before.rows) {
            self.stop_by(Stop::System { reason: reason.clone() });
        }
    }

    /// Rows of this shard became pending again: it is searched once more, also after everything was done. A completed
    /// migration then waits to be started like a new one, since others may hold its tables now.
    pub(super) fn reopen(&mut self, shard: &ShardId) {
        let alive = matches!(
            self.status,
            Status::Running | Status::Paused | Status::Failed | Status::Completed | Status::Pending
        );
        let searched = alive && self.searches() && self.undo.is_none();
        let Some(part) = self.shards.get_mut(shard).filter(|_| searched) else { return };
        if !matches!(part.todo, None | Some(Step::Verify | Step::Collect)) {
            return;
        }
        part.todo = Some(Step::Sweep);
        part.verified = false;
        self.collect_again();
        if let Some(purge) = &mut self.purge {
            // What is changed now leaves before-images again.
            purge.done = false;
            purge.number = purge.number.saturating_add(1);
        }
        if self.status == Status::Completed {
            self.status = Status::Pending;
            self.released = false;
        }
        self.advance();
    }
}

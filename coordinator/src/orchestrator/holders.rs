//! Who holds tables and collections, as the store says: what keeps two migrations apart also across a leader change.
//!
//! A migration acquires with the commit that makes it run, keeps while it is paused or failed, since it may go on, and
//! frees with the commit that ends it; when a worker still has a task of it then, with one when nobody has any more.

use std::collections::BTreeSet;

use shardlift_domain::ids::MigrationKey;
use shardlift_domain::migration::{Migration, Status};

use crate::store::{Change, Locks};

/// The migrations that hold what they work on.
#[derive(Default)]
pub(super) struct Holders {
    holding: BTreeSet<MigrationKey>,
    /// Ended under a former leader, which knew what its workers were still busy with.
    inherited: BTreeSet<MigrationKey>,
}

/// Whether a migration in this status works on its tables, or will without asking again.
pub(super) fn holds(status: Status) -> bool {
    match status {
        Status::Running | Status::Paused | Status::Failed | Status::RollingBack => true,
        Status::Pending | Status::Completed | Status::Cancelled | Status::RolledBack => false,
    }
}

impl Holders {
    /// As a store was loaded.
    pub(super) fn inherit<'a>(locks: &Locks, migrations: impl Iterator<Item = &'a Migration>) -> Self {
        let ended = migrations.filter(|migration| !holds(migration.status));
        let inherited = ended.map(|migration| &migration.key).filter(|key| locks.contains_key(key));
        Self { holding: locks.keys().cloned().collect(), inherited: inherited.cloned().collect() }
    }

    pub(super) fn contains(&self, key: &MigrationKey) -> bool {
        self.holding.contains(key)
    }

    /// What a move means for the locks. `busy`: some worker still has a task of it.
    pub(super) fn follow(&self, after: &Migration, busy: bool, change: &mut Change) {
        let holding = self.contains(&after.key);
        if holds(after.status) && !holding {
            change.locked.push((after.key.clone(), after.resources().collect()));
        } else if !holds(after.status) && holding && !busy {
            change.freed.push(after.key.clone());
        }
    }

    /// Those that hold something though they have ended and nobody is busy with them. A former leader's are left alone
    /// until its workers' leases are over (`leases_over`): this one does not know of their tasks.
    pub(super) fn ended(
        &self,
        status: impl Fn(&MigrationKey) -> Option<Status>,
        busy: impl Fn(&MigrationKey) -> bool,
        leases_over: bool,
    ) -> Vec<MigrationKey> {
        let free = |key: &&MigrationKey| {
            status(key).is_some_and(|status| !holds(status))
                && (leases_over || !self.inherited.contains(*key))
                && !busy(key)
        };
        self.holding.iter().filter(free).cloned().collect()
    }

    /// A change was made: it is committed, or will be before anybody hears of it.
    pub(super) fn made(&mut self, taken: &Taken) {
        for key in &taken.freed {
            self.holding.remove(key);
            self.inherited.remove(key);
        }
        self.holding.extend(taken.locked.iter().cloned());
    }
}

/// Who lets go and who takes hold by a change.
pub(super) struct Taken {
    freed: Vec<MigrationKey>,
    locked: Vec<MigrationKey>,
}

impl Taken {
    pub(super) fn by(change: &Change) -> Self {
        let locked = change.locked.iter().map(|(key, _)| key.clone()).collect();
        Self { freed: change.freed.clone(), locked }
    }
}

//! What the databases do for us: the store's fence row, the shard's fence row and its checkpoint rows.

use shardlift_domain::fence::{Attempt, Epoch, Fence, FenceVerdict, Token};

use crate::model::Bug;
use crate::world::{Lease, Offence, RANGES, Seal, Seat, World};

/// The metadata store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Store {
    pub(crate) fence: Seal,
    /// What is stored: whether the migration is completed.
    pub(crate) completed: bool,
    /// Whose transaction is open, and so in conflict with every take-over.
    pub(crate) writing: Option<Seat>,
}

/// A backup of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Copy {
    fence: Seal,
    completed: bool,
}

impl Store {
    pub(crate) fn copy(&self) -> Copy {
        Copy { fence: self.fence, completed: self.completed }
    }

    pub(crate) fn restore(&mut self, copy: Copy) {
        *self = Self { fence: copy.fence, completed: copy.completed, writing: None };
    }
}

/// One shard.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Shard {
    /// The newest leader that it has seen.
    pub(crate) fence: Option<Seal>,
    pub(crate) ranges: Vec<Range>,
    /// How often each row was changed.
    pub(crate) applied: Vec<u8>,
}

/// A checkpoint row: rows from `last` up to, and without, `upper` are still to be changed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Range {
    pub(crate) token: Token,
    /// Tells claims with the same token apart.
    pub(crate) claim: u8,
    pub(crate) last: u8,
    pub(crate) upper: u8,
    pub(crate) done: bool,
    /// The open transaction that has locked this row.
    pub(crate) batch: Option<Batch>,
}

/// An open transaction: the rows are changed and the checkpoint is advanced, but nothing is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Batch {
    pub(crate) claim: u8,
    pub(crate) row: u8,
    pub(crate) done: bool,
    /// The commit is under way to the server.
    pub(crate) sent: bool,
}

/// What a worker remembers of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Held {
    pub(crate) claim: u8,
    pub(crate) last: u8,
    pub(crate) upper: u8,
}

impl Range {
    pub(crate) fn over(first: u8, upper: u8) -> Self {
        let token = Token { epoch: Epoch::NONE, attempt: Attempt(0) };
        Self { token, claim: 0, last: first, upper, done: false, batch: None }
    }

    /// The condition of every batch: this token, this claim, this last key, not done.
    fn holds(&self, lease: &Lease, held: &Held) -> bool {
        self.token == lease.token() && self.claim == held.claim && self.last == held.last && !self.done
    }
}

impl World {
    /// The shard sees this leader; in a transaction of its own.
    pub(crate) fn raise(&mut self, leader: &Seal) {
        if self.shard.fence.is_none_or(|seen| seen.epoch < leader.epoch) {
            self.shard.fence = Some(*leader);
        }
    }

    /// Claims a range: `None` when the shard refuses. Nobody else has locked the row.
    pub(crate) fn claim(&mut self, lease: &Lease) -> Option<Held> {
        let seen = self.shard.fence.map(|seen| seen.fence());
        let range = self.shard.ranges.get(lease.range)?;
        let verdict = Fence::judge(seen.as_ref(), &lease.leader.fence());
        if verdict != FenceVerdict::Admitted || range.token > lease.token() {
            return None;
        }
        self.witness(&lease.leader);
        let claim = self.unused_claim();
        let range = &mut self.shard.ranges[lease.range];
        range.token = lease.token();
        range.claim = claim;
        Some(Held { claim, last: range.last, upper: range.upper })
    }

    /// Looks at a claim that the shard took with the eyes of one who knows which take-over is which.
    fn witness(&mut self, leader: &Seal) {
        let Some(seen) = self.shard.fence else { return };
        if seen.epoch > leader.epoch {
            self.offences.insert(Offence::ShardTookLowerEpoch);
        } else if seen.epoch == leader.epoch && seen.reign != leader.reign {
            self.offences.insert(Offence::ShardTookReusedEpoch);
        }
    }

    /// A random uuid: any number that nobody remembers does as well, and keeps the model finite.
    fn unused_claim(&self) -> u8 {
        let remembered =
            |claim| {
                self.shard.ranges.iter().any(|range| {
                    range.claim == claim || range.batch.is_some_and(|batch| batch.claim == claim)
                }) || self.workers.iter().any(|worker| worker.remembers(claim))
            };
        (1..u8::MAX).find(|claim| !remembered(*claim)).unwrap_or(u8::MAX)
    }

    /// One statement: changes the next row and advances the checkpoint if the claim still holds. It leaves a transaction
    /// open that has locked the checkpoint row. `false`: refused.
    pub(crate) fn begin_batch(&mut self, lease: &Lease, held: &Held, bug: Option<Bug>) -> bool {
        let range = &mut self.shard.ranges[lease.range];
        if !range.holds(lease, held) && bug != Some(Bug::BatchWithoutCondition) {
            return false;
        }
        let done = held.last + 1 == held.upper;
        range.batch = Some(Batch { claim: held.claim, row: held.last, done, sent: false });
        true
    }

    /// The server has received the commit and carries it out.
    pub(crate) fn execute(&mut self, range: usize) {
        let range = &mut self.shard.ranges[range];
        if let Some(batch) = range.batch.take() {
            range.last = batch.row + 1;
            range.done = batch.done;
            self.shard.applied[usize::from(batch.row)] += 1;
        }
    }

    /// Cuts a range in two, in one transaction on the condition that the claim holds. The owner's new upper key.
    pub(crate) fn split(&mut self, lease: &Lease, held: &Held) -> Option<u8> {
        let owned = self.shard.ranges[lease.range].holds(lease, held);
        if owned { self.cut(lease.range) } else { None }
    }

    /// Shortens a checkpoint row and inserts the row of the rest.
    pub(crate) fn cut(&mut self, range: usize) -> Option<u8> {
        let Range { last, upper, done, .. } = self.shard.ranges[range];
        if done || self.shard.ranges.len() == RANGES || last + 2 > upper {
            return None;
        }
        self.shard.ranges[range].upper = upper - 1;
        self.shard.ranges.push(Range::over(upper - 1, upper));
        Some(upper - 1)
    }
}

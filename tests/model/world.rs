//! All that there is: store, shard, election, processes, and messages under way.

use std::collections::BTreeSet;

use shardlift_domain::fence::{Attempt, Epoch, Fence, Nonce, Token};

use crate::coordinator::Coordinator;
use crate::databases::{Copy, Range, Shard, Store};
use crate::model::Bounds;
use crate::worker::Worker;

/// The largest number of ranges: the one that there is, and the one that is split off.
pub(crate) const RANGES: usize = 2;

/// Which coordinator.
pub(crate) type Seat = usize;

/// Epoch and nonce of one take-over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Seal {
    pub(crate) epoch: Epoch,
    pub(crate) nonce: u8,
    /// Which take-over it was, whatever its numbers say. Only the properties look at it.
    pub(crate) reign: u8,
}

impl Seal {
    /// Before any leader.
    pub(crate) const NONE: Self = Self { epoch: Epoch::NONE, nonce: 0, reign: 0 };

    /// As the product knows it.
    pub(crate) fn fence(&self) -> Fence {
        Fence { epoch: self.epoch, nonce: Nonce(self.nonce.to_string()) }
    }

    /// Whether a database takes the two for the same: it sees epoch and nonce.
    pub(crate) fn same(&self, other: &Self) -> bool {
        (self.epoch, self.nonce) == (other.epoch, other.nonce)
    }
}

/// One hand-out of one range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Lease {
    pub(crate) range: usize,
    pub(crate) leader: Seal,
    pub(crate) attempt: Attempt,
}

impl Lease {
    pub(crate) fn token(&self) -> Token {
        Token { epoch: self.leader.epoch, attempt: self.attempt }
    }
}

/// A message that may arrive never, once or again and again, in any order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Message {
    /// To a worker: do this.
    Assign { to: usize, lease: Lease },
    /// To whoever leads: the range is done.
    Finished { range: usize, token: Token },
}

/// A promise that was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Offence {
    /// The store took a write of somebody who does not lead.
    StoreTookOldWrite,
    /// The shard took a lower epoch after a higher one.
    ShardTookLowerEpoch,
    /// The shard took an epoch from two leaders.
    ShardTookReusedEpoch,
}

/// All that there is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct World {
    /// Whose key leads in etcd.
    pub(crate) elected: Option<Seat>,
    pub(crate) coordinators: Vec<Coordinator>,
    pub(crate) store: Store,
    pub(crate) backup: Option<Copy>,
    pub(crate) restored: bool,
    pub(crate) shard: Shard,
    pub(crate) workers: Vec<Worker>,
    pub(crate) mail: BTreeSet<Message>,
    /// How many take-overs there were.
    pub(crate) reigns: u8,
    pub(crate) offences: BTreeSet<Offence>,
}

impl World {
    /// Before anything has happened.
    pub(crate) fn new(bounds: &Bounds) -> Self {
        Self {
            elected: None,
            coordinators: vec![Coordinator::Follower { above: Epoch::NONE }; bounds.coordinators],
            store: Store { fence: Seal::NONE, completed: false, writing: None },
            backup: None,
            restored: false,
            shard: Shard {
                fence: None,
                ranges: vec![Range::over(0, bounds.rows)],
                applied: vec![0; usize::from(bounds.rows)],
            },
            workers: vec![Worker::Idle; bounds.workers],
            mail: BTreeSet::new(),
            reigns: 0,
            offences: BTreeSet::new(),
        }
    }
}

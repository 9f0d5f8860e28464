//! What a worker can do. Each function is one step; between two steps it may be paused for as long as you like, or die.

use crate::databases::Held;
use crate::model::Bug;
use crate::world::{Lease, Message, World};

/// Where a worker stands. One range at a time: ranges of one worker do not know each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Worker {
    /// Has nothing, or has just been started.
    Idle,
    /// Has a lease and is about to claim; `raised`: the shard has seen its leader.
    Claiming { lease: Lease, raised: bool },
    /// Has claimed; between two batches.
    Holding { lease: Lease, held: Held },
    /// Has a batch open; `sent`: it has asked for the commit and waits for the answer.
    Batch { lease: Lease, held: Held, sent: bool },
}

impl Worker {
    fn lease(&self) -> Option<&Lease> {
        match self {
            Worker::Idle => None,
            Worker::Claiming { lease, .. } | Worker::Holding { lease, .. } | Worker::Batch { lease, .. } => {
                Some(lease)
            }
        }
    }

    pub(crate) fn remembers(&self, claim: u8) -> bool {
        matches!(self, Worker::Holding { held, .. } | Worker::Batch { held, .. } if held.claim == claim)
    }
}

impl World {
    /// Takes a lease, however old the message is; a newer one takes the place of the present one between two batches.
    pub(crate) fn accept(&mut self, worker: usize, lease: Lease) -> Option<()> {
        let free = !matches!(self.workers[worker], Worker::Batch { .. });
        let newer = self.workers[worker].lease().is_none_or(|held| held.token() < lease.token());
        (free && newer).then(|| self.workers[worker] = Worker::Claiming { lease, raised: false })
    }

    /// Shows its leader to the shard.
    pub(crate) fn show_leader(&mut self, worker: usize) -> Option<()> {
        let Worker::Claiming { lease, raised: false } = self.workers[worker] else { return None };
        self.raise(&lease.leader);
        self.workers[worker] = Worker::Claiming { lease, raised: true };
        Some(())
    }

    /// Claims its range. An open transaction of another owner keeps it waiting until that has committed or was ended.
    pub(crate) fn claim_range(&mut self, worker: usize) -> Option<()> {
        let Worker::Claiming { lease, raised: true } = self.workers[worker] else { return None };
        if self.shard.ranges[lease.range].batch.is_some() {
            return None;
        }
        self.workers[worker] = match self.claim(&lease) {
            Some(held) => Worker::Holding { lease, held },
            None => Worker::Idle,
        };
        self.finish(worker);
        Some(())
    }

    /// Tells that its range is done, if it is.
    fn finish(&mut self, worker: usize) {
        if let Worker::Holding { lease, held } = self.workers[worker]
            && (held.last == held.upper || self.shard.ranges[lease.range].done)
        {
            self.mail.insert(Message::Finished { range: lease.range, token: lease.token() });
            self.workers[worker] = Worker::Idle;
        }
    }

    /// Begins a batch; it waits while another transaction has locked the checkpoint row.
    pub(crate) fn open_batch(&mut self, worker: usize, bug: Option<Bug>) -> Option<()> {
        let Worker::Holding { lease, held } = self.workers[worker] else { return None };
        if self.shard.ranges[lease.range].batch.is_some() {
            return None;
        }
        self.workers[worker] = if self.begin_batch(&lease, &held, bug) {
            Worker::Batch { lease, held, sent: false }
        } else {
            Worker::Idle
        };
        Some(())
    }

    /// Sends the commit. When the server has ended the transaction meanwhile, the next step learns it.
    pub(crate) fn send_commit(&mut self, worker: usize) -> Option<()> {
        let Worker::Batch { lease, held, sent: false } = self.workers[worker] else { return None };
        if let Some(batch) = &mut self.shard.ranges[lease.range].batch
            && batch.claim == held.claim
        {
            batch.sent = true;
        }
        self.workers[worker] = Worker::Batch { lease, held, sent: true };
        Some(())
    }

    /// The answer arrives: committed, or the connection is gone and only another claim can tell.
    pub(crate) fn hear_commit(&mut self, worker: usize) -> Option<()> {
        let Worker::Batch { lease, held, sent: true } = self.workers[worker] else { return None };
        let range = &self.shard.ranges[lease.range];
        if range.batch.is_some_and(|batch| batch.claim == held.claim) {
            return None;
        }
        if range.claim != held.claim || range.last == held.last {
            return self.break_off(worker);
        }
        self.workers[worker] = Worker::Holding { lease, held: Held { last: range.last, ..held } };
        self.finish(worker);
        Some(())
    }

    /// The connection breaks with a batch under way, whose commit may still be on its way: it claims again.
    pub(crate) fn break_off(&mut self, worker: usize) -> Option<()> {
        let Worker::Batch { lease, .. } = self.workers[worker] else { return None };
        self.workers[worker] = Worker::Claiming { lease, raised: false };
        Some(())
    }

    /// The owner gives the rest of its range away.
    pub(crate) fn split_own(&mut self, worker: usize) -> Option<()> {
        let Worker::Holding { lease, held } = self.workers[worker] else { return None };
        let upper = self.split(&lease, &held)?;
        self.workers[worker] = Worker::Holding { lease, held: Held { upper, ..held } };
        Some(())
    }
}

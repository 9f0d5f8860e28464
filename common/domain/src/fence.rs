//! Fencing: who is newest, decided by numbers that only grow.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The leader's fencing number: issued by the store's fence row at take-over, strictly increasing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl Epoch {
    /// Before any leader.
    pub const NONE: Self = Self(0);

    /// No leader ever comes so far by taking over: a shard that reports more was damaged. To rise above it would leave
    /// the next leaders less and less room, for the sake of one shard.
    pub const LARGEST: Self = Self(1 << 48);

    /// The epoch of the next take-over.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Which hand-out of one task under one epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Attempt(pub u32);

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A random text drawn at take-over: tells two leaders apart that hold the same epoch, which happens only
/// when a store was restored from an old copy.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Nonce(pub String);

/// The newest leader that somebody has seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fence {
    /// Its epoch.
    pub epoch: Epoch,
    /// Its nonce.
    pub nonce: Nonce,
}

/// What a shard's fence says to a leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FenceVerdict {
    /// The leader is the newest that the shard has seen, or newer.
    Admitted,
    /// The shard has seen a newer leader.
    Stale,
    /// Same epoch, another nonce: the store was restored from an old copy. The leader must rise above it.
    Forked,
}

impl Fence {
    /// Judges a leader by the fence that a shard keeps (`None`: it has seen nobody yet).
    pub fn judge(seen: Option<&Fence>, leader: &Fence) -> FenceVerdict {
        match seen {
            None => FenceVerdict::Admitted,
            Some(seen) if seen.epoch < leader.epoch => FenceVerdict::Admitted,
            Some(seen) if seen.epoch > leader.epoch => FenceVerdict::Stale,
            Some(seen) if seen.nonce == leader.nonce => FenceVerdict::Admitted,
            Some(_) => FenceVerdict::Forked,
        }
    }
}

/// The right to run one task: the larger token wins, the smaller one is refused by the shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Token {
    /// The leader that gave it.
    pub epoch: Epoch,
    /// Which hand-out under that leader.
    pub attempt: Attempt,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({}, {})", self.epoch, self.attempt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fence(epoch: u64, nonce: &str) -> Fence {
        Fence { epoch: Epoch(epoch), nonce: Nonce(nonce.into()) }
    }

    #[test]
    fn a_shard_admits_the_newest_leader_only() {
        let leader = fence(5, "a");
        assert_eq!(Fence::judge(None, &leader), FenceVerdict::Admitted);
        assert_eq!(Fence::judge(Some(&fence(4, "x")), &leader), FenceVerdict::Admitted);
        assert_eq!(Fence::judge(Some(&fence(5, "a")), &leader), FenceVerdict::Admitted);
        assert_eq!(Fence::judge(Some(&fence(5, "b")), &leader), FenceVerdict::Forked);
        assert_eq!(Fence::judge(Some(&fence(6, "a")), &leader), FenceVerdict::Stale);
    }

    #[test]
    fn tokens_are_ordered_by_epoch_first() {
        let old = Token { epoch: Epoch(1), attempt: Attempt(9) };
        let new = Token { epoch: Epoch(2), attempt: Attempt(1) };
        assert!(new > old);
    }
}

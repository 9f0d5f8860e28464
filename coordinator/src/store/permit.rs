//! The proof that a store has made this process the leader.

use shardlift_domain::{Epoch, Fence};

use super::StoreError;

/// The right to write to the store and to hand out work. Only a store makes one, at a take-over, and every commit
/// checks it again: holding it is a claim, not authority. Not `Clone`: share it by reference or `Arc`.
#[derive(Debug, PartialEq, Eq)]
pub struct LeaderPermit {
    fence: Fence,
}

impl LeaderPermit {
    pub(in crate::store) fn new(fence: Fence) -> Self {
        Self { fence }
    }

    /// Epoch and nonce: what shards are shown.
    pub fn fence(&self) -> &Fence {
        &self.fence
    }
}

/// The largest epoch that every database can hold: 2^63 - 1.
const LAST: Epoch = Epoch(i64::MAX.unsigned_abs());

/// The epoch of a take-over: above the present one, and above one that a shard has seen.
pub(in crate::store) fn next_epoch(current: Epoch, above: Option<Epoch>) -> Result<Epoch, StoreError> {
    let highest = above.map_or(current, |above| current.max(above));
    if highest < LAST { Ok(highest.next()) } else { Err(StoreError::NoEpochAbove(highest)) }
}

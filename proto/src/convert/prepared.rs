//! Prepared transactions.

use shardlift_domain::prepared::{Named, PreparedTransaction};
use shardlift_domain::{Attempt, Epoch, Token};

use crate::v1;

/// A prepared transaction to the wire.
pub fn prepared_to_wire(one: PreparedTransaction) -> v1::PreparedTransaction {
    let preparer = |named: Named| v1::Preparer {
        migration: named.migration,
        epoch: named.token.epoch.0,
        attempt: named.token.attempt.0,
    };
    v1::PreparedTransaction {
        gid: one.gid,
        age_ms: one.age_ms,
        owner: one.owner,
        locks: one.locks,
        preparer: one.named.map(preparer),
    }
}

/// A prepared transaction from the wire.
pub fn prepared_from_wire(one: v1::PreparedTransaction) -> PreparedTransaction {
    let named = |preparer: v1::Preparer| Named {
        migration: preparer.migration,
        token: Token { epoch: Epoch(preparer.epoch), attempt: Attempt(preparer.attempt) },
    };
    PreparedTransaction {
        gid: one.gid,
        age_ms: one.age_ms,
        owner: one.owner,
        named: one.preparer.map(named),
        locks: one.locks,
    }
}

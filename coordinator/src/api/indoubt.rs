//! What is in doubt, on the wire.

use shardlift_domain::ids::ShardId;
use shardlift_domain::prepared::PreparedTransaction;
use shardlift_proto::convert::prepared_to_wire;
use shardlift_proto::v1;

use crate::service::{InDoubt, Verdict};

/// The whole answer.
pub(super) fn in_doubt_to_wire(found: InDoubt) -> v1::IndoubtResponse {
    let unknown = |(shard, failure): (ShardId, shardlift_domain::Failure)| v1::UnknownShard {
        shard: shard.into(),
        failure: Some(failure.into()),
    };
    v1::IndoubtResponse {
        transactions: found.transactions.into_iter().map(one).collect(),
        unknown: found.unknown.into_iter().map(unknown).collect(),
    }
}

fn one((shard, transaction, verdict): (ShardId, PreparedTransaction, Verdict)) -> v1::InDoubt {
    use v1::in_doubt::Decision;
    let decision = match verdict {
        Verdict::Foreign => Decision::Unspecified,
        Verdict::Open => Decision::Open,
        Verdict::Commit => Decision::Commit,
        Verdict::Abort => Decision::Abort,
        Verdict::Unknown => Decision::Unknown,
    };
    v1::InDoubt {
        shard: shard.into(),
        transaction: Some(prepared_to_wire(transaction)),
        decision: decision.into(),
    }
}

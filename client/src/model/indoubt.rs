//! Prepared transactions of shards, and what was decided about them.

use shardlift_domain::failure::Failure;
use shardlift_domain::ids::ShardId;
use shardlift_domain::prepared::PreparedTransaction;
use shardlift_proto::convert::{WireError, failure_from_wire, prepared_from_wire};
use shardlift_proto::v1;

/// What is in doubt. Names of others and of tables are free text of servers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct InDoubt {
    /// By shard, the oldest first; with what was decided.
    pub transactions: Vec<(ShardId, PreparedTransaction, &'static str)>,
    /// Shards that could not be asked.
    pub unknown: Vec<(ShardId, Option<Failure>)>,
}

impl InDoubt {
    pub(crate) fn from_wire(found: v1::IndoubtResponse) -> Result<Self, WireError> {
        let one = |one: v1::InDoubt| {
            let decision = word(one.decision());
            let transaction = one.transaction.ok_or(WireError::Missing("transaction"))?;
            Ok((ShardId::new(one.shard)?, prepared_from_wire(transaction), decision))
        };
        let unknown = |unknown: v1::UnknownShard| {
            Ok((ShardId::new(unknown.shard)?, unknown.failure.map(failure_from_wire)))
        };
        Ok(Self {
            transactions: found.transactions.into_iter().map(one).collect::<Result<_, WireError>>()?,
            unknown: found.unknown.into_iter().map(unknown).collect::<Result<_, WireError>>()?,
        })
    }
}

fn word(decision: v1::in_doubt::Decision) -> &'static str {
    use v1::in_doubt::Decision;
    match decision {
        Decision::Unspecified => "foreign",
        Decision::Open => "open",
        Decision::Commit => "commit",
        Decision::Abort => "abort",
        Decision::Unknown => "unknown",
    }
}

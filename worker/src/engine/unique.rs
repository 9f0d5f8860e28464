//! What both engines say of digests that cannot be compared.

use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::ids::ShardId;

use super::EngineError;

/// Not all rows have their digests. Nobody asks before they have, so some were removed.
pub(super) fn incomplete(shard: &ShardId) -> EngineError {
    EngineError::Failed(
        Failure::new(
            ErrorCode::VerifyIncomparable,
            format!("the digests of shard {shard} are not complete any more"),
            "resume: every shard collects anew",
        )
        .on_shard(shard),
    )
}

//! How long shards may take to answer, and what is told when they do not, or not to the question.

use std::time::Duration;

use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::ids::ShardId;
use tokio::time::timeout;

/// How long one answer may take.
pub(super) struct Within {
    pub(super) time: Duration,
    /// What the shard has not done by then, such as `gave no answer`.
    pub(super) lacks: &'static str,
    /// What to do about it.
    pub(super) next: &'static str,
}

impl Within {
    /// The answer of the shard, if it comes in time.
    pub(super) async fn answered<T>(
        &self,
        shard: &ShardId,
        answer: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let answer = timeout(self.time, answer).await.unwrap_or_else(|_| {
            let message = format!("shard {shard} {} within {} s", self.lacks, self.time.as_secs());
            Err(Failure::new(ErrorCode::ShardUnreachable, message, self.next))
        });
        answer.map_err(|failure| failure.on_shard(shard))
    }
}

/// The kind of question was understood, but not what was asked.
pub(super) fn misunderstood(shard: &ShardId) -> Failure {
    Failure::new(
        ErrorCode::Internal,
        format!("a worker of shard {shard} answered another question than it was asked"),
        "use a coordinator and workers of the same release",
    )
}

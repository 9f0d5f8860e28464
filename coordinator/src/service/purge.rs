//! purge: before-images that are given up are removed from the shards, some at a time, by whoever leads. What is to be removed
//! is stored; so wherever this ends, the next leader goes on.

use std::time::Duration;

use futures::StreamExt;
use shardlift_domain::failure::Failure;
use shardlift_domain::ids::{MigrationKey, ShardId};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::Services;
use super::answers::Within;
use crate::orchestrator::Purgeable;

/// How often it is looked what is due, when nothing else happens.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// How long is waited after a look at least: changes come by the hundred.
const PAUSE: Duration = Duration::from_secs(1);
/// Shards that are purged at once: each writes, and none is in a hurry.
const AT_ONCE: usize = 8;
/// How long one answer of a shard may take.
const ANSWER_WITHIN: Within = Within {
    time: Duration::from_secs(60),
    lacks: "gave no answer",
    next: "look whether its server is overloaded; it is asked again",
};

impl Services {
    /// Removes what is given up, and gives up what has been kept for longer than `after`, until the token is cancelled.
    /// `None`: only what a person wants gone. While this coordinator does not lead, nothing happens.
    pub async fn purge(self, after: Option<Duration>, shutdown: CancellationToken) {
        let mut changes = self.orchestrator.changes();
        loop {
            changes.mark_unchanged();
            let Some(whole) = shutdown.run_until_cancelled(self.purge_once(after)).await else { return };
            let news = async {
                // A shard that was out of reach is not asked again with every change.
                tokio::time::sleep(if whole { PAUSE } else { LOOK_EVERY }).await;
                // A closed channel is the end of the orchestrator: the token follows.
                let _ = timeout(LOOK_EVERY, changes.changed()).await;
            };
            if shutdown.run_until_cancelled(news).await.is_none() {
                return;
            }
        }
    }

    /// Whether all that is to be removed is gone, as far as this coordinator is asked.
    async fn purge_once(&self, after: Option<Duration>) -> bool {
        // Another one leads otherwise, and looks.
        let Ok(open) = self.orchestrator.purgeable(after).await else { return true };
        let mut whole = true;
        for open in open {
            let migration = open.migration.clone();
            if let Err(failure) = self.purge_shards(open).await {
                whole = false;
                tracing::info!(%migration, code = %failure.code, message = %failure.message, "before-images are left; it is tried again");
            }
        }
        whole
    }

    /// Several at once; a shard that cannot be reached does not keep the others from being purged.
    async fn purge_shards(&self, open: Purgeable) -> Result<(), Failure> {
        let Purgeable { migration, number, shards } = open;
        let purges: Vec<_> = shards.iter().map(|shard| self.purge_shard(&migration, shard)).collect();
        let mut purges = futures::stream::iter(purges).buffer_unordered(AT_ONCE);
        let mut trouble = None;
        while let Some(purged) = purges.next().await {
            trouble = purged.err().or(trouble);
        }
        match trouble {
            Some(failure) => Err(failure),
            None => self.orchestrator.purged(migration.clone(), number).await,
        }
    }

    async fn purge_shard(&self, migration: &MigrationKey, shard: &ShardId) -> Result<(), Failure> {
        let mut rows = 0;
        loop {
            let some = ANSWER_WITHIN
                .answered(shard, self.orchestrator.purge(shard.clone(), migration.clone()))
                .await?;
            rows += some.rows;
            if !some.more {
                tracing::info!(%migration, %shard, rows, "before-images are removed");
                return Ok(());
            }
        }
    }
}

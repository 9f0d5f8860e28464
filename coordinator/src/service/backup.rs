//! backup: what was saved before it changed: listed, restored beside the original, removed. One shard at a time, and a restore
//! one part at a time, so that nothing grows and whoever goes away stops it.

use std::time::Duration;

use shardlift_domain::backup::{
    Backup, BackupAnswer, BackupAsk, BackupRequest, Kept, RestorePart, Restored, Restoring,
};
use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::ids::{MigrationId, MigrationKey, ShardId, Version};
use tokio::sync::mpsc;

use super::Services;
use super::answers::{Within, misunderstood};
use crate::orchestrator::BackedUp;

/// How long one answer may take: a part is restored in one transaction.
const ANSWER_WITHIN: Within = Within {
    time: Duration::from_secs(150),
    lacks: "gave no answer",
    next: "look whether its server or the object store is overloaded; asked again, it goes on where it was",
};

impl Services {
    /// The backups of one migration, or of all; ends early when whoever listens has gone.
    pub async fn backups(&self, id: Option<MigrationId>, found: &mpsc::Sender<Kept>) -> Result<(), Failure> {
        for BackedUp { migration, shards, .. } in self.orchestrator.backed_up(id).await? {
            for shard in shards {
                let backup = self.look(&migration, &shard).await;
                let kept = Kept { migration: migration.clone(), shard, backup };
                if found.send(kept).await.is_err() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Restores; tells after each part how far it is. Whoever goes away stops it, and whoever asks again goes on with it.
    pub async fn restore(
        &self,
        asked: Restoring,
        told: &mpsc::Sender<(ShardId, Restored)>,
    ) -> Result<(), Failure> {
        let of = self.version_of(asked.id.clone(), asked.version).await?;
        let shards = match &asked.shard {
            Some(shard) if of.shards.contains(shard) => vec![shard.clone()],
            Some(shard) => return Err(nothing(&of.migration, Some(shard))),
            None => of.shards,
        };
        let mut any = false;
        for shard in shards {
            match self.look(&of.migration, &shard).await? {
                Some(_) => any = true,
                None if asked.shard.is_none() => continue,
                None => return Err(nothing(&of.migration, Some(&shard))),
            }
            if !self.restore_shard(&of.migration, &shard, &asked, told).await? {
                return Ok(());
            }
        }
        if any { Ok(()) } else { Err(nothing(&of.migration, None)) }
    }

    /// `false`: nobody listens any more.
    async fn restore_shard(
        &self,
        migration: &MigrationKey,
        shard: &ShardId,
        asked: &Restoring,
        told: &mpsc::Sender<(ShardId, Restored)>,
    ) -> Result<bool, Failure> {
        let (mut part, mut rows) = (0, 0);
        loop {
            let ask = RestorePart { into: asked.into.clone(), part, dry_run: asked.dry_run };
            let answer = self.ask_backup(migration, shard, BackupAsk::Restore(ask)).await?;
            let BackupAnswer::Restored(mut restored) = answer else { return Err(misunderstood(shard)) };
            if asked.dry_run {
                // Nothing keeps the sum but whoever asks.
                rows += restored.rows;
                restored.rows = rows;
            }
            let whole = restored.is_whole();
            if restored.done == part && !whole {
                return Err(misunderstood(shard));
            }
            part = restored.done;
            if told.send((shard.clone(), restored)).await.is_err() {
                return Ok(false);
            }
            if whole {
                return Ok(true);
            }
        }
    }

    /// Removes the backups of a migration that has ended; tells how many files that were, shard by shard.
    pub async fn purge_backups(
        &self,
        id: MigrationId,
        version: Option<Version>,
        told: &mpsc::Sender<(ShardId, u64)>,
    ) -> Result<(), Failure> {
        let of = self.version_of(id, version).await?;
        if !of.ended {
            return Err(Failure::new(
                ErrorCode::RequestIllegal,
                format!("{} has not ended, and its backups may be needed", of.migration),
                "wait until it is completed, or cancel it first",
            )
            .in_migration(&of.migration));
        }
        for shard in of.shards {
            let BackupAnswer::Purged(objects) =
                self.ask_backup(&of.migration, &shard, BackupAsk::Purge).await?
            else {
                return Err(misunderstood(&shard));
            };
            if told.send((shard, objects)).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn version_of(&self, id: MigrationId, version: Option<Version>) -> Result<BackedUp, Failure> {
        let all = self.orchestrator.backed_up(Some(id.clone())).await?;
        let wanted = |of: &BackedUp| version.is_none_or(|version| of.migration.version == version);
        all.into_iter().rfind(wanted).ok_or_else(|| {
            Failure::new(
                ErrorCode::RequestNotFound,
                format!("no such version of {id} saves anything"),
                "`shardlift backup list` shows the backups that there are",
            )
        })
    }

    async fn look(&self, migration: &MigrationKey, shard: &ShardId) -> Result<Option<Backup>, Failure> {
        match self.ask_backup(migration, shard, BackupAsk::Look).await? {
            BackupAnswer::Found(found) => Ok(found),
            _ => Err(misunderstood(shard)),
        }
    }

    async fn ask_backup(
        &self,
        migration: &MigrationKey,
        shard: &ShardId,
        ask: BackupAsk,
    ) -> Result<BackupAnswer, Failure> {
        let request = BackupRequest { migration: migration.clone(), ask };
        let answer = ANSWER_WITHIN.answered(shard, self.orchestrator.backup(shard.clone(), request)).await;
        answer.map_err(|failure| failure.in_migration(migration))
    }
}

fn nothing(migration: &MigrationKey, shard: Option<&ShardId>) -> Failure {
    let place = shard.map(|shard| format!(" on shard {shard}")).unwrap_or_default();
    Failure::new(
        ErrorCode::RequestNotFound,
        format!("there is no complete backup of {migration}{place}"),
        "`shardlift backup list` shows the backups that there are",
    )
    .in_migration(migration)
}

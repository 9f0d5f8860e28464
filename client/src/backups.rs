//! What was saved before it changed: listed, restored, removed.

use shardlift_domain::backup::{Kept, Restored, Restoring};
use shardlift_domain::failure::Failure;
use shardlift_domain::ids::{MigrationId, ShardId, Version};
use shardlift_proto::convert::{
    WireError, backup_from_wire, failure_from_wire, key_from_wire, restored_from_wire,
};
use shardlift_proto::v1;

use crate::client::{Client, lacking};
use crate::connection::Services;
use crate::pieces::Pieces;

impl Client {
    /// The backups of one migration, or of all.
    pub async fn backups(
        &self,
        id: Option<&MigrationId>,
    ) -> Result<Pieces<v1::ListBackupsResponse>, Vec<Failure>> {
        let request = v1::ListBackupsRequest { id: id.map(ToString::to_string) };
        let ask = |mut to: Services, request| async move { to.migrations.list_backups(request).await };
        self.pieces(request, ask).await
    }

    /// Restores beside the originals.
    pub async fn restore(
        &self,
        asked: &Restoring,
    ) -> Result<Pieces<v1::RestoreBackupResponse>, Vec<Failure>> {
        let request = v1::RestoreBackupRequest {
            id: asked.id.to_string(),
            version: asked.version.map_or(0, |version| version.0),
            shard: asked.shard.as_ref().map(ToString::to_string),
            into: asked.into.clone(),
            dry_run: asked.dry_run,
        };
        let ask = |mut to: Services, request| async move { to.migrations.restore_backup(request).await };
        self.pieces(request, ask).await
    }

    /// Removes the backups of a migration.
    pub async fn purge_backups(
        &self,
        id: &MigrationId,
        version: Option<Version>,
    ) -> Result<Pieces<v1::PurgeBackupsResponse>, Vec<Failure>> {
        let version = version.map_or(0, |version| version.0);
        let request = v1::PurgeBackupsRequest { id: id.to_string(), version };
        let ask = |mut to: Services, request| async move { to.migrations.purge_backups(request).await };
        self.pieces(request, ask).await
    }
}

impl Pieces<v1::ListBackupsResponse> {
    /// What the next shard has; `None`: that is all.
    pub async fn next(&mut self) -> Result<Option<Kept>, Vec<Failure>> {
        self.piece().await?.map(kept).transpose().map_err(lacking)
    }
}

impl Pieces<v1::RestoreBackupResponse> {
    /// How far the restore is; `None`: it is done.
    pub async fn next(&mut self) -> Result<Option<(ShardId, Restored)>, Vec<Failure>> {
        let told = |found: v1::RestoreBackupResponse| {
            let restored = found.restored.ok_or(WireError::Missing("restored"))?;
            Ok::<_, WireError>((ShardId::new(found.shard)?, restored_from_wire(restored)))
        };
        self.piece().await?.map(told).transpose().map_err(lacking)
    }
}

impl Pieces<v1::PurgeBackupsResponse> {
    /// How many files of the next shard were removed; `None`: that is all.
    pub async fn next(&mut self) -> Result<Option<(ShardId, u64)>, Vec<Failure>> {
        let told =
            |found: v1::PurgeBackupsResponse| Ok::<_, WireError>((ShardId::new(found.shard)?, found.objects));
        self.piece().await?.map(told).transpose().map_err(lacking)
    }
}

fn kept(found: v1::ListBackupsResponse) -> Result<Kept, WireError> {
    let backup = match found.failure {
        Some(failure) => Err(failure_from_wire(failure)),
        None => Ok(found.backup.map(backup_from_wire).transpose()?),
    };
    Ok(Kept {
        migration: key_from_wire(found.migration.ok_or(WireError::Missing("migration"))?)?,
        shard: ShardId::new(found.shard)?,
        backup,
    })
}

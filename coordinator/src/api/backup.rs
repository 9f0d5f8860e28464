//! Backups for whoever asks: listed, restored, removed, as slow as the reader, and over when the reader goes.

use shardlift_domain::backup::{Kept, Restored, Restoring};
use shardlift_domain::failure::Failure;
use shardlift_domain::ids::{ShardId, Version};
use shardlift_proto::convert::{backup_to_wire, restored_to_wire};
use shardlift_proto::v1;
use tokio::sync::mpsc;

use super::pieces::{Pieces, pieces};
use crate::service::{Services, migration_id, shard_id};

/// Answers that may wait for the reader.
const QUEUE: usize = 8;

/// What there is.
pub(super) fn listing(
    services: Services,
    request: v1::ListBackupsRequest,
) -> Result<Pieces<v1::ListBackupsResponse>, Failure> {
    let id = request.id.as_deref().map(migration_id).transpose()?;
    let (found, queue) = mpsc::channel(QUEUE);
    let work = async move { services.backups(id, &found).await };
    Ok(pieces(queue, kept_to_wire, work))
}

/// Restores.
pub(super) fn restoring(
    services: Services,
    request: v1::RestoreBackupRequest,
) -> Result<Pieces<v1::RestoreBackupResponse>, Failure> {
    let asked = Restoring {
        id: migration_id(&request.id)?,
        version: (request.version > 0).then_some(Version(request.version)),
        shard: request.shard.as_deref().map(shard_id).transpose()?,
        into: request.into,
        dry_run: request.dry_run,
    };
    let (told, queue) = mpsc::channel(QUEUE);
    let work = async move { services.restore(asked, &told).await };
    let wire = |(shard, restored): (ShardId, Restored)| v1::RestoreBackupResponse {
        shard: shard.into(),
        restored: Some(restored_to_wire(restored)),
    };
    Ok(pieces(queue, wire, work))
}

/// Removes.
pub(super) fn purging(
    services: Services,
    request: v1::PurgeBackupsRequest,
) -> Result<Pieces<v1::PurgeBackupsResponse>, Failure> {
    let id = migration_id(&request.id)?;
    let version = (request.version > 0).then_some(Version(request.version));
    let (told, queue) = mpsc::channel(QUEUE);
    let work = async move { services.purge_backups(id, version, &told).await };
    let wire = |(shard, objects): (ShardId, u64)| v1::PurgeBackupsResponse { shard: shard.into(), objects };
    Ok(pieces(queue, wire, work))
}

fn kept_to_wire(kept: Kept) -> v1::ListBackupsResponse {
    let (backup, failure) = match kept.backup {
        Ok(backup) => (backup.map(backup_to_wire), None),
        Err(failure) => (None, Some(failure.into())),
    };
    v1::ListBackupsResponse {
        migration: Some(kept.migration.into()),
        shard: kept.shard.into(),
        backup,
        failure,
    }
}

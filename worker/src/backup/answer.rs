//! What a person asks about the backup of a shard: what there is, to restore a part of it, to remove it.

use shardlift_domain::backup::{BackupAnswer, BackupAsk, RestorePart, Restored};
use shardlift_domain::failure::{ErrorCode, Failure};

use super::manifest::Manifest;
use super::shelf::Shelf;
use super::{Target, review};
use crate::engine::{EngineError, EngineResult, ShardEngine};

/// Answers it.
pub(crate) async fn answer(
    engine: &dyn ShardEngine,
    shelf: &Shelf,
    ask: BackupAsk,
) -> EngineResult<BackupAnswer> {
    match ask {
        BackupAsk::Look => {
            let found = shelf.manifest().await?;
            Ok(BackupAnswer::Found(found.map(|manifest| manifest.told(shelf.place().to_owned()))))
        }
        BackupAsk::Restore(part) => {
            let Some(manifest) = shelf.manifest().await? else { return Err(nothing(shelf)) };
            restore(engine, shelf, &manifest, part).await.map(BackupAnswer::Restored)
        }
        BackupAsk::Purge => shelf.purge().await.map(BackupAnswer::Purged),
    }
}

async fn restore(
    engine: &dyn ShardEngine,
    shelf: &Shelf,
    manifest: &Manifest,
    ask: RestorePart,
) -> EngineResult<Restored> {
    let parts = u32::try_from(manifest.parts.len()).unwrap_or(u32::MAX);
    let rows = review::rows(shelf, manifest, ask.part as usize).await?;
    if ask.dry_run {
        let rows = manifest.parts.get(ask.part as usize).map_or(0, |part| part.rows);
        return Ok(Restored { into: String::new(), done: ask.part + 1, parts, rows });
    }
    let target = Target {
        into: ask.into,
        migration: manifest.migration.clone(),
        token: manifest.token,
        part: ask.part,
        parts,
    };
    engine.restore(&manifest.subject, &target, &rows).await
}

fn nothing(shelf: &Shelf) -> EngineError {
    EngineError::Failed(Failure::new(
        ErrorCode::RequestNotFound,
        format!("there is no complete backup at {}", shelf.place()),
        "`shardlift backup list` shows the backups that there are",
    ))
}

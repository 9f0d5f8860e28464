//! Backups: what there is, restoring, removing.

use shardlift_domain::backup::{Backup, BackupAnswer, BackupAsk, BackupRequest, RestorePart, Restored};
use shardlift_domain::fence::{Attempt, Epoch, Token};
use shardlift_domain::ids::ShardId;

use super::common::key_from_wire;
use super::{WireError, need};
use crate::v1;
use v1::backup_answer::Answer;
use v1::backup_query::Ask;

/// A question to the wire.
pub fn backup_query_to_wire(query: u64, shard: ShardId, request: BackupRequest) -> v1::BackupQuery {
    let ask = match request.ask {
        BackupAsk::Look => Ask::Look(v1::BackupLook {}),
        BackupAsk::Restore(RestorePart { into, part, dry_run }) => {
            Ask::Restore(v1::RestorePart { into, part, dry_run })
        }
        BackupAsk::Purge => Ask::Purge(v1::BackupPurge {}),
    };
    v1::BackupQuery { query, shard: shard.into(), migration: Some(request.migration.into()), ask: Some(ask) }
}

/// A question from the wire.
pub fn backup_query_from_wire(query: v1::BackupQuery) -> Result<BackupRequest, WireError> {
    let ask = match need(query.ask, "ask")? {
        Ask::Look(_) => BackupAsk::Look,
        Ask::Restore(v1::RestorePart { into, part, dry_run }) => {
            BackupAsk::Restore(RestorePart { into, part, dry_run })
        }
        Ask::Purge(_) => BackupAsk::Purge,
    };
    Ok(BackupRequest { migration: key_from_wire(need(query.migration, "migration")?)?, ask })
}

/// An answer to the wire.
pub fn backup_answer_to_wire(answer: BackupAnswer) -> Answer {
    match answer {
        BackupAnswer::Found(found) => Answer::Found(v1::BackupFound { backup: found.map(backup_to_wire) }),
        BackupAnswer::Restored(restored) => Answer::Restored(restored_to_wire(restored)),
        BackupAnswer::Purged(objects) => Answer::Purged(v1::BackupPurged { objects }),
    }
}

/// An answer from the wire.
pub fn backup_answer_from_wire(answer: Answer) -> Result<Result<BackupAnswer, v1::Failure>, WireError> {
    Ok(Ok(match answer {
        Answer::Found(found) => BackupAnswer::Found(found.backup.map(backup_from_wire).transpose()?),
        Answer::Restored(restored) => BackupAnswer::Restored(restored_from_wire(restored)),
        Answer::Purged(purged) => BackupAnswer::Purged(purged.objects),
        Answer::Failure(failure) => return Ok(Err(failure)),
    }))
}

/// A backup to the wire.
pub fn backup_to_wire(backup: Backup) -> v1::Backup {
    v1::Backup {
        engine: v1::Engine::from(backup.engine).into(),
        relation: backup.relation,
        began: backup.began,
        ended: backup.ended,
        epoch: backup.token.epoch.0,
        attempt: backup.token.attempt.0,
        rows: backup.rows,
        bytes: backup.bytes,
        stored: backup.stored,
        parts: backup.parts,
        consistency: backup.consistency,
        place: backup.place,
    }
}

/// A backup from the wire.
pub fn backup_from_wire(backup: v1::Backup) -> Result<Backup, WireError> {
    Ok(Backup {
        engine: backup.engine().try_into()?,
        relation: backup.relation,
        began: backup.began,
        ended: backup.ended,
        token: Token { epoch: Epoch(backup.epoch), attempt: Attempt(backup.attempt) },
        rows: backup.rows,
        bytes: backup.bytes,
        stored: backup.stored,
        parts: backup.parts,
        consistency: backup.consistency,
        place: backup.place,
    })
}

/// How far a restore is, to the wire.
pub fn restored_to_wire(restored: Restored) -> v1::Restored {
    let Restored { into, done, parts, rows } = restored;
    v1::Restored { into, done, parts, rows }
}

/// How far a restore is, from the wire.
pub fn restored_from_wire(restored: v1::Restored) -> Restored {
    let v1::Restored { into, done, parts, rows } = restored;
    Restored { into, done, parts, rows }
}

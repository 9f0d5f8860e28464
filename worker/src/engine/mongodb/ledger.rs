//! Which migrations this shard has had, with which content.

use bson::{Document, doc};
use futures::TryStreamExt;
use shardlift_domain::facts::AppliedEntry;
use shardlift_domain::ids::{MigrationId, MigrationKey, Version};
use shardlift_domain::{Checksum, ErrorCode, Failure};

use super::connection::Books;
use super::error;
use crate::engine::{Direction, EngineError, EngineResult};

/// The name of a migration of this shard, as `_id`.
pub(super) fn name(books: &Books, migration: &MigrationKey) -> Document {
    doc! {
        "db": &books.shard_database,
        "migration": migration.id.to_string(),
        "version": i64::from(migration.version.0),
    }
}

/// The name of one way of a migration, as `_id` in the ledger and among intents: up is the migration's own.
pub(super) fn way(books: &Books, migration: &MigrationKey, direction: Direction) -> Document {
    let mut name = name(books, migration);
    if direction == Direction::Down {
        name.insert("direction", direction.as_str());
    }
    name
}

/// Whether the migration is in the ledger; a refusal if it is there with another content.
pub(super) async fn holds(
    books: &Books,
    migration: &MigrationKey,
    direction: Direction,
    checksum: &Checksum,
) -> EngineResult<bool> {
    let found = books.applied().find_one(doc! { "_id": way(books, migration, direction) }).await;
    let Some(entry) = found.map_err(error::asking("reading the ledger"))? else { return Ok(false) };
    match entry.get_str("checksum") {
        Ok(same) if same == checksum.as_str() => Ok(true),
        _ => Err(EngineError::Failed(conflict(migration))),
    }
}

/// The failure of a shard that had the migration with another content.
pub(super) fn conflict(migration: &MigrationKey) -> Failure {
    Failure::new(
        ErrorCode::LedgerConflict,
        format!("the shard has had {migration} with another content"),
        "give the changed spec an id of its own",
    )
}

/// Writes the entry; doing it again changes nothing.
pub(super) async fn enter(
    books: &Books,
    (migration, direction): (&MigrationKey, Direction),
    checksum: &Checksum,
    epoch: i64,
) -> EngineResult<()> {
    let entry = doc! {
        "$setOnInsert": { "checksum": checksum.as_str(), "direction": direction.as_str(), "epoch": epoch },
        "$currentDate": { "at": true },
    };
    let named = doc! { "_id": way(books, migration, direction) };
    let written = books.applied().update_one(named, entry).upsert(true).await;
    written.map_err(error::asking("writing the ledger"))?;
    Ok(())
}

/// The whole ledger of this shard.
pub(super) async fn entries(books: &Books) -> EngineResult<Vec<AppliedEntry>> {
    let doing = "reading the ledger";
    let found = books.applied().find(doc! { "_id.db": &books.shard_database }).sort(doc! { "_id": 1 }).await;
    let found: Vec<Document> =
        found.map_err(error::asking(doing))?.try_collect().await.map_err(error::asking(doing))?;
    let back = |document: &&Document| document.get_str("direction").ok() == Some(Direction::Down.as_str());
    let taken_back: Vec<AppliedEntry> = found.iter().filter(back).filter_map(entry).collect();
    let up = found.iter().filter(|document| !back(document)).filter_map(entry);
    Ok(up.filter(|up| !taken_back.iter().any(|down| down.migration == up.migration)).collect())
}

fn entry(document: &Document) -> Option<AppliedEntry> {
    let name = document.get_document("_id").ok()?;
    let id = MigrationId::new(name.get_str("migration").ok()?).ok()?;
    let version = Version(u32::try_from(name.get_i64("version").ok()?).ok()?);
    let checksum = Checksum::from_stored(document.get_str("checksum").ok()?);
    Some(AppliedEntry { migration: MigrationKey { id, version }, checksum })
}

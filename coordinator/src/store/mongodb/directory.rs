//! Which shard holds a key, as documents.

use bson::{Document, doc};
use mongodb::{ClientSession, Database};
use shardlift_domain::routing::{Directory, DirectoryEntry};

use super::super::StoreError;
use super::super::error::answered;
use super::super::rows::{from_word, newest};

const COLLECTION: &str = "directory";

/// An entry from its document.
pub(super) fn entry(document: &Document) -> Result<DirectoryEntry, StoreError> {
    let text = |of: &Document, field: &str| match of.get_str(field) {
        Ok(text) => Ok(text.to_owned()),
        Err(error) => Err(StoreError::Unreadable { what: COLLECTION, why: error.to_string() }),
    };
    let id = document
        .get_document("_id")
        .map_err(|error| StoreError::Unreadable { what: COLLECTION, why: error.to_string() })?;
    Ok(DirectoryEntry {
        cluster: from_word("directory.cluster", &text(id, "cluster")?)?,
        key: text(id, "key")?,
        shard: Some(from_word("directory.shard", &text(document, "shard")?)?),
    })
}

/// All entries of all directories.
pub(super) fn directory(documents: &[Document]) -> Result<Directory, StoreError> {
    let mut directory = Directory::default();
    for document in documents {
        directory.apply(&entry(document)?);
    }
    Ok(directory)
}

/// Sets or removes entries, in two commands.
pub(super) async fn write(
    database: &Database,
    session: &mut ClientSession,
    entries: &[DirectoryEntry],
) -> Result<(), StoreError> {
    if entries.is_empty() {
        return Ok(());
    }
    let all = database.collection::<Document>(COLLECTION);
    let newest = newest(entries);
    let id = |cluster: &str, key: &str| doc! { "cluster": cluster, "key": key };
    let ids: Vec<_> = newest.keys().map(|(cluster, key)| id(cluster, key)).collect();
    let clear = all.delete_many(doc! { "_id": { "$in": ids } }).session(&mut *session);
    answered("clear directory entries", clear.into_future()).await?;
    let set: Vec<_> = newest
        .iter()
        .filter_map(|((cluster, key), shard)| Some(doc! { "_id": id(cluster, key), "shard": (*shard)? }))
        .collect();
    if set.is_empty() {
        return Ok(());
    }
    let write = all.insert_many(set).session(session);
    answered("write directory entries", write.into_future()).await.map(drop)
}

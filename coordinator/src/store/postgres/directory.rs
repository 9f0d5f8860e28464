//! Which shard holds a key, as rows.

use shardlift_domain::routing::{Directory, DirectoryEntry};
use sqlx::PgConnection;

use super::super::StoreError;
use super::super::error::answered;
use super::super::rows::{from_word, newest};
use super::read::next;

/// All entries of all directories.
pub(super) async fn read(connection: &mut PgConnection) -> Result<Directory, StoreError> {
    let mut directory = Directory::default();
    let select = "SELECT cluster, key, shard FROM shardlift_coordinator.directory";
    let mut rows = sqlx::query_as::<_, (String, String, String)>(select).fetch(connection);
    while let Some((cluster, key, shard)) = next("read the directory", &mut rows).await? {
        let (cluster, shard) =
            (from_word("directory.cluster", &cluster)?, from_word("directory.shard", &shard)?);
        directory.apply(&DirectoryEntry { cluster, key, shard: Some(shard) });
    }
    Ok(directory)
}

/// Sets or removes entries, in two statements.
pub(super) async fn write(
    connection: &mut PgConnection,
    entries: &[DirectoryEntry],
) -> Result<(), StoreError> {
    if entries.is_empty() {
        return Ok(());
    }
    let newest = newest(entries);
    let (clusters, keys): (Vec<&str>, Vec<&str>) = newest.keys().copied().unzip();
    let clear = sqlx::query(
        "DELETE FROM shardlift_coordinator.directory d USING unnest($1::text[], $2::text[]) AS u (cluster, key) \
         WHERE d.cluster = u.cluster AND d.key = u.key",
    )
    .bind(clusters)
    .bind(keys)
    .execute(&mut *connection);
    answered("clear directory entries", clear).await?;
    let set: Vec<_> = newest.iter().filter_map(|((c, k), shard)| Some((*c, *k, (*shard)?))).collect();
    let write = sqlx::query(
        "INSERT INTO shardlift_coordinator.directory (cluster, key, shard) \
         SELECT * FROM unnest($1::text[], $2::text[], $3::text[])",
    )
    .bind(set.iter().map(|entry| entry.0).collect::<Vec<_>>())
    .bind(set.iter().map(|entry| entry.1).collect::<Vec<_>>())
    .bind(set.iter().map(|entry| entry.2).collect::<Vec<_>>())
    .execute(connection);
    answered("write directory entries", write).await.map(drop)
}

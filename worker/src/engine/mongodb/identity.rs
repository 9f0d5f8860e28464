//! Whether the database is the shard that it is said to be. First sight writes the identity; every later one compares.

use bson::doc;
use mongodb::IndexModel;
use shardlift_domain::{ErrorCode, Failure};

use super::codes;
use super::connection::{Books, Connection, OWN_COLLECTIONS};
use super::error::{self, Cause};
use super::fence;
use crate::engine::{EngineError, EngineResult};

pub(super) async fn identify(connection: &Connection, cluster_uuid: &str) -> EngineResult<()> {
    let books = connection.books().await?;
    create_collections(&books).await?;
    let name = &connection.database;
    insert_once(
        &books.identity(),
        doc! { "_id": name, "cluster_uuid": cluster_uuid, "shard": connection.shard.to_string() },
    )
    .await?;
    insert_once(&books.fence(), fence::none(name)).await?;
    let identity = books.identity().find_one(doc! { "_id": name }).await;
    let identity = identity.map_err(error::asking("reading the shard's identity"))?.unwrap_or_default();
    let uuid = identity.get_str("cluster_uuid").unwrap_or_default();
    let shard = identity.get_str("shard").unwrap_or_default();
    if shard != connection.shard.to_string() {
        return Err(wrong(connection, &format!("says that it is shard {shard} (installation {uuid})")));
    }
    if uuid != cluster_uuid {
        return Err(wrong(connection, &format!("belongs to another installation ({uuid})")));
    }
    Ok(())
}

fn wrong(connection: &Connection, why: &str) -> EngineError {
    EngineError::Failed(
        Failure::new(
            ErrorCode::ShardWrongIdentity,
            format!(
                "the database {} behind the dsn of shard {} {why}",
                connection.database, connection.shard
            ),
            "mend the dsn in the worker's configuration; nothing was changed",
        )
        .on_shard(&connection.shard),
    )
}

/// Up front: a transaction that makes a collection would conflict with others that do.
async fn create_collections(books: &Books) -> EngineResult<()> {
    let doing = "creating Shardlift's own collections";
    let there = books.database.list_collection_names().await.map_err(error::asking(doing))?;
    for name in OWN_COLLECTIONS.into_iter().filter(|name| !there.iter().any(|have| have == name)) {
        if let Err(error) = books.database.create_collection(name).await {
            let cause = Cause::from(&error);
            // Another worker was faster.
            if cause.code != codes::NAMESPACE_EXISTS {
                return Err(error::refusal(doing, &cause));
            }
        }
    }
    let ranges =
        IndexModel::builder().keys(doc! { "db": 1, "migration": 1, "version": 1, "range": 1 }).build();
    books.checkpoint().create_index(ranges).await.map_err(error::asking(doing))?;
    let aside =
        IndexModel::builder().keys(doc! { "db": 1, "migration": 1, "version": 1, "shown": 1 }).build();
    books.quarantine().create_index(aside).await.map_err(error::asking(doing))?;
    let images = doc! { "db": 1, "migration": 1, "version": 1, "range": 1, "batch": 1, "part": 1 };
    let images = IndexModel::builder().keys(images).build();
    books.undo().create_index(images).await.map_err(error::asking(doing))?;
    let conflicts = doc! { "db": 1, "migration": 1, "version": 1, "number": 1 };
    let conflicts = IndexModel::builder().keys(conflicts).build();
    books.undo_conflict().create_index(conflicts).await.map_err(error::asking(doing))?;
    let differing =
        doc! { "db": 1, "migration": 1, "version": 1, "range": 1, "batch": 1, "part": 1, "row": 1 };
    let differing = IndexModel::builder().keys(differing).build();
    books.difference().create_index(differing).await.map_err(error::asking(doing))?;
    let repaired = IndexModel::builder().keys(doc! { "db": 1, "migration": 1, "version": 1 }).build();
    books.repaired().create_index(repaired).await.map_err(error::asking(doing))?;
    Ok(())
}

/// Inserts a document unless one with its `_id` is there.
async fn insert_once(
    collection: &mongodb::Collection<bson::Document>,
    document: bson::Document,
) -> EngineResult<()> {
    let doing = "writing the shard's identity";
    let found = collection.find_one(doc! { "_id": document.get("_id") }).await;
    if found.map_err(error::asking(doing))?.is_some() {
        return Ok(());
    }
    match collection.insert_one(document).await {
        Ok(_) => Ok(()),
        Err(error) if Cause::from(&error).code == codes::DUPLICATE_KEY => Ok(()),
        Err(error) => Err(error::asking(doing)(error)),
    }
}

//! Removing the before-images of a migration that is never to be rolled back: some at a time, until none is left.

use bson::{Bson, Document, doc};
use futures::TryStreamExt;
use shardlift_domain::facts::Purged;
use shardlift_domain::fence::Fence;
use shardlift_domain::ids::MigrationKey;

use super::connection::{Books, Connection};
use super::{error, fence, ledger};
use crate::engine::EngineResult;

/// Documents of the log at a time.
const SOME: i64 = 20;
/// Removes some of them, once the shard's fence has admitted the leader.
///
/// There is no transaction, which would hold the fence for as long as the server keeps one whose worker has died: what is
/// given up is so for ever, whoever removes it, and each document of the log goes by itself.
pub(super) async fn purge(
    connection: &Connection,
    leader: &Fence,
    migration: &MigrationKey,
) -> EngineResult<Purged> {
    let books = connection.books().await?;
    fence::admit(&books, leader).await?;
    let next = next(&books, migration).await?;
    if next.is_empty() {
        return forget(&books, migration).await;
    }
    let rows = next.iter().map(|(_, rows)| rows).sum();
    let names: Vec<Bson> = next.into_iter().map(|(name, _)| name).collect();
    fail::fail_point!("mg-purge-before-commit", |_| std::process::abort());
    let gone = books.undo().delete_many(doc! { "_id": { "$in": names } }).await;
    gone.map_err(error::asking("removing before-images"))?;
    Ok(Purged { rows, more: true })
}

/// Removes what is kept beside them: it holds old values too, or is of no use without them.
async fn forget(books: &Books, migration: &MigrationKey) -> EngineResult<Purged> {
    let doing = "removing what verification has kept";
    let name = ledger::name(books, migration);
    for beside in [books.repaired(), books.difference()] {
        beside.delete_many(name.clone()).await.map_err(error::asking(doing))?;
    }
    let of_it = name.into_iter().map(|(field, value)| (format!("_id.{field}"), value));
    let of_it: Document = of_it.collect();
    books.verifying().delete_many(of_it).await.map_err(error::asking(doing))?;
    Ok(Purged::default())
}

/// The names of the next documents of the log, and how many rows each has.
async fn next(books: &Books, migration: &MigrationKey) -> EngineResult<Vec<(Bson, u64)>> {
    let doing = "looking for before-images";
    let stages = [
        doc! { "$match": ledger::name(books, migration) },
        doc! { "$sort": { "range": 1, "batch": 1, "part": 1 } },
        doc! { "$limit": SOME },
        doc! { "$project": { "rows": { "$size": "$rows" } } },
    ];
    let found = books.undo().aggregate(stages).await.map_err(error::asking(doing))?;
    let found: Vec<Document> = found.try_collect().await.map_err(error::asking(doing))?;
    let entry = |document: Document| {
        let rows = document.get_i32("rows").ok().and_then(|rows| u64::try_from(rows).ok());
        Some((document.get("_id")?.clone(), rows.unwrap_or_default()))
    };
    Ok(found.into_iter().filter_map(entry).collect())
}

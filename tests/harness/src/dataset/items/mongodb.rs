//! The collection `items` of a MongoDB shard: load it, and check it after a migration.

use anyhow::Context;
use bson::{Bson, Document, doc};
use futures::TryStreamExt;
use mongodb::{Client, Collection};

use super::super::NAMED_KEYS;
use super::compare::{self, Rows};
use super::{Form, IdKind, id_from_text, id_to_text, payload};
use crate::writer::WriterReport;

/// Documents per insert.
const BATCH: u64 = 5_000;

/// Fills the collection `items` of the database that `dsn` names with `documents` documents whose `_id` is
/// of `kind`: `{_id, payload, applied: 0, migrated: false, origin: "loader"}`.
///
/// # Errors
/// When the shard cannot be reached, the DSN names no database, or the documents are there already.
pub async fn load_items_mongodb(dsn: &str, documents: u64, kind: IdKind) -> anyhow::Result<()> {
    let items = collection(dsn).await?;
    let mut number = 0;
    while number < documents {
        let batch = number..documents.min(number + BATCH);
        number = batch.end;
        let batch: Vec<Document> = batch
            .map(|number| {
                doc! {
                    "_id": kind.loaded(number), "payload": payload(number), "applied": 0, "migrated": false,
                    "origin": "loader",
                }
            })
            .collect();
        items.insert_many(batch).ordered(false).await.context("loading items of the MongoDB shard")?;
    }
    Ok(())
}

async fn collection(dsn: &str) -> anyhow::Result<Collection<Document>> {
    let client = Client::with_uri_str(dsn).await.context("connecting to the MongoDB shard")?;
    let database = client.default_database().context("the MongoDB DSN names no database")?;
    Ok(database.collection("items"))
}

/// Every violation of the promise of `form` (I1), one line each; empty when every document was changed
/// exactly once.
///
/// # Errors
/// When the shard cannot be read.
pub async fn items_violations_mongodb(dsn: &str, form: Form) -> anyhow::Result<Vec<String>> {
    let rules = match form {
        Form::WithWhere => vec![
            ("not migrated", doc! { "migrated": { "$ne": true } }),
            ("not changed exactly once", doc! { "applied": { "$ne": 1 } }),
        ],
        Form::WithoutWhere => vec![
            (
                "present throughout, not changed exactly once",
                doc! { "origin": "loader", "applied": { "$ne": 1 } },
            ),
            ("inserted during the run, not changed at most once", doc! { "applied": { "$nin": [0, 1] } }),
            (
                "migrated does not follow applied",
                doc! { "$or": [
                    { "applied": 1, "migrated": { "$ne": true } },
                { "applied": 0, "migrated": { "$ne": false } },
                ] },
            ),
        ],
    };
    let items = collection(dsn).await?;
    let mut violations = Vec::new();
    for (what, broken) in rules {
        let count = items.count_documents(broken.clone()).await.context("checking items")?;
        if count > 0 {
            let named = items.find(broken).limit(NAMED_KEYS as i64).await.context("checking items")?;
            let named: Vec<Document> = named.try_collect().await.context("checking items")?;
            let named: Vec<String> = named.iter().map(Document::to_string).collect();
            violations.push(format!("items: {what}: {count} document(s), such as {}", named.join(" ")));
        }
    }
    Ok(violations)
}

/// Every document whose payload is not what the loader and then the application (`report`, if a writer ran)
/// last wrote (I2, I8), one line for each kind of difference. `documents` and `kind` are those the
/// collection was loaded with.
///
/// # Errors
/// When the shard cannot be read.
pub async fn items_lost_writes_mongodb(
    dsn: &str,
    documents: u64,
    kind: IdKind,
    report: Option<&WriterReport>,
) -> anyhow::Result<Vec<String>> {
    let mut found = Rows::new();
    let mut cursor = collection(dsn).await?.find(doc! {}).batch_size(5_000).await.context("reading items")?;
    while let Some(document) = cursor.try_next().await.context("reading items")? {
        let id = document.get("_id").cloned().unwrap_or(Bson::Undefined);
        let payload = document.get("payload").and_then(Bson::as_str).unwrap_or("(no string)");
        found.insert(id_to_text(&id)?, payload.to_owned());
    }
    let mut loaded = Rows::new();
    for number in 0..documents {
        loaded.insert(id_to_text(&kind.loaded(number))?, payload(number));
    }
    let model = report.map(|report| report.model.clone()).unwrap_or_default();
    let mut told = compare::differences(loaded, &model, &found, label);
    told.extend(report.into_iter().flat_map(|report| report.surprises.iter().cloned()));
    Ok(told)
}

fn label(key: &str) -> String {
    id_from_text(key).map_or_else(|_| key.to_owned(), |id| id.to_string())
}

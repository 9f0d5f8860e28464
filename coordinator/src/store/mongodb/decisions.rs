//! What was decided about prepared transactions, as documents.

use std::collections::BTreeMap;

use bson::{Bson, Document, doc};
use mongodb::{ClientSession, Database};
use shardlift_domain::Epoch;
use shardlift_domain::migration::{Decision, Migration};

use super::super::StoreError;
use super::super::error::answered;
use super::super::rows::stored_number;
use super::documents::{bson, from_bson, name_of};

const COLLECTION: &str = "decisions";

/// The decision of a migration as it is now, or that there is none.
pub(super) async fn write(
    database: &Database,
    session: &mut ClientSession,
    migration: &Migration,
    epoch: Epoch,
    now: &str,
) -> Result<(), StoreError> {
    if !migration.atomic {
        return Ok(());
    }
    let all = database.collection::<Document>(COLLECTION);
    let id = doc! { "_id": name_of(&migration.key) };
    let Some(decided) = &migration.decision else {
        let clear = all.delete_one(id).session(session);
        return answered("clear a decision", clear.into_future()).await.map(drop);
    };
    let content = bson("decisions.content", decided)?;
    // A pipeline, so that the same decision again keeps who decided it, and when.
    let same = doc! { "$eq": ["$content", { "$literal": content.clone() }] };
    let kept = |field: &str, value: Bson| {
        let field = format!("${field}");
        doc! { "$cond": [same.clone(), field, { "$literal": value }] }
    };
    let update = vec![doc! { "$set": {
        "decision": { "$literal": decided.as_str() },
        "epoch": kept("epoch", Bson::Int64(stored_number(epoch.0))),
        "decided_at": kept("decided_at", Bson::String(now.to_owned())),
        "content": { "$literal": content },
    } }];
    let write = all.update_one(id, update).upsert(true).session(session);
    answered("write a decision", write.into_future()).await.map(drop)
}

/// All of them, by the names of their migrations.
pub(super) fn decisions(documents: Vec<Document>) -> Result<BTreeMap<String, Decision>, StoreError> {
    let unreadable = |why: String| StoreError::Unreadable { what: COLLECTION, why };
    documents
        .into_iter()
        .map(|mut document| {
            let name = document.get_str("_id").map_err(|error| unreadable(error.to_string()))?.to_owned();
            let content = document.remove("content").unwrap_or(Bson::Null);
            Ok((name, from_bson("decisions.content", content)?))
        })
        .collect()
}

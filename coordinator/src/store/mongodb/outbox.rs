//! What sinks were told, and what was heard, as documents.

use bson::{Bson, Document, doc};
use mongodb::{ClientSession, Database};
use shardlift_domain::MigrationId;
use shardlift_runtime::clock;

use super::super::error::answered;
use super::super::rows::{counted, stored_number, time_text};
use super::super::{Change, Heard, HistoryEvent, Position, Recorded, StoreError};
use super::client::COMMAND;
use super::documents::{self, place_of};

const OUTBOX: &str = "outbox";
const HEARD: &str = "heard";

/// Writes both; the caller's transaction holds the fence document.
pub(super) async fn write(
    database: &Database,
    session: &mut ClientSession,
    change: &Change,
) -> Result<(), StoreError> {
    if let Some(relayed) = &change.relayed {
        let sinks = database.collection::<Document>(OUTBOX);
        let set = doc! {
            "$max": { "position": stored_number(relayed.position) },
            "$set": { "told_at": time_text(clock::now()) },
        };
        let write = sinks.update_one(doc! { "_id": &relayed.sink }, set).upsert(true).session(&mut *session);
        answered("write what a sink was told", write).await?;
    }
    let Some(heard) = &change.heard else { return Ok(()) };
    let all = database.collection::<Document>(HEARD);
    let old = doc! { "heard_at": { "$lt": time_text(heard.horizon()) } };
    answered("forget old requests", all.delete_many(old).session(&mut *session)).await?;
    // Looked up first, since a duplicate key would end the transaction; commits come one after the other.
    let id = id_of(&heard.source, &heard.id);
    let known = all.find_one(doc! { "_id": id.clone() }).session(&mut *session);
    if answered("look for a request", known).await?.is_some() {
        return Err(StoreError::already_heard(heard));
    }
    let Heard { at, .. } = heard;
    let write = all.insert_one(doc! { "_id": id, "heard_at": time_text(*at) }).session(session);
    answered("write that a request was heard", write).await.map(drop)
}

fn id_of(source: &str, id: &str) -> Bson {
    Bson::Document(doc! { "source": source, "id": id })
}

/// Where a sink stands.
pub(super) async fn position(database: &Database, sink: &str) -> Result<Position, StoreError> {
    let doing = "read what a sink was told";
    let sinks = database.collection::<Document>(OUTBOX);
    let found = answered(doing, sinks.find_one(doc! { "_id": sink }).max_time(COMMAND)).await?;
    let told = found.map(|document| {
        let position = document.get_i64("position");
        position.map(counted).map_err(|error| StoreError::Unreadable { what: OUTBOX, why: error.to_string() })
    });
    let events = database.collection::<Document>("migration_events");
    let newest = events.find_one(doc! {}).sort(doc! { "_id": -1 }).max_time(COMMAND);
    let newest = answered(doing, newest).await?.map(documents::entry).transpose()?;
    Ok(Position { told: told.transpose()?, newest: newest.map_or(0, |recorded| recorded.sequence) })
}

/// Entries of these kinds behind a sequence.
pub(super) async fn told(
    database: &Database,
    kinds: &[HistoryEvent],
    after: u64,
    limit: u32,
) -> Result<Vec<Recorded>, StoreError> {
    let doing = "read what is to be told";
    if limit == 0 {
        // A limit of 0 would be none.
        return Ok(Vec::new());
    }
    let events = database.collection::<Document>("migration_events");
    let wanted = doc! { "_id": { "$gt": place_of(after) }, "event_type": { "$in": words(kinds) } };
    let find = events.find(wanted).sort(doc! { "_id": 1 }).limit(limit.into()).max_time(COMMAND);
    let mut cursor = answered(doing, find).await?;
    let mut found = Vec::new();
    while answered(doing, cursor.advance()).await? {
        let event = cursor.deserialize_current().map_err(StoreError::unavailable(doing))?;
        found.push(documents::entry(event)?);
    }
    Ok(found)
}

/// How many entries of these kinds a migration has.
pub(super) async fn count(
    database: &Database,
    id: &MigrationId,
    kinds: &[HistoryEvent],
    up_to: u64,
) -> Result<u64, StoreError> {
    let events = database.collection::<Document>("migration_events");
    let mine = doc! {
        "name": id.as_str(),
        "_id": { "$lte": place_of(up_to) },
        "event_type": { "$in": words(kinds) },
    };
    answered("count what is told", events.count_documents(mine).max_time(COMMAND)).await
}

/// Whether a request was carried out.
pub(super) async fn has_heard(database: &Database, source: &str, id: &str) -> Result<bool, StoreError> {
    let all = database.collection::<Document>(HEARD);
    let find = all.find_one(doc! { "_id": id_of(source, id) }).max_time(COMMAND);
    Ok(answered("look for a request", find).await?.is_some())
}

fn words(kinds: &[HistoryEvent]) -> Vec<&'static str> {
    kinds.iter().map(|kind| kind.as_str()).collect()
}

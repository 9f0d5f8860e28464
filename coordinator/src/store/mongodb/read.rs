//! Reading: everything as of one moment, or the history of one id.

use std::collections::BTreeMap;

use bson::{Bson, Document, doc};
use mongodb::{ClientSession, Database};
use shardlift_domain::topology::Topology;
use shardlift_domain::{Failure, MigrationId};

use super::super::error::answered;
use super::super::rows::{from_word, time_text};
use super::super::{Link, Recorded, Snapshot, StoreError, Wanted};
use super::client::{COMMAND, begin};
use super::decisions::decisions;
use super::directory;
use super::documents::{self, from_bson, name_of};

/// Everything, in one transaction that only reads. It may take its time, but not between two answers.
pub(super) async fn snapshot(database: &Database) -> Result<Snapshot, StoreError> {
    let mut session = answered("open a session", database.client().start_session()).await?;
    begin(&mut session).await?;
    let mut snapshot = Snapshot::default();
    for mut document in all(database, &mut session, "topology", doc! {}).await? {
        let content = document.remove("content").unwrap_or(Bson::Null);
        snapshot.topology = from_bson::<Topology>("topology", content)?;
    }
    snapshot.directory = directory::directory(&all(database, &mut session, "directory", doc! {}).await?)?;
    for state in all(database, &mut session, "migration_state", doc! { "seq": 1 }).await? {
        snapshot.migrations.push(documents::stored(state)?);
    }
    for document in all(database, &mut session, "migration_locks", doc! {}).await? {
        let (key, resource) = documents::lock(&document)?;
        snapshot.locks.entry(key).or_default().insert(resource);
    }
    let mut failures = BTreeMap::new();
    for document in all(database, &mut session, "migration_failures", doc! {}).await? {
        let (key, failure) = failure(document)?;
        failures.insert(key, failure);
    }
    let mut decisions = decisions(all(database, &mut session, "decisions", doc! {}).await?)?;
    answered("end reading", session.commit_transaction()).await?;
    for stored in &mut snapshot.migrations {
        let name = name_of(&stored.migration.key);
        stored.migration.decision = decisions.remove(&name);
        for (shard, part) in &mut stored.migration.shards {
            part.failure = failures.remove(&(name.clone(), shard.clone()));
        }
    }
    Ok(snapshot)
}

type FailureOf = ((String, shardlift_domain::ShardId), Failure);

fn failure(mut document: Document) -> Result<FailureOf, StoreError> {
    let what = "migration_failures";
    let failure = from_bson(what, document.remove("failure").unwrap_or(Bson::Null))?;
    let text = |field| match document.get_str(field) {
        Ok(text) => Ok(text.to_owned()),
        Err(error) => Err(StoreError::Unreadable { what, why: error.to_string() }),
    };
    Ok(((text("migration")?, from_word(what, &text("shard")?)?), failure))
}

async fn all(
    database: &Database,
    session: &mut ClientSession,
    name: &'static str,
    order: Document,
) -> Result<Vec<Document>, StoreError> {
    let doing = "load";
    let collection = database.collection::<Document>(name);
    let find = collection.find(doc! {}).sort(order).session(&mut *session);
    let mut cursor = answered(doing, find.into_future()).await?;
    let mut found = Vec::new();
    while answered(doing, cursor.advance(&mut *session)).await? {
        found.push(cursor.deserialize_current().map_err(StoreError::unavailable(doing))?);
    }
    Ok(found)
}

/// Entries of all versions of one id, oldest first: the first ones behind a sequence, or the newest ones.
pub(super) async fn events(
    database: &Database,
    id: &MigrationId,
    after: Option<u64>,
    limit: u32,
) -> Result<Vec<Recorded>, StoreError> {
    let doing = "read the history";
    if limit == 0 {
        // A limit of 0 would be none.
        return Ok(Vec::new());
    }
    let events = database.collection::<Document>("migration_events");
    let (wanted, order) = match after {
        Some(after) => {
            (doc! { "name": id.as_str(), "_id": { "$gt": documents::place_of(after) } }, doc! { "_id": 1 })
        }
        None => (doc! { "name": id.as_str() }, doc! { "_id": -1 }),
    };
    let find = events.find(wanted).sort(order).limit(limit.into()).max_time(COMMAND);
    let mut cursor = answered(doing, find).await?;
    let mut found = Vec::new();
    while answered(doing, cursor.advance()).await? {
        let event = cursor.deserialize_current().map_err(StoreError::unavailable(doing))?;
        found.push(documents::entry(event)?);
    }
    if after.is_none() {
        found.reverse();
    }
    Ok(found)
}

/// Entries as they stand, of whichever migration.
pub(super) async fn links(database: &Database, wanted: &Wanted) -> Result<Vec<Link>, StoreError> {
    let doing = "read the history";
    if wanted.limit == 0 {
        return Ok(Vec::new());
    }
    let mut filter = Document::new();
    if let Some(after) = wanted.after {
        filter.insert("_id", doc! { "$gt": documents::place_of(after) });
    }
    if let Some(id) = &wanted.id {
        filter.insert("name", id.as_str());
    }
    if let Some(actor) = &wanted.actor {
        filter.insert("actor", actor);
    }
    if let Some(event) = wanted.event {
        filter.insert("event_type", event.as_str());
    }
    if let Some(since) = wanted.since {
        // The texts sort like the times.
        filter.insert("created_at", doc! { "$gte": time_text(since) });
    }
    let order = if wanted.after.is_some() { 1 } else { -1 };
    let events = database.collection::<Document>("migration_events");
    let find = events.find(filter).sort(doc! { "_id": order }).limit(wanted.limit.into()).max_time(COMMAND);
    let mut cursor = answered(doing, find).await?;
    let mut found = Vec::new();
    while answered(doing, cursor.advance()).await? {
        found.push(documents::link(cursor.deserialize_current().map_err(StoreError::unavailable(doing))?)?);
    }
    if wanted.after.is_none() {
        found.reverse();
    }
    Ok(found)
}

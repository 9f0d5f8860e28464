//! Documents back into a collection.

use bson::{Document, RawDocumentBuf, doc};
use futures::TryStreamExt;
use mongodb::{ClientSession, Database};
use shardlift_domain::backup::Restored;

use super::{PATIENCE, PAUSE};
use crate::backup::format::RowsDigest;
use crate::backup::{Subject, Target, failed, in_the_way};
use crate::engine::mongodb::connection::{Connection, OWN_DATABASE};
use crate::engine::mongodb::error;
use crate::engine::mongodb::fence::number;
use crate::engine::mongodb::transaction::{abandon, answered, begin, commit, session};
use crate::engine::{EngineError, EngineResult};

/// What says how far restores into a database are.
const NOTES: &str = "shardlift_restore";
/// Longest name of a database.
const LONGEST: usize = 63;

/// Inserts documents and reads them back, in a transaction that is rolled back: whatever happens to it, the server keeps
/// nothing of it.
pub(in super::super) async fn try_out(
    connection: &Connection,
    subject: &Subject,
    rows: &[u8],
) -> EngineResult<RowsDigest> {
    let mut failures = 0;
    loop {
        let mut session = session(connection).await?;
        let tried = answered(tried(connection, &mut session, subject, rows)).await;
        abandon(&mut session).await;
        match tried {
            Err(EngineError::Connection(_) | EngineError::TooSlow(_) | EngineError::Contended(_))
                if failures < PATIENCE =>
            {
                failures += 1;
                tokio::time::sleep(PAUSE).await;
            }
            tried => return tried,
        }
    }
}

async fn tried(
    connection: &Connection,
    session: &mut ClientSession,
    subject: &Subject,
    rows: &[u8],
) -> EngineResult<RowsDigest> {
    let doing = "trying to restore documents";
    begin(session).await?;
    // A name that nobody else has: the collection exists inside of this transaction only.
    let name = format!("scratch_{}", bson::oid::ObjectId::new().to_hex());
    let scratch = connection.books().await?.database.collection::<RawDocumentBuf>(&name);
    let documents = documents(subject, rows)?;
    if !documents.is_empty() {
        scratch.insert_many(documents).session(&mut *session).await.map_err(error::asking(doing))?;
    }
    let mut digest = RowsDigest::default();
    let mut found = scratch.find(doc! {}).session(&mut *session).await.map_err(error::asking(doing))?;
    let mut found = found.stream(session);
    while let Some(document) = found.try_next().await.map_err(error::asking(doing))? {
        digest.add(document.as_bytes());
    }
    Ok(digest)
}

/// The documents of a part.
fn documents(subject: &Subject, rows: &[u8]) -> EngineResult<Vec<RawDocumentBuf>> {
    let torn =
        |why: String| failed(format!("a part holds no documents: {why}"), "look after the object store");
    let rows = subject.format.split(rows).map_err(|error| torn(error.to_string()))?;
    let document =
        |row: &[u8]| RawDocumentBuf::from_bytes(row.to_vec()).map_err(|error| torn(error.to_string()));
    rows.into_iter().map(document).collect()
}

/// Restores one part. A document of `shardlift_restore` says how far the restore is; it is written in the transaction that
/// inserts the part's documents, and gone with the last one.
pub(in super::super) async fn restore(
    connection: &Connection,
    subject: &Subject,
    target: &Target,
    rows: &[u8],
) -> EngineResult<Restored> {
    let place = target.place();
    let reserved = [OWN_DATABASE, "admin", "config", "local", ""].contains(&place.as_str());
    if reserved || place.len() > LONGEST || place.contains(['/', '\\', '.', ' ', '"', '$', '\0']) {
        return Err(in_the_way(format!("{place:?} is no database that documents may be restored to")));
    }
    let database = connection.client().await?.database(&place);
    let into = format!("{place}.{}", subject.name);
    let (done, before) = begun(&database, subject, target, &into).await?;
    if done != target.part {
        return Ok(Restored { into, done, parts: target.parts, rows: before });
    }
    let documents = documents(subject, rows)?;
    let after = (done + 1, before + documents.len() as u64);
    let mut session = session(connection).await?;
    let part = answered(insert(&database, &mut session, subject, target, (documents, after))).await;
    if part.is_err() {
        abandon(&mut session).await;
    }
    part?;
    if after.0 >= target.parts {
        clear(&database).await?;
    }
    Ok(Restored { into, done: after.0, parts: target.parts, rows: after.1 })
}

/// How many parts and documents are there; makes the collection when it is none.
async fn begun(
    database: &Database,
    subject: &Subject,
    target: &Target,
    into: &str,
) -> EngineResult<(u32, u64)> {
    let doing = "beginning a restore";
    let notes = database.collection::<Document>(NOTES);
    let known = notes.find_one(doc! { "_id": &subject.name }).await.map_err(error::asking(doing))?;
    let filter = doc! { "name": &subject.name };
    let there = database.list_collection_names().filter(filter).await.map_err(error::asking(doing))?;
    let done = match &known {
        Some(known) if known.get_str("backup").is_ok_and(|backup| backup == target.backup()) => known,
        Some(_) => return Err(in_the_way(format!("{into} is half of another backup"))),
        None if there.is_empty() => {
            let note =
                doc! { "_id": &subject.name, "backup": target.backup(), "parts": 0_i64, "rows": 0_i64 };
            // First the note: a collection without one is somebody else's.
            notes.insert_one(&note).await.map_err(error::asking(doing))?;
            &note.clone()
        }
        None => return Err(in_the_way(format!("{into} is there already"))),
    };
    let count = |field: &str| u64::try_from(done.get_i64(field).unwrap_or_default()).unwrap_or_default();
    if there.is_empty() {
        create(database, subject).await?;
    }
    Ok((u32::try_from(count("parts")).unwrap_or(u32::MAX), count("rows")))
}

/// An empty collection with the same options.
async fn create(database: &Database, subject: &Subject) -> EngineResult<()> {
    let mut command = doc! { "create": &subject.name };
    for options in &subject.create {
        let json: serde_json::Value = serde_json::from_str(options).map_err(|error| {
            failed(format!("the options of a backup cannot be read: {error}"), "report it")
        })?;
        if let Ok(bson::Bson::Document(options)) = bson::Bson::try_from(json) {
            command.extend(options);
        }
    }
    database.run_command(command).await.map_err(error::asking("making a collection for a restore")).map(drop)
}

async fn insert(
    database: &Database,
    session: &mut ClientSession,
    subject: &Subject,
    target: &Target,
    (documents, (parts, rows)): (Vec<RawDocumentBuf>, (u32, u64)),
) -> EngineResult<()> {
    let doing = "restoring documents";
    begin(session).await?;
    let notes = database.collection::<Document>(NOTES);
    let mine = doc! { "_id": &subject.name, "backup": target.backup(), "parts": i64::from(target.part) };
    let noted = match parts >= target.parts {
        true => {
            let gone = notes.delete_one(mine).session(&mut *session).await.map_err(error::asking(doing))?;
            gone.deleted_count
        }
        false => {
            let so_far = doc! { "$set": { "parts": i64::from(parts), "rows": number(rows) } };
            let moved = notes.update_one(mine, so_far).session(&mut *session).await;
            moved.map_err(error::asking(doing))?.matched_count
        }
    };
    if noted != 1 {
        return Err(in_the_way(format!("somebody else restores {} at the same time", subject.name)));
    }
    if !documents.is_empty() {
        let collection = database.collection::<RawDocumentBuf>(&subject.name);
        // Rules may have come after documents that do not keep them.
        let insert = collection.insert_many(documents).bypass_document_validation(true);
        insert.session(&mut *session).await.map_err(error::asking(doing))?;
    }
    commit(session).await
}

/// Removes the notes with the last restore.
async fn clear(database: &Database) -> EngineResult<()> {
    let doing = "ending a restore";
    let notes = database.collection::<Document>(NOTES);
    if notes.find_one(doc! {}).await.map_err(error::asking(doing))?.is_none() {
        notes.drop().await.map_err(error::asking(doing))?;
    }
    Ok(())
}

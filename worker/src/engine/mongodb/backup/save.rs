//! A collection to whoever saves it.
//!
//! A snapshot of MongoDB lasts for minutes only, so the collection is walked in the order of `_id`: each document is as a
//! majority of the replica set held it when it was read. One that is there from the beginning to the end is saved once.

use bson::{Bson, Document, RawDocumentBuf, doc};
use futures::TryStreamExt;
use mongodb::Collection;

use super::{PATIENCE, PAUSE};
use crate::backup::{Beside, Consistency, Format, Saving, Subject, failed};
use crate::engine::mongodb::connection::Connection;
use crate::engine::mongodb::transaction::{COMMAND_LIMIT, answered, by_id};
use crate::engine::mongodb::{error, fence, inspect};
use crate::engine::{DataJob, EngineError, EngineResult};
use crate::lease::TaskLease;

/// Documents that are asked for at once.
const PAGE: i64 = 10_000;
/// Documents are handed on in pieces of about this size.
const PIECE: usize = 16 * 1024;

/// Gives all documents.
pub(in super::super) async fn save(
    connection: &Connection,
    lease: &TaskLease,
    job: &DataJob,
    into: &mut dyn Saving,
) -> EngineResult<()> {
    fence::admit(&connection.books().await?, lease.leader()).await?;
    let name = &job.data.source.relation;
    let Some(found) = inspect::collection(connection, name).await? else {
        return Err(failed(format!("there is no collection {name}"), "look what became of it"));
    };
    let (subject, beside) = shape(connection, name, &found).await?;
    into.begin(subject, beside).await?;
    let documents = connection.application().await?.collection::<RawDocumentBuf>(name);
    let (mut last, mut failures) = (None, 0);
    loop {
        let before = last.as_ref().map(key);
        match page(&documents, &mut last, into).await {
            Ok(true) => return Ok(()),
            Ok(false) => failures = 0,
            // What was read before stays; the walk goes on behind it.
            Err(EngineError::Connection(_) | EngineError::TooSlow(_) | EngineError::Contended(_))
                if failures < PATIENCE =>
            {
                failures = if last.as_ref().map(key) == before { failures + 1 } else { 1 };
                tokio::time::sleep(PAUSE).await;
                lease.check()?;
            }
            Err(error) => return Err(error),
        }
    }
}

/// What mongodump says of a collection, and what makes one like it.
async fn shape(
    connection: &Connection,
    name: &str,
    found: &Document,
) -> EngineResult<(Subject, Vec<Beside>)> {
    let options = found.get_document("options").cloned().unwrap_or_default();
    let uuid = found.get_document("info").ok().and_then(|info| match info.get("uuid") {
        Some(Bson::Binary(uuid)) => Some(crate::backup::format::hex(&uuid.bytes)),
        _ => None,
    });
    let metadata = doc! {
        "options": options.clone(),
        "indexes": inspect::indexes(connection, name).await?,
        "uuid": uuid.unwrap_or_default(),
        "collectionName": name,
        "type": "collection",
    };
    let folder = file_name(&connection.database);
    let subject = Subject {
        relation: format!("{}.{name}", connection.database),
        name: name.to_owned(),
        format: Format::Bson,
        stem: format!("{folder}/{}.bson", file_name(name)),
        columns: Vec::new(),
        create: vec![Bson::Document(options).into_canonical_extjson().to_string()],
        consistency: Consistency::Majority,
    };
    let content = Bson::Document(metadata).into_canonical_extjson().to_string().into_bytes();
    Ok((subject, vec![Beside { name: format!("{folder}/{}.metadata.json", file_name(name)), content }]))
}

/// A name as mongodump makes a name of a file of it.
fn file_name(name: &str) -> String {
    let mut file = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' | b'.' => file.push(char::from(byte)),
            other => file.push_str(&format!("%{other:02X}")),
        }
    }
    file
}

/// The next page behind `last`; `true`: it was the end.
async fn page(
    documents: &Collection<RawDocumentBuf>,
    last: &mut Option<Bson>,
    into: &mut dyn Saving,
) -> EngineResult<bool> {
    let doing = "reading documents for a backup";
    let mut find =
        documents.find(doc! {}).sort(doc! { "_id": 1 }).hint(by_id()).limit(PAGE).max_time(COMMAND_LIMIT);
    if let Some(last) = last.as_ref() {
        // Unlike a comparison, a bound of the index goes on over the borders of types.
        find = find.min(doc! { "_id": last });
    }
    let begun = last.as_ref().map(key);
    let mut found = answered(async { find.await.map_err(error::asking(doing)) }).await?;
    let (mut piece, mut count, mut seen) = (Vec::with_capacity(PIECE), 0, 0_i64);
    let mut at = None;
    while let Some(document) =
        answered(async { found.try_next().await.map_err(error::asking(doing)) }).await?
    {
        seen += 1;
        let id = document.get("_id").ok().flatten().and_then(|id| Bson::try_from(id).ok());
        if seen == 1 && begun.is_some() && id.as_ref().map(key) == begun {
            continue;
        }
        piece.extend_from_slice(document.as_bytes());
        (count, at) = (count + 1, id);
        if piece.len() >= PIECE {
            into.rows(&piece, count).await?;
            (count, *last) = (0, at.take());
            piece.clear();
        }
    }
    if count > 0 {
        into.rows(&piece, count).await?;
        *last = at;
    }
    Ok(seen < PAGE)
}

/// What tells two `_id`s apart, also where they compare with nothing.
fn key(id: &Bson) -> Vec<u8> {
    bson::serialize_to_vec(&doc! { "_id": id }).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_names_of_files() {
        assert_eq!([file_name("messages"), file_name("a/b $x")], ["messages", "a%2Fb%20%24x"]);
    }
}

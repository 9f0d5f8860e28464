//! Documents whose routing key lives on another shard: a walk over `_id` that reads only, one page at a time.

use bson::spec::BinarySubtype;
use bson::{Bson, Document, doc};
use futures::TryStreamExt;
use shardlift_domain::facts::{Misplaced, PlacementPage, PlacementRequest};
use shardlift_domain::routing::Key;
use shardlift_domain::{ErrorCode, Failure};

use super::connection::Connection;
use super::transaction::{COMMAND_LIMIT, by_id};
use super::{bracket, defect, error, inspect};
use crate::engine::{EngineError, EngineResult, PLACEMENT_PAGE};

/// Looks through one page.
pub(super) async fn look(connection: &Connection, request: &PlacementRequest) -> EngineResult<PlacementPage> {
    if inspect::collection(connection, &request.relation).await?.is_none() {
        let message = format!("there is no collection {}", request.relation);
        let next = "correct --relation; see `shardlift placement --help`";
        return Err(EngineError::Failed(Failure::new(ErrorCode::RequestInvalid, message, next)));
    }
    let after = request.after.as_ref().map(|parts| cursor(parts)).transpose()?;
    let doing = "looking for misplaced documents";
    let documents = connection.collection(&request.relation).await?;
    let mut find = documents
        .find(doc! {})
        .projection(doc! { "_id": 1, &request.column: 1 })
        .sort(doc! { "_id": 1 })
        .hint(by_id())
        .max_time(COMMAND_LIMIT)
        .limit(i64::from(PLACEMENT_PAGE) + 1);
    if let Some(after) = &after {
        // Unlike a comparison, a bound of the index goes on over the borders of types.
        find = find.min(doc! { "_id": after });
    }
    let mut found = find.await.map_err(error::asking(doing))?;
    let mut page = PlacementPage::default();
    let mut last = None;
    while let Some(document) = found.try_next().await.map_err(error::asking(doing))? {
        let Some(id) = document.get("_id").cloned() else { continue };
        if after.as_ref() == Some(&id) {
            continue;
        }
        page.walked += 1;
        let key = routing_key(&document, &request.column);
        if !key.as_ref().is_some_and(|text| request.residence.holds(text)) {
            page.misplaced.push(Misplaced { row: bracket::text(&id), key });
        }
        last = Some(id);
        if page.misplaced.len() >= request.limit as usize {
            break;
        }
    }
    let full = page.walked >= u64::from(PLACEMENT_PAGE) || page.misplaced.len() >= request.limit as usize;
    page.next = last.filter(|_| full).map(|id| vec![bracket::text(&id)]);
    Ok(page)
}

/// Where the page before ended: an `_id` in extended JSON.
fn cursor(parts: &[String]) -> EngineResult<Bson> {
    let json = parts.first().and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok());
    json.and_then(|json| Bson::try_from(json).ok())
        .ok_or_else(|| defect("the cursor of a page is not an _id"))
}

/// The routing key of a document as text, if it is a kind of key at all.
fn routing_key(document: &Document, path: &str) -> Option<String> {
    let (parents, field) =
        path.rsplit_once('.').map_or((None, path), |(parents, field)| (Some(parents), field));
    let holder = parents
        .into_iter()
        .flat_map(|parents| parents.split('.'))
        .try_fold(document, |document, name| document.get_document(name).ok())?;
    match holder.get(field)? {
        Bson::String(text) => Some(text.clone()),
        Bson::Int32(number) => Some(number.to_string()),
        Bson::Int64(number) => Some(number.to_string()),
        Bson::ObjectId(id) => Some(id.to_hex()),
        Bson::Binary(binary) if binary.subtype == BinarySubtype::Uuid => {
            let bytes = <[u8; 16]>::try_from(binary.bytes.as_slice()).ok()?;
            Some(Key::Uuid(bytes).canonical())
        }
        other => Some(other.clone().into_relaxed_extjson().to_string()),
    }
}

//! What happened to a migration: as a page, or followed as server-sent events.

use axum::Json;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use shardlift_domain::failure::ErrorCode;
use shardlift_proto::v1;
use utoipa::{IntoParams, ToSchema};

use super::answers::EventsBody;
use super::asked::{Path, Query, invalid, limit};
use super::problem::Problem;
use super::{MAX_STREAMS, Rest, stream};

/// Which part of the history, and how it is followed.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct EventsQuery {
    /// Behind this sequence. Without it: a page holds the newest, a stream begins with the whole history.
    after: Option<u64>,
    /// Of a page: how many at most, up to 1000; 100 unless told.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// Of a stream: also how far each shard is.
    shards: Option<bool>,
    /// Of a stream: when it ends. Unless told, it stays open.
    #[param(inline)]
    until: Option<Until>,
}

/// When a stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Until {
    /// When nothing happens any more until a person asks for it.
    Rest,
}

/// The history of a migration, oldest first; with `Accept: text/event-stream` the history and then what happens, as it
/// happens. Events `history` (with the sequence as its id), `status`, `shards`, `end`, `problem`; `Last-Event-ID` goes on
/// behind that sequence, without loss or repeat.
#[utoipa::path(get, path = "/api/v1/migrations/{id}/events", tag = "migrations",
    params(("id" = String, Path, description = "The migration's id."), EventsQuery,
        ("last-event-id" = Option<u64>, Header, description = "Of a stream: the last sequence that came; it wins over `after`.")),
    responses((status = 200, description = "A page of it, or a stream.",
        content((EventsBody = "application/json"), (String = "text/event-stream")))))]
pub(super) async fn events(
    rest: Rest,
    Path(id): Path,
    Query(query): Query<EventsQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    if wants_stream(&headers) {
        return followed(rest, id, &query, &headers).await;
    }
    if query.shards.is_some() || query.until.is_some() {
        return Err(invalid(
            "`shards` and `until` belong to a stream of events",
            "ask with Accept: text/event-stream",
        ));
    }
    let limit = u32::try_from(limit(query.limit, 100, 1000)?).unwrap_or(u32::MAX);
    let request = v1::EventsRequest { id, after: query.after, limit };
    let page = rest.migrations().events(request).await?.into_inner();
    Ok(Json(EventsBody::from(page)).into_response())
}

async fn followed(
    rest: Rest,
    id: String,
    query: &EventsQuery,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    if query.limit.is_some() {
        return Err(invalid("`limit` belongs to a page of events", "leave it out: a stream goes on"));
    }
    let after = last_event(headers)?.or(query.after).unwrap_or_default();
    let Ok(place) = rest.shared.streams.clone().try_acquire_owned() else {
        return Err(Problem::new(
            ErrorCode::RequestTooMany,
            format!("this coordinator serves {MAX_STREAMS} streams of events already"),
            "close streams that nobody reads, or ask another coordinator",
        ));
    };
    // What is not there is refused before the stream begins.
    rest.migration(id.clone(), None).await?;
    let until_rest = query.until == Some(Until::Rest);
    let shards = query.shards.unwrap_or_default();
    Ok(stream::begin(rest, stream::Wanted { id, after, shards, until_rest }, place).into_response())
}

fn wants_stream(headers: &HeaderMap) -> bool {
    let accept = headers.get_all(header::ACCEPT).iter().filter_map(|accept| accept.to_str().ok());
    accept.flat_map(|accept| accept.split(',')).any(|media| {
        let media = media.split(';').next().unwrap_or_default();
        media.trim().eq_ignore_ascii_case("text/event-stream")
    })
}

/// The last sequence that came before the connection broke.
fn last_event(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(id) = headers.get("last-event-id") else { return Ok(None) };
    let id = id.to_str().unwrap_or_default().trim();
    if id.is_empty() {
        return Ok(None);
    }
    id.parse().map(Some).map_err(|_| {
        invalid(
            format!("Last-Event-ID is {id:?}, which is no sequence of an event"),
            "send the id of the last event",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name.parse().expect("a name"), value.parse().expect("a value"))])
    }

    #[test]
    fn a_stream_is_what_asks_for_one() {
        for accept in ["text/event-stream", "text/html, Text/Event-Stream;q=0.9"] {
            assert!(wants_stream(&headers("accept", accept)), "{accept}");
        }
        for accept in ["*/*", "application/json", "text/event-streams"] {
            assert!(!wants_stream(&headers("accept", accept)), "{accept}");
        }
        assert!(!wants_stream(&HeaderMap::new()));
    }

    #[test]
    fn the_last_event_is_a_sequence_or_refused() {
        assert_eq!(last_event(&headers("last-event-id", "41")).ok(), Some(Some(41)));
        assert_eq!(last_event(&headers("last-event-id", "")).ok(), Some(None));
        assert_eq!(last_event(&HeaderMap::new()).ok(), Some(None));
        assert!(last_event(&headers("last-event-id", "yesterday")).is_err());
    }
}

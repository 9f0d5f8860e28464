//! Rows that were set aside: shown, tried again, given up.

use axum::Json;
use axum::body::Body;
use axum::http::header;
use axum::response::IntoResponse;
use futures::{StreamExt, stream};
use serde::Deserialize;
use shardlift_proto::v1;
use utoipa::ToSchema;

use super::Rest;
use super::answers::DecidedBody;
use super::asked::{Nothing, Path, Query, Sent};
use super::problem::Problem;

/// Which row. It comes in a body, so that no key stands in logs of addresses.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = AsideRow)]
pub(super) struct RowAsked {
    /// On which shard.
    shard: String,
    /// Its key, as the list shows it.
    key: String,
}

/// One row as it was when it was set aside, with its values: it is passed on from the shard, and kept nowhere.
#[utoipa::path(post, path = "/api/v1/migrations/{id}/quarantine/show", tag = "quarantine",
    params(("id" = String, Path, description = "The migration's id.")),
    request_body = RowAsked,
    responses((status = 200, description = "The row or document as JSON.", body = Object)))]
pub(super) async fn show(
    rest: Rest,
    Path(id): Path,
    _: Query<Nothing>,
    sent: Sent,
) -> Result<impl IntoResponse, Problem> {
    let RowAsked { shard, key } = sent.json()?;
    let request = v1::ShowQuarantineRequest { id, shard, key };
    let mut parts = rest.migrations().show_quarantine(request).await?.into_inner();
    // What is refused is refused before the answer begins.
    let first = parts.message().await?.unwrap_or_default().part;
    let rest = parts.map(|part| part.map(|part| part.part));
    let whole = stream::once(std::future::ready(Ok(first))).chain(rest);
    Ok(([(header::CONTENT_TYPE, "application/json")], Body::from_stream(whole)))
}

/// Which rows; may be left out: all that wait for a decision.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(as = AsideRows)]
pub(super) struct RowsAsked {
    /// On this shard alone.
    shard: Option<String>,
    /// These alone; they are keys of one shard.
    keys: Vec<String>,
}

impl RowsAsked {
    fn of(self, id: String) -> v1::DecideQuarantineRequest {
        v1::DecideQuarantineRequest { id, shard: self.shard, keys: self.keys }
    }
}

/// Rows that were set aside are tried again; a migration that was completed goes on with them.
#[utoipa::path(post, path = "/api/v1/migrations/{id}/quarantine/retry", tag = "quarantine",
    params(("id" = String, Path, description = "The migration's id.")),
    request_body(content = Option<RowsAsked>),
    responses((status = 200, description = "How many are tried again.", body = DecidedBody)))]
pub(super) async fn retry(
    rest: Rest,
    Path(id): Path,
    _: Query<Nothing>,
    sent: Sent,
) -> Result<Json<DecidedBody>, Problem> {
    let request = sent.optional::<RowsAsked>()?.of(id);
    Ok(Json(rest.migrations().retry_quarantine(request).await?.into_inner().into()))
}

/// Rows that were set aside are given up: they stay as they are.
#[utoipa::path(post, path = "/api/v1/migrations/{id}/quarantine/discard", tag = "quarantine",
    params(("id" = String, Path, description = "The migration's id.")),
    request_body(content = Option<RowsAsked>),
    responses((status = 200, description = "How many are given up.", body = DecidedBody)))]
pub(super) async fn discard(
    rest: Rest,
    Path(id): Path,
    _: Query<Nothing>,
    sent: Sent,
) -> Result<Json<DecidedBody>, Problem> {
    let request = sent.optional::<RowsAsked>()?.of(id);
    Ok(Json(rest.migrations().discard_quarantine(request).await?.into_inner().into()))
}

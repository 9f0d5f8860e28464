//! The verbs that move a migration.

use axum::Json;
use serde::Deserialize;
use shardlift_proto::v1;
use tonic::{Response, Status};
use utoipa::ToSchema;

use super::Rest;
use super::answers::MovedBody;
use super::asked::{Nothing, Path, Query, Sent};
use super::problem::Problem;

type Moved = Result<Json<MovedBody>, Problem>;

fn moved(answer: Result<Response<v1::VerbResponse>, Status>) -> Moved {
    Ok(Json(answer?.into_inner().into()))
}

/// Begins as soon as what the migration waits for is completed.
#[utoipa::path(post, path = "/api/v1/migrations/{id}/start", tag = "verbs",
    params(("id" = String, Path, description = "The migration's id.")),
    responses((status = 200, description = "It is so now.", body = MovedBody)))]
pub(super) async fn start(rest: Rest, Path(id): Path, _: Query<Nothing>, sent: Sent) -> Moved {
    sent.nothing()?;
    moved(rest.migrations().start(v1::VerbRequest { id }).await)
}

/// Hands out no more work; open batches finish.
#[utoipa::path(post, path = "/api/v1/migrations/{id}/pause", tag = "verbs",
    params(("id" = String, Path, description = "The migration's id.")),
    responses((status = 200, description = "It is so now.", body = MovedBody)))]
pub(super) async fn pause(rest: Rest, Path(id): Path, _: Query<Nothing>, sent: Sent) -> Moved {
    sent.nothing()?;
    moved(rest.migrations().pause(v1::VerbRequest { id }).await)
}

/// Goes on after a pause or a halt.
#[utoipa::path(post, path = "/api/v1/migrations/{id}/resume", tag = "verbs",
    params(("id" = String, Path, description = "The migration's id.")),
    responses((status = 200, description = "It is so now.", body = MovedBody)))]
pub(super) async fn resume(rest: Rest, Path(id): Path, _: Query<Nothing>, sent: Sent) -> Moved {
    sent.nothing()?;
    moved(rest.migrations().resume(v1::VerbRequest { id }).await)
}

/// Gives up; what is done stays done.
#[utoipa::path(post, path = "/api/v1/migrations/{id}/cancel", tag = "verbs",
    params(("id" = String, Path, description = "The migration's id.")),
    responses((status = 200, description = "It is so now.", body = MovedBody)))]
pub(super) async fn cancel(rest: Rest, Path(id): Path, _: Query<Nothing>, sent: Sent) -> Moved {
    sent.nothing()?;
    moved(rest.migrations().cancel(v1::VerbRequest { id }).await)
}

/// Tries the failed steps again.
#[utoipa::path(post, path = "/api/v1/migrations/{id}/retry", tag = "verbs",
    params(("id" = String, Path, description = "The migration's id.")),
    responses((status = 200, description = "It is so now.", body = MovedBody)))]
pub(super) async fn retry(rest: Rest, Path(id): Path, _: Query<Nothing>, sent: Sent) -> Moved {
    sent.nothing()?;
    moved(rest.migrations().retry(v1::VerbRequest { id }).await)
}

/// Gives up what the migration has kept for a rollback: it is removed from the shards, and there is no way back.
#[utoipa::path(post, path = "/api/v1/migrations/{id}/purge", tag = "verbs",
    params(("id" = String, Path, description = "The migration's id.")),
    responses((status = 200, description = "It is so now; the shards follow.", body = MovedBody)))]
pub(super) async fn purge(rest: Rest, Path(id): Path, _: Query<Nothing>, sent: Sent) -> Moved {
    sent.nothing()?;
    moved(rest.migrations().purge(v1::VerbRequest { id }).await)
}

/// How to roll back; may be left out.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(as = Rollback)]
pub(super) struct RollbackAsked {
    /// Also drop values that the application has written since, where a `down` does.
    drop_data: bool,
}

/// Takes back what was changed, on every shard that was touched.
#[utoipa::path(post, path = "/api/v1/migrations/{id}/rollback", tag = "verbs",
    params(("id" = String, Path, description = "The migration's id.")),
    request_body(content = Option<RollbackAsked>),
    responses((status = 200, description = "It is so now.", body = MovedBody)))]
pub(super) async fn rollback(rest: Rest, Path(id): Path, _: Query<Nothing>, sent: Sent) -> Moved {
    let RollbackAsked { drop_data } = sent.optional()?;
    moved(rest.migrations().rollback(v1::RollbackRequest { id, drop_data }).await)
}

/// What was read; may be left out.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(as = Approve)]
pub(super) struct ApproveAsked {
    /// The `checksum` of the content that you have read: refused if it is another one by now.
    checksum: Option<String>,
}

/// Approves a migration that has not begun, where the coordinators ask for that. The plan is named by the migration's id.
#[utoipa::path(post, path = "/api/v1/plans/{id}/approve", tag = "verbs",
    params(("id" = String, Path, description = "The migration's id.")),
    request_body(content = Option<ApproveAsked>),
    responses((status = 200, description = "It is so now.", body = MovedBody)))]
pub(super) async fn approve(rest: Rest, Path(id): Path, _: Query<Nothing>, sent: Sent) -> Moved {
    let ApproveAsked { checksum } = sent.optional()?;
    moved(rest.migrations().approve(v1::ApproveRequest { id, checksum }).await)
}

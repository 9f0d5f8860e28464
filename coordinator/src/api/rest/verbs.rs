//! The verbs that move a migration.

use axum::Json;
use serde::Deserialize;
use shardlift_domain::failure::ErrorCode;
use shardlift_domain::migration::{Limit, ThrottleChange};
use shardlift_domain::spec::{NoWindow, Window};
use shardlift_proto::convert::throttle_change_to_wire;
use shardlift_proto::status::refuse;
use shardlift_proto::v1;
use tonic::{Response, Status};
use utoipa::ToSchema;

use super::Rest;
use super::answers::MovedBody;
use super::asked::{Nothing, Path, Query, Sent};
use super::problem::Problem;
use crate::service::migration_id;

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

/// How to go on. What is left out stays as it is; one thing at least is to be said.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(as = ThrottleChange)]
pub(super) struct ThrottleAsked {
    /// Most rows per second on one shard, over all its ranges: 1 to 100,000,000.
    #[schema(example = 20_000)]
    rows_per_second: Option<u32>,
    /// No limit of the rows per second, whatever the spec says.
    no_limit: bool,
    /// The daily time in which batches run, in UTC.
    #[schema(example = "22:00-06:00 UTC")]
    window: Option<String>,
    /// Batches run at any time, whatever the spec says.
    always: bool,
    /// All as the spec says.
    as_in_spec: bool,
}

impl ThrottleAsked {
    fn change(self) -> Result<ThrottleChange, Problem> {
        let Self { rows_per_second, no_limit, window, always, as_in_spec } = self;
        let named = usize::from(rows_per_second.is_some()) + usize::from(no_limit);
        let timed = usize::from(window.is_some()) + usize::from(always);
        if named > 1 || timed > 1 || (as_in_spec && named + timed > 0) {
            let message = "two things are said of the throttle that cannot both be";
            let next =
                "of rows_per_second and no_limit, and of window and always, give one; and as_in_spec alone";
            return Err(Problem::new(ErrorCode::RequestInvalid, message, next));
        }
        if as_in_spec {
            return Ok(ThrottleChange::AS_IN_SPEC);
        }
        let window =
            window.map(|text| text.parse::<Window>().map_err(|error| no_window(&text, error))).transpose()?;
        Ok(ThrottleChange {
            rows_per_second: rows_per_second.map(Limit::Of).or(no_limit.then_some(Limit::Lifted)),
            window: window.map(Limit::Of).or(always.then_some(Limit::Lifted)),
        })
    }
}

fn no_window(text: &str, error: NoWindow) -> Problem {
    let message = format!("`window` is {text:?}: {error}");
    Problem::new(ErrorCode::RequestInvalid, message, "to run at any time, say `always`")
}

/// Changes, lifts or restores the throttle of a data migration that has not ended. Ranges that run heed it from their next
/// batch on.
#[utoipa::path(post, path = "/api/v1/migrations/{id}/throttle", tag = "verbs",
    params(("id" = String, Path, description = "The migration's id.")),
    request_body(content = ThrottleAsked),
    responses((status = 200, description = "It is so now.", body = MovedBody)))]
pub(super) async fn throttle(rest: Rest, Path(id): Path, _: Query<Nothing>, sent: Sent) -> Moved {
    let change = sent.json::<ThrottleAsked>()?.change()?;
    let id = migration_id(&id).map_err(|failure| refuse(vec![failure]))?;
    moved(rest.migrations().throttle(throttle_change_to_wire(&id, change)).await)
}

//! Whether this coordinator lives, and whether asking it makes sense.

use axum::Json;
use serde::Serialize;
use shardlift_domain::failure::ErrorCode;
use utoipa::ToSchema;

use super::Rest;
use super::asked::{Nothing, Query};
use super::problem::Problem;

/// In one word.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Health)]
pub(super) struct HealthBody {
    /// `alive` or `ready`.
    status: &'static str,
}

/// The process lives.
#[utoipa::path(get, path = "/health/live", tag = "program",
    responses((status = 200, description = "It lives.", body = HealthBody)))]
pub(super) async fn live(_: Query<Nothing>) -> Json<HealthBody> {
    Json(HealthBody { status: "alive" })
}

/// It leads, or knows who does: a request that comes now is likely to be answered.
#[utoipa::path(get, path = "/health/ready", tag = "program",
    responses((status = 200, description = "It is ready.", body = HealthBody)))]
pub(super) async fn ready(rest: Rest, _: Query<Nothing>) -> Result<Json<HealthBody>, Problem> {
    match rest.shared.standing.ready() {
        Ok(()) => Ok(Json(HealthBody { status: "ready" })),
        Err(why) => Err(Problem::new(
            ErrorCode::CoordinatorNotReady,
            why,
            "ask again in a moment; if it lasts, look whether the coordinators reach each other and the election",
        )),
    }
}

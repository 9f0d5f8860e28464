//! Who the caller is, as this coordinator sees it.

use axum::Json;
use serde::Serialize;
use shardlift_domain::failure::ErrorCode;
use utoipa::ToSchema;

use super::Rest;
use super::asked::{Nothing, Query};
use super::problem::Problem;

/// Who asks.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Me)]
pub(super) struct MeBody {
    /// As the history tells it.
    name: String,
    /// `viewer`, `operator`, `approver`, `admin` or `worker`.
    role: &'static str,
    /// Nobody is asked who they are: this coordinator knows no principals.
    open: bool,
}

/// Name and role of whoever asks.
#[utoipa::path(get, path = "/api/v1/me", tag = "program",
    responses((status = 200, description = "Who asks.", body = MeBody)))]
pub(super) async fn me(rest: Rest, _: Query<Nothing>) -> Result<Json<MeBody>, Problem> {
    let nobody = || {
        Problem::new(
            ErrorCode::AccessUnauthenticated,
            "nobody was asked who they are",
            "send the header Authorization: Bearer TOKEN",
        )
    };
    let caller = rest.caller.ok_or_else(nobody)?;
    let (name, role) = (caller.principal.name().to_owned(), caller.principal.role().as_str());
    Ok(Json(MeBody { name, role, open: rest.shared.access.is_open() }))
}

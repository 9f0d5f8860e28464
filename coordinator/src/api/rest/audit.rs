//! What was done, by whom, over all migrations.

use axum::Json;
use serde::Deserialize;
use shardlift_proto::v1;
use utoipa::IntoParams;

use super::Rest;
use super::answers::{AuditBody, VerifiedBody};
use super::asked::{Query, invalid, limit};
use super::problem::Problem;

/// Which entries.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct AuditQuery {
    /// The first entries behind this sequence; without it the newest.
    after: Option<u64>,
    /// Of this migration only.
    id: Option<String>,
    /// By this person or coordinator only.
    actor: Option<String>,
    /// Of this kind only, such as `sessions_ended`.
    event: Option<String>,
    /// Not older than this: RFC 3339 in UTC.
    since: Option<String>,
    /// How many, 1 to 1000; 100 unless it is said.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// The history of all migrations, with the hashes that chain it.
#[utoipa::path(get, path = "/api/v1/audit", tag = "audit", params(AuditQuery),
    responses((status = 200, description = "Oldest first.", body = AuditBody)))]
pub(super) async fn audit(rest: Rest, Query(query): Query<AuditQuery>) -> Result<Json<AuditBody>, Problem> {
    let since = query.since.map(|text| {
        text.parse::<v1::Timestamp>()
            .map_err(|_| invalid(format!("`since` is {text:?}"), "give a time such as 2026-11-29T00:00:00Z"))
    });
    let request = v1::AuditRequest {
        after: query.after,
        id: query.id,
        actor: query.actor,
        event: query.event,
        since: since.transpose()?,
        limit: u32::try_from(limit(query.limit, 100, 1000)?).unwrap_or(u32::MAX),
    };
    Ok(Json(rest.cluster().audit(request).await?.into_inner().into()))
}

/// What the chain is held against.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct VerifyQuery {
    /// A hash that was told as `head` before: it must still be in the chain.
    known: Option<String>,
}

/// Walks along the chain of the history, and tells the first place where it does not hold.
#[utoipa::path(get, path = "/api/v1/audit/verification", tag = "audit", params(VerifyQuery),
    responses((status = 200, description = "What the walk has found; `broken` is null if all of it holds.", body = VerifiedBody)))]
pub(super) async fn verify(
    rest: Rest,
    Query(VerifyQuery { known }): Query<VerifyQuery>,
) -> Result<Json<VerifiedBody>, Problem> {
    Ok(Json(rest.cluster().verify_audit(v1::VerifyAuditRequest { known }).await?.into_inner().into()))
}

//! Looks into the shards themselves: they take as long as there is to look at, and end when the caller goes or time is up.

use axum::Json;
use serde::Deserialize;
use shardlift_proto::v1;
use utoipa::IntoParams;

use super::Rest;
use super::answers::{DriftBody, InDoubtBody, MismatchesBody, PlacementBody};
use super::asked::{Path, Query, limit};
use super::problem::Problem;

/// Rows that are listed unless the query says how many.
const USUAL: u32 = 1000;
/// Most rows that are listed.
const MOST: u32 = 10_000;

/// Whose schemas are compared.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct DriftQuery {
    /// Of this cluster alone.
    cluster: Option<String>,
}

/// How the schemas of the shards of each cluster differ.
#[utoipa::path(get, path = "/api/v1/drift", tag = "looks", params(DriftQuery),
    responses((status = 200, description = "Cluster by cluster.", body = DriftBody)))]
pub(super) async fn drift(
    rest: Rest,
    Query(DriftQuery { cluster }): Query<DriftQuery>,
) -> Result<Json<DriftBody>, Problem> {
    Ok(Json(rest.cluster().drift(v1::DriftRequest { cluster }).await?.into_inner().into()))
}

/// Which rows are looked at.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PlacementQuery {
    /// The cluster's name.
    cluster: String,
    /// Its table or collection.
    relation: String,
    /// The column or field that holds the routing key.
    column: String,
    /// How many rows are listed at most, up to 10,000; 1000 unless told.
    #[param(minimum = 1, maximum = 10_000)]
    limit: Option<u32>,
}

/// Rows that lie on another shard than their key belongs to. The shards are walked: large tables take longer than a request may.
#[utoipa::path(get, path = "/api/v1/placement", tag = "looks", params(PlacementQuery),
    responses((status = 200, description = "Their keys, and where they belong.", body = PlacementBody)))]
pub(super) async fn placement(
    rest: Rest,
    Query(query): Query<PlacementQuery>,
) -> Result<Json<PlacementBody>, Problem> {
    let limit = u32::try_from(limit(query.limit, USUAL, MOST)?).unwrap_or(MOST);
    let PlacementQuery { cluster, relation, column, .. } = query;
    let request = v1::PlacementRequest { cluster, relation, column, limit };
    let mut found = rest.cluster().placement(request).await?.into_inner();
    let mut told = PlacementBody::default();
    while let Some(next) = found.message().await? {
        told.add(next);
    }
    Ok(Json(told))
}

/// Which prepared transactions.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct InDoubtQuery {
    /// Also those that are not ours.
    #[serde(default)]
    all: bool,
}

/// Prepared transactions of atomic changes, and what is to become of each.
#[utoipa::path(get, path = "/api/v1/indoubt", tag = "looks", params(InDoubtQuery),
    responses((status = 200, description = "All of them.", body = InDoubtBody)))]
pub(super) async fn indoubt(
    rest: Rest,
    Query(InDoubtQuery { all }): Query<InDoubtQuery>,
) -> Result<Json<InDoubtBody>, Problem> {
    Ok(Json(rest.cluster().indoubt(v1::IndoubtRequest { all }).await?.into_inner().into()))
}

/// Which rows that are not what their transform gives.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct MismatchesQuery {
    /// Also rows that were changed or deleted since.
    #[serde(default)]
    since: bool,
    /// How many rows are listed at most, up to 10,000; 1000 unless told.
    #[param(minimum = 1, maximum = 10_000)]
    limit: Option<u32>,
}

/// The transform evaluated anew on what the migration has kept: rows that are not what it gives; no values of them.
#[utoipa::path(get, path = "/api/v1/migrations/{id}/mismatches", tag = "looks",
    params(("id" = String, Path, description = "The migration's id."), MismatchesQuery),
    responses((status = 200, description = "Their keys, and how they differ.", body = MismatchesBody)))]
pub(super) async fn mismatches(
    rest: Rest,
    Path(id): Path,
    Query(MismatchesQuery { since, limit: asked }): Query<MismatchesQuery>,
) -> Result<Json<MismatchesBody>, Problem> {
    let most = limit(asked, USUAL, MOST)?;
    let request = v1::MismatchesRequest { id, limit: u32::try_from(most).unwrap_or(MOST), since };
    let mut found = rest.migrations().mismatches(request).await?.into_inner();
    let mut told = MismatchesBody::default();
    while let Some(next) = found.message().await? {
        told.add(next, most);
    }
    Ok(Json(told))
}

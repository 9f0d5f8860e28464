//! Shards, workers, the leader, the topology.

use axum::Json;
use serde::Deserialize;
use shardlift_proto::v1;
use utoipa::{IntoParams, ToSchema};

use super::Rest;
use super::answers::{DrainBody, LeaderBody, RouteBody, ShardsBody, TopologyBody, WorkersBody};
use super::asked::{Nothing, Path, Query, Sent};
use super::problem::Problem;

/// The declared shards, and whether somebody reaches them.
#[utoipa::path(get, path = "/api/v1/shards", tag = "cluster",
    responses((status = 200, description = "All of them.", body = ShardsBody)))]
pub(super) async fn shards(rest: Rest, _: Query<Nothing>) -> Result<Json<ShardsBody>, Problem> {
    Ok(Json(rest.cluster().shards(v1::ShardsRequest {}).await?.into_inner().into()))
}

/// The connected workers.
#[utoipa::path(get, path = "/api/v1/workers", tag = "cluster",
    responses((status = 200, description = "All of them.", body = WorkersBody)))]
pub(super) async fn workers(rest: Rest, _: Query<Nothing>) -> Result<Json<WorkersBody>, Problem> {
    Ok(Json(rest.cluster().workers(v1::WorkersRequest {}).await?.into_inner().into()))
}

/// Whether a worker is to be drained; may be left out.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(as = Drain)]
pub(super) struct DrainAsked {
    /// False: it is to take work again.
    draining: bool,
}

impl Default for DrainAsked {
    fn default() -> Self {
        Self { draining: true }
    }
}

/// Gives a worker nothing new; its ranges go elsewhere where another worker serves the shard. Or takes that back.
#[utoipa::path(post, path = "/api/v1/workers/{id}/drain", tag = "cluster",
    params(("id" = String, Path, description = "The worker's name.")),
    request_body(content = Option<DrainAsked>),
    responses((status = 200, description = "It is so now.", body = DrainBody)))]
pub(super) async fn drain(
    rest: Rest,
    Path(worker): Path,
    _: Query<Nothing>,
    sent: Sent,
) -> Result<Json<DrainBody>, Problem> {
    let DrainAsked { draining } = sent.optional()?;
    Ok(Json(rest.cluster().drain(v1::DrainRequest { worker, draining }).await?.into_inner().into()))
}

/// Who leads, and which coordinators there are.
#[utoipa::path(get, path = "/api/v1/leader", tag = "cluster",
    responses((status = 200, description = "Who leads.", body = LeaderBody)))]
pub(super) async fn leader(rest: Rest, _: Query<Nothing>) -> Result<Json<LeaderBody>, Problem> {
    Ok(Json(rest.cluster().leader(v1::LeaderRequest {}).await?.into_inner().into()))
}

/// Clusters, their shards and rules, and the newest changes.
#[utoipa::path(get, path = "/api/v1/topology", tag = "cluster",
    responses((status = 200, description = "All of it.", body = TopologyBody)))]
pub(super) async fn topology(rest: Rest, _: Query<Nothing>) -> Result<Json<TopologyBody>, Problem> {
    Ok(Json(rest.cluster().topology(v1::TopologyRequest {}).await?.into_inner().into()))
}

/// Whose shard is asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct RouteQuery {
    /// The cluster's name.
    cluster: String,
    /// The routing key, as text.
    key: String,
}

/// Which shard holds a key.
#[utoipa::path(get, path = "/api/v1/routes", tag = "cluster", params(RouteQuery),
    responses((status = 200, description = "That shard.", body = RouteBody)))]
pub(super) async fn route(
    rest: Rest,
    Query(RouteQuery { cluster, key }): Query<RouteQuery>,
) -> Result<Json<RouteBody>, Problem> {
    Ok(Json(rest.cluster().route(v1::RouteRequest { cluster, key }).await?.into_inner().into()))
}

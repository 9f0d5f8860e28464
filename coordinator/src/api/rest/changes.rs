//! Changes of the topology: each a new revision, answered after the commit.

use axum::Json;
use serde::{Deserialize, Deserializer};
use shardlift_proto::v1;
use shardlift_proto::v1::change_topology_request::Change;
use shardlift_proto::v1::routing::Rule;
use utoipa::ToSchema;

use super::Rest;
use super::answers::ChangedBody;
use super::asked::{Nothing, Query, Sent};
use super::problem::Problem;

type Changed = Result<Json<ChangedBody>, Problem>;

async fn changed(rest: &Rest, change: Change) -> Changed {
    let request = v1::ChangeTopologyRequest { change: Some(change) };
    Ok(Json(rest.cluster().change_topology(request).await?.into_inner().into()))
}

/// Reads the leader's file again and takes what it declares.
#[utoipa::path(post, path = "/api/v1/topology/reload", tag = "topology",
    responses((status = 200, description = "It is so now.", body = ChangedBody)))]
pub(super) async fn reload(rest: Rest, _: Query<Nothing>, sent: Sent) -> Changed {
    sent.nothing()?;
    changed(&rest, Change::Reload(v1::Reload {})).await
}

/// A shard of a cluster.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ShardOfCluster)]
pub(super) struct ShardAsked {
    /// The cluster's name.
    cluster: String,
    /// The shard's id.
    shard: String,
}

impl From<ShardAsked> for v1::ShardOfCluster {
    fn from(ShardAsked { cluster, shard }: ShardAsked) -> Self {
        Self { cluster, shard }
    }
}

/// Adds a shard to a cluster.
#[utoipa::path(post, path = "/api/v1/topology/add-shard", tag = "topology", request_body = ShardAsked,
    responses((status = 200, description = "It is so now.", body = ChangedBody)))]
pub(super) async fn add_shard(rest: Rest, _: Query<Nothing>, sent: Sent) -> Changed {
    changed(&rest, Change::AddShard(sent.json::<ShardAsked>()?.into())).await
}

/// Takes a shard out of its cluster; refused while anything needs it.
#[utoipa::path(post, path = "/api/v1/topology/remove-shard", tag = "topology", request_body = ShardAsked,
    responses((status = 200, description = "It is so now.", body = ChangedBody)))]
pub(super) async fn remove_shard(rest: Rest, _: Query<Nothing>, sent: Sent) -> Changed {
    changed(&rest, Change::RemoveShard(sent.json::<ShardAsked>()?.into())).await
}

/// Which shard holds which key.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, tag = "rule", rename_all = "snake_case")]
#[schema(as = Routing)]
pub(super) enum RoutingAsked {
    /// By the bucket of the key.
    Hash {
        key: KeyKind,
        /// How many there are; it never changes while there is data.
        buckets: u32,
        /// In the order of the buckets, without gaps.
        spans: Vec<SpanAsked>,
    },
    /// By ordered intervals of keys.
    Range {
        key: KeyKind,
        /// In the order of the keys; the last one has no end.
        ranges: Vec<RangeAsked>,
    },
    /// By an entry for each key.
    Directory {
        key: KeyKind,
        /// Where keys without an entry are; left out: nowhere.
        default: Option<String>,
    },
}

/// What keys are.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = RoutingKey)]
pub(super) enum KeyKind {
    Text,
    Integer,
    Uuid,
}

/// Buckets of one shard, both ends included.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Span)]
pub(super) struct SpanAsked {
    first: u32,
    last: u32,
    shard: String,
}

/// Keys of one shard, from the end of the one before to `below`, which it does not hold.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = KeyRange)]
pub(super) struct RangeAsked {
    /// Left out: it has no end.
    below: Option<String>,
    shard: String,
}

impl From<RoutingAsked> for v1::Routing {
    fn from(asked: RoutingAsked) -> Self {
        let (key, rule) = match asked {
            RoutingAsked::Hash { key, buckets, spans } => {
                let span = |SpanAsked { first, last, shard }| v1::Span { first, last, shard };
                (key, Rule::Hash(v1::HashRule { buckets, spans: spans.into_iter().map(span).collect() }))
            }
            RoutingAsked::Range { key, ranges } => {
                let range = |RangeAsked { below, shard }| v1::KeyRange { below, shard };
                (key, Rule::Range(v1::RangeRule { ranges: ranges.into_iter().map(range).collect() }))
            }
            RoutingAsked::Directory { key, default } => {
                (key, Rule::Directory(v1::DirectoryRule { default_shard: default }))
            }
        };
        let key = match key {
            KeyKind::Text => v1::RoutingKey::Text,
            KeyKind::Integer => v1::RoutingKey::Integer,
            KeyKind::Uuid => v1::RoutingKey::Uuid,
        };
        Self { key: key.into(), rule: Some(rule) }
    }
}

/// The rule of a cluster.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SetRouting)]
pub(super) struct SetRoutingAsked {
    /// The cluster's name.
    cluster: String,
    /// Null takes the rule away.
    #[serde(deserialize_with = "given")]
    #[schema(required = true)]
    routing: Option<RoutingAsked>,
}

/// Null is said, and not what is meant by saying nothing.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    Option::deserialize(deserializer)
}

/// Sets the rule by which keys of a cluster are routed, or takes it away.
#[utoipa::path(post, path = "/api/v1/topology/set-routing", tag = "topology", request_body = SetRoutingAsked,
    responses((status = 200, description = "It is so now.", body = ChangedBody)))]
pub(super) async fn set_routing(rest: Rest, _: Query<Nothing>, sent: Sent) -> Changed {
    let SetRoutingAsked { cluster, routing } = sent.json()?;
    changed(&rest, Change::SetRouting(v1::SetRouting { cluster, routing: routing.map(Into::into) })).await
}

/// The entry of a key in a directory.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RouteKey)]
pub(super) struct RouteKeyAsked {
    /// The cluster's name.
    cluster: String,
    /// The routing key, as text.
    key: String,
    /// Null removes the entry.
    #[serde(deserialize_with = "given")]
    #[schema(required = true)]
    shard: Option<String>,
}

/// Sets or removes the entry of a key, for a cluster that is routed by a directory.
#[utoipa::path(post, path = "/api/v1/topology/route-key", tag = "topology", request_body = RouteKeyAsked,
    responses((status = 200, description = "It is so now.", body = ChangedBody)))]
pub(super) async fn route_key(rest: Rest, _: Query<Nothing>, sent: Sent) -> Changed {
    let RouteKeyAsked { cluster, key, shard } = sent.json()?;
    changed(&rest, Change::RouteKey(v1::RouteKey { cluster, key, shard })).await
}

//! The stream of a look for misplaced rows.

use shardlift_domain::ClusterName;
use shardlift_proto::v1;
use tokio::sync::mpsc;

use super::pieces::{Pieces, pieces};
use crate::service::{Found, Services};

/// Rows that may wait for the reader.
const QUEUE: usize = 256;
/// Rows that are listed unless the request says how many.
const LIMIT: u32 = 1000;

/// Looks, and tells what it finds.
pub(super) fn looking(
    services: Services,
    cluster: ClusterName,
    request: v1::PlacementRequest,
) -> Pieces<v1::PlacementResponse> {
    let (found, queue) = mpsc::channel(QUEUE);
    let work = async move {
        let limit = if request.limit == 0 { LIMIT } else { request.limit };
        services.placement(&cluster, &request.relation, &request.column, limit, &found).await
    };
    pieces(queue, to_wire, work)
}

fn to_wire(found: Found) -> v1::PlacementResponse {
    use v1::placement_response::Found as Wire;
    let found = match found {
        Found::Row { shard, row, to } => Wire::Row(v1::MisplacedRow {
            shard: shard.into(),
            row: row.row,
            key: row.key,
            belongs_to: to.map(Into::into),
        }),
        Found::Walked { shard, rows, done } => Wire::Walked(v1::Walked { shard: shard.into(), rows, done }),
    };
    v1::PlacementResponse { found: Some(found) }
}

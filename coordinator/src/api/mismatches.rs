//! The stream of rows that are not what their transform gives.

use shardlift_domain::failure::Failure;
use shardlift_proto::convert::{compared_to_wire, differing_to_wire};
use shardlift_proto::v1;
use tokio::sync::mpsc;

use super::pieces::{Pieces, pieces};
use crate::service::{Differing, Services, migration_id};

/// Rows that may wait for the reader.
const QUEUE: usize = 256;
/// Rows that are listed unless the request says how many.
const LIMIT: u32 = 1000;

/// Looks, and tells what it finds.
pub(super) fn comparing(
    services: Services,
    request: v1::MismatchesRequest,
) -> Result<Pieces<v1::MismatchesResponse>, Failure> {
    let id = migration_id(&request.id)?;
    let limit = if request.limit == 0 { LIMIT } else { request.limit };
    let (found, queue) = mpsc::channel(QUEUE);
    let work = async move { services.mismatches(id, limit, request.since, &found).await };
    Ok(pieces(queue, to_wire, work))
}

fn to_wire(found: Differing) -> v1::MismatchesResponse {
    use v1::mismatches_response::Found as Wire;
    let found = match found {
        Differing::Row { shard, row } => {
            Wire::Row(v1::ShardMismatch { shard: shard.into(), row: Some(differing_to_wire(row)) })
        }
        Differing::Compared { shard, compared, done } => Wire::Compared(v1::ComparedShard {
            shard: shard.into(),
            compared: Some(compared_to_wire(compared)),
            done,
        }),
    };
    v1::MismatchesResponse { found: Some(found) }
}

//! The stream of what becomes of rows that are repaired.

use shardlift_domain::failure::Failure;
use shardlift_proto::convert::repaired_to_wire;
use shardlift_proto::v1;
use tokio::sync::mpsc;

use super::pieces::{Pieces, pieces};
use crate::service::{Mended, Services, migration_id};

/// Rows that may wait for the reader.
const QUEUE: usize = 256;

/// Repairs, and tells of each row.
pub(super) fn repairing(
    services: Services,
    request: v1::RepairRequest,
) -> Result<Pieces<v1::RepairResponse>, Failure> {
    let id = migration_id(&request.id)?;
    let (told, queue) = mpsc::channel(QUEUE);
    let work = async move { services.repair(id, request.dry_run, &told).await };
    let to_wire = |Mended { shard, row }: Mended| v1::RepairResponse {
        shard: shard.into(),
        row: Some(repaired_to_wire(row)),
    };
    Ok(pieces(queue, to_wire, work))
}

//! The stream of what becomes of rows that are repaired: as slow as its reader, and over when the reader goes.

use futures::{Stream, StreamExt};
use shardlift_domain::failure::Failure;
use shardlift_proto::convert::repaired_to_wire;
use shardlift_proto::status::refuse;
use shardlift_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::service::{Mended, Services, migration_id};

/// Rows that may wait for the reader.
const QUEUE: usize = 256;

/// Repairs, and tells of each row.
pub(super) fn repairing(
    services: Services,
    request: v1::RepairRequest,
) -> Result<impl Stream<Item = Result<v1::RepairResponse, Status>>, Failure> {
    let id = migration_id(&request.id)?;
    let (told, queue) = mpsc::channel(QUEUE);
    let (end, ended) = mpsc::channel(1);
    tokio::spawn(async move {
        if let Err(failure) = services.repair(id, request.dry_run, &told).await {
            // Whoever asked may have gone.
            let _ = end.send(Err(refuse(vec![failure]))).await;
        }
    });
    let to_wire = |Mended { shard, row }: Mended| {
        Ok(v1::RepairResponse { shard: shard.into(), row: Some(repaired_to_wire(row)) })
    };
    Ok(ReceiverStream::new(queue).map(to_wire).chain(ReceiverStream::new(ended)))
}

//! Rows that were set aside, for whoever asks: listed, shown, decided about.

use futures::{Stream, StreamExt};
use shardlift_domain::failure::Failure;
use shardlift_domain::ids::{MigrationId, ShardId};
use shardlift_proto::convert::row_to_wire;
use shardlift_proto::status::refuse;
use shardlift_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::asker::asker;
use super::views::migration_to_wire;
use crate::service::{Decision, Rows, Services, migration_id, shard_id};

/// Rows, or parts of one, that may wait for the reader.
const QUEUE: usize = 8;

/// The list, as slow as its reader, and over when the reader goes.
pub(super) fn listing(
    services: Services,
    request: v1::ListQuarantineRequest,
) -> Result<impl Stream<Item = Result<v1::ListQuarantineResponse, Status>>, Failure> {
    let rows = chosen(&request.id, request.shard, Vec::new())?;
    let (found, queue) = mpsc::channel(QUEUE);
    let (end, ended) = mpsc::channel(1);
    tokio::spawn(async move {
        if let Err(failure) = services.quarantined(&rows, &found).await {
            // Whoever asked may have gone.
            let _ = end.send(Err(refuse(vec![failure]))).await;
        }
    });
    let wire = |(shard, row): (ShardId, _)| {
        Ok(v1::ListQuarantineResponse { shard: shard.into(), row: Some(row_to_wire(row)) })
    };
    Ok(ReceiverStream::new(queue).map(wire).chain(ReceiverStream::new(ended)))
}

/// One row as it was, part by part. It is passed on, never kept and never logged.
pub(super) fn showing(
    services: Services,
    request: v1::ShowQuarantineRequest,
) -> Result<impl Stream<Item = Result<v1::ShowQuarantineResponse, Status>>, Failure> {
    let (id, shard) = (migration_id(&request.id)?, shard_id(&request.shard)?);
    let (parts, queue) = mpsc::channel(QUEUE);
    let (end, ended) = mpsc::channel(1);
    tokio::spawn(async move {
        if let Err(failure) = services.show_quarantined(id, shard, request.key, &parts).await {
            let _ = end.send(Err(refuse(vec![failure]))).await;
        }
    });
    let wire = |part| Ok(v1::ShowQuarantineResponse { part });
    Ok(ReceiverStream::new(queue).map(wire).chain(ReceiverStream::new(ended)))
}

/// Carries out a decision.
pub(super) async fn decide(
    services: &Services,
    request: Request<v1::DecideQuarantineRequest>,
    decision: Decision,
) -> Result<Response<v1::DecideQuarantineResponse>, Status> {
    let by = asker(&request)?;
    let request = request.into_inner();
    let one = |failure| refuse(vec![failure]);
    let rows = chosen(&request.id, request.shard, request.keys).map_err(one)?;
    let (view, rows) = services.decide_quarantined(&rows, decision, by).await.map_err(one)?;
    let migration = Some(migration_to_wire(&view, true));
    Ok(Response::new(v1::DecideQuarantineResponse { migration, rows }))
}

fn chosen(id: &str, shard: Option<String>, keys: Vec<String>) -> Result<Rows, Failure> {
    let id: MigrationId = migration_id(id)?;
    Ok(Rows { id, shard: shard.map(|shard| shard_id(&shard)).transpose()?, keys })
}

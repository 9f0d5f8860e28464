//! Rows that were set aside, for whoever asks: listed, shown, decided about.

use shardlift_domain::failure::Failure;
use shardlift_domain::ids::{MigrationId, ShardId};
use shardlift_proto::convert::row_to_wire;
use shardlift_proto::status::refuse;
use shardlift_proto::v1;
use tokio::sync::mpsc;
use tonic::{Request, Response, Status};

use super::asker::asker;
use super::pieces::{Pieces, pieces};
use super::views::migration_to_wire;
use crate::service::{Decision, Rows, Services, migration_id, shard_id};

/// Rows, or parts of one, that may wait for the reader.
const QUEUE: usize = 8;

/// The list.
pub(super) fn listing(
    services: Services,
    request: v1::ListQuarantineRequest,
) -> Result<Pieces<v1::ListQuarantineResponse>, Failure> {
    let rows = chosen(&request.id, request.shard, Vec::new())?;
    let (found, queue) = mpsc::channel(QUEUE);
    let work = async move { services.quarantined(&rows, &found).await };
    let wire = |(shard, row): (ShardId, _)| v1::ListQuarantineResponse {
        shard: shard.into(),
        row: Some(row_to_wire(row)),
    };
    Ok(pieces(queue, wire, work))
}

/// One row as it was, part by part. It is passed on, never kept and never logged.
pub(super) fn showing(
    services: Services,
    request: v1::ShowQuarantineRequest,
) -> Result<Pieces<v1::ShowQuarantineResponse>, Failure> {
    let (id, shard) = (migration_id(&request.id)?, shard_id(&request.shard)?);
    let (parts, queue) = mpsc::channel(QUEUE);
    let work = async move { services.show_quarantined(id, shard, request.key, &parts).await };
    Ok(pieces(queue, |part| v1::ShowQuarantineResponse { part }, work))
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

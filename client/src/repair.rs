//! Repairing rows that verification has found different.

use shardlift_domain::failure::Failure;
use shardlift_domain::ids::{MigrationId, ShardId};
use shardlift_domain::repair::RepairedRow;
use shardlift_proto::convert::{WireError, repaired_from_wire};
use shardlift_proto::v1;

use crate::client::{Client, lacking};
use crate::connection::Services;
use crate::pieces::Pieces;

impl Client {
    /// Gives rows that the last verification has found different what their transform gives, where nobody has changed them
    /// since; with `dry_run` only tells what would be done.
    pub async fn repair(
        &self,
        id: &MigrationId,
        dry_run: bool,
    ) -> Result<Pieces<v1::RepairResponse>, Vec<Failure>> {
        let request = v1::RepairRequest { id: id.to_string(), dry_run };
        let ask = |mut to: Services, request| async move { to.migrations.repair(request).await };
        self.pieces(request, ask).await
    }
}

impl Pieces<v1::RepairResponse> {
    /// What became of the next row; `None`: that is all.
    pub async fn next(&mut self) -> Result<Option<(ShardId, RepairedRow)>, Vec<Failure>> {
        self.piece().await?.map(read).transpose().map_err(lacking)
    }
}

fn read(told: v1::RepairResponse) -> Result<(ShardId, RepairedRow), WireError> {
    let row = repaired_from_wire(told.row.ok_or(WireError::Missing("row"))?)?;
    Ok((ShardId::new(told.shard)?, row))
}

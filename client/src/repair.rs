//! Repairing rows that verification has found different.

use shardlift_domain::failure::Failure;
use shardlift_domain::ids::{MigrationId, ShardId};
use shardlift_domain::repair::RepairedRow;
use shardlift_proto::convert::{WireError, repaired_from_wire};
use shardlift_proto::v1;
use tonic::Streaming;

use crate::Address;
use crate::client::{Client, lacking};
use crate::connection::{Connection, Services};

impl Client {
    /// Gives rows that the last verification has found different what their transform gives, where nobody has changed them
    /// since; with `dry_run` only tells what would be done.
    pub async fn repair(&self, id: &MigrationId, dry_run: bool) -> Result<Repair, Vec<Failure>> {
        let request = v1::RepairRequest { id: id.to_string(), dry_run };
        // No deadline: many rows take long. Keep-alive notices a peer that is gone.
        let ask = |mut to: Services| {
            let request = request.clone();
            async move { to.migrations.repair(request).await }
        };
        let (from, stream) = self.connection.answered_by(ask).await?;
        Ok(Repair { connection: self.connection.clone(), from, stream })
    }
}

/// A repair that is under way; dropping it ends it.
#[derive(Debug)]
pub struct Repair {
    connection: Connection,
    from: Address,
    stream: Streaming<v1::RepairResponse>,
}

impl Repair {
    /// What became of the next row; `None`: that is all.
    pub async fn next(&mut self) -> Result<Option<(ShardId, RepairedRow)>, Vec<Failure>> {
        match self.stream.message().await {
            Ok(told) => told.map(read).transpose().map_err(lacking),
            Err(status) => Err(self.connection.refused(&self.from, &status).into_failures()),
        }
    }
}

fn read(told: v1::RepairResponse) -> Result<(ShardId, RepairedRow), WireError> {
    let row = repaired_from_wire(told.row.ok_or(WireError::Missing("row"))?)?;
    Ok((ShardId::new(told.shard)?, row))
}

//! Rows that were set aside: listed, shown, decided about.

use shardlift_domain::failure::Failure;
use shardlift_domain::ids::{MigrationId, ShardId};
use shardlift_domain::quarantine::QuarantinedRow;
use shardlift_proto::convert::row_from_wire;
use shardlift_proto::v1;

use crate::client::{Client, THOROUGH, lacking, within};
use crate::connection::Services;
use crate::model::MigrationView;
use crate::pieces::Pieces;

impl Client {
    /// The rows of a migration that were set aside, on one shard or on all.
    pub async fn quarantine(
        &self,
        id: &MigrationId,
        shard: Option<&ShardId>,
    ) -> Result<Pieces<v1::ListQuarantineResponse>, Vec<Failure>> {
        let request = v1::ListQuarantineRequest { id: id.to_string(), shard: shard.map(ToString::to_string) };
        let ask = |mut to: Services, request| async move { to.migrations.list_quarantine(request).await };
        self.pieces(request, ask).await
    }

    /// One of them as it was.
    pub async fn quarantined(
        &self,
        id: &MigrationId,
        shard: &ShardId,
        key: &str,
    ) -> Result<Pieces<v1::ShowQuarantineResponse>, Vec<Failure>> {
        let request =
            v1::ShowQuarantineRequest { id: id.to_string(), shard: shard.to_string(), key: key.to_owned() };
        let ask = |mut to: Services, request| async move { to.migrations.show_quarantine(request).await };
        self.pieces(request, ask).await
    }

    /// Has rows tried again (`retry`), or gives them up: the migration afterwards, and how many rows it concerned.
    pub async fn decide(
        &self,
        id: &MigrationId,
        shard: Option<&ShardId>,
        keys: &[String],
        retry: bool,
    ) -> Result<(MigrationView, u64), Vec<Failure>> {
        let request = v1::DecideQuarantineRequest {
            id: id.to_string(),
            shard: shard.map(ToString::to_string),
            keys: keys.to_vec(),
        };
        let ask = |mut to: Services| {
            let request = within(THOROUGH, request.clone());
            async move {
                match retry {
                    true => to.migrations.retry_quarantine(request).await,
                    false => to.migrations.discard_quarantine(request).await,
                }
            }
        };
        let answer = self.connection.answered(ask).await?;
        Ok((MigrationView::from_wire(answer.migration).map_err(lacking)?, answer.rows))
    }
}

impl Pieces<v1::ListQuarantineResponse> {
    /// The next row and its shard; `None`: that is all.
    pub async fn next(&mut self) -> Result<Option<(ShardId, QuarantinedRow)>, Vec<Failure>> {
        let Some(found) = self.piece().await? else { return Ok(None) };
        let shard = ShardId::new(found.shard).map_err(|error| lacking(error.into()))?;
        Ok(Some((shard, row_from_wire(found.row.unwrap_or_default()))))
    }
}

impl Pieces<v1::ShowQuarantineResponse> {
    /// The next part of the JSON text, which may end within a character; `None`: that is all.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, Vec<Failure>> {
        Ok(self.piece().await?.map(|found| found.part))
    }
}

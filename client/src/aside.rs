//! Rows that were set aside: listed, shown, decided about.

use shardlift_domain::failure::Failure;
use shardlift_domain::ids::{MigrationId, ShardId};
use shardlift_domain::quarantine::QuarantinedRow;
use shardlift_proto::convert::row_from_wire;
use shardlift_proto::v1;
use tonic::Streaming;

use crate::Address;
use crate::client::{Client, THOROUGH, lacking, within};
use crate::connection::{Connection, Services};
use crate::model::MigrationView;

impl Client {
    /// The rows of a migration that were set aside, on one shard or on all.
    pub async fn quarantine(
        &self,
        id: &MigrationId,
        shard: Option<&ShardId>,
    ) -> Result<Aside<v1::ListQuarantineResponse>, Vec<Failure>> {
        let request = v1::ListQuarantineRequest { id: id.to_string(), shard: shard.map(ToString::to_string) };
        let ask = |mut to: Services| {
            let request = request.clone();
            async move { to.migrations.list_quarantine(request).await }
        };
        self.pieces(ask).await
    }

    /// One of them as it was.
    pub async fn quarantined(
        &self,
        id: &MigrationId,
        shard: &ShardId,
        key: &str,
    ) -> Result<Aside<v1::ShowQuarantineResponse>, Vec<Failure>> {
        let request =
            v1::ShowQuarantineRequest { id: id.to_string(), shard: shard.to_string(), key: key.to_owned() };
        let ask = |mut to: Services| {
            let request = request.clone();
            async move { to.migrations.show_quarantine(request).await }
        };
        self.pieces(ask).await
    }

    /// An answer that comes piece by piece, from whoever leads. Without a deadline: keep-alive notices a peer that is gone.
    pub(crate) async fn pieces<T, F>(&self, ask: impl Fn(Services) -> F) -> Result<Aside<T>, Vec<Failure>>
    where
        F: Future<Output = Result<tonic::Response<Streaming<T>>, tonic::Status>>,
    {
        let (from, stream) = self.connection.answered_by(ask).await?;
        Ok(Aside { connection: self.connection.clone(), from, stream })
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

/// An answer that comes piece by piece; dropping it ends it.
#[derive(Debug)]
pub struct Aside<T> {
    connection: Connection,
    from: Address,
    stream: Streaming<T>,
}

impl<T> Aside<T> {
    pub(crate) async fn piece(&mut self) -> Result<Option<T>, Vec<Failure>> {
        let piece = self.stream.message().await;
        piece.map_err(|status| self.connection.refused(&self.from, &status).into_failures())
    }
}

impl Aside<v1::ListQuarantineResponse> {
    /// The next row and its shard; `None`: that is all.
    pub async fn next(&mut self) -> Result<Option<(ShardId, QuarantinedRow)>, Vec<Failure>> {
        let Some(found) = self.piece().await? else { return Ok(None) };
        let shard = ShardId::new(found.shard).map_err(|error| lacking(error.into()))?;
        Ok(Some((shard, row_from_wire(found.row.unwrap_or_default()))))
    }
}

impl Aside<v1::ShowQuarantineResponse> {
    /// The next part of the JSON text, which may end within a character; `None`: that is all.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, Vec<Failure>> {
        Ok(self.piece().await?.map(|found| found.part))
    }
}

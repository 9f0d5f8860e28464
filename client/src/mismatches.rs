//! Rows that are not what their transform gives.

use shardlift_domain::failure::Failure;
use shardlift_domain::ids::MigrationId;
use shardlift_proto::v1;
use tonic::Streaming;

use crate::Address;
use crate::client::{Client, lacking};
use crate::connection::{Connection, Services};
use crate::model::Differing;

impl Client {
    /// Evaluates the transform of the newest version anew on what was kept of its rows. Lists at most `limit` of those that
    /// differ; with `since` also those that were changed since or are gone.
    pub async fn mismatches(
        &self,
        id: &MigrationId,
        limit: u32,
        since: bool,
    ) -> Result<Mismatches, Vec<Failure>> {
        let request = v1::MismatchesRequest { id: id.to_string(), limit, since };
        // No deadline: a large migration takes long. Keep-alive notices a peer that is gone.
        let ask = |mut to: Services| {
            let request = request.clone();
            async move { to.migrations.mismatches(request).await }
        };
        let (from, stream) = self.connection.answered_by(ask).await?;
        Ok(Mismatches { connection: self.connection.clone(), from, stream })
    }
}

/// A comparison that is under way; dropping it ends it.
#[derive(Debug)]
pub struct Mismatches {
    connection: Connection,
    from: Address,
    stream: Streaming<v1::MismatchesResponse>,
}

impl Mismatches {
    /// What was found next; `None`: that is all.
    pub async fn next(&mut self) -> Result<Option<Differing>, Vec<Failure>> {
        match self.stream.message().await {
            Ok(found) => found.map(Differing::from_wire).transpose().map_err(lacking),
            Err(status) => Err(self.connection.refused(&self.from, &status).into_failures()),
        }
    }
}

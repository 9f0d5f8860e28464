//! Rows that are not what their transform gives.

use shardlift_domain::failure::Failure;
use shardlift_domain::ids::MigrationId;
use shardlift_proto::v1;

use crate::client::{Client, lacking};
use crate::connection::Services;
use crate::model::Differing;
use crate::pieces::Pieces;

impl Client {
    /// Evaluates the transform of the newest version anew on what was kept of its rows. Lists at most `limit` of those that
    /// differ; with `since` also those that were changed since or are gone.
    pub async fn mismatches(
        &self,
        id: &MigrationId,
        limit: u32,
        since: bool,
    ) -> Result<Pieces<v1::MismatchesResponse>, Vec<Failure>> {
        let request = v1::MismatchesRequest { id: id.to_string(), limit, since };
        let ask = |mut to: Services, request| async move { to.migrations.mismatches(request).await };
        self.pieces(request, ask).await
    }
}

impl Pieces<v1::MismatchesResponse> {
    /// What was found next; `None`: that is all.
    pub async fn next(&mut self) -> Result<Option<Differing>, Vec<Failure>> {
        self.piece().await?.map(Differing::from_wire).transpose().map_err(lacking)
    }
}

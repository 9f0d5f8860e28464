//! Answers that come piece by piece.

use shardlift_domain::failure::Failure;
use tonic::{Response, Status, Streaming};

use crate::Address;
use crate::client::Client;
use crate::connection::{Connection, Services};

impl Client {
    /// Asks whoever leads. Without a deadline, since what is asked so may take long: keep-alive notices a peer that is gone.
    pub(crate) async fn pieces<R: Clone, T, F>(
        &self,
        request: R,
        ask: impl Fn(Services, R) -> F,
    ) -> Result<Pieces<T>, Vec<Failure>>
    where
        F: Future<Output = Result<Response<Streaming<T>>, Status>>,
    {
        let ask = |to| ask(to, request.clone());
        let (from, stream) = self.connection.answered_by(ask).await?;
        Ok(Pieces { connection: self.connection.clone(), from, stream })
    }
}

/// An answer that is under way; dropping it ends what it tells of.
#[derive(Debug)]
pub struct Pieces<T> {
    connection: Connection,
    from: Address,
    stream: Streaming<T>,
}

impl<T> Pieces<T> {
    pub(crate) async fn piece(&mut self) -> Result<Option<T>, Vec<Failure>> {
        let piece = self.stream.message().await;
        piece.map_err(|status| self.connection.refused(&self.from, &status).into_failures())
    }
}

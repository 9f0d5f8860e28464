//! The store for several coordinators: a PostgreSQL database, in the schema `shardlift_coordinator`.
//!
//! Every commit is one transaction that locks the fence row first, so that it conflicts with a take-over, which updates
//! that row. It costs a handful of statements however many shards it speaks of. One guarded session serves all: who
//! leads asks for one thing at a time, and a session whose answer was not waited for is closed, not used again.

mod decisions;
mod directory;
mod fence;
mod locks;
mod open;
mod outbox;
mod progress;
mod read;
mod session;
#[cfg(test)]
mod tests;
mod write;

use async_trait::async_trait;
use shardlift_domain::{Epoch, Fence, MigrationId, Nonce};
use shardlift_runtime::config::Secret;

use super::{
    Change, Head, HistoryEvent, LeaderPermit, Link, Position, Recorded, Snapshot, Store, StoreError, Wanted,
};
use session::Sessions;

/// A store in a PostgreSQL database.
#[derive(Debug)]
pub struct PostgresStore {
    sessions: Sessions,
}

impl PostgresStore {
    /// Connects, and brings the schema up to this release. The database must exist.
    pub async fn open(url: &Secret) -> Result<Self, StoreError> {
        let sessions = Sessions::new(url)?;
        open::prepare(&sessions).await?;
        Ok(Self { sessions })
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn fence(&self) -> Result<Fence, StoreError> {
        let mut session = self.sessions.take().await?;
        let fence = fence::read(&mut session.connection).await?;
        session.keep();
        Ok(fence)
    }

    async fn take_over(
        &self,
        seen: &Fence,
        above: Option<Epoch>,
        nonce: Nonce,
        holder: &str,
    ) -> Result<LeaderPermit, StoreError> {
        let mut session = self.sessions.take().await?;
        let permit = fence::raise(&mut session.connection, seen, above, nonce, holder).await?;
        session.keep();
        Ok(permit)
    }

    async fn load(&self) -> Result<Snapshot, StoreError> {
        let mut session = self.sessions.take().await?;
        // Read row by row, each in time: a large store may need longer for all of them than one statement is given.
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = 0";
        session.begin(begin).await?;
        let snapshot = read::snapshot(&mut session.connection).await?;
        session.end("COMMIT").await?;
        Ok(snapshot)
    }

    async fn commit(&self, permit: &LeaderPermit, change: Change) -> Result<(), StoreError> {
        let mut session = self.sessions.take().await?;
        session.begin("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE").await?;
        let made = match fence::hold(&mut session.connection, permit.fence()).await {
            Ok(()) => write::apply(&mut session.connection, &change, permit.fence().epoch).await,
            refused => refused,
        };
        match made {
            Ok(()) => {
                fail::fail_point!("store-before-commit", |_| std::process::abort());
                session.end("COMMIT").await?;
                fail::fail_point!("store-after-commit", |_| std::process::abort());
                Ok(())
            }
            Err(error @ StoreError::Unavailable { .. }) => Err(error),
            Err(refused) => {
                session.end("ROLLBACK").await?;
                Err(refused)
            }
        }
    }

    async fn events(
        &self,
        id: &MigrationId,
        after: Option<u64>,
        limit: u32,
    ) -> Result<Vec<Recorded>, StoreError> {
        let mut session = self.sessions.take().await?;
        let events = read::events(&mut session.connection, id, after, limit).await?;
        session.keep();
        Ok(events)
    }

    async fn head(&self) -> Result<Head, StoreError> {
        let mut session = self.sessions.take().await?;
        let head = fence::head(&mut session.connection).await?;
        session.keep();
        Ok(head)
    }

    async fn links(&self, wanted: &Wanted) -> Result<Vec<Link>, StoreError> {
        let mut session = self.sessions.take().await?;
        let links = read::links(&mut session.connection, wanted).await?;
        session.keep();
        Ok(links)
    }

    async fn position(&self, sink: &str) -> Result<Position, StoreError> {
        let mut session = self.sessions.take().await?;
        let found = outbox::position(&mut session.connection, sink).await?;
        session.keep();
        Ok(found)
    }

    async fn told(
        &self,
        kinds: &[HistoryEvent],
        after: u64,
        limit: u32,
    ) -> Result<Vec<Recorded>, StoreError> {
        let mut session = self.sessions.take().await?;
        let found = outbox::told(&mut session.connection, kinds, after, limit).await?;
        session.keep();
        Ok(found)
    }

    async fn count(&self, id: &MigrationId, kinds: &[HistoryEvent], up_to: u64) -> Result<u64, StoreError> {
        let mut session = self.sessions.take().await?;
        let found = outbox::count(&mut session.connection, id, kinds, up_to).await?;
        session.keep();
        Ok(found)
    }

    async fn has_heard(&self, source: &str, id: &str) -> Result<bool, StoreError> {
        let mut session = self.sessions.take().await?;
        let found = outbox::has_heard(&mut session.connection, source, id).await?;
        session.keep();
        Ok(found)
    }
}

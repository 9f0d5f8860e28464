//! The store for several coordinators: a MongoDB replica set, one database of its own.
//!
//! Every commit is one transaction that writes to the fence document first, so that it conflicts with a take-over, which
//! writes to it as well; the server then refuses one of the two. All of a migration but its failures is one document,
//! with its shards embedded by name: about 250 bytes each, so that 10,000 shards stay far below the 16 MB of a document.

mod client;
mod decisions;
mod directory;
mod documents;
mod fence;
mod open;
mod outbox;
mod read;
#[cfg(test)]
mod tests;
mod write;

use async_trait::async_trait;
use mongodb::Database;
use shardlift_domain::{Epoch, Fence, MigrationId, Nonce};
use shardlift_runtime::config::Secret;

use super::{
    Change, Head, HistoryEvent, LeaderPermit, Link, Position, Recorded, Snapshot, Store, StoreError, Wanted,
};
use client::Writer;

/// The name of the database unless the configuration says otherwise.
pub const DEFAULT_DATABASE: &str = "shardlift_coordinator";

/// A store in a database of a MongoDB replica set.
#[derive(Debug)]
pub struct MongodbStore {
    database: Database,
    writer: Writer,
}

impl MongodbStore {
    /// Connects, and brings the collections up to this release.
    pub async fn open(url: &Secret, database: &str) -> Result<Self, StoreError> {
        let database = open::open(url, database).await?;
        Ok(Self { database, writer: Writer::default() })
    }
}

#[async_trait]
impl Store for MongodbStore {
    async fn fence(&self) -> Result<Fence, StoreError> {
        Ok(fence::read(&self.database).await?.fence)
    }

    async fn take_over(
        &self,
        seen: &Fence,
        above: Option<Epoch>,
        nonce: Nonce,
        holder: &str,
    ) -> Result<LeaderPermit, StoreError> {
        fence::raise(&self.database, seen, above, nonce, holder).await
    }

    async fn load(&self) -> Result<Snapshot, StoreError> {
        read::snapshot(&self.database).await
    }

    async fn commit(&self, permit: &LeaderPermit, change: Change) -> Result<(), StoreError> {
        self.writer.commit(&self.database, permit.fence(), &change).await
    }

    async fn events(
        &self,
        id: &MigrationId,
        after: Option<u64>,
        limit: u32,
    ) -> Result<Vec<Recorded>, StoreError> {
        read::events(&self.database, id, after, limit).await
    }

    async fn head(&self) -> Result<Head, StoreError> {
        fence::head(&self.database).await
    }

    async fn links(&self, wanted: &Wanted) -> Result<Vec<Link>, StoreError> {
        read::links(&self.database, wanted).await
    }

    async fn position(&self, sink: &str) -> Result<Position, StoreError> {
        outbox::position(&self.database, sink).await
    }

    async fn told(
        &self,
        kinds: &[HistoryEvent],
        after: u64,
        limit: u32,
    ) -> Result<Vec<Recorded>, StoreError> {
        outbox::told(&self.database, kinds, after, limit).await
    }

    async fn count(&self, id: &MigrationId, kinds: &[HistoryEvent], up_to: u64) -> Result<u64, StoreError> {
        outbox::count(&self.database, id, kinds, up_to).await
    }

    async fn has_heard(&self, source: &str, id: &str) -> Result<bool, StoreError> {
        outbox::has_heard(&self.database, source, id).await
    }
}

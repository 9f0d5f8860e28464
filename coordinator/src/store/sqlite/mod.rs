//! The default store: one SQLite file on this machine, for one coordinator.
//!
//! Every write is a `BEGIN IMMEDIATE` transaction that compares the fence row first, and every commit is on disk
//! before it is acknowledged (`synchronous = FULL`). Writes queue for one connection; reads see a snapshot beside it.

mod decisions;
mod fence;
mod locks;
mod open;
mod outbox;
mod read;
#[cfg(test)]
mod tests;
mod topology;
mod write;

use std::path::Path;

use async_trait::async_trait;
use shardlift_domain::{Epoch, Fence, MigrationId, Nonce};
use sqlx::pool::PoolConnection;
use sqlx::{Sqlite, SqlitePool};

use super::rows::with_decisions;
use super::{
    Change, Head, HistoryEvent, LeaderPermit, Link, Position, Recorded, Snapshot, Store, StoreError, Wanted,
};

/// A store in a SQLite file.
#[derive(Debug)]
pub struct SqliteStore {
    /// One connection, so that our own writes wait in line and not for each other's locks.
    writer: SqlitePool,
    reader: SqlitePool,
}

impl SqliteStore {
    /// Opens the file, creating it if there is none, and brings its tables up to this release. The directory must
    /// exist.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let (writer, reader) = open::open(path).await?;
        Ok(Self { writer, reader })
    }

    async fn reading(&self) -> Result<PoolConnection<Sqlite>, StoreError> {
        self.reader.acquire().await.map_err(StoreError::unavailable("begin reading"))
    }

    /// Closes the file once nobody uses it any more.
    pub async fn close(&self) {
        self.reader.close().await;
        self.writer.close().await;
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn fence(&self) -> Result<Fence, StoreError> {
        let mut connection =
            self.reader.acquire().await.map_err(StoreError::unavailable("read the fence"))?;
        fence::read(&mut connection).await
    }

    async fn take_over(
        &self,
        seen: &Fence,
        above: Option<Epoch>,
        nonce: Nonce,
        holder: &str,
    ) -> Result<LeaderPermit, StoreError> {
        let mut transaction = fence::begin(&self.writer).await?;
        let permit = fence::raise(&mut transaction, seen, above, nonce, holder).await?;
        fence::end(transaction).await?;
        Ok(permit)
    }

    async fn load(&self) -> Result<Snapshot, StoreError> {
        let mut transaction = self.reader.begin().await.map_err(StoreError::unavailable("begin reading"))?;
        let topology = topology::read(&mut transaction).await?;
        let decisions = decisions::read(&mut transaction).await?;
        let migrations = with_decisions(read::migrations(&mut transaction).await?, decisions);
        let directory = topology::read_directory(&mut transaction).await?;
        let locks = locks::read(&mut transaction).await?;
        Ok(Snapshot { topology, directory, migrations, locks })
    }

    async fn commit(&self, permit: &LeaderPermit, change: Change) -> Result<(), StoreError> {
        let mut transaction = fence::begin(&self.writer).await?;
        fence::check(&mut transaction, permit).await?;
        write::apply(&mut transaction, &change, permit.fence().epoch).await?;
        fail::fail_point!("store-before-commit", |_| std::process::abort());
        fence::end(transaction).await?;
        fail::fail_point!("store-after-commit", |_| std::process::abort());
        Ok(())
    }

    async fn events(
        &self,
        id: &MigrationId,
        after: Option<u64>,
        limit: u32,
    ) -> Result<Vec<Recorded>, StoreError> {
        let mut connection =
            self.reader.acquire().await.map_err(StoreError::unavailable("read the history"))?;
        read::events(&mut connection, id, after, limit).await
    }

    async fn head(&self) -> Result<Head, StoreError> {
        let doing = "read the head of the history";
        fence::head(&mut *self.reader.acquire().await.map_err(StoreError::unavailable(doing))?).await
    }

    async fn links(&self, wanted: &Wanted) -> Result<Vec<Link>, StoreError> {
        let doing = "read the history";
        read::links(&mut *self.reader.acquire().await.map_err(StoreError::unavailable(doing))?, wanted).await
    }

    async fn position(&self, sink: &str) -> Result<Position, StoreError> {
        let mut connection = self.reading().await?;
        outbox::position(&mut connection, sink).await
    }

    async fn told(
        &self,
        kinds: &[HistoryEvent],
        after: u64,
        limit: u32,
    ) -> Result<Vec<Recorded>, StoreError> {
        let mut connection = self.reading().await?;
        outbox::told(&mut connection, kinds, after, limit).await
    }

    async fn count(&self, id: &MigrationId, kinds: &[HistoryEvent], up_to: u64) -> Result<u64, StoreError> {
        let mut connection = self.reading().await?;
        outbox::count(&mut connection, id, kinds, up_to).await
    }

    async fn has_heard(&self, source: &str, id: &str) -> Result<bool, StoreError> {
        let mut connection = self.reading().await?;
        outbox::has_heard(&mut connection, source, id).await
    }
}

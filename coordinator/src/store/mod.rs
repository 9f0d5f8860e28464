//! The coordinator's memory: migrations, topology, history, and the fence that says who leads.
//!
//! A backend promises three things. A commit is one transaction: all of a [`Change`] or nothing, and what it
//! adds to the history continues the chain ([`chain`]). A commit conflicts
//! with a take-over in the database's own terms, so that a leader that was replaced cannot write. What was
//! committed survives a crash of the process and of the machine. The suite in `conformance` holds every backend to
//! them. Nothing outside of this module touches the metadata database.

mod chain;
mod change;
#[cfg(test)]
mod conformance;
mod error;
mod history;
mod memory;
mod mongodb;
mod observed;
mod outbox;
mod permit;
mod postgres;
mod rows;
mod sqlite;
mod steps;
mod tables;

use async_trait::async_trait;
use shardlift_domain::{Epoch, Fence, MigrationId, Nonce};

pub use self::mongodb::{DEFAULT_DATABASE, MongodbStore};
pub use chain::{Broken, Head, Link, Walk, Wanted};
pub use change::{Change, Locks, Moved, Snapshot, StoredMigration, Times};
pub use error::StoreError;
pub use history::{HistoryEntry, HistoryEvent, Recorded};
pub use memory::MemoryStore;
pub use observed::ObservedStore;
pub use outbox::{Heard, Position, Relayed};
pub use permit::LeaderPermit;
pub use postgres::PostgresStore;
pub use sqlite::SqliteStore;

/// What the coordinator asks of its memory, in its own words.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// The fence row as it stands: what a take-over must name.
    async fn fence(&self) -> Result<Fence, StoreError>;

    /// Takes the lead: compare-and-sets the fence row from `seen` to an epoch above it, with this nonce.
    ///
    /// Between [`Store::fence`] and this call the candidate confirms that it is elected, so that whoever was elected
    /// later finds the row moved, or moves it (promise P2). Refused with [`StoreError::Fenced`], having changed
    /// nothing, when the row is not `seen` any more. The epoch comes from the store alone; whoever held a permit
    /// before is fenced from here on. `above`: a shard has seen this epoch from somebody else, since the store was
    /// restored from an old copy. `holder` is the name of this coordinator, for people.
    async fn take_over(
        &self,
        seen: &Fence,
        above: Option<Epoch>,
        nonce: Nonce,
        holder: &str,
    ) -> Result<LeaderPermit, StoreError>;

    /// Everything, as of one moment.
    async fn load(&self) -> Result<Snapshot, StoreError>;

    /// The one write. Refused with [`StoreError::Fenced`], having changed nothing, when the permit is not the newest.
    ///
    /// After [`StoreError::Unavailable`], or when the future was dropped, the change is stored wholly or not at all. The
    /// next take-over or commit waits until that is settled or settles it, and a [`Store::load`] after it tells which.
    async fn commit(&self, permit: &LeaderPermit, change: Change) -> Result<(), StoreError>;

    /// What happened to all versions of a migration, oldest first: the first `limit` entries behind the sequence `after`,
    /// or the newest `limit` without one. Whoever goes on behind the last one that it got misses none and gets none twice.
    async fn events(
        &self,
        id: &MigrationId,
        after: Option<u64>,
        limit: u32,
    ) -> Result<Vec<Recorded>, StoreError>;

    /// How far the chain of the history is.
    async fn head(&self) -> Result<Head, StoreError>;

    /// Entries of the history as they stand, oldest first, with their hashes: what a walk along the chain needs.
    async fn links(&self, wanted: &Wanted) -> Result<Vec<Link>, StoreError>;
    /// Where a sink stands in the history.
    async fn position(&self, sink: &str) -> Result<Position, StoreError>;

    /// Entries of these kinds, of all migrations, oldest first: the first `limit` behind a sequence. No smaller sequence
    /// appears after a larger one was seen, so whoever goes on behind the last one misses none.
    async fn told(&self, kinds: &[HistoryEvent], after: u64, limit: u32)
    -> Result<Vec<Recorded>, StoreError>;

    /// How many entries of these kinds all versions of a migration have, up to a sequence.
    async fn count(&self, id: &MigrationId, kinds: &[HistoryEvent], up_to: u64) -> Result<u64, StoreError>;

    /// Whether a request of a broker was carried out.
    async fn has_heard(&self, source: &str, id: &str) -> Result<bool, StoreError>;

    /// The newest `limit` entries, oldest first, without their sequences.
    async fn history(&self, id: &MigrationId, limit: u32) -> Result<Vec<HistoryEntry>, StoreError> {
        let events = self.events(id, None, limit).await?;
        Ok(events.into_iter().map(|recorded| recorded.entry).collect())
    }
}

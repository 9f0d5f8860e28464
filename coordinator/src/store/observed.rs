//! A store as it is watched: metrics around another one. It changes nothing of what that one does.

use std::sync::Arc;

use async_trait::async_trait;
use shardlift_domain::{Epoch, Fence, MigrationId, Nonce};
use tokio::time::Instant;

use super::{
    Change, Head, HistoryEvent, LeaderPermit, Link, Position, Recorded, Snapshot, Store, StoreError, Wanted,
};
use crate::metrics::Metrics;

/// A store with metrics around it.
pub struct ObservedStore {
    inner: Arc<dyn Store>,
    metrics: Arc<Metrics>,
}

impl ObservedStore {
    /// Watches this store.
    pub fn new(inner: Arc<dyn Store>, metrics: Arc<Metrics>) -> Self {
        Self { inner, metrics }
    }

    fn watched<T>(&self, operation: &'static str, result: Result<T, StoreError>) -> Result<T, StoreError> {
        match &result {
            Ok(_) => {}
            Err(StoreError::Fenced { .. }) => {
                self.metrics.fenced.inc();
            }
            Err(_) => {
                self.metrics.store_failures.get_or_create_owned(&[("operation", operation)]).inc();
            }
        }
        result
    }
}

#[async_trait]
impl Store for ObservedStore {
    async fn fence(&self) -> Result<Fence, StoreError> {
        self.watched("fence", self.inner.fence().await)
    }

    async fn take_over(
        &self,
        seen: &Fence,
        above: Option<Epoch>,
        nonce: Nonce,
        holder: &str,
    ) -> Result<LeaderPermit, StoreError> {
        let taken = self.inner.take_over(seen, above, nonce, holder).await;
        if taken.is_ok() {
            self.metrics.take_overs.inc();
        }
        self.watched("take_over", taken)
    }

    async fn load(&self) -> Result<Snapshot, StoreError> {
        self.watched("load", self.inner.load().await)
    }

    async fn commit(&self, permit: &LeaderPermit, change: Change) -> Result<(), StoreError> {
        let began = Instant::now();
        let made = self.inner.commit(permit, change).await;
        self.metrics.commit.observe(began.elapsed().as_secs_f64());
        self.watched("commit", made)
    }

    async fn events(
        &self,
        id: &MigrationId,
        after: Option<u64>,
        limit: u32,
    ) -> Result<Vec<Recorded>, StoreError> {
        self.watched("history", self.inner.events(id, after, limit).await)
    }

    async fn position(&self, sink: &str) -> Result<Position, StoreError> {
        self.watched("outbox", self.inner.position(sink).await)
    }

    async fn told(
        &self,
        kinds: &[HistoryEvent],
        after: u64,
        limit: u32,
    ) -> Result<Vec<Recorded>, StoreError> {
        self.watched("outbox", self.inner.told(kinds, after, limit).await)
    }

    async fn count(&self, id: &MigrationId, kinds: &[HistoryEvent], up_to: u64) -> Result<u64, StoreError> {
        self.watched("outbox", self.inner.count(id, kinds, up_to).await)
    }

    async fn has_heard(&self, source: &str, id: &str) -> Result<bool, StoreError> {
        self.watched("heard", self.inner.has_heard(source, id).await)
    }

    async fn head(&self) -> Result<Head, StoreError> {
        self.watched("history", self.inner.head().await)
    }

    async fn links(&self, wanted: &Wanted) -> Result<Vec<Link>, StoreError> {
        self.watched("history", self.inner.links(wanted).await)
    }
}

#[cfg(test)]
mod tests {
    use super::super::MemoryStore;
    use super::*;

    #[tokio::test]
    async fn take_overs_and_refused_writes_are_counted() {
        let metrics = Arc::new(Metrics::default());
        let store = ObservedStore::new(Arc::new(MemoryStore::default()), Arc::clone(&metrics));
        let seen = store.fence().await.expect("reads");
        let old = store.take_over(&seen, None, Nonce("a".into()), "one").await.expect("takes over");
        let seen = store.fence().await.expect("reads");
        store.take_over(&seen, None, Nonce("b".into()), "two").await.expect("takes over");
        store.commit(&old, Change::default()).await.expect_err("is fenced");
        assert_eq!((metrics.take_overs.get(), metrics.fenced.get()), (2, 1));
        let failures = metrics.store_failures.get_or_create_owned(&[("operation", "commit")]);
        assert_eq!(failures.get(), 0, "a fenced write is no failure of the store");
    }
}

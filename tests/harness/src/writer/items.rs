//! The application of the scenarios: it uses the tiny table `items`, in the old form until it is told to
//! deploy the new.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Running, Source, WriterReport, documents, mongodb, postgres, tables};
use crate::dataset::items::{IdKind, KeyKind};

/// How the application behaves.
#[derive(Debug, Clone, Copy)]
pub struct ItemsOptions {
    /// Writes per second, at most.
    pub rate_per_second: u32,
    /// Inserts rows in the new form (`migrated = true, applied = 1`) from the start. With the old form
    /// (`migrated = false, applied = 0`) a migration with `where` ends only after
    /// [`ItemsWriter::deploy_new_form`]. A migration without `where` wants the old form throughout.
    pub new_form: bool,
    /// Also gives rows other keys; in MongoDB by delete and insert in one transaction. Not for
    /// `immutable_key`.
    pub key_updates: bool,
}

impl Default for ItemsOptions {
    /// 100 writes per second, old form, with key updates.
    fn default() -> Self {
        Self { rate_per_second: 100, new_form: false, key_updates: true }
    }
}

/// The application on `items` of one shard.
#[derive(Debug)]
pub struct ItemsWriter {
    running: Running,
}

impl ItemsWriter {
    /// Starts using `items` of the PostgreSQL database behind `dsn`, which was loaded with `kind`.
    pub fn start_postgres(dsn: String, seed: u64, kind: KeyKind, options: ItemsOptions) -> Self {
        let tables: Arc<[tables::Table]> = vec![tables::items(kind)].into();
        let store = postgres::Postgres::new(dsn, tables.clone());
        Self { running: start(store, Source::Postgres(tables), seed, options) }
    }

    /// Starts using `items` of the MongoDB database that `dsn` names, which was loaded with `kind`.
    pub fn start_mongodb(dsn: String, seed: u64, kind: IdKind, options: ItemsOptions) -> Self {
        let collections: Arc<[documents::Collection]> = vec![documents::items(kind)].into();
        let store = mongodb::MongoDb::new(dsn, collections.clone());
        Self { running: start(store, Source::MongoDb(collections), seed, options) }
    }

    /// From its next write on, the application inserts rows in the new form.
    pub fn deploy_new_form(&self) {
        self.running.orders.new_form.store(true, Ordering::Relaxed);
    }

    /// Writes acknowledged so far: a test waits for this to grow.
    pub fn acknowledged(&self) -> u64 {
        self.running.orders.acknowledged.load(Ordering::Relaxed)
    }

    /// Writes that failed so far, or whose outcome is unknown: a test waits for this after it killed a server.
    pub fn failed(&self) -> u64 {
        self.running.orders.failed.load(Ordering::Relaxed)
    }

    /// Finishes the write it is at and stops.
    ///
    /// # Errors
    /// When it never reached the table.
    pub async fn stop(self) -> anyhow::Result<WriterReport> {
        self.running.stop().await
    }
}

fn start(store: impl super::Store, source: Source, seed: u64, options: ItemsOptions) -> Running {
    Running::start(store, source, seed, options.rate_per_second, options.new_form, options.key_updates)
}

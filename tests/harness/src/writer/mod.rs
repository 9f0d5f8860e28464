//! The application: it keeps inserting, updating, deleting and re-keying rows while migrations run, and
//! remembers what it wrote, so that afterwards no write can be missing unseen (I8).
//!
//! It knows the columns of the old and of the new form, as a real application does during a rollout, and
//! nothing of Shardlift. It goes on through restarts of the server.

mod chat_documents;
mod chat_tables;
mod documents;
mod items;
mod latency;
mod model;
mod mongodb;
mod postgres;
mod tables;
mod traffic;

pub use items::{ItemsOptions, ItemsWriter};
pub use model::Model;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::Context;
use tokio::task::JoinHandle;

use traffic::{Store, Traffic};

/// Writes per second of the chat application on one shard.
const CHAT_RATE: u32 = 100;

/// What the application did, and how it felt.
#[derive(Debug, Clone)]
pub struct WriterReport {
    /// Rows inserted.
    pub inserted: u64,
    /// Payloads updated.
    pub updated: u64,
    /// Rows deleted.
    pub deleted: u64,
    /// Rows that got another key.
    pub key_moves: u64,
    /// Writes that failed, or whose outcome is unknown.
    pub errors: u64,
    /// Longest wait for a write, in ms; through errors, until the next success.
    pub max_stall_ms: f64,
    /// 99th percentile of the writes that succeeded, in ms.
    pub p99_ms: f64,
    /// The first errors, as the driver told them.
    pub first_errors: Vec<String>,
    pub(crate) model: Model,
    pub(crate) surprises: Vec<String>,
    source: Source,
}

impl WriterReport {
    /// Every write of the application that is not in the database behind `dsn`, one line each; also rows
    /// that vanished under a write. Empty when nothing was lost (I8). Right at any time after the writer
    /// stopped.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn lost_writes(&self, dsn: &str) -> anyhow::Result<Vec<String>> {
        let mut told = self.surprises.clone();
        told.extend(match &self.source {
            Source::Postgres(tables) => {
                traffic::lost(postgres::Postgres::new(dsn.to_owned(), tables.clone()), &self.model).await?
            }
            Source::MongoDb(collections) => {
                traffic::lost(mongodb::MongoDb::new(dsn.to_owned(), collections.clone()), &self.model).await?
            }
        });
        Ok(told)
    }
}

/// Where the model's keys are to be read again.
#[derive(Debug, Clone)]
enum Source {
    Postgres(Arc<[tables::Table]>),
    MongoDb(Arc<[documents::Collection]>),
}

/// The chat application on one shard. It writes the new form from the start, as soon as the columns exist.
#[derive(Debug)]
pub struct Writer {
    running: Running,
}

impl Writer {
    /// Starts using the chat tables behind `dsn`, which may still be being loaded. `seed` picks what it does.
    pub fn start_postgres(dsn: String, seed: u64) -> Self {
        let tables: Arc<[tables::Table]> = chat_tables::tables().into();
        let store = postgres::Postgres::new(dsn, tables.clone());
        Self { running: Running::start(store, Source::Postgres(tables), seed, CHAT_RATE, true, true) }
    }

    /// Starts using the chat collections of the database that `dsn` names. `seed` picks what it does.
    pub fn start_mongodb(dsn: String, seed: u64) -> Self {
        let collections: Arc<[documents::Collection]> = chat_documents::collections().into();
        let store = mongodb::MongoDb::new(dsn, collections.clone());
        Self { running: Running::start(store, Source::MongoDb(collections), seed, CHAT_RATE, true, true) }
    }

    /// Writes acknowledged so far: a test waits for this to grow.
    pub fn acknowledged(&self) -> u64 {
        self.running.orders.acknowledged.load(Ordering::Relaxed)
    }

    /// Finishes the write it is at and stops.
    ///
    /// # Errors
    /// When it never reached the tables.
    pub async fn stop(self) -> anyhow::Result<WriterReport> {
        self.running.stop().await
    }
}

/// What may be told to a running writer, and what it tells meanwhile.
#[derive(Debug, Default)]
struct Orders {
    stop: AtomicBool,
    new_form: AtomicBool,
    acknowledged: AtomicU64,
    failed: AtomicU64,
}

/// A writer's task. Dropped, it stops by itself.
#[derive(Debug)]
struct Running {
    orders: Arc<Orders>,
    task: Option<JoinHandle<anyhow::Result<WriterReport>>>,
}

impl Running {
    fn start(store: impl Store, source: Source, seed: u64, rate: u32, new_form: bool, moves: bool) -> Self {
        let orders = Arc::new(Orders { new_form: AtomicBool::new(new_form), ..Orders::default() });
        let traffic = Traffic::new(store, source, seed, orders.clone(), moves);
        Self { orders, task: Some(tokio::spawn(traffic.run(rate))) }
    }

    async fn stop(mut self) -> anyhow::Result<WriterReport> {
        self.orders.stop.store(true, Ordering::Relaxed);
        match self.task.take() {
            Some(task) => task.await.context("the writer's task failed")?,
            None => anyhow::bail!("the writer has stopped before"),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.orders.stop.store(true, Ordering::Relaxed);
    }
}

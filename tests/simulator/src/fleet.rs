//! All simulated workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use futures::{StreamExt, stream};
use shardlift_proto::v1;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::hand_outs::HandOuts;
use crate::worker::{self, Worker};

/// How many workers connect at the same time.
const AT_ONCE: usize = 50;
/// The pause before a worker that was refused or has lost its stream dials again.
const DIAL_AGAIN: Duration = Duration::from_millis(500);

/// How many workers there are, and how their shards look.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The URL of the coordinator.
    pub coordinator: String,
    /// The cluster that all shards belong to.
    pub cluster: String,
    /// How many workers.
    pub workers: usize,
    /// How many shards each of them serves.
    pub shards_each: usize,
    /// Tasks of a worker at once.
    pub slots: u32,
    /// Ranges that a split lays out.
    pub ranges: u32,
    /// Rows of a table.
    pub rows: u64,
    /// The shortest and the longest time that one range takes.
    pub range_takes: (Duration, Duration),
    /// How long every other task takes.
    pub step_takes: Duration,
}

impl Settings {
    /// The names of all shards, those of one worker after those of another.
    pub fn shards(&self) -> impl Iterator<Item = String> {
        (0..self.workers * self.shards_each).map(shard_name)
    }
}

fn shard_name(number: usize) -> String {
    format!("sim-{number:05}")
}

/// What all workers share.
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) hand_outs: HandOuts,
    pub(crate) reports: AtomicU64,
    lost: AtomicU64,
}

/// Connected workers; dropping it ends them.
pub struct Fleet {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

impl Fleet {
    /// Connects all workers, and waits until each was welcomed.
    pub async fn connect(settings: Settings) -> Result<Self> {
        let count = settings.workers;
        let shared = Arc::new(Shared {
            settings,
            hand_outs: HandOuts::default(),
            reports: AtomicU64::default(),
            lost: AtomicU64::default(),
        });
        let joining = (0..count).map(|number| join(Arc::clone(&shared), number));
        let mut joined = stream::iter(joining).buffer_unordered(AT_ONCE);
        let mut workers = Vec::with_capacity(count);
        // Each works as soon as it is welcomed: a lease does not wait for the others.
        while let Some(joined) = joined.next().await {
            let (number, worker) = joined.context("a worker was not welcomed")?;
            workers.push(tokio::spawn(work(Arc::clone(&shared), number, worker)));
        }
        drop(joined);
        Ok(Self { shared, workers })
    }

    /// How soon work was handed out, so far.
    pub fn hand_outs(&self) -> &HandOuts {
        &self.shared.hand_outs
    }

    /// How many reports the workers have sent.
    pub fn reports(&self) -> u64 {
        self.shared.reports.load(Ordering::Relaxed)
    }

    /// How often a worker has lost its stream: the coordinator was busy for longer than a lease lasts, or is gone.
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }
}

async fn join(shared: Arc<Shared>, number: usize) -> Result<(usize, Worker)> {
    let each = shared.settings.shards_each;
    let shards: Vec<_> = (number * each..(number + 1) * each).map(shard_name).collect();
    let worker = worker::join(shared, format!("sim-worker-{number:04}"), &shards).await?;
    Ok((number, worker))
}

/// Serves for ever: like a real worker it dials again when its stream has ended.
async fn work(shared: Arc<Shared>, number: usize, mut worker: Worker) {
    loop {
        // Why it ended is the coordinator's to tell, in its log.
        let _ = worker.serve().await;
        shared.lost.fetch_add(1, Ordering::Relaxed);
        worker = loop {
            sleep(DIAL_AGAIN).await;
            if let Ok((_, worker)) = join(Arc::clone(&shared), number).await {
                break worker;
            }
        };
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.workers.iter().for_each(JoinHandle::abort);
    }
}

impl Shared {
    pub(crate) fn wrap(&self, message: v1::from_worker::Message) -> v1::FromWorker {
        self.reports.fetch_add(1, Ordering::Relaxed);
        v1::FromWorker { message: Some(message) }
    }
}

//! Follower or leader. A leader exists only between a take-over and the first thing that speaks against it.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use shardlift_domain::Epoch;
use shardlift_domain::topology::Topology;
use shardlift_runtime::random;
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::book::Book;
use super::leader::{Leader, Seat, StepDown};
use super::wake::{Handle, Wake};
use crate::election::{Election, ElectionError, Leadership};
use crate::metrics::Metrics;
use crate::store::{Store, StoreError};

/// How many wakes may wait: enough for a second of a large fleet; senders wait when it is full.
const QUEUE: usize = 4096;
/// How often time is looked at.
pub(super) const TICK: Duration = Duration::from_millis(200);
/// The pause before the lead is sought again.
const PAUSE: Duration = Duration::from_millis(300);

/// All that the orchestrator needs.
pub struct Parts {
    /// Name of this coordinator.
    pub name: String,
    /// How long a worker may be silent.
    pub ttl: Duration,
    /// The declared clusters; revision and new uuids are the store's business.
    pub declared: Topology,
    /// The metadata store.
    pub store: Arc<dyn Store>,
    /// Who may try to lead.
    pub election: Arc<dyn Election>,
    /// Where its work is counted.
    pub metrics: Arc<Metrics>,
}

/// Starts the orchestrator. It ends when the token is cancelled.
pub fn run(parts: Parts, shutdown: CancellationToken) -> (Handle, tokio::task::JoinHandle<()>) {
    let (sender, wakes) = mpsc::channel(QUEUE);
    let (changes, watcher) = watch::channel(0);
    let seat = Seat {
        name: parts.name.clone(),
        ttl: parts.ttl,
        sessions: Arc::new(AtomicU64::new(1)),
        changes,
        metrics: Arc::clone(&parts.metrics),
    };
    let task = tokio::spawn(Orchestrator { parts, seat, wakes }.run(shutdown));
    (Handle::new(sender, watcher), task)
}

enum Role {
    Follower,
    Leader(Box<Leader>, Leadership),
}

struct Orchestrator {
    parts: Parts,
    seat: Seat,
    wakes: mpsc::Receiver<Wake>,
}

impl Orchestrator {
    async fn run(mut self, shutdown: CancellationToken) {
        // Whatever ends this task ends the process: doors without a heart would say "not ready" for ever.
        let _end = shutdown.clone().drop_guard();
        let mut above = None;
        while !shutdown.is_cancelled() {
            let role = tokio::select! {
                role = follow(&self.parts, &self.seat, above.take(), &mut self.wakes) => role,
                () = shutdown.cancelled() => return,
            };
            if let Role::Leader(leader, leadership) = role {
                above = self.lead(*leader, leadership, &shutdown).await;
            }
            tokio::select! {
                () = sleep(PAUSE) => {}
                () = shutdown.cancelled() => {}
            }
        }
    }

    /// Leads until something speaks against it. Answers the epoch to rise above, if a shard has seen a newer leader.
    async fn lead(
        &mut self,
        mut leader: Leader,
        leadership: Leadership,
        shutdown: &CancellationToken,
    ) -> Option<Epoch> {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let reason = loop {
            let moved = tokio::select! {
                wake = self.wakes.recv() => match wake {
                    Some(wake) => leader.on(wake).await,
                    None => break None,
                },
                _ = ticks.tick() => leader.on_tick().await,
                () = leadership.lost() => break None,
                () = shutdown.cancelled() => break None,
            };
            if let Err(reason) = moved {
                break Some(reason);
            }
        };
        let epoch = leader.book.permit().fence().epoch;
        if reason.is_none() {
            // Best effort: what is not saved is read from the shards again.
            if let Err(error) = leader.book.flush().await {
                tracing::debug!(%error, "progress was not saved at the end");
            }
        }
        drop(leader);
        leadership.resign().await;
        match reason {
            Some(StepDown::RiseAbove(above)) => {
                tracing::warn!(%epoch, %above, "leads no more: a shard has seen a newer leader, or another one of this epoch");
                Some(above)
            }
            Some(StepDown::Store(error)) => {
                tracing::warn!(%epoch, %error, "leads no more: the store refused");
                None
            }
            None => {
                tracing::info!(%epoch, "leads no more");
                None
            }
        }
    }
}

/// Waits to be elected, then takes over. Meanwhile everybody who asks hears that this coordinator does not lead:
/// dropping a wake drops its reply.
async fn follow(parts: &Parts, seat: &Seat, above: Option<Epoch>, wakes: &mut mpsc::Receiver<Wake>) -> Role {
    let take_over = async {
        let leadership = match parts.election.campaign().await {
            Ok(leadership) => leadership,
            Err(error) => {
                tracing::warn!(%error, "cannot stand for election");
                return Role::Follower;
            }
        };
        match begin(parts, seat, &leadership, above).await {
            Ok(leader) => Role::Leader(Box::new(leader), leadership),
            Err(error) => {
                tracing::warn!(%error, "cannot take over");
                leadership.resign().await;
                Role::Follower
            }
        }
    };
    tokio::pin!(take_over);
    loop {
        tokio::select! {
            role = &mut take_over => return role,
            Some(wake) = wakes.recv() => drop(wake),
        }
    }
}

/// Why an elected coordinator does not lead after all.
#[derive(Debug, thiserror::Error)]
enum NoLead {
    #[error(transparent)]
    Election(#[from] ElectionError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Look at the fence, ask the election again, then compare-and-set: whoever was elected meanwhile finds the fence
/// moved, or moves it and refuses this one (promise P2).
async fn begin(
    parts: &Parts,
    seat: &Seat,
    leadership: &Leadership,
    above: Option<Epoch>,
) -> Result<Leader, NoLead> {
    let seen = parts.store.fence().await?;
    leadership.confirm().await?;
    let permit = parts.store.take_over(&seen, above, random::nonce(), &parts.name).await?;
    tracing::info!(epoch = %permit.fence().epoch, "leads");
    let mut book = Book::open(Arc::clone(&parts.store), Arc::new(permit)).await?;
    let declared = with_uuids(&parts.declared, book.topology());
    book.declare(declared).await?;
    Ok(Leader::new(seat.clone(), book))
}

/// The declared clusters with the uuids that they were given when they were first declared.
fn with_uuids(declared: &Topology, stored: &Topology) -> Topology {
    let mut topology = declared.clone();
    for cluster in topology.clusters.values_mut() {
        cluster.uuid = match stored.clusters.get(&cluster.name) {
            Some(known) => known.uuid.clone(),
            None => random::uuid(),
        };
    }
    topology
}

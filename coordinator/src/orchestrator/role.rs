//! Follower or leader. A leader exists only between a take-over and the first thing that speaks against it.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use shardlift_domain::Epoch;
use shardlift_domain::Failure;
use shardlift_domain::migration::ApprovalRule;
use shardlift_domain::topology::Topology;
use shardlift_runtime::random;
use shardlift_runtime::retry::{Delays, Policy};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::book::{Book, Refused, Sink, itself};
use super::leader::{Leader, Seat, StepDown};
use super::places::needed;
use super::standing::{Post, Standing};
use super::wake::{Handle, Wake};
use crate::election::{Election, ElectionError, Leadership, Registered};
use crate::metrics::Metrics;
use crate::shard::Edit;
use crate::store::{Store, StoreError};

/// How many wakes may wait: enough for a second of a large fleet; senders wait when it is full.
const QUEUE: usize = 4096;
/// How many wakes are taken together, to share one commit: so many that a commit is no bound for them, so few that the
/// next look at the time is not far.
const TOGETHER: usize = 512;
/// How often time is looked at.
pub(super) const TICK: Duration = Duration::from_millis(200);
/// The pauses before the lead is sought again.
const AGAIN: Policy =
    Policy { first: Duration::from_millis(200), longest: Duration::from_secs(5), total: None };
/// The pauses of a coordinator whose store is taken by another one although it is elected itself. They grow: two of
/// them must not take it from each other for ever.
const RIVALS: Policy =
    Policy { first: Duration::from_secs(2), longest: Duration::from_secs(300), total: None };

/// How long a coordinator that hands over waits for the name of the next leader, so that it can tell its workers.
const SUCCESSOR: Duration = Duration::from_millis(300);

/// All that the orchestrator needs.
pub struct Parts {
    /// Name of this coordinator.
    pub name: String,
    /// Where clients, workers and other coordinators reach it.
    pub address: String,
    /// How long a worker may be silent.
    pub ttl: Duration,
    /// Reads the declared clusters; revision and new uuids are the store's business.
    pub declare: Declare,
    /// The metadata store.
    pub store: Arc<dyn Store>,
    /// Who may try to lead.
    pub election: Arc<dyn Election>,
    /// Where its work is counted.
    pub metrics: Arc<Metrics>,
    /// How long adaptors may take to be quiet at a gate. `None`: there is no service that asks them.
    pub quiet_within: Option<Duration>,
    /// What must be approved before it begins.
    pub approval: ApprovalRule,
    /// Who outside is told what happens, if anybody.
    pub sink: Option<Sink>,
}

/// Reads what is declared, as it is now.
pub type Declare = Arc<dyn Fn() -> Result<Topology, Failure> + Send + Sync>;

/// Starts the orchestrator. It ends when the token is cancelled.
pub fn run(parts: Parts, shutdown: CancellationToken) -> (Handle, tokio::task::JoinHandle<()>) {
    let (sender, wakes) = mpsc::channel(QUEUE);
    let (changes, watcher) = watch::channel(0);
    let (post, seen) = watch::channel(Post::Follows);
    let standing = {
        let election = &parts.election;
        Standing::new(seen, election.leader(), election.coordinators(), parts.address.clone())
    };
    let seat = Seat {
        name: parts.name.clone(),
        ttl: parts.ttl,
        sessions: Arc::new(AtomicU64::new(1)),
        changes,
        metrics: Arc::clone(&parts.metrics),
        quiet_within: parts.quiet_within,
        approval: parts.approval,
    };
    let handle = Handle::new(sender, watcher, standing.clone());
    let task = tokio::spawn(Orchestrator { parts, seat, wakes, post, standing }.run(shutdown));
    (handle, task)
}

enum Role {
    Follower,
    Leader(Box<Leader>, Leadership),
}

struct Orchestrator {
    parts: Parts,
    seat: Seat,
    wakes: mpsc::Receiver<Wake>,
    post: watch::Sender<Post>,
    standing: Standing,
}

/// Why a leadership has ended.
enum End {
    /// The process is to end.
    Told,
    /// The election was lost.
    Lost,
    /// A shard has seen this epoch, or one above it, from somebody else.
    RiseAbove(Epoch),
    /// The store refused, or is gone.
    Store,
    /// Another coordinator has taken the store, although this one is elected.
    Rival,
}

impl Orchestrator {
    async fn run(mut self, shutdown: CancellationToken) {
        // Whatever ends this task ends the process: doors without a heart would say "not ready" for ever.
        let _end = shutdown.clone().drop_guard();
        let (mut again, mut rivals) = (Delays::new(&AGAIN), Delays::new(&RIVALS));
        let mut above = None;
        while !shutdown.is_cancelled() {
            let role = tokio::select! {
                role = follow(&self.parts, &self.seat, above, &mut self.wakes) => role,
                () = shutdown.cancelled() => return,
            };
            let mut pause = &mut again;
            if let Role::Leader(leader, leadership) = role {
                pause.reset();
                let began = Instant::now();
                self.post.send_replace(Post::Leads);
                let end = self.lead(*leader, leadership, &shutdown).await;
                self.post.send_replace(Post::Follows);
                above = None;
                if began.elapsed() > RIVALS.longest {
                    rivals.reset();
                }
                match end {
                    End::RiseAbove(epoch) => above = Some(epoch),
                    End::Rival => pause = &mut rivals,
                    End::Told | End::Lost | End::Store => {}
                }
            }
            let pause = pause.next().unwrap_or(AGAIN.longest);
            tokio::select! {
                () = refuse_all(&mut self.wakes, pause) => {}
                () = shutdown.cancelled() => {}
            }
        }
    }

    /// Leads until something speaks against it.
    async fn lead(
        &mut self,
        mut leader: Leader,
        leadership: Leadership,
        shutdown: &CancellationToken,
    ) -> End {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let end = loop {
            let turn = turn(&mut leader, &mut self.wakes, &mut ticks, &leadership, shutdown);
            let moved = tokio::select! {
                biased;
                // Whatever is being done ends here; if that was a commit, the next take-over sees whether it was made.
                () = leadership.lost() => break End::Lost,
                moved = turn => moved,
            };
            match moved {
                Ok(None) => {}
                Ok(Some(end)) => break end,
                Err(StepDown::RiseAbove(above)) => break End::RiseAbove(above),
                Err(StepDown::Store(error)) => break refused(&error, &leadership).await,
            }
        };
        let epoch = leader.book.permit().fence().epoch;
        // Doors answer signs of life in this leader's name no longer.
        leader.reign.end();
        self.post.send_replace(Post::HandsOver);
        if matches!(end, End::Told) {
            leader.note_all_refusals();
            // Best effort: what is not saved is read from the shards again.
            if let Err(error) = leader.book.flush().await {
                tracing::debug!(%error, "progress was not saved at the end");
            }
            leadership.resign().await;
            // Whoever is told to go should hear where to, if that is known soon.
            self.standing.settled(SUCCESSOR).await;
            drop(leader);
        } else {
            drop(leader);
            leadership.resign().await;
        }
        match end {
            End::RiseAbove(above) => {
                tracing::warn!(%epoch, %above, "leads no more: a shard has seen a newer leader, or another one of this epoch")
            }
            End::Lost => tracing::warn!(%epoch, "leads no more: the election was lost"),
            End::Told | End::Store | End::Rival => tracing::info!(%epoch, "leads no more"),
        }
        end
    }
}

/// Waits for things to happen, and does what follows from all that have.
async fn turn(
    leader: &mut Leader,
    wakes: &mut mpsc::Receiver<Wake>,
    ticks: &mut Interval,
    leadership: &Leadership,
    shutdown: &CancellationToken,
) -> Result<Option<End>, StepDown> {
    let mut taken = Vec::new();
    let ticked = tokio::select! {
        count = wakes.recv_many(&mut taken, TOGETHER) => {
            if count == 0 {
                return Ok(Some(End::Told));
            }
            false
        }
        _ = ticks.tick() => true,
        () = shutdown.cancelled() => return Ok(Some(End::Told)),
    };
    // Asked again: after a pause of the process a wake may come before the timer that says that the lead is over.
    if leadership.is_lost() {
        return Ok(Some(End::Lost));
    }
    if ticked {
        leader.on_tick().await?;
        register(leader, leadership);
    } else {
        leader.on_all(taken.into_iter()).await?;
    }
    Ok(None)
}

/// Tells what the store's refusal means. Who is fenced while the election still counts it as the leader has a rival
/// that the election knows nothing of.
async fn refused(error: &StoreError, leadership: &Leadership) -> End {
    if matches!(error, StoreError::Fenced { .. }) && leadership.confirm().await.is_ok() {
        tracing::error!(
            %error,
            "another coordinator has taken the store although this one is elected: two coordinators with standalone \
             election share one store, or their elections are not the same; stop one of them, or give both the same \
             [election] with kind = \"etcd\""
        );
        return End::Rival;
    }
    tracing::warn!(%error, "the store refused");
    End::Store
}

/// Lists the connected workers in the election, if it keeps such a list.
fn register(leader: &Leader, leadership: &Leadership) {
    let Some(registry) = leadership.registry() else { return };
    registry.send_if_modified(|listed| {
        let same = listed.len() == leader.fleet.iter().count()
            && listed.iter().zip(leader.fleet.iter()).all(|(listed, (id, worker))| {
                listed.worker == *id
                    && listed.version == worker.version
                    && listed.shards.iter().eq(worker.shards.keys())
            });
        if !same {
            let all = leader.fleet.iter().map(|(id, worker)| Registered {
                worker: id.clone(),
                version: worker.version.clone(),
                shards: worker.shards.keys().cloned().collect(),
            });
            *listed = all.collect();
        }
        !same
    });
}

/// Lets time pass. Meanwhile everybody who asks hears that this coordinator does not lead: dropping a wake drops its
/// reply.
async fn refuse_all(wakes: &mut mpsc::Receiver<Wake>, pause: Duration) {
    let pause = sleep(pause);
    tokio::pin!(pause);
    loop {
        tokio::select! {
            () = &mut pause => return,
            Some(wake) = wakes.recv() => drop(wake),
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
        let begun = tokio::select! {
            biased;
            () = leadership.lost() => Err(ElectionError::Lost.into()),
            begun = begin(parts, seat, &leadership, above) => begun,
        };
        match begun {
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
    book.has_taken_over(&parts.name, seen.epoch);
    book.tell(parts.sink).await?;
    declare(&mut book, (parts.declare)()).await?;
    Ok(Leader::new(seat.clone(), book, leadership.reign()))
}

/// Takes what is declared now. What cannot be taken changes nothing: the topology stays as it is stored.
async fn declare(book: &mut Book, declared: Result<Topology, Failure>) -> Result<(), StoreError> {
    let declared = match declared {
        Ok(declared) => with_uuids(&declared, book.topology()),
        Err(failure) => {
            tracing::error!(code = %failure.code, "the file is not taken: {} ({})", failure.message, failure.next);
            return Ok(());
        }
    };
    let needed = needed(book);
    match book.edit(Edit::Declare(declared), &needed, &itself()).await {
        Ok(_) => Ok(()),
        Err(Refused::Person(failure)) => {
            tracing::error!(code = %failure.code, "the file is not taken: {} ({})", failure.message, failure.next);
            Ok(())
        }
        Err(Refused::Store(error)) => Err(error),
    }
}

/// The declared clusters with the uuids that they were given when they were first declared.
pub(super) fn with_uuids(declared: &Topology, stored: &Topology) -> Topology {
    let mut topology = declared.clone();
    for cluster in topology.clusters.values_mut() {
        cluster.uuid = match stored.clusters.get(&cluster.name) {
            Some(known) => known.uuid.clone(),
            None => random::uuid(),
        };
    }
    topology
}

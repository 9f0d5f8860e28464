//! The leader: what only a leader owns, and what it does when it is woken. It dies with its leadership.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use shardlift_domain::facts::ShardHello;
use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::fence::Epoch;
use shardlift_domain::ids::{MigrationId, MigrationKey, ShardId, TaskId};
use shardlift_domain::migration::{Event, Migration, Phase, Status, Verb};
use shardlift_domain::task::Millis;
use shardlift_runtime::clock::Monotonic;
use tokio::sync::watch;

use super::board::Board;
use super::book::{Book, Page, Refused};
use super::fleet::{Fleet, SessionId};
use super::queries::Queries;
use super::reports::set_aside;
use super::role::TICK;
use super::traces::Traces;
use super::view::{LeaderView, MigrationView, PlanningView, ShardStatus, ShardView, WorkerView};
use super::wake::{Joining, Reply, Wake, Welcome};
use crate::metrics::{Census, Leading, Metrics};
use crate::planner::uncovered;
use crate::store::StoreError;

/// How often progress is saved.
const FLUSH_EVERY: Millis = 1000;

/// Why a leader stops leading.
#[derive(Debug)]
pub(super) enum StepDown {
    /// The store refused or is gone: take over again, from what is stored.
    Store(StoreError),
    /// A shard has seen this epoch already, from somebody else.
    RiseAbove(Epoch),
}

impl From<StoreError> for StepDown {
    fn from(error: StoreError) -> Self {
        StepDown::Store(error)
    }
}

/// What outlives a leader: names and counters.
#[derive(Clone)]
pub(super) struct Seat {
    pub(super) name: String,
    pub(super) ttl: Duration,
    pub(super) sessions: Arc<AtomicU64>,
    pub(super) changes: watch::Sender<u64>,
    pub(super) metrics: Arc<Metrics>,
}

/// What only a leader owns.
pub(super) struct Leader {
    seat: Seat,
    pub(super) clock: Monotonic,
    pub(super) book: Book,
    pub(super) board: Board,
    pub(super) fleet: Fleet,
    pub(super) broken: Vec<SessionId>,
    pub(super) queries: Queries,
    flushed: Millis,
    ticked: Millis,
    pub(super) traces: Traces,
    shown: Leading,
}

impl Leader {
    pub(super) fn new(seat: Seat, book: Book) -> Self {
        let epoch = book.permit().fence().epoch;
        let mut leader = Self {
            board: Board::new(epoch),
            traces: Traces::new(epoch),
            shown: seat.metrics.leading(epoch),
            seat,
            clock: Monotonic::start(),
            book,
            fleet: Fleet::default(),
            broken: Vec::new(),
            queries: Queries::default(),
            flushed: 0,
            ticked: 0,
        };
        let keys: Vec<_> = leader.book.pages().map(|page| page.migration().key.clone()).collect();
        for key in keys {
            leader.reconcile(&key);
        }
        leader
    }

    /// One thing has happened. Answers go to whoever asked; only what ends the leadership is an error.
    pub(super) async fn on(&mut self, wake: Wake) -> Result<(), StepDown> {
        match wake {
            Wake::Planning(reply) => answer(reply, Ok(self.planning_view())),
            Wake::Facts(shard, request, reply) => self.ask_facts(shard, request, reply),
            Wake::Placement(shard, request, reply) => self.ask_placement(shard, request, reply),
            Wake::Edit(edit, reply) => self.on_edit(*edit, reply).await?,
            Wake::Submit(submissions, revision, start, reply) => {
                let made = self.book.submit(submissions, revision, start).await;
                let made = self.told(made, reply)?;
                if made {
                    self.begin_ready().await?;
                    self.changed();
                }
            }
            Wake::Asked(id, verb, reply) => self.on_asked(&id, verb, reply).await?,
            Wake::Get(id, version, reply) => {
                answer(reply, self.book.find(&id, version).map(|page| self.migration_view(page)));
            }
            Wake::List(reply) => {
                answer(reply, Ok(self.book.newest().map(|page| self.migration_view(page)).collect()))
            }
            Wake::History(id, limit, reply) => {
                // A history that cannot be read takes nobody's lead: if the store is gone, the next commit tells.
                let entries = self.book.history(&id, limit).await;
                answer(reply, entries.map_err(Failure::from));
            }
            Wake::Shards(reply) => answer(reply, Ok(self.shard_views())),
            Wake::Workers(reply) => answer(reply, Ok(self.worker_views())),
            Wake::Leader(reply) => answer(reply, Ok(self.leader_view())),
            Wake::Drain(worker, draining, reply) => answer(reply, self.drain(&worker, draining)),
            Wake::Join(joining, reply) => self.on_join(*joining, reply).await?,
            Wake::Report(session, report) => self.on_report(session, *report).await?,
            Wake::Leave(session) => {
                self.end_sessions(vec![session]);
                self.dispatch();
                self.changed();
            }
        }
        Ok(())
    }

    /// Time has passed: silent workers lose their tasks, waiting tasks fall due, progress is saved.
    pub(super) async fn on_tick(&mut self) -> Result<(), StepDown> {
        let now = self.clock.millis();
        self.late(now);
        let ttl = u64::try_from(self.seat.ttl.as_millis()).unwrap_or(u64::MAX);
        let mut gone = self.fleet.silent(now, ttl);
        gone.append(&mut self.broken);
        self.end_sessions(gone);
        self.queries.forget_unheard();
        self.begin_ready().await?;
        self.dispatch();
        self.take_away_from_drained();
        self.ask_to_share();
        if now.saturating_sub(self.flushed) >= FLUSH_EVERY {
            self.flushed = now;
            self.shown.show(&self.census());
            self.book.flush().await?;
        }
        Ok(())
    }

    /// How much later than planned this tick is.
    fn late(&mut self, now: Millis) {
        let planned = u64::try_from(TICK.as_millis()).unwrap_or(u64::MAX);
        let late = now.saturating_sub(std::mem::replace(&mut self.ticked, now)).saturating_sub(planned);
        self.seat.metrics.loop_lag.observe(Duration::from_millis(late).as_secs_f64());
    }

    /// Counted for the metrics.
    fn census(&self) -> Census {
        let mut census = Census { tasks: self.board.states(), ..Census::default() };
        for page in self.book.newest() {
            *census.migrations.entry(page.migration().status.as_str()).or_default() += 1;
        }
        census.sessions = i64::try_from(self.fleet.iter().count()).unwrap_or(i64::MAX);
        census
    }

    /// A task is about to be handed out.
    pub(super) fn waited(&mut self, task: &TaskId) {
        let waited = self.board.waited(task, self.clock.millis());
        self.seat.metrics.handed_out(waited);
    }

    /// Moves a migration and follows up: its tasks, and those that waited for it.
    pub(super) async fn apply(&mut self, key: &MigrationKey, event: Event) -> Result<(), StepDown> {
        let before = self.stage(key);
        let busy = self.board.is_held(key);
        match self.book.on(key, &event, "coordinator", busy).await {
            Ok(_) => {}
            Err(Refused::Store(error)) => return Err(error.into()),
            // Only a person's verb can be illegal.
            Err(Refused::Person(failure)) => tracing::error!(%failure, "an event of a worker was refused"),
        }
        match event {
            // The other shards want what they wanted: ten thousand need not be looked at for one.
            Event::StepDone { shard, .. } | Event::StepFailed { shard, .. } if self.stage(key) == before => {
                self.reconcile_shard(key, &shard);
                self.dispatch();
                self.changed();
                Ok(())
            }
            _ => self.follow_up(key).await,
        }
    }

    fn stage(&self, key: &MigrationKey) -> Option<(Status, Phase)> {
        self.book.page(key).map(|page| (page.migration().status, page.migration().phase))
    }

    async fn follow_up(&mut self, key: &MigrationKey) -> Result<(), StepDown> {
        self.reconcile(key);
        if self.book.page(key).is_some_and(|page| page.migration().status.is_final()) {
            self.board.close(key);
        }
        self.begin_ready().await?;
        self.dispatch();
        self.changed();
        Ok(())
    }

    /// Begins every migration that has nothing to wait for any more.
    pub(super) async fn begin_ready(&mut self) -> Result<(), StepDown> {
        let leases_over = u128::from(self.clock.millis()) >= self.seat.ttl.as_millis();
        self.book.free_ended(&self.board, leases_over).await?;
        if !self.book.pages().any(|page| page.migration().status == Status::Pending) {
            return Ok(());
        }
        while let Some(key) = self.book.next_ready(&self.board.held()) {
            match self.book.on(&key, &Event::Ready, "coordinator", false).await {
                Ok(_) => {}
                Err(Refused::Store(error)) => return Err(error.into()),
                Err(Refused::Person(failure)) => {
                    tracing::error!(%failure, "a ready migration cannot begin");
                    return Ok(());
                }
            }
            self.reconcile(&key);
            self.dispatch();
            self.changed();
        }
        Ok(())
    }

    async fn on_asked(
        &mut self,
        id: &MigrationId,
        verb: Verb,
        reply: Reply<(MigrationView, bool)>,
    ) -> Result<(), StepDown> {
        let key = match self.book.find(id, None) {
            Ok(page) => page.migration().key.clone(),
            Err(failure) => {
                answer(reply, Err(failure));
                return Ok(());
            }
        };
        let busy = self.board.is_held(&key);
        match self.book.on(&key, &Event::Asked(verb), "person", busy).await {
            Ok(changed) => {
                self.follow_up(&key).await?;
                let view = self.book.find(id, None).map(|page| (self.migration_view(page), changed));
                answer(reply, view);
                Ok(())
            }
            Err(Refused::Person(failure)) => {
                answer(reply, Err(failure));
                Ok(())
            }
            Err(Refused::Store(error)) => {
                answer(reply, Err(store_trouble(&error)));
                Err(error.into())
            }
        }
    }

    /// Tells a person how a change ended. `true`: it was made.
    fn told(&self, made: Result<(), Refused>, reply: Reply<()>) -> Result<bool, StepDown> {
        match made {
            Ok(()) => answer(reply, Ok(())),
            Err(Refused::Person(failure)) => {
                answer(reply, Err(failure));
                return Ok(false);
            }
            Err(Refused::Store(error)) => {
                answer(reply, Err(store_trouble(&error)));
                return Err(error.into());
            }
        }
        Ok(true)
    }

    async fn on_join(&mut self, mut joining: Joining, reply: Reply<Welcome>) -> Result<(), StepDown> {
        self.discover(&joining.shards).await?;
        if let Some(failure) = self.strangers(&joining.shards) {
            answer(reply, Err(failure));
            return Ok(());
        }
        joining.shards.iter_mut().for_each(set_aside);
        self.outrank(&joining.shards)?;
        let session = SessionId(self.seat.sessions.fetch_add(1, Ordering::Relaxed));
        let worker = joining.worker.clone();
        tracing::info!(%worker, version = joining.version, shards = joining.shards.len(), "has joined");
        if let Some(former) = self.fleet.join(joining, session, self.clock.millis()) {
            self.board.lose(&worker, self.clock.millis());
            self.forget_queries(former);
        }
        let welcome = Welcome {
            session,
            fence: self.book.permit().fence().clone(),
            ttl: self.seat.ttl,
            topology: Arc::clone(self.book.topology()),
        };
        answer(reply, Ok(welcome));
        self.dispatch();
        self.changed();
        Ok(())
    }

    /// A worker that serves what nobody declared is refused: silently serving it, or leaving it out, would make
    /// one shard differ from the rest.
    fn strangers(&self, shards: &[ShardHello]) -> Option<Failure> {
        let declared = self.book.topology();
        let refuse = |message: String| {
            let next = "declare the shard under [[cluster]] in the coordinator's configuration, or correct the worker's";
            Some(Failure::new(ErrorCode::WorkerRefused, message, next))
        };
        shards.iter().find_map(|hello| match declared.cluster_of(&hello.shard) {
            None => refuse(format!("shard {} is not declared", hello.shard)),
            Some(cluster) if cluster.name != hello.cluster => refuse(format!(
                "shard {} belongs to cluster {}, not {}",
                hello.shard, cluster.name, hello.cluster
            )),
            Some(cluster) if cluster.engine != hello.engine => {
                refuse(format!("cluster {} is {}, not {}", cluster.name, cluster.engine, hello.engine))
            }
            Some(_) => None,
        })
    }

    /// Something that a person may watch has changed.
    pub(super) fn changed(&self) {
        self.seat.changes.send_modify(|number| *number += 1);
    }

    /// Why no worker can work on the shard.
    pub(super) fn shard_problem(&self, shard: &ShardId) -> Failure {
        let told =
            self.fleet.serving(shard).find_map(|(_, worker)| worker.shards.get(shard)?.problem.clone());
        told.unwrap_or_else(|| {
            Failure::new(
                ErrorCode::ShardNoWorker,
                format!("no worker that serves shard {shard} is connected"),
                "start a worker with this shard in its configuration; it goes on by itself then",
            )
        })
        .on_shard(shard)
    }

    fn migration_view(&self, page: &Page) -> MigrationView {
        let migration = page.migration();
        let shards =
            migration.shards.keys().map(|shard| (shard.clone(), self.shard_status(page, shard))).collect();
        MigrationView {
            migration: migration.clone(),
            times: page.stored.times,
            waiting_for: self.waiting_for(migration),
            uncovered: uncovered(&page.spec, migration, self.book.topology()),
            shards,
        }
    }

    fn waiting_for(&self, migration: &Migration) -> Vec<MigrationId> {
        match migration.status {
            Status::Pending => self.book.waiting_for(migration, &self.board.held()),
            _ => Vec::new(),
        }
    }

    fn shard_status(&self, page: &Page, shard: &ShardId) -> ShardStatus {
        let activity = self.board.activity(&page.migration().key, shard);
        let mut progress = page.stored.progress.get(shard).cloned().unwrap_or_default();
        progress.rows_per_second = activity.rows_per_second;
        progress.batch_size = activity.batch_size;
        let trouble = activity.trouble.or_else(|| self.stuck(page, shard, activity.open, activity.waiting));
        ShardStatus { progress, trouble, workers: activity.workers.into_iter().collect() }
    }

    fn planning_view(&self) -> PlanningView {
        let known = self.book.newest().map(Page::migration);
        PlanningView {
            topology: Arc::clone(self.book.topology()),
            directory: Arc::clone(self.book.directory()),
            known: known.map(|migration| (migration.key.id.clone(), migration.clone())).collect(),
        }
    }

    fn shard_views(&self) -> Vec<ShardView> {
        let topology = self.book.topology();
        topology
            .shards()
            .map(|(shard, cluster)| {
                let reachable = self.reaches(shard);
                let version = self
                    .fleet
                    .serving(shard)
                    .find_map(|(_, worker)| worker.shards.get(shard)?.server_version.clone());
                ShardView {
                    shard: shard.clone(),
                    cluster: cluster.name.clone(),
                    engine: cluster.engine,
                    workers: self.fleet.serving(shard).map(|(id, _)| id.clone()).collect(),
                    server_version: version,
                    reachable,
                    problem: (!reachable).then(|| self.shard_problem(shard)),
                }
            })
            .collect()
    }

    fn worker_views(&self) -> Vec<WorkerView> {
        self.fleet.iter().map(|(id, worker)| self.worker_view(id, worker)).collect()
    }

    fn leader_view(&self) -> LeaderView {
        LeaderView { name: self.seat.name.clone(), epoch: self.book.permit().fence().epoch }
    }
}

/// Answers; whoever asked may have gone, which is no trouble of ours.
pub(super) fn answer<T>(reply: Reply<T>, result: Result<T, Failure>) {
    let _ = reply.send(result);
}

pub(super) fn store_trouble(error: &StoreError) -> Failure {
    let next = match error {
        StoreError::Fenced { .. } => "nothing was changed; ask again, and who leads now will answer",
        StoreError::Unavailable { .. } => {
            "whether it was stored is not known; ask again in a moment: nothing is done twice"
        }
        _ => "nothing was changed; look into the coordinator's log",
    };
    Failure::new(error.code(), error.to_string(), next)
}

//! The leader: what only a leader owns, and what it does when it is woken. It dies with its leadership.
//!
//! Whatever waits is taken together: its moves are made in memory, stored in one commit, and only then answered and acted
//! upon ([`Leader::settle`]). So how many reports a second are taken does not depend on how many commits a disk makes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use shardlift_domain::facts::ShardHello;
use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::fence::Epoch;
use shardlift_domain::ids::{MigrationId, MigrationKey, ShardId, TaskId};
use shardlift_domain::migration::{ApprovalRule, Decision, Event, Migration, Phase, Status};
use shardlift_domain::progress::ShardProgress;
use shardlift_domain::task::Millis;
use shardlift_domain::verdict::Undone;
use shardlift_runtime::clock::Monotonic;
use tokio::sync::watch;

use super::board::Board;
use super::book::{Book, Page, Refused, itself};
use super::deadlines::Deadlines;
use super::fleet::{Fleet, SessionId};
use super::gates::Gates;
use super::outbox::Outbox;
use super::pulse::Pulse;
use super::queries::Queries;
use super::refusals::Refusals;
use super::reports::set_aside;
use super::role::TICK;
use super::throttle::in_force;
use super::traces::Traces;
use super::unique::Waits;
use super::view::{LeaderView, MigrationView, PlanningView, ShardStatus, ShardView, WorkerView};
use super::votes::Votes;
use super::wake::{Asker, Joining, Reply, Wake, Welcome};
use crate::election::Reign;
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
    /// How long adaptors may take to be quiet at a gate. `None`: there is no service that asks them.
    pub(super) quiet_within: Option<Duration>,
    /// What must be approved before it begins.
    pub(super) approval: ApprovalRule,
}

/// What only a leader owns.
pub(super) struct Leader {
    pub(super) seat: Seat,
    pub(super) clock: Monotonic,
    pub(super) book: Book,
    pub(super) board: Board,
    pub(super) fleet: Fleet,
    pub(super) broken: Vec<SessionId>,
    pub(super) queries: Queries,
    pub(super) outbox: Outbox,
    /// For how long doors may speak in this leader's name.
    pub(super) reign: Reign,
    /// Whether anything that a person may watch has changed since they were told.
    news: bool,
    flushed: Millis,
    ticked: Millis,
    pub(super) traces: Traces,
    shown: Leading,
    pub(super) gates: Gates,
    pub(super) votes: Votes,
    pub(super) deadlines: Deadlines,
    pub(super) refusals: Refusals,
    pub(super) waits: Waits,
}

impl Leader {
    pub(super) fn new(seat: Seat, book: Book, reign: Reign) -> Self {
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
            outbox: Outbox::default(),
            reign,
            news: false,
            gates: Gates::default(),
            flushed: 0,
            ticked: 0,
            votes: Votes::default(),
            deadlines: Deadlines::default(),
            refusals: Refusals::default(),
            waits: Waits::default(),
        };
        let keys: Vec<_> = leader.book.pages().map(|page| page.migration().key.clone()).collect();
        for key in keys {
            leader.reconcile(&key);
        }
        leader
    }

    /// Things have happened, in this order. Answers go to whoever asked; only what ends the leadership is an error.
    pub(super) async fn on_all(&mut self, wakes: impl Iterator<Item = Wake>) -> Result<(), StepDown> {
        for wake in wakes {
            self.on(wake).await?;
        }
        self.settle().await
    }

    async fn on(&mut self, wake: Wake) -> Result<(), StepDown> {
        match wake {
            Wake::Planning(reply) => self.outbox.tell(reply, Ok(self.planning_view())),
            Wake::Ask(shard, question, reply) => self.ask(shard, *question, reply),
            Wake::Reopen(id, shards, reply) => self.on_reopen(&id, shards, reply),
            Wake::Decided(decided, reply) => self.on_decided(*decided, reply),
            Wake::Comparable(id, reply) => self.on_comparable(&id, reply),
            Wake::Repairable(id, reply) => self.on_repairable(&id, reply),
            Wake::Mended(key, shard, rows, reply) => self.on_mended(&key, &shard, rows, reply),
            Wake::Purgeable(after, reply) => self.on_purgeable(after, reply),
            Wake::Purged(migration, number, reply) => self.on_purged(&migration, number, reply),
            Wake::Comparing(reply) => self.on_comparing(reply),
            Wake::Waiting(key, round, why, reply) => self.on_waiting(key, round, why, reply),
            Wake::Compared(key, round, found, reply) => self.on_compared(&key, round, found, reply),
            Wake::Cleared(key, reply) => self.on_cleared(&key, reply),
            Wake::Courtesies(reply) => self.on_courtesies(reply),
            Wake::Told(key, news, reply) => self.on_told(&key, news, reply),
            Wake::Quieted(key, wave, quiet, reply) => self.on_quieted(&key, wave, quiet, reply),
            Wake::Tenants(id, reply) => self.on_tenants(&id, reply),
            Wake::BackedUp(id, reply) => self.on_backed_up(id.as_ref(), reply),
            Wake::Untold(limit, running, reply) => self.on_untold(limit, running, reply).await?,
            Wake::Relayed(position, reply) => self.on_relayed(position, reply),
            Wake::HasHeard(source, id, reply) => self.on_has_heard(&source, &id, reply).await,
            Wake::Edit(edit, by, reply) => self.on_edit(*edit, &by, reply).await?,
            Wake::Submit(submissions, revision, start, by, reply) => {
                let made = self.book.submit(submissions, revision, start, &by).await;
                self.told(made, reply)?;
            }
            Wake::Asked(id, verb, by, reply) => self.on_asked(&id, &Event::Asked(verb), &by, reply).await?,
            Wake::Approve(id, checksum, by, reply) => {
                self.on_approve(&id, checksum.as_deref(), by, reply).await?;
            }
            Wake::Get(id, version, reply) => {
                let view = self.book.find(&id, version).map(|page| self.migration_view(page));
                self.outbox.tell(reply, view);
            }
            Wake::List(reply) => {
                let views = self.book.newest().map(|page| self.summary(page)).collect();
                self.outbox.tell(reply, Ok(views));
            }
            Wake::Events(id, after, limit, reply) => {
                // What is staged belongs to it.
                self.store().await?;
                // A history that cannot be read takes nobody's lead: if the store is gone, the next commit tells.
                let events = self.book.events(&id, after, limit).await;
                answer(reply, events);
            }
            Wake::Links(wanted, reply) => {
                self.store().await?;
                let links = self.book.links(&wanted).await;
                answer(reply, links);
            }
            Wake::Head(reply) => {
                self.store().await?;
                let head = self.book.head().await;
                answer(reply, head);
            }
            Wake::Shards(reply) => self.outbox.tell(reply, Ok(self.shard_views())),
            Wake::Workers(reply) => self.outbox.tell(reply, Ok(self.worker_views())),
            Wake::Leader(reply) => self.outbox.tell(reply, Ok(self.leader_view())),
            Wake::Drain(worker, draining, by, reply) => {
                let drained = self.drain(&worker, draining, &by);
                self.outbox.tell(reply, drained);
            }
            Wake::Refused(refusal, by, reply) => self.on_refused(refusal, by, reply),
            Wake::Join(joining, reply) => self.on_join(*joining, reply).await?,
            Wake::Report(session, report) => self.on_report(session, *report).await?,
            Wake::Leave(session) => {
                self.end_sessions(vec![session]);
                self.changed();
            }
        }
        Ok(())
    }

    /// Stores what was decided; only then is it answered and acted upon. If the store refuses, nothing is.
    pub(super) async fn store(&mut self) -> Result<(), StepDown> {
        self.book.save().await?;
        self.deliver();
        Ok(())
    }

    /// Ends a turn: one commit, then what follows from it.
    pub(super) async fn settle(&mut self) -> Result<(), StepDown> {
        self.store().await?;
        self.begin_ready().await?;
        self.dispatch();
        self.deliver();
        if std::mem::take(&mut self.news) {
            self.seat.changes.send_modify(|number| *number += 1);
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
        self.ask_waiting();
        self.open_gates();
        self.end_slow_votes(now);
        self.note_refusals();
        if now.saturating_sub(self.flushed) >= FLUSH_EVERY {
            self.flushed = now;
            self.shown.show(&self.census());
            self.book.flush().await?;
        }
        self.settle().await?;
        self.take_away_from_drained();
        self.ask_to_share();
        self.deliver();
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
    pub(super) fn apply(&mut self, key: &MigrationKey, event: &Event) {
        let before = self.stage(key);
        let busy = self.board.is_held(key);
        if let Err(failure) = self.book.on(key, event, busy) {
            // Only a person's verb can be illegal.
            tracing::error!(%failure, "an event of a worker was refused");
        }
        match event {
            // The other shards want what they wanted: ten thousand need not be looked at for one.
            Event::StepDone { shard, .. } | Event::StepFailed { shard, .. } if self.stage(key) == before => {
                self.reconcile_shard(key, shard);
            }
            // Figures: nothing else is wanted for them.
            Event::Quarantined { .. } | Event::Told(_) if self.stage(key) == before => {}
            _ => self.follow_up(key),
        }
        self.changed();
    }

    fn stage(&self, key: &MigrationKey) -> Option<(Status, Phase, u32, Option<&'static str>)> {
        let migration = self.book.page(key)?.migration();
        let decision = migration.decision.as_ref().map(Decision::as_str);
        Some((migration.status, migration.phase, migration.rollout.wave, decision))
    }

    fn follow_up(&mut self, key: &MigrationKey) {
        self.leave_gate(key);
        self.reconcile(key);
        if self.book.page(key).is_some_and(|page| page.migration().status.is_final()) {
            self.board.close(key);
        }
        self.changed();
    }

    /// Begins every migration that has nothing to wait for any more. All that was decided is stored.
    async fn begin_ready(&mut self) -> Result<(), StepDown> {
        let leases_over = u128::from(self.clock.millis()) >= self.seat.ttl.as_millis();
        self.book.free_ended(&self.board, leases_over).await?;
        if !self.book.pages().any(|page| page.migration().status == Status::Pending) {
            return Ok(());
        }
        while let Some(key) = self.book.next_ready(&self.board.held(), self.seat.approval) {
            match self.book.ask(&key, &Event::Ready, &itself(), false).await {
                Ok(_) => {}
                Err(Refused::Store(error)) => return Err(error.into()),
                Err(Refused::Person(failure)) => {
                    tracing::error!(%failure, "a ready migration cannot begin");
                    return Ok(());
                }
            }
            self.reconcile(&key);
            self.changed();
        }
        Ok(())
    }

    pub(super) async fn on_asked(
        &mut self,
        id: &MigrationId,
        event: &Event,
        by: &Asker,
        reply: Reply<(MigrationView, bool)>,
    ) -> Result<(), StepDown> {
        let key = match self.book.find(id, None) {
            Ok(page) => page.migration().key.clone(),
            Err(failure) => {
                self.outbox.tell(reply, Err(failure));
                return Ok(());
            }
        };
        let busy = self.board.is_held(&key);
        match self.book.ask(&key, event, by, busy).await {
            Ok(changed) => {
                self.follow_up(&key);
                // The answer shows what the verb has led to.
                if let Err(trouble) = self.settle().await {
                    if let StepDown::Store(error) = &trouble {
                        answer(reply, Err(store_trouble(error)));
                    }
                    return Err(trouble);
                }
                answer(reply, self.book.find(id, None).map(|page| (self.migration_view(page), changed)));
            }
            Err(Refused::Person(failure)) => self.outbox.tell(reply, Err(failure)),
            Err(Refused::Store(error)) => {
                answer(reply, Err(store_trouble(&error)));
                return Err(error.into());
            }
        }
        Ok(())
    }

    /// Tells a person how a submission ended.
    fn told(&mut self, made: Result<(), Refused>, reply: Reply<()>) -> Result<(), StepDown> {
        match made {
            Ok(()) => {
                answer(reply, Ok(()));
                self.changed();
            }
            Err(Refused::Person(failure)) => self.outbox.tell(reply, Err(failure)),
            Err(Refused::Store(error)) => {
                answer(reply, Err(store_trouble(&error)));
                return Err(error.into());
            }
        }
        Ok(())
    }

    async fn on_join(&mut self, mut joining: Joining, reply: Reply<Welcome>) -> Result<(), StepDown> {
        if let Some(failure) = self.fleet.taken(&joining) {
            self.outbox.tell(reply, Err(failure));
            return Ok(());
        }
        self.discover(&joining.shards).await?;
        if let Some(failure) = self.strangers(&joining.shards) {
            self.outbox.tell(reply, Err(failure));
            return Ok(());
        }
        joining.shards.iter_mut().for_each(set_aside);
        self.outrank(&joining.shards)?;
        let session = SessionId(self.seat.sessions.fetch_add(1, Ordering::Relaxed));
        let worker = joining.worker.clone();
        tracing::info!(%worker, version = joining.version, shards = joining.shards.len(), "has joined");
        let pulse = Pulse::begin(self.clock, &joining.orders, self.reign.clone());
        if let Some(former) = self.fleet.join(joining, session, pulse.clone()) {
            self.board.lose(&worker, self.clock.millis());
            self.forget_queries(former);
        }
        let welcome = Welcome {
            session,
            pulse,
            fence: self.book.permit().fence().clone(),
            ttl: self.seat.ttl,
            topology: Arc::clone(self.book.topology()),
        };
        self.outbox.tell(reply, Ok(welcome));
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
    pub(super) fn changed(&mut self) {
        self.news = true;
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

    pub(super) fn migration_view(&self, page: &Page) -> MigrationView {
        let shards = page.migration().shards.keys();
        let shards = shards.map(|shard| (shard.clone(), self.shard_status(page, shard))).collect();
        MigrationView { shards, ..self.summary(page) }
    }

    /// The same without the shards, of which there may be ten thousand in each of a list of migrations.
    fn summary(&self, page: &Page) -> MigrationView {
        let migration = page.migration();
        let sum = |rows: fn(&ShardProgress) -> u64| page.stored.progress.values().map(rows).sum();
        MigrationView {
            migration: Arc::clone(migration),
            times: page.stored.times,
            waiting_for: self.waiting_for(migration),
            approval_needed: self.seat.approval.needed(migration),
            throttle: in_force(page),
            undoable: page.spec.undoable(),
            gate: self.gate(migration),
            uncovered: uncovered(&page.spec, migration, self.book.topology()),
            rows_done: sum(|shard| shard.rows_done),
            rows_total: sum(|shard| shard.rows_total),
            undone: Undone {
                restored: sum(|shard| shard.undone.restored),
                conflicts: sum(|shard| shard.undone.conflicts),
            },
            shards: BTreeMap::new(),
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
        let trouble = trouble.or_else(|| self.waits.of(page.migration(), shard));
        ShardStatus { progress, trouble, workers: activity.workers.into_iter().collect() }
    }

    fn planning_view(&self) -> PlanningView {
        let known = self.book.newest().map(Page::migration);
        PlanningView {
            topology: Arc::clone(self.book.topology()),
            directory: Arc::clone(self.book.directory()),
            known: known.map(|migration| (migration.key.id.clone(), Migration::clone(migration))).collect(),
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
                    problem: self.illness(shard),
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

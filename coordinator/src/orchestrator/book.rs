//! What the store holds, in memory.
//!
//! News of workers comes in numbers: its moves are made here first and stored together by [`Book::save`]; until then
//! nobody may hear of them. If that fails, this book is wrong and dies with its leader. What persons ask for, and what a store
//! may refuse for a reason of its own (such as a start), is stored first, alone, and only then appears here.

mod installation;
mod telling;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::ids::{MigrationId, MigrationKey, ShardId, Version};
use shardlift_domain::migration::{
    ApprovalRule, Event, Migration, Rollout, ShardMigration, Status, Step, Throttling, Told, Uniqueness, Verb,
};
use shardlift_domain::plan::{Disposition, PlannedMigration};
use shardlift_domain::progress::ShardProgress;
use shardlift_domain::range::Pass;
use shardlift_domain::routing::Directory;
use shardlift_domain::spec::{self, Spec, SpecBody, SpecFile};
use shardlift_domain::topology::Topology;
use shardlift_domain::verdict::{Saved, Undone};

use super::board::Board;
use super::chronicle::{decided, record, records, times_after};
use super::holders::{Holders, Taken, holds};
use super::purge::may_purge;
use super::staged::{Staged, Unsaved};
use super::throttle::chronicled;
use super::wake::{Asker, Submission};
use crate::planner::disposition::reusable;
use crate::shard::stale;
use crate::store::{
    Change, Head, HistoryEntry, HistoryEvent, LeaderPermit, Link, Moved, Recorded, Store, StoreError,
    StoredMigration, Times, Wanted,
};

pub use telling::{Numbered, Sink};

/// One migration with its parsed spec.
pub(super) struct Page {
    migration: Arc<Migration>,
    pub(super) stored: Kept,
    pub(super) spec: Spec,
}

/// What is stored of a migration beside its state.
pub(super) struct Kept {
    /// The file that it came from.
    pub(super) spec: SpecFile,
    /// How far each shard is.
    pub(super) progress: BTreeMap<ShardId, ShardProgress>,
    /// When things happened, for people.
    pub(super) times: Times,
}

impl Page {
    fn new(stored: StoredMigration, spec: Spec) -> Self {
        let StoredMigration { migration, spec: file, progress, times } = stored;
        Self { migration: Arc::new(migration), stored: Kept { spec: file, progress, times }, spec }
    }

    pub(super) fn migration(&self) -> &Arc<Migration> {
        &self.migration
    }

    fn progress(&self, shard: &ShardId) -> Option<&ShardProgress> {
        self.stored.progress.get(shard)
    }
}

/// Everything that is stored, under one permit.
pub(super) struct Book {
    store: Arc<dyn Store>,
    permit: Arc<LeaderPermit>,
    topology: Arc<Topology>,
    directory: Arc<Directory>,
    order: Vec<MigrationKey>,
    pages: BTreeMap<MigrationKey, Page>,
    staged: Staged,
    /// That this leader has taken over: it goes with the first commit. One of its own would be a commit more that a leader may
    /// die after, and an entry for each that has done nothing.
    took_over: Option<HistoryEntry>,
    unsaved: Unsaved,
    holders: Holders,
    outgoing: Option<telling::Outgoing>,
}

/// Who is named in the history where no person is.
const SELF: &str = "coordinator";

/// The coordinator, as who does something by itself.
pub(super) fn itself() -> Asker {
    SELF.into()
}

/// Why a verb was not carried out.
pub(super) enum Refused {
    /// The person is told.
    Person(Failure),
    /// The store refused: the leader steps down.
    Store(StoreError),
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        match error {
            // In the store but not in this book: left out when it was opened. Nothing speaks against leading on.
            // A request that was heard before changes nothing either.
            StoreError::AlreadyStored(_) | StoreError::Locked { .. } | StoreError::AlreadyHeard { .. } => {
                Refused::Person(error.into())
            }
            other => Refused::Store(other),
        }
    }
}

impl Book {
    /// Opens the book after a take-over. Ranges are to be read from the shards again.
    pub(super) async fn open(store: Arc<dyn Store>, permit: Arc<LeaderPermit>) -> Result<Self, StoreError> {
        let snapshot = store.load().await?;
        let mut book = Self {
            store,
            permit,
            topology: Arc::new(snapshot.topology),
            directory: Arc::new(snapshot.directory),
            order: Vec::new(),
            pages: BTreeMap::new(),
            staged: Staged::default(),
            took_over: None,
            unsaved: Unsaved::default(),
            holders: Holders::inherit(
                &snapshot.locks,
                snapshot.migrations.iter().map(|stored| &stored.migration),
            ),
            outgoing: None,
        };
        for mut stored in snapshot.migrations {
            stored.migration = stored.migration.recovered();
            match spec::parse(&stored.spec) {
                Ok(spec) => book.insert(Page::new(stored, spec)),
                // It was valid when it was submitted; only another release can see it otherwise.
                Err(problems) => {
                    tracing::error!(migration = %stored.migration.key, %problems, "left out: its spec cannot be read by this release")
                }
            }
        }
        book.adopt().await?;
        Ok(book)
    }

    /// A release before locks stored migrations that run and hold nothing.
    async fn adopt(&mut self) -> Result<(), StoreError> {
        let mut change = Change::default();
        for page in self.pages() {
            self.holders.follow(page.migration(), true, &mut change);
        }
        if change.is_empty() { Ok(()) } else { self.commit_alone(change).await }
    }

    fn insert(&mut self, page: Page) {
        let key = page.migration().key.clone();
        if !self.order.contains(&key) {
            self.order.push(key.clone());
        }
        self.pages.insert(key, page);
    }

    pub(super) fn permit(&self) -> &Arc<LeaderPermit> {
        &self.permit
    }

    pub(super) fn topology(&self) -> &Arc<Topology> {
        &self.topology
    }

    pub(super) fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    pub(super) fn page(&self, key: &MigrationKey) -> Option<&Page> {
        self.pages.get(key)
    }

    /// All pages in the order of submission.
    pub(super) fn pages(&self) -> impl Iterator<Item = &Page> {
        self.order.iter().filter_map(|key| self.pages.get(key))
    }

    /// The newest version of each id, in the order of submission.
    pub(super) fn newest(&self) -> impl Iterator<Item = &Page> {
        self.pages().filter(|page| {
            let key = &page.migration().key;
            !self.pages.contains_key(&MigrationKey { id: key.id.clone(), version: key.version.next() })
        })
    }

    /// The named version of an id, or its newest.
    pub(super) fn find(&self, id: &MigrationId, version: Option<Version>) -> Result<&Page, Failure> {
        let first = MigrationKey { id: id.clone(), version: version.unwrap_or(Version(0)) };
        let last = MigrationKey { id: id.clone(), version: version.unwrap_or(Version(u32::MAX)) };
        self.pages.range(first..=last).next_back().map(|(_, page)| page).ok_or_else(|| {
            Failure::new(
                ErrorCode::RequestNotFound,
                format!("there is no migration {id}"),
                "look at `shardlift list` for the ids that there are",
            )
        })
    }

    /// What must still end before a pending migration may begin: what it waits for, and what holds the same tables.
    /// `held`: migrations of which some worker still has a task, whatever their status: a cancelled one ends with its
    /// open batches or statement, not before. What the store says is held counts as well.
    pub(super) fn waiting_for(
        &self,
        migration: &Migration,
        held: &BTreeSet<MigrationKey>,
    ) -> Vec<MigrationId> {
        let unmet = |id: &&MigrationId| {
            !self.find(id, None).is_ok_and(|page| page.migration().status == Status::Completed)
        };
        let mut waits: Vec<MigrationId> = migration.waits_for.iter().filter(unmet).cloned().collect();
        for page in self.pages() {
            let other = page.migration();
            let active =
                holds(other.status) || held.contains(&other.key) || self.holders.contains(&other.key);
            if active && other.collides_with(migration) && !waits.contains(&other.key.id) {
                waits.push(other.key.id.clone());
            }
        }
        waits
    }

    /// The next pending migration that may begin.
    pub(super) fn next_ready(
        &self,
        held: &BTreeSet<MigrationKey>,
        approval: ApprovalRule,
    ) -> Option<MigrationKey> {
        self.pages()
            .map(Page::migration)
            .find(|migration| {
                migration.status == Status::Pending
                    && migration.released
                    && approval.needed(migration).is_none()
                    && self.waiting_for(migration, held).is_empty()
            })
            .map(|migration| migration.key.clone())
    }

    /// Stores new migrations, released if they are to start: in one commit, so that nothing is stored and forgotten.
    /// Those that are known with the same content are left as they are, but for a start that nobody gave yet.
    /// The plan must be of the present revision of the topology.
    pub(super) async fn submit(
        &mut self,
        submissions: Vec<Submission>,
        revision: u64,
        start: bool,
        by: &Asker,
    ) -> Result<(), Refused> {
        if revision != self.topology.revision {
            return Err(Refused::Person(stale(&self.topology, revision)));
        }
        let mut change = Change::default();
        let mut pages = Vec::new();
        for submission in submissions {
            let id = submission.spec.id.clone();
            if let Some((mut new, spec)) = self.admit(submission).map_err(Refused::Person)? {
                new.migration.author = Some(by.name.clone());
                change.history.push(record(&new.migration, HistoryEvent::Submitted, by));
                if let Some(released) = released(&new.migration, start) {
                    change.history.push(record(&released, HistoryEvent::Started, by));
                    new.migration = released;
                }
                change.new.push(new.clone());
                pages.push(Page::new(new, spec));
            } else if let Ok(known) = self.find(&id, None)
                && let Some(released) = released(known.migration(), start)
            {
                change.history.push(record(&released, HistoryEvent::Started, by));
                change.moved.push(Moved::between(known.migration(), released, known.stored.times));
            }
        }
        change.heard = by.heard.clone();
        if change.is_empty() {
            return Ok(());
        }
        let moved = change.moved.clone();
        self.commit(change).await?;
        pages.into_iter().for_each(|page| self.insert(page));
        for Moved { migration, .. } in moved {
            if let Some(page) = self.pages.get_mut(&migration.key) {
                page.migration = migration;
            }
        }
        Ok(())
    }

    /// Decides anew what the plan decided: something else may have been submitted in between.
    fn admit(&self, submission: Submission) -> Result<Option<(StoredMigration, Spec)>, Failure> {
        let Submission { planned, spec, file, traceparent, told } = submission;
        let known = self.find(&spec.id, None).ok().map(|page| &**page.migration());
        let expected = known.map_or(Version::FIRST, |known| {
            if matches!(planned.disposition, Disposition::Known { .. }) {
                known.key.version
            } else {
                known.key.version.next()
            }
        });
        if known.is_some_and(|known| known.checksum == spec.checksum && !reusable(known)) {
            return Ok(None);
        }
        if planned.version != expected || known.is_some_and(|known| !reusable(known)) {
            return Err(Failure::new(
                ErrorCode::SpecConflict,
                format!("{} was submitted by somebody else since the plan was made", spec.id),
                "plan again",
            ));
        }
        let mut stored = fresh(&planned, &spec, file);
        stored.migration.traceparent = traceparent;
        stored.migration.told = told;
        Ok(Some((stored, spec)))
    }

    /// Keeps something that happened to a migration without moving it, with the next commit.
    pub(super) fn note(&mut self, key: &MigrationKey, event: HistoryEvent, detail: serde_json::Value) {
        let Some(page) = self.pages.get(key) else { return };
        let entry = record(&page.migration, event, &itself());
        self.staged.history.push(HistoryEntry { detail, ..entry });
    }

    /// Moves one migration by the news of a worker; stored with the next [`Book::save`]. `busy`: some worker has a task of
    /// it.
    pub(super) fn on(&mut self, key: &MigrationKey, event: &Event, busy: bool) -> Result<(), Failure> {
        let Some(page) = self.pages.get_mut(key) else { return Ok(()) };
        let before = (page.migration.status, page.migration.phase);
        let undecided = page.migration.decision.is_none();
        // Nobody else looks at it but in the moments of a view or a commit: it is hardly ever copied.
        let migration = Arc::make_mut(&mut page.migration);
        let made = migration.make(event).map_err(|illegal| Failure::from(illegal).in_migration(key))?;
        let Some(differ) = made else { return Ok(()) };
        let now = shardlift_runtime::clock::now();
        page.stored.times = times_after(&page.stored.times, before.0, migration.status, now);
        self.staged.history.extend(records(before, migration, event, &itself()));
        self.staged.history.extend(decided(undecided, migration, &itself()));
        self.staged.moved.entry(key.clone()).or_default().extend(differ);
        let mut locks = Change::default();
        self.holders.follow(migration, busy, &mut locks);
        self.holders.made(&Taken::by(&locks));
        self.staged.locks.freed.append(&mut locks.freed);
        self.staged.locks.locked.append(&mut locks.locked);
        Ok(())
    }

    /// Moves one migration by a verb, or makes it run: store first, then memory, since what it works on may be held by one
    /// that was left out of this book. `false`: nothing changed.
    pub(super) async fn ask(
        &mut self,
        key: &MigrationKey,
        event: &Event,
        by: &Asker,
        busy: bool,
    ) -> Result<bool, Refused> {
        let Some(page) = self.pages.get(key) else { return Ok(false) };
        if matches!(event, Event::Asked(Verb::Rollback { .. })) {
            self.may_roll_back(page).map_err(Refused::Person)?;
        }
        if matches!(event, Event::Asked(Verb::Purge)) {
            may_purge(page).map_err(Refused::Person)?;
        }
        let before = page.migration();
        let mut migration = Migration::clone(before);
        let made = migration
            .make(event)
            .map_err(|illegal| Refused::Person(Failure::from(illegal).in_migration(key)))?;
        let heard = by.heard.clone();
        let Some(differ) = made else {
            if heard.is_some() {
                self.commit(Change { heard, ..Change::default() }).await?;
            }
            return Ok(false);
        };
        let now = shardlift_runtime::clock::now();
        let times = times_after(&page.stored.times, before.status, migration.status, now);
        let mut history = records((before.status, before.phase), &migration, event, by);
        history.extend(decided(before.decision.is_none(), &migration, by));
        chronicled(&mut history, &page.spec, before, &migration);
        let migration = Arc::new(migration);
        let moved = vec![Moved::new(Arc::clone(&migration), differ, times)];
        let mut change = Change { moved, history, heard, ..Change::default() };
        self.holders.follow(&migration, busy, &mut change);
        self.commit(change).await?;
        if let Some(page) = self.pages.get_mut(key) {
            page.migration = migration;
            page.stored.times = times;
        }
        Ok(true)
    }

    /// Frees what ended migrations still hold, once nobody is busy with them; see [`Holders::ended`].
    pub(super) async fn free_ended(&mut self, board: &Board, leases_over: bool) -> Result<(), StoreError> {
        let status = |key: &MigrationKey| self.pages.get(key).map(|page| page.migration().status);
        let freed = self.holders.ended(status, |key| board.is_held(key), leases_over);
        if freed.is_empty() { Ok(()) } else { self.commit_alone(Change { freed, ..Change::default() }).await }
    }

    /// Folds the figures of a pass into a shard's progress; saved with the shard's next step, or by a flush.
    pub(super) fn progress(&mut self, key: &MigrationKey, shard: &ShardId, pass: &Pass) {
        let Some(page) = self.pages.get_mut(key) else { return };
        let progress = page.stored.progress.entry(shard.clone()).or_default();
        let before = progress.clone();
        let done = pass.ranges.iter().filter(|range| range.done).count();
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        progress.fold(pass.totals(), pass.number, count(pass.ranges.len()), count(done));
        if *progress != before {
            self.unsaved.add(key, shard);
        }
    }

    /// How far a shard is undone. Not saved: the shard knows.
    pub(super) fn undoing(&mut self, key: &MigrationKey, shard: &ShardId, done: Undone) {
        if let Some(page) = self.pages.get_mut(key) {
            page.stored.progress.entry(shard.clone()).or_default().undone = done;
        }
    }

    /// How much of a shard is saved. Not stored: the manifest tells.
    pub(super) fn saving(&mut self, key: &MigrationKey, shard: &ShardId, saved: Saved) {
        if let Some(page) = self.pages.get_mut(key) {
            page.stored.progress.entry(shard.clone()).or_default().saved = saved;
        }
    }

    /// Whether the store says that it holds its tables.
    pub(super) fn is_holding(&self, key: &MigrationKey) -> bool {
        self.holders.contains(key)
    }

    /// Stores all that was decided since the last time, in one commit. What fails here must not be acted upon: the leader
    /// steps down.
    pub(super) async fn save(&mut self) -> Result<(), StoreError> {
        if self.staged.is_empty() {
            return Ok(());
        }
        let change = self.staged_change();
        self.stored(change).await
    }

    /// The same, with what progress has gathered; called about once a second, so that the store sees few writes however
    /// many workers report.
    pub(super) async fn flush(&mut self) -> Result<(), StoreError> {
        if self.staged.is_empty() && self.unsaved.is_empty() {
            return Ok(());
        }
        let mut change = self.staged_change();
        let figures = self.unsaved.take_all(|key, shard| self.pages.get(key)?.progress(shard));
        change.progress.extend(figures);
        self.stored(change).await
    }

    /// Everything that is staged, as a change. Figures of shards that take a step go with it; those of a migration that
    /// ends all, since nobody reads them from the shards again.
    fn staged_change(&mut self) -> Change {
        let Staged { moved, history, locks, relayed } = std::mem::take(&mut self.staged);
        let mut change = Change { history, relayed, ..locks };
        for (key, shards) in moved {
            let Some(page) = self.pages.get(&key) else { continue };
            let only = (!page.migration.status.is_final()).then_some(&shards);
            change.progress.extend(self.unsaved.take(&key, only, |shard| page.progress(shard)));
            let differ = shards.into_iter().collect();
            change.moved.push(Moved::new(Arc::clone(&page.migration), differ, page.stored.times));
        }
        change
    }

    pub(super) async fn events(
        &self,
        id: &MigrationId,
        after: Option<u64>,
        limit: u32,
    ) -> Result<Vec<Recorded>, Failure> {
        // A migration that is not there has no history, which is not the same as one that is empty.
        self.find(id, None)?;
        Ok(self.store.events(id, after, limit).await?)
    }

    pub(super) async fn links(&self, wanted: &Wanted) -> Result<Vec<Link>, Failure> {
        Ok(self.store.links(wanted).await?)
    }

    pub(super) async fn head(&self) -> Result<Head, Failure> {
        Ok(self.store.head().await?)
    }

    /// A change that is stored before it appears here, after all that was decided before: if that is not stored, this book
    /// is wrong, whatever the reason.
    async fn commit(&mut self, change: Change) -> Result<(), Refused> {
        self.save().await.map_err(Refused::Store)?;
        Ok(self.commit_alone(change).await?)
    }

    async fn commit_alone(&mut self, change: Change) -> Result<(), StoreError> {
        let taken = Taken::by(&change);
        self.stored(change).await?;
        self.holders.made(&taken);
        Ok(())
    }

    /// The one way into the store.
    async fn stored(&mut self, mut change: Change) -> Result<(), StoreError> {
        change.history.splice(0..0, self.took_over.take());
        if let Some(outgoing) = &mut self.outgoing {
            outgoing.note(&change);
        }
        let decides = change.history.iter().any(|entry| entry.event == HistoryEvent::Decided);
        if decides {
            fail::fail_point!("before-decision", |_| std::process::abort());
        }
        self.store.commit(&self.permit, change).await?;
        if decides {
            fail::fail_point!("after-decision", |_| std::process::abort());
        }
        Ok(())
    }
}

fn fresh(planned: &PlannedMigration, spec: &Spec, file: spec::SpecFile) -> StoredMigration {
    let has_where = match &spec.body {
        SpecBody::Schema(_) => false,
        SpecBody::Data(data) => data.source.pending.is_some(),
    };
    let migration = Migration {
        key: MigrationKey { id: planned.id.clone(), version: planned.version },
        kind: planned.kind,
        engine: planned.engine,
        cluster: planned.cluster.clone(),
        checksum: spec.checksum.clone(),
        relation: spec.relation().map(str::to_owned),
        has_where,
        atomic: spec.is_atomic(),
        backup: spec.backs_up(),
        decision: None,
        waits_for: planned.waits_for.clone(),
        status: Status::Pending,
        released: false,
        phase: Step::Precheck.phase(),
        touched: false,
        stop: None,
        on_verify_failure: spec.on_verify_failure,
        undo: None,
        purge: None,
        throttling: Throttling::default(),
        author: None,
        approval: None,
        traceparent: None,
        quarantined: BTreeMap::new(),
        rollout: Rollout::of(planned.waves.iter().map(|wave| wave.soak)),
        told: Told::default(),
        unique: spec.compares_shards().then(Uniqueness::default),
        shards: (0..)
            .zip(&planned.waves)
            .flat_map(|(number, wave)| {
                wave.shards.iter().map(move |shard| (shard.clone(), ShardMigration::fresh(number)))
            })
            .collect(),
    };
    let progress = planned
        .estimates
        .iter()
        .map(|estimate| {
            let total = estimate.rows.unwrap_or(0);
            (estimate.shard.clone(), ShardProgress { rows_total: total, ..ShardProgress::default() })
        })
        .collect();
    let times = Times { created_at: shardlift_runtime::clock::now(), started_at: None, completed_at: None };
    StoredMigration { migration, spec: file, progress, times }
}

/// The state after a start, if one is wanted and changes anything.
fn released(migration: &Migration, start: bool) -> Option<Migration> {
    let pending = start && migration.status == Status::Pending;
    let made = pending.then(|| migration.on(&Event::Asked(Verb::Start)).ok()).flatten()?;
    made.changed.then_some(made.migration)
}

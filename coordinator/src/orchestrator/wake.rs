//! The closed list of all that can wake the orchestrator, and the handle by which doors and services do it.

use std::sync::Arc;
use std::time::Duration;

use shardlift_domain::backup::{BackupAnswer, BackupRequest};
use shardlift_domain::capability::Capabilities;
use shardlift_domain::facts::{
    ConflictsPage, ConflictsRequest, FactsRequest, PlacementPage, PlacementRequest, Purged, ShardFacts,
    ShardHello,
};
use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::fence::Fence;
use shardlift_domain::ids::{MigrationId, MigrationKey, ShardId, Version, WorkerId};
use shardlift_domain::migration::{News, Told, Verb};
use shardlift_domain::mismatch::{MismatchesPage, MismatchesRequest};
use shardlift_domain::plan::PlannedMigration;
use shardlift_domain::prepared::PreparedTransaction;
use shardlift_domain::quarantine::{Held, QuarantineAnswer, QuarantineRequest};
use shardlift_domain::rehearsal::{RehearsalRequest, ShardRehearsal};
use shardlift_domain::repair::{RepairPage, RepairRequest};
use shardlift_domain::spec::{Spec, SpecFile};
use shardlift_domain::topology::Topology;
use shardlift_domain::unique::{UniqueAnswer, UniqueRequest};
use tokio::sync::{mpsc, oneshot, watch};

use super::courtesy::Courtesy;
use super::fleet::{Order, Report, SessionId};
use super::pulse::Pulse;
use super::question::{Answer, Question};
use super::refusals::Refusal;
use super::standing::Standing;
use super::telling::Untold;
use super::unique::Comparing;
use super::view::{Drained, LeaderView, MigrationView, PlanningView, ShardView, WorkerView};
use crate::shard::Edit;
use crate::store::{Head, Heard, Link, Recorded, Wanted};

/// The answer of a command.
pub(super) type Reply<T> = oneshot::Sender<Result<T, Failure>>;

/// One migration to be stored.
#[derive(Debug, Clone)]
pub struct Submission {
    /// What the plan says of it.
    pub planned: PlannedMigration,
    /// The parsed spec.
    pub spec: Spec,
    /// The file as it was written.
    pub file: SpecFile,
    /// The trace context of the submit.
    pub traceparent: Option<String>,
    /// Which services outside are to hear of it.
    pub told: Told,
}

/// A worker that wants a session.
#[derive(Debug)]
pub struct Joining {
    /// Who.
    pub worker: WorkerId,
    /// Version of its program.
    pub version: String,
    /// Tasks at once.
    pub slots: u32,
    /// What it serves.
    pub shards: Vec<ShardHello>,
    /// What it can do.
    pub knows: Capabilities,
    /// A person has said that it is to be given nothing new.
    pub draining: bool,
    /// Whose session it is.
    pub principal: String,
    /// Where orders to it go. Bounded: a worker that does not read loses its session.
    pub orders: mpsc::Sender<Order>,
}

/// What a joining worker is told.
#[derive(Debug, Clone)]
pub struct Welcome {
    /// Names this session in later reports.
    pub session: SessionId,
    /// Where the door notes that the worker lives.
    pub pulse: Pulse,
    /// Who leads.
    pub fence: Fence,
    /// How long silence may last.
    pub ttl: Duration,
    /// The declared clusters.
    pub topology: Arc<Topology>,
}

/// What a shard has done with rows that were set aside.
#[derive(Debug, Clone)]
pub struct Decided {
    /// Of which migration.
    pub migration: MigrationKey,
    /// Which shard.
    pub shard: ShardId,
    /// How many are there now.
    pub held: Held,
    /// Some are pending again.
    pub retried: bool,
}

/// A migration whose rows can be compared with what their transform gives.
#[derive(Debug, Clone)]
pub struct Comparable {
    /// Which version.
    pub migration: MigrationKey,
    /// Its spec.
    pub file: SpecFile,
    /// Where it may have changed something.
    pub shards: Vec<ShardId>,
}

/// A migration whose before-images are to be removed.
#[derive(Debug, Clone)]
pub struct Purgeable {
    /// Which version.
    pub migration: MigrationKey,
    /// The number of the purge.
    pub number: u32,
    /// Where some may be.
    pub shards: Vec<ShardId>,
}

/// A migration that saves what it changes.
#[derive(Debug, Clone)]
pub struct BackedUp {
    /// Which version.
    pub migration: MigrationKey,
    /// Whether it has ended: nothing needs its backups any more but a person.
    pub ended: bool,
    /// Where its backups may be.
    pub shards: Vec<ShardId>,
}

/// All that can wake the orchestrator, besides time.
pub(super) enum Wake {
    Planning(Reply<PlanningView>),
    Ask(ShardId, Box<Question>, Reply<Answer>),
    Reopen(MigrationId, Vec<ShardId>, Reply<MigrationView>),
    Decided(Box<Decided>, Reply<MigrationView>),
    Comparable(MigrationId, Reply<Comparable>),
    Repairable(MigrationId, Reply<Comparable>),
    Mended(MigrationKey, ShardId, u64, Reply<()>),
    Purgeable(Option<Duration>, Reply<Vec<Purgeable>>),
    Purged(MigrationKey, u32, Reply<()>),
    Comparing(Reply<Vec<Comparing>>),
    Waiting(MigrationKey, Option<u32>, Option<Failure>, Reply<bool>),
    Compared(MigrationKey, u32, Option<Failure>, Reply<()>),
    Cleared(MigrationKey, Reply<()>),
    Courtesies(Reply<Vec<Courtesy>>),
    Told(MigrationKey, News, Reply<()>),
    Quieted(MigrationKey, u32, Result<(), Failure>, Reply<()>),
    Tenants(MigrationId, Reply<Vec<String>>),
    BackedUp(Option<MigrationId>, Reply<Vec<BackedUp>>),
    Untold(u32, bool, Reply<Untold>),
    Relayed(u64, Reply<()>),
    HasHeard(String, String, Reply<bool>),
    Edit(Box<Edit>, Asker, Reply<(bool, u64)>),
    Submit(Vec<Submission>, u64, bool, Asker, Reply<()>),
    Asked(MigrationId, Verb, Asker, Reply<(MigrationView, bool)>),
    Approve(MigrationId, Option<String>, Asker, Reply<(MigrationView, bool)>),
    Get(MigrationId, Option<Version>, Reply<MigrationView>),
    List(Reply<Vec<MigrationView>>),
    Events(MigrationId, Option<u64>, u32, Reply<Vec<Recorded>>),
    Links(Wanted, Reply<Vec<Link>>),
    Head(Reply<Head>),
    Shards(Reply<Vec<ShardView>>),
    Workers(Reply<Vec<WorkerView>>),
    Leader(Reply<LeaderView>),
    Drain(WorkerId, bool, Asker, Reply<Drained>),
    Refused(Refusal, Asker, Reply<()>),
    Join(Box<Joining>, Reply<Welcome>),
    Report(SessionId, Box<Report>),
    Leave(SessionId),
}

/// Who asks for something, as the history tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asker {
    /// A principal's name, or what a coordinator calls itself.
    pub name: String,
    /// The id of the request, if it came as one.
    pub request: Option<String>,
    /// The request of a broker that this is; noted in the same commit, also when nothing else changes.
    pub heard: Option<Heard>,
}

impl From<&str> for Asker {
    fn from(name: &str) -> Self {
        Self { name: name.to_owned(), request: None, heard: None }
    }
}

/// How doors and services speak to the orchestrator. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    wakes: mpsc::Sender<Wake>,
    changes: watch::Receiver<u64>,
    standing: Standing,
}

/// Room for one report at the heart.
pub struct Room<'a>(mpsc::Permit<'a, Wake>);

impl Room<'_> {
    /// A worker reports.
    pub fn report(self, session: SessionId, report: Report) {
        self.0.send(Wake::Report(session, Box::new(report)));
    }
}

macro_rules! ask {
    ($self:ident, $($wake:tt)*) => {{
        let (reply, answer) = oneshot::channel();
        $self.send(ask!(@wake reply, $($wake)*)).await?;
        answer.await.map_err(|_| not_leader())?
    }};
    (@wake $reply:ident, $name:ident) => { Wake::$name($reply) };
    (@wake $reply:ident, $name:ident, $($part:expr),+) => { Wake::$name($($part,)+ $reply) };
}

macro_rules! answered {
    ($self:ident, $shard:ident, $name:ident($what:expr)) => {
        match $self.ask($shard, Question::$name($what)).await? {
            Answer::$name(answer) => Ok(answer),
            _ => Err(another_question()),
        }
    };
}

impl Handle {
    pub(super) fn new(wakes: mpsc::Sender<Wake>, changes: watch::Receiver<u64>, standing: Standing) -> Self {
        Self { wakes, changes, standing }
    }

    /// Whether this coordinator leads, and who does otherwise.
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    async fn send(&self, wake: Wake) -> Result<(), Failure> {
        self.wakes.send(wake).await.map_err(|_| not_leader())
    }

    /// What planning needs to know of the present state.
    pub async fn planning(&self) -> Result<PlanningView, Failure> {
        ask!(self, Planning)
    }

    async fn ask(&self, shard: ShardId, question: Question) -> Result<Answer, Failure> {
        ask!(self, Ask, shard, Box::new(question))
    }

    /// Asks a worker of the shard for facts.
    pub async fn facts(&self, shard: ShardId, request: FactsRequest) -> Result<ShardFacts, Failure> {
        answered!(self, shard, Facts(request))
    }

    /// Asks a worker of the shard for one page of a look for misplaced rows.
    pub async fn placement(
        &self,
        shard: ShardId,
        request: PlacementRequest,
    ) -> Result<PlacementPage, Failure> {
        answered!(self, shard, Placement(request))
    }

    /// Asks a worker of the shard about rows that were set aside, or for a decision about them.
    pub async fn quarantine(
        &self,
        shard: ShardId,
        request: QuarantineRequest,
    ) -> Result<QuarantineAnswer, Failure> {
        answered!(self, shard, Quarantine(request))
    }

    /// Prepares these shards for rows that are to be tried again; refused where that cannot be.
    pub async fn reopen(&self, id: MigrationId, shards: Vec<ShardId>) -> Result<MigrationView, Failure> {
        ask!(self, Reopen, id, shards)
    }

    /// A shard has decided about rows that were set aside.
    pub async fn decided(&self, decided: Decided) -> Result<MigrationView, Failure> {
        ask!(self, Decided, Box::new(decided))
    }

    /// Asks a worker of the shard for one page of what undoing has left alone.
    pub async fn conflicts(
        &self,
        shard: ShardId,
        request: ConflictsRequest,
    ) -> Result<ConflictsPage, Failure> {
        answered!(self, shard, Conflicts(request))
    }

    /// Asks a worker of the shard what is prepared there; `all`: also what is not ours.
    pub async fn prepared(&self, shard: ShardId, all: bool) -> Result<Vec<PreparedTransaction>, Failure> {
        answered!(self, shard, Prepared(all))
    }

    /// What a walk over the before-images of a migration needs; refused where there are none.
    pub async fn comparable(&self, id: MigrationId) -> Result<Comparable, Failure> {
        ask!(self, Comparable, id)
    }

    /// Asks a worker of the shard for one page of rows that are not what their transform gives.
    pub async fn mismatches(
        &self,
        shard: ShardId,
        request: MismatchesRequest,
    ) -> Result<MismatchesPage, Failure> {
        answered!(self, shard, Mismatches(request))
    }

    /// What repairing the rows of a migration needs; refused where that cannot be.
    pub async fn repairable(&self, id: MigrationId) -> Result<Comparable, Failure> {
        ask!(self, Repairable, id)
    }

    /// Asks a worker of the shard to repair some rows.
    pub async fn repair(&self, shard: ShardId, request: RepairRequest) -> Result<RepairPage, Failure> {
        answered!(self, shard, Repair(request))
    }

    /// So many rows of a shard were repaired; answers once that is stored.
    pub async fn mended(&self, migration: MigrationKey, shard: ShardId, rows: u64) -> Result<(), Failure> {
        ask!(self, Mended, migration, shard, rows)
    }

    /// Gives up the before-images of what ended longer ago than this, and tells of which migrations some are to be removed.
    pub async fn purgeable(&self, after: Option<Duration>) -> Result<Vec<Purgeable>, Failure> {
        ask!(self, Purgeable, after)
    }

    /// Asks a worker of the shard to remove some before-images.
    pub async fn purge(&self, shard: ShardId, migration: MigrationKey) -> Result<Purged, Failure> {
        answered!(self, shard, Purge(migration))
    }

    /// No shard holds any more of the before-images that the purge of this number was to remove.
    pub async fn purged(&self, migration: MigrationKey, number: u32) -> Result<(), Failure> {
        ask!(self, Purged, migration, number)
    }

    /// The migrations whose shards are to be compared, or have digests that are to be removed.
    pub async fn comparing(&self) -> Result<Vec<Comparing>, Failure> {
        ask!(self, Comparing)
    }

    /// Asks a worker of the shard about digests, or to remove some.
    pub async fn unique(&self, shard: ShardId, request: UniqueRequest) -> Result<UniqueAnswer, Failure> {
        answered!(self, shard, Unique(request))
    }

    /// What a comparison waits for, if anything. Answers whether it is still wanted.
    pub async fn waiting(
        &self,
        migration: MigrationKey,
        round: Option<u32>,
        why: Option<Failure>,
    ) -> Result<bool, Failure> {
        ask!(self, Waiting, migration, round, why)
    }

    /// The shards were compared; answers once that is stored.
    pub async fn compared(
        &self,
        migration: MigrationKey,
        round: u32,
        found: Option<Failure>,
    ) -> Result<(), Failure> {
        ask!(self, Compared, migration, round, found)
    }

    /// No shard has digests any more; answers once that is stored.
    pub async fn cleared(&self, migration: MigrationKey) -> Result<(), Failure> {
        ask!(self, Cleared, migration)
    }

    /// What services outside are still to be told of which migration.
    pub async fn courtesies(&self) -> Result<Vec<Courtesy>, Failure> {
        ask!(self, Courtesies)
    }

    /// A service was told something of a migration; answers after the commit.
    pub async fn told(&self, migration: MigrationKey, news: News) -> Result<(), Failure> {
        ask!(self, Told, migration, news)
    }

    /// The adaptors of all tenants are quiet at the gate of this wave, or why they are not yet.
    pub async fn quieted(
        &self,
        migration: MigrationKey,
        wave: u32,
        quiet: Result<(), Failure>,
    ) -> Result<(), Failure> {
        ask!(self, Quieted, migration, wave, quiet)
    }

    /// The tenants whose rows a migration changes, in its newest version; none: those of all.
    pub async fn tenants(&self, id: MigrationId) -> Result<Vec<String>, Failure> {
        ask!(self, Tenants, id)
    }

    /// The migrations that save what they change, all versions; those of one id, or all.
    pub async fn backed_up(&self, id: Option<MigrationId>) -> Result<Vec<BackedUp>, Failure> {
        ask!(self, BackedUp, id)
    }

    /// Asks a worker of the shard about a backup, or for the next piece of work with it.
    pub async fn backup(&self, shard: ShardId, request: BackupRequest) -> Result<BackupAnswer, Failure> {
        answered!(self, shard, Backup(request))
    }

    /// Has a worker of the shard try a transform on a sample, and roll back.
    pub async fn rehearse(
        &self,
        shard: ShardId,
        request: RehearsalRequest,
    ) -> Result<ShardRehearsal, Failure> {
        answered!(self, shard, Rehearsal(request))
    }

    /// What others are to be told next, so much of what happened; `running`: also how far what runs is.
    pub async fn untold(&self, limit: u32, running: bool) -> Result<Untold, Failure> {
        ask!(self, Untold, limit, running)
    }

    /// Others were told all up to this sequence; answers after the commit.
    pub async fn relayed(&self, position: u64) -> Result<(), Failure> {
        ask!(self, Relayed, position)
    }

    /// Changes the topology; answers after the commit: whether anything changed, and the revision now.
    pub async fn edit(&self, edit: Edit, by: Asker) -> Result<(bool, u64), Failure> {
        ask!(self, Edit, Box::new(edit), by)
    }

    /// Stores migrations that were planned for this revision of the topology; answers after the commit. `by`: their author.
    pub async fn submit(
        &self,
        submissions: Vec<Submission>,
        revision: u64,
        start: bool,
        by: Asker,
    ) -> Result<(), Failure> {
        ask!(self, Submit, submissions, revision, start, by)
    }

    /// A person's verb. `true`: something changed; `false`: it was so already.
    pub async fn asked(
        &self,
        id: MigrationId,
        verb: Verb,
        by: Asker,
    ) -> Result<(MigrationView, bool), Failure> {
        ask!(self, Asked, id, verb, by)
    }

    /// Approves the newest version of a migration, if it has the content that was read. `true`: something changed.
    pub async fn approve(
        &self,
        id: MigrationId,
        checksum: Option<String>,
        by: Asker,
    ) -> Result<(MigrationView, bool), Failure> {
        ask!(self, Approve, id, checksum, by)
    }

    /// Whether a request of a broker was carried out.
    pub async fn has_heard(&self, source: String, id: String) -> Result<bool, Failure> {
        ask!(self, HasHeard, source, id)
    }

    /// One migration, the newest version unless one is named.
    pub async fn get(&self, id: MigrationId, version: Option<Version>) -> Result<MigrationView, Failure> {
        ask!(self, Get, id, version)
    }

    /// All migrations, newest versions, in the order of submission; without their shards.
    pub async fn list(&self) -> Result<Vec<MigrationView>, Failure> {
        ask!(self, List)
    }

    /// What happened to a migration, oldest first: the first entries behind a sequence, or the newest ones.
    pub async fn events(
        &self,
        id: MigrationId,
        after: Option<u64>,
        limit: u32,
    ) -> Result<Vec<Recorded>, Failure> {
        ask!(self, Events, id, after, limit)
    }

    /// Entries of the history as they stand, with their hashes.
    pub async fn links(&self, wanted: Wanted) -> Result<Vec<Link>, Failure> {
        ask!(self, Links, wanted)
    }

    /// How far the chain of the history is.
    pub async fn head(&self) -> Result<Head, Failure> {
        ask!(self, Head)
    }

    /// All declared shards.
    pub async fn shards(&self) -> Result<Vec<ShardView>, Failure> {
        ask!(self, Shards)
    }

    /// All connected workers.
    pub async fn workers(&self) -> Result<Vec<WorkerView>, Failure> {
        ask!(self, Workers)
    }

    /// Gives a worker nothing new, or takes that back.
    pub async fn drain(&self, worker: WorkerId, draining: bool, by: Asker) -> Result<Drained, Failure> {
        ask!(self, Drain, worker, draining, by)
    }

    /// Something was refused to somebody who is known; answers once it is counted, and stored if it is its turn.
    pub async fn refused(&self, refusal: Refusal, by: Asker) -> Result<(), Failure> {
        ask!(self, Refused, refusal, by)
    }

    /// Who leads.
    pub async fn leader(&self) -> Result<LeaderView, Failure> {
        ask!(self, Leader)
    }

    /// A worker's session begins.
    pub async fn join(&self, joining: Joining) -> Result<Welcome, Failure> {
        ask!(self, Join, Box::new(joining))
    }

    /// Waits until the heart has room for a report. May be dropped and asked for again: nothing is lost.
    pub async fn room(&self) -> Result<Room<'_>, Failure> {
        self.wakes.reserve().await.map(Room).map_err(|_| not_leader())
    }

    /// A worker's session is over.
    pub async fn leave(&self, session: SessionId) -> Result<(), Failure> {
        self.send(Wake::Leave(session)).await
    }

    /// A number that grows whenever any migration changes: wait on it, then look.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }
}

/// What is told while nobody leads here. Nothing was done.
pub(crate) fn not_leader() -> Failure {
    Failure::new(
        ErrorCode::CoordinatorNotLeader,
        "this coordinator does not lead now",
        "ask again, or ask the leader; if it lasts, look into the coordinators' logs",
    )
}

fn another_question() -> Failure {
    Failure::new(
        ErrorCode::Internal,
        "a worker answered another question than it was asked",
        "use a coordinator and workers of the same release",
    )
}

//! One trait, two databases. Everything that speaks to a shard is below here, and nothing else is.
//!
//! What a backend must promise stands at each method; `conformance` (tests) holds both to it.

mod anew;
mod assertion;
mod error;
mod findings;
mod health;
pub mod mongodb;
mod observed;
pub mod postgres;
mod references;
mod rehearsal;
mod repair;
mod replicas;
#[cfg(test)]
pub(crate) mod testing;
mod unique;

use std::sync::Arc;

use async_trait::async_trait;
use shardlift_domain::backup::Restored;
use shardlift_domain::facts::{
    ConflictsPage, ConflictsRequest, FactsRequest, PlacementPage, PlacementRequest, Purged, ShardFacts,
    ShardHello,
};
use shardlift_domain::fence::Fence;
use shardlift_domain::mismatch::{MismatchesPage, MismatchesRequest};
use shardlift_domain::prepared::PreparedTransaction;
use shardlift_domain::quarantine::{Held, QuarantineAnswer, QuarantineRequest};
use shardlift_domain::range::{Pass, RangeState, Rest};
use shardlift_domain::rehearsal::{RehearsalRequest, ShardRehearsal};
use shardlift_domain::repair::{RepairPage, RepairRequest};
use shardlift_domain::spec::{DataSpec, SchemaSpec, Spec};
use shardlift_domain::unique::{UniqueAnswer, UniqueRequest};
use shardlift_domain::verdict::{Finding, Sweep, Undone, VerifyReport};
use shardlift_domain::{ErrorCode, Failure, MigrationKey};

pub use error::EngineError;
pub use health::{Disk, Health};
pub use observed::Observed;
pub use replicas::Lag;

use crate::backup::format::RowsDigest;
use crate::backup::{Saving, Subject, Target};
use crate::lease::TaskLease;
use crate::transformer::Transformer;

/// Result of a call to a shard.
pub type EngineResult<T> = Result<T, EngineError>;

/// A data migration as an engine needs it.
pub struct DataJob {
    /// The whole spec (id, checksum).
    pub spec: Spec,
    /// Its data part.
    pub data: DataSpec,
    /// For transforms that run in the worker; `None`: the transform runs in the shard.
    pub transformer: Option<Arc<dyn Transformer>>,
}

/// A schema migration as an engine needs it.
pub struct SchemaJob {
    /// The whole spec (id, checksum).
    pub spec: Spec,
    /// Its schema part.
    pub schema: SchemaSpec,
}

/// Which way a schema change goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Up,
    Down,
}

impl Direction {
    /// The word in the ledger.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Direction::Up => "up",
            Direction::Down => "down",
        }
    }
}

/// Either job.
#[allow(clippy::large_enum_variant, reason = "one for each task, never kept in numbers")]
pub enum Job {
    /// Changes the shape.
    Schema(SchemaJob),
    /// Changes the rows.
    Data(DataJob),
}

impl Job {
    /// The whole spec.
    pub fn spec(&self) -> &Spec {
        match self {
            Job::Schema(job) => &job.spec,
            Job::Data(job) => &job.spec,
        }
    }
}

/// One batch that was committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchReport {
    /// The range as its checkpoint now says, after this batch.
    pub range: RangeState,
    /// Rows of the window, changed or not. 0: the range was already at its end.
    pub window: u32,
    /// Rows changed by this batch.
    pub changed: u32,
}

/// A row that was set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    /// The batch that it was.
    pub report: BatchReport,
    /// How many rows of the migration the shard holds now.
    pub held: Held,
}

/// The refusal of one row more than the budget.
pub(crate) fn over_budget(held: u64, budget: u32) -> EngineError {
    EngineError::Failed(Failure::new(
        ErrorCode::QuarantineOverBudget,
        format!(
            "{held} rows are set aside on this shard, the budget is {budget}, and another one cannot be changed"
        ),
        "look at them with `shardlift quarantine list`; mend and retry them, or discard them; then resume",
    ))
}

/// The refusal of `up` on a shard that was taken back: the store that orders it does not know.
pub(crate) fn taken_back(migration: &MigrationKey) -> EngineError {
    EngineError::Failed(Failure::new(
        ErrorCode::LedgerConflict,
        format!("{migration} was taken back on this shard, which this store does not know"),
        "the store was restored from an old copy: cancel it, and submit the change under a new id",
    ))
}

/// The refusal of a decision about rows that are not there.
pub(crate) fn not_in_quarantine(keys: &[String]) -> EngineError {
    let shown: Vec<&str> = keys.iter().take(5).map(String::as_str).collect();
    EngineError::Failed(Failure::new(
        ErrorCode::RequestNotFound,
        format!("no row with this key waits in quarantine: {}; nothing was changed", shown.join(", ")),
        "write keys as `shardlift quarantine list` shows them",
    ))
}

/// One shard.
#[async_trait]
pub trait ShardEngine: Send + Sync + 'static {
    /// Looks whether the shard answers, and which leader it has seen. Changes nothing. Trouble is told inside.
    async fn hello(&self) -> ShardHello;

    /// How the shard is, as far as its server and the privileges say. Changes nothing; asked every few seconds.
    async fn health(&self) -> EngineResult<Health>;

    /// Makes sure that this database is the shard it is said to be: creates Shardlift's own tables where they are
    /// missing, writes the identity (cluster uuid, shard id) on first sight and compares it ever after.
    /// Refuses with [`EngineError::Failed`] code `shard.wrong-identity`.
    async fn identify(&self, cluster_uuid: &str) -> EngineResult<()>;

    /// Reads facts; changes nothing.
    async fn inspect(&self, request: &FactsRequest) -> EngineResult<ShardFacts>;

    /// One page of a walk by key that looks for rows whose routing key lives on another shard. Reads only, in bounded
    /// time and memory; tells nothing of rows that lie where they belong.
    async fn placement(&self, request: &PlacementRequest) -> EngineResult<PlacementPage>;

    /// Tells what is in the way of the migration on this shard, before it is submitted: as [`ShardEngine::precheck`], but
    /// without a lease, and warnings and notes as well. Reads only.
    async fn check(&self, migration: &MigrationKey, job: &Job) -> EngineResult<Vec<Finding>>;

    /// Looks whether the shard can take the change: fence, server kind, relation, key, columns, privileges, the
    /// transform against the real columns, the ledger. All findings of the shard in one message.
    async fn precheck(&self, lease: &TaskLease, job: &Job) -> EngineResult<()>;

    /// Applies `up`, with its ledger entry in the same transaction where the engine allows; otherwise intent, run,
    /// inspect, done. Checks the shard's fence first. Answers `true` if the ledger had it already.
    async fn apply(&self, lease: &TaskLease, job: &SchemaJob) -> EngineResult<bool>;

    /// Applies `up` with its ledger entry in one transaction and prepares it under a name that says whose it is. What an
    /// earlier hand-out has prepared is rolled back first, and none can prepare any more; nothing else is touched. Locks
    /// and checks the shard's fence. Only PostgreSQL can.
    async fn prepare(&self, _lease: &TaskLease, job: &SchemaJob) -> EngineResult<()> {
        Err(one_phase(job))
    }

    /// Commits what was prepared, as it was decided. Called again it does nothing; if what was prepared is gone, it
    /// applies the change. A leader that is not the newest is refused, and what a later hand-out has prepared is not touched.
    async fn commit(&self, _lease: &TaskLease, job: &SchemaJob) -> EngineResult<()> {
        Err(one_phase(job))
    }

    /// Rolls back whatever earlier hand-outs have prepared; none can prepare any more.
    async fn abort(&self, _lease: &TaskLease, job: &SchemaJob) -> EngineResult<()> {
        Err(one_phase(job))
    }

    /// What is prepared in the shard; reads only. `all`: that of others as well.
    async fn prepared(&self, _all: bool) -> EngineResult<Vec<PreparedTransaction>> {
        Ok(Vec::new())
    }

    /// Lays out the first pass in one transaction, or reads the newest pass that is there: calling it again never
    /// lays out anything twice. `ranges`: how many to aim for. Checks and raises the shard's fence.
    async fn split(&self, lease: &TaskLease, job: &DataJob, ranges: u32) -> EngineResult<Pass>;

    /// Claims one range: raises its token (refused if it holds a larger one), ends the former owner's backend, and
    /// returns its writer, on a connection of its own. The holder of a lease may claim again with the same token
    /// (after a lost connection): the former claim is then dead, even if a batch of it is still under way.
    async fn open_range(&self, lease: &TaskLease, job: Arc<DataJob>) -> EngineResult<Box<dyn RangeWriter>>;

    /// Called when every range of the pass is done, for specs with `where`: waits until every transaction older than
    /// the pass's end has finished, searches the whole scope, and lays out another pass (in one transaction) if
    /// something is pending. Halts with `sweep.not-converging` after every [`MAX_PASSES`] passes; the next one is laid
    /// out then, too, so that a person who resumes goes on with it.
    async fn sweep(&self, lease: &TaskLease, job: &DataJob) -> EngineResult<Sweep>;

    /// Gives the whole table or collection as it is now to whoever saves it, in whole rows and in bounded memory; a table in
    /// one snapshot. Changes nothing. Begun anew, it begins at the first row.
    async fn save(&self, lease: &TaskLease, job: &DataJob, into: &mut dyn Saving) -> EngineResult<()>;

    /// Restores these rows, and reads them back, in a transaction that is rolled back: nothing stays, whatever happens.
    /// Answers the digest of what was read.
    async fn try_out(&self, subject: &Subject, rows: &[u8]) -> EngineResult<RowsDigest>;

    /// Restores one part of a backup, in one transaction with the note of how far the restore is, so that every part is there
    /// once; answers how far it is, also when it was another part's turn. Makes what it goes to, and writes over nothing.
    async fn restore(&self, subject: &Subject, target: &Target, rows: &[u8]) -> EngineResult<Restored>;

    /// Checks the result by a scan and comparison of its own. Rows that are set aside are not pending.
    async fn verify(&self, lease: &TaskLease, job: &Job) -> EngineResult<VerifyReport>;

    /// Answers a question about rows that were set aside, or carries out a decision about them: that in one transaction,
    /// under the shard's fence, for all the rows or none. Changes no row of the application.
    async fn quarantine(&self, leader: &Fence, request: &QuarantineRequest)
    -> EngineResult<QuarantineAnswer>;

    /// Claims the undoing of a data migration, as [`ShardEngine::open_range`] claims a range, and seals its checkpoints:
    /// whoever still walks a range under an older right cannot commit any more.
    async fn open_undo(&self, lease: &TaskLease, job: Arc<DataJob>) -> EngineResult<Box<dyn UndoWriter>>;

    /// Runs `down`, as [`ShardEngine::apply`] runs `up`. A shard that never had `up` is only marked, so that it cannot get
    /// it late. Halts with `undo.drops-data` where values would go that were written since, unless `drop_data`; with
    /// `undo.half-applied` where only a part of `up` is there; then `drop_data` marks the shard as undone.
    async fn undo_schema(&self, lease: &TaskLease, job: &SchemaJob, drop_data: bool) -> EngineResult<()>;

    /// One page of what undoing has left alone: keys and reasons, in the order in which they were met.
    async fn conflicts(&self, request: &ConflictsRequest) -> EngineResult<ConflictsPage>;

    /// One page of a walk over the before-images of a data migration: the transform of each row is evaluated anew on what
    /// was kept, by a path of its own, and compared with what is there. Reads only, in bounded time and memory, each few
    /// rows in a snapshot of their own. A row that somebody has changed since is never told as a mismatch.
    async fn mismatches(&self, request: &MismatchesRequest, job: &DataJob) -> EngineResult<MismatchesPage>;

    /// One page of the rows that the last verification has recorded as different: what its transform gives, evaluated anew, is
    /// written into each that may be repaired, in a transaction of its own under the shard's fence. The row is compared again
    /// under its lock with what was recorded of it; one that anybody has changed since is left alone, with the reason. The undo
    /// log is told what stands there now, in the same transaction, so that a rollback still restores what was there at first.
    /// Doing it again repairs nothing twice. A dry run tells the same and changes nothing.
    async fn repair(
        &self,
        leader: &Fence,
        request: &RepairRequest,
        job: &DataJob,
    ) -> EngineResult<RepairPage>;

    /// Removes some of the before-images of a migration, a bounded number, if the shard's fence admits the leader. Asked again
    /// until there is nothing more; doing it once too often removes nothing.
    async fn purge(&self, leader: &Fence, migration: &MigrationKey) -> EngineResult<Purged>;

    /// Claims the digests of a data migration by the larger token, and goes on where an earlier hand-out was; begins anew where that
    /// one had come to its end.
    async fn open_collection(&self, lease: &TaskLease, job: Arc<DataJob>)
    -> EngineResult<Box<dyn Collector>>;

    /// Answers a question about the digests that were collected, in bounded time and memory, or removes some of them, under the
    /// shard's fence. Digests that are not complete are refused with code `verify.incomparable`. No value of a row is told.
    async fn unique(
        &self,
        leader: &Fence,
        request: &UniqueRequest,
        job: &DataJob,
    ) -> EngineResult<UniqueAnswer>;

    /// Runs the change of a batch on a sample that is spread over the keys, in short transactions that are rolled back:
    /// nothing of it stays, and nobody waits for its locks longer than for those of a small batch. Rows that cannot be
    /// changed are told by class and key, not as an error. The only values that it tells are those of the few rows that
    /// the request wants to be shown.
    async fn rehearse(&self, request: &RehearsalRequest, job: &DataJob) -> EngineResult<ShardRehearsal>;
}

/// How far a walk that collects digests is after a batch of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CollectReport {
    /// Digests so far, over all hand-outs.
    pub digests: u64,
    /// Rows that this batch has walked over; 0: it has removed digests that nobody needs any more.
    pub rows: u32,
    /// Nothing is left.
    pub last: bool,
}

/// The walk that collects the digests of one migration on one shard.
#[async_trait]
pub trait Collector: Send {
    /// The digests of the next window of at most `rows` keys, in one transaction with how far the walk is, on the condition of
    /// the claim. Errors are those of [`RangeWriter::run_batch`].
    async fn run_batch(&mut self, lease: &TaskLease, rows: u32) -> EngineResult<CollectReport>;
}

/// How far an undoing is after a batch of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UndoReport {
    /// Over all batches.
    pub undone: Undone,
    /// Rows of the log that this batch looked at.
    pub rows: u32,
    /// Nothing is left.
    pub last: bool,
}

/// The undoing of one data migration on one shard.
#[async_trait]
pub trait UndoWriter: Send {
    /// How far it was when it was claimed, or after the last batch.
    fn done(&self) -> Undone;

    /// Undoes the newest batch that is not undone, in one transaction on the condition of the claim: rows that still are
    /// what was written (compared under their lock) get their old values, the others are kept as conflicts with the reason,
    /// the before-images go, the count advances. What the database refuses is narrowed down to the row, which is a
    /// conflict too. Errors are those of [`RangeWriter::run_batch`], but for rows.
    async fn run_batch(&mut self, lease: &TaskLease) -> EngineResult<UndoReport>;
}

fn one_phase(job: &SchemaJob) -> EngineError {
    EngineError::Failed(Failure::new(
        ErrorCode::SpecUnsupported,
        format!("{} is atomic, but this shard's engine cannot prepare a change", job.spec.id),
        "leave `atomic` out: what was changed is taken back by `down`",
    ))
}

/// The form of checkpoints that this release writes, and the newest that it can read.
pub const CHECKPOINT_FORM: i64 = 1;

/// Refuses a checkpoint of a newer form: what stands in it would be misread.
pub(crate) fn known_form(form: i64) -> EngineResult<()> {
    if form <= CHECKPOINT_FORM {
        return Ok(());
    }
    Err(EngineError::Failed(Failure::new(
        ErrorCode::WorkerOutdated,
        format!(
            "the checkpoint has form {form}, written by a newer release; this worker knows forms up to {CHECKPOINT_FORM}"
        ),
        "upgrade this worker; newer workers of the shard go on meanwhile",
    )))
}

/// Rows that one page of a look at the placement walks over at most.
pub const PLACEMENT_PAGE: u32 = 20_000;

/// Passes after which a sweep that still finds rows halts.
pub const MAX_PASSES: u32 = 10;

/// The writer of one range.
#[async_trait]
pub trait RangeWriter: Send {
    /// How far the range was when it was claimed, or after the last batch.
    fn state(&self) -> &RangeState;

    /// One batch in one transaction: the next window of at most `rows` keys after the last key; its rows changed
    /// where they are pending; each changed row checked (no longer pending); the checkpoint advanced on the condition
    /// of token, claim and last key. Nothing of it stays unless all of it does.
    ///
    /// - [`EngineError::LeaseLost`]: the condition did not hold; somebody else has the range.
    /// - [`EngineError::Row`]: a row of the window cannot be changed; nothing was changed. With `rows == 1` the error
    ///   names the key. The caller narrows the window until it does.
    /// - [`EngineError::Contended`] / [`EngineError::TooSlow`]: rolled back; try again, with a smaller window.
    /// - [`EngineError::Connection`]: the outcome is unknown; claim again ([`ShardEngine::open_range`]), which reads
    ///   the truth in a way that conflicts with the lost transaction.
    async fn run_batch(&mut self, lease: &TaskLease, rows: u32) -> EngineResult<BatchReport>;

    /// Sets the next row aside, after a batch of one row was refused: one transaction writes the row as it is now, with
    /// its key and why, and advances the checkpoint past it, on the condition of a batch and under the shard's fence.
    /// Later passes leave the row alone until somebody has it tried again.
    ///
    /// `None`, and nothing is changed: the row that `why` names is not pending any more, or another one came before it.
    /// `budget`: most rows that this shard may hold; with so many it is refused with [`EngineError::Failed`] code
    /// `quarantine.over-budget`. Other errors are those of [`RangeWriter::run_batch`].
    async fn set_aside(
        &mut self,
        lease: &TaskLease,
        why: &Failure,
        budget: u32,
    ) -> EngineResult<Option<SetAside>>;

    /// Splits off the later part of what is left of the range, so that somebody else can walk it: one transaction
    /// shortens this checkpoint and inserts the new one, on the condition of a batch (token, claim and last key) and
    /// under the shard's fence, so that a leader that has read the ranges misses none. At least `least` rows stay;
    /// `None`, and nothing is changed, if there are not about twice as many. Looks at keys only, and at a bounded number
    /// of them, however much is left.
    ///
    /// Errors are those of [`RangeWriter::run_batch`]; after [`EngineError::Connection`] the outcome is unknown, and
    /// the next claim reads where the range ends.
    async fn share(&mut self, lease: &TaskLease, least: u32) -> EngineResult<Option<Rest>>;

    /// How far the replica that is furthest behind is behind; `None`: the shard has no replica that counts. Asked between two
    /// batches, about once a second. Standbys and members that are connected and follow count; hidden ones, arbiters,
    /// those that are down, and receivers that replay nothing do not.
    async fn replica_lag(&mut self) -> EngineResult<Option<Lag>>;
}

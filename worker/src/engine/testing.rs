//! A shard in memory for tests of what stands above the engines: it counts how often each row was changed, and fails
//! as it is told.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use shardlift_domain::backup::Restored;
use shardlift_domain::facts::{
    ConflictsPage, ConflictsRequest, FactsRequest, PlacementPage, PlacementRequest, Purged, ShardFacts,
    ShardHello,
};
use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::fence::{Attempt, Epoch, Fence, Nonce, Token};
use shardlift_domain::ids::{MigrationId, MigrationKey, ShardId, TaskId, Version};
use shardlift_domain::migration::Step;
use shardlift_domain::mismatch::{MismatchesPage, MismatchesRequest};
use shardlift_domain::quarantine::{Held, QuarantineAnswer, QuarantineRequest};
use shardlift_domain::range::{Pass, RangeState, RangeTotals, Rest};
use shardlift_domain::rehearsal::{RehearsalRequest, ShardRehearsal};
use shardlift_domain::repair::{RepairPage, RepairRequest};
use shardlift_domain::spec::{Engine, SpecFile};
use shardlift_domain::unique::{UniqueAnswer, UniqueRequest};
use shardlift_domain::verdict::{CheckResult, Finding, Sweep, Undone, VerifyReport};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

use super::{
    BatchReport, CollectReport, Collector, DataJob, EngineError, EngineResult, Health, Job, Lag, RangeWriter,
    SchemaJob, SetAside, ShardEngine, UndoReport, UndoWriter, over_budget,
};
use crate::backup::format::RowsDigest;
use crate::backup::{Beside, Consistency, Format, Saving, Subject, Target};
use crate::lease::{Pulse, TaskLease};

/// The one shard of these tests.
pub(crate) const SHARD: &str = "s1";

/// A call that the shard is about to serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    /// The range is claimed; the number of the claim, from 1.
    Claim(u32),
    /// A batch: its number from 1, and how many rows it asks for.
    Batch { number: u32, rows: u32 },
    /// The range is to be split.
    Share,
}

/// What goes wrong with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The connection breaks; the batch may have been committed before.
    Connection { committed: bool },
    /// Nothing answers, and after a while the attempt is given up.
    Silence,
    /// Rolled back: contention.
    Contended,
    /// Rolled back: too slow.
    TooSlow,
    /// Somebody else has the range.
    LeaseLost,
    /// The engine has a defect.
    Panic,
}

type Script = Box<dyn FnMut(Call) -> Option<Fault> + Send>;

/// One batch as it was asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    /// When.
    pub(crate) at: Instant,
    /// How many rows.
    pub(crate) rows: u32,
    /// Whether it was committed and heard of.
    pub(crate) done: bool,
}

/// What the shard holds.
#[derive(Default)]
pub(crate) struct Table {
    /// Whether it is now another shard's database.
    pub(crate) foreign: bool,
    /// How often each row was changed.
    pub(crate) changed: Vec<u32>,
    /// Rows that cannot be changed.
    pub(crate) bad: BTreeSet<usize>,
    /// Those of them that were set aside, in order.
    pub(crate) set_aside: Vec<usize>,
    /// All batches.
    pub(crate) asked: Vec<Asked>,
    /// How often the range was claimed.
    pub(crate) claims: u32,
    /// How many rows each part was to have, each time the range was asked to share.
    pub(crate) shared: Vec<u32>,
    /// How it is.
    pub(crate) health: Health,
    /// How far the replica is behind at each look; after the last of them it has everything.
    pub(crate) behind: VecDeque<Duration>,
    /// How often each step was begun.
    pub(crate) begun: BTreeMap<&'static str, u32>,
    next: usize,
    batches: u64,
    token: Option<Token>,
}

impl Table {
    fn held(&self) -> Held {
        Held { rows: self.set_aside.len() as u64, discarded: 0 }
    }

    fn state(&self) -> RangeState {
        RangeState {
            index: 0,
            rows: self.next as u64,
            seen: self.next as u64,
            batches: self.batches,
            done: self.next == self.changed.len(),
        }
    }
}

/// A shard in memory. Clones are handles to the same one.
#[derive(Clone)]
pub(crate) struct Memory {
    table: Arc<Mutex<Table>>,
    script: Arc<Mutex<Script>>,
    /// Taken by each step but backfill, and by each batch: none left, and they wait.
    pub(crate) gate: Arc<Semaphore>,
    per_row: Duration,
}

impl Memory {
    /// A table of so many pending rows; a batch takes `per_row` for each.
    pub(crate) fn new(rows: usize, per_row: Duration) -> Self {
        let table = Table { changed: vec![0; rows], ..Table::default() };
        Self {
            table: Arc::new(Mutex::new(table)),
            script: Arc::new(Mutex::new(Box::new(|_| None))),
            gate: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS / 2)),
            per_row,
        }
    }

    /// Asked before each call: what goes wrong with it?
    pub(crate) fn fails(self, script: impl FnMut(Call) -> Option<Fault> + Send + 'static) -> Self {
        *self.script.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(script);
        self
    }

    /// This row cannot be changed.
    pub(crate) fn with_bad_row(self, row: usize) -> Self {
        self.table().bad.insert(row);
        self
    }

    /// Nothing goes on until permits are added to the gate.
    pub(crate) fn closed(self) -> Self {
        self.gate.forget_permits(usize::MAX);
        self
    }

    pub(crate) fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fails unless every row was changed exactly once.
    pub(crate) fn assert_exactly_once(&self) {
        let table = self.table();
        let wrong: Vec<_> =
            table.changed.iter().enumerate().filter(|(_, times)| **times != 1).take(5).collect();
        assert!(wrong.is_empty(), "rows not changed exactly once: {wrong:?}");
    }

    fn fault(&self, call: Call) -> Option<Fault> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)(call)
    }

    async fn pass_gate(&self, step: &'static str) {
        *self.table().begun.entry(step).or_default() += 1;
        self.gate.acquire().await.expect("the gate is never closed for good").forget();
    }
}

fn failure(code: ErrorCode) -> Failure {
    Failure::new(code, "as the test wanted", "nothing")
}

/// Rows that a backup finds.
pub(crate) const ROWS_SAVED: i64 = 1000;

fn error(fault: Fault) -> EngineError {
    match fault {
        Fault::Connection { .. } | Fault::Silence => {
            EngineError::Connection(failure(ErrorCode::ShardUnreachable))
        }
        Fault::Contended => EngineError::Contended(failure(ErrorCode::RowContended)),
        Fault::TooSlow => EngineError::TooSlow(failure(ErrorCode::ShardOutOfResources)),
        Fault::LeaseLost => EngineError::LeaseLost,
        Fault::Panic => panic!("as the test wanted"),
    }
}

#[async_trait]
impl ShardEngine for Memory {
    async fn hello(&self) -> ShardHello {
        ShardHello {
            shard: ShardId::new(SHARD).expect("a name"),
            cluster: "c".parse().expect("a name"),
            engine: Engine::Postgres,
            fence: None,
            server_version: Some("15".into()),
            problem: None,
            alarm: None,
        }
    }

    async fn health(&self) -> EngineResult<Health> {
        Ok(self.table().health.clone())
    }

    async fn identify(&self, _cluster_uuid: &str) -> EngineResult<()> {
        if self.table().foreign {
            let failure =
                Failure::new(ErrorCode::ShardWrongIdentity, "it is another shard", "correct the dsn");
            return Err(EngineError::Failed(failure));
        }
        Ok(())
    }

    async fn inspect(&self, _request: &FactsRequest) -> EngineResult<ShardFacts> {
        Ok(ShardFacts {
            shard: ShardId::new(SHARD).expect("a name"),
            engine: Engine::Postgres,
            server_version: "15".into(),
            relations: Vec::new(),
            applied: Vec::new(),
            schema: None,
            findings: Vec::new(),
        })
    }

    async fn placement(&self, _request: &PlacementRequest) -> EngineResult<PlacementPage> {
        Ok(PlacementPage::default())
    }

    async fn check(&self, _migration: &MigrationKey, _job: &Job) -> EngineResult<Vec<Finding>> {
        Ok(Vec::new())
    }

    async fn precheck(&self, _lease: &TaskLease, _job: &Job) -> EngineResult<()> {
        self.pass_gate("precheck").await;
        Ok(())
    }

    async fn apply(&self, _lease: &TaskLease, _job: &SchemaJob) -> EngineResult<bool> {
        self.pass_gate("apply").await;
        Ok(false)
    }

    async fn split(&self, _lease: &TaskLease, _job: &DataJob, _ranges: u32) -> EngineResult<Pass> {
        self.pass_gate("split").await;
        Ok(Pass { number: 1, ranges: vec![self.table().state()], before: RangeTotals::default() })
    }

    async fn open_range(&self, lease: &TaskLease, _job: Arc<DataJob>) -> EngineResult<Box<dyn RangeWriter>> {
        let claims = {
            let mut table = self.table();
            table.claims += 1;
            table.claims
        };
        if let Some(fault) = self.fault(Call::Claim(claims)) {
            if fault == Fault::Silence {
                tokio::time::sleep(Duration::from_secs(8)).await;
            }
            return Err(error(fault));
        }
        let mut table = self.table();
        if table.token.is_some_and(|held| held > lease.token()) {
            return Err(EngineError::LeaseLost);
        }
        table.token = Some(lease.token());
        Ok(Box::new(Writer { memory: self.clone(), claim: claims, state: table.state(), broken: false }))
    }

    async fn sweep(&self, _lease: &TaskLease, _job: &DataJob) -> EngineResult<Sweep> {
        self.pass_gate("sweep").await;
        Ok(Sweep::Clean)
    }

    async fn save(&self, _lease: &TaskLease, _job: &DataJob, into: &mut dyn Saving) -> EngineResult<()> {
        self.pass_gate("save").await;
        let subject = Subject {
            relation: "items".into(),
            name: "items".into(),
            format: Format::Bson,
            stem: "items.bson".into(),
            columns: Vec::new(),
            create: Vec::new(),
            consistency: Consistency::Majority,
        };
        into.begin(subject, vec![Beside { name: "items.metadata.json".into(), content: b"{}".to_vec() }])
            .await?;
        for number in 0..ROWS_SAVED {
            let row = bson::serialize_to_vec(&bson::doc! { "_id": number }).expect("a document");
            into.rows(&row, 1).await?;
        }
        Ok(())
    }

    async fn try_out(&self, subject: &Subject, rows: &[u8]) -> EngineResult<RowsDigest> {
        Ok(RowsDigest::of(subject.format.split(rows).expect("documents")))
    }

    async fn restore(&self, subject: &Subject, target: &Target, _rows: &[u8]) -> EngineResult<Restored> {
        let into = format!("{}.{}", target.place(), subject.name);
        Ok(Restored { into, done: target.part + 1, parts: target.parts, rows: 0 })
    }

    async fn verify(&self, _lease: &TaskLease, _job: &Job) -> EngineResult<VerifyReport> {
        self.pass_gate("verify").await;
        Ok(VerifyReport {
            checks: vec![CheckResult { check: "remaining".into(), passed: true, detail: "0".into() }],
            held: None,
        })
    }

    async fn quarantine(
        &self,
        _leader: &Fence,
        _request: &QuarantineRequest,
    ) -> EngineResult<QuarantineAnswer> {
        let held = self.table().held();
        Ok(QuarantineAnswer::Decided { rows: 0, held })
    }

    async fn open_undo(&self, lease: &TaskLease, _job: Arc<DataJob>) -> EngineResult<Box<dyn UndoWriter>> {
        self.pass_gate("undo").await;
        lease.check()?;
        Ok(Box::new(Undoing { memory: self.clone(), done: Undone::default() }))
    }

    async fn undo_schema(&self, _lease: &TaskLease, _job: &SchemaJob, _drop: bool) -> EngineResult<()> {
        self.pass_gate("undo").await;
        Ok(())
    }

    async fn conflicts(&self, _request: &ConflictsRequest) -> EngineResult<ConflictsPage> {
        Ok(ConflictsPage::default())
    }

    async fn mismatches(&self, _request: &MismatchesRequest, _job: &DataJob) -> EngineResult<MismatchesPage> {
        Ok(MismatchesPage::default())
    }

    async fn repair(
        &self,
        _leader: &Fence,
        _request: &RepairRequest,
        _job: &DataJob,
    ) -> EngineResult<RepairPage> {
        Ok(RepairPage::default())
    }

    async fn purge(&self, _leader: &Fence, _migration: &MigrationKey) -> EngineResult<Purged> {
        Ok(Purged::default())
    }

    async fn open_collection(
        &self,
        _lease: &TaskLease,
        _job: Arc<DataJob>,
    ) -> EngineResult<Box<dyn Collector>> {
        Ok(Box::new(Collecting { memory: self.clone(), digests: 0 }))
    }

    async fn unique(
        &self,
        _leader: &Fence,
        _request: &UniqueRequest,
        _job: &DataJob,
    ) -> EngineResult<UniqueAnswer> {
        Ok(UniqueAnswer::Cleared(false))
    }

    async fn rehearse(&self, _request: &RehearsalRequest, _job: &DataJob) -> EngineResult<ShardRehearsal> {
        Ok(ShardRehearsal::default())
    }
}

/// Makes a digest of each row of its table.
struct Collecting {
    memory: Memory,
    digests: u64,
}

#[async_trait]
impl Collector for Collecting {
    async fn run_batch(&mut self, lease: &TaskLease, rows: u32) -> EngineResult<CollectReport> {
        self.memory.pass_gate("collect").await;
        lease.check()?;
        assert!(rows <= 5_000, "a window is one transaction");
        let left = self.memory.table().changed.len() as u64 - self.digests;
        let now = left.min(rows.into());
        self.digests += now;
        let rows = u32::try_from(now).expect("no more than asked for");
        Ok(CollectReport { digests: self.digests, rows, last: now == left })
    }
}

/// Undoes one row in each batch, from the last one that was changed.
struct Undoing {
    memory: Memory,
    done: Undone,
}

#[async_trait]
impl UndoWriter for Undoing {
    fn done(&self) -> Undone {
        self.done
    }

    async fn run_batch(&mut self, lease: &TaskLease) -> EngineResult<UndoReport> {
        lease.check()?;
        let mut table = self.memory.table();
        let Some(row) = table.changed.iter().rposition(|changed| *changed > 0) else {
            return Ok(UndoReport { undone: self.done, rows: 0, last: true });
        };
        table.changed[row] -= 1;
        self.done.restored += 1;
        Ok(UndoReport { undone: self.done, rows: 1, last: false })
    }
}

struct Writer {
    memory: Memory,
    claim: u32,
    state: RangeState,
    broken: bool,
}

#[async_trait]
impl RangeWriter for Writer {
    fn state(&self) -> &RangeState {
        &self.state
    }

    async fn run_batch(&mut self, _lease: &TaskLease, rows: u32) -> EngineResult<BatchReport> {
        assert!(!self.broken, "a batch on a connection that is broken: the range must be claimed again");
        assert!(rows > 0, "a batch of nothing");
        let number = {
            let mut table = self.memory.table();
            table.asked.push(Asked { at: Instant::now(), rows, done: false });
            table.asked.len()
        };
        self.memory.pass_gate("batch").await;
        sleep(self.memory.per_row * rows).await;
        let call = Call::Batch { number: u32::try_from(number).expect("few batches"), rows };
        let fault = self.memory.fault(call);
        self.broken = matches!(fault, Some(Fault::Connection { .. }));
        if let Some(fault) = fault.filter(|fault| *fault != Fault::Connection { committed: true }) {
            return Err(error(fault));
        }
        let mut table = self.memory.table();
        if table.claims != self.claim {
            return Err(EngineError::LeaseLost);
        }
        let window = table.next..(table.next + rows as usize).min(table.changed.len());
        if let Some(bad) = table.bad.range(window.clone()).next() {
            let named = failure(ErrorCode::RowRejected);
            return Err(EngineError::Row(if rows == 1 { named.at_key(bad.to_string()) } else { named }));
        }
        table.changed[window.clone()].iter_mut().for_each(|times| *times += 1);
        table.next = window.end;
        table.batches += 1;
        if let Some(fault) = fault {
            return Err(error(fault));
        }
        table.asked[number - 1].done = true;
        self.state = table.state();
        let window = u32::try_from(window.len()).expect("a batch");
        Ok(BatchReport { range: self.state.clone(), window, changed: window })
    }

    async fn set_aside(
        &mut self,
        _lease: &TaskLease,
        _why: &Failure,
        budget: u32,
    ) -> EngineResult<Option<SetAside>> {
        let mut table = self.memory.table();
        let row = table.next;
        if !table.bad.contains(&row) {
            return Ok(None);
        }
        if table.set_aside.len() >= budget as usize {
            return Err(over_budget(table.held().rows, budget));
        }
        table.set_aside.push(row);
        table.next += 1;
        table.batches += 1;
        self.state = table.state();
        let report = BatchReport { range: self.state.clone(), window: 1, changed: 0 };
        Ok(Some(SetAside { report, held: table.held() }))
    }

    async fn share(&mut self, _lease: &TaskLease, least: u32) -> EngineResult<Option<Rest>> {
        assert!(!self.broken, "a split on a connection that is broken: the range must be claimed again");
        let fault = self.memory.fault(Call::Share);
        self.broken = matches!(fault, Some(Fault::Connection { .. }));
        let mut table = self.memory.table();
        table.shared.push(least);
        let left = table.changed.len() - table.next;
        let cut = table.next + left / 2;
        let rest = RangeState { index: 1, rows: 0, seen: 0, batches: 0, done: false };
        if left < 2 * least as usize
            || fault.is_some_and(|fault| fault != Fault::Connection { committed: true })
        {
            return fault.map_or(Ok(None), |fault| Err(error(fault)));
        }
        // The rest is somebody else's: it is of no more interest here.
        table.changed.truncate(cut);
        self.state = table.state();
        fault.map_or(Ok(Some(Rest { pass: 1, range: rest })), |fault| Err(error(fault)))
    }

    async fn replica_lag(&mut self) -> EngineResult<Option<Lag>> {
        let behind = self.memory.table().behind.pop_front().unwrap_or_default();
        Ok(Some(Lag { replica: "r1".into(), behind }))
    }
}

/// A data spec with these further lines.
pub(crate) fn file(more: &str) -> SpecFile {
    let text = format!(
        "id: m\nkind: data\nengine: postgres\ncluster: c\nsource: {{ table: t, where: not done }}\n\
         transform: {{ sql: {{ done: \"true\" }} }}\n{more}"
    );
    SpecFile { name: "m.yaml".into(), text }
}

/// The name of a task of the shard.
pub(crate) fn task(step: Step) -> TaskId {
    TaskId {
        migration: MigrationKey { id: MigrationId::new("m").expect("a name"), version: Version::FIRST },
        shard: ShardId::new(SHARD).expect("a name"),
        step,
        range: (step == Step::Backfill).then_some(0),
    }
}

/// A token of the first epoch.
pub(crate) fn token(attempt: u32) -> Token {
    Token { epoch: Epoch(1), attempt: Attempt(attempt) }
}

/// A session with a leader of the first epoch.
pub(crate) fn pulse(ttl: Duration) -> Arc<Pulse> {
    Pulse::begin(Fence { epoch: Epoch(1), nonce: Nonce("n".into()) }, ttl)
}

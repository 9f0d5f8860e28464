//! An engine as it is watched: spans and metrics around another one. It changes nothing of what that one does.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use shardlift_domain::Failure;
use shardlift_domain::backup::Restored;
use shardlift_domain::facts::{
    ConflictsPage, ConflictsRequest, FactsRequest, PlacementPage, PlacementRequest, Purged, ShardFacts,
    ShardHello,
};
use shardlift_domain::fence::Fence;
use shardlift_domain::ids::MigrationKey;
use shardlift_domain::mismatch::{MismatchesPage, MismatchesRequest};
use shardlift_domain::prepared::PreparedTransaction;
use shardlift_domain::quarantine::{QuarantineAnswer, QuarantineRequest};
use shardlift_domain::range::{Pass, RangeState, Rest};
use shardlift_domain::rehearsal::{RehearsalRequest, ShardRehearsal};
use shardlift_domain::repair::{RepairPage, RepairRequest};
use shardlift_domain::spec::Engine;
use shardlift_domain::unique::{UniqueAnswer, UniqueRequest};
use shardlift_domain::verdict::{Finding, Sweep, VerifyReport};
use tokio::time::Instant;
use tracing::Instrument;
use tracing::field::Empty;

use super::{
    BatchReport, Collector, DataJob, EngineError, EngineResult, Health, Job, Lag, RangeWriter, SchemaJob,
    SetAside, ShardEngine, UndoWriter,
};
use crate::backup::format::RowsDigest;
use crate::backup::{Saving, Subject, Target};
use crate::lease::TaskLease;
use crate::metrics::Metrics;

/// So many batches of a claim have a span whatever their speed.
const SHOWN_FIRST: u32 = 50;
/// After them one at most in this time: a run of days stays a trace that can be stored and read.
const SHOWN_EVERY: Duration = Duration::from_secs(1);

/// An engine with spans and metrics around it.
pub struct Observed {
    inner: Arc<dyn ShardEngine>,
    engine: &'static str,
    metrics: Arc<Metrics>,
}

impl Observed {
    /// Watches this engine.
    pub fn new(inner: Arc<dyn ShardEngine>, engine: Engine, metrics: Arc<Metrics>) -> Self {
        Self { inner, engine: engine.as_str(), metrics }
    }

    fn told<T>(&self, result: EngineResult<T>) -> EngineResult<T> {
        if matches!(result, Err(EngineError::LeaseLost)) {
            self.metrics.lease_losses.get_or_create_owned(&[("engine", self.engine)]).inc();
        }
        result
    }
}

#[async_trait]
impl ShardEngine for Observed {
    async fn hello(&self) -> ShardHello {
        let hello = self.inner.hello().await;
        self.metrics.looked(&hello.shard, hello.problem.is_none());
        hello
    }

    async fn health(&self) -> EngineResult<Health> {
        self.inner.health().await
    }

    async fn identify(&self, cluster_uuid: &str) -> EngineResult<()> {
        self.inner.identify(cluster_uuid).await
    }

    async fn inspect(&self, request: &FactsRequest) -> EngineResult<ShardFacts> {
        self.inner.inspect(request).await
    }

    async fn placement(&self, request: &PlacementRequest) -> EngineResult<PlacementPage> {
        self.inner.placement(request).await
    }

    async fn check(&self, migration: &MigrationKey, job: &Job) -> EngineResult<Vec<Finding>> {
        self.inner.check(migration, job).await
    }

    async fn precheck(&self, lease: &TaskLease, job: &Job) -> EngineResult<()> {
        self.told(self.inner.precheck(lease, job).await)
    }

    async fn apply(&self, lease: &TaskLease, job: &SchemaJob) -> EngineResult<bool> {
        self.told(self.inner.apply(lease, job).await)
    }

    async fn prepare(&self, lease: &TaskLease, job: &SchemaJob) -> EngineResult<()> {
        self.told(self.inner.prepare(lease, job).await)
    }

    async fn commit(&self, lease: &TaskLease, job: &SchemaJob) -> EngineResult<()> {
        self.told(self.inner.commit(lease, job).await)
    }

    async fn abort(&self, lease: &TaskLease, job: &SchemaJob) -> EngineResult<()> {
        self.told(self.inner.abort(lease, job).await)
    }

    async fn prepared(&self, all: bool) -> EngineResult<Vec<PreparedTransaction>> {
        self.inner.prepared(all).await
    }

    async fn split(&self, lease: &TaskLease, job: &DataJob, ranges: u32) -> EngineResult<Pass> {
        self.told(self.inner.split(lease, job, ranges).await)
    }

    async fn open_range(&self, lease: &TaskLease, job: Arc<DataJob>) -> EngineResult<Box<dyn RangeWriter>> {
        let claim = self.inner.open_range(lease, job);
        let inner = self.told(claim.instrument(tracing::info_span!("claim")).await)?;
        let metrics = Arc::clone(&self.metrics);
        Ok(Box::new(ObservedWriter {
            inner,
            engine: self.engine,
            metrics,
            ended: None,
            showing: Showing::default(),
        }))
    }

    async fn sweep(&self, lease: &TaskLease, job: &DataJob) -> EngineResult<Sweep> {
        self.told(self.inner.sweep(lease, job).await)
    }

    async fn save(&self, lease: &TaskLease, job: &DataJob, into: &mut dyn Saving) -> EngineResult<()> {
        self.told(self.inner.save(lease, job, into).await)
    }

    async fn try_out(&self, subject: &Subject, rows: &[u8]) -> EngineResult<RowsDigest> {
        self.inner.try_out(subject, rows).await
    }

    async fn restore(&self, subject: &Subject, target: &Target, rows: &[u8]) -> EngineResult<Restored> {
        self.inner.restore(subject, target, rows).await
    }

    async fn verify(&self, lease: &TaskLease, job: &Job) -> EngineResult<VerifyReport> {
        self.told(self.inner.verify(lease, job).await)
    }

    async fn quarantine(
        &self,
        leader: &Fence,
        request: &QuarantineRequest,
    ) -> EngineResult<QuarantineAnswer> {
        self.inner.quarantine(leader, request).await
    }

    async fn open_undo(&self, lease: &TaskLease, job: Arc<DataJob>) -> EngineResult<Box<dyn UndoWriter>> {
        let claim = self.inner.open_undo(lease, job);
        self.told(claim.instrument(tracing::info_span!("claim")).await)
    }

    async fn undo_schema(&self, lease: &TaskLease, job: &SchemaJob, drop_data: bool) -> EngineResult<()> {
        self.told(self.inner.undo_schema(lease, job, drop_data).await)
    }

    async fn conflicts(&self, request: &ConflictsRequest) -> EngineResult<ConflictsPage> {
        self.inner.conflicts(request).await
    }

    async fn mismatches(&self, request: &MismatchesRequest, job: &DataJob) -> EngineResult<MismatchesPage> {
        self.inner.mismatches(request, job).await
    }

    async fn repair(
        &self,
        leader: &Fence,
        request: &RepairRequest,
        job: &DataJob,
    ) -> EngineResult<RepairPage> {
        self.told(self.inner.repair(leader, request, job).await)
    }

    async fn purge(&self, leader: &Fence, migration: &MigrationKey) -> EngineResult<Purged> {
        self.told(self.inner.purge(leader, migration).await)
    }

    async fn open_collection(
        &self,
        lease: &TaskLease,
        job: Arc<DataJob>,
    ) -> EngineResult<Box<dyn Collector>> {
        let claim = self.inner.open_collection(lease, job);
        self.told(claim.instrument(tracing::info_span!("claim")).await)
    }

    async fn unique(
        &self,
        leader: &Fence,
        request: &UniqueRequest,
        job: &DataJob,
    ) -> EngineResult<UniqueAnswer> {
        self.told(self.inner.unique(leader, request, job).await)
    }

    async fn rehearse(&self, request: &RehearsalRequest, job: &DataJob) -> EngineResult<ShardRehearsal> {
        self.inner.rehearse(request, job).await
    }
}

struct ObservedWriter {
    inner: Box<dyn RangeWriter>,
    engine: &'static str,
    metrics: Arc<Metrics>,
    /// When the last batch ended.
    ended: Option<Instant>,
    showing: Showing,
}

#[async_trait]
impl RangeWriter for ObservedWriter {
    fn state(&self) -> &RangeState {
        self.inner.state()
    }

    async fn run_batch(&mut self, lease: &TaskLease, rows: u32) -> EngineResult<BatchReport> {
        let began = Instant::now();
        if let Some(ended) = self.ended {
            self.metrics.paused(self.engine, began - ended);
        }
        let span = match self.showing.due(began) {
            Some(unseen) => tracing::info_span!(
                "batch",
                engine = self.engine,
                attempt = lease.token().attempt.0,
                asked = rows,
                unseen,
                window = Empty,
                changed = Empty,
                code = Empty,
                otel.status_code = Empty,
            ),
            None => tracing::Span::none(),
        };
        let result = self.inner.run_batch(lease, rows).instrument(span.clone()).await;
        self.ended = Some(Instant::now());
        self.count(&result, began.elapsed());
        match &result {
            Ok(report) => {
                span.record("window", report.window).record("changed", report.changed);
            }
            Err(error) => {
                span.record("code", error.code().as_str()).record("otel.status_code", "error");
            }
        }
        result
    }

    async fn set_aside(
        &mut self,
        lease: &TaskLease,
        why: &Failure,
        budget: u32,
    ) -> EngineResult<Option<SetAside>> {
        let span = tracing::info_span!("set aside", engine = self.engine, code = why.code.as_str());
        let began = Instant::now();
        let result = self.inner.set_aside(lease, why, budget).instrument(span).await;
        self.ended = Some(Instant::now());
        match &result {
            Ok(Some(done)) => self.count(&Ok(done.report.clone()), began.elapsed()),
            Err(EngineError::LeaseLost) => self.count(&Err(EngineError::LeaseLost), began.elapsed()),
            Ok(None) | Err(_) => {}
        }
        result
    }

    async fn share(&mut self, lease: &TaskLease, least: u32) -> EngineResult<Option<Rest>> {
        let span = tracing::info_span!("share", engine = self.engine, least);
        let result = self.inner.share(lease, least).instrument(span).await;
        if matches!(result, Err(EngineError::LeaseLost)) {
            self.metrics.lease_losses.get_or_create_owned(&[("engine", self.engine)]).inc();
        }
        result
    }

    async fn replica_lag(&mut self) -> EngineResult<Option<Lag>> {
        self.inner.replica_lag().await
    }
}

impl ObservedWriter {
    fn count(&self, result: &EngineResult<BatchReport>, took: Duration) {
        let (metrics, engine) = (&self.metrics, ("engine", self.engine));
        metrics.batch_duration.get_or_create_owned(&[engine]).observe(took.as_secs_f64());
        match result {
            Ok(report) => {
                metrics.batches.get_or_create_owned(&[engine, ("outcome", "committed")]).inc();
                metrics.rows_changed.get_or_create_owned(&[engine]).inc_by(u64::from(report.changed));
                metrics.rows_walked.get_or_create_owned(&[engine]).inc_by(u64::from(report.window));
                metrics.batch_size.get_or_create_owned(&[engine]).observe(f64::from(report.window));
            }
            Err(error) => {
                metrics.batches.get_or_create_owned(&[engine, ("outcome", "failed")]).inc();
                metrics.batch_errors.get_or_create_owned(&[engine, ("code", error.code().as_str())]).inc();
                if matches!(error, EngineError::LeaseLost) {
                    metrics.lease_losses.get_or_create_owned(&[engine]).inc();
                }
            }
        }
    }
}

/// Which batches of a claim have a span.
#[derive(Debug, Default)]
struct Showing {
    shown: u32,
    last: Option<Instant>,
    unseen: u64,
}

impl Showing {
    /// How many batches before this one had no span, if this one is to have one.
    fn due(&mut self, now: Instant) -> Option<u64> {
        let rested = self.last.is_none_or(|last| now - last >= SHOWN_EVERY);
        if self.shown >= SHOWN_FIRST && !rested {
            self.unseen += 1;
            return None;
        }
        self.shown = self.shown.saturating_add(1);
        self.last = Some(now);
        Some(std::mem::take(&mut self.unseen))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fast_range_shows_its_first_batches_and_then_one_in_a_second() {
        let mut showing = Showing::default();
        let begin = Instant::now();
        let shown: Vec<u64> =
            (0..10_000_u64).filter_map(|batch| showing.due(begin + Duration::from_millis(batch))).collect();
        assert_eq!(shown.len(), 59, "50 at once, then one in each of nine seconds");
        assert_eq!(
            shown[50], 999,
            "the last batch of the first 50 began at 49 ms, the next shown at 1049 ms"
        );
    }
}

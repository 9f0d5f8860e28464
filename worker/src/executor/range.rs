//! The batch loop of one range: claim, then window after window until the upper key.
//!
//! What happens after an error is decided here, by its type: narrow the window, pause, claim again, or give up.

use std::sync::Arc;
use std::time::Duration;

use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::migration::Pace;
use shardlift_domain::progress::Receipt;
use shardlift_domain::range::RangeState;
use shardlift_domain::spec::Window;
use shardlift_runtime::clock;
use shardlift_runtime::retry::{Delays, Policy};
use tokio::time::{Instant, sleep};

use super::brake::{self, Brake};
use super::pacer::Pacer;
use super::speed::Speed;
use super::throttle::{Limiter, until_open};
use super::{Assignment, News, RECEIPT_EVERY, Receipts};
use crate::engine::{
    BatchReport, DataJob, EngineError, EngineResult, Lag, RangeWriter, SetAside, ShardEngine,
};
use crate::lease::TaskLease;

/// Failures in a row, without one batch between them, after which the task is given back with the last of them.
const PATIENCE: u32 = 12;
/// How long a shard may stay away, from the first failure on, however few attempts that was: a link that swallows
/// everything lets each of them wait. Another worker may reach the shard.
const AWAY: Duration = Duration::from_secs(15);
/// The pauses between them.
const PAUSES: Policy =
    Policy { first: Duration::from_millis(20), longest: Duration::from_secs(2), total: None };
/// Each part of a range that is split must be worth so much time at the present pace, …
const WORTH: Duration = Duration::from_secs(1);
/// … and so many batches, …
const WORTH_BATCHES: u32 = 3;
/// … but no more rows than can be looked over quickly in an index.
const MOST_LOOKED_AT: u32 = 20_000;

/// How often a walk that waits for its time of day looks whether another one holds by now.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Walks one range to its end.
pub(super) async fn run(
    assignment: &Assignment,
    engine: &dyn ShardEngine,
    job: Arc<DataJob>,
    receipts: Receipts,
) -> EngineResult<RangeState> {
    let lease = &assignment.lease;
    let mut walk = Walk::new(assignment, &job, receipts);
    loop {
        lease.check()?;
        let ended = match engine.open_range(lease, Arc::clone(&job)).await {
            Ok(mut writer) => walk.until_claim_is_lost(lease, writer.as_mut()).await?,
            Err(error) => {
                walk.forgive_opening(error)?;
                None
            }
        };
        if let Some(end) = ended {
            return Ok(end);
        }
        walk.pause(lease).await?;
    }
}

/// How to go on after an error.
enum After {
    TryAgain,
    ClaimAgain,
}

/// The pace and the patience of one walk.
struct Walk<'a> {
    pacer: Pacer,
    limiter: Option<Limiter>,
    window: Option<Window>,
    brake: Option<Brake>,
    job: &'a DataJob,
    receipts: Receipts,
    told: Option<Instant>,
    began: Instant,
    speed: Speed,
    failures: u32,
    /// Since when the shard has not answered.
    away: Option<Instant>,
    delays: Delays,
    /// Whether a pause is due: narrowing a window needs none.
    owed: bool,
}

impl<'a> Walk<'a> {
    fn new(assignment: &Assignment, job: &'a DataJob, receipts: Receipts) -> Self {
        let mut walk = Self {
            pacer: Pacer::new(&job.data.batch),
            limiter: None,
            window: None,
            brake: job.data.max_replica_lag.map(Brake::new),
            job,
            receipts,
            told: None,
            began: Instant::now(),
            speed: Speed::new(),
            failures: 0,
            away: None,
            delays: Delays::new(&PAUSES),
            owed: false,
        };
        walk.go_at(assignment.pace);
        walk
    }

    /// Takes its part of the shard's rows per second, and its time of day. The same again leaves what is paid for as it is.
    fn go_at(&mut self, pace: Pace) {
        let throttle = pace.throttle.unwrap_or(self.job.data.throttle);
        self.window = throttle.window;
        let share = throttle.share(pace.sharers);
        if share != self.limiter.as_ref().map(Limiter::share) {
            self.limiter = share.map(Limiter::new);
            self.pacer.limit(self.limiter.as_ref().map_or(u32::MAX, Limiter::max_size));
        }
    }

    /// Does what the coordinator wished since the last batch: another rate, a part of the range for somebody else.
    async fn heed(&mut self, lease: &TaskLease, writer: &mut dyn RangeWriter) -> EngineResult<()> {
        let Some(wish) = lease.take_wish() else { return Ok(()) };
        if wish.share {
            let rest = writer.share(lease, self.worth()).await?;
            // Unheard, it is found in the shard when the pass ends.
            let _ = self.receipts.try_send((lease.clone(), News::Shared(rest)));
        }
        self.go_at(wish.pace);
        Ok(())
    }

    /// More rows per second than this it may not do.
    fn most(&self) -> f64 {
        self.limiter.as_ref().map_or(f64::MAX, |limiter| f64::from(limiter.max_size()))
    }

    /// How many rows each part of a split range must have at least.
    fn worth(&self) -> u32 {
        // A float too large for the type becomes its largest value.
        let rows = (self.speed.last().min(self.most()) * WORTH.as_secs_f64()) as u32;
        rows.max(self.pacer.next_size().saturating_mul(WORTH_BATCHES)).clamp(1, MOST_LOOKED_AT)
    }

    /// One batch, when pace and time of day allow. Answers the range's end when it was the last.
    async fn batch(
        &mut self,
        lease: &TaskLease,
        writer: &mut dyn RangeWriter,
    ) -> EngineResult<Option<RangeState>> {
        lease.check()?;
        self.heed(lease, writer).await?;
        self.wait_for_replicas(lease, writer).await?;
        self.wait_for_window(lease, writer).await?;
        lease.check()?;
        fail::fail_point!("worker-before-batch", |_| std::process::abort());
        let asked = self.pacer.next_size();
        let began = Instant::now();
        let report = writer.run_batch(lease, asked).await?;
        fail::fail_point!("worker-before-receipt", |_| std::process::abort());
        self.committed(lease, report, began.elapsed()).await
    }

    /// A batch was committed. Answers the range's end when it was the last.
    async fn committed(
        &mut self,
        lease: &TaskLease,
        report: BatchReport,
        took: Duration,
    ) -> EngineResult<Option<RangeState>> {
        self.pacer.record(report.window, took);
        self.failures = 0;
        self.away = None;
        self.delays.reset();
        self.tell(lease, &report, took);
        if report.range.done {
            return Ok(Some(report.range));
        }
        let limit = self.limiter.as_mut().map(|limiter| limiter.delay(self.began.elapsed(), report.window));
        let ease = self.brake.as_ref().map(|brake| brake.rest(took));
        nap(lease, limit.max(ease).unwrap_or_default()).await?;
        Ok(None)
    }

    /// The one row of the window cannot be changed: it is set aside, if the spec wants that, and the walk goes on behind
    /// it. An error of the row here, too, is one that setting aside does not help against, such as a `where` that fails.
    async fn set_aside(
        &mut self,
        lease: &TaskLease,
        writer: &mut dyn RangeWriter,
        why: Failure,
    ) -> EngineResult<Option<RangeState>> {
        let Some(budget) = self.job.data.on_error.budget() else { return Err(EngineError::Row(why)) };
        let began = Instant::now();
        let Some(SetAside { report, held }) = writer.set_aside(lease, &why, budget).await? else {
            // Mended or gone meanwhile, or another row came before it: the next batch tells.
            self.failures += 1;
            self.owed = true;
            return if self.failures <= PATIENCE { Ok(None) } else { Err(EngineError::Row(why)) };
        };
        // Unheard, it is told when the shard is verified.
        let _ = self.receipts.try_send((lease.clone(), News::Quarantined(held)));
        self.committed(lease, report, began.elapsed()).await
    }

    /// Waits until its time of day has come, or another one holds.
    async fn wait_for_window(&mut self, lease: &TaskLease, writer: &mut dyn RangeWriter) -> EngineResult<()> {
        while let Some(window) = self.window {
            let wait = until_open(window, clock::minute_of_day(), 0);
            if wait.is_zero() {
                break;
            }
            nap(lease, wait.min(LOOK_EVERY)).await?;
            self.heed(lease, writer).await?;
        }
        Ok(())
    }

    /// Waits while replicas of the shard are too far behind, and tells so.
    async fn wait_for_replicas(
        &mut self,
        lease: &TaskLease,
        writer: &mut dyn RangeWriter,
    ) -> EngineResult<()> {
        loop {
            let now = self.began.elapsed();
            let Some(brake) = self.brake.as_mut().filter(|brake| brake.due(now)) else { return Ok(()) };
            let lag = writer.replica_lag().await?;
            let stops = brake.look(now, lag.as_ref().map_or(Duration::ZERO, |lag| lag.behind));
            let Some(lag) = lag.filter(|_| stops) else { return Ok(()) };
            let waits = lagging(&lag, brake.bound());
            let task = lease.task();
            let waits = waits.in_migration(&task.migration).on_shard(&task.shard).in_step(task.step);
            let receipt = Receipt {
                range: writer.state().clone(),
                batch_size: self.pacer.next_size(),
                rows_per_second: 0.0,
                batch_ms: 0.0,
                waits: Some(waits),
            };
            let _ = self.receipts.try_send((lease.clone(), News::Moved(receipt)));
            // The next batch is told at once: then it does not wait any more.
            self.told = None;
            nap(lease, brake::LOOK_EVERY).await?;
            self.heed(lease, writer).await?;
        }
    }

    /// A receipt, at most a few a second. When nobody takes them they are dropped: the next one says more.
    fn tell(&mut self, lease: &TaskLease, report: &BatchReport, took: Duration) {
        self.speed.walked(report.window);
        let due = self.told.is_none_or(|told| told.elapsed() >= RECEIPT_EVERY);
        if due {
            let receipt = Receipt {
                range: report.range.clone(),
                batch_size: report.window,
                rows_per_second: self.speed.look(self.most()),
                batch_ms: took.as_secs_f64() * 1000.0,
                waits: None,
            };
            if self.receipts.try_send((lease.clone(), News::Moved(receipt))).is_ok() {
                self.told = Some(Instant::now());
            }
        }
    }

    /// Batch after batch under one claim. Answers the range's end, or nothing when it must be claimed again.
    async fn until_claim_is_lost(
        &mut self,
        lease: &TaskLease,
        writer: &mut dyn RangeWriter,
    ) -> EngineResult<Option<RangeState>> {
        if writer.state().done {
            return Ok(Some(writer.state().clone()));
        }
        loop {
            let done = match self.batch(lease, writer).await {
                Err(EngineError::Row(why)) if self.pacer.next_size() == 1 => {
                    self.set_aside(lease, writer, why).await
                }
                done => done,
            };
            match done {
                Ok(None) => self.pause(lease).await?,
                Ok(end) => return Ok(end),
                Err(error) => match self.forgive(error)? {
                    After::TryAgain => self.pause(lease).await?,
                    After::ClaimAgain => return Ok(None),
                },
            }
        }
    }

    /// Claiming failed: a broken connection or contention is tried again, all else ends the task.
    fn forgive_opening(&mut self, error: EngineError) -> EngineResult<()> {
        match error {
            EngineError::Connection(_) | EngineError::Contended(_) | EngineError::TooSlow(_) => {
                self.forgive(error).map(|_| ())
            }
            other => Err(other),
        }
    }

    /// Decides by the type of an error: go on in this way, or give the error back.
    fn forgive(&mut self, error: EngineError) -> EngineResult<After> {
        self.owed = true;
        self.failures += 1;
        let patient = self.failures <= PATIENCE;
        match error {
            EngineError::Row(_) if self.pacer.next_size() > 1 => {
                // Halving until the window is the one row: it takes as many steps as it takes.
                self.failures = 0;
                self.owed = false;
                self.pacer.narrow();
                Ok(After::TryAgain)
            }
            EngineError::Contended(_) if patient => {
                self.pacer.shrink();
                Ok(After::TryAgain)
            }
            EngineError::TooSlow(_) if patient || self.pacer.next_size() > 1 => {
                self.pacer.shrink();
                Ok(After::TryAgain)
            }
            EngineError::Connection(_)
                if patient && self.away.get_or_insert_with(Instant::now).elapsed() < AWAY =>
            {
                Ok(After::ClaimAgain)
            }
            other => Err(other),
        }
    }

    async fn pause(&mut self, lease: &TaskLease) -> EngineResult<()> {
        if std::mem::take(&mut self.owed) {
            let wait = self.delays.next().unwrap_or(PAUSES.longest);
            nap(lease, wait).await?;
        }
        Ok(())
    }
}

/// What a range waits for whose shard has replicas that are too far behind.
fn lagging(lag: &Lag, bound: Duration) -> Failure {
    let message = format!(
        "replica {} is {:.1} s behind, {bound:?} is what the spec allows: no batch begins",
        lag.replica,
        lag.behind.as_secs_f64()
    );
    let next =
        "nothing: it goes on by itself when the replica has come closer; see to the replica if it does not";
    Failure::new(ErrorCode::ShardLagging, message, next)
}

/// Sleeps, but not longer than the lease lives.
async fn nap(lease: &TaskLease, wait: Duration) -> EngineResult<()> {
    if !wait.is_zero() {
        tokio::select! {
            () = sleep(wait) => {}
            () = lease.withdrawn() => {}
        }
    }
    lease.check()?;
    Ok(())
}

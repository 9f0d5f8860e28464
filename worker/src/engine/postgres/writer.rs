//! The writer of one range: on a connection of its own, one batch at a time.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::ids::ShardId;
use shardlift_domain::range::{RangeState, Rest};
use sqlx::{AssertSqlSafe, PgConnection};

use super::batch_rows::{Refusal, RowsBatch};
use super::batch_sql::{Advanced, NOT_ADVANCED, STILL_PENDING, SqlBatch, says};
use super::capture::MOVED;
use super::checkpoint::{Claim, state};
use super::error::trouble;
use super::key::{Bound, shown};
use super::session::{QUICK, Session, within};
use super::set_aside::Misfit;
use super::share;
use super::standbys;
use super::window::{Edges, Stretch, Window};
use crate::engine::replicas::Track;
use crate::engine::{BatchReport, EngineError, EngineResult, Lag, RangeWriter, SetAside};
use crate::lease::TaskLease;

/// How the rows of a window are changed.
pub(super) enum Change {
    /// In the shard, by one statement.
    Sql(SqlBatch),
    /// In the worker.
    Rows(Box<RowsBatch>),
}

/// What a claim has won.
pub(super) struct Writer {
    pub(super) session: Session,
    pub(super) track: Arc<Track>,
    pub(super) claim: Claim,
    pub(super) lower: Bound,
    pub(super) upper: Bound,
    pub(super) state: RangeState,
    pub(super) edges: Edges,
    pub(super) change: Change,
    /// The longest that the server lets one statement run.
    pub(super) statement: Duration,
    /// A batch was begun and its end was not seen: only another claim can tell what became of it.
    pub(super) unsure: bool,
}

#[async_trait]
impl RangeWriter for Writer {
    fn state(&self) -> &RangeState {
        &self.state
    }

    async fn run_batch(&mut self, lease: &TaskLease, rows: u32) -> EngineResult<BatchReport> {
        lease.check()?;
        if self.unsure {
            return Err(self.session.broken("the outcome of its last batch is not known"));
        }
        if self.state.done {
            return Ok(BatchReport { range: self.state.clone(), window: 0, changed: 0 });
        }
        self.unsure = true;
        let outcome = self.batch(rows).await;
        self.unsure = matches!(outcome, Err(EngineError::Connection(_)));
        match outcome {
            // An administrator or the new owner may have ended the statement: then the lease tells.
            Err(EngineError::TooSlow(_)) if lease.check().is_err() => Err(EngineError::LeaseLost),
            outcome => outcome,
        }
    }

    async fn set_aside(
        &mut self,
        lease: &TaskLease,
        why: &Failure,
        budget: u32,
    ) -> EngineResult<Option<SetAside>> {
        lease.check()?;
        if self.unsure {
            return Err(self.session.broken("the outcome of its last batch is not known"));
        }
        self.unsure = true;
        let outcome = self.next_aside(lease, why, budget).await;
        self.unsure = matches!(outcome, Err(EngineError::Connection(_)));
        outcome
    }

    async fn share(&mut self, lease: &TaskLease, least: u32) -> EngineResult<Option<Rest>> {
        lease.check()?;
        if self.unsure {
            return Err(self.session.broken("the outcome of its last batch is not known"));
        }
        if self.state.done {
            return Ok(None);
        }
        self.unsure = true;
        let outcome = self.divide(lease, least).await;
        self.unsure = matches!(outcome, Err(EngineError::Connection(_)));
        match outcome {
            Err(error) if error.gave_way() => Ok(None),
            outcome => outcome,
        }
    }

    async fn replica_lag(&mut self) -> EngineResult<Option<Lag>> {
        standbys::lag(&mut self.session, &self.track).await
    }
}

impl Writer {
    async fn next_aside(
        &mut self,
        lease: &TaskLease,
        why: &Failure,
        budget: u32,
    ) -> EngineResult<Option<SetAside>> {
        let after = self.claim.last_key.clone().or_else(|| self.lower.clone());
        let window = self.edges.next(&mut self.session.conn, &after, &self.upper, 1);
        let window = within(self.statement + QUICK, window)
            .await
            .map_err(|error| trouble(&self.session.shard, error))?;
        let (walk, claim, after, window) = (self.edges.walk(), &self.claim, &after, &window);
        let misfit = Misfit { walk, claim, after, window, why, budget };
        let Some((state, held)) = misfit.set_aside(&mut self.session, lease).await? else { return Ok(None) };
        let window = window.clone();
        Ok(Some(SetAside { report: self.advance(window, state, 0), held }))
    }

    async fn divide(&mut self, lease: &TaskLease, least: u32) -> EngineResult<Option<Rest>> {
        let after = self.claim.last_key.clone().or_else(|| self.lower.clone());
        let cut = share::cut(&mut self.session, self.edges.walk(), &after, &self.upper, least).await?;
        if cut.is_none() {
            return Ok(None);
        }
        let rest = share::divide(&mut self.session, lease, &self.claim, &cut).await?;
        let rest = rest.ok_or(EngineError::LeaseLost)?;
        self.upper = cut;
        Ok(Some(rest))
    }

    async fn batch(&mut self, rows: u32) -> EngineResult<BatchReport> {
        let after = self.claim.last_key.clone().or_else(|| self.lower.clone());
        // Longer than the server's own limit: when this ends it, the server does not answer at all.
        let limit = self.statement + QUICK;
        let window = self.edges.next(&mut self.session.conn, &after, &self.upper, rows);
        let window = within(limit, window).await.map_err(|error| trouble(&self.session.shard, error))?;
        let stretch = Stretch { claim: &self.claim, after: &after, window: &window };
        let advanced = match &mut self.change {
            _ if window.edge.is_none() => {
                within(limit, finish(&mut self.session.conn, &self.claim)).await.map_err(Refusal::Database)
            }
            Change::Sql(batch) => {
                let run = batch.run(&mut self.session.conn, stretch);
                within(limit, run).await.map_err(Refusal::Database)
            }
            Change::Rows(batch) => batch.run(&mut self.session.conn, stretch, limit).await,
        };
        fail::fail_point!("pg-after-commit", |_| std::process::abort());
        match advanced {
            Ok(Some((state, changed))) => Ok(self.advance(window, state, changed)),
            Ok(None) => Err(EngineError::LeaseLost),
            Err(refusal) => Err(refused(&self.session.shard, refusal, &window)),
        }
    }

    fn advance(&mut self, window: Window, state: RangeState, changed: u64) -> BatchReport {
        if window.edge.is_some() {
            self.claim.last_key = window.edge;
        }
        self.state = state;
        let changed = u32::try_from(changed).unwrap_or(u32::MAX);
        BatchReport { range: self.state.clone(), window: window.rows, changed }
    }
}

/// What the refusal of a batch means; that of a single row names its key.
pub(super) fn refused(shard: &ShardId, refusal: Refusal, window: &Window) -> EngineError {
    let error = match refusal {
        Refusal::Database(error) => match marked(&error) {
            Some(Mark::Moved) => EngineError::Contended(moved()),
            Some(Mark::StillPending) => EngineError::Row(still_pending()),
            Some(Mark::NotAdvanced) => EngineError::LeaseLost,
            None => trouble(shard, error),
        },
        Refusal::Engine(error) => error,
    };
    match error {
        EngineError::Row(failure) => {
            let failure = failure.on_shard(shard);
            let only = window.edge.as_ref().filter(|_| window.rows == 1 && failure.place.key.is_none());
            EngineError::Row(match only {
                Some(key) => failure.at_key(shown(key)),
                None => failure,
            })
        }
        error => error,
    }
}

/// The range ends here: nothing is left between its last key and its upper key.
async fn finish(conn: &mut PgConnection, claim: &Claim) -> Result<Advanced, sqlx::Error> {
    let sql = format!(
        "UPDATE shardlift.checkpoint c SET done = true, at = now() WHERE {} \
         RETURNING c.range_index, c.rows_changed, c.rows_seen, c.batches, c.done",
        Claim::HOLDS
    );
    let row = claim.bind(sqlx::query(AssertSqlSafe(Arc::<str>::from(sql)))).fetch_optional(conn).await?;
    row.map(|row| Ok((state(&row, 0)?, 0))).transpose()
}

/// A row is still pending after the transform.
pub(super) fn still_pending() -> Failure {
    Failure::new(
        ErrorCode::RowStillPending,
        "a row still matches `where` after it was changed, so it would be changed again and again",
        "make the transform turn `where` false for every row, then apply the corrected spec",
    )
}

enum Mark {
    Moved,
    StillPending,
    NotAdvanced,
}

/// Our own refusals come as casts that fail with a text of ours.
fn marked(error: &sqlx::Error) -> Option<Mark> {
    let marks =
        [(MOVED, Mark::Moved), (STILL_PENDING, Mark::StillPending), (NOT_ADVANCED, Mark::NotAdvanced)];
    marks.into_iter().find(|(text, _)| says(error, text)).map(|(_, mark)| mark)
}

/// Rows were not changed although they were read, even when they were locked in between.
fn moved() -> Failure {
    Failure::new(
        ErrorCode::RowContended,
        "rows got away between being read and being changed",
        "nothing: it is tried again; if it lasts, look for a trigger of the table that suppresses updates",
    )
}

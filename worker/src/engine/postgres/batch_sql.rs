//! A batch whose transform runs in the shard: one statement, hence one transaction that never sits open.
//!
//! Its parts, in the order in which each reads from the one before: `held` locks the checkpoint row while the claim
//! holds; `changed` updates the pending rows of the window; `tally` counts them, and those still pending; `advanced`
//! moves the checkpoint. The last select refuses the whole statement when a part did not do its share.

use std::sync::Arc;

use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::checkpoint::{Claim, state};
use super::key::Bound;
use super::walk::{Walk, set_list};
use super::window::Window;
use shardlift_domain::range::RangeState;

/// What the statement says, as the text of a failing cast, when rows are still pending. A cast is the one way to make a
/// statement fail that needs nothing installed in the shard.
pub(super) const STILL_PENDING: &str = "shardlift-still-pending:";
/// The same when rows were changed but the checkpoint was not there to be advanced.
pub(super) const NOT_ADVANCED: &str = "shardlift-not-advanced:";

/// The statement, in two forms.
pub(super) struct SqlBatch {
    /// From the beginning of the table.
    first: Arc<str>,
    /// After a key.
    next: Arc<str>,
    /// Whose rows alone are in scope: the last parameter.
    tenants: Vec<String>,
}

/// What one batch did; `None`: the claim does not hold any more, and nothing was done.
pub(super) type Advanced = Option<(RangeState, u64)>;

impl SqlBatch {
    pub(super) fn new(walk: &Walk, assignments: &[(String, String)]) -> Self {
        Self {
            first: statement(walk, assignments, false).into(),
            next: statement(walk, assignments, true).into(),
            tenants: walk.tenant_keys(),
        }
    }

    /// The statement without bounds below, for a look at its plan.
    pub(super) fn sample(&self) -> &str {
        &self.first
    }

    /// Changes the pending rows of the window and advances the checkpoint, or does nothing.
    pub(super) async fn run(
        &self,
        conn: &mut PgConnection,
        claim: &Claim,
        after: &Bound,
        window: &Window,
    ) -> Result<Advanced, sqlx::Error> {
        let sql = if after.is_some() { &self.next } else { &self.first };
        let row = claim
            .bind(sqlx::query(AssertSqlSafe(Arc::clone(sql))))
            .bind(&window.edge)
            .bind(i64::from(window.rows))
            .bind(window.last)
            .bind(after)
            .bind(&self.tenants)
            .fetch_one(conn)
            .await?;
        let advanced: Option<i32> = row.try_get(1)?;
        if advanced.is_none() {
            return Ok(None);
        }
        let changed: i64 = row.try_get(0)?;
        Ok(Some((state(&row, 1)?, u64::try_from(changed).unwrap_or_default())))
    }
}

fn statement(walk: &Walk, assignments: &[(String, String)], after: bool) -> String {
    debug_assert_eq!(Claim::PARAMETERS, 7, "the parameters below follow those of the claim");
    format!(
        "WITH held AS MATERIALIZED (SELECT 1 FROM shardlift.checkpoint c WHERE {holds} FOR UPDATE), \
         changed AS (UPDATE {table} SET {set} WHERE EXISTS (SELECT FROM held) AND {interval}{pending} \
           RETURNING {still} AS still), \
         tally AS (SELECT count(*) AS changed, count(*) FILTER (WHERE still) AS still FROM changed), \
         advanced AS (UPDATE shardlift.checkpoint c SET last_key = $8::text[], \
             rows_changed = c.rows_changed + tally.changed, rows_seen = c.rows_seen + $9, batches = c.batches + 1, \
             done = $10, at = now() \
           FROM tally WHERE {holds} AND EXISTS (SELECT FROM held) \
           RETURNING c.range_index, c.rows_changed, c.rows_seen, c.batches, c.done) \
         SELECT tally.changed, a.range_index, a.rows_changed, a.rows_seen, a.batches, a.done, CASE \
             WHEN tally.still > 0 THEN ('{STILL_PENDING}' || tally.still)::bigint \
             WHEN a.done IS NULL AND tally.changed > 0 THEN ('{NOT_ADVANCED}' || tally.changed)::bigint END \
         FROM tally LEFT JOIN advanced a ON true",
        holds = Claim::HOLDS,
        table = walk.table.sql,
        set = set_list(assignments),
        interval = walk.key.between(after.then_some(11), Some(8)),
        pending = walk.and_pending(12),
        still = walk.still(12),
    )
}

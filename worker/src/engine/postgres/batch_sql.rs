//! A batch whose transform runs in the shard: one statement, hence one transaction that never sits open.
//!
//! Its parts, in the order in which each reads from the one before: `held` locks the checkpoint row while the claim
//! holds; `changed` updates the pending rows of the window; `tally` counts them, and those still pending; `advanced`
//! moves the checkpoint. The last select refuses the whole statement when a part did not do its share.

use std::sync::Arc;

use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::capture::{Capture, MOVED};
use super::checkpoint::{Claim, state};
use super::error::sqlstate;
use super::key::Bound;
use super::walk::{Walk, set_list};
use super::window::Window;
use shardlift_domain::range::RangeState;
use shardlift_domain::spec::Undo;

/// What the statement says, as the text of a failing cast, when rows are still pending. A cast is the one way to make a
/// statement fail that needs nothing installed in the shard.
pub(super) const STILL_PENDING: &str = "shardlift-still-pending:";
/// The same when rows were changed but the checkpoint was not there to be advanced.
pub(super) const NOT_ADVANCED: &str = "shardlift-not-advanced:";

/// The statement.
pub(super) struct SqlBatch {
    statement: Forms,
    /// With before-images, when rows keep getting away: locks them before it reads them.
    patient: Option<Forms>,
    /// Whose rows alone are in scope: the last parameter.
    tenants: Vec<String>,
}

/// A statement in two forms.
struct Forms {
    /// From the beginning of the table.
    first: Arc<str>,
    /// After a key.
    next: Arc<str>,
}

impl Forms {
    fn new(write: impl Fn(bool) -> String) -> Self {
        Self { first: write(false).into(), next: write(true).into() }
    }
}

/// What one batch did; `None`: the claim does not hold any more, and nothing was done.
pub(super) type Advanced = Option<(RangeState, u64)>;

impl SqlBatch {
    pub(super) fn new(walk: &Walk, assignments: &[(String, String)], undo: Undo) -> Self {
        let tenants = walk.tenant_keys();
        if undo == Undo::None {
            return Self {
                statement: Forms::new(|after| statement(walk, assignments, after)),
                patient: None,
                tenants,
            };
        }
        let capture = Capture::of_list(walk, assignments);
        let forms = |locked| Forms::new(|after| capturing(walk, assignments, &capture, locked, after));
        // Where a row lies tells one from another in a table of its own only.
        let plain = walk.table.kind == "r" && !walk.table.inherited;
        Self { statement: forms(!plain), patient: plain.then(|| forms(true)), tenants }
    }

    /// The statement without bounds below, for a look at its plan.
    pub(super) fn sample(&self) -> &str {
        &self.statement.first
    }

    /// Changes the pending rows of the window and advances the checkpoint, or does nothing.
    pub(super) async fn run(
        &self,
        conn: &mut PgConnection,
        claim: &Claim,
        after: &Bound,
        window: &Window,
    ) -> Result<Advanced, sqlx::Error> {
        match self.once(&self.statement, conn, claim, after, window).await {
            Err(error) if says(&error, MOVED) => match &self.patient {
                Some(patient) => self.once(patient, conn, claim, after, window).await,
                None => Err(error),
            },
            other => other,
        }
    }

    async fn once(
        &self,
        forms: &Forms,
        conn: &mut PgConnection,
        claim: &Claim,
        after: &Bound,
        window: &Window,
    ) -> Result<Advanced, sqlx::Error> {
        let sql = if after.is_some() { &forms.next } else { &forms.first };
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

/// Whether the server says this text of ours, as that of a failing cast.
pub(super) fn says(error: &sqlx::Error, text: &str) -> bool {
    let found = error.as_database_error().filter(|_| sqlstate(error) == Some("22P02"));
    found.is_some_and(|found| found.message().contains(text))
}

fn statement(walk: &Walk, assignments: &[(String, String)], after: bool) -> String {
    debug_assert_eq!(Claim::PARAMETERS, 7, "the parameters below follow those of the claim");
    let changed = format!(
        "changed AS (UPDATE {table} SET {set} WHERE EXISTS (SELECT FROM held) AND {interval}{pending} \
           RETURNING {still} AS still)",
        table = walk.table.sql,
        set = set_list(assignments),
        interval = walk.key.between(after.then_some(11), Some(8)),
        pending = walk.and_pending(12),
        still = walk.still(12),
    );
    whole(&changed, "")
}

/// With before-images: rows are read, and changed where they were read.
fn capturing(
    walk: &Walk,
    assignments: &[(String, String)],
    capture: &Capture,
    locked: bool,
    after: bool,
) -> String {
    let table = &walk.table.sql;
    let same = match locked {
        true => walk.key.same_as("shardlift_before"),
        false => format!("{table}.ctid = shardlift_before.shardlift_at"),
    };
    let changed = format!(
        "shardlift_before AS MATERIALIZED (SELECT {table}.ctid AS shardlift_at, {keys}, {images} FROM {table} \
           WHERE EXISTS (SELECT FROM held) AND {interval}{pending}{lock}), \
         changed AS (UPDATE {table} SET {set} FROM shardlift_before WHERE {same}{pending} \
           RETURNING {kept}, {still} AS still), \
         logged AS ({log})",
        keys = walk.key.named(table),
        images = capture.images(),
        interval = walk.key.between(after.then_some(11), Some(8)),
        pending = walk.and_pending(12),
        lock = if locked { " FOR NO KEY UPDATE" } else { "" },
        set = set_list(assignments),
        kept = capture.kept("shardlift_before"),
        still = walk.still(12),
        log = capture.log("$1, $2, $3, (SELECT batches + 1 FROM held)"),
    );
    let moved = format!(
        "WHEN (SELECT count(*) FROM shardlift_before) > tally.changed \
         THEN ('{MOVED}' || tally.changed)::bigint "
    );
    whole(&changed, &moved)
}

/// The statement around its middle part.
fn whole(changed: &str, refusal: &str) -> String {
    format!(
        "WITH held AS MATERIALIZED (SELECT c.batches FROM shardlift.checkpoint c WHERE {holds} FOR UPDATE), \
         {changed}, \
         tally AS (SELECT count(*) AS changed, count(*) FILTER (WHERE still) AS still FROM changed), \
         advanced AS (UPDATE shardlift.checkpoint c SET last_key = $8::text[], \
             rows_changed = c.rows_changed + tally.changed, rows_seen = c.rows_seen + $9, batches = c.batches + 1, \
             done = $10, at = now() \
           FROM tally WHERE {holds} AND EXISTS (SELECT FROM held) \
           RETURNING c.range_index, c.rows_changed, c.rows_seen, c.batches, c.done) \
         SELECT tally.changed, a.range_index, a.rows_changed, a.rows_seen, a.batches, a.done, CASE {refusal}\
             WHEN tally.still > 0 THEN ('{STILL_PENDING}' || tally.still)::bigint \
             WHEN a.done IS NULL AND tally.changed > 0 THEN ('{NOT_ADVANCED}' || tally.changed)::bigint END \
         FROM tally LEFT JOIN advanced a ON true",
        holds = Claim::HOLDS,
    )
}

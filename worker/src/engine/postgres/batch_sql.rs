//! A batch whose transform runs in the shard: one statement, hence one transaction that never sits open. (With
//! before-images the transaction is begun and committed around it.)
//!
//! Its parts, in the order in which each reads from the one before: `held` locks the checkpoint row while the claim
//! holds; `changed` updates the pending rows of the window; `tally` counts them, and those still pending; `advanced`
//! moves the checkpoint. The last select refuses the whole statement when a part did not do its share.

use std::sync::Arc;

use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

use super::capture::{Capture, MOVED};
use super::checkpoint::{Claim, state};
use super::error::sqlstate;
use super::walk::{Walk, set_list};
use super::window::Stretch;
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
    /// With before-images.
    locking: Option<Locking>,
    /// Whose rows alone are in scope: the last parameter.
    tenants: Vec<String>,
}

/// What is done when the rows of a window could not be read and changed in one snapshot.
struct Locking {
    /// Locks rows before it reads them.
    statement: Forms,
    patience: Patience,
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
            let statement = Forms::new(|after| statement(walk, assignments, after));
            return Self { statement, locking: None, tenants };
        }
        let capture = Capture::of_list(walk, assignments);
        let locking = Forms::new(|after| locking(walk, assignments, &capture, after));
        Self {
            statement: Forms::new(|after| capturing(walk, assignments, &capture, after)),
            locking: Some(Locking { statement: locking, patience: Patience::default() }),
            tenants,
        }
    }

    /// The statement without bounds below, for a look at its plan.
    pub(super) fn sample(&self) -> &str {
        &self.statement.first
    }

    /// How the transaction must begin that [`SqlBatch::once`] is called in.
    pub(super) fn beginning(&self) -> &'static str {
        if self.locking.is_some() { "BEGIN ISOLATION LEVEL REPEATABLE READ" } else { "BEGIN" }
    }

    /// Changes the pending rows of the window and advances the checkpoint, or does nothing.
    pub(super) async fn run(
        &mut self,
        conn: &mut PgConnection,
        stretch: Stretch<'_>,
    ) -> Result<Advanced, sqlx::Error> {
        if self.locking.as_mut().is_some_and(|locking| locking.patience.tries()) {
            let done = self.in_one_snapshot(&mut *conn, stretch).await;
            let refused = done.as_ref().is_err_and(gave_way);
            if let Some(locking) = &mut self.locking {
                locking.patience.learn(refused);
            }
            if !refused {
                return done;
            }
        }
        fail::fail_point!("pg-before-commit", |_| std::process::abort());
        let forms = self.locking.as_ref().map_or(&self.statement, |locking| &locking.statement);
        self.play(forms, conn, stretch).await
    }

    /// The rows are read and changed in one snapshot, so the transaction takes more than the statement to say so.
    async fn in_one_snapshot(
        &self,
        conn: &mut PgConnection,
        stretch: Stretch<'_>,
    ) -> Result<Advanced, sqlx::Error> {
        let mut tx = conn.begin_with(self.beginning()).await?;
        let done = self.once(&mut tx, stretch).await;
        if matches!(done, Ok(Some(_))) {
            fail::fail_point!("pg-before-commit", |_| std::process::abort());
            tx.commit().await?;
        } else {
            // Its locks must not outlast the refusal; when even this fails the connection is broken anyway.
            tx.rollback().await?;
        }
        done
    }

    /// One attempt, within the caller's transaction.
    pub(super) async fn once(
        &self,
        conn: &mut PgConnection,
        stretch: Stretch<'_>,
    ) -> Result<Advanced, sqlx::Error> {
        self.play(&self.statement, conn, stretch).await
    }

    async fn play(
        &self,
        forms: &Forms,
        conn: &mut PgConnection,
        stretch: Stretch<'_>,
    ) -> Result<Advanced, sqlx::Error> {
        let Stretch { claim, after, window } = stretch;
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

/// How many batches lock their rows at once because reading and changing them in one snapshot kept being refused: none
/// after the first refusal in a row, then more and more, up to [`Patience::MOST`].
#[derive(Debug, Default)]
struct Patience {
    refusals: u32,
    left: u32,
}

impl Patience {
    /// 62 batches.
    const MOST: u32 = 6;

    /// Whether the next batch is tried in one snapshot.
    fn tries(&mut self) -> bool {
        let waits = self.left > 0;
        self.left = self.left.saturating_sub(1);
        !waits
    }

    fn learn(&mut self, refused: bool) {
        self.refusals = if refused { (self.refusals + 1).min(Self::MOST) } else { 0 };
        self.left = if refused { (1 << self.refusals) - 2 } else { 0 };
    }
}

/// Whether somebody else was at the rows of the window: the server says that a row is not what the snapshot holds, or the
/// statement that other rows were changed than were read.
fn gave_way(error: &sqlx::Error) -> bool {
    sqlstate(error) == Some("40001") || says(error, MOVED)
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
    Middle { changed, ..Middle::default() }.whole()
}

/// With before-images, in one snapshot: rows are read, and rows are changed; both must be the same in the same order.
fn capturing(walk: &Walk, assignments: &[(String, String)], capture: &Capture, after: bool) -> String {
    let rows = format!(
        "EXISTS (SELECT FROM held) AND {interval}{pending}",
        interval = walk.key.between(after.then_some(11), Some(8)),
        pending = walk.and_pending(12),
    );
    let changed = format!(
        "shardlift_before AS MATERIALIZED (SELECT {gathered} FROM {table} WHERE {rows}), \
         changed AS (UPDATE {table} SET {set} WHERE {rows} RETURNING {answered}, {still} AS still)",
        table = walk.table.sql,
        gathered = capture.gathered(),
        set = set_list(assignments),
        answered = capture.answered(),
        still = walk.still(12),
    );
    let logged = format!("logged AS ({}), ", capture.log_gathered(NAME, "shardlift_before", "tally"));
    let differ = capture.differ("shardlift_before", "tally");
    let refusal =
        format!("WHEN (SELECT {differ} FROM shardlift_before) THEN ('{MOVED}' || tally.changed)::bigint ");
    let collected = format!(", {}", capture.collected());
    Middle { changed, collected, logged, refusal }.whole()
}

/// With before-images: rows are locked and read, then changed.
fn locking(walk: &Walk, assignments: &[(String, String)], capture: &Capture, after: bool) -> String {
    let table = &walk.table.sql;
    let changed = format!(
        "shardlift_before AS MATERIALIZED (SELECT {keys}, {images} FROM {table} \
           WHERE EXISTS (SELECT FROM held) AND {interval}{pending} FOR NO KEY UPDATE), \
         changed AS (UPDATE {table} SET {set} FROM shardlift_before WHERE {same}{pending} \
           RETURNING {kept}, {still} AS still)",
        keys = walk.key.named(table),
        images = capture.images(),
        interval = walk.key.between(after.then_some(11), Some(8)),
        pending = walk.and_pending(12),
        set = set_list(assignments),
        same = walk.key.same_as("shardlift_before"),
        kept = capture.kept("shardlift_before"),
        still = walk.still(12),
    );
    let logged = format!("logged AS ({}), ", capture.log(NAME));
    let refusal = format!(
        "WHEN (SELECT count(*) FROM shardlift_before) > tally.changed \
         THEN ('{MOVED}' || tally.changed)::bigint "
    );
    Middle { changed, logged, refusal, ..Middle::default() }.whole()
}

/// What stands for migration, version, range and batch in the log.
const NAME: &str = "$1, $2, $3, (SELECT batches + 1 FROM held)";

/// The middle part of the statement.
#[derive(Default)]
struct Middle {
    /// Changes the rows.
    changed: String,
    /// What is told of them beside their number.
    collected: String,
    /// Writes the log.
    logged: String,
    /// Why the whole may be refused.
    refusal: String,
}

impl Middle {
    /// The statement around it.
    fn whole(&self) -> String {
        let Self { changed, collected, logged, refusal } = self;
        format!(
            "WITH held AS MATERIALIZED (SELECT c.batches FROM shardlift.checkpoint c WHERE {holds} FOR UPDATE), \
             {changed}, \
             tally AS (SELECT count(*) AS changed, count(*) FILTER (WHERE still) AS still{collected} FROM changed), \
             {logged}\
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_locked_first_for_longer_and_longer_while_that_is_what_helps() {
        let mut patience = Patience::default();
        let mut tries = Vec::new();
        for batch in 0..100 {
            if patience.tries() {
                tries.push(batch);
                patience.learn(true);
            }
        }
        assert_eq!(tries, [0, 1, 4, 11, 26, 57]);
        while !patience.tries() {}
        patience.learn(false);
        patience.learn(true);
        assert!(patience.tries(), "one refusal alone says nothing of the next batch");
    }
}

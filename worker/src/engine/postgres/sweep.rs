//! The search after a pass: is anything pending that the walk could not see?

use std::time::Duration;

use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::ids::ShardId;
use shardlift_domain::range::{KeyInterval, KeyText};
use shardlift_domain::verdict::Sweep;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::time::Instant;

use super::checkpoint::{self, Laid, NewPass};
use super::error::OrTrouble;
use super::fence::{self, unsigned};
use super::key::Bound;
use super::session::{Access, QUICK, Session, within};
use super::split::{cuts, edge, exclude};
use super::walk::{Walk, misfit};
use super::watch::watched;
use crate::engine::{DataJob, EngineError, EngineResult, MAX_PASSES};
use crate::lease::TaskLease;

/// From so many pending rows on, another pass has as many ranges as the one before.
const MANY: u64 = 100_000;
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How often it is said what is being waited for.
const REMINDER: Duration = Duration::from_secs(15);

/// What is pending: how many rows, and the interval that holds them all.
struct Found {
    pending: u64,
    interval: KeyInterval,
    cuts: Vec<KeyText>,
}

/// Waits out older transactions, searches, and lays out another pass if something is pending.
pub(super) async fn sweep(access: &Access, lease: &TaskLease, job: &DataJob) -> EngineResult<Sweep> {
    lease.check()?;
    let mut session = access.unbounded(lease.task()).await?;
    let shard = session.shard.clone();
    fence::raise(&mut session.conn, &shard, lease.leader()).await?;
    let walk = Walk::resolve(&mut session, lease.task(), job).await?;
    let laid =
        within(QUICK, checkpoint::newest(&mut session.conn, &walk.migration)).await.or_trouble(&shard)?;
    let laid = laid
        .ok_or_else(|| misfit(&shard, "no range was laid out, so there is nothing to search after".into()))?;
    if !laid.pass.done() {
        // An earlier sweep found something, but nobody heard of it.
        return Ok(Sweep::Found { pending: laid.found, pass: laid.pass });
    }
    if walk.pending.is_none() {
        return Ok(Sweep::Clean);
    }
    outlast(&mut session, lease).await?;
    let ranges = u32::try_from(laid.pass.ranges.len()).unwrap_or(1);
    let pid = session.pid;
    let found = watched(access, lease, pid, search(&mut session.conn, &walk, ranges)).await?;
    let Some(found) = found else {
        session.close().await;
        return Ok(Sweep::Clean);
    };
    let (number, pending) = (laid.pass.number, found.pending);
    // The next pass is laid out also when it halts: it is what a person resumes.
    let sweep = lay_out(&mut session, lease, &walk, job, laid, found).await?;
    session.close().await;
    if number.is_multiple_of(MAX_PASSES) {
        return Err(not_converging(&shard, &walk, number, pending));
    }
    Ok(sweep)
}

/// Waits until every transaction that is older than this moment has finished: only then does a snapshot show all that
/// they wrote.
async fn outlast(session: &mut Session, lease: &TaskLease) -> EngineResult<()> {
    let shard = session.shard.clone();
    let mark = sqlx::query_scalar::<_, i64>("SELECT txid_current()").fetch_one(&mut session.conn);
    let mark = within(QUICK, mark).await.or_trouble(&shard)?;
    let started = Instant::now();
    let (mut pause, mut reminder) = (FIRST_PAUSE, REMINDER);
    loop {
        let oldest = sqlx::query_scalar::<_, i64>("SELECT txid_snapshot_xmin(txid_current_snapshot())");
        let oldest = within(QUICK, oldest.fetch_one(&mut session.conn)).await.or_trouble(&shard)?;
        if oldest > mark {
            return Ok(());
        }
        lease.check()?;
        if started.elapsed() >= reminder {
            reminder += REMINDER;
            tracing::warn!(
                %shard,
                transaction = oldest,
                waited_s = started.elapsed().as_secs(),
                "the final search waits for a transaction that began before it (see pg_stat_activity.backend_xid and \
                 pg_prepared_xacts)"
            );
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn search(conn: &mut PgConnection, walk: &Walk, ranges: u32) -> Result<Option<Found>, sqlx::Error> {
    let mut tx = conn.begin().await?;
    sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY").execute(&mut *tx).await?;
    let sql = format!("SELECT count(*) FROM {} WHERE true{}", walk.table.sql, walk.and_pending(1));
    let pending = sqlx::query_scalar(AssertSqlSafe(sql)).bind(walk.tenant_keys());
    let pending: i64 = pending.fetch_one(&mut *tx).await?;
    let pending = unsigned(pending);
    if pending == 0 {
        return Ok(None);
    }
    let first = edge(&mut tx, walk, true, false).await?;
    let upper = edge(&mut tx, walk, true, true).await?.map(KeyText);
    let lower = before(&mut tx, walk, &first).await?.map(KeyText);
    let cuts = match ranges {
        2.. if pending >= MANY => cuts(&mut tx, walk, true, ranges).await?,
        _ => Vec::new(),
    };
    let cuts = cuts.into_iter().filter(|cut| Some(cut) != upper.as_ref()).collect();
    Ok(Some(Found { pending, interval: KeyInterval { lower, upper }, cuts }))
}

/// The key before a key: intervals leave out their lower end.
async fn before(conn: &mut PgConnection, walk: &Walk, key: &Bound) -> Result<Bound, sqlx::Error> {
    let sql = format!(
        "SELECT {texts} FROM (SELECT {list} FROM {table} WHERE {less} ORDER BY {descending} LIMIT 1) w",
        texts = walk.key.texts("w"),
        list = walk.key.list(),
        table = walk.table.sql,
        less = walk.key.compare("<", 1),
        descending = walk.key.descending(),
    );
    sqlx::query_scalar(AssertSqlSafe(sql)).bind(key).fetch_optional(conn).await
}

async fn lay_out(
    session: &mut Session,
    lease: &TaskLease,
    walk: &Walk,
    job: &DataJob,
    laid: Laid,
    found: Found,
) -> EngineResult<Sweep> {
    let shard = session.shard.clone();
    let mut tx = within(QUICK, session.conn.begin()).await.or_trouble(&shard)?;
    fence::enter(&mut tx, &shard, lease.leader()).await?;
    within(QUICK, exclude(&mut tx, &walk.migration)).await.or_trouble(&shard)?;
    let now = within(QUICK, checkpoint::newest(&mut tx, &walk.migration)).await.or_trouble(&shard)?;
    let pass = match now {
        // Another worker was faster.
        Some(now) if now.pass.number > laid.pass.number => now.pass,
        _ => {
            let first = laid.pass.ranges.iter().map(|range| range.index + 1).max().unwrap_or_default();
            let mut intervals = KeyInterval::cover(found.cuts, found.interval.upper);
            if let Some(interval) = intervals.first_mut() {
                interval.lower = found.interval.lower;
            }
            let next = NewPass {
                migration: &walk.migration,
                checksum: &job.spec.checksum,
                number: laid.pass.number + 1,
                first,
                before: laid.pass.totals(),
                empty: false,
                found: found.pending,
            };
            within(QUICK, next.insert(&mut tx, &intervals)).await.or_trouble(&shard)?
        }
    };
    within(QUICK, tx.commit()).await.or_trouble(&shard)?;
    Ok(Sweep::Found { pending: found.pending, pass })
}

fn not_converging(shard: &ShardId, walk: &Walk, passes: u32, pending: u64) -> EngineError {
    EngineError::Failed(
        Failure::new(
            ErrorCode::SweepNotConverging,
            format!("{pending} rows of {} on shard {shard} are pending again after {passes} passes", walk.table.sql),
            "the application still writes the old form: deploy the version that writes the new one, then resume",
        )
        .on_shard(shard)
        .in_migration(&walk.migration),
    )
}

//! Lays out the ranges of a pass: cuts at quantiles of a sample of keys, so that it works for any type of key.

use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::ids::{Checksum, MigrationKey, ShardId};
use shardlift_domain::range::{KeyInterval, KeyText, Pass, RangeTotals};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::checkpoint::{self, NewPass};
use super::error::OrTrouble;
use super::fence;
use super::key::Bound;
use super::session::{Access, QUICK, Session, within};
use super::walk::Walk;
use super::watch::watched;
use crate::engine::{DataJob, EngineError, EngineResult};
use crate::lease::TaskLease;

/// Up to so many estimated rows every key is looked at.
const SMALL: f64 = 100_000.0;
/// Keys looked at per range of a large table. They come in whole pages, so a few would say little.
const SAMPLE_PER_RANGE: f64 = 10_000.0;

/// Lays out the first pass, or reads the newest that is there.
pub(super) async fn split(
    access: &Access,
    lease: &TaskLease,
    job: &DataJob,
    ranges: u32,
) -> EngineResult<Pass> {
    lease.check()?;
    let mut session = access.unbounded(lease.task()).await?;
    let shard = session.shard.clone();
    fence::raise(&mut session.conn, &shard, lease.leader()).await?;
    let walk = Walk::resolve(&mut session, lease.task(), job).await?;
    let laid =
        within(QUICK, checkpoint::newest(&mut session.conn, &walk.migration)).await.or_trouble(&shard)?;
    let (cuts, last) = match laid {
        // Only the fence is checked then.
        Some(_) => (Vec::new(), None),
        None => {
            let pid = session.pid;
            watched(access, lease, pid, survey(&mut session.conn, &walk, ranges)).await?
        }
    };
    let pass = lay_out(&mut session, lease, &walk, &job.spec.checksum, cuts, last).await?;
    session.close().await;
    Ok(pass)
}

async fn lay_out(
    session: &mut Session,
    lease: &TaskLease,
    walk: &Walk,
    checksum: &Checksum,
    cuts: Vec<KeyText>,
    last: Option<KeyText>,
) -> EngineResult<Pass> {
    let shard = session.shard.clone();
    let mut tx = within(QUICK, session.conn.begin()).await.or_trouble(&shard)?;
    fence::enter(&mut tx, &shard, lease.leader()).await?;
    within(QUICK, exclude(&mut tx, &walk.migration)).await.or_trouble(&shard)?;
    let laid = within(QUICK, checkpoint::newest(&mut tx, &walk.migration)).await.or_trouble(&shard)?;
    let pass = match laid {
        Some(laid) => {
            same_content(&shard, &walk.migration, checksum, &laid.checksum)?;
            laid.pass
        }
        None => {
            let empty = last.is_none();
            let intervals = KeyInterval::cover(cuts, last);
            let before = RangeTotals::default();
            let migration = &walk.migration;
            let pass = NewPass { migration, checksum, number: 1, first: 0, before, empty, found: 0 };
            within(QUICK, pass.insert(&mut tx, &intervals)).await.or_trouble(&shard)?
        }
    };
    within(QUICK, tx.commit()).await.or_trouble(&shard)?;
    Ok(pass)
}

/// Two workers may lay out the same pass: one waits for the other, then finds it there.
pub(super) async fn exclude(conn: &mut PgConnection, migration: &MigrationKey) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('shardlift pass ' || $1, 0))")
        .bind(migration.to_string())
        .execute(conn)
        .await
        .map(drop)
}

/// The same id with another content is a conflict.
pub(super) fn same_content(
    shard: &ShardId,
    migration: &MigrationKey,
    ours: &Checksum,
    theirs: &str,
) -> EngineResult<()> {
    if ours.as_str() == theirs {
        return Ok(());
    }
    Err(EngineError::Failed(
        Failure::new(
            ErrorCode::LedgerConflict,
            format!("shard {shard} knows {migration} with another content (checksum {theirs}, not {ours})"),
            "give the changed spec a new id; an applied migration is never edited",
        )
        .on_shard(shard)
        .in_migration(migration),
    ))
}

/// Cuts for so many ranges, and the largest key there is.
async fn survey(
    conn: &mut PgConnection,
    walk: &Walk,
    ranges: u32,
) -> Result<(Vec<KeyText>, Option<KeyText>), sqlx::Error> {
    // One snapshot for both answers, so that every cut lies before the last key.
    let mut tx = conn.begin().await?;
    sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY").execute(&mut *tx).await?;
    let last = edge(&mut tx, walk, false, true).await?.map(KeyText);
    let cuts = match last {
        Some(_) if ranges > 1 => cuts(&mut tx, walk, false, ranges).await?,
        _ => Vec::new(),
    };
    tx.commit().await?;
    let cuts = cuts.into_iter().filter(|cut| Some(cut) != last.as_ref()).collect();
    Ok((cuts, last))
}

/// The first or last key of the rows that are pending, or of all.
pub(super) async fn edge(
    conn: &mut PgConnection,
    walk: &Walk,
    pending: bool,
    last: bool,
) -> Result<Bound, sqlx::Error> {
    let sql = format!(
        "SELECT {texts} FROM (SELECT {list} FROM {table} WHERE true{condition} ORDER BY {order} LIMIT 1) w",
        condition = if pending { walk.and_pending(1) } else { String::new() },
        texts = walk.key.texts("w"),
        list = walk.key.list(),
        table = walk.table.sql,
        order = if last { walk.key.descending() } else { walk.key.list() },
    );
    sqlx::query_scalar(AssertSqlSafe(sql)).bind(walk.tenant_keys()).fetch_optional(conn).await
}

/// Keys that divide the rows that are pending, or all, into about equal parts, ascending; fewer than asked for when there
/// are few rows.
pub(super) async fn cuts(
    conn: &mut PgConnection,
    walk: &Walk,
    pending: bool,
    ranges: u32,
) -> Result<Vec<KeyText>, sqlx::Error> {
    let sample = sample(conn, walk, SAMPLE_PER_RANGE * f64::from(ranges)).await?;
    let sql = format!(
        "SELECT {texts} FROM (SELECT {list}, row_number() OVER (ORDER BY {list}) AS shardlift_n, \
             count(*) OVER () AS shardlift_all FROM {table} {sample} WHERE true{condition}) w \
         WHERE (shardlift_n * $1) / shardlift_all > ((shardlift_n - 1) * $1) / shardlift_all \
           AND shardlift_n < shardlift_all ORDER BY shardlift_n",
        texts = walk.key.texts("w"),
        list = walk.key.list(),
        table = walk.table.sql,
        condition = if pending { walk.and_pending(2) } else { String::new() },
    );
    let keys = sqlx::query_scalar(AssertSqlSafe(sql)).bind(i64::from(ranges)).bind(walk.tenant_keys());
    let keys: Vec<Vec<String>> = keys.fetch_all(conn).await?;
    Ok(keys.into_iter().map(KeyText).collect())
}

/// The clause that makes a scan of the table look at about so many rows, in whole pages; empty for a small table.
pub(super) async fn sample(conn: &mut PgConnection, walk: &Walk, keys: f64) -> Result<String, sqlx::Error> {
    let rows: i64 = sqlx::query_scalar(
        "SELECT CASE WHEN c.relkind = 'p' THEN greatest(c.reltuples, 0)::int8
                ELSE greatest(c.reltuples, pg_relation_size(c.oid) / current_setting('block_size')::int8 * 20, 0)::int8 END
         FROM pg_class c WHERE c.oid = $1::int8::oid",
    )
    .bind(walk.table.oid)
    .fetch_one(&mut *conn)
    .await?;
    #[allow(clippy::cast_precision_loss, reason = "an estimate")]
    let rows = rows as f64;
    let share = 100.0 * keys / rows.max(1.0);
    Ok(if rows <= SMALL || share >= 100.0 {
        String::new()
    } else {
        format!("TABLESAMPLE SYSTEM ({share:.6})")
    })
}

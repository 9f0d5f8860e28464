//! Splitting off the later part of a running range.
//!
//! The cut is looked up before the transaction, over keys only: the row `least` places ahead is one end of what may be
//! cut, the upper key the other, and between them the median of a sample is taken. Wherever it lies, the ranges are
//! disjoint and complete; only how even the parts are is an estimate.

use std::sync::Arc;

use shardlift_domain::range::{RangeState, Rest};
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

use super::checkpoint::Claim;
use super::error::OrTrouble;
use super::fence;
use super::key::Bound;
use super::session::{QUICK, Session, within};
use super::split::{exclude, sample};
use super::walk::Walk;
use crate::engine::EngineResult;
use crate::lease::TaskLease;

/// Keys that the sample aims for, over the whole table.
const SAMPLE: f64 = 20_000.0;
/// Most keys of a sample that are looked at.
const MOST: i64 = 200_000;
/// On a shard where a look takes longer, nothing is split: the server ends it, and the walk goes on.
const PATIENCE: &str = "SET LOCAL statement_timeout = '2s'";

/// Where the range is cut: everything after this key is split off.
pub(super) async fn cut(
    session: &mut Session,
    walk: &Walk,
    after: &Bound,
    upper: &Bound,
    least: u32,
) -> EngineResult<Bound> {
    let shard = session.shard.clone();
    let mut tx = within(QUICK, session.conn.begin()).await.or_trouble(&shard)?;
    let limit = sqlx::raw_sql(PATIENCE).execute(&mut *tx);
    within(QUICK, limit).await.or_trouble(&shard)?;
    let cut = within(QUICK, look_up(&mut tx, walk, after, upper, least)).await.or_trouble(&shard)?;
    within(QUICK, tx.commit()).await.or_trouble(&shard)?;
    Ok(cut)
}

async fn look_up(
    conn: &mut PgConnection,
    walk: &Walk,
    after: &Bound,
    upper: &Bound,
    least: u32,
) -> Result<Bound, sqlx::Error> {
    let near = ahead(conn, walk, after, upper, least).await?;
    // As much again must follow, or the part is not worth a claim of its own.
    if near.is_none() || ahead(conn, walk, &near, upper, least).await?.is_none() {
        return Ok(None);
    }
    let middle = middle(conn, walk, &near, upper).await?;
    // A sampled key may be the last there is: then nothing would be split off.
    if middle.is_some() && ahead(conn, walk, &middle, upper, 1).await?.is_some() {
        return Ok(middle);
    }
    Ok(near)
}

/// The key so many places after another one, within the range. The number is bounded by the caller.
async fn ahead(
    conn: &mut PgConnection,
    walk: &Walk,
    after: &Bound,
    upper: &Bound,
    places: u32,
) -> Result<Bound, sqlx::Error> {
    let sql = format!(
        "SELECT {texts} FROM (SELECT {list} FROM {table} WHERE {interval} ORDER BY {list} OFFSET $3 LIMIT 1) w",
        texts = walk.key.texts("w"),
        list = walk.key.list(),
        table = walk.table.sql,
        interval = walk.key.between(after.is_some().then_some(1), upper.is_some().then_some(2)),
    );
    let places = i64::from(places.max(1)) - 1;
    sqlx::query_scalar(AssertSqlSafe(sql)).bind(after).bind(upper).bind(places).fetch_optional(conn).await
}

/// The median of a sample of the keys between two.
async fn middle(
    conn: &mut PgConnection,
    walk: &Walk,
    after: &Bound,
    upper: &Bound,
) -> Result<Bound, sqlx::Error> {
    let sample = sample(conn, walk, SAMPLE).await?;
    let sql = format!(
        "SELECT {texts} FROM (SELECT {list}, row_number() OVER (ORDER BY {list}) AS shardlift_n, \
             count(*) OVER () AS shardlift_all FROM \
             (SELECT {list} FROM {table} {sample} WHERE {interval} LIMIT {MOST}) s) w \
         WHERE shardlift_n = (shardlift_all + 1) / 2",
        texts = walk.key.texts("w"),
        list = walk.key.list(),
        table = walk.table.sql,
        interval = walk.key.between(after.is_some().then_some(1), upper.is_some().then_some(2)),
    );
    sqlx::query_scalar(AssertSqlSafe(sql)).bind(after).bind(upper).fetch_optional(conn).await
}

/// Cuts the range, in one transaction; `None`: the claim does not hold any more, and nothing was done.
pub(super) async fn divide(
    session: &mut Session,
    lease: &TaskLease,
    claim: &Claim,
    cut: &Bound,
) -> EngineResult<Option<Rest>> {
    let shard = session.shard.clone();
    let mut tx = within(QUICK, session.conn.begin()).await.or_trouble(&shard)?;
    fence::enter(&mut tx, &shard, lease.leader()).await?;
    // Two owners may split at once: numbers of ranges are given one after another.
    within(QUICK, exclude(&mut tx, &claim.migration)).await.or_trouble(&shard)?;
    let rest = within(QUICK, replace(&mut tx, claim, cut)).await.or_trouble(&shard)?;
    let Some(rest) = rest else { return Ok(None) };
    fail::fail_point!("pg-share-before-commit", |_| std::process::abort());
    within(QUICK, tx.commit()).await.or_trouble(&shard)?;
    fail::fail_point!("pg-share-after-commit", |_| std::process::abort());
    Ok(Some(rest))
}

async fn replace(conn: &mut PgConnection, claim: &Claim, cut: &Bound) -> Result<Option<Rest>, sqlx::Error> {
    debug_assert_eq!(Claim::PARAMETERS, 7, "the parameter below follows those of the claim");
    let sql = format!(
        "WITH held AS MATERIALIZED (SELECT c.upper_key FROM shardlift.checkpoint c WHERE {holds} FOR UPDATE), \
         shortened AS (UPDATE shardlift.checkpoint c SET upper_key = $8::text[], at = now() \
           FROM held WHERE {holds} RETURNING c.migration, c.version, c.pass, c.checksum, held.upper_key AS former) \
         INSERT INTO shardlift.checkpoint (migration, version, range_index, pass, checksum, lower_key, upper_key) \
         SELECT s.migration, s.version, 1 + (SELECT max(o.range_index) FROM shardlift.checkpoint o \
             WHERE o.migration = s.migration AND o.version = s.version), s.pass, s.checksum, $8::text[], s.former \
         FROM shortened s RETURNING range_index, pass",
        holds = Claim::HOLDS,
    );
    let row =
        claim.bind(sqlx::query(AssertSqlSafe(Arc::<str>::from(sql)))).bind(cut).fetch_optional(conn).await?;
    row.map(|row| {
        let index = u32::try_from(row.try_get::<i32, _>(0)?).unwrap_or_default();
        let pass = u32::try_from(row.try_get::<i32, _>(1)?).unwrap_or_default();
        Ok(Rest { pass, range: RangeState { index, rows: 0, seen: 0, batches: 0, done: false } })
    })
    .transpose()
}

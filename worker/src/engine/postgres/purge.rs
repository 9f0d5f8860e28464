//! Removing the before-images of a migration that is never to be rolled back: some in each transaction, until none is left.

use shardlift_domain::facts::Purged;
use shardlift_domain::fence::Fence;
use shardlift_domain::ids::MigrationKey;
use sqlx::{Connection, Row};

use super::error::OrTrouble;
use super::fence::{self, unsigned};
use super::session::{Access, QUICK, within};
use crate::engine::EngineResult;

/// Entries and rows of one transaction, at most, but for one entry more.
const SOME: &str = "\
    WITH next AS (
      SELECT u.range_index, u.batch, u.part,
             sum(u.rows) OVER (ORDER BY u.range_index, u.batch, u.part) - u.rows AS before
      FROM (SELECT range_index, batch, part, rows FROM shardlift.undo WHERE migration = $1 AND version = $2
            ORDER BY range_index, batch, part LIMIT 200) u),
    gone AS (
      DELETE FROM shardlift.undo u USING next n
      WHERE u.migration = $1 AND u.version = $2 AND u.range_index = n.range_index AND u.batch = n.batch
        AND u.part = n.part AND n.before < 20000
      RETURNING u.rows)
    SELECT coalesce(sum(rows), 0)::int8, count(*) > 0 FROM gone";

/// What is kept beside them: it holds old values too, or is of no use without them.
const FORGET: [&str; 3] = [
    "DELETE FROM shardlift.repaired WHERE migration = $1 AND version = $2",
    "DELETE FROM shardlift.difference WHERE migration = $1 AND version = $2",
    "DELETE FROM shardlift.verifying WHERE migration = $1 AND version = $2",
];

/// Removes some of them, under the shard's fence.
pub(super) async fn purge(access: &Access, leader: &Fence, migration: &MigrationKey) -> EngineResult<Purged> {
    let mut session = access.control("purge").await?;
    let shard = session.shard.clone();
    fence::raise(&mut session.conn, &shard, leader).await?;
    let mut tx = within(QUICK, session.conn.begin()).await.or_trouble(&shard)?;
    fence::enter(&mut tx, &shard, leader).await?;
    let gone = sqlx::query(SOME)
        .bind(migration.id.as_str())
        .bind(i64::from(migration.version.0))
        .fetch_one(&mut *tx);
    let gone = within(QUICK, gone).await.or_trouble(&shard)?;
    let rows = gone.try_get(0).map(unsigned).or_trouble(&shard)?;
    let more: bool = gone.try_get(1).or_trouble(&shard)?;
    if !more {
        for forget in FORGET {
            let forgotten = sqlx::query(forget)
                .bind(migration.id.as_str())
                .bind(i64::from(migration.version.0))
                .execute(&mut *tx);
            within(QUICK, forgotten).await.or_trouble(&shard)?;
        }
    }
    fail::fail_point!("pg-purge-before-commit", |_| std::process::abort());
    within(QUICK, tx.commit()).await.or_trouble(&shard)?;
    session.close().await;
    Ok(Purged { rows, more })
}

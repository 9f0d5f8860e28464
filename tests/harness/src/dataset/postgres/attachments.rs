//! The side table of many column types, and the fingerprint by which a change of an untouched column is seen.

use anyhow::Context;
use sqlx::{AssertSqlSafe, PgConnection};

const ATTACHMENTS: &str = include_str!("attachments.sql");

/// The expression over a row of `attachments` that covers every column no migration touches.
pub(super) const FINGERPRINT: &str = include_str!("fingerprint.sql");

/// Rows per shard: every combination of the cases above at least once.
const ROWS: i64 = 420;

/// Loads the attachments of one shard and fingerprints them.
pub(super) async fn load(session: &mut PgConnection, shard: i64) -> anyhow::Result<()> {
    sqlx::query(ATTACHMENTS)
        .bind(shard)
        .bind(ROWS)
        .execute(&mut *session)
        .await
        .context("loading attachments")?;
    let sql = format!("UPDATE attachments SET fingerprint = {FINGERPRINT}");
    sqlx::query(AssertSqlSafe(sql)).execute(session).await.context("fingerprinting attachments")?;
    Ok(())
}

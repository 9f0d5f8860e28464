//! The rows that a careless transform breaks on: nulls, wrong types, empty strings, extreme keys, deep
//! bodies.

use anyhow::Context;
use sqlx::{Executor, PgConnection};

const ODDITIES: &str = include_str!("oddities.sql");

/// Every shard holds the same oddities; `shard` only picks which of them is deleted, so that shards differ.
pub(super) async fn load(session: &mut PgConnection, shard: i64) -> anyhow::Result<()> {
    session.execute(ODDITIES).await.context("loading the oddities")?;
    sqlx::query("DELETE FROM messages WHERE author = 'odd' AND id = 1 + $1 % 7")
        .bind(shard)
        .execute(session)
        .await
        .context("thinning the oddities")?;
    Ok(())
}

//! Saving a table, and restoring it: COPY in its binary form, and the table's shape as SQL.

mod restore;
mod save;
mod shape;

pub(super) use restore::{restore, try_out};
pub(super) use save::save;

use shardlift_domain::ids::ShardId;
use sqlx::AssertSqlSafe;
use sqlx::PgConnection;

use super::error::OrTrouble;
use crate::backup::Subject;
use crate::engine::EngineResult;

/// The columns of a row, for a COPY.
fn columns(subject: &Subject) -> String {
    subject.columns.join(", ")
}

/// One or several statements without parameters.
async fn run(conn: &mut PgConnection, shard: &ShardId, sql: String) -> EngineResult<()> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(conn).await.or_trouble(shard).map(drop)
}

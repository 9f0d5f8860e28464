//! What is prepared in this database.

use shardlift_domain::fence::Token;
use shardlift_domain::ids::ShardId;
use shardlift_domain::prepared::{Named, PreparedTransaction, token_of};
use sqlx::{PgConnection, Row};

use super::cluster_uuid;
use crate::engine::EngineResult;
use crate::engine::postgres::bookkeeping::present;
use crate::engine::postgres::error::OrTrouble;
use crate::engine::postgres::fence::unsigned;
use crate::engine::postgres::session::{Access, QUICK, within};

/// Most prepared transactions of others that are told.
const MOST: i64 = 1000;

/// What was prepared with this prefix, oldest first, and by which hand-out.
pub(super) async fn of(conn: &mut PgConnection, prefix: &str) -> Result<Vec<(String, Token)>, sqlx::Error> {
    let gids: Vec<String> = sqlx::query_scalar(
        "SELECT gid FROM pg_prepared_xacts WHERE database = current_database() AND starts_with(gid, $1) ORDER BY prepared",
    )
    .bind(prefix)
    .fetch_all(conn)
    .await?;
    Ok(gids.into_iter().filter_map(|gid| token_of(prefix, &gid).map(|token| (gid, token))).collect())
}

/// What is prepared, for people: ours, or everybody's.
pub(in crate::engine::postgres) async fn told(
    access: &Access,
    all: bool,
) -> EngineResult<Vec<PreparedTransaction>> {
    let mut session = access.control("indoubt").await?;
    let found = within(QUICK, read(&mut session.conn, &access.shard)).await.or_trouble(&access.shard)?;
    session.close().await;
    Ok(found.into_iter().filter(|one| all || one.named.is_some()).collect())
}

async fn read(conn: &mut PgConnection, shard: &ShardId) -> Result<Vec<PreparedTransaction>, sqlx::Error> {
    let uuid = if present(&mut *conn).await? { cluster_uuid(&mut *conn).await? } else { String::new() };
    let rows = sqlx::query(
        "SELECT p.gid, (extract(epoch FROM clock_timestamp() - p.prepared) * 1000)::int8, p.owner, \
         ARRAY(SELECT DISTINCT l.mode || ' ' || n.nspname || '.' || c.relname FROM pg_locks l \
               JOIN pg_class c ON c.oid = l.relation JOIN pg_namespace n ON n.oid = c.relnamespace \
               JOIN pg_locks own ON own.virtualtransaction = l.virtualtransaction AND own.pid IS NULL \
               AND own.locktype = 'transactionid' AND own.transactionid = p.transaction \
               WHERE l.locktype = 'relation' AND l.pid IS NULL \
               AND n.nspname NOT IN ('pg_catalog', 'pg_toast', 'shardlift') ORDER BY 1 LIMIT 50) \
         FROM pg_prepared_xacts p WHERE p.database = current_database() ORDER BY p.prepared LIMIT $1",
    )
    .bind(MOST)
    .fetch_all(conn)
    .await?;
    rows.iter()
        .map(|row| {
            let gid: String = row.try_get(0)?;
            let named = Named::read(&uuid, shard, &gid).filter(|_| !uuid.is_empty());
            let age_ms = unsigned(row.try_get(1)?);
            Ok(PreparedTransaction { gid, age_ms, owner: row.try_get(2)?, named, locks: row.try_get(3)? })
        })
        .collect()
}

//! Shardlift's own tables in a shard: made where they are missing, and the proof that this database is the shard.

use shardlift_domain::failure::{ErrorCode, Failure};
use sqlx::{Connection, PgConnection, Row};

use super::error::OrTrouble;
use super::session::{QUICK, Session, within};
use crate::engine::{EngineError, EngineResult};

/// Every edition of the tables, oldest first. Each is released once and never changed.
const EDITIONS: [&str; 9] = [
    include_str!("bookkeeping/0001.sql"),
    include_str!("bookkeeping/0002.sql"),
    include_str!("bookkeeping/0003.sql"),
    include_str!("bookkeeping/0004.sql"),
    include_str!("bookkeeping/0005.sql"),
    include_str!("bookkeeping/0006.sql"),
    include_str!("bookkeeping/0007.sql"),
    include_str!("bookkeeping/0008.sql"),
    include_str!("bookkeeping/0009.sql"),
];
/// Two workers may begin at once: one waits for the other.
const LOCK: &str = "SELECT pg_advisory_xact_lock(hashtextextended('shardlift bookkeeping', 0))";

/// Makes the tables, then writes or compares the identity.
pub(super) async fn identify(session: &mut Session, cluster_uuid: &str) -> EngineResult<()> {
    let shard = session.shard.clone();
    let edition = within(QUICK, edition(&mut session.conn)).await.or_trouble(&shard)?;
    if edition < latest() {
        within(QUICK, upgrade(&mut session.conn)).await.or_trouble(&shard)?;
    } else if edition > latest() {
        return Err(EngineError::Failed(
            Failure::new(
                ErrorCode::ShardRefused,
                format!("Shardlift's tables on shard {shard} are of a newer release (edition {edition})"),
                "upgrade this worker",
            )
            .on_shard(&shard),
        ));
    }
    let (seen_uuid, seen_shard) =
        within(QUICK, claim_identity(&mut session.conn, cluster_uuid, shard.as_str()))
            .await
            .or_trouble(&shard)?;
    if seen_uuid == cluster_uuid && seen_shard == shard.as_str() {
        return Ok(());
    }
    let whose = if seen_uuid == cluster_uuid { "this installation" } else { "another installation" };
    Err(EngineError::Failed(
        Failure::new(
            ErrorCode::ShardWrongIdentity,
            format!(
                "the database behind the dsn of shard {shard} (installation {cluster_uuid}) is shard {seen_shard} of \
                 {whose} ({seen_uuid})"
            ),
            "correct the dsn; if the database is a copy that begins a life of its own, drop its schema shardlift",
        )
        .on_shard(&shard),
    ))
}

/// Whether the tables are there at all. Asks the catalog itself: `to_regclass` may answer from a cache that was filled
/// before this session waited for [`LOCK`], and would then not see what the other worker has made.
pub(super) async fn present(conn: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname = 'shardlift' AND c.relname = 'bookkeeping')",
    )
    .fetch_one(conn)
    .await
}

fn latest() -> i32 {
    i32::try_from(EDITIONS.len()).unwrap_or(i32::MAX)
}

async fn edition(conn: &mut PgConnection) -> Result<i32, sqlx::Error> {
    if !present(&mut *conn).await? {
        return Ok(0);
    }
    sqlx::query_scalar("SELECT coalesce(max(version), 0) FROM shardlift.bookkeeping").fetch_one(conn).await
}

async fn upgrade(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    let mut tx = conn.begin().await?;
    sqlx::query(LOCK).execute(&mut *tx).await?;
    let from = edition(&mut tx).await?;
    for (version, statements) in (1_i32..).zip(EDITIONS).skip(usize::try_from(from).unwrap_or_default()) {
        sqlx::raw_sql(statements).execute(&mut *tx).await?;
        sqlx::query("INSERT INTO shardlift.bookkeeping (version) VALUES ($1)")
            .bind(version)
            .execute(&mut *tx)
            .await?;
    }
    tx.commit().await
}

/// The identity that is there, written now if there was none.
async fn claim_identity(
    conn: &mut PgConnection,
    cluster_uuid: &str,
    shard: &str,
) -> Result<(String, String), sqlx::Error> {
    if let Some(found) = identity(&mut *conn).await? {
        return Ok(found);
    }
    let mut tx = conn.begin().await?;
    sqlx::query(LOCK).execute(&mut *tx).await?;
    if let Some(found) = identity(&mut tx).await? {
        return Ok(found);
    }
    sqlx::query("INSERT INTO shardlift.identity (cluster_uuid, shard) VALUES ($1, $2)")
        .bind(cluster_uuid)
        .bind(shard)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok((cluster_uuid.to_owned(), shard.to_owned()))
}

async fn identity(conn: &mut PgConnection) -> Result<Option<(String, String)>, sqlx::Error> {
    let row = sqlx::query("SELECT cluster_uuid, shard FROM shardlift.identity").fetch_optional(conn).await?;
    row.map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).transpose()
}

//! What a person may ask about rows that were set aside, and decide.
//!
//! A decision changes Shardlift's own table only; what follows for the migration is the coordinator's.

use shardlift_domain::fence::Fence;
use shardlift_domain::ids::MigrationKey;
use shardlift_domain::quarantine::{
    Held, IMAGE_PART, QUARANTINE_PAGE, QuarantineAnswer, QuarantineAsk, QuarantineRequest, QuarantinedRow,
};
use sqlx::postgres::PgRow;
use sqlx::{Connection, PgConnection, Row};

use super::error::OrTrouble;
use super::fence::{self, unsigned};
use super::session::{Access, QUICK, Session, within};
use super::split::exclude;
use crate::engine::{EngineResult, not_in_quarantine};

/// How many rows of the migration are set aside.
pub(super) async fn held(conn: &mut PgConnection, migration: &MigrationKey) -> Result<Held, sqlx::Error> {
    let row = sqlx::query(
        "SELECT count(*) FILTER (WHERE state = 'held'), count(*) FILTER (WHERE state = 'discarded') \
         FROM shardlift.quarantine WHERE migration = $1 AND version = $2",
    )
    .bind(migration.id.as_str())
    .bind(i64::from(migration.version.0))
    .fetch_one(conn)
    .await?;
    Ok(Held { rows: unsigned(row.try_get(0)?), discarded: unsigned(row.try_get(1)?) })
}

/// Answers a question, or carries out a decision.
pub(super) async fn answer(
    access: &Access,
    leader: &Fence,
    request: &QuarantineRequest,
) -> EngineResult<QuarantineAnswer> {
    let mut session = access.control("quarantine").await?;
    let shard = session.shard.clone();
    let migration = &request.migration;
    let answer = match &request.ask {
        QuarantineAsk::List { after, limit } => {
            let page = list(&mut session.conn, migration, after.as_deref(), *limit);
            within(QUICK, page).await.or_trouble(&shard)?
        }
        QuarantineAsk::Show { key, offset } => {
            let part = show(&mut session.conn, migration, key, *offset);
            let part = within(QUICK, part).await.or_trouble(&shard)?;
            part.ok_or_else(|| not_in_quarantine(std::slice::from_ref(key)))?
        }
        QuarantineAsk::Retry(keys) => decide(&mut session, leader, migration, keys, "retried").await?,
        QuarantineAsk::Discard(keys) => decide(&mut session, leader, migration, keys, "discarded").await?,
    };
    session.close().await;
    Ok(answer)
}

async fn list(
    conn: &mut PgConnection,
    migration: &MigrationKey,
    after: Option<&str>,
    limit: u32,
) -> Result<QuarantineAnswer, sqlx::Error> {
    let limit = limit.clamp(1, QUARANTINE_PAGE);
    let rows = sqlx::query(
        "SELECT shown, class, message, attempts, state = 'discarded', \
           to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') \
         FROM shardlift.quarantine WHERE migration = $1 AND version = $2 AND state <> 'retried' \
           AND ($3::text IS NULL OR shown COLLATE \"C\" > $3::text COLLATE \"C\") \
         ORDER BY shown COLLATE \"C\" LIMIT $4",
    )
    .bind(migration.id.as_str())
    .bind(i64::from(migration.version.0))
    .bind(after)
    .bind(i64::from(limit) + 1)
    .fetch_all(conn)
    .await?;
    let mut rows = rows.iter().map(entry).collect::<Result<Vec<_>, _>>()?;
    let more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    let next = rows.last().filter(|_| more).map(|row| row.key.clone());
    Ok(QuarantineAnswer::Page { rows, next })
}

fn entry(row: &PgRow) -> Result<QuarantinedRow, sqlx::Error> {
    Ok(QuarantinedRow {
        key: row.try_get(0)?,
        class: row.try_get(1)?,
        message: row.try_get(2)?,
        attempts: u32::try_from(row.try_get::<i32, _>(3)?).unwrap_or_default(),
        discarded: row.try_get(4)?,
        at: row.try_get(5)?,
    })
}

async fn show(
    conn: &mut PgConnection,
    migration: &MigrationKey,
    key: &str,
    offset: u64,
) -> Result<Option<QuarantineAnswer>, sqlx::Error> {
    let row = sqlx::query(
        "SELECT substring(bytes FROM $4::int4 FOR $5::int4), octet_length(bytes)::int8 \
         FROM (SELECT convert_to(jsonb_pretty(image), 'UTF8') AS bytes FROM shardlift.quarantine \
           WHERE migration = $1 AND version = $2 AND shown = $3 AND state <> 'retried' LIMIT 1) image",
    )
    .bind(migration.id.as_str())
    .bind(i64::from(migration.version.0))
    .bind(key)
    .bind(i64::try_from(offset.saturating_add(1)).unwrap_or(i64::MAX))
    .bind(i64::try_from(IMAGE_PART).unwrap_or(i64::MAX))
    .fetch_optional(conn)
    .await?;
    row.map(|row| Ok(QuarantineAnswer::Image { bytes: row.try_get(0)?, total: unsigned(row.try_get(1)?) }))
        .transpose()
}

/// For all of these rows or, if one is not there, for none.
async fn decide(
    session: &mut Session,
    leader: &Fence,
    migration: &MigrationKey,
    keys: &[String],
    to: &str,
) -> EngineResult<QuarantineAnswer> {
    let shard = session.shard.clone();
    fence::raise(&mut session.conn, &shard, leader).await?;
    let mut tx = within(QUICK, session.conn.begin()).await.or_trouble(&shard)?;
    fence::enter(&mut tx, &shard, leader).await?;
    within(QUICK, exclude(&mut tx, migration)).await.or_trouble(&shard)?;
    let moved = sqlx::query_scalar::<_, String>(
        "UPDATE shardlift.quarantine SET state = $4 WHERE migration = $1 AND version = $2 AND state = 'held' \
         AND (cardinality($3::text[]) = 0 OR shown = ANY ($3::text[])) RETURNING shown",
    )
    .bind(migration.id.as_str())
    .bind(i64::from(migration.version.0))
    .bind(keys)
    .bind(to)
    .fetch_all(&mut *tx);
    let moved = within(QUICK, moved).await.or_trouble(&shard)?;
    let missing: Vec<String> = keys.iter().filter(|key| !moved.contains(key)).cloned().collect();
    if !missing.is_empty() {
        return Err(not_in_quarantine(&missing));
    }
    let held = within(QUICK, held(&mut tx, migration)).await.or_trouble(&shard)?;
    within(QUICK, tx.commit()).await.or_trouble(&shard)?;
    Ok(QuarantineAnswer::Decided { rows: moved.len() as u64, held })
}

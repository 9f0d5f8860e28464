//! What sinks were told, and what was heard, as rows.

use shardlift_domain::MigrationId;
use sqlx::PgConnection;

use super::super::error::answered;
use super::super::rows::{counted, stored_number, time_text};
use super::super::tables::{self, HistoryRow};
use super::super::{Change, HistoryEvent, Position, Recorded, StoreError};

/// Writes both; the caller's transaction holds the fence row.
pub(super) async fn write(
    connection: &mut PgConnection,
    change: &Change,
    now: &str,
) -> Result<(), StoreError> {
    if let Some(relayed) = &change.relayed {
        let write = sqlx::query(
            "INSERT INTO shardlift_coordinator.outbox AS o (sink, position, told_at) VALUES ($1, $2, $3::timestamptz) \
             ON CONFLICT (sink) DO UPDATE SET position = greatest(o.position, excluded.position), told_at = excluded.told_at",
        )
        .bind(&relayed.sink)
        .bind(stored_number(relayed.position))
        .bind(now)
        .execute(&mut *connection);
        answered("write what a sink was told", write).await?;
    }
    let Some(heard) = &change.heard else { return Ok(()) };
    let forget = sqlx::query("DELETE FROM shardlift_coordinator.heard WHERE heard_at < $1::timestamptz")
        .bind(time_text(heard.horizon()))
        .execute(&mut *connection);
    answered("forget old requests", forget).await?;
    let write = sqlx::query(
        "INSERT INTO shardlift_coordinator.heard (source, id, heard_at) VALUES ($1, $2, $3::timestamptz) \
         ON CONFLICT (source, id) DO NOTHING",
    )
    .bind(&heard.source)
    .bind(&heard.id)
    .bind(time_text(heard.at))
    .execute(connection);
    let written = answered("write that a request was heard", write).await?.rows_affected();
    if written == 1 { Ok(()) } else { Err(StoreError::already_heard(heard)) }
}

/// Where a sink stands.
pub(super) async fn position(connection: &mut PgConnection, sink: &str) -> Result<Position, StoreError> {
    let select = sqlx::query_as(
        "SELECT (SELECT position FROM shardlift_coordinator.outbox WHERE sink = $1), \
         (SELECT coalesce(max(id), 0) FROM shardlift_coordinator.migration_history)",
    )
    .bind(sink)
    .fetch_one(connection);
    let (told, newest): (Option<i64>, i64) = answered("read what a sink was told", select).await?;
    Ok(Position { told: told.map(counted), newest: counted(newest) })
}

/// Entries of these kinds behind a sequence.
pub(super) async fn told(
    connection: &mut PgConnection,
    kinds: &[HistoryEvent],
    after: u64,
    limit: u32,
) -> Result<Vec<Recorded>, StoreError> {
    let select = sqlx::query_as::<_, HistoryRow>(
        "SELECT h.id, m.name, m.version, h.event_type, \
         to_char(h.created_at, 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') AS created_at, h.actor, h.request, h.details::text AS details \
         FROM shardlift_coordinator.migration_history h \
         JOIN shardlift_coordinator.migrations m ON m.id = h.migration_id \
         WHERE h.id > $1 AND h.event_type = ANY($2) ORDER BY h.id LIMIT $3",
    )
    .bind(stored_number(after))
    .bind(words(kinds))
    .bind(i64::from(limit))
    .fetch_all(connection);
    answered("read what is to be told", select).await?.into_iter().map(tables::entry).collect()
}

/// How many entries of these kinds a migration has.
pub(super) async fn count(
    connection: &mut PgConnection,
    id: &MigrationId,
    kinds: &[HistoryEvent],
    up_to: u64,
) -> Result<u64, StoreError> {
    let select = sqlx::query_scalar(
        "SELECT count(*) FROM shardlift_coordinator.migration_history h \
         JOIN shardlift_coordinator.migrations m ON m.id = h.migration_id \
         WHERE m.name = $1 AND h.id <= $2 AND h.event_type = ANY($3)",
    )
    .bind(id.as_str())
    .bind(stored_number(up_to))
    .bind(words(kinds))
    .fetch_one(connection);
    Ok(counted(answered("count what is told", select).await?))
}

/// Whether a request was carried out.
pub(super) async fn has_heard(
    connection: &mut PgConnection,
    source: &str,
    id: &str,
) -> Result<bool, StoreError> {
    let select = sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM shardlift_coordinator.heard WHERE source = $1 AND id = $2)",
    )
    .bind(source)
    .bind(id)
    .fetch_one(connection);
    answered("look for a request", select).await
}

fn words(kinds: &[HistoryEvent]) -> Vec<&'static str> {
    kinds.iter().map(|kind| kind.as_str()).collect()
}

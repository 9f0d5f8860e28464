//! What sinks were told, and what was heard, as rows.

use shardlift_domain::MigrationId;
use sqlx::SqliteConnection;

use super::super::rows::{counted, json, stored_number, time_text};
use super::super::tables::{self, HistoryRow};
use super::super::{Change, HistoryEvent, Position, Recorded, StoreError};

/// Writes both; the caller's transaction has checked the fence.
pub(super) async fn write(
    connection: &mut SqliteConnection,
    change: &Change,
    now: &str,
) -> Result<(), StoreError> {
    if let Some(relayed) = &change.relayed {
        sqlx::query(
            "INSERT INTO outbox (sink, position, told_at) VALUES (?, ?, ?) \
             ON CONFLICT (sink) DO UPDATE SET position = max(position, excluded.position), told_at = excluded.told_at",
        )
        .bind(&relayed.sink)
        .bind(stored_number(relayed.position))
        .bind(now)
        .execute(&mut *connection)
        .await
        .map_err(StoreError::unavailable("write what a sink was told"))?;
    }
    let Some(heard) = &change.heard else { return Ok(()) };
    sqlx::query("DELETE FROM heard WHERE heard_at < ?")
        .bind(time_text(heard.horizon()))
        .execute(&mut *connection)
        .await
        .map_err(StoreError::unavailable("forget old requests"))?;
    let written = sqlx::query(
        "INSERT INTO heard (source, id, heard_at) VALUES (?, ?, ?) ON CONFLICT (source, id) DO NOTHING",
    )
    .bind(&heard.source)
    .bind(&heard.id)
    .bind(time_text(heard.at))
    .execute(connection)
    .await
    .map_err(StoreError::unavailable("write that a request was heard"))?;
    if written.rows_affected() == 1 { Ok(()) } else { Err(StoreError::already_heard(heard)) }
}

/// Where a sink stands.
pub(super) async fn position(connection: &mut SqliteConnection, sink: &str) -> Result<Position, StoreError> {
    let select = sqlx::query_as(
        "SELECT (SELECT position FROM outbox WHERE sink = ?), (SELECT coalesce(max(id), 0) FROM migration_history)",
    );
    let found: Result<(Option<i64>, i64), _> = select.bind(sink).fetch_one(connection).await;
    let (told, newest) = found.map_err(StoreError::unavailable("read what a sink was told"))?;
    Ok(Position { told: told.map(counted), newest: counted(newest) })
}

/// Entries of these kinds behind a sequence.
pub(super) async fn told(
    connection: &mut SqliteConnection,
    kinds: &[HistoryEvent],
    after: u64,
    limit: u32,
) -> Result<Vec<Recorded>, StoreError> {
    let rows: Result<Vec<HistoryRow>, _> = sqlx::query_as(
        "SELECT h.id, m.name, m.version, h.event_type, h.created_at, h.actor, h.request, h.details \
         FROM migration_history h JOIN migrations m ON m.id = h.migration_id \
         WHERE h.id > ? AND h.event_type IN (SELECT value FROM json_each(?)) ORDER BY h.id LIMIT ?",
    )
    .bind(stored_number(after))
    .bind(json("migration_history.event_type", &kinds)?)
    .bind(limit)
    .fetch_all(connection)
    .await;
    rows.map_err(StoreError::unavailable("read what is to be told"))?.into_iter().map(tables::entry).collect()
}

/// How many entries of these kinds a migration has.
pub(super) async fn count(
    connection: &mut SqliteConnection,
    id: &MigrationId,
    kinds: &[HistoryEvent],
    up_to: u64,
) -> Result<u64, StoreError> {
    let found: Result<i64, _> = sqlx::query_scalar(
        "SELECT count(*) FROM migration_history h JOIN migrations m ON m.id = h.migration_id \
         WHERE m.name = ? AND h.id <= ? AND h.event_type IN (SELECT value FROM json_each(?))",
    )
    .bind(id.as_str())
    .bind(stored_number(up_to))
    .bind(json("migration_history.event_type", &kinds)?)
    .fetch_one(connection)
    .await;
    found.map(counted).map_err(StoreError::unavailable("count what is told"))
}

/// Whether a request was carried out.
pub(super) async fn has_heard(
    connection: &mut SqliteConnection,
    source: &str,
    id: &str,
) -> Result<bool, StoreError> {
    sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM heard WHERE source = ? AND id = ?)")
        .bind(source)
        .bind(id)
        .fetch_one(connection)
        .await
        .map_err(StoreError::unavailable("look for a request"))
}

//! What was decided about prepared transactions.

use shardlift_domain::migration::{Decision, Migration};
use shardlift_domain::{Epoch, MigrationKey};
use sqlx::SqliteConnection;

use super::super::StoreError;
use super::super::rows::{json, stored_number};
use super::super::tables::{DecisionRow, decision};

/// The decision of a migration as it is now, or that there is none.
pub(super) async fn write(
    connection: &mut SqliteConnection,
    id: i64,
    migration: &Migration,
    epoch: Epoch,
    now: &str,
) -> Result<(), StoreError> {
    if !migration.atomic {
        return Ok(());
    }
    let Some(decided) = &migration.decision else {
        let clear = sqlx::query("DELETE FROM decisions WHERE migration_id = ?").bind(id).execute(connection);
        return clear.await.map(drop).map_err(StoreError::unavailable("clear a decision"));
    };
    sqlx::query(
        "INSERT INTO decisions (migration_id, decision, content, epoch, decided_at) VALUES (?, ?, ?, ?, ?) \
         ON CONFLICT (migration_id) DO UPDATE SET decision = excluded.decision, content = excluded.content, \
         epoch = excluded.epoch, decided_at = excluded.decided_at WHERE content <> excluded.content",
    )
    .bind(id)
    .bind(decided.as_str())
    .bind(json("decisions.content", decided)?)
    .bind(stored_number(epoch.0))
    .bind(now)
    .execute(connection)
    .await
    .map(drop)
    .map_err(StoreError::unavailable("write a decision"))
}

/// All of them.
pub(super) async fn read(
    connection: &mut SqliteConnection,
) -> Result<Vec<(MigrationKey, Decision)>, StoreError> {
    let rows: Vec<DecisionRow> = sqlx::query_as(
        "SELECT m.name, m.version, d.content FROM decisions d JOIN migrations m ON m.id = d.migration_id",
    )
    .fetch_all(connection)
    .await
    .map_err(StoreError::unavailable("read the decisions"))?;
    rows.iter().map(decision).collect()
}

//! What was decided about prepared transactions.

use shardlift_domain::migration::{Decision, Migration};
use shardlift_domain::{Epoch, MigrationKey};
use sqlx::PgConnection;

use super::super::StoreError;
use super::super::error::answered;
use super::super::rows::{json, stored_number};
use super::super::tables::{DecisionRow, decision};

/// The decision of a migration as it is now, or that there is none.
pub(super) async fn write(
    connection: &mut PgConnection,
    id: i64,
    migration: &Migration,
    epoch: Epoch,
    now: &str,
) -> Result<(), StoreError> {
    if !migration.atomic {
        return Ok(());
    }
    let Some(decided) = &migration.decision else {
        let clear = sqlx::query("DELETE FROM shardlift_coordinator.decisions WHERE migration_id = $1");
        return answered("clear a decision", clear.bind(id).execute(connection)).await.map(drop);
    };
    let write = sqlx::query(
        "INSERT INTO shardlift_coordinator.decisions AS d (migration_id, decision, content, epoch, decided_at) \
         VALUES ($1, $2, $3::json, $4, $5::timestamptz) \
         ON CONFLICT (migration_id) DO UPDATE SET decision = excluded.decision, content = excluded.content, \
         epoch = excluded.epoch, decided_at = excluded.decided_at WHERE d.content::text <> excluded.content::text",
    )
    .bind(id)
    .bind(decided.as_str())
    .bind(json("decisions.content", decided)?)
    .bind(stored_number(epoch.0))
    .bind(now)
    .execute(connection);
    answered("write a decision", write).await.map(drop)
}

/// All of them.
pub(super) async fn read(connection: &mut PgConnection) -> Result<Vec<(MigrationKey, Decision)>, StoreError> {
    let select = "SELECT m.name, m.version, d.content::text AS content FROM shardlift_coordinator.decisions d \
                  JOIN shardlift_coordinator.migrations m ON m.id = d.migration_id";
    let rows: Vec<DecisionRow> =
        answered("read the decisions", sqlx::query_as(select).fetch_all(connection)).await?;
    rows.iter().map(decision).collect()
}

//! The ledger and the intents of one schema migration: what has been applied, and how far a list of statements is.

use shardlift_domain::fence::Epoch;
use shardlift_domain::ids::{Checksum, MigrationKey};
use sqlx::{PgConnection, Row};

use super::error::OrTrouble;
use super::fence::signed;
use super::session::{QUICK, Session, within};
use super::split::same_content;
use crate::engine::{self, Direction, EngineResult};

/// Whether the ledger has the migration. Another content is a conflict.
pub(super) async fn applied(
    session: &mut Session,
    migration: &MigrationKey,
    direction: Direction,
    ours: &Checksum,
) -> EngineResult<bool> {
    let shard = session.shard.clone();
    let entry = within(QUICK, entry(&mut session.conn, migration, direction)).await.or_trouble(&shard)?;
    let Some(theirs) = entry else { return Ok(false) };
    same_content(&shard, migration, ours, &theirs).map(|()| true)
}

/// The checksum in the ledger.
pub(super) async fn entry(
    conn: &mut PgConnection,
    migration: &MigrationKey,
    direction: Direction,
) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT checksum FROM shardlift.applied WHERE migration = $1 AND version = $2 AND direction = $3",
    )
    .bind(migration.id.as_str())
    .bind(i64::from(migration.version.0))
    .bind(direction.as_str())
    .fetch_optional(conn)
    .await
}

/// Writes the ledger's line.
pub(super) async fn record(
    conn: &mut PgConnection,
    (migration, direction): (&MigrationKey, Direction),
    checksum: &Checksum,
    epoch: Epoch,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO shardlift.applied (migration, version, checksum, epoch, direction) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(migration.id.as_str())
    .bind(i64::from(migration.version.0))
    .bind(checksum.as_str())
    .bind(signed(epoch.0))
    .bind(direction.as_str())
    .execute(conn)
    .await
    .map(drop)
}

/// Whether the migration was taken back, or that was begun: `up` must not come late.
pub(super) async fn taken_back(
    conn: &mut PgConnection,
    migration: &MigrationKey,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM shardlift.applied WHERE migration = $1 AND version = $2 AND direction = 'down') \
         OR EXISTS (SELECT FROM shardlift.intent WHERE migration = $1 AND version = $2 AND direction = 'down')",
    )
    .bind(migration.id.as_str())
    .bind(i64::from(migration.version.0))
    .fetch_one(conn)
    .await
}

/// What was taken back, or is about to be, is not applied any more: neither by a late hand-out nor by a store that does not know it.
pub(super) async fn still_open(session: &mut Session, migration: &MigrationKey) -> EngineResult<()> {
    let shard = session.shard.clone();
    let back = within(QUICK, taken_back(&mut session.conn, migration)).await.or_trouble(&shard)?;
    if back { Err(engine::taken_back(migration)) } else { Ok(()) }
}

/// Whether any part of `up` was applied that the ledger does not tell of as a whole.
pub(super) async fn begun(conn: &mut PgConnection, migration: &MigrationKey) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM shardlift.intent WHERE migration = $1 AND version = $2 AND direction = 'up')",
    )
    .bind(migration.id.as_str())
    .bind(i64::from(migration.version.0))
    .fetch_one(conn)
    .await
}

/// The server processes that were applying it when they were last heard of.
pub(super) async fn appliers(
    conn: &mut PgConnection,
    migration: &MigrationKey,
) -> Result<Vec<(i32, String)>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT pid, backend_start::text FROM shardlift.intent \
         WHERE migration = $1 AND version = $2 AND direction = 'up' AND NOT done AND pid IS NOT NULL",
    )
    .bind(migration.id.as_str())
    .bind(i64::from(migration.version.0))
    .fetch_all(conn)
    .await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// That a statement, or a group of them, was begun or done.
pub(super) struct Intent {
    pub(super) done: bool,
    /// The server process that ran it.
    pub(super) owner: Option<(i32, String)>,
    pub(super) checksum: String,
}

/// Reads the intent of a group; it is named by the position of its first statement.
pub(super) async fn intent(
    conn: &mut PgConnection,
    migration: &MigrationKey,
    direction: Direction,
    position: usize,
) -> Result<Option<Intent>, sqlx::Error> {
    let row = sqlx::query(
        "SELECT done, pid, backend_start::text, checksum FROM shardlift.intent \
         WHERE migration = $1 AND version = $2 AND direction = $4 AND position = $3",
    )
    .bind(migration.id.as_str())
    .bind(i64::from(migration.version.0))
    .bind(number(position))
    .bind(direction.as_str())
    .fetch_optional(conn)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let pid: Option<i32> = row.try_get(1)?;
    let started: Option<String> = row.try_get(2)?;
    Ok(Some(Intent { done: row.try_get(0)?, owner: pid.zip(started), checksum: row.try_get(3)? }))
}

/// Whose intent is written.
pub(super) struct Author<'a> {
    pub(super) migration: &'a MigrationKey,
    pub(super) direction: Direction,
    pub(super) checksum: &'a Checksum,
    pub(super) epoch: Epoch,
    pub(super) pid: i32,
    pub(super) backend_start: &'a str,
}

impl Author<'_> {
    /// Writes that the group is begun (`done` false) or done. The caller holds the migration's lock.
    pub(super) async fn write(
        &self,
        conn: &mut PgConnection,
        position: usize,
        done: bool,
    ) -> Result<(), sqlx::Error> {
        let known = intent(&mut *conn, self.migration, self.direction, position).await?.is_some();
        let statement = if known {
            "UPDATE shardlift.intent SET done = $4, checksum = $5, epoch = $6, pid = $7, \
             backend_start = $8::timestamptz, at = now() \
             WHERE migration = $1 AND version = $2 AND direction = $9 AND position = $3"
        } else {
            "INSERT INTO shardlift.intent \
             (migration, version, direction, position, done, checksum, epoch, pid, backend_start) \
             VALUES ($1, $2, $9, $3, $4, $5, $6, $7, $8::timestamptz)"
        };
        sqlx::query(statement)
            .bind(self.migration.id.as_str())
            .bind(i64::from(self.migration.version.0))
            .bind(number(position))
            .bind(done)
            .bind(self.checksum.as_str())
            .bind(signed(self.epoch.0))
            .bind(self.pid)
            .bind(self.backend_start)
            .bind(self.direction.as_str())
            .execute(conn)
            .await
            .map(drop)
    }
}

fn number(position: usize) -> i64 {
    i64::try_from(position).unwrap_or(i64::MAX)
}

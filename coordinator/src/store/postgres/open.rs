//! Bringing the schema up to this release, with an answer that helps when that cannot be done.

use std::time::Duration;

use shardlift_runtime::retry::{Policy, retry};
use sqlx::PgConnection;
use sqlx::migrate::{MigrateError, Migrator};
use tokio_util::sync::CancellationToken;

use super::super::StoreError;
use super::super::error::answered;
use super::session::Sessions;

/// A server that is not there yet may come: coordinator and database are often started together.
const PATIENCE: Policy = Policy {
    first: Duration::from_millis(100),
    longest: Duration::from_secs(2),
    total: Some(Duration::from_secs(20)),
};

/// How long all numbers may take, and the wait for another coordinator that applies them.
const ALL: Duration = Duration::from_secs(60);

/// Applies the numbers that are missing, one coordinator at a time.
pub(super) async fn prepare(sessions: &Sessions) -> Result<(), StoreError> {
    retry(&PATIENCE, &CancellationToken::new(), || attempt(sessions)).await
}

async fn attempt(sessions: &Sessions) -> Result<(), StoreError> {
    let mut connection = sessions.connect().await.map_err(|error| explained(sessions, error))?;
    // The lock of the migrator is waited for in one statement; the future's own limit ends it.
    let patient = sqlx::raw_sql("SET statement_timeout = 0; SET lock_timeout = 0").execute(&mut connection);
    answered("set its session up", patient).await?;
    let tables = tables(&mut connection).await?;
    // `run` asks for a connection of any lifetime, which no future that must be `Send` can promise.
    match tokio::time::timeout(ALL, tables.run_direct(None, &mut connection, false)).await {
        Ok(done) => done.map_err(|error| cannot_prepare(sessions, error)),
        Err(_) => Err(StoreError::silent("prepare its tables")),
    }
}

/// The numbered files. Making the schema needs a privilege that is not asked for when somebody made it already.
async fn tables(connection: &mut PgConnection) -> Result<Migrator, StoreError> {
    let mut tables = sqlx::migrate!("../migrations/metadata/postgres");
    tables.dangerous_set_table_name("shardlift_coordinator._sqlx_migrations");
    let there = sqlx::query_scalar("SELECT to_regnamespace('shardlift_coordinator') IS NOT NULL");
    let there: bool = answered("look for its schema", there.fetch_one(connection)).await?;
    if !there {
        tables.create_schema("shardlift_coordinator");
    }
    Ok(tables)
}

/// What only a person can mend is told apart from what passes; see the server's `errcodes` (class 28, 3D, 42501).
fn explained(sessions: &Sessions, error: StoreError) -> StoreError {
    let StoreError::Unavailable { source, .. } = &error else { return error };
    let Some(sqlx::Error::Database(told)) = source.downcast_ref::<sqlx::Error>() else { return error };
    let why = match told.code().as_deref() {
        Some("28000" | "28P01") => "the server refuses this user or password",
        Some("3D000") => "there is no such database; create it",
        Some("42501") => {
            "this user lacks the privilege; let it create a schema, or create `shardlift_coordinator` for it"
        }
        _ => return error,
    };
    location(sessions, why)
}

fn location(sessions: &Sessions, why: impl Into<String>) -> StoreError {
    StoreError::Location { place: sessions.place(), why: why.into() }
}

fn cannot_prepare(sessions: &Sessions, error: MigrateError) -> StoreError {
    match error {
        MigrateError::Execute(source) | MigrateError::ExecuteMigration(source, _) => {
            explained(sessions, StoreError::unavailable("prepare its tables")(source))
        }
        MigrateError::VersionMissing(number) => {
            location(sessions, format!("a newer release has used it (its tables are at number {number})"))
        }
        other => location(sessions, format!("its tables are not those of this release: {other}")),
    }
}

//! Opening the file, with an answer that helps when it cannot be opened.

use std::path::Path;
use std::time::Duration;

use shardlift_runtime::retry::{Policy, retry};
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection, SqlitePool};
use tokio_util::sync::CancellationToken;

use super::super::StoreError;

static TABLES: Migrator = sqlx::migrate!("../migrations/metadata/sqlite");

/// How long a statement waits for another process that writes to the file.
const BUSY: Duration = Duration::from_secs(5);

/// Coordinators that make a new file at the same moment get in each other's way: the turn to the write-ahead log takes
/// the whole file and does not wait for the others, whatever the busy timeout is, and so do the tables once.
const PATIENCE: Policy = Policy {
    first: Duration::from_millis(50),
    longest: Duration::from_millis(500),
    total: Some(Duration::from_secs(5)),
};

/// The pool for writing and the one for reading.
pub(super) async fn open(path: &Path) -> Result<(SqlitePool, SqlitePool), StoreError> {
    check_place(path)?;
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        // An acknowledged commit survives a power cut: NORMAL would lose the last ones.
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY)
        .foreign_keys(true);
    let pool = |connections| {
        SqlitePoolOptions::new()
            .max_connections(connections)
            .idle_timeout(None)
            .max_lifetime(None)
            // When the disk is full, SQLite ends a transaction by itself. The driver counts it as open for ever after,
            // and could not begin another one.
            .before_acquire(|connection, _| Box::pin(async { Ok(!connection.is_in_transaction()) }))
    };
    let refused = |error| cannot_open(path, error);
    let reading = options.clone().pragma("query_only", "ON");
    let open = || async {
        let writer = pool(1).connect_with(options.clone()).await.map_err(refused)?;
        TABLES.run(&writer).await.map_err(|error| cannot_prepare(path, error))?;
        let reader = pool(4).connect_with(reading.clone()).await.map_err(refused)?;
        Ok((writer, reader))
    };
    retry(&PATIENCE, &CancellationToken::new(), open).await
}

fn location(path: &Path, why: impl Into<String>) -> StoreError {
    StoreError::Location { place: path.display().to_string(), why: why.into() }
}

fn check_place(path: &Path) -> Result<(), StoreError> {
    if path.as_os_str().is_empty() || path.to_string_lossy().starts_with(':') {
        return Err(location(path, "the name of a file is needed"));
    }
    if path.is_dir() {
        return Err(location(path, "it is a directory; the name of a file is needed"));
    }
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() && !parent.is_dir() => {
            Err(location(path, format!("the directory {} does not exist; create it", parent.display())))
        }
        _ => Ok(()),
    }
}

/// SQLite's own result codes; see <https://www.sqlite.org/rescode.html>.
fn cannot_open(path: &Path, error: sqlx::Error) -> StoreError {
    let code = error.as_database_error().and_then(|error| error.code()).unwrap_or_default();
    match code.parse::<u32>().unwrap_or_default() & 0xff {
        8 => location(path, "it is read-only for this user"),
        14 => location(path, "this user may not open or create it"),
        26 => location(path, "it is not a SQLite database"),
        _ => StoreError::unavailable("open its file")(error),
    }
}

fn cannot_prepare(path: &Path, error: MigrateError) -> StoreError {
    match error {
        MigrateError::Execute(source) | MigrateError::ExecuteMigration(source, _) => {
            cannot_open(path, source)
        }
        MigrateError::VersionMissing(number) => {
            location(path, format!("a newer release has used it (its tables are at number {number})"))
        }
        other => location(path, format!("its tables are not those of this release: {other}")),
    }
}

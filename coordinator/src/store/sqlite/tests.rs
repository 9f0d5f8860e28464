//! What only a file can be asked.

use std::path::PathBuf;
use std::time::Duration;

use shardlift_domain::migration::{Migration, Phase, ShardMigration, Status, Step};
use shardlift_domain::{Epoch, ErrorCode, Failure, Fence, Nonce, Version};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection, SqliteConnection};

use super::super::conformance::samples;
use super::super::steps::statuses;
use super::super::{Change, Store, StoreError};
use super::SqliteStore;

struct File {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

fn file() -> File {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("coordinator.db");
    File { _dir: dir, path }
}

/// A connection of somebody who opens the file with another program.
async fn visitor(file: &File) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(&file.path);
    SqliteConnection::connect_with(&options).await.expect("connects")
}

async fn refused(path: PathBuf) -> String {
    match SqliteStore::open(&path).await {
        Err(error @ StoreError::Location { .. }) => {
            let failure = Failure::from(error);
            assert_eq!(failure.code, ErrorCode::ConfigInvalid);
            failure.message
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_place_that_cannot_hold_the_file_is_refused_with_the_reason() {
    let file = file();
    let dir = file.path.parent().expect("has one").to_owned();
    assert!(refused(dir.join("none/coordinator.db")).await.contains("does not exist; create it"));
    assert!(refused(dir.clone()).await.contains("it is a directory"));
    assert!(refused(":memory:".into()).await.contains("name of a file"));
    std::fs::write(&file.path, "this is a text, and a text is no database. ".repeat(100)).expect("writes");
    assert!(refused(file.path.clone()).await.contains("not a SQLite database"));
}

#[tokio::test]
async fn a_file_of_a_newer_release_is_left_alone() {
    let file = file();
    SqliteStore::open(&file.path).await.expect("opens").close().await;
    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                 VALUES (9000, 'newer', 1, x'00', 0)";
    sqlx::query(newer).execute(&mut visitor(&file).await).await.expect("writes");
    assert!(refused(file.path.clone()).await.contains("a newer release has used it"));
}

#[tokio::test]
async fn an_acknowledged_commit_is_on_disk() {
    let file = file();
    let store = SqliteStore::open(&file.path).await.expect("opens");
    let (synchronous,): (i64,) =
        sqlx::query_as("PRAGMA synchronous").fetch_one(&store.writer).await.expect("reads");
    let (journal,): (String,) =
        sqlx::query_as("PRAGMA journal_mode").fetch_one(&store.writer).await.expect("reads");
    assert_eq!((synchronous, journal.as_str()), (2, "wal"), "2 is FULL");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_coordinators_may_make_the_file_at_once() {
    let file = file();
    let mut opening = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let path = file.path.clone();
        opening.spawn(async move {
            let store = SqliteStore::open(&path).await.expect("opens");
            store.fence().await.expect("reads the fence that the first one made")
        });
    }
    assert_eq!(opening.join_all().await, vec![Fence { epoch: Epoch::NONE, nonce: Nonce(String::new()) }; 4]);
}

/// SQLite refuses the turn to the write-ahead log at once while somebody else is about to write.
#[tokio::test]
async fn a_new_file_that_somebody_else_is_making_is_waited_for() {
    let file = file();
    let options = SqliteConnectOptions::new().filename(&file.path).create_if_missing(true);
    let mut other = SqliteConnection::connect_with(&options).await.expect("connects");
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.expect("begins");
    let mut opening = std::pin::pin!(SqliteStore::open(&file.path));
    let early = tokio::time::timeout(Duration::from_millis(200), &mut opening).await;
    assert!(early.is_err(), "it waits: {early:?}");
    sqlx::query("ROLLBACK").execute(&mut other).await.expect("ends");
    opening.await.expect("opens once the file is free");
}

#[tokio::test]
async fn a_disk_that_was_full_is_written_to_again_once_it_has_room() {
    let file = file();
    let store = SqliteStore::open(&file.path).await.expect("opens");
    let seen = store.fence().await.expect("reads the fence");
    let permit = store.take_over(&seen, None, Nonce("n".into()), "leader").await.expect("takes over");
    let (pages,): (i64,) = sqlx::query_as("PRAGMA page_count").fetch_one(&store.writer).await.expect("reads");
    let room = async |pages: i64| {
        let limit = sqlx::AssertSqlSafe(format!("PRAGMA max_page_count = {pages}"));
        sqlx::query(limit).execute(&store.writer).await.expect("sets the room");
    };
    let change = || {
        let mut wide = samples::stored("wide", Version::FIRST);
        wide.spec.text = "#".repeat(1 << 20);
        Change { new: vec![wide], ..Change::default() }
    };
    room(pages).await;
    for _ in 0..2 {
        let full = store.commit(&permit, change()).await;
        let Err(StoreError::Unavailable { source, .. }) = full else { panic!("{full:?}") };
        assert!(source.to_string().contains("full"), "{source}");
        room(pages).await;
    }
    room(1 << 30).await;
    store.commit(&permit, change()).await.expect("commits, in a transaction that begins anew");
}

#[tokio::test]
async fn nobody_rewrites_the_history() {
    let file = file();
    SqliteStore::open(&file.path).await.expect("opens").close().await;
    let mut visitor = visitor(&file).await;
    for statement in [
        "INSERT INTO migrations VALUES (1, 'm', 1, 'data', 'postgres', 'c', 'x', 'pending', 'precheck', 't', NULL, \
         NULL, NULL, '{}', 'm.yaml', '')",
        "INSERT INTO migration_history VALUES (1, 1, 'submitted', 't', 'someone', '{}', NULL, NULL)",
    ] {
        sqlx::query(statement).execute(&mut visitor).await.expect("writes");
    }
    for statement in ["UPDATE migration_history SET actor = 'nobody'", "DELETE FROM migration_history"] {
        let error = sqlx::query(statement).execute(&mut visitor).await.expect_err("it was allowed");
        assert!(error.to_string().contains("append-only"), "{error}");
    }
}

#[tokio::test]
async fn a_writer_of_another_process_is_waited_for() {
    let file = file();
    let store = SqliteStore::open(&file.path).await.expect("opens");
    let mut other = visitor(&file).await;
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.expect("begins");
    let seen = store.fence().await.expect("reads the fence");
    let taking = tokio::spawn(async move { store.take_over(&seen, None, Nonce("n".into()), "waits").await });
    tokio::task::yield_now().await;
    sqlx::query("ROLLBACK").execute(&mut other).await.expect("ends");
    taking.await.expect("no panic").expect("takes over");
}

#[test]
fn a_step_stands_where_its_shards_stand() {
    let mut migration = two_shards();
    let words = |migration: &Migration| -> Vec<_> {
        statuses(migration).into_iter().map(|step| step.status).collect()
    };
    assert_eq!(words(&migration), ["running", "pending", "pending"]);
    set(&mut migration, 0, Some(Step::Apply), None);
    assert_eq!(words(&migration), ["running", "pending", "pending"]);
    set(&mut migration, 1, Some(Step::Apply), None);
    migration.phase = Phase::Schema;
    assert_eq!(words(&migration), ["completed", "running", "pending"]);
    let failure = Failure::new(ErrorCode::SchemaFailed, "no", "mend it");
    set(&mut migration, 0, Some(Step::Apply), Some(failure));
    assert_eq!(words(&migration), ["completed", "failed", "pending"]);
    for number in 0..2 {
        set(&mut migration, number, None, None);
    }
    assert_eq!(words(&migration), ["completed", "completed", "completed"]);
}

fn set(migration: &mut Migration, number: usize, todo: Option<Step>, failure: Option<Failure>) {
    let part = migration.shards.values_mut().nth(number).expect("two shards");
    *part = ShardMigration { todo, failure, verified: false, wave: 0 };
}

fn two_shards() -> Migration {
    let part = serde_json::json!({ "todo": "precheck", "failure": null, "verified": false });
    let migration = serde_json::json!({
        "key": { "id": "m", "version": 1 }, "kind": "schema", "engine": "postgres", "cluster": "c", "checksum": "",
        "relation": null, "has_where": false, "waits_for": [], "status": Status::Running, "released": true,
        "phase": Phase::Precheck, "touched": false, "stop": null, "shards": { "a": part, "b": part },
    });
    serde_json::from_value(migration).expect("a migration")
}

/// The numbered files before the history told of the installation.
const BEFORE: [&str; 7] = [
    include_str!("../../../../migrations/metadata/sqlite/0001_metadata.sql"),
    include_str!("../../../../migrations/metadata/sqlite/0002_locks.sql"),
    include_str!("../../../../migrations/metadata/sqlite/0003_routing.sql"),
    include_str!("../../../../migrations/metadata/sqlite/0004_decisions.sql"),
    include_str!("../../../../migrations/metadata/sqlite/0005_waves.sql"),
    include_str!("../../../../migrations/metadata/sqlite/0006_chain.sql"),
    include_str!("../../../../migrations/metadata/sqlite/0007_outbox.sql"),
];

#[tokio::test]
async fn the_history_of_an_earlier_release_stays_word_for_word() {
    type Row = (i64, Option<i64>, String, String, String, String, Option<String>, Option<String>);
    let file = file();
    let options =
        SqliteConnectOptions::new().filename(&file.path).create_if_missing(true).foreign_keys(false);
    let mut connection = SqliteConnection::connect_with(&options).await.expect("connects");
    for text in BEFORE {
        sqlx::raw_sql(text).execute(&mut connection).await.expect("applies");
    }
    let columns = "id, migration_id, event_type, created_at, actor, details, request, hash";
    let some = format!(
        "INSERT INTO migration_history ({columns}) VALUES (3, 1, 'submitted', 't', 'mira', '{{}}', 'r', 'h'), \
         (7, 2, 'started', 'u', 'olaf', '{{\"a\": 1}}', NULL, NULL)"
    );
    sqlx::query(sqlx::AssertSqlSafe(some)).execute(&mut connection).await.expect("inserts");
    let all = format!("SELECT {columns} FROM migration_history ORDER BY id");
    let read = async |connection: &mut SqliteConnection| -> Vec<Row> {
        let query = sqlx::query_as(sqlx::AssertSqlSafe(all.clone()));
        query.fetch_all(connection).await.expect("reads")
    };
    let before = read(&mut connection).await;
    let number = include_str!("../../../../migrations/metadata/sqlite/0008_installation.sql");
    sqlx::raw_sql(number).execute(&mut connection).await.expect("applies");
    assert_eq!(read(&mut connection).await, before);
    let next =
        "INSERT INTO migration_history (event_type, created_at, actor, details) VALUES ('e', 't', 'a', '{}')";
    let added = sqlx::query(next).execute(&mut connection).await.expect("the installation has entries");
    assert_eq!(added.last_insert_rowid(), 8, "numbers go on");
    for statement in ["UPDATE migration_history SET actor = 'nobody'", "DELETE FROM migration_history"] {
        let refused = sqlx::query(statement).execute(&mut connection).await.expect_err("refused");
        assert!(refused.to_string().contains("append-only"), "{refused}");
    }
}

//! What only a server can be asked.

use std::time::{Duration, Instant};

use futures::future::join_all;
use shardlift_domain::{Epoch, ErrorCode, Failure, MigrationId, Nonce};
use shardlift_harness::servers::{Postgres, shared_postgres};
use shardlift_runtime::config::Secret;
use sqlx::{Connection, PgConnection};

use super::super::{Change, LeaderPermit, Store, StoreError};
use super::{PostgresStore, fence};

async fn open(url: &str) -> PostgresStore {
    PostgresStore::open(&Secret::new(url)).await.expect("opens")
}

async fn lead(store: &PostgresStore, who: &str) -> LeaderPermit {
    let seen = store.fence().await.expect("reads the fence");
    store.take_over(&seen, None, Nonce(who.to_owned()), who).await.expect("takes over")
}

/// What a person is told when the store cannot be opened.
async fn refused(url: &str) -> String {
    let error = PostgresStore::open(&Secret::new(url)).await.expect_err("it was opened");
    assert!(matches!(error, StoreError::Location { .. }), "{error:?}");
    let failure = Failure::from(error);
    assert_eq!(failure.code, ErrorCode::ConfigInvalid);
    failure.message
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hangs_is_told_unavailable_in_time() {
    let server = Postgres::start().await.expect("a server");
    let url = server.create_database("metadata").await.expect("a database");
    let store = open(&url).await;
    let permit = lead(&store, "leader").await;
    store.commit(&permit, Change::default()).await.expect("commits");

    server.pause();
    let seen = permit.fence().clone();
    let told = join_all(["commit", "fence", "take over", "load", "history"].map(async |what| {
        let begun = Instant::now();
        let answer = match what {
            "commit" => store.commit(&permit, Change::default()).await,
            "fence" => store.fence().await.map(drop),
            "take over" => store.take_over(&seen, None, Nonce("n".into()), "x").await.map(drop),
            "load" => store.load().await.map(drop),
            _ => store.history(&MigrationId::new("first").expect("a name"), 1).await.map(drop),
        };
        (what, answer, begun.elapsed())
    }));
    for (what, answer, took) in told.await {
        assert!(matches!(answer, Err(StoreError::Unavailable { .. })), "{what}: {answer:?}");
        assert!(took < Duration::from_secs(15), "{what} took {took:?}");
    }
    server.resume();
    // The take-over that nobody waited for was not made: the server had not even taken the connection.
    assert_eq!(store.fence().await.expect("reads the fence"), seen);
    store.commit(&permit, Change::default()).await.expect("the store is back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_restarted_costs_nobody_the_lead() {
    let server = Postgres::start().await.expect("a server");
    let store = open(&server.create_database("metadata").await.expect("a database")).await;
    let permit = lead(&store, "leader").await;
    server.restart().await.expect("restarts");
    store.commit(&permit, Change::default()).await.expect("on a new session");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_stops_in_the_middle_of_a_commit_does_not_keep_the_lead() {
    let url = shared_postgres().await.expect("a database");
    let (old, new) = (open(&url).await, open(&url).await);
    let permit = lead(&old, "old").await;
    let mut session = old.sessions.take().await.expect("a session");
    session.begin("BEGIN").await.expect("begins");
    fence::hold(&mut session.connection, permit.fence()).await.expect("holds the fence");

    let leader = lead(&new, "new").await;
    assert!(leader.fence().epoch > permit.fence().epoch);
    let late = session.end("COMMIT").await;
    assert!(matches!(late, Err(StoreError::Unavailable { .. })), "{late:?}");
    let refused = old.commit(&permit, Change::default()).await;
    assert!(matches!(refused, Err(StoreError::Fenced { .. })), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_take_over_waits_for_the_commit_that_holds_the_fence() {
    let url = shared_postgres().await.expect("a database");
    let (old, new) = (open(&url).await, open(&url).await);
    let permit = lead(&old, "old").await;
    let mut session = old.sessions.take().await.expect("a session");
    session.begin("BEGIN").await.expect("begins");
    fence::hold(&mut session.connection, permit.fence()).await.expect("holds the fence");
    let taking = tokio::spawn(async move { lead(&new, "new").await });
    let mut visitor = PgConnection::connect(&url).await.expect("connects");
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    shardlift_harness::wait::wait_for(
        "the take-over to wait for the row",
        Duration::from_secs(4),
        async || {
            let waiting: i64 = sqlx::query_scalar(waits).fetch_one(&mut visitor).await.ok()?;
            (waiting == 1).then_some(())
        },
    )
    .await
    .expect("it waits");
    session.end("COMMIT").await.expect("the commit was first");
    assert_eq!(taking.await.expect("no panic").fence().epoch, Epoch(2));
}

#[tokio::test]
async fn nobody_rewrites_the_history() {
    let url = shared_postgres().await.expect("a database");
    open(&url).await;
    let mut visitor = PgConnection::connect(&url).await.expect("connects");
    for statement in [
        "UPDATE shardlift_coordinator.migration_history SET actor = 'nobody'",
        "DELETE FROM shardlift_coordinator.migration_history",
        "TRUNCATE shardlift_coordinator.migration_history",
    ] {
        let error = sqlx::query(statement).execute(&mut visitor).await.expect_err("it was allowed");
        assert!(error.to_string().contains("append-only"), "{error}");
    }
}

#[tokio::test]
async fn a_database_that_cannot_be_used_is_refused_with_the_reason_and_without_the_password() {
    let url = shared_postgres().await.expect("a database");
    for (bad, why) in [
        (url.replace("/test_", "/none_"), "no such database"),
        (url.replace("postgres://", "postgers://u:hunter2@"), "not an address"),
        (url.replace("postgres@", "nobody:hunter2@"), "refuses this user"),
    ] {
        let told = refused(&bad).await;
        assert!(told.contains(why) && !told.contains("hunter2"), "{told}");
    }
    open(&url).await;
    let mut visitor = PgConnection::connect(&url).await.expect("connects");
    let newer = "INSERT INTO shardlift_coordinator._sqlx_migrations (version, description, success, checksum, execution_time) \
                 VALUES (9000, 'newer', true, '\\x00', 0)";
    sqlx::query(newer).execute(&mut visitor).await.expect("writes");
    assert!(refused(&url).await.contains("a newer release has used it"));
}

#[tokio::test]
async fn an_idle_session_is_guarded_and_named() {
    let url = shared_postgres().await.expect("a database");
    let store = open(&url).await;
    let mut session = store.sessions.take().await.expect("a session");
    for (name, value) in [
        ("statement_timeout", "5s"),
        ("lock_timeout", "4500ms"),
        ("idle_in_transaction_session_timeout", "3s"),
        ("application_name", "shardlift-coordinator/store"),
        ("synchronous_commit", "on"),
    ] {
        let told: String = sqlx::query_scalar("SELECT current_setting($1)")
            .bind(name)
            .fetch_one(&mut session.connection)
            .await
            .expect("reads");
        assert_eq!(told, value, "{name}");
    }
    assert!(!format!("{store:?}").contains("password"));
}

//! Real servers start, die, come back with their data, and are silent when paused.

use std::time::Duration;

use bson::{Document, doc};
use mongodb::Client;
use shardlift_harness::servers::{
    Etcd, Mongod, Postgres, PostgresOptions, exclusive_mongod, shared_mongod, shared_postgres,
};
use sqlx::{Connection, PgConnection};
use tokio::time::timeout;

const SILENCE: Duration = Duration::from_millis(300);

async fn scalar(dsn: &str, sql: &'static str) -> String {
    let mut connection = PgConnection::connect(dsn).await.unwrap();
    sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap()
}

async fn run(dsn: &str, sql: &'static str) -> Result<(), sqlx::Error> {
    let mut connection = PgConnection::connect(dsn).await?;
    sqlx::raw_sql(sql).execute(&mut connection).await.map(drop)
}

#[tokio::test]
async fn postgres_keeps_its_data_over_kill_and_restart_on_the_same_port() {
    let server = Postgres::start_with(PostgresOptions::default().durable()).await.unwrap();
    let dsn = server.create_database("chat").await.unwrap();
    assert_eq!(scalar(&dsn, "SHOW fsync").await, "on");
    run(&dsn, "CREATE TABLE t (v text); INSERT INTO t VALUES ('kept')").await.unwrap();
    server.kill9();
    assert!(PgConnection::connect(&dsn).await.is_err());
    server.restart().await.unwrap();
    assert_eq!(scalar(&dsn, "SELECT v FROM t").await, "kept");
    server.restart().await.unwrap();
    assert_eq!(scalar(&dsn, "SELECT v FROM t").await, "kept");
}

#[tokio::test]
async fn a_paused_postgres_is_silent_also_in_open_sessions() {
    let server = Postgres::start().await.unwrap();
    let mut connection = PgConnection::connect(&server.dsn("postgres")).await.unwrap();
    server.pause();
    assert!(timeout(SILENCE, connection.ping()).await.is_err());
    assert!(timeout(SILENCE, PgConnection::connect(&server.dsn("postgres"))).await.is_err());
    server.resume();
    assert_eq!(scalar(&server.dsn("postgres"), "SELECT 'back'").await, "back");
}

#[tokio::test]
async fn a_read_only_postgres_refuses_writes_until_it_is_lifted() {
    let server = Postgres::start().await.unwrap();
    let dsn = server.create_database("chat").await.unwrap();
    server.set_read_only(true).await.unwrap();
    let error = run(&dsn, "CREATE TABLE t ()").await.unwrap_err().to_string();
    assert!(error.contains("read-only transaction"), "{error}");
    server.set_read_only(false).await.unwrap();
    run(&dsn, "CREATE TABLE t ()").await.unwrap();
}

#[tokio::test]
async fn tests_share_a_postgres_but_no_database() {
    let (one, two) = (shared_postgres().await.unwrap(), shared_postgres().await.unwrap());
    assert_ne!(one, two);
    run(&one, "CREATE TABLE t ()").await.unwrap();
    run(&two, "CREATE TABLE t ()").await.unwrap();
}

async fn insert(dsn: &str, document: Document) -> mongodb::error::Result<()> {
    let client = Client::with_uri_str(dsn).await?;
    let mut session = client.start_session().await?;
    session.start_transaction().await?;
    let collection = client.default_database().unwrap().collection::<Document>("c");
    collection.insert_one(document).session(&mut session).await?;
    session.commit_transaction().await
}

async fn count(dsn: &str) -> u64 {
    let client = Client::with_uri_str(dsn).await.unwrap();
    client.default_database().unwrap().collection::<Document>("c").count_documents(doc! {}).await.unwrap()
}

#[tokio::test]
async fn a_replica_set_has_transactions_and_keeps_them_over_a_kill() {
    let server = Mongod::start(true).await.unwrap();
    let dsn = server.dsn("chat");
    insert(&dsn, doc! { "_id": 1 }).await.unwrap();
    server.kill9();
    server.restart().await.unwrap();
    assert_eq!(count(&dsn).await, 1);
    server.restart().await.unwrap();
    assert_eq!(count(&dsn).await, 1);
}

#[tokio::test]
async fn a_standalone_mongod_refuses_transactions() {
    let server = Mongod::start(false).await.unwrap();
    let error = insert(&server.dsn("chat"), doc! { "_id": 1 }).await.unwrap_err().to_string();
    assert!(error.contains("IllegalOperation"), "{error}");
}

#[tokio::test]
async fn a_command_fails_as_often_as_it_is_told_to() {
    let server = exclusive_mongod().await.unwrap();
    let dsn = server.dsn("chat");
    insert(&dsn, doc! { "_id": 1 }).await.unwrap();
    let data = doc! { "failCommands": ["insert"], "errorCode": 2 };
    server.fail_command(doc! { "times": 1 }, data).await.unwrap();
    assert!(insert(&dsn, doc! { "_id": 2 }).await.is_err());
    insert(&dsn, doc! { "_id": 2 }).await.unwrap();
    server.fail_command("alwaysOn", doc! { "failCommands": ["insert"], "errorCode": 2 }).await.unwrap();
    assert!(insert(&dsn, doc! { "_id": 3 }).await.is_err());
    server.heal_commands().await.unwrap();
    insert(&dsn, doc! { "_id": 3 }).await.unwrap();
    server.set_parameter("transactionLifetimeLimitSeconds", 1).await.unwrap();
    drop(server);
    let server = exclusive_mongod().await.unwrap();
    assert_eq!(count(&server.dsn("chat")).await, 0, "it comes back empty");
}

#[tokio::test]
async fn tests_share_a_mongod_but_no_database() {
    let (one, two) = (shared_mongod().await.unwrap(), shared_mongod().await.unwrap());
    insert(&one, doc! { "_id": 1 }).await.unwrap();
    assert_eq!((count(&one).await, count(&two).await), (1, 0));
}

#[tokio::test]
async fn etcd_answers_and_comes_back() {
    let etcd = Etcd::start().await.unwrap();
    assert!(etcd.endpoint().starts_with("http://127.0.0.1:"));
    etcd.process().kill9();
    etcd.restart().await.unwrap();
}

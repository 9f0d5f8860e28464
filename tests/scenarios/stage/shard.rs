//! What stands in a shard, read past Shardlift: its checkpoints, and any one value.

use bson::{Bson, Document, doc};
use futures::TryStreamExt;
use mongodb::Client;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};

use super::{Engine, Items};

/// One range as its checkpoint says. Keys are in a text form of this reader's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    pub(crate) index: i64,
    pub(crate) pass: i64,
    pub(crate) lower: Option<String>,
    pub(crate) upper: Option<String>,
    pub(crate) epoch: i64,
    pub(crate) rows: u64,
    pub(crate) batches: u64,
    pub(crate) done: bool,
}

/// The checkpoints of a migration, in the order of their ranges.
pub(crate) async fn checkpoints(items: &Items, migration: &str) -> Vec<Checkpoint> {
    match items.engine() {
        Engine::Postgres => postgres(&items.dsn, migration).await,
        Engine::Mongodb => mongodb(&items.dsn, migration).await,
    }
}

async fn postgres(dsn: &str, migration: &str) -> Vec<Checkpoint> {
    let mut session = PgConnection::connect(dsn).await.unwrap();
    let rows = sqlx::query(
        "SELECT range_index::int8, pass::int8, lower_key::text, upper_key::text, epoch, rows_changed, batches, done
         FROM shardlift.checkpoint WHERE migration = $1 ORDER BY range_index",
    )
    .bind(migration)
    .fetch_all(&mut session)
    .await
    .unwrap();
    rows.iter()
        .map(|row| Checkpoint {
            index: row.get(0),
            pass: row.get(1),
            lower: row.get(2),
            upper: row.get(3),
            epoch: row.get(4),
            rows: u64::try_from(row.get::<i64, _>(5)).unwrap(),
            batches: u64::try_from(row.get::<i64, _>(6)).unwrap(),
            done: row.get(7),
        })
        .collect()
}

async fn mongodb(dsn: &str, migration: &str) -> Vec<Checkpoint> {
    let client = Client::with_uri_str(dsn).await.unwrap();
    let database = client.default_database().unwrap();
    let own = client.database("shardlift").collection::<Document>("checkpoint");
    let found = own.find(doc! { "db": database.name(), "migration": migration }).sort(doc! { "range": 1 });
    let found: Vec<Document> = found.await.unwrap().try_collect().await.unwrap();
    let key = |document: &Document, field: &str| match document.get(field) {
        Some(Bson::Document(key)) => key.get("v").map(Bson::to_string),
        _ => None,
    };
    let count = |document: &Document, field: &str| u64::try_from(document.get_i64(field).unwrap()).unwrap();
    found
        .iter()
        .map(|document| Checkpoint {
            index: document.get_i64("range").unwrap(),
            pass: document.get_i64("pass").unwrap(),
            lower: key(document, "after"),
            upper: key(document, "upper"),
            epoch: document.get_i64("epoch").unwrap(),
            rows: count(document, "rows"),
            batches: count(document, "batches"),
            done: document.get_bool("done").unwrap(),
        })
        .collect()
}

/// One value of a PostgreSQL shard, as text; `NULL` is empty.
pub(crate) async fn scalar(dsn: &str, sql: &str) -> String {
    let mut session = PgConnection::connect(dsn).await.unwrap();
    let value: Option<String> =
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(&mut session).await.unwrap();
    session.close().await.unwrap();
    value.unwrap_or_default()
}

/// Runs statements in a PostgreSQL shard, as an administrator would.
pub(crate) async fn execute(dsn: &str, sql: &str) {
    let mut session = PgConnection::connect(dsn).await.unwrap();
    session.execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))).await.unwrap();
    session.close().await.unwrap();
}

/// The collection `items` of a MongoDB shard.
pub(crate) async fn collection(dsn: &str) -> mongodb::Collection<Document> {
    Client::with_uri_str(dsn).await.unwrap().default_database().unwrap().collection("items")
}

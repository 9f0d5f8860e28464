//! The chat data of a PostgreSQL shard: load it, and check it after the library ran.

mod attachments;
mod check;
mod oddities;
mod rows;

pub use check::check_postgres;

use anyhow::Context;
use sqlx::{Connection, Executor, PgConnection};

use super::{DatasetSize, Shares};

const TABLES: &str = include_str!("tables.sql");

/// The text form of every value depends on these settings, and so do the fingerprints of attachments.
const SESSION: &str = "SET TimeZone = 'UTC'; SET DateStyle = 'ISO, MDY'; SET IntervalStyle = 'postgres'; \
     SET bytea_output = 'hex'; SET extra_float_digits = 1; SET xmloption = content; SET lc_monetary = 'C'";

/// Creates the application's tables in the empty database behind `dsn` and fills them with shard
/// `shard_index`'s part (0-based) of the data set.
///
/// # Errors
/// When the database cannot be reached, or already holds the tables.
pub async fn load_postgres(
    dsn: &str,
    shard_index: usize,
    shards: usize,
    size: &DatasetSize,
) -> anyhow::Result<()> {
    let mut connection = session(dsn).await?;
    let shares = Shares::of(size.postgres_rows, shards);
    let shard = i64::try_from(shard_index).context("the shard's index")?;
    let mut transaction = connection.begin().await.context("beginning the load")?;
    transaction.execute(TABLES).await.context("creating the chat tables")?;
    rows::load(&mut transaction, shard, &shares).await?;
    oddities::load(&mut transaction, shard).await?;
    attachments::load(&mut transaction, shard).await?;
    transaction.execute("CREATE INDEX messages_channel ON messages (channel_id, sent_at)").await?;
    transaction.commit().await.context("committing the load")?;
    connection.execute("ANALYZE").await.context("gathering statistics")?;
    connection.close().await.context("closing the loading session")
}

/// A connection whose settings make text forms comparable. The DSN is a secret: it stays out of errors.
async fn session(dsn: &str) -> anyhow::Result<PgConnection> {
    let mut connection = PgConnection::connect(dsn).await.context("connecting to the PostgreSQL shard")?;
    connection.execute(SESSION).await.context("settings of the session")?;
    Ok(connection)
}

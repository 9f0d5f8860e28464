//! The state of an index that is built or dropped concurrently.

use shardlift_domain::sql::{Relation, quote_ident};
use sqlx::{AssertSqlSafe, PgConnection, Row};

/// What is there under the index's name.
pub(super) enum IndexState {
    Missing,
    Valid,
    /// A build that did not finish; its full name, ready for SQL.
    Invalid(String),
}

/// Looks for an index of this name on this table.
pub(super) async fn state(
    conn: &mut PgConnection,
    index: &str,
    table: &Relation,
) -> Result<IndexState, sqlx::Error> {
    let row = sqlx::query(
        "SELECT n.nspname::text, i.indisvalid AND i.indisready FROM pg_index i \
         JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE i.indrelid = to_regclass($1) AND c.relname = $2",
    )
    .bind(table.to_string())
    .bind(index)
    .fetch_optional(conn)
    .await?;
    let Some(row) = row else { return Ok(IndexState::Missing) };
    let (schema, valid): (String, bool) = (row.try_get(0)?, row.try_get(1)?);
    if valid {
        return Ok(IndexState::Valid);
    }
    Ok(IndexState::Invalid(format!("{}.{}", quote_ident(&schema), quote_ident(index))))
}

/// Whether there is anything of this name.
pub(super) async fn exists(conn: &mut PgConnection, index: &Relation) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL").bind(index.to_string()).fetch_one(conn).await
}

/// Drops an index without keeping the application waiting.
pub(super) async fn drop(conn: &mut PgConnection, index: &str) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(format!("DROP INDEX CONCURRENTLY IF EXISTS {index}")))
        .execute(conn)
        .await
        .map(|_| ())
}

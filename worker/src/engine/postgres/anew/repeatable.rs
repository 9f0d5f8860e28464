//! Whether the functions that a `SET` list calls give the same again: only the shard's catalog knows.

use shardlift_domain::sql::{calls, unrepeatable};
use sqlx::{PgConnection, Row};

/// Of the server's own functions those that it calls volatile; of others also the stable ones, which may read tables.
const FOUND: &str = "\
    SELECT n.nspname::text, p.proname::text, p.provolatile = 'v'
    FROM unnest($1::text[], $2::text[]) AS c (schema, name) JOIN pg_proc p ON p.proname = c.name
    JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE CASE WHEN c.schema IS NULL THEN pg_function_is_visible(p.oid) ELSE n.nspname = c.schema END
      AND (p.provolatile = 'v' OR p.provolatile = 's' AND n.nspname <> 'pg_catalog')
    ORDER BY 1, 2 LIMIT 1";

/// Why the list may give something else now than when it was evaluated first; `None`: it gives the same.
pub(super) async fn problem(
    conn: &mut PgConnection,
    list: &[(String, String)],
) -> Result<Option<String>, sqlx::Error> {
    let told = list.iter().find_map(|(column, value)| {
        unrepeatable(value).map(|why| format!("{why} (transform.sql, {column})"))
    });
    if told.is_some() {
        return Ok(told);
    }
    let called: Vec<_> = list.iter().flat_map(|(_, value)| calls(value)).collect();
    let schemas: Vec<Option<&str>> = called.iter().map(|name| name.schema.as_deref()).collect();
    let names: Vec<&str> = called.iter().map(|name| name.name.as_str()).collect();
    let found = sqlx::query(FOUND).bind(schemas).bind(names).fetch_optional(conn).await?;
    found
        .map(|row| {
            let (schema, name): (String, String) = (row.try_get(0)?, row.try_get(1)?);
            Ok(match row.try_get(2)? {
                true => format!("it calls {schema}.{name}, which is declared VOLATILE"),
                false => format!(
                    "it calls {schema}.{name}, which is declared STABLE: it may read tables, which may have changed since"
                ),
            })
        })
        .transpose()
}

//! Rows that refer to rows which are not there: one anti-join, in the snapshot of the other checks.

use shardlift_domain::failure::ErrorCode;
use shardlift_domain::range::KeyText;
use shardlift_domain::spec::References;
use shardlift_domain::sql::{parse_relation, quote_ident};
use shardlift_domain::verdict::{CheckResult, Severity};
use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::error::{sqlstate, trouble, words};
use super::session::{QUICK, Session, within};
use crate::engine::EngineResult;
use crate::engine::findings::Findings;
use crate::engine::references::{MOST, NAMED, judged};

const PRIMARY: &str = "\
    SELECT a.attname::text FROM pg_index i
    CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, n)
    JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
    WHERE i.indrelid = to_regclass($1) AND i.indisprimary ORDER BY k.n";

/// Looks for them. `relation`: the source, ready for SQL; `key`: what the spec says names its rows; empty: the primary key.
pub(super) async fn check(
    conn: &mut PgConnection,
    relation: &str,
    key: &[String],
    references: &References,
) -> Result<CheckResult, sqlx::Error> {
    let sql = statement(conn, relation, key, references).await?;
    let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(conn).await?;
    let orphans = rows.first().map(|row| row.try_get::<i64, _>(0)).transpose()?.unwrap_or_default();
    let keys = rows.iter().map(|row| Ok(KeyText(row.try_get(1)?).to_string()));
    let keys = keys.collect::<Result<Vec<String>, sqlx::Error>>()?;
    Ok(judged(references, u64::try_from(orphans).unwrap_or_default(), &keys))
}

/// Adds what keeps the shard from looking for them.
pub(super) async fn look(
    session: &mut Session,
    relation: &str,
    key: &[String],
    references: &References,
    findings: &mut Findings,
) -> EngineResult<()> {
    let planned = async {
        let sql = statement(&mut session.conn, relation, key, references).await?;
        sqlx::query(AssertSqlSafe(format!("EXPLAIN {sql}"))).execute(&mut session.conn).await
    };
    match within(QUICK, planned).await {
        Ok(_) => Ok(()),
        Err(error) if sqlstate(&error).is_some_and(|code| code.starts_with("42")) => {
            let what = format!("verify: references cannot look for {references}: {}", words(&error));
            let next = "correct tables, columns and types in the spec, or leave the check out";
            findings.of_spec(Severity::Error, ErrorCode::PrecheckRefused, what, next);
            Ok(())
        }
        Err(error) => Err(trouble(&session.shard, error)),
    }
}

async fn statement(
    conn: &mut PgConnection,
    relation: &str,
    key: &[String],
    references: &References,
) -> Result<String, sqlx::Error> {
    let primary: Vec<String> = match key {
        [] => sqlx::query_scalar(PRIMARY).bind(relation).fetch_all(conn).await?,
        key => key.to_vec(),
    };
    Ok(orphans(relation, &primary, references))
}

/// The number of orphans beside the key of each of the first ones.
fn orphans(relation: &str, key: &[String], references: &References) -> String {
    let to = parse_relation(&references.to).map_or_else(|_| quote_ident(&references.to), |to| to.to_string());
    let column = |row: &str, name: &String| format!("{row}.{}", quote_ident(name));
    let key: Vec<String> = key.iter().map(|name| format!("{}::text", column("source", name))).collect();
    let some = references.fields.iter().map(|field| format!("{} IS NOT NULL", column("source", field)));
    let same = references.fields.iter().zip(&references.key);
    let same = same.map(|(field, key)| format!("{} = {}", column("target", key), column("source", field)));
    format!(
        "WITH orphan AS MATERIALIZED (SELECT ARRAY[{key}]::text[] AS key FROM {relation} AS source \
         WHERE {some} AND NOT EXISTS (SELECT FROM {to} AS target WHERE {same}) LIMIT {limit}) \
         SELECT (SELECT count(*) FROM orphan), named.key FROM (SELECT key FROM orphan LIMIT {NAMED}) AS named",
        key = key.join(", "),
        some = some.collect::<Vec<_>>().join(" AND "),
        same = same.collect::<Vec<_>>().join(" AND "),
        limit = MOST + 1,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_refer_to_nothing_by_all_columns_are_looked_for() {
        let references = References {
            fields: vec!["tenant".into(), "channel".into()],
            to: "public.channels".into(),
            key: vec!["tenant".into(), "id".into()],
        };
        let sql = orphans("\"messages\"", &["id".into()], &references);
        for piece in [
            "source.\"tenant\" IS NOT NULL AND source.\"channel\" IS NOT NULL",
            "target.\"tenant\" = source.\"tenant\" AND target.\"id\" = source.\"channel\"",
            "ARRAY[source.\"id\"::text]::text[]",
            "LIMIT 10001",
        ] {
            assert!(sql.contains(piece), "{piece}: {sql}");
        }
    }
}

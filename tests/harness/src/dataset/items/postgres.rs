//! The table `items` of a PostgreSQL shard: load it, and check it after a migration.

use anyhow::Context;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use super::super::NAMED_KEYS;
use super::compare::{self, Rows};
use super::{Form, KEY_SEPARATOR, KeyKind, key_columns, payload};
use crate::writer::WriterReport;

/// Rows per statement.
const BATCH: u64 = 10_000;

/// Creates `items` in the database behind `dsn` and fills it with `rows` rows whose primary key is of `kind`.
/// Columns: the key (`id`; or `region`, `number`), `payload`, `applied`, `migrated`, `origin`.
///
/// # Errors
/// When the database cannot be reached, or already holds a table of that name.
pub async fn load_items_postgres(dsn: &str, rows: u64, kind: KeyKind) -> anyhow::Result<()> {
    let mut session = PgConnection::connect(dsn).await.context("connecting to the PostgreSQL shard")?;
    session.execute(AssertSqlSafe(create(kind))).await.context("creating items")?;
    let insert = insert(kind);
    let mut number = 0;
    while number < rows {
        let batch = number..rows.min(number + BATCH);
        number = batch.end;
        let payloads: Vec<String> = batch.clone().map(payload).collect();
        let keys: Vec<Vec<String>> = batch.map(|number| parts(&kind.loaded(number))).collect();
        let mut query = sqlx::query(AssertSqlSafe(insert.clone())).bind(payloads);
        for place in 0..key_columns(kind).len() {
            query = query.bind(keys.iter().map(|key| key[place].clone()).collect::<Vec<String>>());
        }
        query.execute(&mut session).await.context("loading items")?;
    }
    session.execute("ANALYZE items").await.context("gathering statistics")?;
    session.close().await.context("closing the loading session")
}

fn create(kind: KeyKind) -> String {
    let columns = key_columns(kind);
    let collation = if kind == KeyKind::TextIcu { " COLLATE \"und-x-icu\"" } else { "" };
    let key: Vec<String> =
        columns.iter().map(|(name, of_type)| format!("{name} {of_type}{collation} NOT NULL")).collect();
    let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    format!(
        "CREATE TABLE items ({}, payload text NOT NULL, applied integer NOT NULL DEFAULT 0,
         migrated boolean NOT NULL DEFAULT false, origin text NOT NULL DEFAULT 'application',
         PRIMARY KEY ({}))",
        key.join(", "),
        names.join(", ")
    )
}

fn insert(kind: KeyKind) -> String {
    let columns = key_columns(kind);
    let list = |part: fn(usize, &(&'static str, &'static str)) -> String| -> String {
        columns.iter().enumerate().map(|(place, column)| part(place, column)).collect::<Vec<_>>().join(", ")
    };
    format!(
        "INSERT INTO items (payload, origin, {}) SELECT payload, 'loader', {}
         FROM unnest($1::text[], {}) AS t (payload, {})",
        list(|_, (name, _)| (*name).to_owned()),
        list(|_, (name, of_type)| format!("{name}::{of_type}")),
        list(|place, _| format!("${}::text[]", place + 2)),
        list(|_, (name, _)| (*name).to_owned()),
    )
}

fn parts(key: &str) -> Vec<String> {
    key.split(KEY_SEPARATOR).map(str::to_owned).collect()
}

/// Every violation of the promise of `form` (I1), one line each; empty when every row was changed exactly
/// once.
///
/// # Errors
/// When the shard cannot be read.
pub async fn items_violations_postgres(dsn: &str, form: Form) -> anyhow::Result<Vec<String>> {
    let rules: &[(&str, &str)] = match form {
        Form::WithWhere => &[("not migrated", "NOT migrated"), ("not changed exactly once", "applied <> 1")],
        Form::WithoutWhere => &[
            ("present throughout, not changed exactly once", "origin = 'loader' AND applied <> 1"),
            ("inserted during the run, not changed at most once", "applied NOT IN (0, 1)"),
            ("migrated does not follow applied", "migrated <> (applied = 1)"),
        ],
    };
    let mut session = PgConnection::connect(dsn).await.context("connecting to the PostgreSQL shard")?;
    let mut violations = Vec::new();
    for (what, broken) in rules {
        let sql = format!(
            "SELECT count(*), coalesce(array_to_string((array_agg(items::text))[1:{NAMED_KEYS}], ' '), '')
             FROM items WHERE {broken}"
        );
        let (rows, named): (i64, String) =
            sqlx::query_as(AssertSqlSafe(sql)).fetch_one(&mut session).await.context("checking items")?;
        if rows > 0 {
            violations.push(format!("items: {what}: {rows} row(s), such as {named}"));
        }
    }
    Ok(violations)
}

/// Every row whose payload is not what the loader and then the application (`report`, if a writer ran) last
/// wrote (I2, I8), one line for each kind of difference. `rows` and `kind` are those the table was loaded
/// with.
///
/// # Errors
/// When the shard cannot be read.
pub async fn items_lost_writes_postgres(
    dsn: &str,
    rows: u64,
    kind: KeyKind,
    report: Option<&WriterReport>,
) -> anyhow::Result<Vec<String>> {
    let mut session = PgConnection::connect(dsn).await.context("connecting to the PostgreSQL shard")?;
    let key: Vec<String> = key_columns(kind).iter().map(|(name, _)| format!("{name}::text")).collect();
    let sql =
        format!("SELECT {}, payload FROM items", key.join(&format!(" || chr({}) || ", KEY_SEPARATOR as u32)));
    let found: Vec<(String, String)> =
        sqlx::query_as(AssertSqlSafe(sql)).fetch_all(&mut session).await.context("reading items")?;
    let loaded: Rows = (0..rows).map(|number| (kind.loaded(number), payload(number))).collect();
    let model = report.map(|report| report.model.clone()).unwrap_or_default();
    let mut told = compare::differences(loaded, &model, &found.into_iter().collect(), label);
    told.extend(report.into_iter().flat_map(|report| report.surprises.iter().cloned()));
    Ok(told)
}

/// A composite key as a person would write it.
fn label(key: &str) -> String {
    format!("({})", parts(key).join(", "))
}

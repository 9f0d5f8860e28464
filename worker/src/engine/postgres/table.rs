//! What the catalog says of one table: its columns, and which of them can carry a walk by key.

use shardlift_domain::sql::{parse_ident, parse_relation, quote_ident};
use sqlx::{PgConnection, Row};

use super::key::{Key, KeyColumn};

/// One table, as it is now.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) oid: i64,
    /// Quoted and with its schema, ready for SQL.
    pub(super) sql: String,
    /// `r`: table, `p`: partitioned table; anything else cannot be walked.
    pub(super) kind: String,
    /// Other tables inherit from it (partitions do not count).
    pub(super) inherited: bool,
    pub(super) columns: Vec<Column>,
}

/// One column.
#[derive(Debug, Clone)]
pub(super) struct Column {
    /// As the catalog has it.
    pub(super) name: String,
    /// Its type without length or precision: a cast to it never cuts a value, assignment checks the limits.
    pub(super) cast: String,
    pub(super) shape: Shape,
    /// Computed by the server, so nobody may write it.
    pub(super) generated: bool,
}

impl Column {
    /// The quoted name.
    pub(super) fn sql(&self) -> String {
        quote_ident(&self.name)
    }
}

/// How a column looks to a transformer that runs in the worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Bool,
    Integer,
    Float,
    Json,
    Timestamp,
    TimestampTz,
    /// The text form of whatever it is.
    Text,
}

const TABLE: &str = "\
    SELECT c.oid::int8, n.nspname::text, c.relname::text, c.relkind::text,
           c.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = c.oid)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass($1)";
const COLUMNS: &str = "\
    SELECT a.attname::text, format_type(a.atttypid, -1), a.atttypid::int8, a.attgenerated <> '' OR a.attidentity = 'a'
    FROM pg_attribute a WHERE a.attrelid = $1::int8::oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";
const INDEXES: &str = "\
    SELECT ARRAY(SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, n)
                 JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
                 WHERE k.n <= i.indnkeyatts ORDER BY k.n),
           i.indisprimary
    FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_am m ON m.oid = x.relam
    WHERE i.indrelid = $1::int8::oid AND i.indisunique AND i.indisvalid AND i.indisready AND m.amname = 'btree'
      AND i.indpred IS NULL AND i.indexprs IS NULL
      AND NOT EXISTS (SELECT FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, n)
                      JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
                      WHERE k.n <= i.indnkeyatts
                        AND (NOT a.attnotnull OR a.attcollation <> (i.indcollation::oid[])[k.n - 1]))
      AND (SELECT count(DISTINCT o & 1) FROM unnest(i.indoption::int2[]) o) = 1
      AND (SELECT bool_and(c.opcdefault) FROM unnest(i.indclass::oid[]) o JOIN pg_opclass c ON c.oid = o)
    ORDER BY NOT i.indisprimary, i.indexrelid";

/// Reads the table of a name as a spec has it. `None`: there is none, or the name is no name.
pub(super) async fn read(conn: &mut PgConnection, relation: &str) -> Result<Option<Table>, sqlx::Error> {
    let Ok(relation) = parse_relation(relation) else { return Ok(None) };
    let row = sqlx::query(TABLE).bind(relation.to_string()).fetch_optional(&mut *conn).await?;
    let Some(row) = row else { return Ok(None) };
    let oid: i64 = row.try_get(0)?;
    let (schema, name): (String, String) = (row.try_get(1)?, row.try_get(2)?);
    let columns = sqlx::query(COLUMNS).bind(oid).fetch_all(&mut *conn).await?;
    Ok(Some(Table {
        oid,
        sql: format!("{}.{}", quote_ident(&schema), quote_ident(&name)),
        kind: row.try_get(3)?,
        inherited: row.try_get(4)?,
        columns: columns.iter().map(column).collect::<Result<_, _>>()?,
    }))
}

/// The key to walk by: the columns that the spec names (none: the primary key), if a unique index over them and not
/// null columns makes every row findable in key order. Otherwise says why not.
pub(super) async fn key(
    conn: &mut PgConnection,
    table: &Table,
    wanted: &[String],
) -> Result<Result<Key, String>, sqlx::Error> {
    let rows = sqlx::query(INDEXES).bind(table.oid).fetch_all(conn).await?;
    let mut indexes: Vec<(Vec<String>, bool)> = Vec::with_capacity(rows.len());
    for row in &rows {
        indexes.push((row.try_get(0)?, row.try_get(1)?));
    }
    Ok(choose(table, wanted, &indexes))
}

fn choose(table: &Table, wanted: &[String], indexes: &[(Vec<String>, bool)]) -> Result<Key, String> {
    let names: Vec<String> =
        wanted.iter().map(|name| parse_ident(name).unwrap_or_else(|_| name.clone())).collect();
    let found = match names.is_empty() {
        true => indexes.iter().find(|(_, primary)| *primary),
        false => indexes.iter().find(|(columns, _)| *columns == names),
    };
    if let Some((columns, _)) = found {
        let columns =
            columns.iter().filter_map(|name| table.columns.iter().find(|column| column.name == *name));
        return Ok(Key::new(
            columns.map(|c| KeyColumn { name: c.name.clone(), cast: c.cast.clone() }).collect(),
        ));
    }
    if names.is_empty() {
        return Err(format!(
            "{} has no usable primary key; name unique, not null columns under source.key",
            table.sql
        ));
    }
    let usable: Vec<String> =
        indexes.iter().map(|(columns, _)| format!("[{}]", columns.join(", "))).collect();
    Err(format!(
        "source.key [{}] is not a unique index over not null columns of {}, in the index's order (there is: {})",
        names.join(", "),
        table.sql,
        if usable.is_empty() { "none".to_owned() } else { usable.join(" ") },
    ))
}

fn column(row: &sqlx::postgres::PgRow) -> Result<Column, sqlx::Error> {
    Ok(Column {
        name: row.try_get(0)?,
        cast: row.try_get(1)?,
        shape: shape(row.try_get(2)?),
        generated: row.try_get(3)?,
    })
}

/// By the fixed numbers that the server's catalog gives its own types.
fn shape(type_oid: i64) -> Shape {
    match type_oid {
        16 => Shape::Bool,
        20 | 21 | 23 => Shape::Integer,
        700 | 701 => Shape::Float,
        114 | 3802 => Shape::Json,
        1114 => Shape::Timestamp,
        1184 => Shape::TimestampTz,
        _ => Shape::Text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let column = |name: &str| Column {
            name: name.into(),
            cast: "bigint".into(),
            shape: Shape::Integer,
            generated: false,
        };
        Table {
            oid: 1,
            sql: "\"public\".\"t\"".into(),
            kind: "r".into(),
            inherited: false,
            columns: vec![column("a"), column("b")],
        }
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn listed(key: Key) -> String {
        key.list()
    }

    #[test]
    fn the_primary_key_is_the_default_and_other_keys_need_an_index_of_that_order() {
        let indexes = [(names(&["a"]), true), (names(&["b", "a"]), false)];
        assert_eq!(choose(&table(), &[], &indexes).map(listed), Ok("\"a\"".into()));
        assert_eq!(choose(&table(), &names(&["B", "a"]), &indexes).map(listed), Ok("\"b\", \"a\"".into()));
        assert!(choose(&table(), &names(&["a", "b"]), &indexes).is_err());
        assert!(choose(&table(), &[], &indexes[1..]).is_err());
    }
}

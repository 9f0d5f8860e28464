//! The shape of a table as SQL that a person can read and run: its own name without a schema, so that `search_path` says
//! where it goes; every other name with its schema.

use shardlift_domain::ids::MigrationKey;
use sqlx::{PgConnection, Row};

use crate::backup::{Beside, Consistency, Format, Subject};
use crate::engine::postgres::table::Table;

const COLUMNS: &str = "\
    SELECT quote_ident(a.attname), format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attgenerated::text,
           pg_get_expr(d.adbin, d.adrelid),
           CASE WHEN a.attcollation <> t.typcollation
                THEN (SELECT quote_ident(n.nspname) || '.' || quote_ident(c.collname) FROM pg_collation c
                      JOIN pg_namespace n ON n.oid = c.collnamespace WHERE c.oid = a.attcollation) END
    FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
    LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE a.attrelid = $1::int8::oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";
const CONSTRAINTS: &str = "\
    SELECT quote_ident(conname), contype::text, pg_get_constraintdef(oid) FROM pg_constraint
    WHERE conrelid = $1::int8::oid AND contype IN ('p', 'u', 'c', 'f', 'x') ORDER BY contype = 'f', conname";
const INDEXES: &str = "\
    SELECT replace(pg_get_indexdef(i.indexrelid), ' ON ' || $2 || ' USING ', ' ON ' || $3 || ' USING ')
    FROM pg_index i WHERE i.indrelid = $1::int8::oid AND i.indisvalid
      AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conindid = i.indexrelid AND c.contype IN ('p', 'u', 'x'))
    ORDER BY i.indexrelid";

struct Column {
    name: String,
    kind: String,
    not_null: bool,
    generated: String,
    /// Its default, or what it is generated from.
    expression: Option<String>,
    collation: Option<String>,
}

impl Column {
    fn is_saved(&self) -> bool {
        self.generated.is_empty()
    }

    fn definition(&self) -> String {
        let Self { name, kind, not_null, generated, expression, collation } = self;
        let mut text = format!("{name} {kind}");
        if let Some(collation) = collation {
            text.push_str(&format!(" COLLATE {collation}"));
        }
        if let Some(expression) = expression.as_ref().filter(|_| !generated.is_empty()) {
            let kept = if generated == "v" { "VIRTUAL" } else { "STORED" };
            text.push_str(&format!(" GENERATED ALWAYS AS ({expression}) {kept}"));
        }
        if *not_null {
            text.push_str(" NOT NULL");
        }
        text
    }
}

/// Reads it. Inside a transaction: names are read without any `search_path`.
pub(super) async fn read(
    conn: &mut PgConnection,
    table: &Table,
    migration: &MigrationKey,
) -> Result<(Subject, Vec<Beside>), sqlx::Error> {
    sqlx::query("SET LOCAL search_path = ''").execute(&mut *conn).await?;
    let (schema, name): (String, String) = sqlx::query_as(
        "SELECT quote_ident(n.nspname), quote_ident(c.relname) FROM pg_class c \
         JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1::int8::oid",
    )
    .bind(table.oid)
    .fetch_one(&mut *conn)
    .await?;
    let columns = columns(conn, table.oid).await?;
    let constraints: Vec<(String, String, String)> =
        sqlx::query_as(CONSTRAINTS).bind(table.oid).fetch_all(&mut *conn).await?;
    let indexes: Vec<String> = sqlx::query_scalar(INDEXES)
        .bind(table.oid)
        .bind(format!("{schema}.{name}"))
        .bind(&name)
        .fetch_all(&mut *conn)
        .await?;
    let mut lines: Vec<String> =
        columns.iter().map(|column| format!("    {}", column.definition())).collect();
    lines.extend(
        constraints.iter().filter(|(_, kind, _)| kind == "p").map(|(_, _, text)| format!("    {text}")),
    );
    let create = format!("CREATE TABLE {name} (\n{}\n)", lines.join(",\n"));
    let subject = Subject {
        relation: format!("{schema}.{name}"),
        name: name.clone(),
        format: Format::PostgresCopy,
        stem: format!("{}.copy", file_name(&format!("{schema}.{name}"))),
        columns: columns
            .iter()
            .filter(|column| column.is_saved())
            .map(|column| column.name.clone())
            .collect(),
        create: vec![create],
        consistency: Consistency::Snapshot,
    };
    let mut later: Vec<String> = columns.iter().filter_map(|column| default(&name, column)).collect();
    later.extend(
        constraints
            .iter()
            .filter(|(_, kind, _)| kind != "p")
            .map(|(of, _, text)| format!("ALTER TABLE {name} ADD CONSTRAINT {of} {text};")),
    );
    later.extend(indexes.into_iter().map(|index| format!("{index};")));
    let content = page(&subject, migration, &later).into_bytes();
    Ok((subject, vec![Beside { name: "schema.sql".into(), content }]))
}

async fn columns(conn: &mut PgConnection, oid: i64) -> Result<Vec<Column>, sqlx::Error> {
    let rows = sqlx::query(COLUMNS).bind(oid).fetch_all(conn).await?;
    let column = |row: &sqlx::postgres::PgRow| {
        Ok(Column {
            name: row.try_get(0)?,
            kind: row.try_get(1)?,
            not_null: row.try_get(2)?,
            generated: row.try_get(3)?,
            expression: row.try_get(4)?,
            collation: row.try_get(5)?,
        })
    };
    rows.iter().map(column).collect()
}

fn default(table: &str, column: &Column) -> Option<String> {
    let expression = column.expression.as_ref().filter(|_| column.is_saved())?;
    Some(format!("ALTER TABLE {table} ALTER COLUMN {} SET DEFAULT {expression};", column.name))
}

/// A name of a table as a name of a file.
fn file_name(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    name.chars().map(|c| if plain(c) { c } else { '_' }).collect()
}

fn page(subject: &Subject, migration: &MigrationKey, later: &[String]) -> String {
    let Subject { relation, name, stem, columns, create, .. } = subject;
    let later: String =
        later.iter().flat_map(|text| text.lines()).map(|line| format!("-- {line}\n")).collect();
    format!(
        "-- {relation} before {migration}, saved by Shardlift. To restore it with psql, beside the original:\n\
         --\n\
         --   CREATE SCHEMA restored;\n\
         --   SET search_path TO restored;\n\
         --   \\i schema.sql\n\
         --   \\copy {name} ({columns}) FROM PROGRAM 'zstd -dc {stem}.zst.*' WITH (FORMAT binary)\n\
         \n\
         {create};\n\
         \n\
         -- What the original has besides; run what is wanted, after the rows:\n\
         {later}",
        columns = columns.join(", "),
        create = create.join(";\n"),
    )
}

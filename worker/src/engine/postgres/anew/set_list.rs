//! A `SET` list, evaluated by the shard: over each old row as the table's own row type, which is made of the kept values
//! and the present ones of the other columns.

use shardlift_domain::mismatch::Difference;
use shardlift_domain::spec::Sample;
use shardlift_domain::sql::{parse_relation, quote_ident};
use sqlx::{PgConnection, Row};

use super::One;
use super::log::{Entry, Part, Types, digest, digest_of_columns, key};
use crate::engine::anew::{self, GONE, Known, Seen};
use crate::engine::postgres::key::shown;
use crate::engine::postgres::walk::Walk;

/// The present row. The table's own name is that of the old row, which is what the list is to see, and of nothing else.
const NOW: &str = "shardlift_now";

/// The list and the table that it is for.
pub(super) struct SetList {
    walk: Walk,
    list: Vec<(String, String)>,
    types: Types,
}

impl SetList {
    pub(super) fn new(walk: Walk, list: Vec<(String, String)>, types: Types) -> Self {
        Self { walk, list, types }
    }

    /// Has the server compile the statement.
    pub(super) async fn explain(&self, conn: &mut PgConnection) -> Result<(), sqlx::Error> {
        let fields = self.list.iter().map(|(column, _)| column.clone()).collect();
        let entry = Entry::sample(&self.walk.migration, fields);
        let sql = self.statement(&entry, Part { from: 0, to: 1 }, Sample::All);
        entry.query(format!("EXPLAIN {sql}")).execute(conn).await.map(drop)
    }

    /// Compares some rows of an entry, in one statement and so in one snapshot.
    pub(super) async fn compare(
        &self,
        conn: &mut PgConnection,
        entry: &Entry,
        part: Part,
        sample: Sample,
    ) -> Result<Seen, sqlx::Error> {
        let rows = entry.query(self.statement(entry, part, sample)).fetch_all(conn).await?;
        let mut page = Seen { next: Some(entry.behind(part.to)), ..Seen::default() };
        for row in &rows {
            let there: bool = row.try_get(0)?;
            let known = Known { same: row.try_get(1)?, as_written: row.try_get(2)?, inputs: row.try_get(3)? };
            let verdict = if there { known.verdict() } else { Some((Difference::Gone, GONE)) };
            let key: Vec<String> = row.try_get::<Option<_>, _>(4)?.unwrap_or_default();
            let number: i64 = row.try_get(5)?;
            let place = entry.row(part.row(number));
            anew::add(&mut page, verdict, (place, row.try_get(6)?), || shown(&key));
        }
        page.compared.left_out = part.rows() - rows.len() as u64;
        Ok(page)
    }

    /// The table and its key.
    pub(super) fn walk(&self) -> &Walk {
        &self.walk
    }

    /// Compares one row of an entry, and tells what the list gives for it.
    pub(super) async fn one(
        &self,
        conn: &mut PgConnection,
        entry: &Entry,
        part: Part,
    ) -> Result<Option<One>, sqlx::Error> {
        let Present { there, inputs, present } = Present::of(entry);
        let texts = self.given(entry, |values| {
            let texts: Vec<String> = values.map(|value| format!("{value}::text")).collect();
            format!("ARRAY[{}]::text[]", texts.join(", "))
        });
        let sql = format!(
            "WITH shardlift_log AS MATERIALIZED ({log}) \
             SELECT {there}, coalesce({there} AND {present} = shardlift_log.shardlift_w, false), {inputs}, {present}, \
               CASE WHEN {inputs} THEN {texts} END, CASE WHEN {inputs} THEN {given} END \
             FROM {joined}",
            log = entry.unfolded(self.walk.key.columns().len(), part, Sample::All),
            given = self.given(entry, |values| digest(values)),
            joined = self.joined(),
        );
        let row = entry.query(sql).fetch_optional(conn).await?;
        row.map(|row| {
            let now: i64 = row.try_get(3)?;
            let texts: Option<Vec<Option<String>>> = row.try_get(4)?;
            let given = texts.zip(row.try_get::<Option<i64>, _>(5)?);
            let same = given.as_ref().is_some_and(|(_, digest)| *digest == now);
            let known = Known { same, as_written: row.try_get(1)?, inputs: row.try_get(2)? };
            Ok(One { there: row.try_get(0)?, known, now, given })
        })
        .transpose()
    }

    /// One row for each: whether it is there, whether it is what the list gives, whether it is what was written, whether
    /// the list's inputs are what they were, its key unless all of that holds, its number, and the digest of its columns.
    ///
    /// The list is evaluated only where its inputs are those on which it has been evaluated before: others may make it fail.
    fn statement(&self, entry: &Entry, part: Part, sample: Sample) -> String {
        let keys = self.walk.key.columns().len();
        let Present { there, inputs, present } = Present::of(entry);
        format!(
            "WITH shardlift_log AS MATERIALIZED ({log}), \
             shardlift_seen AS (SELECT {there} AS there, \
               CASE WHEN {inputs} THEN coalesce({given} = {present}, false) ELSE false END AS same, \
               coalesce({there} AND {present} = shardlift_log.shardlift_w, false) AS written, \
               {inputs} AS inputs, ARRAY[{key}] AS key, shardlift_log.shardlift_n AS n, \
               CASE WHEN {there} THEN {present} END AS now \
             FROM {joined}) \
             SELECT there, same, written, inputs, CASE WHEN NOT (there AND same) THEN key END, n, now FROM shardlift_seen",
            log = entry.unfolded(keys, part, sample),
            given = self.given(entry, |values| digest(values)),
            key = key(keys, "shardlift_log"),
            joined = self.joined(),
        )
    }

    /// Each row of the log with the one that is there now.
    fn joined(&self) -> String {
        let joins = self.walk.key.same_as("shardlift_log");
        format!("shardlift_log LEFT JOIN {} AS {NOW} ON {joins}", self.walk.table.sql)
    }

    /// What the list gives, made into one value.
    fn given(&self, entry: &Entry, made: impl FnOnce(&mut dyn Iterator<Item = String>) -> String) -> String {
        let table = &self.walk.table.sql;
        let old = self.walk.table.columns.iter().map(|column| {
            match entry.fields.iter().position(|field| *field == column.name) {
                Some(n) => format!("shardlift_log.shardlift_o{n}::{}", column.cast),
                None => format!("{NOW}.{}", column.sql()),
            }
        });
        let mut values = entry.fields.iter().map(|field| {
            let value = self.list.iter().find(|(column, _)| column == field);
            // A field that the list does not set cannot be in the log of this migration.
            let value = value.map_or("NULL", |(_, value)| value.as_str());
            format!("CAST(({value}) AS {})", self.types.get(field).map_or("text", String::as_str))
        });
        format!(
            "(SELECT {} FROM unnest(ARRAY[ROW({})::{table}]) AS {})",
            made(&mut values),
            old.collect::<Vec<_>>().join(", "),
            parse_relation(table).map_or_else(|_| table.clone(), |table| quote_ident(&table.name)),
        )
    }
}

/// What is known of the row that is there, in SQL.
struct Present {
    there: String,
    inputs: String,
    present: String,
}

impl Present {
    fn of(entry: &Entry) -> Self {
        let there = format!("{NOW}.tableoid IS NOT NULL");
        let inputs = digest_of_columns(NOW, &entry.inputs);
        let inputs = format!("coalesce({there} AND {inputs} = shardlift_log.shardlift_i, false)");
        Self { there, inputs, present: digest_of_columns(NOW, &entry.fields) }
    }
}

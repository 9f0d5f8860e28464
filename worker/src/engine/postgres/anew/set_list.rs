//! A `SET` list, evaluated by the shard: over each old row as the table's own row type, which is made of the kept values
//! and the present ones of the other columns.

use shardlift_domain::mismatch::{Difference, MismatchesPage};
use shardlift_domain::spec::Sample;
use shardlift_domain::sql::{parse_relation, quote_ident};
use sqlx::{PgConnection, Row};

use super::log::{Entry, Part, Types, digest, digest_of_columns, key};
use crate::engine::anew::{self, GONE, Known};
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
    ) -> Result<MismatchesPage, sqlx::Error> {
        let rows = entry.query(self.statement(entry, part, sample)).fetch_all(conn).await?;
        let mut page = MismatchesPage { next: Some(entry.behind(part.to)), ..MismatchesPage::default() };
        for row in &rows {
            let there: bool = row.try_get(0)?;
            let known = Known { same: row.try_get(1)?, as_written: row.try_get(2)?, inputs: row.try_get(3)? };
            let verdict = if there { known.verdict() } else { Some((Difference::Gone, GONE)) };
            let key: Vec<String> = row.try_get::<Option<_>, _>(4)?.unwrap_or_default();
            anew::add(&mut page, verdict, || shown(&key));
        }
        page.compared.left_out = part.rows() - rows.len() as u64;
        Ok(page)
    }

    /// One row for each: whether it is there, whether it is what the list gives, whether it is what was written, whether
    /// the list's inputs are what they were, and its key unless all of that holds.
    ///
    /// The list is evaluated only where its inputs are those on which it has been evaluated before: others may make it fail.
    fn statement(&self, entry: &Entry, part: Part, sample: Sample) -> String {
        let (table, keys) = (&self.walk.table.sql, self.walk.key.columns().len());
        let there = format!("{NOW}.tableoid IS NOT NULL");
        let inputs = format!(
            "coalesce({there} AND {} = shardlift_log.shardlift_i, false)",
            digest_of_columns(NOW, &entry.inputs)
        );
        let present = digest_of_columns(NOW, &entry.fields);
        format!(
            "WITH shardlift_log AS MATERIALIZED ({log}), \
             shardlift_seen AS (SELECT {there} AS there, \
               CASE WHEN {inputs} THEN coalesce({given} = {present}, false) ELSE false END AS same, \
               coalesce({there} AND {present} = shardlift_log.shardlift_w, false) AS written, \
               {inputs} AS inputs, ARRAY[{key}] AS key \
             FROM shardlift_log LEFT JOIN {table} AS {NOW} ON {joins}) \
             SELECT there, same, written, inputs, CASE WHEN NOT (there AND same) THEN key END FROM shardlift_seen",
            log = entry.unfolded(keys, part, sample),
            given = self.given(entry),
            key = key(keys, "shardlift_log"),
            joins = self.walk.key.same_as("shardlift_log"),
        )
    }

    /// The digest of what the list gives.
    fn given(&self, entry: &Entry) -> String {
        let table = &self.walk.table.sql;
        let old = self.walk.table.columns.iter().map(|column| {
            match entry.fields.iter().position(|field| *field == column.name) {
                Some(n) => format!("shardlift_log.shardlift_o{n}::{}", column.cast),
                None => format!("{NOW}.{}", column.sql()),
            }
        });
        let values = entry.fields.iter().map(|field| {
            let value = self.list.iter().find(|(column, _)| column == field);
            // A field that the list does not set cannot be in the log of this migration.
            let value = value.map_or("NULL", |(_, value)| value.as_str());
            format!("CAST(({value}) AS {})", self.types.get(field).map_or("text", String::as_str))
        });
        format!(
            "(SELECT {} FROM unnest(ARRAY[ROW({})::{table}]) AS {})",
            digest(values),
            old.collect::<Vec<_>>().join(", "),
            parse_relation(table).map_or_else(|_| table.clone(), |table| quote_ident(&table.name)),
        )
    }
}

//! A `SET` list, evaluated by the shard: over each old row under the table's name, which is made of the kept values and the
//! present ones of the other columns.

use shardlift_domain::mismatch::Difference;
use shardlift_domain::spec::Sample;
use shardlift_domain::sql::{parse_relation, quote_ident};
use sqlx::{PgConnection, Row};

use super::One;
use super::log::{Entry, Part, Types, digest, digest_of_columns, key, told};
use crate::engine::anew::{self, GONE, Known, Seen};
use crate::engine::postgres::fence::unsigned;
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
        let mut all = 0;
        for row in &rows {
            all = unsigned(row.try_get(0)?);
            let Some(number) = row.try_get::<Option<i64>, _>(1)? else { continue };
            let now: Option<i64> = row.try_get(2)?;
            let key: Vec<String> = row.try_get(3)?;
            let known = Known { same: false, as_written: row.try_get(4)?, inputs: row.try_get(5)? };
            let verdict = if now.is_some() { known.verdict() } else { Some((Difference::Gone, GONE)) };
            anew::add(&mut page, verdict, (entry.row(part.row(number)), now), || shown(&key));
        }
        page.compared.verified = all - page.compared.looked_at();
        page.compared.left_out = part.rows() - all;
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

    /// Of each row that is not what the list gives, as [`told`] has it, and besides: whether it is what was written, and
    /// whether the list's inputs are what they were.
    ///
    /// The list is evaluated only where its inputs are those on which it has been evaluated before: others may make it fail.
    /// Each digest is made once.
    fn statement(&self, entry: &Entry, part: Part, sample: Sample) -> String {
        let keys = self.walk.key.columns().len();
        let Present { there, inputs, present } = Present::of(entry);
        format!(
            "WITH shardlift_log AS MATERIALIZED ({log}), \
             shardlift_seen AS MATERIALIZED (SELECT {key}, shardlift_log.shardlift_n, shardlift_log.shardlift_w, \
               CASE WHEN {there} THEN {present} END AS shardlift_is, CASE WHEN {inputs} THEN {given} END AS shardlift_given \
             FROM {joined}), \
             shardlift_other AS MATERIALIZED (SELECT * FROM shardlift_seen \
               WHERE shardlift_is IS NULL OR shardlift_given IS DISTINCT FROM shardlift_is) \
             {told}",
            log = entry.unfolded(keys, part, sample),
            given = self.given(entry, |values| digest(values)),
            key = key(keys, "shardlift_log"),
            joined = self.joined(),
            told = told(keys, "coalesce(shardlift_is = shardlift_w, false), shardlift_given IS NOT NULL"),
        )
    }

    /// Each row of the log with the one that is there now.
    fn joined(&self) -> String {
        let joins = self.walk.key.same_as("shardlift_log");
        format!("shardlift_log LEFT JOIN {} AS {NOW} ON {joins}", self.walk.table.sql)
    }

    /// What the list gives, made into one value.
    fn given(&self, entry: &Entry, made: impl FnOnce(&mut dyn Iterator<Item = String>) -> String) -> String {
        let mut values = entry.fields.iter().map(|field| {
            let value = self.list.iter().find(|(column, _)| column == field);
            // A field that the list does not set cannot be in the log of this migration.
            let value = value.map_or("NULL", |(_, value)| value.as_str());
            format!("CAST(({value}) AS {})", self.full_type(field))
        });
        format!("(SELECT {} FROM {})", made(&mut values), self.old(entry))
    }

    /// The old row under the table's own name. As a value of the table's row type only for a list that may name the row as a
    /// whole: making one for each row takes about as long as all the rest.
    fn old(&self, entry: &Entry) -> String {
        let table = &self.walk.table.sql;
        let name = parse_relation(table).map_or_else(|_| table.clone(), |table| table.name);
        let whole = self.list.iter().any(|(_, value)| value.to_lowercase().contains(&name.to_lowercase()));
        let columns = self.walk.table.columns.iter().map(|column| {
            let value = match entry.fields.iter().position(|field| *field == column.name) {
                Some(n) => format!("shardlift_log.shardlift_o{n}::{}", self.full_type(&column.name)),
                None => format!("{NOW}.{}", column.sql()),
            };
            if whole { value } else { format!("{value} AS {}", column.sql()) }
        });
        let columns = columns.collect::<Vec<_>>().join(", ");
        let name = quote_ident(&name);
        match whole {
            true => format!("unnest(ARRAY[ROW({columns})::{table}]) AS {name}"),
            false => format!("(SELECT {columns}) AS {name}"),
        }
    }

    /// The type of a column, with length and precision.
    fn full_type(&self, column: &str) -> &str {
        self.types.get(column).map_or("text", String::as_str)
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

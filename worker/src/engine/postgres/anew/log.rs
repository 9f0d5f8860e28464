//! The undo log as it is read for a comparison: entry by entry in the order in which ranges and batches wrote it, some rows
//! at a time.

use std::collections::HashMap;

use shardlift_domain::ids::MigrationKey;
use shardlift_domain::mismatch::LogPlace;
use shardlift_domain::spec::Sample;
use shardlift_domain::sql::quote_ident;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, PgConnection, Postgres, Row};

use crate::engine::postgres::fence::signed;
use crate::engine::postgres::table::Table;

const NEXT: &str = "\
    SELECT range_index, batch, part, fields, input_fields, rows FROM shardlift.undo
    WHERE migration = $1 AND version = $2 AND (range_index, batch, part) >= ($3, $4, $5)
    ORDER BY range_index, batch, part LIMIT 1";
const TYPES: &str = "\
    SELECT a.attname::text, format_type(a.atttypid, a.atttypmod) FROM pg_attribute a
    WHERE a.attrelid = $1::int8::oid AND a.attnum > 0 AND NOT a.attisdropped";

/// The types of a table's columns, with length and precision.
pub(super) type Types = HashMap<String, String>;

/// Reads them.
pub(super) async fn types(conn: &mut PgConnection, table: &Table) -> Result<Types, sqlx::Error> {
    sqlx::query_as(TYPES).bind(table.oid).fetch_all(conn).await.map(|rows: Vec<_>| rows.into_iter().collect())
}

/// One entry of the log.
pub(super) struct Entry {
    migration: MigrationKey,
    place: LogPlace,
    /// The columns that were changed.
    pub(super) fields: Vec<String>,
    /// Those that the digest of the other inputs is made of.
    pub(super) inputs: Vec<String>,
    rows: u32,
}

/// Some rows of an entry: behind `from`, up to `to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) from: u32,
    pub(super) to: u32,
}

impl Part {
    /// How many rows it has.
    pub(super) fn rows(self) -> u64 {
        u64::from(self.to.saturating_sub(self.from))
    }

    /// How many rows of the entry stand before the one with this number, as [`Entry::unfolded`] numbers them.
    pub(super) fn row(self, number: i64) -> u32 {
        self.from.saturating_add(u32::try_from(number.saturating_sub(1)).unwrap_or_default())
    }
}

impl Entry {
    /// The entry that a place is in, or the one that follows it.
    pub(super) async fn after(
        conn: &mut PgConnection,
        migration: &MigrationKey,
        place: LogPlace,
    ) -> Result<Option<Self>, sqlx::Error> {
        let row = sqlx::query(NEXT)
            .bind(migration.id.as_str())
            .bind(i64::from(migration.version.0))
            .bind(i32::try_from(place.range).unwrap_or(i32::MAX))
            .bind(signed(place.batch))
            .bind(i32::try_from(place.part).unwrap_or(i32::MAX))
            .fetch_optional(conn)
            .await?;
        row.map(|row| {
            let number = |value: i32| u32::try_from(value).unwrap_or_default();
            let place = LogPlace {
                range: number(row.try_get(0)?),
                batch: u64::try_from(row.try_get::<i64, _>(1)?).unwrap_or_default(),
                part: number(row.try_get(2)?),
                row: 0,
            };
            Ok(Self {
                migration: migration.clone(),
                place,
                fields: row.try_get(3)?,
                inputs: row.try_get(4)?,
                rows: number(row.try_get(5)?),
            })
        })
        .transpose()
    }

    /// The entry of this place, if there is one that holds the row.
    pub(super) async fn of(
        conn: &mut PgConnection,
        migration: &MigrationKey,
        place: LogPlace,
    ) -> Result<Option<Self>, sqlx::Error> {
        let found = Self::after(conn, migration, place).await?;
        Ok(found.filter(|entry| entry.place == LogPlace { row: 0, ..place } && place.row < entry.rows))
    }

    /// The place of a row of it.
    pub(super) fn row(&self, row: u32) -> LogPlace {
        LogPlace { row, ..self.place }
    }

    /// One that stands for any, to look at a statement without running it.
    pub(super) fn sample(migration: &MigrationKey, fields: Vec<String>) -> Self {
        let place = LogPlace::default();
        Self { migration: migration.clone(), place, fields, inputs: Vec::new(), rows: 1 }
    }

    /// Its next rows, at most so many, behind a place that may be in an earlier entry.
    pub(super) fn part(&self, after: LogPlace, rows: u32) -> Part {
        let here = LogPlace { row: 0, ..after } == self.place;
        let from = if here { after.row.min(self.rows) } else { 0 };
        Part { from, to: from.saturating_add(rows.max(1)).min(self.rows) }
    }

    /// The place behind so many rows of it.
    pub(super) fn behind(&self, row: u32) -> LogPlace {
        if row >= self.rows { self.place.next_entry() } else { LogPlace { row, ..self.place } }
    }

    /// A query whose first parameters name the entry, as [`Entry::unfolded`] wants it.
    pub(super) fn query(&self, sql: String) -> Query<'static, Postgres, PgArguments> {
        sqlx::query(AssertSqlSafe(sql))
            .bind(self.migration.id.as_str().to_owned())
            .bind(i64::from(self.migration.version.0))
            .bind(i32::try_from(self.place.range).unwrap_or(i32::MAX))
            .bind(signed(self.place.batch))
            .bind(i32::try_from(self.place.part).unwrap_or(i32::MAX))
    }

    /// A query that makes rows of a part: `k0…` the key's columns, `o0…` the old values, `w` the digest of what was written,
    /// `i` that of the inputs, `n` its number; only those in the sample. All with the prefix `shardlift_`.
    pub(super) fn unfolded(&self, keys: usize, part: Part, sample: Sample) -> String {
        let of =
            [("keys", keys, 'k'), ("old", self.fields.len(), 'o'), ("written", 1, 'w'), ("inputs", 1, 'i')];
        self.unnested(&of, part, &sampled(keys, sample))
    }

    /// The same of nothing but keys, digests of what was written, and numbers.
    pub(super) fn written(&self, keys: usize, part: Part) -> String {
        self.unnested(&[("keys", keys, 'k'), ("written", 1, 'w')], part, "")
    }

    /// Of each array so many columns, under this letter; numbered if it may have several.
    fn unnested(&self, of: &[(&str, usize, char)], part: Part, condition: &str) -> String {
        let (mut arrays, mut names) = (Vec::new(), Vec::new());
        for (array, columns, letter) in of {
            for n in 0..*columns {
                let begin = u64::from(self.rows) * n as u64;
                let (from, to) = (begin + u64::from(part.from) + 1, begin + u64::from(part.to));
                arrays.push(format!("u.{array}[{from}:{to}]"));
                let number = if matches!(letter, 'k' | 'o') { n.to_string() } else { String::new() };
                names.push(format!("shardlift_{letter}{number}"));
            }
        }
        format!(
            "SELECT l.* FROM shardlift.undo u, unnest({}) WITH ORDINALITY AS l ({}, shardlift_n) \
             WHERE u.migration = $1 AND u.version = $2 AND u.range_index = $3 AND u.batch = $4 AND u.part = $5{condition}",
            arrays.join(", "),
            names.join(", "),
        )
    }
}

/// A query that makes the keys of all rows that passes after the entry's own have migrated, named as in [`Entry::unfolded`].
pub(super) fn later(keys: usize) -> String {
    let slices = (0..keys).map(|n| format!("u.keys[{n} * u.rows + 1:{} * u.rows]", n + 1));
    let names = (0..keys).map(|n| format!("shardlift_k{n}"));
    format!(
        "SELECT l.* FROM shardlift.checkpoint c JOIN shardlift.undo u USING (migration, version, range_index), \
         unnest({}) AS l ({}) WHERE c.migration = $1 AND c.version = $2 AND c.pass > \
           (SELECT o.pass FROM shardlift.checkpoint o WHERE o.migration = $1 AND o.version = $2 AND o.range_index = $3)",
        slices.collect::<Vec<_>>().join(", "),
        names.collect::<Vec<_>>().join(", "),
    )
}

/// The end of a statement whose part `shardlift_log` has the rows of an entry, and `shardlift_other` those that differ, with the
/// digest of what they are as `shardlift_is`: how many there are, and number, digest and key of each that differs, and more.
/// One row at least.
pub(super) fn told(keys: usize, more: &str) -> String {
    format!(
        "SELECT (SELECT count(*) FROM shardlift_log), shardlift_other.shardlift_n, shardlift_other.shardlift_is, \
         ARRAY[{}]::text[], {more} FROM (SELECT) AS shardlift_one LEFT JOIN shardlift_other ON true \
         ORDER BY shardlift_other.shardlift_n",
        key(keys, "shardlift_other"),
    )
}

/// By the key: the same rows every time.
fn sampled(keys: usize, sample: Sample) -> String {
    match sample {
        Sample::All => String::new(),
        Sample::Percent(share) => {
            format!(" AND abs(hashtextextended(ARRAY[{}]::text, 0) % 100) < {share}", key(keys, "l"))
        }
    }
}

/// The key's columns of an unfolded row.
pub(super) fn key(keys: usize, row: &str) -> String {
    (0..keys).map(|n| format!("{row}.shardlift_k{n}")).collect::<Vec<_>>().join(", ")
}

/// The digest that the log holds, of these columns as they are in the table now. `table`: ready for SQL.
pub(super) fn digest_of_columns(table: &str, columns: &[String]) -> String {
    digest(columns.iter().map(|column| format!("{table}.{}", quote_ident(column))))
}

/// The same of these expressions.
pub(super) fn digest(values: impl Iterator<Item = String>) -> String {
    let parts = (1..).zip(values);
    let parts = parts
        .map(|(seed, value)| format!("coalesce(hashtextextended(({value})::text COLLATE \"C\", {seed}), 0)"));
    let parts: Vec<String> = parts.collect();
    if parts.is_empty() { "0::bigint".to_owned() } else { format!("({})", parts.join(" # ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shardlift_domain::ids::{MigrationId, Version};

    fn entry() -> Entry {
        let migration = MigrationKey { id: MigrationId::new("m").expect("a name"), version: Version::FIRST };
        let place = LogPlace { range: 1, batch: 7, part: 0, row: 0 };
        Entry { migration, place, fields: vec!["a".into(), "b".into()], inputs: Vec::new(), rows: 10 }
    }

    #[test]
    fn an_entry_is_read_part_by_part_from_wherever_the_walk_stands() {
        let entry = entry();
        let earlier = LogPlace { range: 0, batch: 99, part: 3, row: 8 };
        assert_eq!(entry.part(earlier, 4), Part { from: 0, to: 4 });
        assert_eq!(entry.part(entry.behind(4), 4), Part { from: 4, to: 8 });
        assert_eq!(entry.part(entry.behind(8), 4), Part { from: 8, to: 10 });
        assert!(entry.behind(10) > LogPlace { row: 10, ..entry.place }, "the next entry");
    }

    #[test]
    fn a_part_is_cut_out_of_each_column() {
        let sql = entry().unfolded(1, Part { from: 4, to: 8 }, Sample::Percent(5));
        for piece in ["u.keys[5:8]", "u.old[5:8]", "u.old[15:18]", "u.written[5:8]", "% 100) < 5"] {
            assert!(sql.contains(piece), "{sql}");
        }
    }
}

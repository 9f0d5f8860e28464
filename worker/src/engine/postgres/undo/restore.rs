//! One row of the undo log: what a batch had changed. Restored as a whole; divided when the database refuses a part of it.

use shardlift_domain::ids::MigrationKey;
use shardlift_domain::sql::quote_ident;
use shardlift_domain::verdict::Undone;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, PgConnection, Postgres, Row};

use crate::engine::postgres::capture::digest;
use crate::engine::postgres::fence::unsigned;
use crate::engine::postgres::walk::Walk;

/// Which row of the log.
#[derive(Debug, Clone)]
pub(super) struct Image {
    migration: MigrationKey,
    range: i32,
    batch: i64,
    part: i32,
    fields: Vec<String>,
    pub(super) rows: u32,
}

const NEWEST: &str = "\
    SELECT range_index, batch, part, fields, rows FROM shardlift.undo WHERE migration = $1 AND version = $2
    ORDER BY range_index DESC, batch DESC, part DESC LIMIT 1";
/// The row of the log that [`Image::query`] binds.
const THIS: &str =
    "u.migration = $1 AND u.version = $2 AND u.range_index = $3 AND u.batch = $4 AND u.part = $5";

impl Image {
    /// The newest one there is.
    pub(super) async fn newest(
        conn: &mut PgConnection,
        migration: &MigrationKey,
    ) -> Result<Option<Self>, sqlx::Error> {
        let row = sqlx::query(NEWEST)
            .bind(migration.id.as_str())
            .bind(i64::from(migration.version.0))
            .fetch_optional(conn)
            .await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(Self {
            migration: migration.clone(),
            range: row.try_get(0)?,
            batch: row.try_get(1)?,
            part: row.try_get(2)?,
            fields: row.try_get(3)?,
            rows: u32::try_from(row.try_get::<i32, _>(4)?).unwrap_or_default(),
        }))
    }

    fn query(&self, sql: String) -> Query<'static, Postgres, PgArguments> {
        sqlx::query(AssertSqlSafe(sql))
            .bind(self.migration.id.as_str().to_owned())
            .bind(i64::from(self.migration.version.0))
            .bind(self.range)
            .bind(self.batch)
            .bind(self.part)
    }

    /// Gives the rows that still are what was written their old values, and sets the others aside.
    ///
    /// The comparison stands in the update itself: a row that somebody changes meanwhile is compared again as it is then.
    pub(super) async fn restore(&self, tx: &mut PgConnection, walk: &Walk) -> Result<Undone, sqlx::Error> {
        let table = &walk.table.sql;
        let set = self.fields.iter().enumerate().map(|(n, field)| {
            let cast = walk.table.columns.iter().find(|column| column.name == *field);
            // A column that is not there any more: the server names it.
            let cast = cast.map_or("text", |column| column.cast.as_str());
            format!("{} = shardlift_log.shardlift_o{n}::{cast}", quote_ident(field))
        });
        let sql = format!(
            "WITH shardlift_log AS MATERIALIZED ({log}), \
             restored AS (UPDATE {table} SET {set} FROM shardlift_log WHERE {same} \
               AND {digest} = shardlift_log.shardlift_out RETURNING shardlift_log.shardlift_n), \
             aside AS MATERIALIZED (SELECT l.* FROM shardlift_log l \
               WHERE NOT EXISTS (SELECT FROM restored r WHERE r.shardlift_n = l.shardlift_n)), \
             kept AS ({keep}), \
             cleared AS (DELETE FROM shardlift.undo u WHERE {THIS}) \
             SELECT (SELECT count(*) FROM restored), (SELECT count(*) FROM aside)",
            log = self.log(walk),
            set = set.collect::<Vec<_>>().join(", "),
            same = walk.key.same_as("shardlift_log"),
            digest = digest(table, &self.fields),
            keep = self.keep(
                walk,
                "aside",
                &format!(
                    "CASE WHEN EXISTS (SELECT FROM {table} WHERE {}) THEN 'it was changed since' \
                     ELSE 'it is not there any more' END",
                    walk.key.same_as("aside")
                ),
            ),
        );
        let row = self.query(sql).fetch_one(tx).await?;
        Ok(Undone { restored: unsigned(row.try_get(0)?), conflicts: unsigned(row.try_get(1)?) })
    }

    /// The database refuses the only row's old values: it is set aside, with the reason.
    pub(super) async fn set_aside(
        &self,
        tx: &mut PgConnection,
        walk: &Walk,
        why: &str,
    ) -> Result<Undone, sqlx::Error> {
        let sql = format!(
            "WITH aside AS MATERIALIZED ({log}), kept AS ({keep}) DELETE FROM shardlift.undo u WHERE {THIS}",
            log = self.log(walk),
            keep = self.keep(walk, "aside", "$6"),
        );
        self.query(sql).bind(why.to_owned()).execute(tx).await?;
        Ok(Undone { restored: 0, conflicts: 1 })
    }

    /// Makes two of it.
    pub(super) async fn divide(&self, tx: &mut PgConnection, walk: &Walk) -> Result<Undone, sqlx::Error> {
        let keys = walk.key.columns().len();
        let half = self.rows / 2;
        let columns = "migration, version, range_index, batch, fields, input_fields, at";
        let later = format!(
            "INSERT INTO shardlift.undo ({columns}, part, rows, keys, old, written, inputs) \
             SELECT {columns}, (SELECT max(o.part) + 1 FROM shardlift.undo o WHERE o.migration = $1 AND o.version = $2 \
               AND o.range_index = $3 AND o.batch = $4), {left}, {keys}, {old}, {written}, {inputs} \
             FROM shardlift.undo u WHERE {THIS}",
            left = self.rows - half,
            keys = self.slice("keys", keys, half, self.rows),
            old = self.slice("old", self.fields.len(), half, self.rows),
            written = self.slice("written", 1, half, self.rows),
            inputs = self.slice("inputs", 1, half, self.rows),
        );
        self.query(later).execute(&mut *tx).await?;
        let sooner = format!(
            "UPDATE shardlift.undo u SET rows = {half}, keys = {keys}, old = {old}, written = {written}, \
             inputs = {inputs} WHERE {THIS}",
            keys = self.slice("keys", keys, 0, half),
            old = self.slice("old", self.fields.len(), 0, half),
            written = self.slice("written", 1, 0, half),
            inputs = self.slice("inputs", 1, 0, half),
        );
        self.query(sooner).execute(tx).await?;
        Ok(Undone::default())
    }

    /// Some rows of an array that holds several columns one after another.
    fn slice(&self, array: &str, columns: usize, from: u32, to: u32) -> String {
        let parts = (0..columns).map(|n| {
            let begin = u64::from(self.rows) * n as u64;
            format!("u.{array}[{}:{}]", begin + u64::from(from) + 1, begin + u64::from(to))
        });
        parts.collect::<Vec<_>>().join(" || ")
    }

    /// Its rows, one by one.
    fn log(&self, walk: &Walk) -> String {
        let column = |array: &str, n: usize| {
            let begin = u64::from(self.rows) * n as u64;
            format!("u.{array}[{}:{}]", begin + 1, begin + u64::from(self.rows))
        };
        let (mut arrays, mut names) = (Vec::new(), Vec::new());
        for n in 0..walk.key.columns().len() {
            arrays.push(column("keys", n));
            names.push(format!("shardlift_k{n}"));
        }
        for n in 0..self.fields.len() {
            arrays.push(column("old", n));
            names.push(format!("shardlift_o{n}"));
        }
        format!(
            "SELECT l.* FROM shardlift.undo u, unnest({}, u.written) WITH ORDINALITY \
             AS l ({}, shardlift_out, shardlift_n) WHERE {THIS}",
            arrays.join(", "),
            names.join(", ")
        )
    }

    /// Keeps rows of `from` as conflicts.
    fn keep(&self, walk: &Walk, from: &str, reason: &str) -> String {
        let list = |letter: char, count: usize| {
            (0..count).map(|n| format!("{from}.shardlift_{letter}{n}")).collect::<Vec<_>>().join(", ")
        };
        format!(
            "INSERT INTO shardlift.undo_conflict (migration, version, key, fields, old, written, reason) \
             SELECT $1, $2, ARRAY[{keys}], u.fields, ARRAY[{old}], {from}.shardlift_out, {reason} \
             FROM {from}, shardlift.undo u WHERE {THIS}",
            keys = list('k', walk.key.columns().len()),
            old = list('o', self.fields.len()),
        )
    }
}

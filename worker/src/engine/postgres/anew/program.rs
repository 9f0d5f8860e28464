//! A program of the worker, run anew: on each old row, made of the kept values and the present ones of the other columns.
//!
//! What it gives goes back to the shard to be brought into the column's own form, since only that can be compared. The first
//! statement reads the rows, in one snapshot; the second one reads no table.

use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use shardlift_domain::ids::ShardId;
use shardlift_domain::mismatch::Difference;
use shardlift_domain::spec::Sample;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, Row};
use vrl::value::Value;

use super::log::{Entry, Part, Types, digest, digest_of_columns, key};
use super::{One, STATEMENT};
use crate::engine::anew::{self, GONE, Known, Seen as Compared};
use crate::engine::postgres::document;
use crate::engine::postgres::error::OrTrouble;
use crate::engine::postgres::key::shown;
use crate::engine::postgres::session::{QUICK, within};
use crate::engine::postgres::walk::Walk;
use crate::engine::{EngineError, EngineResult};
use crate::transformer::{Document, Transformer};

/// Results that are kept in memory; a part that exceeds it ends there.
const BUDGET: usize = 8 * 1024 * 1024;
/// Programs are computation: after so many rows other tasks of the worker get their turn.
const TURN: u32 = 64;
const LIMIT: Duration = Duration::from_secs(STATEMENT.as_secs() + QUICK.as_secs());

/// The program and the table that it is for.
pub(super) struct Program {
    walk: Walk,
    transformer: Arc<dyn Transformer>,
    types: Types,
}

/// What was read of a row, and what the program made of it.
struct Seen {
    /// Its number in the part.
    number: i64,
    key: Vec<String>,
    there: bool,
    as_written: bool,
    inputs: bool,
    /// The digest of the changed columns as they are now.
    now: i64,
    /// Their texts as the program gives them; `None`: it refuses the row, or changes another column.
    given: Option<Vec<Option<String>>>,
}

impl Program {
    pub(super) fn new(walk: Walk, transformer: Arc<dyn Transformer>, types: Types) -> Self {
        Self { walk, transformer, types }
    }

    /// Compares some rows of an entry, or the first of them.
    pub(super) async fn compare(
        &self,
        conn: &mut PgConnection,
        shard: &ShardId,
        entry: &Entry,
        part: Part,
        sample: Sample,
    ) -> EngineResult<Compared> {
        let (seen, to) = self.read(&mut *conn, entry, part, sample).await.or_trouble(shard)?;
        let digests = self.digests(conn, shard, entry, &seen).await?;
        let mut page = Compared { next: Some(entry.behind(to)), ..Compared::default() };
        page.compared.left_out = Part { to, ..part }.rows() - seen.len() as u64;
        for (row, digest) in seen.iter().zip(digests) {
            let same = digest == Some(row.now);
            let known = Known { same, as_written: row.as_written, inputs: row.inputs };
            let verdict = if row.there { known.verdict() } else { Some((Difference::Gone, GONE)) };
            let place = entry.row(part.row(row.number));
            anew::add(&mut page, verdict, (place, row.there.then_some(row.now)), || shown(&row.key));
        }
        Ok(page)
    }

    /// The table and its key.
    pub(super) fn walk(&self) -> &Walk {
        &self.walk
    }

    /// Compares one row of an entry, and tells what the program gives for it.
    pub(super) async fn one(
        &self,
        conn: &mut PgConnection,
        shard: &ShardId,
        entry: &Entry,
        part: Part,
    ) -> EngineResult<Option<One>> {
        let (mut seen, _) = self.read(&mut *conn, entry, part, Sample::All).await.or_trouble(shard)?;
        let digest = self.digests(conn, shard, entry, &seen).await?.pop().flatten();
        Ok(seen.pop().map(|row| {
            let known = Known {
                same: row.there && digest == Some(row.now),
                as_written: row.as_written,
                inputs: row.inputs,
            };
            One { there: row.there, known, now: row.now, given: row.given.zip(digest) }
        }))
    }

    /// Reads rows and runs the program on each; up to which row of the entry.
    async fn read(
        &self,
        conn: &mut PgConnection,
        entry: &Entry,
        part: Part,
        sample: Sample,
    ) -> Result<(Vec<Seen>, u32), sqlx::Error> {
        let mut rows = entry.query(self.select(entry, part, sample)).fetch(conn);
        let (mut seen, mut bytes) = (Vec::new(), 0);
        while let Some(row) = within(LIMIT, rows.try_next()).await? {
            let one = self.seen(&row, entry)?;
            bytes += one.given.iter().flatten().flatten().map(String::len).sum::<usize>();
            bytes += one.key.iter().map(String::len).sum::<usize>();
            seen.push(one);
            if bytes > BUDGET {
                let number: i64 = row.try_get("shardlift_n")?;
                return Ok((seen, part.row(number).saturating_add(1)));
            }
            if seen.len().is_multiple_of(TURN as usize) {
                tokio::task::yield_now().await;
            }
        }
        Ok((seen, part.to))
    }

    fn seen(&self, row: &PgRow, entry: &Entry) -> Result<Seen, sqlx::Error> {
        let (there, now) = (row.try_get("there")?, row.try_get("now")?);
        Ok(Seen {
            number: row.try_get("shardlift_n")?,
            key: row.try_get("key")?,
            there,
            as_written: there && row.try_get::<Option<i64>, _>("shardlift_w")? == Some(now),
            inputs: row.try_get("inputs")?,
            now,
            given: if there { self.given(row, entry) } else { None },
        })
    }

    /// What the program makes of the old row, for each changed column.
    fn given(&self, row: &PgRow, entry: &Entry) -> Option<Vec<Option<String>>> {
        let columns = &self.walk.table.columns;
        let mut document = Document::new();
        let mut old: Vec<Option<String>> = Vec::with_capacity(columns.len());
        for (n, column) in columns.iter().enumerate() {
            let text: Option<String> = row.try_get(format!("shardlift_c{n}").as_str()).ok()?;
            document.insert(column.name.as_str().into(), document::value(column.shape, text.as_deref()));
            old.push(text);
        }
        let seen = document.clone();
        self.transformer.transform(&mut document).ok()?;
        let mut given = vec![None; entry.fields.len()];
        for (column, text) in columns.iter().zip(old) {
            let new = document.remove(column.name.as_str()).unwrap_or(Value::Null);
            let changed = seen.get(column.name.as_str()) != Some(&new);
            let field = entry.fields.iter().position(|field| *field == column.name);
            match (field, changed) {
                (Some(field), true) => {
                    given[field] = document::text(column.shape, &new, text.as_deref()).ok()?;
                }
                (Some(field), false) => given[field] = text,
                // When it was written it left this column alone.
                (None, true) => return None,
                (None, false) => {}
            }
        }
        document.is_empty().then_some(given)
    }

    /// The digests of what the program gives, in the form that the columns' types give them.
    async fn digests(
        &self,
        conn: &mut PgConnection,
        shard: &ShardId,
        entry: &Entry,
        seen: &[Seen],
    ) -> EngineResult<Vec<Option<i64>>> {
        let all: Vec<&Seen> = seen.iter().filter(|row| row.given.is_some()).collect();
        let digests = match self.formed(&mut *conn, entry, &all).await.or_trouble(shard) {
            // A value that a type refuses: one row after the other, so that the others are judged.
            Err(EngineError::Row(_)) => {
                let mut digests = Vec::with_capacity(all.len());
                for row in all {
                    match self.formed(&mut *conn, entry, &[row]).await.or_trouble(shard) {
                        Ok(formed) => digests.extend(formed.into_iter().map(Some)),
                        Err(EngineError::Row(_)) => digests.push(None),
                        Err(error) => return Err(error),
                    }
                }
                digests
            }
            formed => formed?.into_iter().map(Some).collect(),
        };
        let mut digests = digests.into_iter();
        Ok(seen.iter().map(|row| row.given.as_ref().and_then(|_| digests.next().flatten())).collect())
    }

    async fn formed(
        &self,
        conn: &mut PgConnection,
        entry: &Entry,
        rows: &[&Seen],
    ) -> Result<Vec<i64>, sqlx::Error> {
        if rows.is_empty() || entry.fields.is_empty() {
            return Ok(vec![0; rows.len()]);
        }
        let arrays = (1..=entry.fields.len()).map(|n| format!("${n}::text[]"));
        let names = (0..entry.fields.len()).map(|n| format!("shardlift_v{n}"));
        let values = entry.fields.iter().enumerate().map(|(n, field)| {
            let full = self.types.get(field).map_or("text", String::as_str);
            format!("CAST(v.shardlift_v{n} AS {full})")
        });
        let sql = format!(
            "SELECT {} FROM unnest({}) WITH ORDINALITY AS v ({}, shardlift_n) ORDER BY shardlift_n",
            digest(values),
            arrays.collect::<Vec<_>>().join(", "),
            names.collect::<Vec<_>>().join(", "),
        );
        let mut query = sqlx::query_scalar(AssertSqlSafe(sql));
        for n in 0..entry.fields.len() {
            let column = rows.iter().map(|row| row.given.as_ref().and_then(|given| given[n].clone()));
            query = query.bind(column.collect::<Vec<Option<String>>>());
        }
        within(LIMIT, query.fetch_all(conn)).await
    }

    /// One row for each, in the order of the entry: what is known of it, and every column as it was.
    fn select(&self, entry: &Entry, part: Part, sample: Sample) -> String {
        let (table, keys) = (&self.walk.table.sql, self.walk.key.columns().len());
        let there = format!("{table}.tableoid IS NOT NULL");
        let now = digest_of_columns(table, &entry.fields);
        let columns = self.walk.table.columns.iter().enumerate().map(|(n, column)| {
            match entry.fields.iter().position(|field| *field == column.name) {
                Some(field) => format!("shardlift_log.shardlift_o{field} AS shardlift_c{n}"),
                None => format!("{table}.{}::text AS shardlift_c{n}", column.sql()),
            }
        });
        format!(
            "WITH shardlift_log AS MATERIALIZED ({log}) \
             SELECT shardlift_log.shardlift_n, ARRAY[{key}] AS key, {there} AS there, \
               shardlift_log.shardlift_w, coalesce({there} AND {inputs} = shardlift_log.shardlift_i, false) AS inputs, \
               {now} AS now, {columns} \
             FROM shardlift_log LEFT JOIN {table} ON {joins} ORDER BY shardlift_log.shardlift_n",
            log = entry.unfolded(keys, part, sample),
            key = key(keys, "shardlift_log"),
            inputs = digest_of_columns(table, &entry.inputs),
            columns = columns.collect::<Vec<_>>().join(", "),
            joins = self.walk.key.same_as("shardlift_log"),
        )
    }
}

//! Repairing what verification has recorded: each row in a transaction of its own, compared under its lock.

use async_trait::async_trait;
use shardlift_domain::fence::Fence;
use shardlift_domain::mismatch::LogPlace;
use shardlift_domain::repair::{Fate, RepairPage, RepairRequest};
use shardlift_domain::sql::quote_ident;
use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::log::{Entry, Part, digest_of_columns, key};
use super::progress::{difference, place, small};
use super::{Look, One, STATEMENT};
use crate::engine::postgres::error::OrTrouble;
use crate::engine::postgres::fence::{self, signed};
use crate::engine::postgres::session::{QUICK, within};
use crate::engine::repair::{self, ALTERED, Mender, Present, Recorded, declared, judge};
use crate::engine::{DataJob, EngineResult};
use shardlift_domain::spec::Sample;

const RECORDED: &str = "\
    SELECT range_index, batch, part, row_index, difference, key, found FROM shardlift.difference
    WHERE migration = $1 AND version = $2 AND asked = 'transform'
      AND ($7 OR (range_index, batch, part, row_index) > ($3, $4, $5, $6))
    ORDER BY range_index, batch, part, row_index LIMIT $8";
/// Whether a later pass has migrated a row with these parts of a key. Where the key has several columns this may also be
/// another row that shares each of them with one or the other: then the row is left alone, which harms nobody.
const NEWER: &str = "\
    SELECT EXISTS (
      SELECT FROM shardlift.undo u JOIN shardlift.checkpoint c USING (migration, version, range_index)
      WHERE u.migration = $1 AND u.version = $2 AND u.keys @> $4::text[]
        AND c.pass > (SELECT o.pass FROM shardlift.checkpoint o
                      WHERE o.migration = $1 AND o.version = $2 AND o.range_index = $3))";
const FORGET: &str = "\
    DELETE FROM shardlift.difference
    WHERE migration = $1 AND version = $2 AND asked = 'transform'
      AND range_index = $3 AND batch = $4 AND part = $5 AND row_index = $6";

/// The rows of one migration, under one leader.
struct Rows {
    look: Look,
    leader: Fence,
    declared: bool,
}

/// Repairs a page of them.
pub(super) async fn page(
    look: Look,
    leader: &Fence,
    request: &RepairRequest,
    job: &DataJob,
) -> EngineResult<RepairPage> {
    let mut rows = Rows { look, leader: leader.clone(), declared: declared(job) };
    let shard = rows.look.session.shard.clone();
    if !request.dry_run {
        fence::raise(&mut rows.look.session.conn, &shard, leader).await?;
    }
    let page = repair::page(&mut rows, request).await?;
    rows.look.session.close().await;
    Ok(page)
}

#[async_trait]
impl Mender for Rows {
    async fn recorded(&mut self, after: Option<LogPlace>, limit: u32) -> EngineResult<Vec<Recorded>> {
        let LogPlace { range, batch, part, row } = after.unwrap_or_default();
        let rows = sqlx::query(RECORDED)
            .bind(self.look.migration.id.as_str())
            .bind(i64::from(self.look.migration.version.0))
            .bind(small(range))
            .bind(signed(batch))
            .bind(small(part))
            .bind(small(row))
            .bind(after.is_none())
            .bind(i64::from(limit))
            .fetch_all(&mut self.look.session.conn);
        let shard = self.look.session.shard.clone();
        let rows = within(QUICK, rows).await.or_trouble(&shard)?;
        let recorded = |row: &sqlx::postgres::PgRow| {
            Ok(Recorded {
                place: place(row, 0)?,
                difference: difference(&row.try_get::<String, _>(4)?),
                key: row.try_get(5)?,
                found: row.try_get(6)?,
            })
        };
        rows.iter().map(recorded).collect::<Result<_, sqlx::Error>>().or_trouble(&shard)
    }

    async fn mend(&mut self, row: &Recorded, dry_run: bool) -> EngineResult<(Fate, &'static str)> {
        self.statement(if dry_run { "BEGIN READ ONLY" } else { "BEGIN" }).await?;
        let mended = self.compared(row, dry_run).await;
        let write = matches!(mended, Ok((Fate::Repaired | Fate::Right, _))) && !dry_run;
        if !write {
            self.statement("ROLLBACK").await?;
            return mended;
        }
        fail::fail_point!("pg-repair-before-commit", |_| std::process::abort());
        // Constraints that are deferred are checked now.
        self.statement("COMMIT").await?;
        fail::fail_point!("pg-repair-after-commit", |_| std::process::abort());
        mended
    }
}

impl Rows {
    async fn statement(&mut self, sql: &'static str) -> EngineResult<()> {
        let done = sqlx::query(sql).execute(&mut self.look.session.conn);
        within(QUICK, done).await.map(drop).or_trouble(&self.look.session.shard)
    }

    /// Inside the transaction: looks, and writes what is to be written.
    async fn compared(&mut self, row: &Recorded, dry_run: bool) -> EngineResult<(Fate, &'static str)> {
        let shard = self.look.session.shard.clone();
        if !dry_run {
            fence::enter(&mut self.look.session.conn, &shard, &self.leader).await?;
        }
        let entry = Entry::of(&mut self.look.session.conn, &self.look.migration, row.place);
        let Some(entry) = within(QUICK, entry).await.or_trouble(&shard)? else {
            return Ok(judge(row, Present::NoImage, self.declared));
        };
        let locked = self.locked(&entry, row.place.row, dry_run).await?;
        let one = self.look.one(&entry, row.place.row).await?.filter(|one| one.there);
        let (Some((key, replaced)), Some(one)) = (locked, one) else {
            return Ok(judge(row, Present::Gone, self.declared));
        };
        let present = Present::There {
            known: one.known,
            now: one.now,
            newest: self.newest(row.place, &key).await?,
            given: one.given.is_some(),
        };
        let (fate, reason) = judge(row, present, self.declared);
        if dry_run || fate == Fate::Left {
            return Ok((fate, reason));
        }
        if fate == Fate::Repaired && !self.written(&entry, row.place.row, &one).await? {
            return Ok((Fate::Left, ALTERED));
        }
        let told = self.told(&entry, row.place, fate, (key, replaced));
        within(QUICK, told).await.or_trouble(&shard)?;
        Ok((fate, reason))
    }

    /// The key and the changed columns of the row that is there, as text; locked, unless nothing is to be changed.
    async fn locked(
        &mut self,
        entry: &Entry,
        row: u32,
        dry_run: bool,
    ) -> EngineResult<Option<(Vec<String>, Vec<Option<String>>)>> {
        let walk = self.look.walk();
        let keys = walk.key.columns().len();
        let part = Part { from: row, to: row.saturating_add(1) };
        let fields: Vec<String> =
            entry.fields.iter().map(|field| format!("shardlift_now.{}::text", quote_ident(field))).collect();
        let sql = format!(
            "WITH shardlift_log AS MATERIALIZED ({log}) SELECT ARRAY[{key}], ARRAY[{fields}]::text[] \
             FROM shardlift_log JOIN {table} AS shardlift_now ON {joins}{lock}",
            log = entry.unfolded(keys, part, Sample::All),
            key = key(keys, "shardlift_log"),
            fields = fields.join(", "),
            table = walk.table.sql,
            joins = walk.key.same_as("shardlift_log"),
            lock = if dry_run { "" } else { " FOR UPDATE OF shardlift_now" },
        );
        let shard = self.look.session.shard.clone();
        let found = entry.query(sql).fetch_optional(&mut self.look.session.conn);
        let found = within(STATEMENT + QUICK, found).await.or_trouble(&shard)?;
        found.map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).transpose().or_trouble(&shard)
    }

    async fn newest(&mut self, place: LogPlace, key: &[String]) -> EngineResult<bool> {
        let newer = sqlx::query_scalar(NEWER)
            .bind(self.look.migration.id.as_str())
            .bind(i64::from(self.look.migration.version.0))
            .bind(small(place.range))
            .bind(key)
            .fetch_one(&mut self.look.session.conn);
        let newer: bool = within(STATEMENT + QUICK, newer).await.or_trouble(&self.look.session.shard)?;
        Ok(!newer)
    }

    /// Writes what the transform gives. `false`: something else stands there now.
    async fn written(&mut self, entry: &Entry, row: u32, one: &One) -> EngineResult<bool> {
        let Some((given, expected)) = &one.given else { return Ok(false) };
        let walk = self.look.walk();
        let table = &walk.table.sql;
        let set = entry.fields.iter().enumerate().map(|(n, field)| {
            let cast = walk.table.columns.iter().find(|column| column.name == *field);
            let cast = cast.map_or("text", |column| column.cast.as_str());
            format!("{} = ($6::text[])[{}]::{cast}", quote_ident(field), n + 1)
        });
        let part = Part { from: row, to: row.saturating_add(1) };
        let sql = format!(
            "WITH shardlift_log AS MATERIALIZED ({log}) UPDATE {table} SET {set} FROM shardlift_log WHERE {same} \
             RETURNING {digest}",
            log = entry.unfolded(walk.key.columns().len(), part, Sample::All),
            set = set.collect::<Vec<_>>().join(", "),
            same = walk.key.same_as("shardlift_log"),
            digest = digest_of_columns(table, &entry.fields),
        );
        let shard = self.look.session.shard.clone();
        let written = entry.query(sql).bind(given.clone()).fetch_optional(&mut self.look.session.conn);
        let written = within(STATEMENT + QUICK, written).await.or_trouble(&shard)?;
        let now: Option<i64> = written.map(|row| row.try_get(0)).transpose().or_trouble(&shard)?;
        Ok(now == Some(*expected))
    }

    /// Tells the log what stands there now, keeps what was replaced, and that the row is not recorded any more.
    async fn told(
        &mut self,
        entry: &Entry,
        place: LogPlace,
        fate: Fate,
        (key, replaced): (Vec<String>, Vec<Option<String>>),
    ) -> Result<(), sqlx::Error> {
        let walk = self.look.walk().clone();
        let conn: &mut PgConnection = &mut self.look.session.conn;
        let n = u64::from(place.row) + 1;
        let part = Part { from: place.row, to: place.row.saturating_add(1) };
        let log = format!(
            "WITH shardlift_log AS MATERIALIZED ({log}), shardlift_there AS ( \
               SELECT {digest} AS digest FROM shardlift_log JOIN {table} AS shardlift_now ON {joins}) \
             UPDATE shardlift.undo u SET written[{n}] = shardlift_there.digest FROM shardlift_there \
             WHERE u.migration = $1 AND u.version = $2 AND u.range_index = $3 AND u.batch = $4 AND u.part = $5",
            log = entry.unfolded(walk.key.columns().len(), part, Sample::All),
            digest = digest_of_columns("shardlift_now", &entry.fields),
            table = walk.table.sql,
            joins = walk.key.same_as("shardlift_log"),
        );
        if fate == Fate::Repaired {
            entry.query(log).execute(&mut *conn).await?;
            let keep = "INSERT INTO shardlift.repaired (migration, version, key, fields, replaced) VALUES ($1, $2, $3, $4, $5)";
            sqlx::query(AssertSqlSafe(keep))
                .bind(walk.migration.id.as_str())
                .bind(i64::from(walk.migration.version.0))
                .bind(key)
                .bind(entry.fields.clone())
                .bind(replaced)
                .execute(&mut *conn)
                .await?;
        }
        sqlx::query(FORGET)
            .bind(walk.migration.id.as_str())
            .bind(i64::from(walk.migration.version.0))
            .bind(small(place.range))
            .bind(signed(place.batch))
            .bind(small(place.part))
            .bind(small(place.row))
            .execute(conn)
            .await
            .map(drop)
    }
}

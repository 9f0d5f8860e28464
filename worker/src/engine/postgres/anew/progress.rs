//! How far a verification is and what it has found, kept in the shard: who loses it loses nothing, and what was found can be
//! repaired.

use std::str::FromStr;

use shardlift_domain::fence::{Attempt, Epoch, Token};
use shardlift_domain::ids::MigrationKey;
use shardlift_domain::mismatch::{Compared, Difference, LogPlace};
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{Connection, PgConnection, Postgres, Row};

use crate::engine::anew::{Differing, NAMED, Walked};
use crate::engine::postgres::error::OrTrouble;
use crate::engine::postgres::fence::{self, signed, unsigned};
use crate::engine::postgres::session::{QUICK, Session, within};
use crate::engine::{EngineError, EngineResult};
use crate::lease::TaskLease;

const LOCK: &str = "SELECT pg_advisory_xact_lock(hashtextextended('shardlift verify ' || $1, 0))";
const READ: &str = "\
    SELECT epoch, attempt, rows_changed, done, range_index, batch, part, row_index, verified, mismatches, changed, gone,
           left_out, recorded
    FROM shardlift.verifying WHERE migration = $1 AND version = $2";
const FORGET: [&str; 2] = [
    "DELETE FROM shardlift.difference WHERE migration = $1 AND version = $2",
    "DELETE FROM shardlift.verifying WHERE migration = $1 AND version = $2",
];
const MAKE: &str = "\
    INSERT INTO shardlift.verifying (migration, version, epoch, attempt, rows_changed) VALUES ($1, $2, $3, $4, $5)";
const TAKE: &str = "\
    UPDATE shardlift.verifying SET epoch = $3, attempt = $4, at = now() WHERE migration = $1 AND version = $2";
const NAMES: &str = "\
    SELECT difference, key FROM (
      SELECT difference, key, row_number() OVER (PARTITION BY difference ORDER BY range_index, batch, part, row_index) AS n
      FROM shardlift.difference WHERE migration = $1 AND version = $2) d
    WHERE n <= $3 ORDER BY difference, n";
const KEEP: &str = "\
    UPDATE shardlift.verifying SET range_index = $5, batch = $6, part = $7, row_index = $8, verified = $9,
      mismatches = $10, changed = $11, gone = $12, left_out = $13, recorded = $14, done = $15, at = now()
    WHERE migration = $1 AND version = $2 AND epoch = $3 AND attempt = $4";
const RECORD: &str = "\
    INSERT INTO shardlift.difference (migration, version, range_index, batch, part, row_index, difference, key, found)
    SELECT $1, $2, d.* FROM unnest($3::int4[], $4::int8[], $5::int4[], $6::int4[], $7::text[], $8::text[], $9::int8[]) d";

fn named(sql: &'static str, migration: &MigrationKey) -> Query<'static, Postgres, PgArguments> {
    sqlx::query(sql).bind(migration.id.as_str().to_owned()).bind(i64::from(migration.version.0))
}

fn right(sql: &'static str, lease: &TaskLease) -> Query<'static, Postgres, PgArguments> {
    let token = lease.token();
    named(sql, &lease.task().migration).bind(signed(token.epoch.0)).bind(i64::from(token.attempt.0))
}

/// Takes the verification over: goes on with what an earlier hand-out has begun, or begins anew.
pub(super) async fn begin(session: &mut Session, lease: &TaskLease, changed: u64) -> EngineResult<Walked> {
    let shard = session.shard.clone();
    let migration = lease.task().migration.clone();
    fence::raise(&mut session.conn, &shard, lease.leader()).await?;
    let mut tx = within(QUICK, session.conn.begin()).await.or_trouble(&shard)?;
    fence::enter(&mut tx, &shard, lease.leader()).await?;
    let lock = sqlx::query(LOCK).bind(migration.to_string()).execute(&mut *tx);
    within(QUICK, lock).await.or_trouble(&shard)?;
    let row = within(QUICK, named(READ, &migration).fetch_optional(&mut *tx)).await.or_trouble(&shard)?;
    let held = row.map(|row| Held::read(&row)).transpose().or_trouble(&shard)?;
    if held.as_ref().is_some_and(|held| held.token > lease.token()) {
        return Err(EngineError::LeaseLost);
    }
    let walked = match held.filter(|held| !held.walked.done && held.changed == changed) {
        Some(mut held) => {
            within(QUICK, right(TAKE, lease).execute(&mut *tx)).await.or_trouble(&shard)?;
            let names = names(&mut tx, &migration, &mut held.walked);
            within(QUICK, names).await.or_trouble(&shard)?;
            held.walked
        }
        None => {
            for forget in FORGET {
                within(QUICK, named(forget, &migration).execute(&mut *tx)).await.or_trouble(&shard)?;
            }
            let make = right(MAKE, lease).bind(signed(changed)).execute(&mut *tx);
            within(QUICK, make).await.or_trouble(&shard)?;
            Walked::default()
        }
    };
    within(QUICK, tx.commit()).await.or_trouble(&shard)?;
    Ok(walked)
}

async fn names(
    tx: &mut PgConnection,
    migration: &MigrationKey,
    walked: &mut Walked,
) -> Result<(), sqlx::Error> {
    let most = i64::try_from(NAMED).unwrap_or(i64::MAX);
    for row in named(NAMES, migration).bind(most).fetch_all(tx).await? {
        walked.name(difference(&row.try_get::<String, _>(0)?), &row.try_get::<String, _>(1)?);
    }
    Ok(())
}

/// The word in the table is one of three; the table sees to that.
pub(super) fn difference(word: &str) -> Difference {
    Difference::from_str(word).unwrap_or(Difference::Changed)
}

struct Held {
    token: Token,
    changed: u64,
    walked: Walked,
}

impl Held {
    fn read(row: &PgRow) -> Result<Self, sqlx::Error> {
        let count = |n: usize| row.try_get::<i64, _>(n).map(unsigned);
        let attempt = u32::try_from(row.try_get::<i64, _>(1)?).unwrap_or(u32::MAX);
        let compared = Compared {
            verified: count(8)?,
            mismatches: count(9)?,
            changed: count(10)?,
            gone: count(11)?,
            left_out: count(12)?,
        };
        let walked = Walked {
            after: place(row, 4)?,
            compared,
            recorded: count(13)?,
            done: row.try_get(3)?,
            ..Walked::default()
        };
        let token = Token { epoch: Epoch(count(0)?), attempt: Attempt(attempt) };
        Ok(Self { token, changed: count(2)?, walked })
    }
}

/// A place in the log, of four columns from this one on.
pub(super) fn place(row: &PgRow, from: usize) -> Result<LogPlace, sqlx::Error> {
    let number = |n: usize| row.try_get::<i32, _>(n).map(|value| u32::try_from(value).unwrap_or_default());
    Ok(LogPlace {
        range: number(from)?,
        batch: unsigned(row.try_get(from + 1)?),
        part: number(from + 2)?,
        row: number(from + 3)?,
    })
}

/// A number of a place in the type that the tables have for it.
pub(super) fn small(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// Keeps how far it is, and records rows.
pub(super) async fn keep(
    session: &mut Session,
    lease: &TaskLease,
    walked: &Walked,
    found: &[Differing],
) -> EngineResult<()> {
    let shard = session.shard.clone();
    let mut tx = within(QUICK, session.conn.begin()).await.or_trouble(&shard)?;
    let LogPlace { range, batch, part, row } = walked.after;
    let Compared { verified, mismatches, changed, gone, left_out } = walked.compared;
    let mut keep =
        right(KEEP, lease).bind(small(range)).bind(signed(batch)).bind(small(part)).bind(small(row));
    for count in [verified, mismatches, changed, gone, left_out, walked.recorded] {
        keep = keep.bind(signed(count));
    }
    let kept = within(QUICK, keep.bind(walked.done).execute(&mut *tx)).await.or_trouble(&shard)?;
    if kept.rows_affected() != 1 {
        return Err(EngineError::LeaseLost);
    }
    if !found.is_empty() {
        let all =
            |of: fn(LogPlace) -> u32| found.iter().map(|row| small(of(row.place))).collect::<Vec<i32>>();
        let record = named(RECORD, &lease.task().migration)
            .bind(all(|place| place.range))
            .bind(found.iter().map(|row| signed(row.place.batch)).collect::<Vec<i64>>())
            .bind(all(|place| place.part))
            .bind(all(|place| place.row))
            .bind(found.iter().map(|row| row.row.difference.as_str().to_owned()).collect::<Vec<String>>())
            .bind(found.iter().map(|row| row.row.key.clone()).collect::<Vec<String>>())
            .bind(found.iter().map(|row| row.now).collect::<Vec<Option<i64>>>());
        within(QUICK, record.execute(&mut *tx)).await.or_trouble(&shard)?;
    }
    within(QUICK, tx.commit()).await.or_trouble(&shard)
}

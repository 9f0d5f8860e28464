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
    FROM shardlift.verifying WHERE migration = $1 AND version = $2 AND asked = $3";
const FORGET: [&str; 2] = [
    "DELETE FROM shardlift.difference WHERE migration = $1 AND version = $2 AND asked = $3",
    "DELETE FROM shardlift.verifying WHERE migration = $1 AND version = $2 AND asked = $3",
];
const MAKE: &str = "\
    INSERT INTO shardlift.verifying (migration, version, asked, epoch, attempt, rows_changed) VALUES ($1, $2, $3, $4, $5, $6)";
const TAKE: &str = "\
    UPDATE shardlift.verifying SET epoch = $4, attempt = $5, at = now()
    WHERE migration = $1 AND version = $2 AND asked = $3";
const NAMES: &str = "\
    SELECT difference, key FROM (
      SELECT difference, key, row_number() OVER (PARTITION BY difference ORDER BY range_index, batch, part, row_index) AS n
      FROM shardlift.difference WHERE migration = $1 AND version = $2 AND asked = $3) d
    WHERE n <= $4 ORDER BY difference, n";
/// One statement, and so one transaction and one journey.
const KEEP: &str = "\
    WITH kept AS (
      UPDATE shardlift.verifying SET range_index = $6, batch = $7, part = $8, row_index = $9, verified = $10,
        mismatches = $11, changed = $12, gone = $13, left_out = $14, recorded = $15, done = $16, at = now()
      WHERE migration = $1 AND version = $2 AND asked = $3 AND epoch = $4 AND attempt = $5 RETURNING asked),
    found AS (
      INSERT INTO shardlift.difference
        (migration, version, asked, range_index, batch, part, row_index, difference, key, found)
      SELECT $1, $2, kept.asked, d.*
      FROM kept, unnest($17::int4[], $18::int8[], $19::int4[], $20::int4[], $21::text[], $22::text[], $23::int8[]) d)
    SELECT count(*) FROM kept";

/// A verification of one shard: of this migration, and what it asks.
#[derive(Clone, Copy)]
struct Of<'a> {
    migration: &'a MigrationKey,
    asked: &'static str,
}

impl Of<'_> {
    fn query(self, sql: &'static str) -> Query<'static, Postgres, PgArguments> {
        let Self { migration, asked } = self;
        sqlx::query(sql)
            .bind(migration.id.as_str().to_owned())
            .bind(i64::from(migration.version.0))
            .bind(asked)
    }

    fn under(self, sql: &'static str, lease: &TaskLease) -> Query<'static, Postgres, PgArguments> {
        let token = lease.token();
        self.query(sql).bind(signed(token.epoch.0)).bind(i64::from(token.attempt.0))
    }
}

/// Takes the verification over: goes on with what an earlier hand-out has begun, or begins anew.
pub(super) async fn begin(
    session: &mut Session,
    lease: &TaskLease,
    asked: &'static str,
    changed: u64,
) -> EngineResult<Walked> {
    let shard = session.shard.clone();
    let migration = lease.task().migration.clone();
    let of = Of { migration: &migration, asked };
    fence::raise(&mut session.conn, &shard, lease.leader()).await?;
    let mut tx = within(QUICK, session.conn.begin()).await.or_trouble(&shard)?;
    fence::enter(&mut tx, &shard, lease.leader()).await?;
    let lock = sqlx::query(LOCK).bind(migration.to_string()).execute(&mut *tx);
    within(QUICK, lock).await.or_trouble(&shard)?;
    let row = within(QUICK, of.query(READ).fetch_optional(&mut *tx)).await.or_trouble(&shard)?;
    let held = row.map(|row| Held::read(&row)).transpose().or_trouble(&shard)?;
    if held.as_ref().is_some_and(|held| held.token > lease.token()) {
        return Err(EngineError::LeaseLost);
    }
    let walked = match held.filter(|held| !held.walked.done && held.changed == changed) {
        Some(mut held) => {
            within(QUICK, of.under(TAKE, lease).execute(&mut *tx)).await.or_trouble(&shard)?;
            let names = names(&mut tx, of, &mut held.walked);
            within(QUICK, names).await.or_trouble(&shard)?;
            held.walked
        }
        None => {
            for forget in FORGET {
                within(QUICK, of.query(forget).execute(&mut *tx)).await.or_trouble(&shard)?;
            }
            let make = of.under(MAKE, lease).bind(signed(changed)).execute(&mut *tx);
            within(QUICK, make).await.or_trouble(&shard)?;
            Walked::default()
        }
    };
    within(QUICK, tx.commit()).await.or_trouble(&shard)?;
    Ok(walked)
}

async fn names(tx: &mut PgConnection, of: Of<'_>, walked: &mut Walked) -> Result<(), sqlx::Error> {
    let most = i64::try_from(NAMED).unwrap_or(i64::MAX);
    for row in of.query(NAMES).bind(most).fetch_all(tx).await? {
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
    asked: &'static str,
    walked: &Walked,
    found: &[Differing],
) -> EngineResult<()> {
    let LogPlace { range, batch, part, row } = walked.after;
    let Compared { verified, mismatches, changed, gone, left_out } = walked.compared;
    let of = Of { migration: &lease.task().migration, asked };
    let mut keep =
        of.under(KEEP, lease).bind(small(range)).bind(signed(batch)).bind(small(part)).bind(small(row));
    for count in [verified, mismatches, changed, gone, left_out, walked.recorded] {
        keep = keep.bind(signed(count));
    }
    let all = |of: fn(LogPlace) -> u32| found.iter().map(|row| small(of(row.place))).collect::<Vec<i32>>();
    let keep = keep
        .bind(walked.done)
        .bind(all(|place| place.range))
        .bind(found.iter().map(|row| signed(row.place.batch)).collect::<Vec<i64>>())
        .bind(all(|place| place.part))
        .bind(all(|place| place.row))
        .bind(found.iter().map(|row| row.row.difference.as_str().to_owned()).collect::<Vec<String>>())
        .bind(found.iter().map(|row| row.row.key.clone()).collect::<Vec<String>>())
        .bind(found.iter().map(|row| row.now).collect::<Vec<Option<i64>>>());
    let kept = within(QUICK, keep.fetch_one(&mut session.conn)).await;
    match kept.and_then(|row| row.try_get::<i64, _>(0)).or_trouble(&session.shard)? {
        1 => Ok(()),
        _ => Err(EngineError::LeaseLost),
    }
}

//! The checkpoint rows of one migration: laid out, read, and advanced on the condition that the claim still holds.

use shardlift_domain::fence::Token;
use shardlift_domain::ids::{Checksum, MigrationKey};
use shardlift_domain::range::{KeyInterval, Pass, RangeState, RangeTotals};
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{PgConnection, Postgres, Row};
use uuid::Uuid;

use super::fence::{signed, unsigned};
use super::key::Bound;

/// Whose claim a range is under, and where it stood when that was last known. The number of parameters that
/// [`Claim::bind`] binds is [`Claim::PARAMETERS`].
#[derive(Debug, Clone)]
pub(super) struct Claim {
    pub(super) migration: MigrationKey,
    pub(super) index: u32,
    pub(super) token: Token,
    /// Tells two claims with the same token apart.
    pub(super) id: Uuid,
    pub(super) last_key: Bound,
}

impl Claim {
    /// How many parameters the condition takes, from `$1`.
    pub(super) const PARAMETERS: usize = 7;

    /// True for the one checkpoint row, as long as nobody else has claimed or advanced it.
    pub(super) const HOLDS: &'static str = "c.migration = $1 AND c.version = $2 AND c.range_index = $3 AND c.epoch = $4 \
        AND c.attempt = $5 AND c.claim = $6 AND c.last_key IS NOT DISTINCT FROM $7::text[] AND NOT c.done";

    /// Binds migration, version and range.
    pub(super) fn bind_name<'q>(
        &self,
        query: Query<'q, Postgres, PgArguments>,
    ) -> Query<'q, Postgres, PgArguments> {
        query
            .bind(self.migration.id.as_str().to_owned())
            .bind(i64::from(self.migration.version.0))
            .bind(i64::from(self.index))
    }

    /// Binds the parameters of [`Claim::HOLDS`].
    pub(super) fn bind<'q>(
        &self,
        query: Query<'q, Postgres, PgArguments>,
    ) -> Query<'q, Postgres, PgArguments> {
        self.bind_name(query)
            .bind(signed(self.token.epoch.0))
            .bind(i64::from(self.token.attempt.0))
            .bind(self.id)
            .bind(self.last_key.clone())
    }
}

const NEWEST: &str = "\
    SELECT pass, range_index, rows_changed, rows_seen, batches, done, checksum, pending_found
    FROM shardlift.checkpoint WHERE migration = $1 AND version = $2 ORDER BY range_index";
const INSERT: &str = "\
    INSERT INTO shardlift.checkpoint
      (migration, version, range_index, pass, checksum, lower_key, upper_key, done, pending_found)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";

/// The newest pass of a migration, and what it was made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Laid {
    pub(super) pass: Pass,
    /// The checksum of the spec that it was laid out for.
    pub(super) checksum: String,
    /// How many rows the sweep had found that laid it out.
    pub(super) found: u64,
}

/// Reads the newest pass; `None`: nothing was laid out yet.
pub(super) async fn newest(
    conn: &mut PgConnection,
    migration: &MigrationKey,
) -> Result<Option<Laid>, sqlx::Error> {
    let rows = sqlx::query(NEWEST)
        .bind(migration.id.as_str())
        .bind(i64::from(migration.version.0))
        .fetch_all(conn)
        .await?;
    let mut laid: Option<Laid> = None;
    for row in &rows {
        let number = u32::try_from(row.try_get::<i32, _>(0)?).unwrap_or_default();
        let current =
            laid.get_or_insert_with(|| Laid { pass: Pass::default(), checksum: String::new(), found: 0 });
        if current.pass.number < number {
            let before = current.pass.totals();
            current.pass = Pass { number, ranges: Vec::new(), before };
            current.found = 0;
        }
        current.checksum = row.try_get(6)?;
        current.found = current.found.max(unsigned(row.try_get(7)?));
        current.pass.ranges.push(state(row, 1)?);
    }
    Ok(laid)
}

/// A pass that is not there yet.
pub(super) struct NewPass<'a> {
    pub(super) migration: &'a MigrationKey,
    pub(super) checksum: &'a Checksum,
    pub(super) number: u32,
    /// The number of its first range.
    pub(super) first: u32,
    /// Totals of the passes before it.
    pub(super) before: RangeTotals,
    /// Nothing is in the table: its only range is done at once.
    pub(super) empty: bool,
    pub(super) found: u64,
}

impl NewPass<'_> {
    /// Writes its ranges; the caller's transaction makes it one with what came before.
    pub(super) async fn insert(
        self,
        conn: &mut PgConnection,
        intervals: &[KeyInterval],
    ) -> Result<Pass, sqlx::Error> {
        let mut ranges = Vec::with_capacity(intervals.len());
        for (index, interval) in (self.first..).zip(intervals) {
            sqlx::query(INSERT)
                .bind(self.migration.id.as_str())
                .bind(i64::from(self.migration.version.0))
                .bind(i64::from(index))
                .bind(i64::from(self.number))
                .bind(self.checksum.as_str())
                .bind(interval.lower.as_ref().map(|key| key.0.clone()))
                .bind(interval.upper.as_ref().map(|key| key.0.clone()))
                .bind(self.empty)
                .bind(signed(self.found))
                .execute(&mut *conn)
                .await?;
            ranges.push(RangeState { index, rows: 0, seen: 0, batches: 0, done: self.empty });
        }
        Ok(Pass { number: self.number, ranges, before: self.before })
    }
}

/// Reads `range_index, rows_changed, rows_seen, batches, done` from this column on.
pub(super) fn state(row: &PgRow, at: usize) -> Result<RangeState, sqlx::Error> {
    Ok(RangeState {
        index: u32::try_from(row.try_get::<i32, _>(at)?).unwrap_or_default(),
        rows: unsigned(row.try_get(at + 1)?),
        seen: unsigned(row.try_get(at + 2)?),
        batches: unsigned(row.try_get(at + 3)?),
        done: row.try_get(at + 4)?,
    })
}

//! Whose the digests of a migration are, and how far they are: one collection at a time, claimed by the larger token. Those of a
//! collection that was dropped go some at a time, and nobody can add to them any more.

use shardlift_domain::fence::{Attempt, Epoch, Token};
use shardlift_domain::ids::MigrationKey;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{Connection, PgConnection, Postgres, Row};

use crate::engine::postgres::error::OrTrouble;
use crate::engine::postgres::fence::{self, signed, unsigned};
use crate::engine::postgres::session::{QUICK, Session, within};
use crate::engine::{EngineError, EngineResult};
use crate::lease::TaskLease;

const LOCK: &str = "SELECT pg_advisory_xact_lock(hashtextextended('shardlift unique ' || $1, 0))";
const READ: &str = "\
    SELECT id, epoch, attempt, form, last_key, digests, done FROM shardlift.collecting
    WHERE migration = $1 AND version = $2 AND NOT dropped";
const MAKE: &str = "\
    INSERT INTO shardlift.collecting (migration, version, epoch, attempt, form) VALUES ($1, $2, $3, $4, $5) RETURNING id";
const TAKE: &str = "UPDATE shardlift.collecting SET epoch = $2, attempt = $3, at = now() WHERE id = $1";
const KEEP: &str = "\
    UPDATE shardlift.collecting SET last_key = $5, digests = digests + $6, done = $7, at = now()
    WHERE id = $1 AND epoch = $2 AND attempt = $3 AND last_key IS NOT DISTINCT FROM $4 AND NOT done AND NOT dropped";
const DROP: &str = "\
    UPDATE shardlift.collecting SET dropped = true WHERE migration = $1 AND version = $2 AND NOT dropped";
/// A digest is never changed, so its place is its own as long as it is there.
const CLEAR: &str = "\
    DELETE FROM shardlift.collected WHERE ctid = ANY (ARRAY(
      SELECT d.ctid FROM shardlift.collecting c JOIN shardlift.collected d ON d.collection = c.id WHERE c.dropped LIMIT 20000))";
const FORGET: &str = "\
    DELETE FROM shardlift.collecting c
    WHERE c.dropped AND NOT EXISTS (SELECT FROM shardlift.collected d WHERE d.collection = c.id)";
const LEFT: &str = "\
    SELECT EXISTS (SELECT FROM shardlift.collecting WHERE dropped AND migration = $1 AND version = $2)";

fn named(sql: &'static str, migration: &MigrationKey) -> Query<'static, Postgres, PgArguments> {
    sqlx::query(sql).bind(migration.id.as_str().to_owned()).bind(i64::from(migration.version.0))
}

/// Digests that one hand-out collects.
pub(super) struct Collection {
    pub(super) id: i64,
    token: Token,
    pub(super) last_key: Option<Vec<String>>,
    pub(super) digests: u64,
}

/// Takes over what an earlier hand-out has begun, or begins anew.
pub(super) async fn claim(session: &mut Session, lease: &TaskLease, form: &str) -> EngineResult<Collection> {
    let (shard, token) = (session.shard.clone(), lease.token());
    let migration = &lease.task().migration;
    fence::raise(&mut session.conn, &shard, lease.leader()).await?;
    let mut tx = within(QUICK, session.conn.begin()).await.or_trouble(&shard)?;
    fence::enter(&mut tx, &shard, lease.leader()).await?;
    let lock = sqlx::query(LOCK).bind(migration.to_string()).execute(&mut *tx);
    within(QUICK, lock).await.or_trouble(&shard)?;
    let row = within(QUICK, named(READ, migration).fetch_optional(&mut *tx)).await.or_trouble(&shard)?;
    let held = row.map(|row| Held::read(&row)).transpose().or_trouble(&shard)?;
    if held.as_ref().is_some_and(|held| held.token > token) {
        return Err(EngineError::LeaseLost);
    }
    let (epoch, attempt) = (signed(token.epoch.0), i64::from(token.attempt.0));
    let collection = match held.filter(|held| !held.done && held.form == form) {
        Some(Held { id, last_key, digests, .. }) => {
            let take = sqlx::query(TAKE).bind(id).bind(epoch).bind(attempt).execute(&mut *tx);
            within(QUICK, take).await.or_trouble(&shard)?;
            Collection { id, token, last_key, digests }
        }
        None => {
            within(QUICK, named(DROP, migration).execute(&mut *tx)).await.or_trouble(&shard)?;
            let make = named(MAKE, migration).bind(epoch).bind(attempt).bind(form).fetch_one(&mut *tx);
            let id = within(QUICK, make).await.and_then(|row| row.try_get(0)).or_trouble(&shard)?;
            Collection { id, token, last_key: None, digests: 0 }
        }
    };
    within(QUICK, tx.commit()).await.or_trouble(&shard)?;
    Ok(collection)
}

impl Collection {
    /// Keeps how far it is, in the transaction of the digests; `false`: somebody else has it, or nobody needs it.
    pub(super) async fn keep(
        &self,
        tx: &mut PgConnection,
        last_key: Option<&Vec<String>>,
        digests: i64,
        done: bool,
    ) -> Result<bool, sqlx::Error> {
        let kept = sqlx::query(KEEP)
            .bind(self.id)
            .bind(signed(self.token.epoch.0))
            .bind(i64::from(self.token.attempt.0))
            .bind(self.last_key.clone())
            .bind(last_key.cloned())
            .bind(digests)
            .bind(done);
        Ok(kept.execute(tx).await?.rows_affected() == 1)
    }
}

/// What stands in the shard.
pub(super) struct Held {
    pub(super) id: i64,
    token: Token,
    pub(super) form: String,
    last_key: Option<Vec<String>>,
    pub(super) digests: u64,
    pub(super) done: bool,
}

impl Held {
    /// The collection of a migration, if there is one.
    pub(super) async fn of(
        conn: &mut PgConnection,
        migration: &MigrationKey,
    ) -> Result<Option<Self>, sqlx::Error> {
        let row = named(READ, migration).fetch_optional(conn).await?;
        row.map(|row| Self::read(&row)).transpose()
    }

    fn read(row: &PgRow) -> Result<Self, sqlx::Error> {
        let attempt = u32::try_from(row.try_get::<i64, _>(2)?).unwrap_or(u32::MAX);
        Ok(Self {
            id: row.try_get(0)?,
            token: Token { epoch: Epoch(unsigned(row.try_get(1)?)), attempt: Attempt(attempt) },
            form: row.try_get(3)?,
            last_key: row.try_get(4)?,
            digests: unsigned(row.try_get(5)?),
            done: row.try_get(6)?,
        })
    }
}

/// Nobody needs the digests of a migration any more.
pub(super) async fn give_up(tx: &mut PgConnection, migration: &MigrationKey) -> Result<(), sqlx::Error> {
    named(DROP, migration).execute(tx).await.map(drop)
}

/// Removes some of the digests that nobody needs; answers whether there are more of this migration.
pub(super) async fn clear_some(tx: &mut PgConnection, migration: &MigrationKey) -> Result<bool, sqlx::Error> {
    sqlx::query(CLEAR).execute(&mut *tx).await?;
    sqlx::query(FORGET).execute(&mut *tx).await?;
    named(LEFT, migration).fetch_one(tx).await?.try_get(0)
}

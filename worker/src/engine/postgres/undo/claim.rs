//! Whose the undoing of a migration is: claimed like a range, by the larger token.

use std::time::Duration;

use shardlift_domain::fence::{Attempt, Epoch, Token};
use shardlift_domain::ids::MigrationKey;
use shardlift_domain::verdict::Undone;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{Connection, PgConnection, Postgres, Row};
use uuid::Uuid;

use crate::engine::postgres::claim::end_backend;
use crate::engine::postgres::error::OrTrouble;
use crate::engine::postgres::fence::{self, signed, unsigned};
use crate::engine::postgres::session::{QUICK, Session, within};
use crate::engine::{EngineError, EngineResult};
use crate::lease::TaskLease;

/// The longest that the server lets one statement run: a batch was one transaction when it was made, too.
pub(super) const STATEMENT: Duration = Duration::from_secs(60);

/// The right to undo.
pub(super) struct Claim {
    pub(super) migration: MigrationKey,
    token: Token,
    id: Uuid,
}

/// What the row says.
pub(super) struct Held {
    pub(super) done: Undone,
    /// Whether there are before-images.
    pub(super) kept: bool,
}

const MAKE: &str = "\
    INSERT INTO shardlift.undoing (migration, version) SELECT $1, $2
    WHERE NOT EXISTS (SELECT FROM shardlift.undoing WHERE migration = $1 AND version = $2)";
const LOCK: &str = "SELECT pg_advisory_xact_lock(hashtextextended('shardlift undo ' || $1, 0))";
const READ: &str = "\
    SELECT epoch, attempt, pid, backend_start::text, restored, conflicts FROM shardlift.undoing
    WHERE migration = $1 AND version = $2";
const TAKE: &str = "\
    UPDATE shardlift.undoing SET epoch = $3, attempt = $4, claim = $5, pid = $6, backend_start = $7::timestamptz,
      done = false, at = now()
    WHERE migration = $1 AND version = $2";
/// No claim is null, so no batch of an older right finds its checkpoint any more.
const SEAL: &str = "\
    UPDATE shardlift.checkpoint SET epoch = $3, attempt = $4, claim = NULL, pid = NULL, backend_start = NULL
    WHERE migration = $1 AND version = $2 AND (epoch, attempt) <= ($3, $4)";
const NEWER: &str = "\
    SELECT EXISTS (SELECT FROM shardlift.checkpoint
                   WHERE migration = $1 AND version = $2 AND (epoch, attempt) > ($3, $4))";
const OWNERS: &str = "\
    SELECT pid, backend_start::text FROM shardlift.checkpoint
    WHERE migration = $1 AND version = $2 AND pid IS NOT NULL AND NOT done AND (epoch, attempt) <= ($3, $4)";
const KEPT: &str = "SELECT EXISTS (SELECT FROM shardlift.undo WHERE migration = $1 AND version = $2)";
const HOLD: &str = "\
    SELECT FROM shardlift.undoing WHERE migration = $1 AND version = $2 AND epoch = $3 AND attempt = $4 AND claim = $5
    FOR UPDATE";
const COUNT: &str = "\
    UPDATE shardlift.undoing SET restored = restored + $6, conflicts = conflicts + $7, batches = batches + 1, at = now()
    WHERE migration = $1 AND version = $2 AND epoch = $3 AND attempt = $4 AND claim = $5";
const END: &str = "\
    UPDATE shardlift.undoing SET done = true
    WHERE migration = $1 AND version = $2 AND epoch = $3 AND attempt = $4 AND claim = $5";

/// Takes the undoing over, and seals the checkpoints of the migration.
pub(super) async fn claim(session: &mut Session, lease: &TaskLease) -> EngineResult<(Claim, Held)> {
    let shard = session.shard.clone();
    let claim = Claim { migration: lease.task().migration.clone(), token: lease.token(), id: Uuid::new_v4() };
    fence::raise(&mut session.conn, &shard, lease.leader()).await?;
    end_walkers(session, &claim).await?;
    let (pid, backend_start) = (session.pid, session.backend_start.clone());
    let mut tx = within(QUICK, session.conn.begin()).await.or_trouble(&shard)?;
    fence::enter(&mut tx, &shard, lease.leader()).await?;
    let lock = sqlx::query(LOCK).bind(claim.migration.to_string()).execute(&mut *tx);
    within(QUICK, lock).await.or_trouble(&shard)?;
    within(QUICK, claim.named(MAKE).execute(&mut *tx)).await.or_trouble(&shard)?;
    let row = claim.named(READ).fetch_one(&mut *tx);
    let row = within(QUICK, row).await.or_trouble(&shard)?;
    let (token, owner, done) = read(&row).or_trouble(&shard)?;
    let newer = claim.right(NEWER).fetch_one(&mut *tx);
    let newer: bool = within(QUICK, newer).await.and_then(|row| row.try_get(0)).or_trouble(&shard)?;
    if newer || token > claim.token {
        return Err(EngineError::LeaseLost);
    }
    let take = claim.right(TAKE).bind(claim.id).bind(pid).bind(&backend_start).execute(&mut *tx);
    within(QUICK, take).await.or_trouble(&shard)?;
    within(QUICK, claim.right(SEAL).execute(&mut *tx)).await.or_trouble(&shard)?;
    let kept = claim.named(KEPT).fetch_one(&mut *tx);
    let kept: bool = within(QUICK, kept).await.and_then(|row| row.try_get(0)).or_trouble(&shard)?;
    within(QUICK, tx.commit()).await.or_trouble(&shard)?;
    if let Some(owner) = owner {
        end_backend(session, &owner).await;
    }
    Ok((claim, Held { done, kept }))
}

/// Ends sessions that walk a range of the migration: their locks would only be in the way.
async fn end_walkers(session: &mut Session, claim: &Claim) -> EngineResult<()> {
    let shard = session.shard.clone();
    let rows = claim.right(OWNERS).fetch_all(&mut session.conn);
    for row in within(QUICK, rows).await.or_trouble(&shard)? {
        let started: Option<String> = row.try_get(1).or_trouble(&shard)?;
        let pid: i32 = row.try_get(0).or_trouble(&shard)?;
        if let Some(started) = started {
            end_backend(session, &(pid, started)).await;
        }
    }
    Ok(())
}

/// Token, owner, and how far it is.
type Read = (Token, Option<(i32, String)>, Undone);

fn read(row: &PgRow) -> Result<Read, sqlx::Error> {
    let attempt = u32::try_from(row.try_get::<i64, _>(1)?).unwrap_or(u32::MAX);
    let token = Token { epoch: Epoch(unsigned(row.try_get(0)?)), attempt: Attempt(attempt) };
    let pid: Option<i32> = row.try_get(2)?;
    let started: Option<String> = row.try_get(3)?;
    let done = Undone { restored: unsigned(row.try_get(4)?), conflicts: unsigned(row.try_get(5)?) };
    Ok((token, pid.zip(started), done))
}

impl Claim {
    fn named(&self, sql: &'static str) -> Query<'static, Postgres, PgArguments> {
        sqlx::query(sql).bind(self.migration.id.as_str().to_owned()).bind(i64::from(self.migration.version.0))
    }

    fn right(&self, sql: &'static str) -> Query<'static, Postgres, PgArguments> {
        self.named(sql).bind(signed(self.token.epoch.0)).bind(i64::from(self.token.attempt.0))
    }

    /// Locks the row; `false`: somebody else has claimed it.
    pub(super) async fn hold(&self, tx: &mut PgConnection) -> Result<bool, sqlx::Error> {
        Ok(self.right(HOLD).bind(self.id).fetch_optional(tx).await?.is_some())
    }

    /// Adds to the count, inside the transaction of what is counted.
    pub(super) async fn count(&self, tx: &mut PgConnection, more: Undone) -> Result<bool, sqlx::Error> {
        let count = self.right(COUNT).bind(self.id).bind(signed(more.restored)).bind(signed(more.conflicts));
        Ok(count.execute(tx).await?.rows_affected() == 1)
    }

    /// Nothing is left.
    pub(super) async fn end(&self, tx: &mut PgConnection) -> Result<(), sqlx::Error> {
        self.right(END).bind(self.id).execute(tx).await.map(drop)
    }
}

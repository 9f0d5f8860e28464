//! Applies a schema change: statements that can share a transaction do; those that refuse one run alone, each between
//! an intent and its proof. The ledger has the last word.

mod alone;
mod group;
mod index;
mod together;
mod undo;

use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::ids::{MigrationKey, ShardId};
use shardlift_domain::spec::SchemaSpec;

use self::group::{Group, groups};
pub(super) use self::undo::undo;
use sqlx::PgConnection;

use super::blockers::Lookout;
use super::error::{OrTrouble, words};
use super::ledger::Author;
use super::session::{Access, QUICK, Session, within};
use super::split::same_content;
use super::walk::misfit;
use super::{fence, ledger};
use crate::engine::{Direction, EngineError, EngineResult, SchemaJob};
use crate::lease::TaskLease;

/// What every part of an apply needs.
pub(super) struct Apply<'a> {
    access: &'a Access,
    lease: &'a TaskLease,
    job: &'a SchemaJob,
    direction: Direction,
    /// The name under which the transaction is prepared instead of committed.
    gid: Option<String>,
}

/// Applies `up`. Answers `true` if the ledger had it already.
pub(super) async fn apply(access: &Access, lease: &TaskLease, job: &SchemaJob) -> EngineResult<bool> {
    lease.check()?;
    let apply = Apply { access, lease, job, direction: Direction::Up, gid: None };
    // No limits by default: each part sets its own.
    let mut session = access.unbounded(lease.task()).await?;
    fence::raise(&mut session.conn, &access.shard, lease.leader()).await?;
    // The ledger tells of `up` also where `down` came after it.
    ledger::still_open(&mut session, apply.migration()).await?;
    let already = apply.applied(&mut session).await?;
    if !already {
        apply.all(&mut session).await?;
    }
    session.close().await;
    Ok(already)
}

/// Runs `up` as one transaction together with its ledger line, and prepares it under this name.
pub(super) async fn prepare(
    access: &Access,
    lease: &TaskLease,
    job: &SchemaJob,
    session: &mut Session,
    gid: String,
) -> EngineResult<()> {
    let apply = Apply { access, lease, job, direction: Direction::Up, gid: Some(gid) };
    let groups = groups(apply.shard(), &apply.spec().up)?;
    let mut all = Vec::new();
    for group in groups {
        match group {
            Group::Together { statements, .. } => all.extend(statements),
            Group::Alone { statement, .. } => {
                return Err(misfit(apply.shard(), format!("this cannot be prepared: {statement}")));
            }
        }
    }
    together::run(&apply, session, &all, 0, true).await
}

impl Apply<'_> {
    fn migration(&self) -> &MigrationKey {
        &self.lease.task().migration
    }

    fn shard(&self) -> &ShardId {
        &self.access.shard
    }

    fn spec(&self) -> &SchemaSpec {
        &self.job.schema
    }

    /// Who writes intents.
    fn author<'a>(&'a self, pid: i32, backend_start: &'a str) -> Author<'a> {
        Author {
            migration: self.migration(),
            direction: self.direction,
            checksum: &self.job.spec.checksum,
            epoch: self.lease.token().epoch,
            pid,
            backend_start,
        }
    }

    async fn applied(&self, session: &mut Session) -> EngineResult<bool> {
        ledger::applied(session, self.migration(), self.direction, &self.job.spec.checksum).await
    }

    /// Inside a transaction that holds the migration's lock: whether this way is still open.
    async fn open(&self, tx: &mut PgConnection) -> EngineResult<()> {
        if self.direction == Direction::Up {
            let taken_back = ledger::taken_back(tx, self.migration());
            if within(QUICK, taken_back).await.or_trouble(self.shard())? {
                // Who still applies has an old right.
                return Err(EngineError::LeaseLost);
            }
        }
        Ok(())
    }

    async fn all(&self, session: &mut Session) -> EngineResult<()> {
        let change = match self.direction {
            Direction::Up => &self.spec().up,
            Direction::Down => &self.spec().down,
        };
        let groups = groups(self.shard(), change)?;
        let last = groups.len();
        for (n, group) in groups.iter().enumerate() {
            self.lease.check()?;
            if self.is_done(session, group.position()).await? {
                continue;
            }
            let is_last = n + 1 == last;
            match group {
                Group::Together { statements, .. } => {
                    together::run(self, session, statements, group.position(), is_last).await?;
                }
                Group::Alone { statement, kind, .. } => {
                    alone::run(self, session, statement, kind, group.position(), is_last).await?;
                }
            }
            fail::fail_point!("pg-schema-between", |_| std::process::abort());
        }
        // Nothing to do at all is applied as well; and a crash may have come between the last proof and the ledger.
        if !self.applied(session).await? {
            together::run(self, session, &[], last_position(&groups), true).await?;
        }
        Ok(())
    }

    async fn is_done(&self, session: &mut Session, position: usize) -> EngineResult<bool> {
        let intent = ledger::intent(&mut session.conn, self.migration(), self.direction, position);
        let Some(intent) = within(QUICK, intent).await.or_trouble(self.shard())? else { return Ok(false) };
        same_content(self.shard(), self.migration(), &self.job.spec.checksum, &intent.checksum)?;
        Ok(intent.done)
    }

    /// A statement failed for good.
    fn failed(&self, position: usize, statement: &str, error: &sqlx::Error, next: &str) -> EngineError {
        let begin: String =
            statement.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(120).collect();
        self.failure(
            ErrorCode::SchemaFailed,
            format!(
                "statement {} ({begin}) failed on shard {}: {}",
                position + 1,
                self.shard(),
                words(error)
            ),
            next,
        )
    }

    /// The locks were not to be had.
    fn locked(&self, lookout: &Lookout<'_>) -> EngineError {
        self.failure(
            ErrorCode::SchemaLocked,
            format!("the lock that the change needs on shard {} is held by {}", self.shard(), lookout.words()),
            "nothing was changed and it is tried again; end the sessions named here if they should not be there",
        )
    }

    fn failure(&self, code: ErrorCode, message: String, next: &str) -> EngineError {
        EngineError::Failed(
            Failure::new(code, message, next).on_shard(self.shard()).in_migration(self.migration()),
        )
    }
}

fn last_position(groups: &[Group]) -> usize {
    groups.last().map_or(0, |group| group.position() + 1)
}

//! One statement that refuses a transaction: write the intent, run, inspect, write done. After a crash inspection
//! decides what is left to do.

use std::time::Duration;

use shardlift_domain::failure::ErrorCode;
use shardlift_domain::sql::NonTransactionalKind;
use shardlift_runtime::retry::{Delays, Policy};
use sqlx::{AssertSqlSafe, Connection};

use super::Apply;
use super::index::{self, IndexState};
use crate::engine::postgres::blockers::Lookout;
use crate::engine::postgres::claim::end_backend;
use crate::engine::postgres::error::{OrTrouble, sqlstate, trouble};
use crate::engine::postgres::fence;
use crate::engine::postgres::ledger;
use crate::engine::postgres::session::{QUICK, Session, within};
use crate::engine::postgres::watch::watched;
use crate::engine::{EngineError, EngineResult};

/// How the former owner of the statement is waited for, after its session was ended.
const TRIES: Policy = Policy {
    first: Duration::from_millis(50),
    longest: Duration::from_secs(1),
    total: Some(Duration::from_secs(15)),
};
/// How often it is looked who a long build waits for.
const GLANCE: Duration = Duration::from_secs(1);

/// Runs the statement unless it was done; `last`: writes the ledger's line together with the proof.
pub(super) async fn run(
    apply: &Apply<'_>,
    session: &mut Session,
    statement: &str,
    kind: &NonTransactionalKind,
    position: usize,
    last: bool,
) -> EngineResult<()> {
    let begun = intend(apply, session, position).await?;
    let outcome = match inspect(apply, session, kind, begun).await? {
        Left::Nothing => Ok(()),
        Left::Run => execute(apply, session, statement, kind, position).await,
    };
    if outcome.is_ok() {
        fail::fail_point!("pg-before-commit", |_| std::process::abort());
        prove(apply, session, position, last).await?;
        fail::fail_point!("pg-after-commit", |_| std::process::abort());
    }
    // A lost connection has released it already.
    let release = sqlx::query("SELECT pg_advisory_unlock_all()").execute(&mut session.conn);
    if outcome.is_ok() {
        within(QUICK, release).await.or_trouble(apply.shard())?;
    }
    outcome
}

/// What is left to do.
enum Left {
    Nothing,
    Run,
}

/// Makes sure that nobody else runs it, and writes that we begin. Answers whether it was begun before.
async fn intend(apply: &Apply<'_>, session: &mut Session, position: usize) -> EngineResult<bool> {
    let shard = apply.shard();
    let known =
        within(QUICK, ledger::intent(&mut session.conn, apply.migration(), apply.direction, position))
            .await
            .or_trouble(shard)?;
    if let Some(owner) = known.as_ref().and_then(|intent| intent.owner.as_ref()) {
        end_backend(session, owner).await;
    }
    let mut delays = Delays::new(&TRIES);
    loop {
        let lock =
            sqlx::query_scalar("SELECT pg_try_advisory_lock(hashtextextended('shardlift apply ' || $1, 0))")
                .bind(apply.migration().to_string())
                .fetch_one(&mut session.conn);
        if within(QUICK, lock).await.or_trouble(shard)? {
            break;
        }
        apply.lease.check()?;
        let Some(pause) = delays.next() else { return Err(busy(apply)) };
        tokio::time::sleep(pause).await;
    }
    let (pid, backend_start) = (session.pid, session.backend_start.clone());
    let mut tx = within(QUICK, session.conn.begin()).await.or_trouble(shard)?;
    fence::enter(&mut tx, shard, apply.lease.leader()).await?;
    apply.open(&mut tx).await?;
    within(QUICK, apply.author(pid, &backend_start).write(&mut tx, position, false))
        .await
        .or_trouble(shard)?;
    within(QUICK, tx.commit()).await.or_trouble(shard)?;
    Ok(known.is_some())
}

/// What a crash may have left, and what that means. Without an intent of ours nothing that is there was made by us.
async fn inspect(
    apply: &Apply<'_>,
    session: &mut Session,
    kind: &NonTransactionalKind,
    begun: bool,
) -> EngineResult<Left> {
    let shard = apply.shard();
    match kind {
        NonTransactionalKind::CreateIndexConcurrently { index, table } => {
            let state =
                within(QUICK, index::state(&mut session.conn, index, table)).await.or_trouble(shard)?;
            match state {
                IndexState::Valid if begun => Ok(Left::Nothing),
                IndexState::Invalid(name) => {
                    tracing::info!(%shard, index = name, "dropping an index that a former build left invalid");
                    watched(apply.access, apply.lease, session.pid, index::drop(&mut session.conn, &name))
                        .await?;
                    Ok(Left::Run)
                }
                IndexState::Valid | IndexState::Missing => Ok(Left::Run),
            }
        }
        NonTransactionalKind::DropIndexConcurrently { index } if begun => {
            let there = within(QUICK, index::exists(&mut session.conn, index)).await.or_trouble(shard)?;
            Ok(if there { Left::Run } else { Left::Nothing })
        }
        _ => Ok(Left::Run),
    }
}

async fn execute(
    apply: &Apply<'_>,
    session: &mut Session,
    statement: &str,
    kind: &NonTransactionalKind,
    position: usize,
) -> EngineResult<()> {
    let mut lookout = Lookout::new(apply.access, session.pid);
    let pid = session.pid;
    let mut refused = None;
    let ran = async {
        match sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut session.conn).await {
            // Kept as it is: what it means depends on what the statement left behind.
            Err(error) if sqlstate(&error).is_some() => {
                refused = Some(error);
                Ok(())
            }
            other => other.map(drop),
        }
    };
    let ran = lookout.during(GLANCE, watched(apply.access, apply.lease, pid, ran)).await;
    if lookout.any() {
        tracing::info!(shard = %apply.shard(), position, waited_for = lookout.words(), "a concurrent statement had to wait");
    }
    lookout.close().await;
    ran?;
    match refused {
        None => Ok(()),
        Some(error) => Err(clean_up(apply, session, statement, kind, position, error).await),
    }
}

/// Leaves no invalid index behind.
async fn clean_up(
    apply: &Apply<'_>,
    session: &mut Session,
    statement: &str,
    kind: &NonTransactionalKind,
    position: usize,
    error: sqlx::Error,
) -> EngineError {
    let shard = apply.shard();
    if sqlstate(&error).is_some_and(|code| code.starts_with("57P") || code.starts_with("08")) {
        return trouble(shard, error);
    }
    if let NonTransactionalKind::CreateIndexConcurrently { index, table } = kind
        && let Ok(IndexState::Invalid(name)) =
            within(QUICK, index::state(&mut session.conn, index, table)).await
        && let Err(error) =
            watched(apply.access, apply.lease, session.pid, index::drop(&mut session.conn, &name)).await
    {
        tracing::warn!(%shard, index = name, %error, "could not drop an invalid index; the next try will");
    }
    match sqlstate(&error) {
        Some("40P01" | "40001" | "55P03" | "57014") => trouble(shard, error),
        _ => {
            apply.failed(position, statement, &error, "correct the statement or the shard's data, then retry")
        }
    }
}

async fn prove(apply: &Apply<'_>, session: &mut Session, position: usize, last: bool) -> EngineResult<()> {
    let shard = apply.shard();
    let (pid, backend_start) = (session.pid, session.backend_start.clone());
    let mut tx = within(QUICK, session.conn.begin()).await.or_trouble(shard)?;
    fence::enter(&mut tx, shard, apply.lease.leader()).await?;
    within(QUICK, apply.author(pid, &backend_start).write(&mut tx, position, true))
        .await
        .or_trouble(shard)?;
    if last {
        let record = {
            let name = (apply.migration(), apply.direction);
            ledger::record(&mut tx, name, &apply.job.spec.checksum, apply.lease.token().epoch)
        };
        within(QUICK, record).await.or_trouble(shard)?;
    }
    within(QUICK, tx.commit()).await.or_trouble(shard)
}

pub(super) fn busy(apply: &Apply<'_>) -> EngineError {
    apply.failure(
        ErrorCode::SchemaLocked,
        format!("another session still applies {} to shard {}", apply.migration(), apply.shard()),
        "nothing: it is tried again",
    )
}

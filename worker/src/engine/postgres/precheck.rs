//! Looks whether a shard can take a migration, before anything is changed. Everything that is wrong is told at once.

use std::time::Duration;

use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::fence::{Attempt, Epoch, Token};
use shardlift_domain::spec::SchemaChange;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};
use uuid::Uuid;

use super::batch_rows::RowsBatch;
use super::batch_sql::SqlBatch;
use super::checkpoint::{self, Claim};
use super::error::{OrTrouble, sqlstate, trouble, words};
use super::ledger;
use super::session::{Access, QUICK, Session, within};
use super::table::{self, Table};
use super::walk::{Scope, Walk, assignments, predicate};
use super::{fence, key::Key};
use crate::engine::{DataJob, EngineError, EngineResult, Job, SchemaJob};
use crate::lease::TaskLease;

/// A prepared transaction that is still there after so long was left behind by somebody.
const LEFT_BEHIND: Duration = Duration::from_secs(2);

/// What is wrong, in the words for a person.
#[derive(Default)]
struct Findings(Vec<(ErrorCode, String)>);

impl Findings {
    fn add(&mut self, code: ErrorCode, what: impl Into<String>) {
        self.0.push((code, what.into()));
    }
}

/// Refuses with all findings in one message.
pub(super) async fn precheck(access: &Access, lease: &TaskLease, job: &Job) -> EngineResult<()> {
    lease.check()?;
    let mut session = access.control("precheck").await?;
    let mut findings = Findings::default();
    if server(&mut session, &mut findings).await? {
        admitted(&mut session, lease).await?;
        left_behind(&mut session, &mut findings).await?;
        match job {
            Job::Schema(job) => schema(&mut session, lease, job, &mut findings).await?,
            Job::Data(job) => data(&mut session, lease, job, &mut findings).await?,
        }
    }
    session.close().await;
    verdict(access, lease, findings)
}

fn verdict(access: &Access, lease: &TaskLease, findings: Findings) -> EngineResult<()> {
    let code = match findings.0.as_slice() {
        [] => return Ok(()),
        [(code, _)] => *code,
        _ => ErrorCode::PrecheckRefused,
    };
    let what: Vec<String> = findings.0.into_iter().map(|(_, what)| what).collect();
    let next = "nothing was changed: make the shard or the spec right, then retry";
    let failure = Failure::new(code, format!("shard {}: {}", access.shard, what.join("; ")), next);
    Err(EngineError::Failed(failure.on_shard(&access.shard).in_migration(&lease.task().migration)))
}

/// Whether it takes writes.
async fn server(session: &mut Session, findings: &mut Findings) -> EngineResult<bool> {
    let row = sqlx::query(
        "SELECT pg_is_in_recovery(), current_setting('default_transaction_read_only') = 'on', \
         current_setting('synchronous_commit')",
    )
    .fetch_one(&mut session.conn);
    let row = within(QUICK, row).await.or_trouble(&session.shard)?;
    let standby: bool = row.try_get(0).or_trouble(&session.shard)?;
    let read_only: bool = row.try_get(1).or_trouble(&session.shard)?;
    let commit: String = row.try_get(2).or_trouble(&session.shard)?;
    if standby {
        findings.add(ErrorCode::ShardReadOnly, "the server is a standby; the dsn must lead to the primary");
    } else if read_only {
        findings.add(ErrorCode::ShardReadOnly, "default_transaction_read_only is on");
    }
    if commit == "off" {
        findings.add(
            ErrorCode::PrecheckRefused,
            "synchronous_commit is off: a crash could lose commits that were acknowledged",
        );
    }
    Ok(!standby && !read_only)
}

async fn admitted(session: &mut Session, lease: &TaskLease) -> EngineResult<()> {
    let shard = session.shard.clone();
    fence::raise(&mut session.conn, &shard, lease.leader()).await?;
    let mut tx = within(QUICK, session.conn.begin()).await.or_trouble(&shard)?;
    fence::enter(&mut tx, &shard, lease.leader()).await?;
    within(QUICK, tx.commit()).await.or_trouble(&shard)
}

/// A prepared transaction that nobody finishes holds its locks for ever: schema changes and sweeps would hang.
async fn left_behind(session: &mut Session, findings: &mut Findings) -> EngineResult<()> {
    let before = within(QUICK, prepared(&mut session.conn)).await.or_trouble(&session.shard)?;
    if before.is_empty() {
        return Ok(());
    }
    tokio::time::sleep(LEFT_BEHIND).await;
    let after = within(QUICK, prepared(&mut session.conn)).await.or_trouble(&session.shard)?;
    for gid in before.iter().filter(|gid| after.contains(gid)) {
        findings.add(
            ErrorCode::PrecheckRefused,
            format!("the prepared transaction {gid:?} holds locks; its owner must COMMIT PREPARED or ROLLBACK PREPARED it"),
        );
    }
    Ok(())
}

async fn prepared(conn: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar("SELECT gid FROM pg_prepared_xacts WHERE database = current_database() ORDER BY gid")
        .fetch_all(conn)
        .await
}

async fn schema(
    session: &mut Session,
    lease: &TaskLease,
    job: &SchemaJob,
    findings: &mut Findings,
) -> EngineResult<()> {
    if matches!(job.schema.up, SchemaChange::Commands(_)) {
        findings.add(ErrorCode::SpecInvalid, "MongoDB commands cannot run on PostgreSQL");
    }
    match ledger::applied(session, &lease.task().migration, &job.spec.checksum).await {
        Err(EngineError::Failed(failure)) if failure.code == ErrorCode::LedgerConflict => {
            findings.add(failure.code, failure.message);
            Ok(())
        }
        other => other.map(drop),
    }
}

async fn data(
    session: &mut Session,
    lease: &TaskLease,
    job: &DataJob,
    findings: &mut Findings,
) -> EngineResult<()> {
    let shard = session.shard.clone();
    let migration = &lease.task().migration;
    let laid = within(QUICK, checkpoint::newest(&mut session.conn, migration)).await.or_trouble(&shard)?;
    if laid.is_some_and(|laid| laid.checksum != job.spec.checksum.as_str()) {
        findings.add(ErrorCode::LedgerConflict, format!("{migration} was begun there with another content"));
    }
    if job.data.source.pending.is_none() && !job.data.source.immutable_key {
        findings.add(ErrorCode::PrecheckRefused, "without `where` the spec must say `immutable_key: true`");
    }
    let relation = &job.data.source.relation;
    let found = within(QUICK, table::read(&mut session.conn, relation)).await.or_trouble(&shard)?;
    let Some(table) = found else {
        findings.add(ErrorCode::PrecheckRefused, format!("there is no table {relation}"));
        return Ok(());
    };
    match table.kind.as_str() {
        "r" if table.inherited => findings.add(
            ErrorCode::PrecheckRefused,
            format!("other tables inherit from {relation}, so its key is not unique over all of them"),
        ),
        "r" | "p" => {}
        _ => findings.add(ErrorCode::PrecheckRefused, format!("{relation} is not a table")),
    }
    let key = within(QUICK, table::key(&mut session.conn, &table, &job.data.source.key))
        .await
        .or_trouble(&shard)?;
    match key {
        Err(why) => findings.add(ErrorCode::PrecheckRefused, why),
        Ok(key) => transform(session, lease, job, table, key, findings).await?,
    }
    Ok(())
}

async fn transform(
    session: &mut Session,
    lease: &TaskLease,
    job: &DataJob,
    table: Table,
    key: Key,
    findings: &mut Findings,
) -> EngineResult<()> {
    let pending = predicate(&session.shard, job.data.source.pending.as_ref())?;
    let tenants = match Scope::of(&table, job.data.source.tenants.as_ref()) {
        Ok(tenants) => tenants,
        Err(why) => {
            findings.add(ErrorCode::PrecheckRefused, why);
            return Ok(());
        }
    };
    let walk = Walk { migration: lease.task().migration.clone(), table, key, pending, tenants };
    let assignments = assignments(&session.shard, &job.data.transform)?;
    let before = findings.0.len();
    for (column, _) in assignments.iter().flatten() {
        let problem = match walk.table.columns.iter().find(|candidate| candidate.name == *column) {
            None => "does not exist",
            Some(_) if walk.key.columns().iter().any(|part| part.name == *column) => "is part of the key",
            Some(found) if found.generated => "is computed by the server",
            Some(_) => continue,
        };
        findings
            .add(ErrorCode::TransformInvalid, format!("the transform sets column {column}, which {problem}"));
    }
    if findings.0.len() > before {
        return Ok(());
    }
    let plan = match (&assignments, &job.transformer) {
        (Some(list), _) => explain_sql(&mut session.conn, &SqlBatch::new(&walk, list), lease).await,
        (None, Some(transformer)) => {
            explain_rows(&mut session.conn, &RowsBatch::new(walk.clone(), transformer.clone())).await
        }
        (None, None) => return Ok(()),
    };
    match plan {
        Ok(()) => Ok(()),
        Err(error)
            if sqlstate(&error).is_some_and(|code| code.starts_with("57") || code.starts_with("08")) =>
        {
            Err(trouble(&session.shard, error))
        }
        Err(error) if sqlstate(&error).is_some() => {
            let words = words(&error);
            findings.add(
                ErrorCode::TransformInvalid,
                format!("the batch cannot be planned on {}: {words}", walk.table.sql),
            );
            Ok(())
        }
        Err(error) => Err(trouble(&session.shard, error)),
    }
}

/// The server compiles the real statement and checks privileges, without running it.
async fn explain_sql(
    conn: &mut PgConnection,
    batch: &SqlBatch,
    lease: &TaskLease,
) -> Result<(), sqlx::Error> {
    let claim = Claim {
        migration: lease.task().migration.clone(),
        index: 0,
        token: Token { epoch: Epoch::NONE, attempt: Attempt(0) },
        id: Uuid::nil(),
        last_key: None,
    };
    let query = claim.bind(sqlx::query(AssertSqlSafe(format!("EXPLAIN {}", batch.sample()))));
    let query = query.bind(None::<Vec<String>>).bind(0_i64).bind(false).bind(None::<Vec<String>>);
    let query = query.bind(None::<Vec<String>>);
    within(QUICK, query.execute(conn)).await.map(drop)
}

async fn explain_rows(conn: &mut PgConnection, batch: &RowsBatch) -> Result<(), sqlx::Error> {
    let query = sqlx::query(AssertSqlSafe(format!("EXPLAIN {}", batch.sample())));
    let query = query.bind(None::<Vec<String>>).bind(None::<Vec<String>>).bind(None::<Vec<String>>);
    within(QUICK, query.execute(conn)).await.map(drop)
}

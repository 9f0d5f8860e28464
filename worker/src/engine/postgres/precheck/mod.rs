//! Looks whether a shard can take a migration, before anything is changed. Everything that is wrong is told at once.
//!
//! [`busy`] looks at who else is there, [`data`] at the table and the transform of a data migration, [`questions`] at those of
//! `verify`.

mod busy;
mod data;
mod questions;
mod schema;

use shardlift_domain::failure::ErrorCode;
use shardlift_domain::ids::MigrationKey;
use shardlift_domain::verdict::{Finding, Severity};
use sqlx::{Connection, Row};

use super::error::OrTrouble;
use super::fence;
use super::session::{Access, QUICK, Session, within};
use crate::engine::findings::Findings;
use crate::engine::{EngineResult, Job};
use crate::lease::TaskLease;

/// Refuses with all findings in one message.
pub(super) async fn precheck(access: &Access, lease: &TaskLease, job: &Job) -> EngineResult<()> {
    lease.check()?;
    let mut session = access.control("precheck").await?;
    let mut findings = Findings::new(&access.shard, &lease.task().migration);
    if server(&mut session, &mut findings).await? {
        admitted(&mut session, lease).await?;
        look(&mut session, &lease.task().migration, job, &mut findings).await?;
    }
    session.close().await;
    findings.verdict()
}

/// Tells all findings.
pub(super) async fn check(
    access: &Access,
    migration: &MigrationKey,
    job: &Job,
) -> EngineResult<Vec<Finding>> {
    let mut session = access.control("check").await?;
    let mut findings = Findings::new(&access.shard, migration);
    if server(&mut session, &mut findings).await? {
        look(&mut session, migration, job, &mut findings).await?;
    }
    session.close().await;
    Ok(findings.into_all())
}

async fn look(
    session: &mut Session,
    migration: &MigrationKey,
    job: &Job,
    findings: &mut Findings,
) -> EngineResult<()> {
    busy::look(session, job, findings).await?;
    match job {
        Job::Schema(job) => schema::look(session, migration, job, findings).await?,
        Job::Data(job) => data::look(session, migration, job, findings).await?,
    }
    questions::look(session, job, findings).await
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
        let next = "let the dsn lead to the primary";
        findings.of_shard(Severity::Error, ErrorCode::ShardReadOnly, "the server is a standby", next);
    } else if read_only {
        let next = "make the server writable";
        findings.of_shard(
            Severity::Error,
            ErrorCode::ShardReadOnly,
            "default_transaction_read_only is on",
            next,
        );
    }
    if commit == "off" {
        findings.of_shard(
            Severity::Error,
            ErrorCode::PrecheckRefused,
            "synchronous_commit is off: a crash could lose commits that were acknowledged",
            "set synchronous_commit to on for the worker's role",
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

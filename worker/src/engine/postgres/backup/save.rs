//! A table to whoever saves it: one COPY in one snapshot. The snapshot ends with its session, so what was begun and not
//! finished is begun anew.

use std::time::Duration;

use futures::StreamExt;
use sqlx::Connection;

use super::shape;
use crate::backup::format::{Cutter, Torn};
use crate::backup::{Format, Saving, Subject, failed};
use crate::engine::postgres::error::OrTrouble;
use crate::engine::postgres::fence;
use crate::engine::postgres::session::{Access, QUICK, Session, task_name, within};
use crate::engine::postgres::table::{self, Table};
use crate::engine::{DataJob, EngineError, EngineResult};
use crate::lease::TaskLease;

/// Rows are handed on in pieces of about this size.
const PIECE: usize = 16 * 1024;
/// How long the server may search for the next row: a table may hold millions of dead ones.
const NEXT_WITHIN: Duration = Duration::from_secs(600);
/// How long the object store may keep the server waiting before the server gives this session up: as long as it lives it
/// holds back vacuum, and whoever wants to change the table's shape.
const SLOW_STORE: &str = "300000";

/// Gives all rows.
pub(in super::super) async fn save(
    access: &Access,
    lease: &TaskLease,
    job: &DataJob,
    into: &mut dyn Saving,
) -> EngineResult<()> {
    let mut session = access.unbounded(lease.task()).await?;
    fence::raise(&mut session.conn, &access.shard, lease.leader()).await?;
    fence::glance(&mut session.conn, &access.shard, lease.leader()).await?;
    end_former(&mut session, lease).await?;
    let relation = &job.data.source.relation;
    let table = within(QUICK, table::read(&mut session.conn, relation)).await.or_trouble(&access.shard)?;
    let table =
        table.ok_or_else(|| failed(format!("there is no table {relation}"), "look what became of it"))?;
    let (subject, beside) = shape_of(&mut session, &table, lease).await?;
    // Before the snapshot is taken: a transaction that waits for an object store is ended by the server.
    into.begin(subject.clone(), beside).await?;
    copy(&mut session, &table, &subject, lease, into).await?;
    session.close().await;
    Ok(())
}

/// The session of a worker that is not heard any more must not hold back others for as long as it pleases.
async fn end_former(session: &mut Session, lease: &TaskLease) -> EngineResult<()> {
    let ended = sqlx::query(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() \
         AND application_name = left($1, 63) AND pid <> pg_backend_pid()",
    )
    .bind(format!("shardlift/{}", task_name(lease.task())))
    .execute(&mut session.conn);
    within(QUICK, ended).await.or_trouble(&session.shard)?;
    let patient = sqlx::query("SELECT set_config('tcp_user_timeout', $1, false)").bind(SLOW_STORE);
    within(QUICK, patient.execute(&mut session.conn)).await.or_trouble(&session.shard).map(drop)
}

async fn shape_of(
    session: &mut Session,
    table: &Table,
    lease: &TaskLease,
) -> EngineResult<(Subject, Vec<crate::backup::Beside>)> {
    let shard = session.shard.clone();
    let read = async {
        let mut tx = session.conn.begin().await?;
        let read = shape::read(&mut tx, table, &lease.task().migration).await?;
        tx.rollback().await?;
        Ok(read)
    };
    within(QUICK, read).await.or_trouble(&shard)
}

async fn copy(
    session: &mut Session,
    table: &Table,
    subject: &Subject,
    lease: &TaskLease,
    into: &mut dyn Saving,
) -> EngineResult<()> {
    let shard = session.shard.clone();
    let mut tx = within(QUICK, session.conn.begin()).await.or_trouble(&shard)?;
    let snapshot = sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY");
    within(QUICK, snapshot.execute(&mut *tx)).await.or_trouble(&shard)?;
    let lock = format!("LOCK TABLE {} IN ACCESS SHARE MODE", table.sql);
    super::run(&mut tx, &shard, lock).await?;
    let now = shape::read(&mut tx, table, &lease.task().migration).await.or_trouble(&shard)?.0;
    if now != *subject {
        return Err(EngineError::Contended(crate::engine::Failure::new(
            shardlift_domain::ErrorCode::RowContended,
            format!("the shape of {} changed while its backup began", subject.relation),
            "nothing: it is begun anew",
        )));
    }
    let statement =
        format!("COPY (SELECT {} FROM {}) TO STDOUT (FORMAT binary)", super::columns(subject), table.sql);
    let mut pieces = within(QUICK, tx.copy_out_raw(&statement)).await.or_trouble(&shard)?;
    let mut cutter = Cutter::new(Format::PostgresCopy);
    loop {
        let piece =
            within(NEXT_WITHIN, async { pieces.next().await.transpose() }).await.or_trouble(&shard)?;
        let ended = piece.is_none();
        cutter.feed(&piece.unwrap_or_default());
        if ended || cutter.waits() >= PIECE {
            let (bytes, rows) = cutter.take().map_err(torn)?;
            into.rows(&bytes, rows).await?;
        }
        if ended {
            break;
        }
    }
    cutter.end().map_err(torn)?;
    drop(pieces);
    within(QUICK, tx.rollback()).await.or_trouble(&shard)
}

fn torn(torn: Torn) -> EngineError {
    failed(format!("what the server copies is not understood: {torn}"), "report this as a defect")
}

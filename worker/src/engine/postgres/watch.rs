//! Statements without a time limit by the server: the worker watches the lease instead, and ends them when it is over.

use std::time::Duration;

use super::error::{OrTrouble, words};
use super::session::{Access, QUICK, within};
use crate::engine::{EngineError, EngineResult};
use crate::lease::TaskLease;

/// How often the lease is looked at.
const GLANCE: Duration = Duration::from_millis(500);

/// Runs a long statement of the session with this server process. When the lease ends first, the statement is
/// cancelled in the server as well; its session must not be used any more.
pub(super) async fn watched<T>(
    access: &Access,
    lease: &TaskLease,
    pid: i32,
    statement: impl Future<Output = Result<T, sqlx::Error>>,
) -> EngineResult<T> {
    let mut statement = std::pin::pin!(statement);
    loop {
        tokio::select! {
            answer = &mut statement => return answer.or_trouble(&access.shard),
            () = lease.withdrawn() => {}
            () = tokio::time::sleep(GLANCE) => {}
        }
        if lease.check().is_err() {
            cancel(access, pid).await;
            return Err(EngineError::LeaseLost);
        }
    }
}

async fn cancel(access: &Access, pid: i32) {
    let Ok(mut session) = access.control("control").await else { return };
    let cancelled = sqlx::query("SELECT pg_cancel_backend($1)").bind(pid).execute(&mut session.conn);
    if let Err(error) = within(QUICK, cancelled).await {
        tracing::warn!(shard = %access.shard, pid, error = words(&error), "could not cancel a statement");
    }
    session.close().await;
}

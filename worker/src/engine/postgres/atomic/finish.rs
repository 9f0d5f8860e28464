//! Ending a prepared transaction of ours. The same again does no harm.

use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::sql::quote_literal;
use sqlx::AssertSqlSafe;

use crate::engine::postgres::error::{sqlstate, trouble, words};
use crate::engine::postgres::session::{QUICK, Session, within};
use crate::engine::{EngineError, EngineResult};

/// `COMMIT PREPARED`.
pub(super) async fn commit(session: &mut Session, gid: &str) -> EngineResult<()> {
    end(session, "COMMIT", gid).await
}

/// `ROLLBACK PREPARED`.
pub(super) async fn roll_back(session: &mut Session, gid: &str) -> EngineResult<()> {
    end(session, "ROLLBACK", gid).await
}

async fn end(session: &mut Session, verb: &str, gid: &str) -> EngineResult<()> {
    let statement = format!("{verb} PREPARED {}", quote_literal(gid));
    let ended = sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut session.conn);
    let Err(error) = within(QUICK, ended).await else { return Ok(()) };
    let shard = &session.shard;
    Err(match sqlstate(&error) {
        // Somebody was faster.
        Some("42704") => return Ok(()),
        // Somebody is at it.
        Some("55000" | "55006") => EngineError::Contended(
            Failure::new(
                ErrorCode::RowContended,
                format!("the prepared transaction {gid} of shard {shard} is being finished by somebody else"),
                "nothing: it is looked at again",
            )
            .on_shard(shard),
        ),
        Some("42501") => EngineError::Failed(
            Failure::new(
                ErrorCode::ShardRefused,
                format!("the worker may not finish the prepared transaction {gid} of shard {shard}: {}", words(&error)),
                "give the worker the database user that prepared it (`shardlift indoubt` names it), then retry",
            )
            .on_shard(shard),
        ),
        _ => trouble(shard, error),
    })
}

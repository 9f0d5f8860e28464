//! The questions of `verify`, tried before anything is changed: whether the server understands them as its tables are now.

use shardlift_domain::failure::ErrorCode;
use shardlift_domain::spec::Question;
use shardlift_domain::verdict::Severity;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, SqlSafeStr, Statement};

use crate::engine::assertion::shortened;
use crate::engine::findings::Findings;
use crate::engine::postgres::error::{sqlstate, trouble, words};
use crate::engine::postgres::session::{QUICK, Session, within};
use crate::engine::{EngineResult, Job};

/// Adds what is wrong with them.
pub(super) async fn look(session: &mut Session, job: &Job, findings: &mut Findings) -> EngineResult<()> {
    for assertion in job.spec().assertions() {
        let Question::Sql(query) = &assertion.question else { continue };
        let shown = shortened(query);
        match within(QUICK, explained(&mut session.conn, query)).await {
            Ok(1) => {}
            Ok(columns) => {
                let what = format!("a question of `verify` gives {columns} columns, not one: {shown}");
                findings.of_spec(Severity::Error, ErrorCode::PrecheckRefused, what, "ask for a single value");
            }
            // What the change itself makes is not there yet.
            Err(error) if matches!(job, Job::Schema(_)) && lacks(&error) => {
                let what = format!(
                    "a question of `verify` is not tried before the change, since it needs what is not there yet ({}): {shown}",
                    words(&error)
                );
                let next = "nothing, if `up` makes it; otherwise correct the question";
                findings.of_spec(Severity::Note, ErrorCode::PrecheckRefused, what, next);
            }
            Err(error)
                if sqlstate(&error)
                    .is_some_and(|code| !code.starts_with("57") && !code.starts_with("08")) =>
            {
                let what =
                    format!("a question of `verify` is refused by the server: {}: {shown}", words(&error));
                let next = "correct the question, or grant the worker's user what it reads";
                findings.of_spec(Severity::Error, ErrorCode::PrecheckRefused, what, next);
            }
            Err(error) => return Err(trouble(&session.shard, error)),
        }
    }
    Ok(())
}

/// The server compiles it and checks privileges, without running it; answers its number of columns.
async fn explained(conn: &mut PgConnection, query: &str) -> Result<usize, sqlx::Error> {
    let mut tx = conn.begin().await?;
    sqlx::query("SET TRANSACTION READ ONLY").execute(&mut *tx).await?;
    // The line ends before the bracket: the query may end with a comment.
    let asked = format!("SELECT * FROM ({query}\n) AS answer");
    let prepared = (&mut *tx).prepare(AssertSqlSafe(asked.clone()).into_sql_str()).await;
    let columns = prepared.map(|statement| statement.columns().len());
    let explained = match columns {
        Ok(_) => sqlx::query(AssertSqlSafe(format!("EXPLAIN {asked}"))).execute(&mut *tx).await.map(drop),
        Err(_) => Ok(()),
    };
    tx.rollback().await?;
    explained.and(columns)
}

/// A table, column, function, type or schema that is not there.
fn lacks(error: &sqlx::Error) -> bool {
    matches!(sqlstate(error), Some("42P01" | "42703" | "42883" | "42704" | "3F000"))
}

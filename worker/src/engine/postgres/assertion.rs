//! Questions of the user's own: one query, one value. It runs read-only in the transaction that verification has open.

use std::time::Duration;

use serde_json::{Map, Value};
use shardlift_domain::spec::{Assertion, Question};
use shardlift_domain::verdict::CheckResult;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::engine::assertion::judged;

/// How long an answer may take: a count of a large table does not come in seconds.
const PATIENCE: Duration = Duration::from_secs(600);
/// `query_canceled`: here, the statement's timeout.
const CANCELLED: &str = "57014";

/// Asks it. The transaction goes on whatever comes of it.
pub(super) async fn ask(conn: &mut PgConnection, assertion: &Assertion) -> Result<CheckResult, sqlx::Error> {
    let Question::Sql(query) = &assertion.question else {
        return Ok(judged(assertion, Err("it is not written for PostgreSQL".to_owned())));
    };
    let mut inside = conn.begin().await?;
    let limit = format!("SET LOCAL statement_timeout = {}", PATIENCE.as_millis());
    sqlx::query(AssertSqlSafe(limit)).execute(&mut *inside).await?;
    // The line ends before the bracket: the query may end with a comment.
    let asked = format!("SELECT to_json(answer)::text FROM ({query}\n) AS answer LIMIT 2");
    let rows: Result<Vec<String>, _> = sqlx::query_scalar(AssertSqlSafe(asked)).fetch_all(&mut *inside).await;
    let answer = match rows {
        Ok(rows) => single(&rows),
        Err(sqlx::Error::Database(told)) if told.code().as_deref() == Some(CANCELLED) => {
            Err(format!("it gave no answer within {} minutes", PATIENCE.as_secs() / 60))
        }
        Err(error) => return Err(error),
    };
    inside.rollback().await?;
    Ok(judged(assertion, answer))
}

/// The one value of one row of one column, or what there was instead.
fn single(rows: &[String]) -> Result<Value, String> {
    let [row] = rows else {
        return Err(if rows.is_empty() { "it gave no row" } else { "it gave more than one row" }.to_owned());
    };
    let columns: Map<String, Value> = serde_json::from_str(row).map_err(|error| error.to_string())?;
    let mut values = columns.into_iter().map(|(_, value)| value);
    match (values.next(), values.next()) {
        (Some(value), None) => Ok(value),
        _ => Err("it gave more than one column".to_owned()),
    }
}

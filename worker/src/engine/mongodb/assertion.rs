//! Questions of the user's own: how many documents match a query, as a majority of the replica set holds them.

use std::time::Duration;

use bson::{Bson, Document, doc};
use futures::TryStreamExt;
use mongodb::options::ReadConcern;
use serde_json::Value;
use shardlift_domain::spec::{Assertion, Question};
use shardlift_domain::verdict::CheckResult;

use super::connection::Connection;
use super::error::Cause;
use super::{codes, error, extjson};
use crate::engine::EngineResult;
use crate::engine::assertion::judged;

/// How long an answer may take: a count of a large collection does not come in seconds.
const PATIENCE: Duration = Duration::from_secs(600);

/// Asks it.
pub(super) async fn ask(connection: &Connection, assertion: &Assertion) -> EngineResult<CheckResult> {
    let Question::Documents { collection, query } = &assertion.question else {
        return Ok(judged(assertion, Err("it is not written for MongoDB".to_owned())));
    };
    let documents = connection.collection(collection).await?;
    let stages = [doc! { "$match": extjson::document(query, "verify.where")? }, doc! { "$count": "found" }];
    let asked = async {
        let found = documents.aggregate(stages).read_concern(ReadConcern::majority()).max_time(PATIENCE);
        found.await?.try_next().await
    };
    let answer = match asked.await {
        Ok(found) => Ok(counted(found.as_ref())),
        Err(told) if Cause::from(&told).code == codes::MAX_TIME => {
            Err(format!("it gave no answer within {} minutes", PATIENCE.as_secs() / 60))
        }
        Err(told) => return Err(error::asking("asking a question of verify")(told)),
    };
    Ok(judged(assertion, answer))
}

/// Nothing that matches makes no document at all.
fn counted(found: Option<&Document>) -> Value {
    let count = match found.and_then(|found| found.get("found")) {
        Some(Bson::Int32(count)) => i64::from(*count),
        Some(Bson::Int64(count)) => *count,
        _ => 0,
    };
    count.into()
}

//! Who else is on the shard: operations and transactions that have run for long. Named by number, application and user,
//! never by what they ask.

use bson::{Bson, Document, doc};
use futures::TryStreamExt;
use mongodb::options::ReadConcern;
use shardlift_domain::ErrorCode;
use shardlift_domain::verdict::Severity;

use super::commands;
use super::connection::Connection;
use super::error::{self, Cause};
use super::{codes, facts};
use crate::engine::findings::Findings;
use crate::engine::{EngineResult, Job};

/// An operation on the collection that has run for so many seconds is told.
const LONG: i64 = 10;
/// So is a transaction that has been open for so many. Of those that change rows the server ends each after 60.
const LONG_OPEN: i64 = 30;
/// Most that are told.
const TOLD: i64 = 5;
/// As which our own sessions appear.
const OURS: &str = "shardlift-worker";

/// Adds what holds up the change.
pub(super) async fn look(connection: &Connection, job: &Job, findings: &mut Findings) -> EngineResult<()> {
    let targets: Vec<String> = match job {
        Job::Data(job) => vec![job.data.source.relation.clone()],
        Job::Schema(job) => commands::parse(&job.schema.up, &connection.database)
            .map(|commands| commands.into_iter().map(|command| command.target).collect())
            .unwrap_or_default(),
    };
    let places: Vec<String> =
        targets.iter().map(|target| format!("{}.{target}", connection.database)).collect();
    let found = match running(connection, &places).await {
        Ok(found) => found,
        // Who may not look is told so where it matters.
        Err(error) if codes::NOT_ALLOWED.contains(&Cause::from(&error).code) => return Ok(()),
        Err(error) => return Err(error::asking("looking at running operations")(error)),
    };
    for operation in &found {
        let effect = match job {
            Job::Schema(_) => "the change may have to wait for it",
            Job::Data(_) => "the final search waits for it, and rows that it holds are tried again",
        };
        let next = "let it end; the work waits for it, in short tries that let others pass";
        let what = format!("{}: {effect}", named(operation));
        findings.of_shard(Severity::Warning, ErrorCode::SchemaLocked, what, next);
    }
    Ok(())
}

async fn running(connection: &Connection, places: &[String]) -> mongodb::error::Result<Vec<Document>> {
    let pipeline = [
        doc! { "$currentOp": { "allUsers": true, "idleSessions": true } },
        doc! { "$match": {
            "appName": { "$ne": OURS },
            "$or": [
                { "ns": { "$in": places }, "secs_running": { "$gte": LONG } },
                { "transaction.timeOpenMicros": { "$gte": LONG_OPEN * 1_000_000 } },
            ],
        } },
        doc! { "$limit": TOLD },
    ];
    let client = connection.client().await.map_err(|_| mongodb::error::Error::custom("no client"))?;
    let admin = client.database("admin");
    let looking = admin.aggregate(pipeline).read_concern(ReadConcern::local());
    looking.await?.try_collect().await
}

/// `operation 4711 (reports, update on chat.messages, running for 75 s)`.
fn named(operation: &Document) -> String {
    let id = match operation.get("opid") {
        Some(Bson::String(id)) => format!("operation {id}"),
        Some(Bson::Int32(_) | Bson::Int64(_)) => format!("operation {}", facts::number(operation, "opid")),
        _ => "an idle session".to_owned(),
    };
    let name = operation.get_str("appName").unwrap_or("unnamed");
    let open = operation.get_document("transaction").map(|open| facts::number(open, "timeOpenMicros")).ok();
    let what = match open {
        Some(micros) => format!("with a transaction open for {} s", micros / 1_000_000),
        None => format!(
            "{} on {}, running for {} s",
            operation.get_str("op").unwrap_or("a command"),
            operation.get_str("ns").unwrap_or("a collection"),
            facts::number(operation, "secs_running")
        ),
    };
    format!("{id} ({name}, {what})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_named_without_what_it_asks() {
        let long = doc! {
            "opid": 4711, "appName": "reports", "op": "update", "ns": "chat.messages", "secs_running": 75_i64,
            "command": { "q": { "name": "secret" } },
        };
        assert_eq!(named(&long), "operation 4711 (reports, update on chat.messages, running for 75 s)");
        let idle = doc! { "transaction": { "timeOpenMicros": 31_000_000_i64 } };
        assert_eq!(named(&idle), "an idle session (unnamed, with a transaction open for 31 s)");
    }
}

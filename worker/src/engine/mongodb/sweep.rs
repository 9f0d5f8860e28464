//! The search of the whole scope after a pass, and the layout of another pass for what it finds.

use std::time::Duration;

use bson::{Bson, Document, doc};
use futures::TryStreamExt;
use mongodb::Collection;
use mongodb::options::ReadConcern;
use shardlift_domain::verdict::Sweep;
use shardlift_domain::{ErrorCode, Failure};
use tokio::time::{Instant, sleep};

use super::bracket::Lower;
use super::change::both;
use super::checkpoint::{self, Layout, newest_pass};
use super::connection::Connection;
use super::split::lay_out;
use super::writer::pending;
use super::{defect, error, fence, quarantine};
use crate::engine::{DataJob, EngineError, EngineResult, MAX_PASSES};
use crate::lease::TaskLease;

/// Between two looks at open transactions.
const PAUSE: Duration = Duration::from_millis(100);
/// Beyond the server's own limit for transactions: it looks for old ones in intervals.
const GRACE: Duration = Duration::from_secs(10);
const DEFAULT_LIFETIME: u64 = 60;

pub(super) async fn sweep(connection: &Connection, lease: &TaskLease, job: &DataJob) -> EngineResult<Sweep> {
    lease.check()?;
    let books = connection.books().await?;
    fence::admit(&books, lease.leader()).await?;
    let Some(pending) = pending(job)? else { return Ok(Sweep::Clean) };
    let pending = match quarantine::left_alone(&books, lease, job).await? {
        Some(alone) => both(&pending, Some(&alone)),
        None => pending,
    };
    let there = checkpoint::all(&books, &lease.task().migration, None).await?;
    let pass = newest_pass(&there).ok_or_else(|| defect("a sweep was asked for before the first pass"))?;
    let documents = connection.collection(&job.data.source.relation).await?;
    if !pass.done() {
        // An earlier sweep laid it out, and its answer was lost.
        let (pending, _) = search(&documents, &pending).await?;
        return Ok(Sweep::Found { pending, pass });
    }
    wait_for_older_transactions(connection, lease).await?;
    let (found, layouts) = search(&documents, &pending).await?;
    if found == 0 {
        return Ok(Sweep::Clean);
    }
    // Laid out first: whoever resumes after the halt goes on with what was found.
    let next = lay_out(connection, &books, lease, job, pass.number + 1, &layouts).await?;
    if pass.number.is_multiple_of(MAX_PASSES) {
        return Err(EngineError::Failed(Failure::new(
            ErrorCode::SweepNotConverging,
            format!("after {} passes there are still {found} pending documents", pass.number),
            "let the application write the new form only, then resume the migration",
        )));
    }
    Ok(Sweep::Found { pending: found, pass: next })
}

/// Counts what is pending, and finds the first and last such key of each bracket, in one scan that a majority holds.
async fn search(documents: &Collection<Document>, pending: &Document) -> EngineResult<(u64, Vec<Layout>)> {
    let doing = "searching for pending documents";
    let numbers = ["int", "long", "double", "decimal"];
    let bracket = doc! { "$switch": {
        "branches": [
            // NaN equals itself here, whatever its type; comparisons of the query language do not find it.
            { "case": { "$eq": ["$_id", f64::NAN] }, "then": "nan" },
            { "case": { "$in": [{ "$type": "$_id" }, &numbers[..]] }, "then": "number" },
            { "case": { "$eq": [{ "$type": "$_id" }, "symbol"] }, "then": "string" },
        ],
        "default": { "$type": "$_id" },
    } };
    let pipeline = [
        doc! { "$match": pending },
        doc! { "$project": { "_id": 1 } },
        doc! { "$group": {
            "_id": bracket, "found": { "$sum": 1_i64 },
            "first": { "$min": "$_id" }, "last": { "$max": "$_id" },
        } },
    ];
    let groups = documents.aggregate(pipeline).await.map_err(error::asking(doing))?;
    let groups: Vec<Document> = groups.try_collect().await.map_err(error::asking(doing))?;
    let found = groups.iter().map(|group| group.get_i64("found").unwrap_or_default()).sum::<i64>();
    let key = |group: &Document, end| group.get(end).cloned().unwrap_or(Bson::Null);
    let layouts = groups
        .iter()
        .map(|group| Layout { lower: Lower::From(key(group, "first")), upper: Some(key(group, "last")) })
        .collect();
    Ok((u64::try_from(found).unwrap_or_default(), layouts))
}

/// Waits until every transaction that is open now is over: one of the application may hold documents in the old form
/// that a search would not see. Where the user may not look (`inprog` privilege), nothing is waited for, and what such a
/// transaction commits later is found by verification or not at all: the application must write the new form by then.
async fn wait_for_older_transactions(connection: &Connection, lease: &TaskLease) -> EngineResult<()> {
    let started = Instant::now();
    let limit = lifetime(connection).await + GRACE;
    while started.elapsed() < limit {
        lease.check()?;
        let oldest = match oldest_transaction(connection).await {
            Ok(oldest) => oldest,
            Err(error) => {
                tracing::warn!(
                    code = error::Cause::from(&error).code,
                    "open transactions cannot be looked at"
                );
                return Ok(());
            }
        };
        if oldest.is_none_or(|open| open < started.elapsed()) {
            return Ok(());
        }
        sleep(PAUSE).await;
    }
    Ok(())
}

/// How long the oldest open transaction of the server has been open.
async fn oldest_transaction(connection: &Connection) -> mongodb::error::Result<Option<Duration>> {
    let pipeline = [
        doc! { "$currentOp": { "allUsers": true, "idleSessions": true } },
        doc! { "$match": { "transaction.timeOpenMicros": { "$exists": true } } },
        doc! { "$group": { "_id": null, "open": { "$max": "$transaction.timeOpenMicros" } } },
    ];
    let client = connection.client().await.map_err(|_| mongodb::error::Error::custom("no client"))?;
    let admin = client.database("admin");
    let looking = admin.aggregate(pipeline).read_concern(ReadConcern::local());
    let mut groups = looking.await?;
    let open = groups.try_next().await?.and_then(|group| group.get_i64("open").ok());
    Ok(open.and_then(|micros| u64::try_from(micros).ok()).map(Duration::from_micros))
}

async fn lifetime(connection: &Connection) -> Duration {
    let asked = connection.admin(doc! { "getParameter": 1, "transactionLifetimeLimitSeconds": 1 }).await;
    let seconds = asked.ok().and_then(|answer| match answer.get("transactionLifetimeLimitSeconds") {
        Some(Bson::Int32(seconds)) => u64::try_from(*seconds).ok(),
        Some(Bson::Int64(seconds)) => u64::try_from(*seconds).ok(),
        _ => None,
    });
    Duration::from_secs(seconds.unwrap_or(DEFAULT_LIFETIME))
}

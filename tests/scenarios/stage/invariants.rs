//! The invariants that each scenario checks at its end; `I1` … `I8` are those of tests/README.md.

use bson::{Document, doc};
use futures::TryStreamExt;
use mongodb::Client;
use serde_json::Value;
use shardlift_harness::wait::wait_for_ok;
use shardlift_harness::writer::WriterReport;

use super::shard::Checkpoint;
use super::{DEADLINE, Engine, Form, Items, Play, checkpoints, scalar};

/// I1, I2, I8: every row was changed exactly once, and no write of the application is missing.
pub(crate) async fn assert_exactly_once(items: &Items, form: Form, report: Option<&WriterReport>) {
    let violations = items.violations(form, report).await;
    let errors = report.map(|report| report.first_errors.clone()).unwrap_or_default();
    assert!(violations.is_empty(), "{}: {violations:#?}\nerrors of the application: {errors:?}", items.shard);
}

/// I3: nothing is left behind in the shard; waits for sessions that are just ending.
pub(crate) async fn assert_nothing_left(items: &Items) {
    let nothing = format!("nothing of Shardlift to be left open on {}", items.shard);
    let left = wait_for_ok(&nothing, DEADLINE, async || {
        let left = match items.engine() {
            Engine::Postgres => left_in_postgres(&items.dsn).await,
            Engine::Mongodb => left_in_mongodb(&items.dsn).await,
        };
        anyhow::ensure!(left.is_empty(), "{left}");
        Ok(())
    });
    left.await.unwrap();
}

async fn left_in_postgres(dsn: &str) -> String {
    scalar(
        dsn,
        "SELECT string_agg(what, '; ') FROM (
           SELECT 'prepared transaction ' || gid FROM pg_prepared_xacts WHERE database = current_database()
           UNION ALL SELECT 'invalid index ' || indexrelid::regclass FROM pg_index WHERE NOT indisvalid
           UNION ALL SELECT 'temporary ' || oid::regclass FROM pg_class WHERE relpersistence = 't'
           UNION ALL SELECT 'open transaction of ' || application_name FROM pg_stat_activity
             WHERE datname = current_database() AND application_name LIKE 'shardlift/%' AND xact_start IS NOT NULL
           UNION ALL SELECT 'session of ' || application_name FROM pg_stat_activity
             WHERE datname = current_database() AND application_name LIKE 'shardlift/backfill%'
         ) AS l (what)",
    )
    .await
}

/// Transactions of Shardlift that are open in a shard at this moment.
pub(crate) async fn open_transactions(items: &Items) -> usize {
    match items.engine() {
        Engine::Postgres => {
            let open = "SELECT count(*)::text FROM pg_stat_activity WHERE datname = current_database()
                        AND application_name LIKE 'shardlift/backfill%' AND xact_start IS NOT NULL";
            scalar(&items.dsn, open).await.parse().unwrap()
        }
        Engine::Mongodb => open_in_mongodb(&items.dsn).await.len(),
    }
}

async fn left_in_mongodb(dsn: &str) -> String {
    open_in_mongodb(dsn).await.iter().map(Document::to_string).collect::<Vec<_>>().join("; ")
}

async fn open_in_mongodb(dsn: &str) -> Vec<Document> {
    let client = Client::with_uri_str(dsn).await.unwrap();
    let pipeline = [
        doc! { "$currentOp": { "allUsers": true, "idleSessions": true } },
        doc! { "$match": { "transaction": { "$exists": true }, "appName": "shardlift-worker" } },
        doc! { "$project": { "appName": 1, "transaction.timeOpenMicros": 1 } },
    ];
    let open = client.database("admin").aggregate(pipeline).await.unwrap();
    open.try_collect().await.unwrap()
}

/// I4 and I6: the ranges of a completed migration are done, disjoint and complete, and coordinator and shard tell the
/// same of them.
pub(crate) async fn assert_agreed(play: &Play, id: &str, shards: &[&Items]) {
    let status = play.status(id).await;
    assert_eq!((&status["status"], &status["phase"]), (&"completed".into(), &"verify".into()), "{status:#}");
    for items in shards {
        let told = status["shards"].as_array().into_iter().flatten();
        let told = told.clone().find(|shard| shard["shard"] == items.shard.as_str());
        let told = told.unwrap_or_else(|| panic!("no {} in {status:#}", items.shard));
        let there = checkpoints(items, id).await;
        assert!(!there.is_empty() && there.iter().all(|range| range.done), "{}: {there:#?}", items.shard);
        let first: Vec<_> = there.iter().filter(|range| range.pass == 1).collect();
        assert_chained(&items.shard, items.engine(), &first);
        let figures = |key: &str| told[key].as_u64().unwrap_or_default();
        let rows: u64 = there.iter().map(|range| range.rows).sum();
        let batches: u64 = there.iter().map(|range| range.batches).sum();
        assert_eq!((figures("rows_done"), figures("batches")), (rows, batches), "{told:#}\n{there:#?}");
        assert_eq!((&told["verified"], &told["error"]), (&Value::Bool(true), &Value::Null), "{told:#}");
    }
}

/// The ranges of a pass follow each other without gap or overlap. Their numbers are in no order: a range that was split
/// has its later part under a new number.
fn assert_chained(shard: &str, engine: Engine, ranges: &[&Checkpoint]) {
    let firsts: Vec<_> = ranges.iter().filter(|range| range.lower.is_none()).collect();
    assert!(!firsts.is_empty(), "{shard}: no first range in {ranges:#?}");
    // In MongoDB each type of key begins anew.
    assert!(engine == Engine::Mongodb || firsts.len() == 1, "{shard}: two first ranges in {ranges:#?}");
    let mut seen = 0;
    for first in firsts {
        let mut last = first;
        seen += 1;
        while let Some(next) = ranges.iter().find(|range| range.lower.is_some() && range.lower == last.upper)
        {
            last = next;
            seen += 1;
            assert!(seen <= ranges.len(), "{shard}: ranges lead in a circle in {ranges:#?}");
        }
    }
    assert_eq!(seen, ranges.len(), "{shard}: a gap or an overlap in {ranges:#?}");
}

//! The loop of batches over one connection against one unbounded `updateMany` (goal S5). Run by hand, on a quiet machine:
//! `SHARDLIFT_BENCH_DOCUMENTS=300000 cargo test -p shardlift-worker --test engines one_connection -- --ignored --nocapture`

use std::sync::Arc;
use std::time::{Duration, Instant};

use bson::{Document, doc};
use mongodb::options::WriteConcern;
use shardlift_domain::migration::Step;
use shardlift_harness::servers::{Mongod, MongodOptions};

use super::{Stage, job, lease};

const PIPELINE: &str = "  where: { migrated: { $ne: true } }\ntransform:\n  pipeline:\n    - $set: { body_text: $body.text, migrated: true, applied: { $add: [$applied, 1] } }\nverify: [remaining]";

/// Processor time of the server and of this process, in seconds: unlike elapsed time it is the same on a busy machine.
fn processor(stage: &Stage) -> (f64, f64) {
    let used = |pid: String| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
        let fields: Vec<&str> = stat.rsplit(") ").next().expect("fields").split(' ').collect();
        let ticks = |at: usize| fields[at].parse::<f64>().expect("ticks");
        (ticks(11) + ticks(12)) / 100.0
    };
    (used(stage.server.process().pid().to_string()), used("self".to_owned()))
}

async fn load(stage: &Stage, count: i32) {
    stage.documents().drop().await.expect("dropped");
    let own = stage.client.database("shardlift").collection::<Document>("checkpoint");
    own.delete_many(doc! {}).await.expect("no ranges");
    for start in (0..count).step_by(10_000) {
        let document = |number: i32| {
            doc! { "_id": number, "tenant": number % 97, "body": { "text": format!("hello world {number:08}") },
            "migrated": false, "applied": 0, "pad": "x".repeat(60) }
        };
        stage.documents().insert_many((start..start + 10_000).map(document)).await.expect("inserted");
    }
    let index = mongodb::IndexModel::builder().keys(doc! { "tenant": 1 }).build();
    stage.documents().create_index(index).await.expect("an index");
    stage.server.admin(doc! { "fsync": 1 }).await.expect("a checkpoint of the storage");
}

async fn raw(stage: &Stage) -> Duration {
    let started = Instant::now();
    let set = doc! { "$set": { "body_text": "$body.text", "migrated": true, "applied": { "$add": ["$applied", 1] } } };
    let documents = stage.documents();
    let updated = documents.update_many(doc! { "migrated": { "$ne": true } }, vec![set]);
    updated.write_concern(WriteConcern::majority()).await.expect("updated");
    started.elapsed()
}

async fn batches(stage: &Stage, rows: u32) -> Duration {
    let job = job(PIPELINE);
    let started = Instant::now();
    stage.split(&job, 1).await;
    let lease = lease(1, 1, Step::Backfill, Some(0));
    let mut writer = stage.writer(&job, 0, 1).await;
    while !writer.state().done {
        writer.run_batch(&lease, rows).await.expect("a batch");
    }
    started.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement, not a test"]
#[allow(clippy::disallowed_methods, reason = "a measurement is sized by its caller")]
async fn one_connection_against_one_unbounded_update_many() {
    let count =
        std::env::var("SHARDLIFT_BENCH_DOCUMENTS").ok().and_then(|text| text.parse().ok()).unwrap_or(100_000);
    let server = Mongod::start_with(MongodOptions::default().cache_gb(1.0)).await.expect("a mongod");
    let stage = Stage::on(Box::new(Arc::new(server))).await;
    for rows in [2_500, 5_000, 10_000] {
        let mut ratios = Vec::new();
        for _ in 0..3 {
            load(&stage, count).await;
            let before = processor(&stage);
            let raw = raw(&stage).await;
            let after = processor(&stage);
            eprintln!(
                "  processor: updateMany server {:.2} worker {:.2}",
                after.0 - before.0,
                after.1 - before.1
            );
            load(&stage, count).await;
            let before = processor(&stage);
            let batches = batches(&stage, rows).await;
            let after = processor(&stage);
            eprintln!(
                "  processor: batches server {:.2} worker {:.2}",
                after.0 - before.0,
                after.1 - before.1
            );
            ratios.push(raw.as_secs_f64() / batches.as_secs_f64());
            eprintln!(
                "{rows} rows a batch: updateMany {raw:?}, batches {batches:?}, ratio {:.2}",
                ratios[ratios.len() - 1]
            );
        }
        ratios.sort_by(f64::total_cmp);
        eprintln!("{rows} rows a batch: median ratio {:.2}", ratios[1]);
    }
}

//! What only MongoDB can do wrong, on a real replica set of one member: keys of every type, lost replies, elections,
//! transactions that live too long, documents whose fields must keep their types.

mod anew;
mod bench;
mod documents;
mod faults;
pub(crate) mod items;
mod keys;
mod library;
mod schema;
mod servers;
mod tenants;

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use bson::{Document, doc};
use futures::TryStreamExt;
use mongodb::{Client, Collection};
use shardlift_domain::fence::{Attempt, Epoch, Fence, Nonce, Token};
use shardlift_domain::ids::{ClusterName, MigrationId, MigrationKey, ShardId, TaskId, Version};
use shardlift_domain::migration::Step;
use shardlift_domain::range::Pass;
use shardlift_domain::spec::{SpecBody, SpecFile, parse};
use shardlift_domain::verdict::Sweep;
use shardlift_harness::servers::{Mongod, exclusive_mongod};
use shardlift_worker::engine::mongodb::MongodbEngine;
use shardlift_worker::engine::{DataJob, EngineError, Job, RangeWriter, SchemaJob, ShardEngine};
use shardlift_worker::lease::{Pulse, TaskLease};
use shardlift_worker::transformer::factory;

use super::bench::{CLUSTER_UUID, SHARD};

super::all_cases!(items::MongodbBench::start);

/// A server of one's own, an engine that has identified its shard, and a client beside it.
struct Stage {
    server: Box<dyn Deref<Target = Mongod> + Send + Sync>,
    engine: MongodbEngine,
    client: Client,
}

impl Stage {
    async fn set() -> Self {
        Self::on(Box::new(exclusive_mongod().await.expect("a mongod"))).await
    }

    async fn on(server: Box<dyn Deref<Target = Mongod> + Send + Sync>) -> Self {
        let engine = engine(&server.dsn("chat"));
        engine.identify(CLUSTER_UUID).await.expect("it is the shard");
        let client = Client::with_uri_str(server.dsn("chat")).await.expect("a client");
        Self { server, engine, client }
    }

    fn documents(&self) -> Collection<Document> {
        self.client.database("chat").collection("messages")
    }

    async fn load(&self, documents: impl IntoIterator<Item = Document>) {
        self.documents().insert_many(documents).await.expect("documents are inserted");
    }

    /// All documents of the collection, in the order of their keys.
    async fn all(&self) -> Vec<Document> {
        let found = self.documents().find(doc! {}).sort(doc! { "_id": 1 }).await.expect("a cursor");
        found.try_collect().await.expect("documents")
    }

    /// How many documents were transformed exactly once.
    async fn once(&self) -> u64 {
        self.documents().count_documents(doc! { "applied": 1 }).await.expect("a count")
    }

    async fn writer(&self, job: &Arc<DataJob>, range: u32, attempt: u32) -> Box<dyn RangeWriter> {
        self.engine
            .open_range(&lease(1, attempt, Step::Backfill, Some(range)), Arc::clone(job))
            .await
            .expect("a claim")
    }

    async fn split(&self, job: &DataJob, ranges: u32) -> Pass {
        self.engine.split(&lease(1, 1, Step::Split, None), job, ranges).await.expect("ranges")
    }

    /// Walks every range of a pass to its end.
    async fn walk(&self, job: &Arc<DataJob>, pass: &Pass, rows: u32) {
        for range in &pass.ranges {
            if range.done {
                continue;
            }
            let lease = lease(1, 1, Step::Backfill, Some(range.index));
            let mut writer = self.writer(job, range.index, 1).await;
            while !writer.state().done {
                let report = writer.run_batch(&lease, rows).await.expect("a batch");
                assert!(report.window <= rows.max(1), "{report:?}");
            }
        }
    }

    /// Splits off whatever can be before each batch, so that keys of every kind are cut; answers how often.
    async fn walk_sharing(&self, job: &Arc<DataJob>, pass: &Pass, rows: u32) -> u32 {
        let mut open: Vec<u32> = pass.ranges.iter().map(|range| range.index).collect();
        let mut splits = 0;
        while let Some(index) = open.pop() {
            let lease = lease(1, 1, Step::Backfill, Some(index));
            let mut writer = self.writer(job, index, 1).await;
            while !writer.state().done {
                if let Some(rest) = writer.share(&lease, 1).await.expect("a split") {
                    open.push(rest.range.index);
                    splits += 1;
                }
                writer.run_batch(&lease, rows).await.expect("a batch");
            }
        }
        splits
    }

    async fn sweep(&self, job: &DataJob) -> Sweep {
        self.engine.sweep(&lease(1, 1, Step::Sweep, None), job).await.expect("a sweep")
    }

    /// From the first range to a verified end.
    async fn run(&self, job: &Arc<DataJob>, ranges: u32, rows: u32) {
        let mut pass = self.split(job, ranges).await;
        self.walk(job, &pass, rows).await;
        while job.data.source.pending.is_some() {
            match self.sweep(job).await {
                Sweep::Clean => break,
                Sweep::Found { pass: next, .. } => pass = next,
            }
            self.walk(job, &pass, rows).await;
        }
        let report =
            self.engine.verify(&lease(1, 1, Step::Verify, None), &data(job)).await.expect("a report");
        assert!(report.passed(), "{report:?}");
    }
}

fn engine(dsn: &str) -> MongodbEngine {
    let (shard, cluster) =
        (ShardId::new(SHARD).expect("a name"), ClusterName::new("chat-docs").expect("a name"));
    MongodbEngine::new(shard, cluster, dsn).expect("a dsn")
}

fn lease(epoch: u64, attempt: u32, step: Step, range: Option<u32>) -> TaskLease {
    let leader = Fence { epoch: Epoch(epoch), nonce: Nonce(format!("nonce-{epoch}")) };
    let migration = MigrationKey { id: MigrationId::new("m").expect("a name"), version: Version::FIRST };
    let task = TaskId { migration, shard: ShardId::new(SHARD).expect("a name"), step, range };
    let token = Token { epoch: Epoch(epoch), attempt: Attempt(attempt) };
    Pulse::begin(leader, Duration::from_secs(3600)).grant(task, token)
}

/// A data spec over `messages`; `rest` is everything from `source.where` on, indented by two.
fn job(rest: &str) -> Arc<DataJob> {
    spec_of("m", "messages", rest)
}

/// A data spec over any collection.
fn spec_of(id: &str, collection: &str, rest: &str) -> Arc<DataJob> {
    let text = format!(
        "id: {id}\nkind: data\nengine: mongodb\ncluster: chat-docs\nsource:\n  collection: {collection}\n{rest}\non_error: fail\n"
    );
    let spec = parse(&SpecFile { name: "m.yaml".into(), text }).expect("a valid spec");
    let SpecBody::Data(data) = &spec.body else { panic!("a data spec") };
    let data = data.as_ref().clone();
    let transformer = factory::build(&data.transform).expect("a transformer");
    Arc::new(DataJob { spec, data, transformer })
}

/// Adds 1 to `applied` and sets the marker that `where` asks for.
fn marked() -> Arc<DataJob> {
    job(
        "  where: { migrated: { $ne: true } }\ntransform:\n  pipeline:\n    - $set: { migrated: true, applied: { $add: [{ $ifNull: [$applied, 0] }, 1] } }\nverify: [remaining]",
    )
}

/// Adds 1 to `applied`, without `where`.
fn unmarked() -> Arc<DataJob> {
    job(
        "transform:\n  pipeline:\n    - $set: { applied: { $add: [{ $ifNull: [$applied, 0] }, 1] } }\nverify: [count]",
    )
}

/// The same change by a program in the worker.
fn programmed() -> Arc<DataJob> {
    job(
        "  where: { migrated: { $ne: true } }\ntransform:\n  vrl: |\n    .migrated = true\n    .applied = (int(.applied) ?? 0) + 1\nverify: [remaining]",
    )
}

fn data(job: &Arc<DataJob>) -> Job {
    Job::Data(DataJob {
        spec: job.spec.clone(),
        data: job.data.clone(),
        transformer: job.transformer.clone(),
    })
}

fn schema_job(up: &str) -> SchemaJob {
    let text = format!("id: m\nkind: schema\nengine: mongodb\ncluster: chat-docs\nup:\n{up}\ndown: []\n");
    let spec = parse(&SpecFile { name: "m.yaml".into(), text }).expect("a valid spec");
    let SpecBody::Schema(schema) = spec.body.clone() else { panic!("a schema spec") };
    SchemaJob { spec, schema }
}

fn numbered(count: i32) -> impl Iterator<Item = Document> {
    (0..count).map(|number| doc! { "_id": number, "text": format!("message {number}") })
}

/// The failure inside an error that is about a document.
fn row(error: EngineError) -> shardlift_domain::Failure {
    match error {
        EngineError::Row(failure) => failure,
        other => panic!("expected an error of a document, got {other:?}"),
    }
}

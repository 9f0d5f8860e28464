//! The example library over the whole data set: every document as it must be, by the data set's own check.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use shardlift_domain::fence::{Attempt, Epoch, Fence, Nonce, Token};
use shardlift_domain::ids::{MigrationKey, ShardId, TaskId, Version};
use shardlift_domain::migration::Step;
use shardlift_domain::spec::{Spec, SpecBody, SpecFile, parse};
use shardlift_domain::verdict::Sweep;
use shardlift_harness::dataset::{DatasetSize, check_mongodb, load_mongodb};
use shardlift_worker::engine::{DataJob, EngineError, Job, SchemaJob, ShardEngine};
use shardlift_worker::lease::{Pulse, TaskLease};
use shardlift_worker::transformer::factory;

use super::super::bench::SHARD;
use super::Stage;

/// The specs of the library for this engine, in the order of their numbers.
fn library() -> Vec<Spec> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations");
    let mut files = Vec::new();
    for kind in ["schema", "data"] {
        for entry in std::fs::read_dir(root.join(kind).join("mongodb")).expect("the library") {
            files.push(entry.expect("a file").path());
        }
    }
    files.sort_by_key(|path| path.file_name().map(ToOwned::to_owned));
    let read = |path: &std::path::PathBuf| {
        let text = std::fs::read_to_string(path).expect("a spec file");
        parse(&SpecFile { name: path.display().to_string(), text }).expect("a valid spec")
    };
    files.iter().map(read).collect()
}

fn lease(spec: &Spec, step: Step, range: Option<u32>) -> TaskLease {
    let leader = Fence { epoch: Epoch(1), nonce: Nonce("n".into()) };
    let migration = MigrationKey { id: spec.id.clone(), version: Version::FIRST };
    let task = TaskId { migration, shard: ShardId::new(SHARD).expect("a name"), step, range };
    let token = Token { epoch: Epoch(1), attempt: Attempt(1) };
    Pulse::begin(leader, Duration::from_secs(3600)).grant(task, token)
}

async fn run(stage: &Stage, spec: Spec) {
    let engine = &stage.engine;
    let job = match spec.body.clone() {
        SpecBody::Schema(schema) => Job::Schema(SchemaJob { spec: spec.clone(), schema }),
        SpecBody::Data(data) => {
            let transformer = factory::build(&data.transform).expect("a transformer");
            Job::Data(DataJob { spec: spec.clone(), data: *data, transformer })
        }
    };
    let failed = |error: EngineError| -> ! { panic!("{}: {error:?}", spec.id) };
    engine.precheck(&lease(&spec, Step::Precheck, None), &job).await.unwrap_or_else(|error| failed(error));
    match &job {
        Job::Schema(job) => {
            engine.apply(&lease(&spec, Step::Apply, None), job).await.unwrap_or_else(|error| failed(error));
        }
        Job::Data(job) => backfill(stage, &spec, job).await,
    }
    let report = engine.verify(&lease(&spec, Step::Verify, None), &job).await;
    let report = report.unwrap_or_else(|error| failed(error));
    assert!(report.passed(), "{}: {report:?}", spec.id);
}

async fn backfill(stage: &Stage, spec: &Spec, job: &DataJob) {
    let shared = Arc::new(DataJob {
        spec: spec.clone(),
        data: job.data.clone(),
        transformer: job.transformer.clone(),
    });
    let mut pass = stage.engine.split(&lease(spec, Step::Split, None), job, 3).await.expect("ranges");
    loop {
        for range in pass.ranges.iter().filter(|range| !range.done) {
            let lease = lease(spec, Step::Backfill, Some(range.index));
            let mut writer = stage.engine.open_range(&lease, Arc::clone(&shared)).await.expect("a claim");
            while !writer.state().done {
                let batch = writer.run_batch(&lease, 500).await;
                batch.unwrap_or_else(|error| panic!("{}: {error:?}", spec.id));
            }
        }
        if job.data.source.pending.is_none() {
            return;
        }
        match stage.engine.sweep(&lease(spec, Step::Sweep, None), job).await.expect("a sweep") {
            Sweep::Clean => return,
            Sweep::Found { pass: next, .. } => pass = next,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_library_leaves_every_document_as_it_must_be() {
    let stage = Stage::set().await;
    let size = DatasetSize { postgres_rows: 0, mongodb_documents: 4_000 };
    load_mongodb(&stage.server.dsn("chat"), 0, 1, &size).await.expect("the data set");
    for spec in library() {
        run(&stage, spec).await;
    }
    let violations = check_mongodb(&stage.server.dsn("chat")).await.expect("a check");
    assert_eq!(violations, Vec::<String>::new());
}

//! What can be found out about a run: its trace over three processes, its metrics, and that neither is ever in the way.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};

use shardlift_harness::dataset::items::KeyKind;
use shardlift_harness::installation::{InstallationBuilder, WorkerSpec};
use shardlift_harness::ports::Port;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::stage::{
    Collector, Delivered, Engine, Form, Items, ItemsSpec, OTLP_ENDPOINT, Play, Specs, assert_exactly_once,
};

const ID: &str = "0001_items";
const ROWS: u64 = 2_000;

/// Titles of spans: the program, and the name.
const CLIENT_SUBMIT: &str = "shardlift submit";
const SUBMIT: &str = "shardlift-coordinator submit";
const VERIFY: &str = "shardlift-coordinator verify";
const BATCH: &str = "shardlift-worker batch";

fn spec() -> ItemsSpec {
    ItemsSpec::new(ID, Engine::Postgres, Form::WithWhere)
}

/// A coordinator and one worker that deliver to this endpoint.
fn delivering(items: &Items, endpoint: &str) -> InstallationBuilder {
    let worker = WorkerSpec::new("worker-1", &[&items.shard]).env(OTLP_ENDPOINT, endpoint);
    Play::builder(&[items]).coordinator_env(OTLP_ENDPOINT, endpoint).worker(worker)
}

async fn apply(play: &Play, spec: &ItemsSpec, endpoint: &str) {
    let specs = Specs::of(&[spec.text()]);
    let args = ["apply", specs.as_str(), "--yes", "--no-watch"];
    let output = play.installation.cli_with(&args, &[(OTLP_ENDPOINT, endpoint)]).await.unwrap();
    assert_eq!(output.code, Some(0), "{output:#?}\n{}", play.installation.log_tails(20));
}

/// Spans by their ids.
struct Trace(BTreeMap<Vec<u8>, Delivered>);

impl Trace {
    fn of(spans: Vec<Delivered>) -> Self {
        Self(spans.into_iter().map(|span| (span.span.span_id.clone(), span)).collect())
    }

    fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Delivered> {
        self.0.values().filter(move |span| span.span.name == name)
    }

    fn has(&self, title: &str) -> bool {
        self.0.values().any(|span| span.title() == title)
    }

    /// The titles from a span up to its root, by the links to parents alone.
    fn way_up(&self, from: &Delivered) -> Vec<String> {
        let mut way = vec![from.title()];
        let mut parent = &from.span.parent_span_id;
        while !parent.is_empty() {
            let above = self.0.get(parent).unwrap_or_else(|| panic!("{way:?} ends at an unknown parent"));
            assert_eq!(above.span.trace_id, from.span.trace_id, "{way:?} leaves its trace");
            assert!(above.span.start_time_unix_nano <= from.span.start_time_unix_nano, "{way:?}");
            way.push(above.title());
            parent = &above.span.parent_span_id;
        }
        way
    }

    fn ids(&self) -> BTreeSet<&[u8]> {
        self.0.values().map(|span| span.span.trace_id.as_slice()).collect()
    }
}

/// Waits until spans of these titles have arrived, and gives all that have.
async fn arrived(play: &Play, collector: &Collector, wanted: &[&str]) -> Trace {
    play.until(&format!("the spans {wanted:?} to arrive"), async || {
        let trace = Trace::of(collector.spans());
        let missing: Vec<_> = wanted.iter().filter(|title| !trace.has(title)).collect();
        anyhow::ensure!(missing.is_empty(), "{missing:?} of {} spans", trace.0.len());
        Ok(trace)
    })
    .await
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_migration_is_one_trace_from_submit_to_batch_over_three_processes() {
    let items = Items::postgres("pg-01", ROWS, KeyKind::Bigint).await;
    let collector = Collector::start().await;
    let json = "SHARDLIFT__TELEMETRY__LOG";
    let play = Play::of(delivering(&items, collector.endpoint()).coordinator_env(json, "json")).await;
    apply(&play, &spec(), collector.endpoint()).await;
    play.completed(ID).await;
    play.installation.worker(0).stop().await.unwrap();
    let trace = arrived(&play, &collector, &[VERIFY, SUBMIT, BATCH]).await;

    assert_eq!(trace.ids().len(), 1, "one submit, one trace: {:?}", trace.ids());
    let above = [SUBMIT, CLIENT_SUBMIT];
    for name in ["precheck", "data", "verify"] {
        for phase in trace.named(name) {
            assert_eq!(trace.way_up(phase)[1..], above, "{phase:#?}");
            assert_eq!(phase.attribute("migration"), format!("{ID}@1"));
        }
    }
    for batch in trace.named("batch") {
        let way = [BATCH, "shardlift-worker task", "shardlift-coordinator data"];
        assert_eq!(trace.way_up(batch), [&way[..], &above[..]].concat());
    }
    let changed: u64 =
        trace.named("batch").map(|batch| batch.attribute("changed").parse::<u64>().unwrap()).sum();
    assert_eq!(changed, ROWS, "every batch of a small run has a span");
    let steps: BTreeSet<String> = trace.named("task").map(|task| task.attribute("step")).collect();
    assert_eq!(steps, ["precheck", "split", "backfill", "sweep", "verify"].map(str::to_owned).into());
    assert!(trace.named("task").all(|task| task.attribute("outcome") == "finished"));

    let id = hex(trace.ids().first().unwrap());
    let log = std::fs::read_to_string(play.installation.coordinator().process().log()).unwrap();
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told = lines.iter().filter(|line| line["trace_id"] == id.as_str());
    assert!(told.count() >= 4, "submitted, three phases, completed:\n{log}");
    assert_exactly_once(&items, Form::WithWhere, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_goes_on_under_the_next_leader() {
    let items = Items::postgres("pg-01", ROWS, KeyKind::Bigint).await;
    let collector = Collector::start().await;
    let play = Play::of(delivering(&items, collector.endpoint())).await;
    apply(&play, &spec().rows_per_second(800), collector.endpoint()).await;
    play.until_rows(ID, 200).await;
    // What a process that is killed has not delivered yet is lost: up to a second of it.
    arrived(&play, &collector, &[SUBMIT, CLIENT_SUBMIT]).await;
    play.installation.coordinator().restart().await.unwrap();
    play.completed(ID).await;
    play.installation.worker(0).stop().await.unwrap();
    let trace = arrived(&play, &collector, &[VERIFY]).await;
    assert_eq!(trace.ids().len(), 1, "the same trace before and after: {:?}", trace.ids());
    let verify = trace.named("verify").next().unwrap();
    assert_eq!(verify.attribute("epoch"), "2");
    assert_eq!(trace.way_up(verify), [VERIFY, SUBMIT, CLIENT_SUBMIT]);
    let data = trace.named("data").find(|data| data.attribute("epoch") == "2");
    assert!(data.is_some(), "the next leader has a phase of its own");
    assert_exactly_once(&items, Form::WithWhere, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_endpoint_neither_slows_nor_fails_a_migration() {
    // One that takes connections and never answers, and one that refuses them.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let refused = Port::reserve().unwrap();
    for address in [silent.local_addr().unwrap(), refused.address()] {
        let endpoint = format!("http://{address}");
        let items = Items::postgres("pg-01", ROWS, KeyKind::Bigint).await;
        let play = Play::of(delivering(&items, &endpoint)).await;
        let begun = Instant::now();
        apply(&play, &spec(), &endpoint).await;
        assert!(begun.elapsed() < Duration::from_secs(20), "the command line took {:?}", begun.elapsed());
        play.completed(ID).await;
        let complaint = "spans cannot be delivered";
        let worker = play.installation.worker(0);
        let log = worker.process().log();
        let told = play.until("the worker to tell of it", async || {
            let lines = std::fs::read_to_string(log)?;
            anyhow::ensure!(lines.contains(complaint), "{lines}");
            Ok(lines)
        });
        assert_eq!(told.await.matches(complaint).count(), 1, "it is told once, not per delivery");
        let begun = Instant::now();
        play.installation.worker(0).stop().await.unwrap();
        play.installation.coordinator().stop().await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(20), "the end took {:?}", begun.elapsed());
        assert_exactly_once(&items, Form::WithWhere, None).await;
    }
}

/// What `/metrics` shows, by name and labels.
async fn metrics(address: SocketAddr) -> anyhow::Result<BTreeMap<String, f64>> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: door\r\nconnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    anyhow::ensure!(head.starts_with("HTTP/1.1 200") && head.contains("openmetrics-text"), "{head}");
    anyhow::ensure!(body.trim_end().ends_with("# EOF"), "cut off: {body}");
    let samples = body.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ').unwrap();
        (name.to_owned(), value.parse().unwrap_or_else(|_| panic!("no number: {line}")))
    };
    Ok(samples.filter(|line| line.contains(' ')).map(sample).collect())
}

/// The names that the page tells of a program; of a histogram the count.
fn documented(prefix: &str) -> Vec<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operations/metrics.md");
    let page = std::fs::read_to_string(page).unwrap();
    let row = |line: &str| {
        let mut cells = line.strip_prefix("| `")?.split('|').map(str::trim);
        let name = cells.next()?.strip_suffix('`')?.to_owned();
        let histogram = cells.next()? == "histogram";
        name.starts_with(prefix).then(|| if histogram { name + "_count" } else { name })
    };
    page.lines().filter_map(row).collect()
}

fn sum(samples: &BTreeMap<String, f64>, name: &str) -> f64 {
    let of = |full: &&String| full.split('{').next() == Some(name);
    samples.iter().filter(|(full, _)| of(full)).map(|(_, value)| value).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metrics_of_both_programs_are_as_documented_and_count_what_was_done() {
    let items = Items::postgres("pg-01", ROWS, KeyKind::Bigint).await;
    let port = Port::reserve().unwrap();
    let listen = port.address().to_string();
    let worker = WorkerSpec::new("worker-1", &[&items.shard]).env("SHARDLIFT__METRICS_LISTEN", &listen);
    let play = Play::of(Play::builder(&[&items]).worker(worker)).await;
    play.apply(&[spec().text()]).await;
    let status = play.completed(ID).await;

    let worker = metrics(port.address()).await.unwrap();
    assert_eq!(sum(&worker, "shardlift_worker_rows_changed_total"), ROWS as f64, "{worker:#?}");
    let batches = status["shards"][0]["batches"].as_f64().unwrap();
    assert!(batches > 0.0, "{status:#}");
    // The batch that finds the end of a range is no batch of its checkpoint.
    assert!(sum(&worker, "shardlift_worker_batches_total") >= batches, "{batches}: {worker:#?}");
    assert_eq!(worker["shardlift_worker_shard_reachable{shard=\"pg-01\"}"], 1.0);
    assert_eq!(worker["shardlift_worker_connected"], 1.0);
    assert_eq!(sum(&worker, "shardlift_worker_open_tasks"), 0.0);
    let done = "shardlift_worker_tasks_total{step=\"verify\",outcome=\"finished\"}";
    assert_eq!(worker[done], 1.0, "{worker:#?}");

    let address = play.installation.metrics_url();
    let address = address.trim_start_matches("http://").trim_end_matches("/metrics").parse().unwrap();
    let coordinator = play
        .until("the coordinator to show the end", async || {
            let samples = metrics(address).await?;
            let completed = samples["shardlift_coordinator_migrations{status=\"completed\"}"];
            anyhow::ensure!(completed == 1.0, "{samples:#?}");
            Ok(samples)
        })
        .await;
    assert_eq!(coordinator["shardlift_coordinator_is_leader"], 1.0);
    assert_eq!(coordinator["shardlift_coordinator_epoch"], 1.0);
    assert_eq!(coordinator["shardlift_coordinator_sessions"], 1.0);
    assert_eq!(sum(&coordinator, "shardlift_coordinator_fenced_total"), 0.0);
    assert!(coordinator["shardlift_coordinator_hand_out_latency_seconds_count"] >= 8.0);
    assert!(coordinator["shardlift_coordinator_store_commit_duration_seconds_count"] >= 5.0);

    for (samples, own) in [(&worker, "shardlift_worker_"), (&coordinator, "shardlift_coordinator_")] {
        for name in [documented(own), documented("process_")].concat() {
            // The one family whose series begin with the first error.
            let quiet = name == "shardlift_worker_batch_errors_total";
            let shown = samples.keys().any(|full| full.split('{').next() == Some(name.as_str()));
            assert!(shown || quiet, "{name} is documented and not shown");
        }
    }
}

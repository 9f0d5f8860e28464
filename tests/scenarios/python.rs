//! Strangers who come with Python: stock gRPC made from our protos, and a tester that knows the OpenAPI document alone.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use shardlift_harness::process::{Launch, Process};
use shardlift_harness::programs;
use shardlift_harness::sandbox::Sandbox;

use crate::stage::{Engine, Form, Http, Items, ItemsSpec, Play, Specs, curtain};

const ID: &str = "0001_items";
/// How long the tester asks, in seconds; it may finish what it has begun.
const ASKS: u64 = 40;

/// Half of what the tester asks for is there: by chance it would hardly find it. It leaves nothing behind.
const THERE: &str = r#"
[cache]
enabled = false

[dictionaries]
ids = { values = ["0001_items"] }
clusters = { values = ["items"] }
shards = { values = ["pg-01"] }
relations = { values = ["items"] }
columns = { values = ["id"] }

[parameters]
"path.id" = { dictionary = "ids", probability = 0.5 }
"query.cluster" = { dictionary = "clusters", probability = 0.5 }
"query.relation" = { dictionary = "relations", probability = 0.5 }
"query.column" = { dictionary = "columns", probability = 0.5 }
"query.shard" = { dictionary = "shards", probability = 0.5 }
"#;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Runs Python in a sandbox to its end, which must be a success; gives what it printed.
async fn python(
    sandbox: &Sandbox,
    name: &str,
    within: Duration,
    args: &[&str],
    env: &[(&str, &str)],
) -> String {
    let launch = Launch::new(name, programs::python().unwrap());
    let launch = args.iter().fold(launch, |launch, arg| launch.arg(arg));
    let launch = env.iter().fold(launch, |launch, (key, value)| launch.env(*key, *value));
    let process = Process::spawn(sandbox, launch).unwrap();
    let ended = process.wait_exit(within).await;
    let log = process.log_text();
    let status = ended.unwrap_or_else(|error| panic!("{name}: {error:#}\n{log}"));
    assert!(status.success(), "{name}: {status}\n{log}");
    log
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_with_stock_grpc_submits_a_migration_and_watches_it_to_its_end() {
    let items = Items::of(Engine::Postgres, 3_000).await;
    let play = Play::start(&[&items]).await;
    let sandbox = Sandbox::new("python").unwrap();
    let stubs = sandbox.path().join("stubs");
    std::fs::create_dir(&stubs).unwrap();
    let (proto, out) = (root().join("proto"), stubs.to_str().unwrap());
    let include = format!("-I{}", proto.display());
    let (python_out, grpc_out) = (format!("--python_out={out}"), format!("--grpc_python_out={out}"));
    let protos: Vec<String> = std::fs::read_dir(proto.join("shardlift/v1"))
        .unwrap()
        .map(|entry| entry.unwrap().path().display().to_string())
        .collect();
    let mut args = vec!["-m", "grpc_tools.protoc", &include, &python_out, &grpc_out];
    args.extend(protos.iter().map(String::as_str));
    python(&sandbox, "protoc", Duration::from_secs(60), &args, &[]).await;

    let text = ItemsSpec::new(ID, Engine::Postgres, Form::WithWhere).rows_per_second(1_500).text();
    let specs = Specs::of(&[text]);
    let (address, file) = (play.installation.address().to_string(), format!("{}/000.yaml", specs.as_str()));
    let example = root().join("docs/examples/python/migrate.py").display().to_string();
    let args = [example.as_str(), &address, &file];
    let told = python(&sandbox, "migrate", Duration::from_secs(120), &args, &[("PYTHONPATH", out)]).await;
    assert!(told.contains(&format!("{ID}: running")) && told.contains(&format!("{ID}: completed")), "{told}");
    let again =
        python(&sandbox, "migrate-again", Duration::from_secs(60), &args, &[("PYTHONPATH", out)]).await;
    assert!(again.contains(&format!("{ID}: completed")), "{again}");
    curtain(&play, ID, &items, Form::WithWhere, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_tester_makes_of_the_document_is_answered_as_it_says_and_without_a_server_error() {
    let items = Items::of(Engine::Postgres, 500).await;
    // It asks as fast as it can, which one caller may not.
    let builder =
        Play::builder(&[&items]).rest().coordinator_env("SHARDLIFT__REST__REQUESTS_PER_SECOND", "0");
    let play = Play::of(builder).await;
    let address = play.installation.coordinators()[0].rest_address().unwrap();
    play.apply(&[ItemsSpec::new(ID, Engine::Postgres, Form::WithWhere).text()]).await;
    play.completed(ID).await;
    let (http, sandbox) = (Http::of(address).await, Sandbox::new("tester").unwrap());
    let config = sandbox.path().join("tester.toml");
    std::fs::write(&config, THERE).unwrap();
    let config = config.display().to_string();
    let document = format!("http://{address}/api/v1/openapi.json");
    let (seconds, reports) = (ASKS.to_string(), sandbox.path().join("reports").display().to_string());
    let args = [
        "-m",
        "schemathesis.cli",
        "--config-file",
        &config,
        "run",
        &document,
        "--no-color",
        "--seed=7",
        "--generation-database=none",
        "--phases=examples,coverage,fuzzing",
        "--checks=not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
        "--request-timeout=70",
        "--no-shrink",
        "--report-dir",
        &reports,
        "--max-time",
        &seconds,
    ];
    let told = python(&sandbox, "tester", Duration::from_secs(ASKS + 50), &args, &[]).await;
    // What fails ends it with another code; this is for a run that has asked for next to nothing.
    let asked = told.lines().find_map(|line| line.trim().split_once(" generated, ")?.0.parse().ok());
    assert!(asked.is_some_and(|cases: u32| cases > 300), "{told}");
    let operations = http.get("/api/v1/openapi.json").await.body["paths"]
        .as_object()
        .unwrap()
        .values()
        .map(|methods| methods.as_object().unwrap().len())
        .sum::<usize>();
    let tested = told.lines().find_map(|line| line.trim().strip_prefix("Tested: ")?.parse().ok());
    // The document is read once, to begin with, and not asked for again.
    assert!(tested.is_some_and(|tested: usize| tested + 1 >= operations), "{operations}: {told}");
    assert_eq!(http.get(&format!("/api/v1/migrations/{ID}")).await.ok(200)["status"], json!("completed"));
}

//! The files of `deploy/local/` are what an operator copies: the real programs must take them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use shardlift_harness::dataset::items::{IdKind, KeyKind};
use shardlift_harness::ports::Port;
use shardlift_harness::process::{Launch, Process};
use shardlift_harness::programs;
use shardlift_harness::sandbox::Sandbox;
use shardlift_harness::wait::wait_for_ok;
use tokio::process::Command;

use crate::stage::{DEADLINE, Engine, Form, Items, ItemsSpec, MONGODB, POSTGRES, Specs, assert_exactly_once};

fn template(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/local").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A copy of the template in the sandbox, with only the addresses changed.
fn copy(sandbox: &Sandbox, name: &str, changes: &[(&str, &str)]) -> PathBuf {
    let text = changes.iter().fold(template(name), |text, (from, to)| {
        assert!(text.contains(from), "deploy/local/{name} does not say {from}");
        text.replace(from, to)
    });
    let path = sandbox.path().join(name);
    std::fs::write(&path, text).unwrap();
    path
}

async fn shardlift(coordinator: &str, args: &[&str]) -> std::process::Output {
    let mut command = Command::new(programs::product("shardlift").unwrap());
    let running = command.args(args).env("SHARDLIFT_COORDINATOR", coordinator).kill_on_drop(true).output();
    tokio::time::timeout(Duration::from_secs(120), running).await.expect("shardlift to end").unwrap()
}

/// The worker's file, which names a file with a connection string for each shard.
fn copy_of_worker(sandbox: &Sandbox, address: &str, shards: &[Items]) -> PathBuf {
    let secret = |items: &Items| {
        let secret = sandbox.path().join(format!("{}.dsn", items.shard));
        std::fs::write(&secret, format!("{}\n", items.dsn)).unwrap();
        (format!("\"{}.dsn\"", items.shard), format!("{:?}", secret.display().to_string()))
    };
    let files: Vec<(String, String)> = shards.iter().map(secret).collect();
    let mut changes = vec![("127.0.0.1:7400", address)];
    changes.extend(files.iter().map(|(from, to)| (from.as_str(), to.as_str())));
    copy(sandbox, "worker.toml", &changes)
}

fn spec(engine: Engine, id: &str, cluster: &str, deployed: &str) -> String {
    let text = ItemsSpec::new(id, engine, Form::WithWhere).text();
    text.replace(&format!("cluster: {cluster}\n"), &format!("cluster: {deployed}\n"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_is_applied_with_the_configuration_files_of_deploy_local() {
    let shards = [
        Items::postgres("chat-pg-01", 500, KeyKind::Bigint).await,
        Items::postgres("chat-pg-02", 500, KeyKind::Bigint).await,
        Items::mongodb("chat-mg-01", 500, IdKind::ObjectId).await,
    ];
    let sandbox = Sandbox::new("deploy").unwrap();
    let ports = [(); 3].map(|()| Port::reserve().unwrap());
    let [address, metrics, rest] = ports.each_ref().map(|port| port.address().to_string());
    let store = format!("path = {:?}", sandbox.path().join("coordinator.db").display().to_string());
    let addresses = [
        ("127.0.0.1:7400", &*address),
        ("127.0.0.1:7401", &*metrics),
        ("127.0.0.1:7410", &*rest),
        ("path = \"coordinator.db\"", &*store),
    ];
    let coordinator = copy(&sandbox, "coordinator.toml", &addresses);
    let worker = copy_of_worker(&sandbox, &address, &shards);
    let run = |name: &str, program: &str, config: &Path| {
        let launch = Launch::new(name, programs::product(program).unwrap()).arg("--config").arg(config);
        Process::spawn(&sandbox, launch).unwrap()
    };
    let coordinator = run("coordinator", "shardlift-coordinator", &coordinator);
    let worker = run("worker", "shardlift-worker", &worker);
    let logs = || format!("{}\n{}", coordinator.log_tail(20), worker.log_tail(20));

    let url = format!("http://{address}");
    let reachable = wait_for_ok("all shards to be reachable", DEADLINE, async || {
        let output = shardlift(&url, &["shards", "--output", "json"]).await;
        let shards: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        let reachable = shards["shards"].as_array().into_iter().flatten();
        let reachable = reachable.filter(|shard| shard["reachable"] == true).count();
        anyhow::ensure!(reachable == 3, "{shards:#}");
        Ok(())
    });
    reachable.await.unwrap_or_else(|error| panic!("{error:#}\n{}", logs()));
    let specs = Specs::of(&[
        spec(Engine::Postgres, "0001_items", POSTGRES, "chat"),
        spec(Engine::Mongodb, "0002_items", MONGODB, "chat-docs"),
    ]);
    let output = shardlift(&url, &["apply", specs.as_str(), "--yes"]).await;
    assert!(output.status.success(), "{output:?}\n{}", logs());
    for items in &shards {
        assert_exactly_once(items, Form::WithWhere, None).await;
    }
}

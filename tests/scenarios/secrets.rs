//! A password in every connection string (fault 36), and a token of everybody who asks, appear nowhere: not in logs, answers,
//! arguments or the store.

use std::path::Path;

use shardlift_harness::dataset::items::KeyKind;
use shardlift_harness::installation::WorkerSpec;
use shardlift_harness::servers::exclusive_mongod;

use crate::stage::{
    Collector, DEADLINE, Delivered, Engine, Form, Http, Items, ItemsSpec, MONGODB, OTLP_ENDPOINT, POSTGRES,
    Play, Specs, execute,
};

/// As it stands in a connection string, as it is said to the server, and in tokens.
const CANARY: [&str; 3] = ["kanarienvogel%2F4711", "kanarienvogel/4711", "kanarienvogel-4711"];
/// Of the command line, of the workers, and of nobody.
const TOKENS: [&str; 3] =
    ["kanarienvogel-4711-olga", "kanarienvogel-4711-worker", "kanarienvogel-4711-nobody"];
const ID: &str = "0001_items";

/// Every file below a directory that holds the canary, except the configuration, where it belongs.
fn files_that_tell(directory: &Path, told: &mut Vec<String>) {
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files_that_tell(&path, told);
        } else if path.extension().is_none_or(|extension| extension != "toml") {
            let bytes = std::fs::read(&path).unwrap_or_default();
            if tells(&String::from_utf8_lossy(&bytes)) {
                told.push(path.display().to_string());
            }
        }
    }
}

fn tells(text: &str) -> bool {
    CANARY.iter().any(|secret| text.contains(secret))
}

/// Processes whose arguments or environment hold the canary.
fn processes_that_tell(pids: &[u32]) -> Vec<u32> {
    let read = |pid: &u32, file: &str| std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let shows = |pid: &&u32| {
        ["cmdline", "environ"].iter().any(|file| tells(&String::from_utf8_lossy(&read(pid, file))))
    };
    pids.iter().filter(shows).copied().collect()
}

/// The coordinator knows hashes only.
fn known() -> String {
    let one = |name: &str, role: &str, token: &str, shards: &str| {
        let hash = shardlift_domain::Checksum::of(token.as_bytes());
        format!(
            "[[access.principal]]\nname = {name:?}\nrole = {role:?}\ntoken_sha256 = \"{hash}\"\nshards = {shards}\n"
        )
    };
    one("olga", "operator", TOKENS[0], "[]") + &one("workers", "worker", TOKENS[1], "[\"*\"]")
}

/// Four workers that are told the canary: one reaches its shard, the others have trouble of three kinds.
async fn told_the_canary(items: &Items, mongod: &str, endpoint: &str) -> Play {
    // The servers trust everybody, so the right shard is reached with the canary as password.
    let secret = |dsn: &str| dsn.replace("postgres@", &format!("postgres:{}@", CANARY[0]));
    let wrong_user = items.dsn.replace("postgres@", &format!("nobody:{}@", CANARY[0]));
    let refusing = mongod.replace("mongodb://", &format!("mongodb://someone:{}@", CANARY[0]));
    let absent = format!("postgres://postgres:{}@127.0.0.1:1/items", CANARY[0]);
    let builder = Play::builder(&[])
        .shard("pg-01", POSTGRES, Engine::Postgres, &secret(&items.dsn))
        .shard("pg-02", "refused", Engine::Postgres, &wrong_user)
        .shard("pg-03", "absent", Engine::Postgres, &absent)
        .shard("mg-01", MONGODB, Engine::Mongodb, &refusing)
        .coordinator_env(OTLP_ENDPOINT, endpoint)
        .coordinator_env("SHARDLIFT_LOG", "debug")
        .coordinator_config(&known())
        .token(TOKENS[0])
        .rest();
    let play = Play { installation: builder.no_workers().launch().await.unwrap() };
    for shard in ["pg-01", "pg-02", "pg-03", "mg-01"] {
        let spec = WorkerSpec::new(&format!("worker-{shard}"), &[shard]).env(OTLP_ENDPOINT, endpoint);
        let spec = spec.token(TOKENS[1]).env("SHARDLIFT_LOG", "debug,sqlx=trace,mongodb=trace");
        play.installation.add_worker(&spec).unwrap();
    }
    // A token that nobody has is refused, and not repeated either.
    let stranger = WorkerSpec::new("worker-nobody", &["pg-01"]).token(TOKENS[2]);
    play.installation.add_worker(&stranger.env("SHARDLIFT_LOG", "debug,h2=trace,tonic=trace")).unwrap();
    play
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_in_a_connection_string_appears_nowhere() {
    let items = Items::postgres("pg-01", 300, KeyKind::Bigint).await;
    let mongod = exclusive_mongod().await.unwrap();
    let collector = Collector::start().await;
    let play = told_the_canary(&items, &mongod.dsn("items"), collector.endpoint()).await;
    let shards = play
        .until("each shard to be reached or to tell its trouble", async || {
            let shards = play.installation.cli_json(&["shards"]).await?;
            let list = shards["shards"].as_array().cloned().unwrap_or_default();
            let told = list
                .iter()
                .filter(|shard| shard["reachable"] == true || shard["problem"]["code"] != "shard.no-worker");
            anyhow::ensure!(told.count() == 4, "{shards:#}");
            Ok(shards)
        })
        .await;
    let mut answers = vec![shards.to_string()];
    execute(&items.dsn, "ALTER TABLE items ADD COLUMN word text; UPDATE items SET word = 'x' WHERE id = 300")
        .await;
    let spec = ItemsSpec::new(ID, Engine::Postgres, Form::WithWhere)
        .transform("sql: { word: \"(word::integer)::text\", applied: applied + 1, migrated: \"true\" }");
    let specs = Specs::of(&[spec.text()]);
    let mongo = Specs::of(&[ItemsSpec::new("0002_items", Engine::Mongodb, Form::WithWhere).text()]);
    for args in [
        &["apply", specs.as_str(), "--yes"][..],
        &["status", ID, "--output", "json"],
        &["plan", mongo.as_str()],
        &["workers"],
        &["shards"],
        &["list"],
        &["status", ID],
    ] {
        let env = [(OTLP_ENDPOINT, collector.endpoint())];
        let output = play.installation.cli_with(args, &env).await.unwrap();
        answers.push(output.stdout + &output.stderr);
    }
    let refused = play.installation.cli_with(&["list"], &[("SHARDLIFT_TOKEN", TOKENS[2])]).await.unwrap();
    assert_eq!(refused.code, Some(9), "{refused:#?}");
    answers.push(refused.stdout + &refused.stderr);
    let door = Http::of(play.installation.coordinators()[0].rest_address().unwrap()).await;
    for token in TOKENS {
        answers.push(door.showing(token).get("/api/v1/me").await.text);
        answers.push(door.showing(token).get("/api/v1/migrations").await.text);
    }
    assert_eq!(play.status(ID).await["status"], "failed");
    let pids: Vec<u32> = std::iter::once(play.installation.coordinator().process().pid())
        .chain(play.installation.workers().iter().map(|worker| worker.process().pid()))
        .collect();
    assert_eq!(processes_that_tell(&pids), Vec::<u32>::new());
    for worker in play.installation.workers() {
        assert!(worker.process().is_running(), "{}", worker.process().log_tail(20));
        let config = std::fs::read_to_string(worker.config()).unwrap();
        assert!(tells(&config), "the worker was not told the password at all");
        worker.process().terminate();
        worker.process().wait_exit(DEADLINE).await.unwrap();
    }
    assert_eq!(answers.iter().filter(|answer| tells(answer)).collect::<Vec<_>>(), Vec::<&String>::new());
    let spans = collector.spans();
    assert!(spans.iter().any(|span| span.span.name == "batch"), "no span arrived: {} did", spans.len());
    let telling = spans.iter().filter(|span| tells(&format!("{span:?}")));
    assert_eq!(telling.map(Delivered::title).collect::<Vec<_>>(), Vec::<String>::new());
    let mut files = Vec::new();
    files_that_tell(play.installation.directory(), &mut files);
    assert_eq!(files, Vec::<String>::new(), "the password stands in these files");
}

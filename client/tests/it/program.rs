//! The program as a user runs it: what it prints, and how it ends.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_proto::v1;
use tokio::process::Command;

use crate::coordinator::{Coordinator, Script, UNREADABLE, migration, plan};

const SPEC: &str = "\
id: a
kind: schema
engine: postgres
cluster: chat
up: [\"ALTER TABLE messages ADD COLUMN b text\"]
";

fn command(url: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shardlift"));
    command
        .args(arguments)
        .env("SHARDLIFT_COORDINATOR", url)
        // Not the settings of whoever runs the tests.
        .env("XDG_CONFIG_HOME", "/nonexistent")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

async fn run(url: &str, arguments: &[&str]) -> Output {
    let output = tokio::time::timeout(Duration::from_secs(30), command(url, arguments).output());
    output.await.unwrap_or_else(|_| panic!("{arguments:?} did not end within 30 s")).expect("it runs")
}

/// Runs it and checks the exit code; gives both streams.
async fn ends(url: &str, arguments: &[&str], code: i32) -> (String, String) {
    let output = run(url, arguments).await;
    let out = String::from_utf8(output.stdout).expect("UTF-8");
    let err = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(code), "{arguments:?}\n{out}\n{err}");
    assert!(!out.contains('\u{1b}') && !err.contains('\u{1b}'), "colour without a terminal: {out}{err}");
    (out, err)
}

fn spec_dir() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("a.yaml"), SPEC).expect("written");
    dir
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn failed(id: &str) -> v1::Migration {
    let error = Failure::new(ErrorCode::RowRejected, "null value", "mend the row").at_key("42");
    v1::Migration { error: Some(error.into()), ..migration(id, v1::Status::Failed) }
}

#[tokio::test]
async fn usage_and_reachability_have_their_exit_codes() {
    let address = Coordinator::start(&Script::default()).await.kill().await;
    let url = format!("http://{address}");
    ends(&url, &["frobnicate"], 2).await;
    ends(&url, &["--help"], 0).await;
    ends(&url, &["status", "no/id"], 2).await;
    let (_, err) = ends("http://me:secret@127.0.0.1:1", &["list"], 2).await;
    assert!(err.contains("error[request.invalid]") && !err.contains("secret"), "{err}");
    let (out, err) = ends(&url, &["list", "--wait", "0"], 6).await;
    assert!(out.is_empty() && err.contains("error[coordinator.unreachable]"), "{err}");
    for part in ["whose fault: the network", "next: ", "more: docs/errors/coordinator.unreachable.md"] {
        assert!(err.contains(part), "{part} is missing in {err}");
    }
    let (_, err) = ends(&url, &["list", "--output", "json", "--wait", "0"], 6).await;
    let value: Value = serde_json::from_str(&err).expect("JSON");
    assert_eq!(value["failures"][0]["code"], "coordinator.unreachable");
}

#[tokio::test]
async fn a_bad_spec_is_told_here_before_anybody_is_asked() {
    let dir = spec_dir();
    std::fs::write(dir.path().join("b.yaml"), format!("{SPEC}whatever: 1\n")).expect("written");
    let (_, err) = ends("http://127.0.0.1:1", &["plan", text(dir.path())], 5).await;
    assert!(err.contains("b.yaml:6:1") && err.contains("6 | whatever: 1\n"), "{err}");
    assert!(err.contains("error[spec.invalid]"), "{err}");
}

#[tokio::test]
async fn looks_are_tables_or_json() {
    let script = Script::default();
    script.has(vec![failed("a")]);
    let coordinator = Coordinator::start(&script).await;
    let url = coordinator.url();
    let (out, _) = ends(&url, &["list"], 0).await;
    assert!(out.starts_with("ID ") && out.contains("failed"), "{out}");
    let (out, _) = ends(&url, &["status", "a"], 0).await;
    assert!(out.contains("error[row.rejected]: null value\n  where: key 42\n"), "{out}");
    let (out, _) = ends(&url, &["status", "a", "--output", "json"], 0).await;
    let value: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((&value["id"], &value["error"]["key"]), (&"a".into(), &"42".into()));
    let (out, _) = ends(&url, &["shards"], 0).await;
    assert!(out.contains(r"15.18\u{1b}[31m"), "{out}");
    ends(&url, &["workers", "--output", "json"], 0).await;
    let (out, _) = ends(&url, &["leader"], 0).await;
    assert!(out.starts_with("coordinator-1, epoch 3"), "{out}");
    assert!(out.contains("coordinator-2  c2:7400"), "{out}");
    ends(&url, &["status", "absent"], 7).await;
    ends(&url, &["retry", "a"], 0).await;
    let (out, _) = ends(&url, &["pause", "a"], 0).await;
    assert!(out.contains("nothing changed"), "{out}");
    ends(&url, &["cancel", "a"], 7).await;
}

#[tokio::test]
async fn a_status_is_told_also_when_it_is_not_known_which_sessions_were_ended() {
    let script = Script::default();
    let schema = |id| v1::Migration { kind: v1::Kind::Schema.into(), ..failed(id) };
    script.has(vec![schema("a"), schema(UNREADABLE)]);
    let coordinator = Coordinator::start(&script).await;
    let url = coordinator.url();
    let (out, err) = ends(&url, &["status", UNREADABLE], 0).await;
    assert!(out.contains("  status     failed") && out.contains("sessions were ended is not known"), "{out}");
    assert!(err.contains("error[internal.defect]: a torn page"), "{err}");
    let (out, err) = ends(&url, &["status", UNREADABLE, "--output", "json"], 0).await;
    let value: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((&value["status"], &value["ended_sessions"]), (&"failed".into(), &Value::Null));
    let value: Value = serde_json::from_str(&err).expect("JSON");
    assert_eq!(value["failures"][0]["message"], "a torn page");
    let (out, err) = ends(&url, &["status", "a", "--output", "json"], 0).await;
    let value: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((&value["ended_sessions"][0]["session"]["pid"], err.as_str()), (&7.into(), ""));
}

#[tokio::test]
async fn apply_asks_first_and_says_when_it_cannot() {
    let script = Script::default();
    script.plans(Ok(plan(&["a"], None)));
    script.has(vec![migration("a", v1::Status::Completed)]);
    let coordinator = Coordinator::start(&script).await;
    let (dir, url) = (spec_dir(), coordinator.url());
    let (_, err) = ends(&url, &["apply", text(dir.path())], 2).await;
    assert!(err.contains("standard input is not a terminal") && err.contains("--yes"), "{err}");
    assert_eq!(script.calls(), ["plan"]);
    let (out, _) = ends(&url, &["apply", text(dir.path()), "--yes"], 0).await;
    assert!(out.ends_with("1 migration completed.\n"), "{out}");
    assert_eq!(script.calls(), ["plan", "plan", "submit", "watch"]);
}

#[tokio::test]
async fn apply_plans_anew_when_the_topology_moved_and_shows_it_again() {
    let script = Script::default();
    script.plans(Ok(plan(&["a"], None)));
    script.has(vec![migration("a", v1::Status::Completed)]);
    let coordinator = Coordinator::start(&script).await;
    let (dir, url) = (spec_dir(), coordinator.url());
    script.moves_under(1);
    let (out, err) = ends(&url, &["apply", text(dir.path()), "--yes"], 0).await;
    assert!(err.contains("shard chat-pg-09 joined cluster chat\nplanned anew"), "{err}");
    assert_eq!(out.matches("Plan: 1 to do").count(), 2, "{out}");
    assert_eq!(script.calls(), ["plan", "submit", "plan", "submit", "watch"]);
    script.moves_under(100);
    let (_, err) = ends(&url, &["apply", text(dir.path()), "--yes"], 7).await;
    assert!(err.contains("error[plan.stale]"), "{err}");
}

#[tokio::test]
async fn a_finished_plan_is_nothing_to_do() {
    let script = Script::default();
    script.plans(Ok(plan(&["a"], Some(v1::Status::Completed))));
    let coordinator = Coordinator::start(&script).await;
    let dir = spec_dir();
    let (out, _) = ends(&coordinator.url(), &["apply", text(dir.path())], 0).await;
    assert_eq!(out, "Nothing to do: 1 migration, completed before.\n");
    assert_eq!(script.calls(), ["plan"]);
}

#[tokio::test]
async fn a_failed_migration_is_told_in_full_with_what_waits_for_it() {
    let script = Script::default();
    script.plans(Ok(plan(&["a", "b"], None)));
    script.has(vec![failed("a"), migration("b", v1::Status::Pending)]);
    let coordinator = Coordinator::start(&script).await;
    let (dir, url) = (spec_dir(), coordinator.url());
    let (out, err) = ends(&url, &["apply", text(dir.path()), "--yes"], 3).await;
    assert!(err.contains("error[row.rejected]: null value") && err.contains("shardlift retry a"), "{err}");
    assert!(out.contains("b: not begun, waits for a\n"), "{out}");
    let (out, _) = ends(&url, &["apply", text(dir.path()), "--yes", "--output", "json"], 3).await;
    let value: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(value["migrations"][0]["status"], "failed");
}

#[tokio::test]
async fn a_refused_plan_is_shown_and_a_conflict_has_its_own_exit_code() {
    let script = Script::default();
    let mut refused = plan(&["a"], None);
    let failure = Failure::new(ErrorCode::PlanRefused, "no cluster chat", "declare it");
    refused.findings =
        vec![v1::Finding { severity: v1::Severity::Error.into(), failure: Some(failure.into()) }];
    script.plans(Ok(refused));
    let coordinator = Coordinator::start(&script).await;
    let (dir, url) = (spec_dir(), coordinator.url());
    for verb in ["plan", "apply"] {
        let (out, _) = ends(&url, &[verb, text(dir.path())], 5).await;
        assert!(out.contains("error[plan.refused]: no cluster chat"), "{out}");
    }
    script.plans(Err(vec![Failure::new(ErrorCode::SpecConflict, "other content", "take another id")]));
    let (_, err) = ends(&url, &["apply", text(dir.path()), "--yes"], 7).await;
    assert!(err.contains("error[spec.conflict]"), "{err}");
}

#[tokio::test]
async fn a_watch_goes_on_through_a_short_absence_without_a_word_and_ends_with_the_status() {
    let script = Script::default();
    script.has(vec![migration("a", v1::Status::Running)]);
    let coordinator = Coordinator::start(&script).await;
    let child = command(&coordinator.url(), &["watch", "a"]).spawn().expect("it runs");
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !script.calls().contains(&"watch") {
        assert!(tokio::time::Instant::now() < deadline, "it does not watch");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let address = coordinator.kill().await;
    script.has(vec![migration("a", v1::Status::Paused)]);
    let _coordinator = Coordinator::start_at(address, &script).await;
    let output = tokio::time::timeout(Duration::from_secs(20), child.wait_with_output())
        .await
        .expect("it ends when the migration rests")
        .expect("its output");
    let out = String::from_utf8(output.stdout).expect("UTF-8");
    assert_eq!(output.status.code(), Some(4), "{out}");
    assert!(!out.contains("reachable"), "{out}");
    assert!(
        out.ends_with("a: paused; 10 changed of about 100 (50 % walked); 0/1 shards verified\n"),
        "{out}"
    );
}

#[tokio::test]
async fn an_interrupt_ends_the_watching_only() {
    let script = Script::default();
    script.has(vec![migration("a", v1::Status::Running)]);
    let coordinator = Coordinator::start(&script).await;
    let mut child = command(&coordinator.url(), &["watch", "a"]).spawn().expect("it runs");
    // The first line tells that it watches, and so that it listens for the interrupt.
    let mut lines = {
        use tokio::io::{AsyncBufReadExt, BufReader};
        BufReader::new(child.stdout.take().expect("piped")).lines()
    };
    let first = tokio::time::timeout(Duration::from_secs(20), lines.next_line()).await;
    let first = first.expect("a line within 20 s").expect("readable").expect("a line");
    assert!(first.starts_with("a: running"), "{first}");
    let pid = child.id().expect("running").to_string();
    let kill = std::process::Command::new("kill").args(["-INT", &pid]).status().expect("kill runs");
    assert!(kill.success());
    let output = tokio::time::timeout(Duration::from_secs(20), child.wait_with_output());
    let output = output.await.expect("it ends").expect("its output");
    let err = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(130), "{err}");
    assert!(err.contains("keeps running") && err.contains("shardlift watch a"), "{err}");
    assert_eq!(script.calls(), ["watch"]);
}

#[tokio::test]
async fn new_specs_are_numbered_and_can_be_planned() {
    let script = Script::default();
    script.plans(Ok(plan(&["0001_first"], None)));
    let coordinator = Coordinator::start(&script).await;
    let dir = tempfile::tempdir().expect("a directory");
    let specs = dir.path().join("specs");
    let (out, _) = ends("-", &["new", "data", "mongodb", "first", "--dir", text(&specs)], 0).await;
    assert!(out.contains("0001_first.yaml"), "{out}");
    ends("-", &["new", "schema", "postgres", "second", "--dir", text(&specs)], 0).await;
    assert!(specs.join("0002_second.yaml").exists());
    let (out, _) = ends(&coordinator.url(), &["plan", text(&specs)], 0).await;
    assert!(out.contains("  1. 0001_first  data, postgres, cluster chat  new\n"), "{out}");
}

#[tokio::test]
async fn every_shell_gets_its_completions() {
    for shell in ["bash", "zsh", "fish"] {
        let (out, _) = ends("-", &["completions", shell], 0).await;
        assert!(out.contains("shardlift") && out.contains("workers"), "{shell}");
    }
}

#[tokio::test]
async fn the_history_is_listed_and_a_broken_chain_ends_with_its_code() {
    let coordinator = Coordinator::start(&Script::default()).await;
    let url = coordinator.url();
    let (out, _) = ends(&url, &["audit", "list"], 0).await;
    assert!(out.contains("started") && out.contains("olaf"), "{out}");
    ends(&url, &["audit", "list", "--since", "yesterday"], 2).await;
    let (out, _) = ends(&url, &["audit", "verify"], 0).await;
    assert!(out.starts_with("the chain holds: 7 entries"), "{out}");
    let (out, _) = ends(&url, &["audit", "verify", "--known", "abc", "--output", "json"], 8).await;
    let told: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(told["broken"]["why"], "lost");
}

#[tokio::test]
async fn a_context_is_kept_and_asked_and_a_flag_wins() {
    let coordinator = Coordinator::start(&Script::default()).await;
    let (url, home) = (coordinator.url(), tempfile::tempdir().expect("a directory"));
    let run = async |arguments: &[&str], code: i32| {
        let mut command = command("", arguments);
        command
            .env_remove("SHARDLIFT_COORDINATOR")
            .env("XDG_CONFIG_HOME", home.path())
            .env("SHARDLIFT_WAIT", "0");
        let output = command.output().await.expect("it runs");
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        text
    };
    assert!(run(&["context", "list"], 0).await.contains("no context"));
    run(&["context", "add", "nowhere"], 2).await;
    run(&["context", "add", "", "--coordinator", &url], 2).await;
    run(&["context", "add", "nowhere", "--coordinator", "127.0.0.1:1"], 0).await;
    run(&["leader"], 6).await;
    run(&["leader", "--coordinator", &url], 0).await;
    run(&["context", "add", "here", "--coordinator", &url], 0).await;
    run(&["leader", "--context", "here"], 0).await;
    run(&["context", "use", "here"], 0).await;
    run(&["leader"], 0).await;
    let listed: Value =
        serde_json::from_str(&run(&["context", "list", "--output", "json"], 0).await).expect("JSON");
    assert_eq!(
        (&listed["contexts"][0]["name"], &listed["contexts"][0]["present"]),
        (&"here".into(), &true.into())
    );
    assert!(run(&["leader", "--context", "there"], 2).await.contains("known: here, nowhere"));
}

#[tokio::test]
async fn events_are_lines_that_begin_with_their_sequence() {
    let coordinator = Coordinator::start(&Script::default()).await;
    let url = coordinator.url();
    let (out, _) = ends(&url, &["events"], 0).await;
    assert!(out.starts_with("7  ") && out.contains("olaf"), "{out}");
    let (out, _) = ends(&url, &["events", "--output", "yaml"], 0).await;
    assert!(out.starts_with("---\nsequence: 7\n"), "{out}");
}

#[tokio::test]
async fn the_manual_page_has_every_verb() {
    let (page, _) = ends("127.0.0.1:1", &["man"], 0).await;
    assert!(page.contains(".TH shardlift 1") && page.contains("shardlift\\-apply(1)"), "{page}");
    let (page, _) = ends("127.0.0.1:1", &["man", "watch"], 0).await;
    assert!(page.contains("migration"), "{page}");
    ends("127.0.0.1:1", &["man", "nothing"], 2).await;
}

#[tokio::test]
async fn a_token_is_not_sent_in_plain_to_another_machine() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("token");
    std::fs::write(&file, "canary-4711\n").expect("written");
    // Nobody is there: it would take long to find that out.
    let list = ["--token-file", text(&file), "list"];
    for url in ["192.0.2.1:7400", "http://192.0.2.1:7400,127.0.0.1:1"] {
        let (_, err) = ends(url, &list, 2).await;
        assert!(err.contains("config.invalid") && err.contains("https://"), "{err}");
        assert!(err.contains("not sent to http://192.0.2.1:7400") && !err.contains("4711"), "{err}");
    }
    let coordinator = Coordinator::start(&Script::default()).await;
    ends(&coordinator.url(), &list, 0).await;
}

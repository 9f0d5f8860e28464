//! Processes end when they are told to, and with what they started.

use std::time::Duration;

use shardlift_harness::process::{Launch, Process};
use shardlift_harness::sandbox::Sandbox;
use shardlift_harness::wait::{wait_for, wait_for_ok};

const SOON: Duration = Duration::from_secs(10);

fn shell(sandbox: &Sandbox, script: &str) -> Process {
    Process::spawn(sandbox, Launch::new("script", "sh").args(["-c", script])).unwrap()
}

#[tokio::test]
async fn a_process_logs_ends_and_starts_again() {
    let sandbox = Sandbox::new("test").unwrap();
    let process = shell(&sandbox, "echo said $WORD; exit 3");
    assert_eq!(process.wait_exit(SOON).await.unwrap().code(), Some(3));
    process.set_env("WORD", "this");
    process.start_again().unwrap();
    process.wait_exit(SOON).await.unwrap();
    assert_eq!(process.log_text(), "said\nsaid this\n");
    assert!(process.log_tail(1).contains("exit code 3"), "{}", process.log_tail(1));
}

#[tokio::test]
async fn a_running_process_does_not_start_twice() {
    let sandbox = Sandbox::new("test").unwrap();
    let process = shell(&sandbox, "exec sleep 600");
    let error = process.start_again().unwrap_err().to_string();
    assert!(error.contains("still runs"), "{error}");
}

#[tokio::test]
async fn a_missed_deadline_tells_what_was_awaited_and_the_log() {
    let sandbox = Sandbox::new("test").unwrap();
    let process = shell(&sandbox, "echo hello; exec sleep 600");
    wait_for("the word", SOON, async || process.log_text().contains("hello").then_some(())).await.unwrap();
    let error = process.wait_exit(Duration::from_millis(50)).await.unwrap_err().to_string();
    assert!(error.contains("for the end of script") && error.contains("hello"), "{error}");
}

#[tokio::test]
async fn a_question_that_hangs_does_not_outlast_the_deadline() {
    let never = async || std::future::pending::<Result<(), &str>>().await;
    let error =
        wait_for_ok("the impossible", Duration::from_millis(10), never).await.unwrap_err().to_string();
    assert!(error.contains("the impossible") && error.contains("hung"), "{error}");
}

#[tokio::test]
async fn a_kill_takes_the_children_too() {
    let sandbox = Sandbox::new("test").unwrap();
    // As PostgreSQL does: the child leads a session of its own.
    let process = shell(&sandbox, "setsid sleep 612.5 & echo $!; wait");
    let child = wait_for("the child's number", SOON, async || process.log_text().trim().parse::<u32>().ok());
    let child = child.await.unwrap();
    wait_for("the child to run", SOON, async || command_line(child).filter(|line| line.contains("612.5")))
        .await
        .unwrap();
    process.kill9();
    assert!(!process.is_running());
    let gone = async || command_line(child).is_none_or(|line| line.is_empty()).then_some(());
    wait_for("the child to be gone", SOON, gone).await.unwrap();
}

#[tokio::test]
async fn a_dropped_sandbox_leaves_nothing() {
    let sandbox = Sandbox::new("test").unwrap();
    let path = sandbox.path().to_owned();
    let process = shell(&sandbox, "exec sleep 600");
    let pid = process.pid();
    std::fs::write(path.join("file"), "x").unwrap();
    drop(sandbox);
    assert!(!path.exists());
    drop(process);
    assert_eq!(command_line(pid), None);
}

#[tokio::test]
async fn a_process_started_again_by_hand_ends_with_the_sandbox() {
    let sandbox = Sandbox::new("test").unwrap();
    let process = shell(&sandbox, "echo again; exec sleep 600");
    let script = process.write_start_script().unwrap();
    process.kill9();
    let said = std::process::Command::new(script).output().unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    let pid: u32 = said.trim().rsplit(' ').next().unwrap().parse().unwrap();
    assert!(command_line(pid).is_some(), "{said}");
    drop(process);
    drop(sandbox);
    let gone = async || command_line(pid).is_none_or(|line| line.is_empty()).then_some(());
    wait_for("the process started by hand to be gone", SOON, gone).await.unwrap();
}

/// `None` when there is no such process, empty when it is a zombie.
fn command_line(pid: u32) -> Option<String> {
    std::fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()
}

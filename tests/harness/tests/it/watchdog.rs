//! What a killed test process leaves is removed.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use shardlift_harness::process::{Launch, Process};
use shardlift_harness::sandbox::Sandbox;
use shardlift_harness::wait::wait_for;

const SOON: Duration = Duration::from_secs(20);
const VICTIM: &str = "SHARDLIFT_HARNESS_TEST_VICTIM";

#[tokio::test]
async fn nothing_survives_a_test_process_that_was_killed() {
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "watchdog::the_victim", "--include-ignored", "--nocapture", "--quiet"])
        .env(VICTIM, "1")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (directory, pid) = first_words(victim.stdout.take().unwrap());
    assert!(directory.join("script.log").exists());
    assert!(PathBuf::from(format!("/proc/{pid}")).exists());
    victim.kill().unwrap();
    assert_eq!(victim.wait().unwrap().signal(), Some(9));
    let gone =
        async || (!directory.exists() && !PathBuf::from(format!("/proc/{pid}")).exists()).then_some(());
    wait_for("the watchdog to clean up", SOON, gone).await.unwrap();
}

/// What [`the_victim`] prints first, among the lines of the test harness.
fn first_words(output: impl std::io::Read) -> (PathBuf, u32) {
    use std::io::BufRead as _;
    for line in std::io::BufReader::new(output).lines() {
        if let Some((_, words)) = line.unwrap().split_once("victim: ") {
            let (directory, pid) = words.split_once(' ').unwrap();
            return (PathBuf::from(directory), pid.parse().unwrap());
        }
    }
    panic!("the victim said nothing");
}

/// Not a test: the process that the test above starts and kills.
#[test]
#[ignore = "run by nothing_survives_a_test_process_that_was_killed"]
#[allow(clippy::print_stdout, reason = "its output is read by the test above")]
fn the_victim() {
    if std::env::var_os(VICTIM).is_none() {
        return;
    }
    let released = Sandbox::new("released").unwrap();
    let sandbox = Sandbox::new("victim").unwrap();
    drop(released);
    let launch = Launch::new("script", "sh").args(["-c", "exec sleep 600"]);
    let process = Process::spawn(&sandbox, launch).unwrap();
    println!("victim: {} {}", sandbox.path().display(), process.pid());
    std::thread::sleep(Duration::from_secs(600));
}

//! Runs the command line program the way a user does.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::process::Command;
use tokio::time::timeout;

use crate::programs;

const LONGEST: Duration = Duration::from_secs(120);

/// What a run of the command line left.
#[derive(Debug, Clone)]
pub struct Output {
    /// The exit code, `None` when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Standard output as JSON; fails unless the exit code is 0.
    pub fn json(&self) -> Result<Value> {
        let Self { code, stdout, stderr } = self;
        ensure!(*code == Some(0), "shardlift ended with {code:?}\n{stdout}{stderr}");
        serde_json::from_str(stdout).with_context(|| format!("shardlift printed no JSON: {stdout}"))
    }
}

pub(super) async fn run(coordinator: &str, args: &[&str], env: &[(&str, &str)]) -> Result<Output> {
    let output = Command::new(programs::product("shardlift")?)
        .args(args)
        .env("SHARDLIFT_COORDINATOR", coordinator)
        // Not the settings of whoever runs the tests.
        .env("XDG_CONFIG_HOME", "/nonexistent")
        // A scenario that waits says itself for what, and how long.
        .env("SHARDLIFT_WAIT", "0")
        .envs(env.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .output();
    let output = timeout(LONGEST, output).await.with_context(|| {
        format!("shardlift {} did not end within {} s", args.join(" "), LONGEST.as_secs())
    })??;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Output { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) })
}

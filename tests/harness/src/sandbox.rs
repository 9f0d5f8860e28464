//! A temporary directory whose processes and files cannot outlive the process that made it.
//!
//! Dropping a [`Sandbox`] kills what was started in it and removes it. Rust runs no destructor for statics, after
//! SIGKILL, or when a test process aborts; then the watchdog does the same: a small shell process that notices the end
//! of its input. (A parent-death signal would not do: it fires when the *thread* that started the child ends.)

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::signals;

const WATCHDOG: &str = include_str!("watchdog.sh");

/// A temporary directory, removed with all its processes at the latest when this process ends.
#[derive(Debug)]
pub struct Sandbox {
    path: PathBuf,
}

impl Sandbox {
    /// Makes an empty directory whose name carries `name`. Other users may enter it, since PostgreSQL refuses to run as
    /// root and so runs as another user.
    pub fn new(name: &str) -> Result<Self> {
        let path = tempfile::Builder::new()
            .prefix(&format!("shardlift-{name}-"))
            .permissions(std::fs::Permissions::from_mode(0o755))
            .tempdir()
            .context("cannot make a temporary directory")?
            .keep();
        let sandbox = Self { path };
        tell_watchdog("guard", &sandbox.path)?;
        std::fs::create_dir(sandbox.path.join("run"))?;
        Ok(sandbox)
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file that names the process `name` of this sandbox: `PID STARTTIME`.
    pub(crate) fn pid_file(&self, name: &str) -> PathBuf {
        self.path.join("run").join(format!("{name}.pid"))
    }

    fn kill_processes(&self) {
        let Ok(entries) = std::fs::read_dir(self.path.join("run")) else { return };
        for entry in entries.flatten() {
            if let Some(process) = std::fs::read_to_string(entry.path()).ok().and_then(|t| signals::parse(&t))
            {
                signals::kill_tree(&process);
            }
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.kill_processes();
        // A killed server may still be creating a file while its directory is being emptied.
        for _ in 0..50 {
            match std::fs::remove_dir_all(&self.path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                _ => break,
            }
        }
        if !self.path.exists() {
            // Not released when it could not be removed: the watchdog tries again later.
            let _ = tell_watchdog("release", &self.path);
        }
    }
}

fn tell_watchdog(verb: &str, path: &Path) -> Result<()> {
    static WATCHDOG_INPUT: OnceLock<Mutex<Option<ChildStdin>>> = OnceLock::new();
    let input = WATCHDOG_INPUT.get_or_init(|| Mutex::new(None));
    let mut input = input.lock().unwrap_or_else(PoisonError::into_inner);
    if input.is_none() {
        *input = Some(start_watchdog()?);
    }
    let pipe = input.as_mut().context("the watchdog has no input")?;
    writeln!(pipe, "{verb} {}", path.display()).context("the watchdog of the harness is gone")
}

/// Its own process group, so that Ctrl-C does not reach it; no inherited output, so that nobody waits for it.
fn start_watchdog() -> Result<ChildStdin> {
    let mut child = Command::new("sh")
        .args(["-c", WATCHDOG, "shardlift-watchdog"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .current_dir("/")
        .process_group(0)
        .spawn()
        .context("cannot start the watchdog (sh)")?;
    child.stdin.take().context("the watchdog has no input")
}

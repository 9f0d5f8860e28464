//! One real process: started, watched, paused, killed, started again. Knows nothing of what it runs.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;

use crate::sandbox::Sandbox;
use crate::signals::{self, ProcessId};
use crate::wait::{and_tell, wait_for, wait_for_ok};

/// How to start a process.
#[derive(Debug, Clone)]
pub struct Launch {
    name: String,
    program: PathBuf,
    args: Vec<OsString>,
    env: Vec<(String, String)>,
}

impl Launch {
    /// `name` names the log and the process in messages.
    pub fn new(name: impl Into<String>, program: impl Into<PathBuf>) -> Self {
        Self { name: name.into(), program: program.into(), args: Vec::new(), env: Vec::new() }
    }

    /// Adds one argument.
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets an environment variable, beside those inherited.
    pub fn env(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        set(&mut self.env, key.into(), value.into());
        self
    }
}

fn set(env: &mut Vec<(String, String)>, key: String, value: String) {
    env.retain(|(k, _)| *k != key);
    env.push((key, value));
}

/// A process in a [`Sandbox`]: its output goes to a log file there, and it dies with this value or with this process,
/// whichever ends first. It is its own process group: Ctrl-C in the terminal does not reach it.
#[derive(Debug)]
pub struct Process {
    launch: Mutex<Launch>,
    name: String,
    log: PathBuf,
    pid_file: PathBuf,
    child: Mutex<Running>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    id: ProcessId,
}

impl Process {
    /// Starts it. It does not wait until the process is of any use.
    pub fn spawn(sandbox: &Sandbox, launch: Launch) -> Result<Self> {
        let log = sandbox.path().join(format!("{}.log", launch.name));
        let pid_file = sandbox.pid_file(&launch.name);
        let child = start(&launch, &log, &pid_file)?;
        Ok(Self {
            name: launch.name.clone(),
            launch: Mutex::new(launch),
            log,
            pid_file,
            child: Mutex::new(child),
        })
    }

    /// The name it was given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The number of the process that was started last.
    pub fn pid(&self) -> u32 {
        self.running().id.pid
    }

    /// The number of the process of this name, also when it was started by hand since; see
    /// [`Process::write_start_script`].
    pub fn pid_by_name(&self) -> u32 {
        let named = std::fs::read_to_string(&self.pid_file).ok().and_then(|text| signals::parse(&text));
        named.map_or_else(|| self.pid(), |id| id.pid)
    }

    /// SIGKILL to it and its children, and waits until it is gone. Nothing happens when it is gone already.
    pub fn kill9(&self) {
        let mut running = self.running();
        signals::kill_tree(&running.id);
        // After SIGKILL this returns at once; an error means that it was reaped before.
        let _ = running.child.wait();
        // Someone may have started it again by hand: then the file names that process, which the sandbox ends.
        let named = std::fs::read_to_string(&self.pid_file).ok().and_then(|text| signals::parse(&text));
        if named.as_ref() == Some(&running.id) {
            let _ = std::fs::remove_file(&self.pid_file);
        }
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        signals::send(&self.running().id, Signal::TERM);
    }

    /// SIGINT.
    pub fn interrupt(&self) {
        signals::send(&self.running().id, Signal::INT);
    }

    /// SIGSTOP to it and its children: silent, but its connections and locks stay.
    pub fn pause(&self) {
        signals::pause_tree(&self.running().id);
    }

    /// SIGCONT after [`Process::pause`].
    pub fn resume(&self) {
        signals::resume_tree(&self.running().id);
    }

    /// Whether it has not ended (a paused process runs).
    pub fn is_running(&self) -> bool {
        self.exit_status().is_none()
    }

    /// How it ended, `None` while it runs.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.running().child.try_wait().ok().flatten()
    }

    /// Waits until it has ended by itself; fails with the end of its log when it has not by the deadline.
    pub async fn wait_exit(&self, deadline: Duration) -> Result<ExitStatus> {
        let ended =
            wait_for(&format!("the end of {}", self.name), deadline, async || self.exit_status()).await;
        and_tell(ended, || self.log_tail(20))
    }

    /// Waits until asking it something succeeds; fails with the end of its log when it has ended, or by the deadline. `what`
    /// completes the sentence "waited … for".
    pub(crate) async fn wait_ready(
        &self,
        what: &str,
        deadline: Duration,
        mut ask: impl AsyncFnMut() -> Result<()>,
    ) -> Result<()> {
        let runs = wait_for_ok(what, deadline, async || {
            // Whoever has ended is not asked again.
            if !self.is_running() {
                return Ok(false);
            }
            ask().await.map(|()| true)
        })
        .await;
        let runs = and_tell(runs, || self.log_tail(30))?;
        ensure!(runs, "{} did not start\n{}", self.name, self.log_tail(30));
        Ok(())
    }

    /// Starts it again with the same command line; the log goes on. Fails while it still runs.
    pub fn start_again(&self) -> Result<()> {
        if self.is_running() {
            bail!("{} still runs as process {}", self.name, self.pid());
        }
        let launch = self.launch.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let started = start(&launch, &self.log, &self.pid_file)?;
        *self.running() = started;
        Ok(())
    }

    /// Sets an environment variable for the next start, such as `FAILPOINTS`; an empty value removes it.
    pub fn set_env(&self, key: &str, value: &str) {
        let mut launch = self.launch.lock().unwrap_or_else(PoisonError::into_inner);
        launch.env.retain(|(k, _)| k != key);
        if !value.is_empty() {
            launch.env.push((key.to_owned(), value.to_owned()));
        }
    }

    /// Sets an argument list for the next start.
    pub fn set_args<A: Into<OsString>>(&self, args: impl IntoIterator<Item = A>) {
        let mut launch = self.launch.lock().unwrap_or_else(PoisonError::into_inner);
        launch.args = args.into_iter().map(Into::into).collect();
    }

    /// The log file: standard output and standard error of all starts.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The whole log as text.
    pub fn log_text(&self) -> String {
        std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// The last `lines` lines of the log, under a title, for error messages.
    pub fn log_tail(&self, lines: usize) -> String {
        let text = self.log_text();
        let all: Vec<&str> = text.lines().collect();
        let mut tail = format!("--- last lines of {} ---", self.log.display());
        for line in &all[all.len().saturating_sub(lines)..] {
            tail.push('\n');
            tail.push_str(line);
        }
        if let Some(status) = self.exit_status() {
            let _ = write!(tail, "\n--- {} has ended: {} ---", self.name, describe(status));
        }
        tail
    }

    /// Writes an executable script beside the log that starts the process again as this value would, detached from the
    /// terminal, and returns its path. What the script starts ends with the sandbox.
    pub fn write_start_script(&self) -> Result<PathBuf> {
        let path = self.log.with_file_name(format!("start-{}", self.name));
        let file = |path: &Path| quote(&path.to_string_lossy());
        let (name, log, pid_file) = (self.name.as_str(), file(&self.log), file(&self.pid_file));
        let text = include_str!("start.sh")
            .replace("@COMMAND@", &self.command_line())
            .replace("@LOG@", &log)
            .replace("@PID_FILE@", &pid_file)
            .replace("@NAME@", name);
        std::fs::write(&path, text)?;
        std::fs::set_permissions(&path, Permissions::from_mode(0o755))?;
        Ok(path)
    }

    /// The command line as one would type it in a shell, with the environment that was added.
    pub fn command_line(&self) -> String {
        let launch = self.launch.lock().unwrap_or_else(PoisonError::into_inner);
        let mut line = String::new();
        for (key, value) in &launch.env {
            let _ = write!(line, "{key}={} ", quote(value));
        }
        line.push_str(&quote(&launch.program.to_string_lossy()));
        for arg in &launch.args {
            let _ = write!(line, " {}", quote(&arg.to_string_lossy()));
        }
        line
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill9();
    }
}

fn start(launch: &Launch, log: &Path, pid_file: &Path) -> Result<Running> {
    let output = File::options().create(true).append(true).open(log).context("cannot open the log")?;
    let child = Command::new(&launch.program)
        .args(&launch.args)
        .envs(launch.env.iter().map(|(k, v)| (k, v)))
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start {} ({})", launch.name, launch.program.display()))?;
    let id = signals::identify(child.id())
        .with_context(|| format!("{} is not in /proc right after its start", launch.name))?;
    std::fs::write(pid_file, format!("{} {}\n", id.pid, id.started))?;
    Ok(Running { child, id })
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "unknown".to_owned(),
    }
}

fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

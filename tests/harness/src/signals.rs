//! Signals to whole process trees. Knows `/proc`, nothing of what the processes do.
//!
//! A PostgreSQL backend is the leader of its own session, so a signal to the process group of the server misses it:
//! children are found by their parent.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

/// A running process: its number, and its start time, which tells it from a later process of the same number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProcessId {
    pub(crate) pid: u32,
    /// Clock ticks since boot: field 22 of `/proc/PID/stat`.
    pub(crate) started: u64,
}

/// Reads `PID STARTTIME`, the content of a pid file.
pub(crate) fn parse(text: &str) -> Option<ProcessId> {
    let (pid, started) = text.trim().split_once(' ')?;
    Some(ProcessId { pid: pid.parse().ok()?, started: started.parse().ok()? })
}

/// The identity of the process that has this number now.
pub(crate) fn identify(pid: u32) -> Option<ProcessId> {
    Some(ProcessId { pid, started: stat(pid)?.started })
}

/// Sends a signal; a process that is gone is no error.
pub(crate) fn send(process: &ProcessId, signal: Signal) {
    if is_alive(process)
        && let Some(pid) = as_pid(process.pid)
    {
        let _ = kill_process(pid, signal);
    }
}

/// Stops the process and its children: as if the machine stood still. Waits until no thread of theirs runs: one that
/// sleeps while the signal is on its way may still wake up and answer.
pub(crate) fn pause_tree(process: &ProcessId) {
    // The parent first: it can make no further child while they are counted.
    send(process, Signal::STOP);
    let children = children(process.pid);
    for child in &children {
        send(child, Signal::STOP);
    }
    let stopped = Instant::now();
    while !children.iter().chain([process]).all(stands_still) && stopped.elapsed() < GONE {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Whether all its threads are stopped, or it is gone.
fn stands_still(process: &ProcessId) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{}/task", process.pid)) else { return true };
    let mut states = threads.flatten().filter_map(|thread| read_stat(&thread.path().join("stat")));
    states.all(|thread| ["T", "t", "Z", "X"].contains(&thread.state.as_str()))
}

/// Continues what [`pause_tree`] stopped.
pub(crate) fn resume_tree(process: &ProcessId) {
    for child in children(process.pid) {
        send(&child, Signal::CONT);
    }
    send(process, Signal::CONT);
}

/// How long a killed process may take to let go of its memory, and a stopped one to stand still.
const GONE: Duration = Duration::from_secs(10);

/// SIGKILL to the process and its children, as when a machine loses power. Waits until none of them holds any memory: a
/// PostgreSQL server does not start again while a session of the former one does.
pub(crate) fn kill_tree(process: &ProcessId) {
    if !is_alive(process) {
        return;
    }
    send(process, Signal::STOP);
    let children = children(process.pid);
    for child in &children {
        send(child, Signal::KILL);
    }
    send(process, Signal::KILL);
    let killed = Instant::now();
    while !children.iter().chain([process]).all(holds_nothing) && killed.elapsed() < GONE {
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Whether it has ended: it is gone, or only waits to be reaped.
fn holds_nothing(process: &ProcessId) -> bool {
    stat(process.pid).is_none_or(|stat| stat.started != process.started || stat.state == "Z")
}

/// Whether this very process still exists (also as a zombie).
pub(crate) fn is_alive(process: &ProcessId) -> bool {
    as_pid(process.pid).is_some_and(|pid| test_kill_process(pid).is_ok())
        && identify(process.pid).as_ref() == Some(process)
}

/// The direct children of a process. The servers used here have no grandchildren.
pub(crate) fn children(parent: u32) -> Vec<ProcessId> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter_map(|pid| {
            let stat = stat(pid).filter(|stat| stat.parent == parent)?;
            Some(ProcessId { pid, started: stat.started })
        })
        .collect()
}

/// What the kernel says of a process.
struct Stat {
    /// One letter, such as `Z` for a zombie.
    state: String,
    parent: u32,
    started: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    read_stat(Path::new(&format!("/proc/{pid}/stat")))
}

fn read_stat(file: &Path) -> Option<Stat> {
    let text = std::fs::read_to_string(file).ok()?;
    // The second field, the name, is in parentheses and may hold anything, also parentheses.
    let (_, fields) = text.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    let state = fields.next()?.to_owned();
    let parent = fields.next()?.parse().ok()?;
    let started = fields.nth(17)?.parse().ok()?;
    Some(Stat { state, parent, started })
}

fn as_pid(pid: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(pid).ok()?)
}

//! Waiting without sleep-and-hope: ask again until the answer comes or the deadline passes, then say what was awaited.

use std::fmt::Display;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use tokio::time::{Instant, sleep, timeout_at};

const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);
/// What the last question may take beyond the deadline.
const ONE_ANSWER: Duration = Duration::from_secs(1);

/// Asks until the answer is `Some`. `what` completes the sentence "waited … for".
pub async fn wait_for<T>(
    what: &str,
    deadline: Duration,
    mut ask: impl AsyncFnMut() -> Option<T>,
) -> Result<T> {
    wait_for_ok(what, deadline, async || ask().await.ok_or("not yet")).await
}

/// Asks until the answer is `Ok`; the last error is part of the failure.
pub async fn wait_for_ok<T, E: Display>(
    what: &str,
    deadline: Duration,
    mut ask: impl AsyncFnMut() -> Result<T, E>,
) -> Result<T> {
    let started = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        // One question may hang as well, for example a connection to a paused server.
        let Ok(answer) = timeout_at(started + deadline + ONE_ANSWER, ask()).await else {
            bail!("waited {:.1} s for {what}: asking for it hung", started.elapsed().as_secs_f64());
        };
        let error = match answer {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        if started.elapsed() >= deadline {
            bail!("waited {:.1} s for {what}: {error:#}", started.elapsed().as_secs_f64());
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// A failure followed by what helps to understand it, such as the end of a log.
pub(crate) fn and_tell<T>(result: Result<T>, more: impl FnOnce() -> String) -> Result<T> {
    result.map_err(|error| anyhow!("{error:#}\n{}", more()))
}

/// Waits for SIGINT (Ctrl-C) or SIGTERM.
pub async fn until_told_to_end() {
    use tokio::signal::unix::{SignalKind, signal};
    let mut signals = [SignalKind::interrupt(), SignalKind::terminate()].map(|kind| signal(kind).ok());
    let [interrupt, terminate] = &mut signals;
    let (Some(interrupt), Some(terminate)) = (interrupt, terminate) else {
        // Without handlers these signals end the process, and the watchdog cleans up.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

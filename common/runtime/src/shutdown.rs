//! Ending well: the first signal asks every task to finish, the second ends the process at once.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The exit code after a second signal: what a shell reports for a process ended by SIGINT.
const EXIT_AT_ONCE: i32 = 130;

/// The root of the tree of tokens that every task of the process hangs on.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    root: CancellationToken,
}

impl Shutdown {
    /// A shutdown that only [`Shutdown::request`] begins; for tests and for parts embedded in another program.
    pub fn manual() -> Self {
        Self::default()
    }

    /// A shutdown that SIGTERM and SIGINT begin. A second signal ends the process without waiting for anything.
    ///
    /// Must be called within the tokio runtime.
    pub fn on_signals() -> io::Result<Self> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let shutdown = Self::default();
        let root = shutdown.root.clone();
        tokio::spawn(async move {
            for round in 0.. {
                let name = tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                };
                if round > 0 {
                    tracing::warn!(signal = name, "second signal: ending at once");
                    std::process::exit(EXIT_AT_ONCE);
                }
                tracing::info!(signal = name, "shutting down; a second signal ends at once");
                root.cancel();
            }
        });
        Ok(shutdown)
    }

    /// A token for one part of the process: cancelled with the whole, and may be cancelled alone.
    pub fn token(&self) -> CancellationToken {
        self.root.child_token()
    }

    /// Begins the shutdown.
    pub fn request(&self) {
        self.root.cancel();
    }

    /// Waits until the shutdown has begun.
    pub async fn requested(&self) {
        self.root.cancelled().await;
    }

    /// Whether the shutdown has begun.
    pub fn is_requested(&self) -> bool {
        self.root.is_cancelled()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_can_end_alone_but_never_outlives_the_whole() {
        let shutdown = Shutdown::manual();
        let (one, other) = (shutdown.token(), shutdown.token());
        one.cancel();
        assert!(!shutdown.is_requested() && !other.is_cancelled());
        shutdown.request();
        shutdown.requested().await;
        assert!(other.is_cancelled());
    }
}

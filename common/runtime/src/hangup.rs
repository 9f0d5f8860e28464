//! SIGHUP: an operator's wish that the configuration is read again.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The wishes of one process.
#[derive(Debug)]
pub struct Hangups {
    signal: Signal,
}

impl Hangups {
    /// From now on SIGHUP does not end the process. Must be called within the tokio runtime.
    pub fn listen() -> io::Result<Self> {
        Ok(Self { signal: signal(SignalKind::hangup())? })
    }

    /// Waits for the next one; several at once may come as one.
    pub async fn next(&mut self) -> Option<()> {
        self.signal.recv().await
    }
}

//! How often a step that has no batch size to find by failing tries again before it is given back.

use std::time::Duration;

use shardlift_runtime::retry::{Delays, Policy};
use tokio::time::sleep;

use crate::engine::{EngineError, EngineResult};
use crate::lease::TaskLease;

/// Failures in a row after which the task is given back with the last of them.
const MOST: u32 = 12;
/// The pauses between them.
const PAUSES: Policy =
    Policy { first: Duration::from_millis(20), longest: Duration::from_secs(2), total: None };

/// What is left of it.
pub(super) struct Patience {
    failures: u32,
    delays: Delays,
}

impl Patience {
    /// All of it.
    pub(super) fn new() -> Self {
        Self { failures: 0, delays: Delays::new(&PAUSES) }
    }

    /// What passes by itself is tried again after a pause; the rest is given back.
    pub(super) async fn forgive(&mut self, lease: &TaskLease, error: EngineError) -> EngineResult<()> {
        let passing =
            matches!(error, EngineError::Connection(_) | EngineError::Contended(_) | EngineError::TooSlow(_));
        self.failures += 1;
        if !passing || self.failures > MOST {
            return Err(error);
        }
        let wait = self.delays.next().unwrap_or(PAUSES.longest);
        tokio::select! {
            () = sleep(wait) => {}
            () = lease.withdrawn() => {}
        }
        lease.check()?;
        Ok(())
    }
}

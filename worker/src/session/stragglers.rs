//! Tasks that outlive their right: an open batch is finished after its session is over. If the next leader gives the
//! same range to this worker again, the claim waits for that batch, which would otherwise be ended by it and done anew.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use shardlift_domain::ids::TaskId;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

/// How long a task waits for its former holder in this worker. After that the claim itself ends it, as it would end
/// that of another worker.
const FINISH_WITHIN: Duration = Duration::from_secs(10);

/// The tasks that run in this process, of all sessions. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Stragglers {
    running: Arc<Mutex<HashMap<TaskId, CancellationToken>>>,
}

/// A task that runs; dropping it says that it has ended.
pub(super) struct Running {
    former: Option<CancellationToken>,
    _ended: DropGuard,
}

impl Stragglers {
    /// A task begins. Its former holder in this process, if it still runs, is who [`Running::alone`] waits for.
    pub(super) fn begin(&self, task: &TaskId) -> Running {
        let ended = CancellationToken::new();
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|_, ended| !ended.is_cancelled());
        let former = running.insert(task.clone(), ended.clone());
        Running { former, _ended: ended.drop_guard() }
    }
}

impl Running {
    /// Waits until nobody else in this process runs the task.
    pub(super) async fn alone(&mut self) {
        if let Some(former) = self.former.take()
            && timeout(FINISH_WITHIN, former.cancelled()).await.is_err()
        {
            tracing::warn!("a batch of an earlier session is still open; its claim is taken over");
        }
    }
}

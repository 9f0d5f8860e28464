//! What one worker says, until it stops or the coordinator does. That it lives is noted and answered here; the rest waits
//! for the heart, which may be busy or wait for a slow store, and meanwhile the worker is heard all the same.

use std::collections::VecDeque;
use std::pin::pin;

use shardlift_domain::principal::Principal;
use shardlift_proto::v1::{self, from_worker};
use tokio_util::sync::CancellationToken;
use tonic::Streaming;

use super::access::{Access, Stay};
use super::fleet::report;
use crate::orchestrator::{Handle, Pulse, Report, SessionId};

/// Reports of one worker that may wait for the heart. It has no more tasks than slots, and of each receipt only the newest
/// counts: so this is never full because the heart is late, only because the worker says too much.
const QUEUE: usize = 256;

/// One session, as its door hears it.
pub(super) struct Hearing {
    pub(super) orchestrator: Handle,
    pub(super) access: Access,
    /// Whose session it is.
    pub(super) principal: Principal,
    /// For how long.
    pub(super) stay: Stay,
    pub(super) session: SessionId,
    pub(super) pulse: Pulse,
    pub(super) reports: Streaming<v1::FromWorker>,
    pub(super) shutdown: CancellationToken,
}

impl Hearing {
    /// Listens until the session is over.
    pub(super) async fn listen(mut self) {
        let mut waiting = Waiting::default();
        let mut over = pin!(self.stay.clone().over());
        loop {
            tokio::select! {
                said = self.reports.message(), if waiting.0.len() < QUEUE => {
                    let Ok(Some(v1::FromWorker { message: Some(message) })) = said else { break };
                    if !self.pulse.beat() || !self.take(message, &mut waiting) {
                        break;
                    }
                }
                room = self.orchestrator.room(), if !waiting.0.is_empty() => match (room, waiting.0.pop_front()) {
                    (Ok(room), Some(report)) => room.report(self.session, report),
                    _ => break,
                },
                () = self.shutdown.cancelled() => break,
                _ = &mut over => break,
            }
        }
        // The gate may have ended the stream in the same moment: whichever is seen first, it is told why.
        if let Some(failure) = self.stay.is_over() {
            tracing::info!(principal = self.principal.name(), "a worker's session ends: {}", failure.message);
        }
        self.rest(waiting).await;
    }

    /// `false`: it was not understood, or is about a shard that is none of its business.
    fn take(&self, message: from_worker::Message, waiting: &mut Waiting) -> bool {
        match report(message) {
            Ok(None) => self.pulse.answer(),
            Ok(Some(Report::Shards(hellos))) => {
                let shards = hellos.iter().map(|hello| &hello.shard);
                if self.access.may_serve(&self.principal, shards).is_err() {
                    return false;
                }
                waiting.put(Report::Shards(hellos));
            }
            Ok(Some(report)) => waiting.put(report),
            Err(error) => {
                tracing::warn!(%error, "a worker's message was not understood");
                return false;
            }
        }
        true
    }

    /// What was said before the end still counts. If the orchestrator is gone there is nothing to tell, nor to leave.
    async fn rest(self, waiting: Waiting) {
        for report in waiting.0 {
            let Ok(room) = self.orchestrator.room().await else { return };
            room.report(self.session, report);
        }
        let _ = self.orchestrator.leave(self.session).await;
    }
}

/// Reports in the order in which they came.
#[derive(Default)]
struct Waiting(VecDeque<Report>);

impl Waiting {
    /// A receipt replaces an older one that still waits as the last word on its task.
    fn put(&mut self, report: Report) {
        if let Report::Progress(task, token, newer) = &report {
            let last = self.0.iter_mut().rev().find_map(|waiting| match waiting {
                Report::Progress(other, under, receipt) if other == task && under == token => Some(receipt),
                _ => None,
            });
            if let Some(receipt) = last {
                receipt.clone_from(newer);
                return;
            }
        }
        self.0.push_back(report);
    }
}

#[cfg(test)]
mod tests {
    use shardlift_domain::fence::{Attempt, Epoch, Token};
    use shardlift_domain::ids::{MigrationId, MigrationKey, ShardId, TaskId, Version};
    use shardlift_domain::migration::Step;
    use shardlift_domain::progress::Receipt;
    use shardlift_domain::range::RangeState;

    use super::*;

    fn task(shard: &str) -> TaskId {
        let migration = MigrationKey { id: MigrationId::new("m").expect("a name"), version: Version::FIRST };
        let shard = ShardId::new(shard).expect("a name");
        TaskId { migration, shard, step: Step::Backfill, range: Some(0) }
    }

    fn receipt(shard: &str, batches: u64) -> Report {
        let token = Token { epoch: Epoch(1), attempt: Attempt(1) };
        let range = RangeState { index: 0, rows: batches, seen: batches, batches, done: false };
        Report::Progress(
            task(shard),
            token,
            Receipt { range, batch_size: 1, rows_per_second: 1.0, batch_ms: 1.0, waits: None },
        )
    }

    #[test]
    fn however_long_the_heart_is_busy_one_receipt_of_each_task_waits_for_it() {
        let mut waiting = Waiting::default();
        for batches in 0..10_000 {
            waiting.put(receipt("a", batches));
            waiting.put(receipt("b", batches));
        }
        for attempt in 0..3 {
            waiting.put(Report::Released(task("c"), Token { epoch: Epoch(1), attempt: Attempt(attempt) }));
        }
        assert_eq!(waiting.0.len(), 5, "two receipts, and what is no receipt all");
        let Report::Progress(_, _, newest) = &waiting.0[0] else { panic!("{:?}", waiting.0) };
        assert_eq!(newest.range.batches, 9_999);
    }
}

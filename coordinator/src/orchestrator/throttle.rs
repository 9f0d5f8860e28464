//! How fast running ranges may go: their part of the throttle in force, told when they are handed out and whenever it changes.
//!
//! What holds follows from the spec and the stored state alone, so that the next leader tells the same.

use serde_json::json;
use shardlift_domain::capability::{Capabilities, THROTTLE};
use shardlift_domain::ids::{MigrationKey, ShardId};
use shardlift_domain::migration::{InForce, Migration, Pace, Step};
use shardlift_domain::spec::{BucketedShare, Spec};

use super::board::Held;
use super::book::Page;
use super::effects::limit;
use super::fleet::Order;
use super::leader::Leader;
use crate::store::{HistoryEntry, HistoryEvent};

impl Leader {
    /// What a range of the shard is told.
    pub(super) fn pace(&self, page: &Page, shard: &ShardId) -> Pace {
        let throttle = changed(page).map(|in_force| in_force.now);
        if !limited(page) {
            return Pace { throttle, ..Pace::default() };
        }
        Pace { sharers: self.board.sharers(&page.migration().key, shard, limit(page)), throttle }
    }

    /// The part of one range of the shard, if the rows per second are limited.
    pub(super) fn share_of(&self, page: &Page, shard: &ShardId) -> Option<BucketedShare> {
        let sharers = self.board.sharers(&page.migration().key, shard, limit(page));
        in_force(page)?.now.share(sharers)
    }

    /// Tells running ranges at which pace they go on. A worker that does not know the word would go on as the spec says: its
    /// range is taken from it between two batches, for one that does.
    pub(super) fn retune(&mut self, key: &MigrationKey, shard: &ShardId) {
        let Some(page) = self.book.page(key) else { return };
        let pace = self.pace(page, shard);
        for Held { task, worker, token } in self.board.retuned(key, shard, pace) {
            let Some(found) = self.fleet.get(&worker) else { continue };
            if pace.throttle.is_some() && !found.knows.has(THROTTLE) {
                if self.board.take_away(&task) {
                    self.order(&worker, Order::Withdraw { task, token });
                }
            } else if found.adjusts() {
                self.order(&worker, Order::Adjust { task, token, pace, share: false });
            }
        }
    }
}

/// The throttle that holds; `None`: nothing is walked.
pub(super) fn in_force(page: &Page) -> Option<InForce> {
    Some(page.migration().throttle_in_force(page.spec.throttle()?))
}

/// The throttle that holds, if it is not the spec's.
fn changed(page: &Page) -> Option<InForce> {
    in_force(page).filter(|in_force| in_force.in_spec.is_some())
}

/// Whether the rows per second of a shard are limited.
pub(super) fn limited(page: &Page) -> bool {
    in_force(page).is_some_and(|in_force| in_force.now.rows_per_second.is_some())
}

/// What a worker must be able to do to run this step.
pub(super) fn needed_for(page: &Page, step: Step) -> Capabilities {
    let needs = Capabilities::of_step(&page.spec, step);
    if step == Step::Backfill && changed(page).is_some() { needs.and(THROTTLE) } else { needs }
}

/// Tells the history which throttle held before a change of it, and which one since.
pub(super) fn chronicled(history: &mut [HistoryEntry], spec: &Spec, before: &Migration, after: &Migration) {
    let Some(in_spec) = spec.throttle() else { return };
    for entry in history.iter_mut().filter(|entry| entry.event == HistoryEvent::Throttled) {
        entry.detail["throttle"] = json!(after.throttle_in_force(in_spec).now);
        entry.detail["before"]["throttle"] = json!(before.throttle_in_force(in_spec).now);
    }
}

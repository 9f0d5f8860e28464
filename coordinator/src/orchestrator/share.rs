//! Work stealing: idle workers help where the last ranges are long.

use std::collections::BTreeMap;
use std::sync::Arc;

use shardlift_domain::fence::Token;
use shardlift_domain::ids::TaskId;
use shardlift_domain::migration::Step;
use shardlift_domain::range::Rest;

use super::board::{self, Held};
use super::fleet::{Order, Worker};
use super::leader::Leader;
use super::throttle::{limited, needed_for};
use crate::scheduler::{Crew, Walking, splits};

impl Leader {
    /// Asks owners of long ranges to split them, if somebody has nothing to do.
    pub(super) fn ask_to_share(&mut self) {
        let crews: Vec<Crew> = self.board.crews().filter_map(|crew| self.crew(crew)).collect();
        if crews.is_empty() {
            return;
        }
        let owners = crews.iter().flat_map(|crew| &crew.ranges).map(|range| &range.worker);
        let knowing: BTreeMap<_, _> =
            owners.filter_map(|id| Some((id.clone(), Arc::clone(&self.fleet.get(id)?.knows)))).collect();
        let now = self.clock.millis();
        for task in splits(&crews, self.free(false), &knowing, now) {
            let Some(page) = self.book.page(&task.migration) else { continue };
            let pace = self.pace(page, &task.shard);
            if let Some(Held { task, worker, token }) = self.board.ask_to_share(&task, now) {
                tracing::debug!(%task, %worker, "is asked to share");
                self.order(&worker, Order::Adjust { task, token, pace, share: true });
            }
        }
    }

    /// A crew as the scheduler wants it. `None`: its rate is limited, and a range of it cannot be told of another one.
    fn crew(&self, crew: board::Crew) -> Option<Crew> {
        let page = self.book.page(&crew.migration)?;
        let adjusts = |range: &board::Walking| self.fleet.get(&range.worker).is_some_and(Worker::adjusts);
        if limited(page) && !crew.ranges.iter().all(adjusts) {
            return None;
        }
        let progress = page.stored.progress.get(&crew.shard);
        let left = progress.map_or(0, |progress| progress.rows_total.saturating_sub(progress.rows_seen));
        // Its share may be smaller than when it told its speed.
        let most =
            self.share_of(page, &crew.shard).map_or(f64::MAX, |share| f64::from(share.rows_per_second));
        let ranges = crew.ranges.into_iter().map(|range| Walking {
            task: range.task,
            worker: range.worker,
            begun: range.begun,
            asked: range.asked,
            rows_per_second: range.receipt.rows_per_second.min(most),
            batch_size: range.receipt.batch_size,
        });
        let needs = Arc::new(needed_for(page, Step::Backfill));
        Some(Crew { shard: crew.shard, needs, spare: crew.spare, left, ranges: ranges.collect() })
    }

    /// An owner answers. What it split off is there whoever owns the range now: it stands in the shard.
    pub(super) fn on_shared(&mut self, task: &TaskId, token: Token, rest: Option<Rest>) {
        let Some(rest) = rest else {
            tracing::debug!(%task, %token, "has too little left to share");
            return;
        };
        tracing::info!(%task, range = rest.range.index, "was split: another worker may take a part");
        if let Some(pass) = self.board.split_off(&task.migration, &task.shard, rest) {
            self.book.progress(&task.migration, &task.shard, pass);
        }
        self.reconcile_shard(&task.migration, &task.shard);
        self.changed();
    }
}

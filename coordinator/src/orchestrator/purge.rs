//! When before-images are given up, and whether they may be.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::ids::MigrationKey;
use shardlift_domain::migration::{Event, Status, Verb};
use shardlift_domain::spec::{SpecBody, Undo};

use super::book::Page;
use super::leader::Leader;
use super::wake::{Purgeable, Reply};

impl Leader {
    /// Gives up what was kept for longer than this after the end, and tells of which migrations anything is to be removed.
    /// It is answered once that is stored.
    pub(super) fn on_purgeable(&mut self, after: Option<Duration>, reply: Reply<Vec<Purgeable>>) {
        let now = shardlift_runtime::clock::now();
        let due = self.book.pages().filter(|page| after.is_some_and(|after| is_due(page, after, now)));
        let due: Vec<MigrationKey> = due.map(|page| page.migration().key.clone()).collect();
        for key in due {
            self.apply(&key, &Event::Asked(Verb::Purge));
        }
        // Whoever still finishes a batch would leave a before-image behind.
        let idle = |key: &MigrationKey| !self.book.is_holding(key) && !self.board.is_held(key);
        let open = self.book.pages().map(Page::migration).filter(|migration| migration.purges());
        let open = open.filter(|migration| idle(&migration.key));
        let open = open.filter_map(|migration| {
            Some(Purgeable {
                migration: migration.key.clone(),
                number: migration.purge?.number,
                shards: migration.shards.keys().cloned().collect(),
            })
        });
        let open = open.collect();
        self.outbox.tell(reply, Ok(open));
    }

    /// No shard has anything left of it.
    pub(super) fn on_purged(&mut self, key: &MigrationKey, number: u32, reply: Reply<()>) {
        self.apply(key, &Event::Purged { number });
        self.outbox.tell(reply, Ok(()));
    }
}

/// Whether a spec keeps before-images at all.
pub(super) fn keeps(page: &Page) -> bool {
    matches!(&page.spec.body, SpecBody::Data(data) if data.undo == Undo::Capture)
}

fn is_due(page: &Page, after: Duration, now: DateTime<Utc>) -> bool {
    let migration = page.migration();
    let ended = page.stored.times.completed_at;
    let after = TimeDelta::from_std(after).unwrap_or(TimeDelta::MAX);
    migration.status == Status::Completed
        && migration.purge.is_none()
        && migration.touched
        && keeps(page)
        && ended.is_some_and(|ended| now.signed_duration_since(ended) >= after)
}

/// Refused where nothing is kept. What the table of moves says comes after this.
pub(super) fn may_purge(page: &Page) -> Result<(), Failure> {
    if keeps(page) {
        return Ok(());
    }
    let key = &page.migration().key;
    let message = format!("{} keeps no before-images: its spec does not say `undo: capture`", key.id);
    let next = "nothing: there is nothing to remove";
    Err(Failure::new(ErrorCode::RequestIllegal, message, next).in_migration(key))
}

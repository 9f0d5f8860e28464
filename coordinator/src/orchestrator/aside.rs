//! Rows that were set aside: their figures, the budget over all shards, and the way back to the search.

use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::fence::Token;
use shardlift_domain::ids::{MigrationId, MigrationKey, ShardId, TaskId};
use shardlift_domain::migration::Event;
use shardlift_domain::quarantine::Held;
use shardlift_domain::spec::SpecBody;
use shardlift_domain::task::TaskEvent;

use super::book::Page;
use super::leader::Leader;
use super::view::MigrationView;
use super::wake::{Decided, Reply};

impl Leader {
    /// A range set a row aside. Heard also after its task has ended: the news and the end take different ways.
    pub(super) fn on_quarantined(&mut self, task: TaskId, token: Token, held: Held) {
        self.board.on(&task, TaskEvent::Progressed(token));
        let TaskId { migration, shard, .. } = task;
        // Of two ranges the one that was later may be heard first.
        if held.rows > self.held_on(&migration, &shard).rows {
            self.count_aside(&migration, shard, held);
        }
    }

    /// The figures of a shard. A shard keeps to the budget by itself; that all of them do is seen here only.
    pub(super) fn count_aside(&mut self, migration: &MigrationKey, shard: ShardId, held: Held) {
        let before = self.held_on(migration, &shard);
        let over = self.book.page(migration).and_then(|page| over_budget(page, before, held));
        let over = over.map(|failure| failure.in_migration(migration));
        self.apply(migration, &Event::Quarantined { shard, held, over });
    }

    fn held_on(&self, migration: &MigrationKey, shard: &ShardId) -> Held {
        let page = self.book.page(migration);
        page.and_then(|page| page.migration().quarantined.get(shard).copied()).unwrap_or_default()
    }

    /// First the state, then the rows: if the rows are pending again and nobody hears of it, they are searched for
    /// anyway. It is answered once that is stored.
    pub(super) fn on_reopen(&mut self, id: &MigrationId, shards: Vec<ShardId>, reply: Reply<MigrationView>) {
        match self.book.find(id, None).and_then(|page| self.reopenable(page)) {
            Ok(key) => {
                for shard in shards {
                    self.apply(&key, &Event::Reopened { shard });
                }
                self.tell(id, reply);
            }
            Err(failure) => self.outbox.tell(reply, Err(failure)),
        }
    }

    fn reopenable(&self, page: &Page) -> Result<MigrationKey, Failure> {
        let migration = page.migration();
        let status = migration.status;
        let refuse = |why: &str| {
            let message = format!("cannot retry rows in quarantine of a migration that is {status}");
            Failure::new(ErrorCode::RequestIllegal, message, why).in_migration(&migration.key)
        };
        migration.may_reopen().map_err(refuse)?;
        if migration.purge.is_some() && needs_images(&page.spec.body) {
            return Err(refuse(
                "its before-images were purged, and its `verify` needs them: change the rows by hand, then discard them",
            ));
        }
        if self.board.is_held(&migration.key) {
            return Err(refuse("a worker still finishes its last batch: ask again in a moment"));
        }
        Ok(migration.key.clone())
    }

    pub(super) fn on_decided(&mut self, decided: Decided, reply: Reply<MigrationView>) {
        let Decided { migration, shard, held, retried } = decided;
        self.count_aside(&migration, shard.clone(), held);
        if retried {
            // Somebody may have resumed it in between, and a search may be over that did not see the rows.
            self.apply(&migration, &Event::Reopened { shard });
        }
        self.tell(&migration.id, reply);
    }

    fn tell(&mut self, id: &MigrationId, reply: Reply<MigrationView>) {
        let view = self.book.find(id, None).map(|page| self.migration_view(page));
        self.outbox.tell(reply, view);
    }
}

fn needs_images(body: &SpecBody) -> bool {
    matches!(body, SpecBody::Data(data) if data.anew().is_some() || data.digest().is_some())
}

/// More rows wait for a decision, on all shards together, than the spec allows.
fn over_budget(page: &Page, before: Held, now: Held) -> Option<Failure> {
    let SpecBody::Data(data) = &page.spec.body else { return None };
    let budget = u64::from(data.on_error.budget()?);
    let held = page.migration().held().rows.saturating_sub(before.rows) + now.rows;
    (held > budget && now.rows > before.rows).then(|| {
        Failure::new(
            ErrorCode::QuarantineOverBudget,
            format!("{held} rows are set aside on all shards, the budget is {budget}"),
            "look at them with `shardlift quarantine list`; mend and retry them, or discard them; then resume",
        )
    })
}

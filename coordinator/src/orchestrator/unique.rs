//! Which migrations have their shards compared, or digests that are to be removed: recomputed from what is stored. Who compares is
//! `service/unique`; what comes of it is stored like any move.

use std::collections::BTreeMap;

use shardlift_domain::failure::Failure;
use shardlift_domain::ids::{MigrationKey, ShardId};
use shardlift_domain::migration::{Event, Migration};
use shardlift_domain::spec::SpecFile;

use super::book::Page;
use super::leader::Leader;
use super::wake::Reply;

/// A migration with digests.
#[derive(Debug, Clone)]
pub struct Comparing {
    /// Which version.
    pub migration: MigrationKey,
    /// Its spec.
    pub file: SpecFile,
    /// Where they are.
    pub shards: Vec<ShardId>,
    /// Whether it can be rolled back.
    pub undoable: bool,
    /// The round that is to be compared; `None`: they are to be removed.
    pub round: Option<u32>,
}

/// What comparisons wait for. Volatile: whoever compares finds it again.
#[derive(Default)]
pub(super) struct Waits(BTreeMap<MigrationKey, Failure>);

impl Waits {
    /// What keeps a migration's comparison waiting at this shard.
    pub(super) fn of(&self, migration: &Migration, shard: &ShardId) -> Option<Failure> {
        let why = self.0.get(&migration.key).filter(|why| why.place.shard.as_ref() == Some(shard))?;
        migration.compares().then(|| why.clone())
    }
}

impl Leader {
    /// All that is to be compared, and all digests that are to be removed where no worker writes any more.
    pub(super) fn on_comparing(&mut self, reply: Reply<Vec<Comparing>>) {
        let open = self.book.pages().filter_map(|page| self.comparing(page)).collect();
        self.outbox.tell(reply, Ok(open));
    }

    fn comparing(&self, page: &Page) -> Option<Comparing> {
        let migration = page.migration();
        let unique = migration.unique?;
        let clears = || migration.clears() && !self.board.is_held(&migration.key);
        let round = migration.compares().then_some(unique.round);
        (round.is_some() || clears()).then(|| Comparing {
            migration: migration.key.clone(),
            file: page.stored.spec.clone(),
            shards: migration.shards.keys().cloned().collect(),
            undoable: page.spec.undoable() && migration.purge.is_none(),
            round,
        })
    }

    /// A shard keeps a comparison waiting, or none does any more. Answers whether it is still wanted.
    pub(super) fn on_waiting(
        &mut self,
        key: MigrationKey,
        round: Option<u32>,
        why: Option<Failure>,
        reply: Reply<bool>,
    ) {
        let wanted = self.book.page(&key).and_then(|page| self.comparing(page));
        let wanted = wanted.is_some_and(|wanted| wanted.round == round);
        match why.filter(|_| wanted) {
            Some(why) => {
                let known = self.waits.0.insert(key, why.clone());
                if known != Some(why) {
                    self.changed();
                }
            }
            None => {
                if self.waits.0.remove(&key).is_some() {
                    self.changed();
                }
            }
        }
        self.outbox.tell(reply, Ok(wanted));
    }

    /// The shards were compared.
    pub(super) fn on_compared(
        &mut self,
        key: &MigrationKey,
        round: u32,
        found: Option<Failure>,
        reply: Reply<()>,
    ) {
        fail::fail_point!("before-compared", |_| std::process::abort());
        self.waits.0.remove(key);
        self.apply(key, &Event::Compared { round, found });
        self.outbox.tell(reply, Ok(()));
    }

    /// No shard has digests any more.
    pub(super) fn on_cleared(&mut self, key: &MigrationKey, reply: Reply<()>) {
        self.apply(key, &Event::Cleared);
        self.outbox.tell(reply, Ok(()));
    }
}
